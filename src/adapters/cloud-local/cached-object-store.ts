/**
 * A folder of this machine in front of any ObjectStore, as one of its own. Middleware `cache`.
 *
 * An object never changes, so a copy is never stale: what is cached is right as long as its bytes match the id, which
 * every read checks. Reads go through (what is not here is fetched, and kept), puts go through (they resolve when the
 * store behind has the object, and leave a copy). What there is, and what is known of it, is always asked of the store
 * behind: `exists`, `stat`, `list`. An object that somebody deletes there may still be read here until it is evicted.
 *
 * The cache never fails a call. What goes wrong with it (a full disk, a folder that is gone) is counted and told to the
 * logger once, and the store behind answers. The folder is bounded in bytes, by what this process puts there; several
 * processes may share it, and then each keeps to the bound on its own.
 */
import { resolve } from 'node:path';
import * as check from '../../contracts/arguments.js';
import { checked } from '../../contracts/capability.js';
import { FatalError, isCoreError, RecoverableError } from '../../contracts/errors.js';
import type { ContentId } from '../../contracts/ids.js';
import {
  type GetOptions,
  type ListOptions,
  type ObjectStat,
  type ObjectStore,
  ObjectStore as ObjectStoreToken,
  type PutHint,
} from '../../contracts/object-store.js';
import type { Logger } from '../../contracts/plugin.js';
import { markCache } from './object-store/cache-mark.js';
import { Feed, shared } from './object-store/feed.js';
import { FsObjectStore } from './object-store.js';

export interface CachedObjectStoreOptions {
  /** The folder of the cache: a store of its own, not one that anybody relies on. */
  readonly root: string;
  /** Bytes of objects held at most; past it the least recently used go. Default 10 GiB. */
  readonly maxBytes?: number;
  /** Larger objects pass by. Default a tenth of `maxBytes`. */
  readonly maxObjectBytes?: number;
}

export interface CacheStats {
  /** Reads answered from the folder, and reads that went on to the store behind. */
  readonly hits: number;
  readonly misses: number;
  readonly evictions: number;
  /** Copies that did not match their id: removed, and fetched again. */
  readonly corrupt: number;
  /** Calls on the folder that failed otherwise. */
  readonly failures: number;
  /** Objects and bytes held, as far as this process knows. */
  readonly objects: number;
  readonly bytes: number;
}

const MAX_BYTES = 10 * 1024 ** 3;

interface Arrival {
  readonly id: ContentId;
  /** Deleted through this cache meanwhile: a copy would outlive it. */
  isDeleted: boolean;
}

/** What `wrap` has to know of the adapter behind. */
export interface CacheTraits {
  /** Its id and features: the cache has the same features. */
  readonly adapter?: string;
  readonly features?: readonly string[];
  readonly logger?: Pick<Logger, 'warn'>;
}

export class CachedObjectStore implements ObjectStore {
  readonly #behind: ObjectStore;
  readonly #cache: FsObjectStore;
  readonly #logger: Pick<Logger, 'warn'> | undefined;
  readonly #maxBytes: number;
  readonly #maxObjectBytes: number;
  /** Sizes of what is held, least recently used first. */
  readonly #held = new Map<ContentId, number>();
  /** Whole reads that are fetching, to be shared, and how many wait for each. */
  readonly #fetching = new Map<ContentId, { readonly bytes: Promise<Uint8Array>; waiting: number }>();
  /** Copies on their way here from the store behind. */
  readonly #arriving = new Set<Arrival>();
  /** What goes on beside the calls: copies being written, stock being taken. Waited for at the end. */
  readonly #beside = new Set<Promise<void>>();
  #bytes = 0;
  #evicting = false;
  readonly #counts = { hits: 0, misses: 0, evictions: 0, corrupt: 0, failures: 0 };

  /**
   * @param behind the store that has the objects; closed by whoever made it
   * @throws FatalError ConfigInvalid, code `CACHE_ROOT`: the root is a store that is no cache. As `FsObjectStore.open`
   */
  static async open(
    behind: ObjectStore,
    options: CachedObjectStoreOptions,
    { adapter = 'local.cache', features = ['range'], logger }: CacheTraits = {},
  ): Promise<CachedObjectStore> {
    const {
      root,
      maxBytes = MAX_BYTES,
      maxObjectBytes = Math.ceil(maxBytes / 10),
    } = check.known('options', options, ['root', 'maxBytes', 'maxObjectBytes']) as CachedObjectStoreOptions;
    if (typeof behind?.getBytes !== 'function') throw check.invalid('behind', 'an ObjectStore', behind);
    // Not left to the store's own default, which is where a real one is.
    const folder = resolve(check.text('options.root', root, 1, 4_096));
    check.integer('options.maxBytes', maxBytes, 1);
    check.integer('options.maxObjectBytes', maxObjectBytes, 1, maxBytes);
    await markCache(folder, (behind as { readonly root?: unknown }).root);
    // A copy that a power cut takes is fetched again.
    const cache = await FsObjectStore.open(folder, { durability: 'none' });
    const store = new CachedObjectStore(behind, cache, { maxBytes, maxObjectBytes, logger });
    store.#goOn(store.#takeStock());
    return checked(ObjectStoreToken, store, { adapter, features });
  }

  private constructor(
    behind: ObjectStore,
    cache: FsObjectStore,
    options: { maxBytes: number; maxObjectBytes: number; logger: Pick<Logger, 'warn'> | undefined },
  ) {
    this.#behind = behind;
    this.#cache = cache;
    this.#maxBytes = options.maxBytes;
    this.#maxObjectBytes = options.maxObjectBytes;
    this.#logger = options.logger;
  }

  stats(): CacheStats {
    return { ...this.#counts, objects: this.#held.size, bytes: this.#bytes };
  }

  async putBytes(bytes: Uint8Array, hint?: PutHint): Promise<ContentId> {
    const id = await this.#behind.putBytes(bytes, hint);
    if (bytes.byteLength <= this.#maxObjectBytes) await this.#keep(bytes);
    return id;
  }

  async putStream(source: AsyncIterable<Uint8Array>, hint?: PutHint): Promise<ContentId> {
    const { feed, filled } = this.#fill();
    try {
      const id = await this.#behind.putStream(shared(source, feed), hint);
      await filled;
      return id;
    } catch (error) {
      // The store behind may refuse before it reads anything, and then nothing else tells the feed.
      feed.fail(error);
      throw error;
    }
  }

  async getBytes(id: ContentId, options: GetOptions = {}): Promise<Uint8Array> {
    const here = await this.#read(id, (cache) => cache.getBytes(id, options));
    if (here !== undefined) return here;
    // A part says nothing of the whole, and an unchecked whole is not to be kept.
    if (options.range !== undefined || options.verify === false) return this.#behind.getBytes(id, options);
    return this.#fetch(id, options.signal);
  }

  async getStream(id: ContentId, options: GetOptions = {}): Promise<ReadableStream<Uint8Array>> {
    const here = await this.#read(id, (cache) => cache.getStream(id, options));
    if (here !== undefined) return toStream(this.#watched(id, here), () => here.cancel());
    const stream = await this.#behind.getStream(id, options);
    if (options.range !== undefined || options.verify === false) return stream;
    const { feed } = this.#fill(id);
    return toStream(shared(stream, feed), () => {
      feed.fail(new Error('the stream was not read'));
      return stream.cancel();
    });
  }

  exists(id: ContentId): Promise<boolean> {
    return this.#behind.exists(id);
  }

  stat(id: ContentId): Promise<ObjectStat | null> {
    return this.#behind.stat(id);
  }

  async delete(id: ContentId): Promise<boolean> {
    const deleted = await this.#behind.delete(id);
    // Read there before, and not kept here yet: whoever waits for it gets it, and nobody after.
    this.#fetching.delete(id);
    for (const arrival of this.#arriving) if (arrival.id === id) arrival.isDeleted = true;
    await this.#drop(id);
    return deleted;
  }

  list(options?: ListOptions): AsyncIterable<ContentId> {
    return this.#behind.list(options);
  }

  /** Resolves when nothing goes on beside the calls: copies are written, evictions done. */
  async settled(): Promise<void> {
    while (this.#beside.size > 0) await Promise.all(this.#beside);
  }

  /** The store behind is not ours to close. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.settled();
    await this.#cache[Symbol.asyncDispose]();
  }

  /** What the folder has, or `undefined` where the store behind has to be asked. */
  async #read<T>(id: ContentId, read: (cache: FsObjectStore) => Promise<T>): Promise<T | undefined> {
    try {
      const found = await read(this.#cache);
      this.#counts.hits += 1;
      const size = this.#held.get(id);
      if (size !== undefined) {
        this.#held.delete(id);
        this.#held.set(id, size);
      }
      return found;
    } catch (error) {
      // An abort, or a range beyond the size.
      if (!isCoreError(error) || error.kind === 'SchemaViolation') throw error;
      this.#counts.misses += 1;
      if (error.code === 'OBJECT_CORRUPT') await this.#discardCorrupt(id);
      else if (error.code !== 'OBJECT_NOT_FOUND') this.#failed('read', error);
      return undefined;
    }
  }

  /** A copy that turns out damaged while it is read is gone from then on: the next read gets the object itself. */
  async *#watched(id: ContentId, copy: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array, void, void> {
    try {
      yield* copy;
    } catch (error) {
      if (!isCoreError(error) || error.code !== 'OBJECT_CORRUPT') throw error;
      await this.#discardCorrupt(id);
      throw new RecoverableError('Transient', `the cached copy of ${id} was damaged and is removed: read it again`, {
        code: 'CACHE_CORRUPT',
        retry: { kind: 'after', delayMs: 0 },
        context: { id },
        cause: error,
      });
    }
  }

  async #discardCorrupt(id: ContentId): Promise<void> {
    this.#counts.corrupt += 1;
    await this.#drop(id);
  }

  /** Fetches once for all who ask meanwhile; each has a buffer of its own, and may leave without the others. */
  async #fetch(id: ContentId, signal: AbortSignal | undefined): Promise<Uint8Array> {
    let fetching = this.#fetching.get(id);
    if (fetching === undefined) {
      const begun = { bytes: this.#fetchAlone(id), waiting: 0 };
      fetching = begun;
      this.#fetching.set(id, begun);
      const end = () => {
        if (this.#fetching.get(id) === begun) this.#fetching.delete(id);
      };
      begun.bytes.then(end, end);
    }
    fetching.waiting += 1;
    const bytes = await check.orAborted(fetching.bytes, signal);
    return fetching.waiting > 1 ? new Uint8Array(bytes) : bytes;
  }

  async #fetchAlone(id: ContentId): Promise<Uint8Array> {
    const arrival = this.#expect(id);
    try {
      const bytes = await this.#behind.getBytes(id);
      if (bytes.byteLength > this.#maxObjectBytes || arrival.isDeleted) return bytes;
      const kept = await this.#keep(bytes);
      if (kept === undefined) return bytes;
      if (kept !== id || arrival.isDeleted) await this.#drop(kept);
      if (kept === id) return bytes;
      throw corrupt(id, kept);
    } finally {
      this.#arriving.delete(arrival);
    }
  }

  #expect(id: ContentId): Arrival {
    const arrival = { id, isDeleted: false };
    this.#arriving.add(arrival);
    return arrival;
  }
  /** Keeps a copy. The id of the bytes, or `undefined` where that failed. */
  async #keep(bytes: Uint8Array): Promise<ContentId | undefined> {
    try {
      const id = await this.#cache.putBytes(bytes);
      this.#note(id, bytes.byteLength);
      return id;
    } catch (error) {
      this.#failed('write', error);
      return undefined;
    }
  }

  /**
   * A copy that is written while its source is read by others; never fails.
   * @param of the object that is read from the store behind; left out for a put
   */
  #fill(of?: ContentId): { readonly feed: Feed; readonly filled: Promise<void> } {
    const feed = new Feed();
    let size = 0;
    const tooLarge = new Error('larger than the cache takes');
    const limited = async function* (maxObjectBytes: number) {
      for await (const chunk of feed) {
        size += chunk.byteLength;
        if (size > maxObjectBytes) throw tooLarge;
        yield chunk;
      }
    };
    const arrival = of && this.#expect(of);
    const filled = this.#cache
      .putStream(limited(this.#maxObjectBytes))
      .then(
        (id) => {
          this.#note(id, size);
          return arrival?.isDeleted ? this.#drop(id) : undefined;
        },
        (error) => {
          feed.leave();
          // A source that fails is told to whoever reads it.
          if (isCoreError(error) && error.context.errno !== undefined) this.#failed('write', error);
        },
      )
      .finally(() => arrival && this.#arriving.delete(arrival));
    this.#goOn(filled);
    return { feed, filled };
  }

  #note(id: ContentId, size: number): void {
    if (!this.#held.delete(id)) this.#bytes += size;
    this.#held.set(id, size);
    if (this.#bytes > this.#maxBytes && !this.#evicting) this.#goOn(this.#evict());
  }

  async #evict(): Promise<void> {
    this.#evicting = true;
    for (const id of this.#held.keys()) {
      if (this.#bytes <= this.#maxBytes) break;
      await this.#drop(id);
      this.#counts.evictions += 1;
    }
    this.#evicting = false;
  }

  async #drop(id: ContentId): Promise<void> {
    this.#bytes -= this.#held.get(id) ?? 0;
    this.#held.delete(id);
    try {
      await this.#cache.delete(id);
    } catch (error) {
      this.#failed('remove', error);
    }
  }

  /** What an earlier process left: it is older than whatever is held by now, the oldest first. */
  async #takeStock(): Promise<void> {
    try {
      const found: ObjectStat[] = [];
      for await (const id of this.#cache.list()) {
        const stat = await this.#cache.stat(id);
        if (stat !== null && !this.#held.has(id)) found.push(stat);
      }
      found.sort((a, b) => a.createdAtMs - b.createdAtMs);
      const newer = [...this.#held];
      this.#held.clear();
      this.#bytes = 0;
      for (const { id, size } of found) this.#note(id, size);
      for (const [id, size] of newer) this.#note(id, size);
    } catch (error) {
      this.#failed('list', error);
    }
  }

  /** Never rejects: what goes wrong beside the calls is told to the logger. */
  #goOn(work: Promise<void>): void {
    this.#beside.add(work);
    void work.then(() => this.#beside.delete(work));
  }

  #failed(doing: string, error: unknown): void {
    if (this.#counts.failures++ === 0) {
      const message = error instanceof Error ? error.message : String(error);
      this.#logger?.warn(`the object cache in ${this.#cache.root} could not ${doing}: ${message}; going on without it`);
    }
  }
}

function corrupt(id: ContentId, found: ContentId): FatalError {
  return new FatalError('Internal', `object corrupt: ${id}`, { code: 'OBJECT_CORRUPT', context: { id, found } });
}

/**
 * Nothing is read before it is asked for.
 * @param leave what is to be ended when the stream is cancelled before that: `chunks` has not begun, and cannot end it
 */
function toStream(
  chunks: AsyncGenerator<Uint8Array, void, void>,
  leave: () => Promise<void>,
): ReadableStream<Uint8Array> {
  let hasBegun = false;
  return new ReadableStream(
    {
      async pull(controller) {
        hasBegun = true;
        const { done, value } = await chunks.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      async cancel() {
        await (hasBegun ? chunks.return() : leave());
      },
    },
    { highWaterMark: 0 },
  );
}
