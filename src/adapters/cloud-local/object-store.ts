/**
 * FsObjectStore: objects as files, under the hash of their bytes. Adapter `local.fs`.
 *
 * Peculiar to it: many processes may share a root, and need nothing but the file system for that; what one commits the
 * others see at once. A put hashes first and writes only what is not there. Opening costs the same however much is
 * stored. The folders are drawn in object-store/layout.ts, the steps of a put in object-store/publish.ts.
 *
 * It promises what its `durability` says (by default everything, also after a power cut), that no blob is ever seen
 * half written, and that a read without a range never ends well with other bytes than the id's.
 */
import { dirname, resolve } from 'node:path';
import * as check from '../../contracts/arguments.js';
import { checked } from '../../contracts/capability.js';
import { FatalError, isCoreError } from '../../contracts/errors.js';
import { ContentId } from '../../contracts/ids.js';
import {
  type GetOptions,
  type ListOptions,
  type ObjectStat,
  ObjectStore,
  type PutHint,
} from '../../contracts/object-store.js';
import { type Blake3, type Blake3Engine, LateBlake3 } from './object-store/blake3.js';
import { Lanes, Slots } from './object-store/concurrency.js';
import { Disk, errnoOf, type FileCalls } from './object-store/disk.js';
import { chunksOf, copyOut, hashOf } from './object-store/files.js';
import { collect, type GcOptions, type GcReport } from './object-store/gc.js';
import type { Eventual, IoMode } from './object-store/in-place.js';
import {
  DURABILITIES,
  type Durability,
  decodeSidecar,
  Layout,
  SIDECAR_BYTES_MAX,
  type TOUCH_AGE_MS,
} from './object-store/layout.js';
import type { OpenFile } from './object-store/open-file.js';
import { BLOCK_BYTES, Publisher } from './object-store/publish.js';
import { idOfLarge, Reader } from './object-store/read.js';
import { openRoot } from './object-store/root.js';
import { blocksOf, Upload } from './object-store/streams.js';
import { Usage } from './object-store/usage.js';
import { type VerifyOptions, type VerifyReport, verifyStore } from './object-store/verify.js';

export interface FsObjectStoreOptions {
  /**
   * What survives once a put resolves. `none`: a crash of the process, not a power cut. `data`: also a power cut, as to
   * the bytes, perhaps not the name. `full`: bytes, name and sidecar. It belongs to the store: a lower level than the
   * store's is refused, a higher one raises it. Default `full`.
   */
  readonly durability?: Durability;
  /**
   * Whether small system calls are made in place, which takes a fifth of the CPU time. `auto`: up to 2 ms of each turn
   * of the event loop, and not while the disk is slow. `sync`: always. `async`: never. Default `auto`.
   */
  readonly io?: IoMode;
  /** Largest blob accepted, bytes. Default: no limit. */
  readonly maxBlobBytes?: number;
  /**
   * Bytes that all blobs together may take, sidecars not counted. A put that would go beyond is refused before it
   * writes: `Throttled`, code `STORE_FULL`. Of other processes, only what they put in that moment may be missed.
   * Default: no limit.
   */
  readonly maxStoreBytes?: number;
}

/** What a store is, and what was done with it through this instance. */
export interface FsObjectStoreStats {
  readonly root: string;
  /** What a resolved put survives. */
  readonly durability: Durability;
  /** The library that computes ids here. */
  readonly hash: Blake3Engine;
  readonly io: IoMode;
  /** Bytes of all blobs, within the bounds that `maxStoreBytes` has; `null` for a store that was never counted. */
  readonly usedBytes: number | null;
  readonly maxStoreBytes: number | null;
  /** Corrupt blobs that were put aside, by whichever process. */
  readonly quarantined: number;
  /** Puts that resolved. */
  readonly puts: number;
  /** Gets that resolved, be it to bytes, a file or an open stream. */
  readonly gets: number;
  /** Reads, of this instance, that found other bytes than the id's. */
  readonly corrupt: number;
}

/** Options of {@link FsObjectStore.putFile}. */
export type PutFileOptions = Pick<PutHint, 'contentType' | 'signal' | 'onProgress'>;

/** Options of {@link FsObjectStore.getToFile}. */
export type GetToFileOptions = Pick<GetOptions, 'signal' | 'onProgress'>;

/** What the store stands on, for tests to replace. */
export interface FsObjectStorePorts {
  readonly files?: FileCalls;
  readonly blake3?: Blake3;
  /** Age from which a put touches the blob that it finds, ms. Default {@link TOUCH_AGE_MS}. */
  readonly touchAgeMs?: number;
}

/**
 * Puts, reads of whole buffers and deletes at work at once, each with at most three files open; more wait their turn.
 * The thread pool makes four calls at a time, so more would only hold files open.
 */
const CALLS_AT_ONCE_MAX = 64;

const TRAITS = { adapter: 'local.fs', features: ['range'] } as const;

const SHARD_NAME = /^[0-9a-f]{2}$/;
const BLOB_NAME = /^[0-9a-f]{64}$/;

interface Settings {
  readonly durability: Durability;
  readonly io: IoMode;
  readonly maxBlobBytes: number;
  readonly maxStoreBytes: number | null;
}

export class FsObjectStore implements ObjectStore {
  /** The absolute path of the store's folder. */
  readonly root: string;
  readonly durability: Durability;
  readonly #settings: Settings;
  readonly #counts = { puts: 0, gets: 0 };
  readonly #disk: Disk;
  readonly #layout: Layout;
  readonly #blake3: LateBlake3;
  readonly #publisher: Publisher;
  readonly #reader: Reader;
  readonly #slots = new Slots(CALLS_AT_ONCE_MAX);
  /** Puts and deletes of the same id, one after the other: the second put then finds the first one's blob. */
  readonly #lanes = new Lanes<ContentId>();

  /**
   * Opens the store in `root`, made when missing, and sweeps drafts older than a day.
   * @throws FatalError ConfigInvalid: the root is a file, may not be written, or holds a store of a newer format or
   * another hash (code `STORAGE_FORMAT`) or of a higher durability (`DURABILITY_LOWER`). FatalError SchemaViolation: an
   * option is not what it should be.
   */
  static async open(
    root = './data/object-store',
    options: FsObjectStoreOptions = {},
    ports: FsObjectStorePorts = {},
  ): Promise<FsObjectStore> {
    const absolute = resolve(check.text('root', root, 1, 4_096));
    check.known('options', options, ['durability', 'io', 'maxBlobBytes', 'maxStoreBytes']);
    const { maxBlobBytes = Number.POSITIVE_INFINITY, maxStoreBytes } = options;
    if (options.maxBlobBytes !== undefined) check.integer('maxBlobBytes', maxBlobBytes, 0);
    if (maxStoreBytes !== undefined) check.integer('maxStoreBytes', maxStoreBytes, 0);
    const durability = oneOf<Durability>('durability', options.durability ?? 'full', DURABILITIES);
    const io = oneOf<IoMode>('io', options.io ?? 'auto', ['auto', 'sync', 'async']);
    const disk = new Disk(io, ports.files);
    const layout = new Layout(absolute);
    const usage = new Usage(disk, layout, maxStoreBytes, () => store.#count());
    const publisher = new Publisher(disk, layout, durability, usage, ports.touchAgeMs);
    await openRoot(disk, layout, publisher, durability);
    const blake3 = new LateBlake3(ports.blake3);
    const limits = { maxBlobBytes, maxStoreBytes: maxStoreBytes ?? null };
    const store = new FsObjectStore(disk, layout, publisher, blake3, { durability, io, ...limits });
    return checked(ObjectStore, store, TRAITS);
  }

  private constructor(disk: Disk, layout: Layout, publisher: Publisher, blake3: LateBlake3, settings: Settings) {
    this.root = layout.root;
    this.durability = settings.durability;
    this.#settings = settings;
    this.#disk = disk;
    this.#layout = layout;
    this.#blake3 = blake3;
    this.#publisher = publisher;
    this.#reader = new Reader(disk, layout, publisher, blake3);
  }

  async putBytes(bytes: Uint8Array, { contentType, signal }: PutHint = {}): Promise<ContentId> {
    this.#allow(bytes.byteLength);
    const blake3 = this.#blake3.loaded ?? (await this.#blake3.load());
    const id = bytes.byteLength <= BLOCK_BYTES ? blake3.idOf(bytes) : await idOfLarge(blake3, bytes, signal);
    const done = this.#alone(id, () => this.#publisher.put(id, bytes, contentType ?? null, signal));
    if (done instanceof Promise) await done;
    this.#counts.puts += 1;
    return id;
  }

  async putStream(source: AsyncIterable<Uint8Array>, hint: PutHint = {}): Promise<ContentId> {
    let first: Uint8Array | null = null;
    let upload: Upload | null = null;
    this.#allow(hint.expectedSize ?? 0);
    try {
      for await (const block of blocksOf(source)) {
        if (first === null) {
          first = block;
          continue;
        }
        upload ??= await Upload.start(await this.#blake3.createHasher(), this.#publisher, first);
        this.#allow(upload.draft.size + block.byteLength);
        await upload.add(block);
      }
      // What fits in one block is hashed before anything is written, as bytes at hand are.
      if (upload === null) return await this.putBytes(first ?? new Uint8Array(0), hint);
      const { draft } = upload;
      const id = await upload.end();
      const { contentType, signal } = hint;
      const heldBytes = draft.size;
      await this.#alone(id, () => this.#publisher.publish(id, draft, { contentType, heldBytes, signal }));
      this.#counts.puts += 1;
      return id;
    } catch (error) {
      await upload?.discard();
      throw error;
    } finally {
      upload?.release();
    }
  }

  /**
   * Stores a file: in no time where the file system can share its blocks with a copy (btrfs, XFS, APFS), which is then
   * hashed, else read once. Whatever happens to the file meanwhile, what is stored has the id that is returned.
   * @throws FatalError SchemaViolation: there is no such file. As {@link putStream} does.
   */
  async putFile(path: string, options: PutFileOptions = {}): Promise<ContentId> {
    const from = resolve(check.text('path', path, 1, 4_096));
    check.known('options', options, ['contentType', 'signal', 'onProgress']);
    const { contentType, signal, onProgress } = options;
    signal?.throwIfAborted();
    const file = await this.#openSource(from);
    try {
      const stats = await file.stat();
      if (!stats.isFile()) throw check.invalid('path', 'a file', from);
      this.#allow(stats.size);
      const draft = stats.size > BLOCK_BYTES ? await this.#publisher.cloned(from) : null;
      if (draft === null) {
        // Through the door: its checks of hint and signal, and its counting, are those of any other stream.
        return await checked(ObjectStore, this, TRAITS).putStream(chunksOf(file), { contentType, signal, onProgress });
      }
      try {
        const { id, size } = await hashOf(this.#blake3, draft.file, { signal, onProgress });
        this.#allow(size);
        draft.size = size;
        await this.#alone(id, () => this.#publisher.publish(id, draft, { contentType, signal }));
        this.#counts.puts += 1;
        return id;
      } catch (error) {
        await draft.discard();
        throw error;
      }
    } finally {
      await file.close();
    }
  }

  /**
   * Writes an object to a file, which is made or replaced once all bytes are there and have been verified, and survives
   * what a put survives. Shares blocks where the file system can.
   * @throws FatalError SchemaViolation: there is no such folder. As {@link getBytes}; the file, or what was there before, is untouched then
   */
  async getToFile(id: ContentId, path: string, options: GetToFileOptions = {}): Promise<void> {
    const to = resolve(check.text('path', path, 1, 4_096));
    check.known('options', options, ['signal', 'onProgress']);
    options.signal?.throwIfAborted();
    if (!(await this.#disk.stat(dirname(to)))) throw noFolder(to);
    const blob = await this.#reader.open(ContentId.parse(id));
    try {
      const tools = { disk: this.#disk, blake3: this.#blake3, isDurable: this.durability !== 'none' };
      if (!(await copyOut({ ...tools, ...options, id, blob, to }))) throw this.#reader.corrupt(id);
      this.#counts.gets += 1;
    } finally {
      await blob.close();
    }
  }

  async getBytes(id: ContentId, options: GetOptions = {}): Promise<Uint8Array> {
    const reading = this.#slotted(() => this.#reader.bytes(id, options));
    const bytes = reading instanceof Promise ? await reading : reading;
    this.#counts.gets += 1;
    return bytes;
  }

  async getStream(id: ContentId, options: GetOptions = {}): Promise<ReadableStream<Uint8Array>> {
    const stream = await this.#reader.stream(id, options);
    this.#counts.gets += 1;
    return stream;
  }

  async exists(id: ContentId): Promise<boolean> {
    return (await this.#publisher.find(id))?.isFile() ?? false;
  }

  async stat(id: ContentId): Promise<ObjectStat | null> {
    const blob = await this.#publisher.find(id);
    if (!blob?.isFile()) return null;
    const path = this.#layout.sidecar(id);
    const sidecar = await this.#slots
      .run(() => this.#disk.readText(path, SIDECAR_BYTES_MAX))
      // One that cannot be read is as good as none.
      .catch((error: unknown) => {
        if (!isCoreError(error)) throw error;
        return undefined;
      });
    return { id, size: blob.size, ...decodeSidecar(sidecar, blob) };
  }

  async delete(id: ContentId): Promise<boolean> {
    return this.#alone(id, () => this.#publisher.remove(id));
  }

  /** By names alone: a folder of a blob's name, which only somebody else can make, is told of too. */
  async *list({
    prefix = '',
    after = '' as ContentId,
    signal,
  }: ListOptions = {}): AsyncGenerator<ContentId, void, void> {
    for await (const shard of this.#shards(prefix, after)) {
      signal?.throwIfAborted();
      for (const name of await this.#names(`${this.root}/${shard.slice(0, 2)}/${shard.slice(2)}`, BLOB_NAME, prefix)) {
        signal?.throwIfAborted();
        if (name.startsWith(shard) && name > after) yield name as ContentId;
      }
    }
  }

  /**
   * Removes the objects that `keep` does not name and that were not put within the grace. Safe beside puts, reads and
   * deletes, of other processes too; interrupted or killed at any point it has lost nothing.
   * @throws FatalError SchemaViolation: an option, or an id of `keep`, is not what it should be. Nothing is removed then.
   */
  async gc(options: GcOptions): Promise<GcReport> {
    return collect(
      { disk: this.#disk, layout: this.#layout, publisher: this.#publisher, shards: () => this.#shards() },
      options,
    );
  }

  /** Checks every blob against its id, names what is wrong, and mends sidecars. Beside puts, reads and deletes. */
  async verify(options?: VerifyOptions): Promise<VerifyReport> {
    const list = (of: ListOptions) => checked(ObjectStore, this, TRAITS).list(of);
    const tools = { disk: this.#disk, layout: this.#layout, publisher: this.#publisher };
    return verifyStore({ ...tools, blake3: await this.#blake3.load(), list }, options);
  }

  /** What this store is and does, and what was done with it. Costs the same however much is stored. */
  async stats(): Promise<FsObjectStoreStats> {
    const { durability, io, maxStoreBytes } = this.#settings;
    const aside = await this.#disk.names(this.#layout.quarantine);
    return {
      ...{ root: this.root, durability, hash: (await this.#blake3.load()).engine, io, maxStoreBytes },
      usedBytes: await this.#publisher.usage.used(),
      quarantined: aside.filter((name) => !name.endsWith('.json')).length,
      ...this.#counts,
      corrupt: this.#reader.corruptCount,
    };
  }

  /** Nothing depends on it: a process may end without. Whoever opens the store next goes on from what this one has told. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#publisher.usage.end();
  }

  /** Bytes of all blobs, by looking at each: for a store that an earlier version made. */
  async #count(): Promise<number> {
    let bytes = 0;
    for await (const id of this.list()) bytes += (await this.#disk.stat(this.#layout.blob(id)))?.size ?? 0;
    return bytes;
  }

  /** The first four characters of the ids in each shard that may hold ids from `after` on, in order. */
  async *#shards(prefix = '', after = ''): AsyncGenerator<string, void, void> {
    for (const outer of await this.#names(this.root, SHARD_NAME, prefix.slice(0, 2))) {
      if (outer < after.slice(0, 2)) continue;
      for (const inner of await this.#names(`${this.root}/${outer}`, SHARD_NAME, prefix.slice(2, 4))) {
        const shard = `${outer}${inner}`;
        if (shard >= after.slice(0, 4)) yield shard;
      }
    }
  }

  /** Names that look like ours, in order. One folder at a time is held; whatever else lies there is passed over. */
  async #names(folder: string, pattern: RegExp, prefix: string): Promise<string[]> {
    // A root that is gone, or a file by now, is not an empty store.
    const names = await this.#disk.names(folder, folder === this.root);
    return names.filter((name) => name.startsWith(prefix) && pattern.test(name)).sort();
  }

  /** @throws FatalError SchemaViolation for a blob that is larger than this store takes */
  #allow(size: number): void {
    const { maxBlobBytes } = this.#settings;
    if (size <= maxBlobBytes) return;
    throw new FatalError('SchemaViolation', `${size} bytes are more than maxBlobBytes, ${maxBlobBytes}, allows`, {
      code: 'PAYLOAD_TOO_LARGE',
      context: { size, maxBlobBytes },
    });
  }

  async #openSource(path: string): Promise<OpenFile> {
    try {
      return await this.#disk.open(path, 'r');
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') throw check.invalid('path', 'a file that is there', path);
      throw error;
    }
  }

  /** Runs work with a slot, and alone among those of the same id. */
  #alone<T>(id: ContentId, work: () => Eventual<T>): Eventual<T> {
    if (this.#lanes.isBusy(id)) return this.#lanes.run(id, async () => this.#slotted(work));
    const done = this.#slotted(work);
    return done instanceof Promise ? this.#lanes.run(id, () => done) : done;
  }

  #slotted<T>(work: () => Eventual<T>): Eventual<T> {
    if (!this.#slots.take()) return this.#slots.run(async () => work());
    let done: Eventual<T> | undefined;
    try {
      done = work();
    } finally {
      if (!(done instanceof Promise)) this.#slots.give();
    }
    return done instanceof Promise ? done.finally(() => this.#slots.give()) : done;
  }
}

function noFolder(path: string): FatalError {
  const message = `path must be in a folder that is there: there is no ${dirname(path)} for ${path}; make it first`;
  return new FatalError('SchemaViolation', message, { code: 'ARGUMENT_INVALID', context: { errno: 'ENOENT', path } });
}

function oneOf<T extends string>(what: string, value: T, known: readonly T[]): T {
  if (known.includes(value)) return value;
  throw check.invalid(what, `one of ${known.map((name) => `"${name}"`).join(', ')}`, value);
}
