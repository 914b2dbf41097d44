/**
 * Dead letters: items given up after too many hand-overs. Their payloads stay in storage; memory knows which there are.
 *
 * Whoever is about to requeue or delete a letter takes it out first, synchronously, so no two calls get the same one,
 * and puts it back when the write fails. Until then the queue still holds it: nobody is to take its id for unknown.
 */
import { FatalError } from '../../../contracts/errors.js';
import type { LeaseToken, QueueItemId } from '../../../contracts/ids.js';
import type { QueueItem } from '../../../contracts/queue.js';
import { requireHeld } from './holding.js';
import type { KeyRecord } from './keys.js';
import type { QueueStore } from './store.js';

export interface DeadLetter {
  readonly id: QueueItemId;
  readonly attempts: number;
  readonly payloadBytes: number;
  /** Still taken: an item given up was never acked. */
  readonly key: KeyRecord | null;
}

/** Payloads read at once while letters are listed. */
const LETTERS_PER_READ = 16;

/** Letters deleted in one transaction. */
const LETTERS_PER_PURGE = 1_000;

export class DeadLetters {
  readonly #store: QueueStore;
  readonly #letters = new Map<QueueItemId, DeadLetter>();
  /** Taken out for a write whose outcome is not known yet. */
  readonly #leaving = new Set<QueueItemId>();
  #bytes = 0;

  constructor(store: QueueStore) {
    this.#store = store;
  }

  get size(): number {
    return this.#letters.size;
  }

  /** Also one that is being requeued or deleted. */
  has(id: QueueItemId): boolean {
    return this.#letters.has(id) || this.#leaving.has(id);
  }

  /** Payload bytes of all letters together. */
  get bytes(): number {
    return this.#bytes;
  }

  /** An id that is no letter's passes. A letter may be requeued: who settles it is not to believe that it is gone. */
  refuseSettling(id: QueueItemId, token: LeaseToken | null): void {
    if (!this.has(id)) return;
    requireHeld({ id, state: 'a dead letter', token: null }, token);
  }

  /** A letter that is new, or comes back because it could not be requeued or deleted. */
  add(letter: DeadLetter): void {
    this.#leaving.delete(letter.id);
    this.#letters.set(letter.id, letter);
    this.#bytes += letter.payloadBytes;
  }

  /** Takes a letter out for a write; then either {@link add} or {@link forget} is to be called. */
  take(id: QueueItemId): DeadLetter | undefined {
    const letter = this.#letters.get(id);
    if (letter !== undefined) {
      this.#letters.delete(id);
      this.#leaving.add(id);
      this.#bytes -= letter.payloadBytes;
    }
    return letter;
  }

  /** The letter that was taken is none any more. */
  forget(id: QueueItemId): void {
    this.#leaving.delete(id);
  }

  async payload(id: QueueItemId): Promise<Uint8Array> {
    const [payload] = await this.#store.readDead([id]);
    if (payload) return payload;
    throw new FatalError('Internal', `the storage no longer holds the dead letter ${id}; close the queue and open it`, {
      code: 'STORAGE_FORMAT',
      context: { id },
    });
  }

  /** Oldest first; letters that are requeued or purged while they are listed may be left out. */
  async *read(): AsyncGenerator<QueueItem> {
    const ids = this.#ids();
    for (let at = 0; at < ids.length; at += LETTERS_PER_READ) {
      const page = ids.slice(at, at + LETTERS_PER_READ);
      const payloads = await this.#store.readDead(page);
      for (const [i, id] of page.entries()) {
        const letter = this.#letters.get(id);
        const payload = payloads[i];
        if (letter && payload) yield { id, payload, attempts: letter.attempts, token: null, leaseMs: null };
      }
    }
  }

  /** Deletes every letter, telling `onGone` of each; resolves to how many. */
  async purge(onGone: (letter: DeadLetter) => void): Promise<number> {
    const ids = this.#ids();
    let purged = 0;
    for (let at = 0; at < ids.length; at += LETTERS_PER_PURGE) {
      const letters = ids.slice(at, at + LETTERS_PER_PURGE).flatMap((id) => this.take(id) ?? []);
      try {
        await this.#store.removeDead(letters.map(({ id }) => id));
      } catch (error) {
        for (const letter of letters) this.add(letter);
        throw error;
      }
      for (const letter of letters) {
        this.forget(letter.id);
        onGone(letter);
      }
      purged += letters.length;
    }
    return purged;
  }

  #ids(): QueueItemId[] {
    return [...this.#letters.keys()].sort();
  }
}
