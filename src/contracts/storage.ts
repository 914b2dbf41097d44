/**
 * Storage: small ordered records in atomic batches; what queues and the like keep their state in.
 *
 * A key is a namespace and a path of segments. Keys of a namespace are in the order of their segments, compared one by
 * one as UTF-8 bytes; a path comes before the paths it begins. Values are bytes. Reads see committed data only.
 * All calls may overlap. Transactions take effect in the order of their `commit()` calls.
 */
import * as check from './arguments.js';
import { capability, iterable, synchronous } from './capability.js';

export interface StorageKey {
  /** 1 to 200 characters of well-formed Unicode but NUL. */
  readonly namespace: string;
  /** 1 to 32 segments, each 0 to 1,024 characters of well-formed Unicode but NUL. */
  readonly path: readonly string[];
}

/** A namespace, or a branch of it: whole segments, so `['a']` is no prefix of `['ab']`. */
export interface StoragePrefix {
  readonly namespace: string;
  /** 0 to 32 segments. Empty: the whole namespace. */
  readonly path: readonly string[];
}

export interface StorageEntry {
  readonly key: StorageKey;
  /** The bytes are yours. */
  readonly value: Uint8Array;
}

export interface ScanOptions {
  readonly prefix: StoragePrefix;
  /** At most this many entries. Default: all. */
  readonly limit?: number;
  /** Only keys after this one, which need not exist, in the prefix's namespace. For resuming. */
  readonly after?: StorageKey;
}

/**
 * What a resolved commit survives. `full`: a power cut. `normal`: a crash of the process; a power cut may lose the last
 * commits, and never corrupts. `off`: nothing is promised; for tests.
 */
export type StorageDurability = 'full' | 'normal' | 'off';

export interface CommitOptions {
  /** For this commit; never more than the store was opened with. Default: what the store was opened with. */
  readonly durability?: StorageDurability;
}

/** Writes that take effect together or not at all. Nothing is written before `commit()`. Used once. */
export interface StorageTxn {
  /** The value is copied before the call returns. The last of several writes to one key counts. */
  put(key: StorageKey, value: Uint8Array): void;
  delete(key: StorageKey): void;
  /** Commit only while the key holds exactly these bytes, or (`null`) is not there. */
  check(key: StorageKey, expected: Uint8Array | null): void;
  /**
   * Resolves true once the batch survives what its durability says; false, and nothing is written, when a check does
   * not hold. Rejected: the outcome is unknown until the store is opened again.
   * @throws RecoverableError Transient: disk full or busy. Throttled, nothing written: too much waits to be written; wait
   * for some of it. FatalError Internal: the transaction has ended already.
   */
  commit(options?: CommitOptions): Promise<boolean>;
  /** Drops the batch. After `commit()` it does nothing. */
  abort(): void;
}

export interface StorageChange {
  readonly kind: 'put' | 'delete';
  readonly key: StorageKey;
}

export interface Storage {
  /** The value, or `null` when the key is not there. The bytes are yours. */
  get(key: StorageKey): Promise<Uint8Array | null>;

  /** The values of up to 10,000 keys, in the order asked, `null` for those not there, as of one moment. */
  getMany(keys: readonly StorageKey[]): Promise<(Uint8Array | null)[]>;

  /** Entries in key order, read page by page: each page is of one moment, the whole scan is not. */
  scan(options: ScanOptions): AsyncIterable<StorageEntry>;

  begin(): StorageTxn;

  /**
   * Changes committed by this process under `prefix`, from the moment of the call on, in commit order, never before the
   * commit. Ends when `signal` aborts or the store closes; with a signal that is aborted already it rejects at once.
   * @throws RecoverableError Throttled, code `WATCH_OVERFLOW`, from `next()`, when more than 10,000 changes wait unread.
   */
  watch(prefix: StoragePrefix, options?: { readonly signal?: AbortSignal }): AsyncIterable<StorageChange>;

  /**
   * Takes a lock that one holder in the world has: freed by disposing it, by `close()`, or by the death of the process.
   * @param name 1 to 64 of `A–Z a–z 0–9 _ - .`
   * @param options `holder` says who holds it, for the message that the next one gets, e.g. `queue tour`
   * @throws FatalError ConfigInvalid, code `LOCKED`, naming the holder and its process id
   */
  lock(name: string, options: { readonly holder: string }): Promise<AsyncDisposable>;

  /** What a commit survives by default. */
  readonly durability: StorageDurability;

  /** A round trip to the store; rejects when it cannot serve. */
  ping(): Promise<void>;

  /**
   * Ends commits under way, then lets go. Any later call is `FatalError` `Internal`, code `CLOSED`; so is committing a
   * transaction begun before. Iterators under way end with that error, watches end.
   */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

export const Storage = capability<Storage>('Storage', {
  major: 1,
  door: (impl) => ({
    get: async (key) => impl.get(storageKey('key', key)),
    getMany: async (keys) => {
      if (!Array.isArray(keys)) throw check.invalid('keys', 'an array', keys);
      check.integer('keys.length', keys.length, 0, 10_000);
      return impl.getMany(Array.from(keys, (key, i) => storageKey(`keys[${i}]`, key)));
    },
    scan: iterable((options) => {
      const { prefix, limit, after } = check.known('options', options, ['prefix', 'limit', 'after']) as ScanOptions;
      if (limit !== undefined) check.integer('options.limit', limit, 0);
      const within = path('options.prefix', prefix, 0);
      const start = after === undefined ? undefined : storageKey('options.after', after);
      if (start !== undefined && start.namespace !== within.namespace) {
        throw check.invalid('options.after.namespace', 'that of the prefix', start.namespace);
      }
      return impl.scan({ prefix: within, limit, after: start });
    }),
    begin: synchronous(() => checkedTxn(impl.begin())),
    watch: iterable((prefix, options) => {
      const { signal } = check.known('options', options, ['signal']) as { signal?: AbortSignal };
      check.signal('options.signal', signal)?.throwIfAborted();
      return impl.watch(path('prefix', prefix, 0), { signal });
    }),
    lock: async (name, options) => {
      if (typeof name !== 'string' || !/^[A-Za-z0-9_.-]{1,64}$/.test(name)) {
        throw check.invalid('name', '1 to 64 of A–Z a–z 0–9 _ - .', name);
      }
      const { holder } = check.known('options', options, ['holder']) as { holder: string };
      return impl.lock(name, { holder: check.text('options.holder', holder, 1, 200) });
    },
    ping: async () => impl.ping(),
  }),
});

function checkedTxn(txn: StorageTxn): StorageTxn {
  return {
    put: (key, value) => txn.put(storageKey('key', key), check.copyOf(check.bytes('value', value))),
    delete: (key) => txn.delete(storageKey('key', key)),
    check: (key, expected) =>
      txn.check(storageKey('key', key), expected === null ? null : new Uint8Array(check.bytes('expected', expected))),
    commit: async (options) => {
      const { durability } = check.known('options', options, ['durability']) as CommitOptions;
      if (durability !== undefined && !['full', 'normal', 'off'].includes(durability)) {
        throw check.invalid('options.durability', '"full", "normal" or "off"', durability);
      }
      return txn.commit({ durability });
    },
    abort: () => txn.abort(),
  };
}

function storageKey(what: string, key: StorageKey): StorageKey {
  return path(what, key, 1);
}

function path<T extends StoragePrefix>(what: string, value: T, segmentsMin: number): T {
  if (typeof value !== 'object' || value === null || !Array.isArray(value.path)) {
    throw check.invalid(what, '{ namespace, path: [segment, …] }', value);
  }
  check.text(`${what}.namespace`, value.namespace, 1, 200);
  check.integer(`${what}.path.length`, value.path.length, segmentsMin, 32);
  for (const segment of value.path) check.text(`a segment of ${what}.path`, segment, 0, 1024);
  // Kept until the commit: what the caller does to its own array meanwhile is no business of the store's.
  return { ...value, path: [...value.path] };
}
