/**
 * Dead letters: items given up after too many hand-overs. They stay in storage, and are read when they are asked for;
 * memory knows how many there are.
 *
 * Whoever is about to requeue or delete a letter takes it out first, synchronously, so no two calls get the same one,
 * and puts it back when the write fails. Until then the queue still holds it: nobody is to take its id for unknown.
 */
import type { LeaseToken, QueueItemId } from '../../../contracts/ids.js';
import type { QueueItem } from '../../../contracts/queue.js';
import { requireHeld } from './holding.js';
import type { QueueStore } from './store.js';

export interface DeadLetter {
  readonly id: QueueItemId;
  readonly payload: Uint8Array;
  readonly attempts: number;
  /** Still taken: an item given up was never acked. */
  readonly key: string | null;
}

/** Letters that are listed, or deleted in one transaction, at a time. */
const LETTERS_PER_PAGE = 256;

export class DeadLetters {
  readonly #store: QueueStore;
  /** Whether an item is none of these, although its row may lie among them: the write that put it there was taken for failed. */
  readonly #isItem: (id: QueueItemId) => boolean;
  /** Taken out for a write whose outcome is not known yet. */
  readonly #leaving = new Set<QueueItemId>();
  /** Their requeue was taken for failed: they may lie among the items' rows. */
  readonly #doubtful = new Set<QueueItemId>();
  #size = 0;
  #bytes = 0;

  constructor(store: QueueStore, isItem: (id: QueueItemId) => boolean) {
    this.#store = store;
    this.#isItem = isItem;
  }

  get size(): number {
    return this.#size;
  }

  /** Payload bytes of all letters together. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Whether an id that is found among the items' rows is a letter's all the same. */
  mayBeAmongItems(id: QueueItemId): boolean {
    return this.#leaving.has(id) || this.#doubtful.has(id);
  }

  /** An id that is no letter's passes. A letter may be requeued: who settles it is not to believe that it is gone. */
  async refuseSettling(id: QueueItemId, token: LeaseToken | null): Promise<void> {
    const isLetter =
      this.mayBeAmongItems(id) || (this.#size > 0 && !this.#isItem(id) && (await this.#store.holdsDead(id)));
    if (isLetter) requireHeld({ id, state: 'a dead letter', token: null }, token);
  }

  /** One more is stored as a letter. */
  add(payloadBytes: number): void {
    this.#size += 1;
    this.#bytes += payloadBytes;
  }

  /** Takes a letter out for a write; then either {@link putBack} or {@link forget} is to be called. */
  async take(id: QueueItemId): Promise<DeadLetter | null> {
    if (this.#size === 0 || this.#leaving.has(id) || this.#isItem(id)) return null;
    this.#leaving.add(id);
    try {
      const letter = await this.#store.letter(id, this.#doubtful.has(id));
      if (letter === null) this.#leaving.delete(id);
      else this.#count(letter, -1);
      return letter;
    } catch (error) {
      this.#leaving.delete(id);
      throw error;
    }
  }

  /** The write failed; it may have reached storage. */
  putBack(letter: DeadLetter): void {
    this.#leaving.delete(letter.id);
    this.#doubtful.add(letter.id);
    this.#count(letter, 1);
  }

  /** The letter that was taken is none any more. */
  forget(id: QueueItemId): void {
    this.#leaving.delete(id);
    this.#doubtful.delete(id);
  }

  /** Oldest first; letters that are requeued or purged while they are listed may be left out. */
  async *read(): AsyncGenerator<QueueItem> {
    for await (const page of this.#pages()) {
      for (const { id, payload, attempts } of page) {
        if (!this.#leaving.has(id)) yield { id, payload, attempts, token: null, leaseMs: null };
      }
    }
  }

  /** Deletes the letters that are there now, telling `onGone` of each; resolves to how many. */
  async purge(onGone: (letter: DeadLetter) => void): Promise<number> {
    let purged = 0;
    const count = this.#size;
    for await (const page of this.#pages()) {
      const letters = page.filter(({ id }) => !this.#leaving.has(id)).slice(0, count - purged);
      for (const letter of letters) {
        this.#leaving.add(letter.id);
        this.#count(letter, -1);
      }
      try {
        await this.#store.removeDead(letters.map(({ id }) => id));
      } catch (error) {
        for (const letter of letters) this.putBack(letter);
        throw error;
      }
      for (const letter of letters) {
        this.forget(letter.id);
        onGone(letter);
      }
      purged += letters.length;
      if (purged === count) break;
    }
    return purged;
  }

  /** All letters, oldest first, those that are leaving among them. */
  async *#pages(): AsyncGenerator<DeadLetter[]> {
    for (let after: QueueItemId | null = null; this.#size > 0; ) {
      const stored: DeadLetter[] = await this.#store.letters(after, LETTERS_PER_PAGE);
      const last: QueueItemId | null = stored.at(-1)?.id ?? null;
      const page = stored.filter(({ id }) => !this.#doubtful.has(id) && !this.#isItem(id));
      for (const id of this.#doubtful) {
        if ((after !== null && id <= after) || (last !== null && id > last)) continue;
        const letter = await this.#store.letter(id, true);
        if (letter !== null) page.push(letter);
      }
      yield page.sort((one, other) => (one.id < other.id ? -1 : 1));
      if (last === null) return;
      after = last;
    }
  }

  #count({ payload }: DeadLetter, sign: 1 | -1): void {
    this.#size += sign;
    this.#bytes += sign * payload.length;
  }
}
