/**
 * `local.memory`: Storage in this process's memory, gone with the instance. For tests and trials.
 *
 * A commit takes effect before `commit()` returns its promise, so transactions are in order by themselves. Each namespace
 * keeps its keys in one sorted array: adding at the back and deleting near the front, as queues do, costs a search; in
 * the middle it moves half of the keys. Locks are per instance. It promises nothing beyond the process (`durability` is `off`).
 */
import { checked } from '../../contracts/capability.js';
import { FatalError } from '../../contracts/errors.js';
import {
  type ScanOptions,
  Storage,
  type StorageChange,
  type StorageEntry,
  type StorageKey,
  type StoragePrefix,
  type StorageTxn,
} from '../../contracts/storage.js';
import { type Batch, checksHold, collectBatch, lockedError } from './storage/batch.js';
import { decodePath, encodePath, rangeOf, successor } from './storage/keys.js';
import { SortedKeys } from './storage/sorted-keys.js';
import { Watchers } from './storage/watch.js';

/** Entries that a scan takes out at a time. */
const PAGE_ENTRIES = 256;

/** One namespace: values by encoded key, and the keys in byte order. A key is latin1 text, a character for a byte. */
interface Namespace {
  readonly values: Map<string, Uint8Array>;
  readonly keys: SortedKeys;
}

export class MemoryStorage implements Storage {
  readonly durability = 'off';
  readonly #namespaces = new Map<string, Namespace>();
  readonly #watchers = new Watchers();
  readonly #locks = new Map<string, { holder: string; pid: number }>();
  #closed = false;

  constructor() {
    // biome-ignore lint/correctness/noConstructorReturn: `new` must give the contract's argument checks, as openers do.
    return checked(Storage, this, { adapter: 'local.memory' });
  }

  static async open(): Promise<MemoryStorage> {
    return new MemoryStorage();
  }

  async get(key: StorageKey): Promise<Uint8Array | null> {
    const value = this.#valueOf(key);
    return value === null ? null : Uint8Array.from(value);
  }

  async getMany(keys: readonly StorageKey[]): Promise<(Uint8Array | null)[]> {
    return keys.map((key) => {
      const value = this.#valueOf(key);
      return value === null ? null : Uint8Array.from(value);
    });
  }

  async *scan({ prefix, limit = Number.POSITIVE_INFINITY, after }: ScanOptions): AsyncIterable<StorageEntry> {
    const range = rangeOf(prefix);
    const end = range.end?.toString('latin1');
    let from = range.start;
    if (after !== undefined) {
      const next = successor(encodePath(after.path));
      if (Buffer.compare(next, from) > 0) from = next;
    }
    for (let left = limit; left > 0; ) {
      this.#refuseClosed();
      const page = this.#page(prefix.namespace, from.toString('latin1'), end, Math.min(left, PAGE_ENTRIES));
      const last = page.at(-1);
      if (last === undefined) return;
      for (const { key, value } of page) {
        yield { key: { namespace: prefix.namespace, path: decodePath(key) }, value: Uint8Array.from(value) };
      }
      left -= page.length;
      from = successor(last.key);
    }
  }

  begin(): StorageTxn {
    return collectBatch((batch) => this.#commit(batch));
  }

  watch(prefix: StoragePrefix, { signal }: { signal?: AbortSignal } = {}): AsyncIterable<StorageChange> {
    return this.#watchers.add(prefix, signal);
  }

  async lock(name: string, { holder }: { holder: string }): Promise<AsyncDisposable> {
    const held = this.#locks.get(name);
    if (held !== undefined) throw lockedError(name, 'this memory storage', held);
    const mine = { holder, pid: process.pid };
    this.#locks.set(name, mine);
    return {
      [Symbol.asyncDispose]: async () => {
        if (this.#locks.get(name) === mine) this.#locks.delete(name);
      },
    };
  }

  async ping(): Promise<void> {}

  async close(): Promise<void> {
    this.#closed = true;
    this.#watchers.endAll();
    this.#locks.clear();
    this.#namespaces.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #commit({ writes, checks }: Batch): Promise<boolean> {
    this.#refuseClosed();
    if (!checksHold(checks, (key) => this.#valueOf(key))) return false;
    for (const { key, value } of writes.values()) this.#write(key, value);
    this.#watchers.publish(writes.values());
    return true;
  }

  #valueOf({ namespace, path }: StorageKey): Uint8Array | null {
    return this.#namespaces.get(namespace)?.values.get(encodePath(path).toString('latin1')) ?? null;
  }

  #write({ namespace, path }: StorageKey, value: Uint8Array | null): void {
    let space = this.#namespaces.get(namespace);
    if (space === undefined) {
      space = { values: new Map(), keys: new SortedKeys() };
      this.#namespaces.set(namespace, space);
    }
    const { values, keys } = space;
    const key = encodePath(path).toString('latin1');
    const known = values.has(key);
    if (value !== null) {
      if (!known) keys.add(key);
      // Alone: what the door copied may be a part of a larger buffer.
      values.set(key, new Uint8Array(value));
    } else if (known) {
      keys.delete(key);
      values.delete(key);
    }
  }

  #page(namespace: string, from: string, end: string | undefined, entriesMax: number) {
    const page: { key: Buffer; value: Uint8Array }[] = [];
    const space = this.#namespaces.get(namespace);
    if (space === undefined) return page;
    for (const key of space.keys.from(from)) {
      if (end !== undefined && key >= end) break;
      page.push({ key: Buffer.from(key, 'latin1'), value: space.values.get(key) as Uint8Array });
      if (page.length === entriesMax) break;
    }
    return page;
  }

  #refuseClosed(): void {
    if (this.#closed)
      throw new FatalError('Internal', 'the storage (adapter local.memory) is closed', { code: 'CLOSED' });
  }
}
