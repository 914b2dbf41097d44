/**
 * Bytes on their way in and out, 1 MiB at a time whatever the chunks of a source or the size of a blob: large enough
 * that the calls cost little (64 KiB are three times slower), small enough that a hundred streams fit in memory.
 */
import type { ReadableByteStreamController, UnderlyingByteSource } from 'node:stream/web';
import type { FatalError } from '../../../contracts/errors.js';
import type { ContentId } from '../../../contracts/ids.js';
import { onAbort } from '../../../contracts/on-abort.js';
import type { Blake3Hasher } from './blake3.js';
import type { Draft } from './draft.js';
import type { OpenFile } from './open-file.js';
import { BLOCK_BYTES, type Publisher } from './publish.js';
import type { Usage } from './usage.js';

/** A stream's first buffer, grown fourfold when full. With 1 MiB at once a stream of 4 KiB took 210 µs, now 65. */
const FIRST_BYTES = 65_536;

/**
 * Copies a source's chunks into blocks of {@link BLOCK_BYTES}, the last one shorter. Two buffers take turns: a block
 * stays as it is until the second `next()` after it, so it can be written while the one after it is being filled.
 */
export async function* blocksOf(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, void> {
  let block: Uint8Array = Buffer.allocUnsafeSlow(FIRST_BYTES);
  let other: Uint8Array | null = null;
  let filled = 0;
  for await (const chunk of source) {
    for (let taken = 0; taken < chunk.byteLength; ) {
      const part = chunk.subarray(taken, taken + block.byteLength - filled);
      block.set(part, filled);
      taken += part.byteLength;
      filled += part.byteLength;
      if (filled < block.byteLength) continue;
      if (filled < BLOCK_BYTES) {
        const larger = Buffer.allocUnsafeSlow(filled * 4);
        larger.set(block);
        block = larger;
        continue;
      }
      yield block;
      [block, other] = [other ?? Buffer.allocUnsafeSlow(BLOCK_BYTES), block];
      filled = 0;
    }
  }
  if (filled > 0) yield block.subarray(0, filled);
}

/** A blob being written while the rest of it is still to come. */
export class Upload {
  readonly draft: Draft;
  readonly #hasher: Blake3Hasher;
  readonly #usage: Usage;
  #writing: Promise<void> = Promise.resolve();
  #heldBytes = 0;

  private constructor(hasher: Blake3Hasher, draft: Draft, usage: Usage) {
    this.#hasher = hasher;
    this.#usage = usage;
    this.draft = draft;
  }

  /** Resolves once `first` is written: its buffer is the next to be filled. Discards the draft when that fails. */
  static async start(hasher: Blake3Hasher, publisher: Publisher, first: Uint8Array): Promise<Upload> {
    const upload = new Upload(hasher, await publisher.draft(), publisher.usage);
    try {
      await upload.add(first);
      await upload.#writing;
      return upload;
    } catch (error) {
      await upload.discard();
      throw error;
    }
  }

  /** Hashes a block while the one before it is written, then begins to write it: it must stay until the next call. */
  async add(block: Uint8Array): Promise<void> {
    await this.#usage.hold(block.byteLength);
    this.#heldBytes += block.byteLength;
    this.#hasher.update(block);
    await this.#writing;
    this.#writing = Promise.resolve(this.draft.write(block));
    // Seen by the next call, or by end().
    this.#writing.catch(ignore);
  }

  /** The id, once all is written. */
  async end(): Promise<ContentId> {
    await this.#writing;
    return this.#hasher.id();
  }

  /** Gives back the room that was kept for it: the blob is counted by now, or there is none. */
  release(): void {
    this.#usage.release(this.#heldBytes);
    this.#heldBytes = 0;
  }

  async discard(): Promise<void> {
    this.release();
    await this.#writing.catch(ignore);
    await this.draft.discard();
  }
}

/** What part of a blob a {@link BlobSource} reads, and what against. */
export interface BlobReadPlan {
  readonly id: ContentId;
  /** Half-open, in bytes, within the file. */
  readonly start: number;
  readonly end: number;
  /** Given for a whole blob that is to be verified. */
  readonly hasher: Blake3Hasher | null;
  /** Told when the bytes are not the id's; makes the error to fail with. */
  readonly corrupt: () => FatalError;
  readonly signal: AbortSignal | undefined;
}

/**
 * Feeds a `ReadableStream` of bytes from an open file, which it closes when it ends, fails or is cancelled. The last
 * part is handed out only when everything, itself included, has proved to be what the id says.
 *
 * Blocks end on the plan's end, so that the last one is the last MiB; one is read ahead, after the first has been asked
 * for. A reader that brings no buffer is given the blocks. For one that does (`getReader({ mode: 'byob' })`) they are
 * copied, and two of them take turns: a GiB of fresh ones costs 30,000 page faults and, where V8 counts much memory
 * outside its heap, a marking of all of that heap every 30 MiB, together as much processor time as reading and hashing.
 * Read into the reader's buffer at once, nothing is read ahead: 256 KiB at a time took twice as long.
 */
export class BlobSource implements UnderlyingByteSource {
  readonly type = 'bytes';
  readonly #file: OpenFile;
  readonly #plan: BlobReadPlan;
  /** Where begins what is read, or being read, or about to be. */
  #position: number;
  /** Read ahead. */
  #block: Promise<Uint8Array> | null = null;
  /** What the reader's own buffer had no room for. */
  #left: Uint8Array | null = null;
  /** A block that was copied, to be read into again. */
  #spare: Uint8Array | null = null;
  /** The read that was begun last, under way or not. */
  #reading: Promise<unknown> = Promise.resolve();
  #released = false;
  #stopListening = ignore;

  constructor(file: OpenFile, plan: BlobReadPlan) {
    this.#file = file;
    this.#plan = plan;
    this.#position = plan.start;
  }

  start(controller: ReadableByteStreamController): void {
    const { signal } = this.#plan;
    this.#stopListening = onAbort(signal, () => {
      controller.error(signal?.reason);
      this.#release().catch(ignore);
    });
  }

  async pull(controller: ReadableByteStreamController): Promise<void> {
    try {
      const block = this.#left ?? (await this.#nextBlock());
      if (block === null) return;
      this.#hand(controller, block);
      if (this.#left !== null || this.#position < this.#plan.end) return;
      await this.#release();
      controller.close();
      // Reads that wait with a buffer of their own are answered only when it is handed back.
      controller.byobRequest?.respond(0);
    } catch (error) {
      await this.#release().catch(ignore);
      throw error;
    }
  }

  cancel(): Promise<void> {
    return this.#release();
  }

  /** The block that was read ahead, checked, while the one after it is being read; `null` once all is over. */
  async #nextBlock(): Promise<Uint8Array | null> {
    this.#block ??= this.#readBlock();
    const block = await this.#block;
    if (this.#released) return null;
    this.#position += block.byteLength;
    const isLast = this.#position === this.#plan.end;
    this.#block = isLast ? null : this.#readBlock();
    this.#plan.hasher?.update(block);
    if (isLast) this.#verify();
    return block;
  }

  /** Gives a block away, or copies what the reader's own buffer takes of it. */
  #hand(controller: ReadableByteStreamController, block: Uint8Array): void {
    this.#left = null;
    const { byobRequest } = controller;
    const view = byobRequest?.view as Uint8Array | null | undefined;
    if (!view) {
      if (block.byteLength > 0) controller.enqueue(block);
      return;
    }
    const taken = block.subarray(0, view.byteLength);
    view.set(taken);
    if (taken.byteLength < block.byteLength) this.#left = block.subarray(taken.byteLength);
    else this.#spare = block;
    if (taken.byteLength > 0) byobRequest?.respond(taken.byteLength);
  }

  #verify(): void {
    const { hasher, id, corrupt } = this.#plan;
    if (hasher !== null && hasher.id() !== id) throw corrupt();
  }

  /** The block at the position: what is left over by whole blocks comes first. */
  #readBlock(): Promise<Uint8Array> {
    const left = this.#plan.end - this.#position;
    const size = left === 0 ? 0 : left % BLOCK_BYTES || BLOCK_BYTES;
    const spare = this.#spare;
    this.#spare = null;
    // The first block is shorter than those after it.
    const memory = spare?.buffer.byteLength === size ? new Uint8Array(spare.buffer) : newBytes(size);
    return this.#read(memory, this.#position);
  }

  #read(bytes: Uint8Array, position: number): Promise<Uint8Array> {
    const reading = this.#file.read(bytes, position).then((count) => {
      if (count < bytes.byteLength) throw this.#plan.corrupt();
      return bytes;
    });
    // Whoever pulls next sees the failure; if nobody does it is none.
    reading.catch(ignore);
    this.#reading = reading;
    return reading;
  }

  /** Closes the file once no read is under way: its number may name another file right after. */
  async #release(): Promise<void> {
    this.#released = true;
    this.#stopListening();
    await this.#reading.catch(ignore);
    await this.#file.close();
  }
}

/** Memory of its own, not a part of Node's shared pool: the caller may keep it, or hand its buffer to another thread. */
export function newBytes(size: number): Uint8Array {
  return new Uint8Array(Buffer.allocUnsafeSlow(size).buffer);
}

function ignore(): void {}
