/**
 * An ObjectStore in memory, for tests: nothing to clean up, nothing survives. It keeps the whole contract, and stands
 * beside the file store to show that the suite is about the contract, not about files.
 */
import { loadBlake3 } from '../adapters/cloud-local/object-store/blake3.js';
import * as check from '../contracts/arguments.js';
import { checked } from '../contracts/capability.js';
import { type Clock, systemClock } from '../contracts/clock.js';
import { FatalError } from '../contracts/errors.js';
import type { ContentId } from '../contracts/ids.js';
import {
  type GetOptions,
  type ListOptions,
  type ObjectStat,
  ObjectStore,
  type PutHint,
} from '../contracts/object-store.js';

/** A fresh, empty store. Adapter id `test.memory`; `features` as given, `range` by default. */
export function memoryObjectStore(features: readonly string[] = ['range'], clock: Clock = systemClock): ObjectStore {
  return checked(ObjectStore, new MemoryObjectStore(clock), { adapter: 'test.memory', features });
}

/** Bytes in each chunk of a stream. */
const CHUNK_BYTES = 65_536;

class MemoryObjectStore implements ObjectStore {
  readonly #clock: Clock;
  readonly #objects = new Map<ContentId, { readonly bytes: Uint8Array; readonly stat: ObjectStat }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  async putBytes(bytes: Uint8Array, { contentType, signal }: PutHint = {}): Promise<ContentId> {
    const copy = new Uint8Array(bytes);
    const { idOf } = await loadBlake3();
    signal?.throwIfAborted();
    const id = idOf(copy);
    if (!this.#objects.has(id)) {
      const stat = {
        id,
        size: copy.byteLength,
        contentType: contentType ?? null,
        createdAtMs: Math.floor(this.#clock.wallMs()),
      };
      this.#objects.set(id, { bytes: copy, stat });
    }
    return id;
  }

  async putStream(source: AsyncIterable<Uint8Array>, hint: PutHint = {}): Promise<ContentId> {
    const chunks: Uint8Array[] = [];
    for await (const chunk of source) chunks.push(new Uint8Array(chunk));
    return this.putBytes(Buffer.concat(chunks), hint);
  }

  async getBytes(id: ContentId, { range }: GetOptions = {}): Promise<Uint8Array> {
    const object = this.#objects.get(id);
    if (object === undefined) {
      throw new FatalError('Internal', `object not found: ${id}`, { code: 'OBJECT_NOT_FOUND', context: { id } });
    }
    const { start = 0, end } = range ?? {};
    const { size } = object.stat;
    if (start > size) throw check.invalid('options.range.start', `at most ${size}, the size of the object`, start);
    return object.bytes.slice(start, end);
  }

  async getStream(id: ContentId, options: GetOptions = {}): Promise<ReadableStream<Uint8Array>> {
    const bytes = await this.getBytes(id, options);
    let position = 0;
    return new ReadableStream({
      pull(controller) {
        if (options.signal?.aborted) return controller.error(options.signal.reason);
        if (position >= bytes.byteLength) return controller.close();
        controller.enqueue(bytes.slice(position, position + CHUNK_BYTES));
        position += CHUNK_BYTES;
      },
    });
  }

  async exists(id: ContentId): Promise<boolean> {
    return this.#objects.has(id);
  }

  async stat(id: ContentId): Promise<ObjectStat | null> {
    return this.#objects.get(id)?.stat ?? null;
  }

  async delete(id: ContentId): Promise<boolean> {
    return this.#objects.delete(id);
  }

  async *list({
    prefix = '',
    after = '' as ContentId,
    signal,
  }: ListOptions = {}): AsyncGenerator<ContentId, void, void> {
    for (const id of [...this.#objects.keys()].sort()) {
      signal?.throwIfAborted();
      if (id.startsWith(prefix) && id > after) yield id;
    }
  }
}
