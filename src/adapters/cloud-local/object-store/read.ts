/** How an object's bytes come out, and are checked against its id: whole in a buffer, or as a stream. */
import type { Stats } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import * as check from '../../../contracts/arguments.js';
import { FatalError } from '../../../contracts/errors.js';
import type { ContentId } from '../../../contracts/ids.js';
import type { GetOptions } from '../../../contracts/object-store.js';
import type { Blake3, LateBlake3 } from './blake3.js';
import { type Disk, errnoOf } from './disk.js';
import { type Eventual, type Steps, settle } from './in-place.js';
import type { Layout } from './layout.js';
import type { OpenFile } from './open-file.js';
import { BLOCK_BYTES, type Publisher } from './publish.js';
import { BlobSource, newBytes } from './streams.js';

export class Reader {
  readonly #disk: Disk;
  readonly #layout: Layout;
  readonly #publisher: Publisher;
  readonly #blake3: LateBlake3;
  /** Reads that found other bytes than the id's. */
  corruptCount = 0;

  constructor(disk: Disk, layout: Layout, publisher: Publisher, blake3: LateBlake3) {
    this.#disk = disk;
    this.#layout = layout;
    this.#publisher = publisher;
    this.#blake3 = blake3;
  }

  /** @throws FatalError Internal, code `OBJECT_NOT_FOUND` */
  async open(id: ContentId): Promise<OpenFile> {
    return settle(this.#open(id));
  }

  bytes(id: ContentId, options: GetOptions): Eventual<Uint8Array> {
    return settle(this.#bytes(id, options));
  }

  *#bytes(id: ContentId, { range, verify, signal }: GetOptions): Steps<Uint8Array> {
    const file = yield* this.#open(id);
    try {
      const blake3: Blake3 | null = verify ? (this.#blake3.loaded ?? (yield this.#blake3.load())) : null;
      // Other bytes may be fewer bytes than the file has: some file systems cut reads short. Then all are read in order.
      const small = blake3 === null ? null : file.readSmall();
      if (small !== null && blake3?.idOf(small) === id) return small;
      const stats: Stats = yield file.stat();
      const { start, end } = within(range, stats.size);
      const bytes = allocate(id, end - start);
      for (let offset = 0; offset < bytes.byteLength; offset += BLOCK_BYTES) {
        signal?.throwIfAborted();
        const block = bytes.subarray(offset, offset + BLOCK_BYTES);
        const count: number = yield file.read(block, start + offset);
        if (count < block.byteLength) throw this.corrupt(id);
      }
      const found: ContentId = blake3 === null ? id : yield idOfLarge(blake3, bytes, signal);
      if (found !== id) throw this.corrupt(id);
      return bytes;
    } finally {
      yield file.close();
    }
  }

  async stream(id: ContentId, { range, verify, signal }: GetOptions): Promise<ReadableStream<Uint8Array>> {
    const file = await this.open(id);
    try {
      const hasher = verify ? await this.#blake3.createHasher() : null;
      const { start, end } = within(range, (await file.stat()).size);
      signal?.throwIfAborted();
      // Nothing is read before it is asked for; the source itself reads ahead.
      const corrupt = () => this.corrupt(id);
      return new ReadableStream(new BlobSource(file, { id, start, end, hasher, corrupt, signal }), {
        highWaterMark: 0,
      });
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  *#open(id: ContentId): Steps<OpenFile> {
    for (let again = true; ; again = false) {
      try {
        return yield this.#disk.open(this.#layout.blob(id), 'r');
      } catch (error) {
        if (errnoOf(error) !== 'ENOENT') throw error;
        if (again && (yield this.#publisher.restore(id))) continue;
        throw new FatalError('Internal', `object not found: ${id}`, { code: 'OBJECT_NOT_FOUND', context: { id } });
      }
    }
  }

  /** The error for stored bytes that are not those of the id; the next put of the right ones replaces them. */
  corrupt(id: ContentId): FatalError {
    this.corruptCount += 1;
    this.#publisher.distrust(id);
    return new FatalError('Internal', `object corrupt: ${id}`, { code: 'OBJECT_CORRUPT', context: { id } });
  }
}

/** Hashes a block at a time, letting others run in between: a GiB at once would hold them up for 0.2 s. */
export async function idOfLarge(
  blake3: Blake3,
  bytes: Uint8Array,
  signal: AbortSignal | undefined,
): Promise<ContentId> {
  if (bytes.byteLength <= BLOCK_BYTES) return blake3.idOf(bytes);
  const hasher = await blake3.createHasher();
  for (let offset = 0; offset < bytes.byteLength; offset += BLOCK_BYTES) {
    signal?.throwIfAborted();
    hasher.update(bytes.subarray(offset, offset + BLOCK_BYTES));
    await setImmediate();
  }
  return hasher.id();
}

/** The part of a blob that is asked for, cut to its size. */
function within(range: GetOptions['range'], size: number): { start: number; end: number } {
  const { start = 0, end = size } = range ?? {};
  if (start > size) throw check.invalid('options.range.start', `at most ${size}, the size of the object`, start);
  return { start, end: Math.min(end, size) };
}

function allocate(id: ContentId, size: number): Uint8Array {
  try {
    return newBytes(size);
  } catch (cause) {
    throw new FatalError(
      'SchemaViolation',
      `${size} bytes of object ${id} do not fit in one buffer: use getStream, or ask for a range`,
      { code: 'PAYLOAD_TOO_LARGE', cause, context: { id, size } },
    );
  }
}
