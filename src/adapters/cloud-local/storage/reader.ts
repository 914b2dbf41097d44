/**
 * The one reader: a connection of its own, so that reads see committed data and wait for no flush. Its calls run one after
 * the other, and the gets that wait together are answered together (one at a time 7 k/s, 64 together over 100 k/s).
 */
import type { StorageKey } from '../../../contracts/storage.js';
import { type Row, type SqlConnection, type SqlValue, Statements } from './engine.js';
import { namespaceId } from './flusher.js';
import { encodePath } from './keys.js';
import { lookUp, lookUpCalls } from './rows.js';
import { outOfOrder } from './sqlite-errors.js';

/** Keys answered together: the values of more would be too much for one turn of the loop. */
const GROUP_KEYS_MAX = 256;

/** What comes after a range, of whatever namespace: two, as one alone shows no order. */
const BEYOND = `SELECT namespace, key FROM entry WHERE (namespace, key) >= (?1, ?2) ORDER BY namespace, key LIMIT 2`;

/** A page of a scan, whichever comes first. */
const PAGE_ENTRIES = 500;
const PAGE_BYTES = 4 * 1024 * 1024;

interface Get {
  readonly keys: readonly StorageKey[];
  resolve(values: (Uint8Array | null)[]): void;
  reject(error: unknown): void;
}

export class Reader {
  readonly #connection: SqlConnection;
  readonly #file: string;
  readonly #statements: Statements;
  readonly #namespaces = new Map<string, number>();
  /** Gets that wait, and other work: the latter in turn. */
  #gets: Get[] = [];
  #works: (() => Promise<void>)[] = [];
  #running: Promise<void> | null = null;

  /** @param file the database, for messages */
  constructor(connection: SqlConnection, file: string) {
    this.#connection = connection;
    this.#file = file;
    this.#statements = new Statements(connection);
  }

  getMany(keys: readonly StorageKey[]): Promise<(Uint8Array | null)[]> {
    return new Promise((resolve, reject) => {
      this.#gets.push({ keys, resolve, reject });
      this.#running ??= this.#run();
    });
  }

  /**
   * Entries of a namespace from a key on, in key order: some, or none when there are no more.
   * @throws FatalError Internal, code `STORAGE_CORRUPT`, where they lie in another order: some may be out of reach
   */
  page(namespace: string, from: Buffer, end: Buffer | null, entriesMax: number): Promise<Row[]> {
    return this.#work(async () => {
      const id = await this.#namespaceId(namespace);
      if (id === null) return [];
      const where = `namespace = ?1 AND key >= ?2 ${end === null ? '' : 'AND key < ?4'} ORDER BY key LIMIT`;
      // As many as fit, were each as large as the largest of them; sizes are read without the values.
      const largest = `SELECT max(length(value)) FROM (SELECT value FROM entry WHERE ${where} ?3)`;
      const statement = await this.#statements.of(
        `SELECT key, value FROM entry WHERE ${where} max(1, min(?3, ${PAGE_BYTES} / max(1, coalesce((${largest}), 1))))`,
      );
      const range: SqlValue[] = [id, from, Math.min(entriesMax, PAGE_ENTRIES)];
      const page = await statement.all(...(end === null ? range : [...range, end]));
      // Whatever comes after the last one is looked at, too: a key that is damaged may have ended the range early.
      const rows = page.length > 0 ? page : await (await this.#statements.of(BEYOND)).all(id, from);
      if (!isAscending(rows, id, from)) throw outOfOrder(this.#file);
      return page;
    });
  }

  ping(): Promise<void> {
    return this.#work(async () => {
      await this.#connection.all('SELECT 1 FROM entry LIMIT 1');
    });
  }

  /** Resolves when nothing waits any more. */
  async idle(): Promise<void> {
    await this.#running;
  }

  #work<T>(work: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#works.push(() => work().then(resolve, reject));
      this.#running ??= this.#run();
    });
  }

  async #run(): Promise<void> {
    // What is asked for in this turn of the loop is answered together.
    await null;
    while (this.#gets.length + this.#works.length > 0) {
      if (this.#gets.length > 0) await this.#answer(this.#takeGets());
      await this.#works.shift()?.();
    }
    this.#running = null;
  }

  #takeGets(): Get[] {
    let keys = 0;
    let count = 0;
    for (const get of this.#gets) {
      keys += get.keys.length;
      if (count > 0 && keys > GROUP_KEYS_MAX) break;
      count++;
    }
    return this.#gets.splice(0, count);
  }

  async #answer(gets: readonly Get[]): Promise<void> {
    try {
      const values = await this.#lookUp(gets.length === 1 ? (gets[0] as Get).keys : gets.flatMap(({ keys }) => keys));
      let at = 0;
      for (const { keys, resolve } of gets) {
        resolve(values.slice(at, at + keys.length));
        at += keys.length;
      }
    } catch (error) {
      // One of them may have met a damaged page; the others need not.
      if (gets.length > 1) for (const get of gets) await this.#answer([get]);
      else gets[0]?.reject(error);
    }
  }

  async #lookUp(keys: readonly StorageKey[]): Promise<(Uint8Array | null)[]> {
    const byNamespace = new Map<string, number[]>();
    for (const [i, { namespace }] of keys.entries()) {
      const own = byNamespace.get(namespace);
      if (own === undefined) byNamespace.set(namespace, [i]);
      else own.push(i);
    }
    const values: (Uint8Array | null)[] = Array(keys.length).fill(null);
    const look = async (calls: ReturnType<typeof lookUpCalls>, own: readonly number[]) =>
      lookUp(calls, this.#statements, (place, value) => {
        values[own[place] as number] = value;
      });
    const callsFor = (id: number, own: readonly number[]) =>
      lookUpCalls(
        this.#connection,
        id,
        own.map((i) => encodePath((keys[i] as StorageKey).path)),
      );
    const [[only = '', own = []] = []] = byNamespace;
    const known = this.#namespaces.get(only);
    if (byNamespace.size === 1 && known !== undefined) {
      const calls = callsFor(known, own);
      if (calls.length === 1) {
        await look(calls, own);
        return values;
      }
    }
    // More than one statement is of one moment only inside a transaction.
    await (await this.#statements.of('BEGIN')).run();
    try {
      for (const [namespace, own] of byNamespace) {
        const id = await this.#namespaceId(namespace);
        if (id !== null) await look(callsFor(id, own), own);
      }
    } finally {
      await (await this.#statements.of('COMMIT')).run();
    }
    return values;
  }

  async #namespaceId(name: string): Promise<number | null> {
    const known = this.#namespaces.get(name);
    if (known !== undefined) return known;
    const id = await namespaceId(this.#connection, name);
    if (id !== null) this.#namespaces.set(name, id);
    return id;
  }
}

/** @param rows of one namespace, unless they say of which */
function isAscending(rows: readonly Row[], namespace: number, from: Buffer): boolean {
  let [lastNamespace, last] = [namespace, from];
  return rows.every((row, i) => {
    const [ofNamespace, key] = [Number(row.namespace ?? namespace), row.key as Buffer];
    const order = ofNamespace - lastNamespace || Buffer.compare(key, last);
    [lastNamespace, last] = [ofNamespace, key];
    return i === 0 ? order >= 0 : order > 0;
  });
}
