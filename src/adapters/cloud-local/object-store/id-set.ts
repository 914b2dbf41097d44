/**
 * A set of content ids in 32 bytes each and some room: a million of them take 64 MB, where strings in a Set take 150.
 *
 * Ids are hashes, so their first bytes spread them over the table as they are.
 */
import type { ContentId } from '../../../contracts/ids.js';

const ID_BYTES = 32;
const SLOTS_MIN = 1_024;

export class IdSet {
  #table = Buffer.alloc(SLOTS_MIN * ID_BYTES);
  /** Whether a slot is taken: the id of 64 zeros is one like any other. */
  #taken = new Uint8Array(SLOTS_MIN);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** @param id has to be one: it is not looked at again */
  add(id: ContentId): void {
    if (this.#size * 2 >= this.#taken.length) this.#grow();
    this.#put(Buffer.from(id, 'hex'));
  }

  has(id: ContentId): boolean {
    return this.#taken[this.#slotOf(Buffer.from(id, 'hex'))] === 1;
  }

  #put(id: Buffer): void {
    const slot = this.#slotOf(id);
    if (this.#taken[slot] === 1) return;
    this.#taken[slot] = 1;
    id.copy(this.#table, slot * ID_BYTES);
    this.#size += 1;
  }

  /** Where the id is, or would be. There is always a free slot to end at. */
  #slotOf(id: Buffer): number {
    const mask = this.#taken.length - 1;
    let slot = id.readUInt32BE(0) & mask;
    while (this.#taken[slot] === 1 && id.compare(this.#table, slot * ID_BYTES, (slot + 1) * ID_BYTES) !== 0) {
      slot = (slot + 1) & mask;
    }
    return slot;
  }

  #grow(): void {
    const [table, taken] = [this.#table, this.#taken];
    this.#table = Buffer.alloc(table.length * 2);
    this.#taken = new Uint8Array(taken.length * 2);
    this.#size = 0;
    for (let slot = 0; slot < taken.length; slot++) {
      if (taken[slot] === 1) this.#put(table.subarray(slot * ID_BYTES, (slot + 1) * ID_BYTES));
    }
  }
}
