/**
 * How many bytes the blobs of a store take together, known to every process without counting them.
 *
 * Two files, `usage/added` and `usage/removed`, are only ever added to: a byte in them stands for a MiB of blobs that came
 * or went, so their sizes are the sums. Adding to a file is one call that no other process can come between, and a TiB of
 * puts makes a file of 1 MiB. Each process tells them whole MiB and keeps the rest to itself, so of every other process
 * that writes, less than 1 MiB each way is unknown; a process that is killed takes that with it, and a power cut what it
 * told in the last seconds. `verify()` counts, and corrects the sum by what it finds.
 */
import { isCoreError, RecoverableError } from '../../../contracts/errors.js';
import type { Disk } from './disk.js';
import { type Eventual, type Steps, settle } from './in-place.js';
import type { Layout } from './layout.js';

const MIB = 1_048_576;

export class Usage {
  readonly #disk: Disk;
  readonly #added: string;
  readonly #removed: string;
  /** The most bytes that blobs may take; `undefined` for no limit. */
  readonly #maxBytes: number | undefined;
  /** Counts a store that was never counted: one of an earlier version. */
  readonly #count: () => Promise<number>;
  #counting: Promise<void> | undefined;
  /** Bytes of this process that are not told yet. */
  #addedBytes = 0;
  #removedBytes = 0;
  /** Bytes of this process that are being put. */
  #heldBytes = 0;

  constructor(disk: Disk, { usage }: Layout, maxBytes: number | undefined, count: () => Promise<number>) {
    this.#disk = disk;
    this.#added = `${usage}/added`;
    this.#removed = `${usage}/removed`;
    this.#maxBytes = maxBytes;
    this.#count = count;
  }

  /** Bytes of all blobs, within the bounds above; `null` for a store that was never counted. */
  async used(): Promise<number | null> {
    const sum = await this.sum();
    return sum === null ? null : Math.max(0, sum);
  }

  /** The same as it is told, which losses in a power cut may make too low, even below 0. */
  async sum(): Promise<number | null> {
    return settle(this.#sum());
  }

  *#sum(): Steps<number | null> {
    const added = yield* this.#sizeOf(this.#added);
    const removed = yield* this.#sizeOf(this.#removed);
    if (added === null || removed === null) return null;
    return (added - removed) * MIB + this.#addedBytes - this.#removedBytes;
  }

  /** Tells of a blob that is there now. Never fails: what cannot be told yet is kept for the next time. */
  add(bytes: number): Eventual<void> {
    this.#addedBytes += bytes;
    if (this.#addedBytes >= MIB) return settle(this.#tellAdded());
  }

  *#tellAdded(): Steps<void> {
    this.#addedBytes -= yield* this.#tell(this.#added, this.#addedBytes);
  }

  /** Tells of a blob that is gone. Never fails. */
  remove(bytes: number): Eventual<void> {
    this.#removedBytes += bytes;
    if (this.#removedBytes >= MIB) return settle(this.#tellRemoved());
  }

  *#tellRemoved(): Steps<void> {
    this.#removedBytes -= yield* this.#tell(this.#removed, this.#removedBytes);
  }

  /**
   * Keeps room for `bytes` more, until {@link release}.
   * @throws RecoverableError Throttled, code `STORE_FULL`, when they do not fit below the limit
   */
  hold(bytes: number): Eventual<void> {
    if (this.#maxBytes !== undefined) return settle(this.#hold(bytes, this.#maxBytes));
  }

  *#hold(bytes: number, maxBytes: number): Steps<void> {
    let used = yield* this.#sum();
    if (used === null) {
      this.#counting ??= this.#start();
      yield this.#counting;
      used = (yield* this.#sum()) ?? 0;
    }
    used = Math.max(0, used);
    if (used + this.#heldBytes + bytes > maxBytes) throw storeFull(maxBytes, used, bytes);
    this.#heldBytes += bytes;
  }

  release(bytes: number): void {
    if (this.#maxBytes !== undefined) this.#heldBytes -= bytes;
  }

  /** Begins the count of a store that is empty, or that was counted otherwise. */
  async begin(bytes: number): Promise<void> {
    await this.#disk.makeFolder(this.#added.slice(0, this.#added.lastIndexOf('/')));
    for (const path of [this.#removed, this.#added]) {
      const file = await this.#disk.open(path, 'wx');
      await file.close();
    }
    await this.add(bytes);
  }

  /**
   * Corrects the sum by what a walk over all blobs has found, unless what changed meanwhile explains the difference.
   * @param before what {@link sum} said when the walk began
   */
  async correct(before: number | null, found: number): Promise<void> {
    const now = await this.sum();
    if (before === null || now === null) return;
    const drift = found - before;
    if (Math.abs(drift) <= Math.abs(now - before) + MIB) return;
    if (drift > 0) await this.add(drift);
    else await this.remove(-drift);
  }

  async #start(): Promise<void> {
    try {
      await this.begin(await this.#count());
    } catch (error) {
      this.#counting = undefined;
      // Somebody else has begun.
      if (!isCoreError(error) || error.context.errno !== 'EEXIST') throw error;
    }
  }

  *#sizeOf(path: string): Steps<number | null> {
    const stats: { size: number } | undefined = yield this.#disk.stat(path);
    return stats?.size ?? null;
  }

  /** Returns the bytes told: whole MiB. Those of a store that is not counted are told to nobody. */
  *#tell(path: string, bytes: number): Steps<number> {
    const whole = Math.floor(bytes / MIB);
    try {
      yield this.#disk.append(path, new Uint8Array(whole));
      return whole * MIB;
    } catch (error) {
      // A full disk, no more descriptors: it is told with the next.
      if (isCoreError(error)) return 0;
      throw error;
    }
  }
}

function storeFull(maxStoreBytes: number, used: number, bytes: number): RecoverableError {
  return new RecoverableError(
    'Throttled',
    `the store is full: ${used} of ${maxStoreBytes} bytes (maxStoreBytes) are used, and ${bytes} more do not fit; ` +
      'remove objects, collect what nobody keeps (gc), or raise the limit',
    { code: 'STORE_FULL', context: { maxStoreBytes, used, bytes } },
  );
}
