/**
 * Room: the enqueues that wait for a full backlog to shrink (`whenFull: "wait"`), first come, first served: a small one
 * does not overtake a large one, which might else wait for ever.
 */
import { FatalError } from '../../../contracts/errors.js';
import { onAbort } from '../../../contracts/on-abort.js';

interface Waiting {
  readonly bytes: number;
  readonly admit: () => void;
  readonly refuse: (reason: unknown) => void;
}

export class Room {
  readonly #fits: (bytes: number) => boolean;
  readonly #waiting = new Set<Waiting>();
  /** Whether one was admitted that has not taken its room yet. */
  #admitted = false;

  /** @param fits whether the backlog has room for so many bytes more */
  constructor(fits: (bytes: number) => boolean) {
    this.#fits = fits;
  }

  /**
   * Resolves when there is room, to what is to be called once it has been taken, or is not needed after all.
   * Rejects with the signal's reason when it aborts, and with FatalError Internal, code `CLOSED`, when the queue closes.
   */
  async take(bytes: number, signal: AbortSignal | undefined): Promise<() => void> {
    if (!this.#admitted && this.#waiting.size === 0 && this.#fits(bytes)) {
      this.#admitted = true;
      return () => this.#settled();
    }
    await new Promise<void>((resolve, reject) => {
      let stopListening = () => {};
      const leave = () => {
        this.#waiting.delete(waiting);
        stopListening();
      };
      const waiting: Waiting = {
        bytes,
        admit: () => {
          leave();
          resolve();
        },
        refuse: (reason) => {
          leave();
          reject(reason);
        },
      };
      this.#waiting.add(waiting);
      stopListening = onAbort(signal, () => {
        waiting.refuse(signal?.reason);
        this.freed();
      });
    });
    return () => this.#settled();
  }

  /** The backlog has shrunk. */
  freed(): void {
    if (this.#admitted) return;
    const [first] = this.#waiting;
    if (first === undefined || !this.#fits(first.bytes)) return;
    this.#admitted = true;
    first.admit();
  }

  close(): void {
    const closed = new FatalError('Internal', 'the queue was closed while an enqueue waited for room', {
      code: 'CLOSED',
    });
    for (const { refuse } of this.#waiting) refuse(closed);
  }

  #settled(): void {
    this.#admitted = false;
    this.freed();
  }
}
