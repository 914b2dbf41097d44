/**
 * The one writer. Whatever is committed while a flush is under way becomes the next flush: a group commit without a timer,
 * and the one thing that decides how fast a store with many commits in flight is.
 *
 * A flush is one transaction. Checks are looked up in it, and judged in the order of the commits, each seeing the writes
 * of those before; the writes that are left, one per key, go out in few statements of many rows. A flush that fails is
 * rolled back, and each of its commits is told; the next one starts anew. Where even that fails the flusher is broken,
 * and refuses every later commit.
 */
import { FatalError } from '../../../contracts/errors.js';
import type { StorageKey } from '../../../contracts/storage.js';
import { type Batch, type Check, checksHold, type Write } from './batch.js';
import { encodePath, keyText } from './keys.js';
import type { SqliteConnection, SqliteStatement, SqlValue } from './sqlite-port.js';

/** Rows of one statement: each size is prepared once. Row by row costs a thread hop each, 4 to 7 times slower. */
const ROW_BUCKETS = [256, 64, 16, 4, 1] as const;

/** Bytes of values and commits that one flush takes: past that the others would wait for too long. */
const FLUSH_BYTES_MAX = 16 * 1024 * 1024;
const FLUSH_COMMITS_MAX = 4096;

interface Commit {
  readonly batch: Batch;
  readonly bytes: number;
  resolve(committed: boolean): void;
  reject(error: unknown): void;
}

export class Flusher {
  readonly #connection: SqliteConnection;
  readonly #onCommitted: (writes: Iterable<Write>) => void;
  readonly #statements = new Map<string, SqliteStatement>();
  readonly #namespaces = new Map<string, number>();
  #waiting: Commit[] = [];
  #running: Promise<void> | null = null;
  /** Set once a transaction could not be ended: what is written after it would be reported as committed, and be lost. */
  #broken: FatalError | null = null;
  /** How many flushes there were. */
  flushes = 0;

  /** @param onCommitted told of each commit's writes, in order, after the flush and before the commit resolves */
  constructor(connection: SqliteConnection, onCommitted: (writes: Iterable<Write>) => void) {
    this.#connection = connection;
    this.#onCommitted = onCommitted;
  }

  commit(batch: Batch): Promise<boolean> {
    let bytes = 0;
    for (const { value } of batch.writes.values()) bytes += value?.byteLength ?? 0;
    return new Promise((resolve, reject) => {
      this.#waiting.push({ batch, bytes, resolve, reject });
      this.#running ??= this.#run();
    });
  }

  /** Resolves when nothing waits any more. */
  async idle(): Promise<void> {
    await this.#running;
  }

  async #run(): Promise<void> {
    // Everything that is committed in this turn of the loop belongs to the first flush.
    await null;
    while (this.#waiting.length > 0) {
      const commits = this.#take();
      this.flushes++;
      let outcomes: boolean[];
      try {
        outcomes = await this.#flush(commits);
      } catch (error) {
        for (const commit of commits) commit.reject(error);
        continue;
      }
      commits.forEach((commit, i) => {
        const committed = outcomes[i] === true;
        if (committed) this.#onCommitted(commit.batch.writes.values());
        commit.resolve(committed);
      });
    }
    this.#running = null;
  }

  #take(): Commit[] {
    let bytes = 0;
    let count = 0;
    for (const commit of this.#waiting) {
      bytes += commit.bytes;
      if (count > 0 && (bytes > FLUSH_BYTES_MAX || count === FLUSH_COMMITS_MAX)) break;
      count++;
    }
    return this.#waiting.splice(0, count);
  }

  async #flush(commits: readonly Commit[]): Promise<boolean[]> {
    if (this.#broken !== null) throw this.#broken;
    const checks = commits.flatMap(({ batch }) => batch.checks);
    const namespaces = new Set<string>();
    for (const { batch } of commits) for (const { key } of batch.writes.values()) namespaces.add(key.namespace);
    for (const name of namespaces) await this.#makeNamespace(name);

    if (checks.length === 0) {
      const statements = this.#statementsFor(merge(commits.map(({ batch }) => batch)));
      // A single statement is a transaction by itself.
      if (statements.length > 1) await this.#transaction(() => this.#runAll(statements));
      else await this.#runAll(statements);
      return commits.map(() => true);
    }
    return this.#transaction(async () => {
      const now = await this.#read(checks);
      const outcomes = commits.map(({ batch }) => {
        if (!checksHold(batch.checks, (key) => now.get(keyText(key)) ?? null)) return false;
        for (const [text, { value }] of batch.writes) now.set(text, value);
        return true;
      });
      await this.#runAll(this.#statementsFor(merge(commits.filter((_, i) => outcomes[i]).map(({ batch }) => batch))));
      return outcomes;
    });
  }

  async #transaction<T>(work: () => Promise<T>): Promise<T> {
    await (await this.#statement('BEGIN IMMEDIATE')).run();
    try {
      const result = await work();
      await (await this.#statement('COMMIT')).run();
      return result;
    } catch (error) {
      await this.#rollBack();
      throw error;
    }
  }

  async #rollBack(): Promise<void> {
    try {
      await this.#connection.exec('ROLLBACK');
    } catch (cause) {
      try {
        // A full disk or an I/O error may have rolled back already. Then one can begin; inside a transaction none can.
        await this.#connection.exec('BEGIN; ROLLBACK');
      } catch {
        const message = 'a transaction that failed cannot be rolled back: close this storage and open it again';
        this.#broken = new FatalError('Internal', message, { cause });
      }
    }
  }

  async #read(checks: readonly Check[]): Promise<Map<string, Uint8Array | null>> {
    const select = await this.#statement('SELECT value FROM entry WHERE namespace = ? AND key = ?');
    const values = new Map<string, Uint8Array | null>();
    for (const { key } of checks) {
      const text = keyText(key);
      if (values.has(text)) continue;
      const [row] = await select.all(await this.namespaceId(key.namespace), encodePath(key.path));
      values.set(text, (row?.value ?? null) as Uint8Array | null);
    }
    return values;
  }

  #statementsFor(writes: readonly Write[]): { sql: string; values: SqlValue[] }[] {
    const puts: SqlValue[][] = [];
    const deletes: SqlValue[][] = [];
    for (const { key, value } of writes) {
      const row = [this.#id(key), encodePath(key.path)];
      if (value === null) deletes.push(row);
      else puts.push([...row, value]);
    }
    return [
      ...inBuckets(puts, (rows) => {
        const marks = Array(rows).fill('(?,?,?)').join();
        return `INSERT INTO entry VALUES ${marks} ON CONFLICT DO UPDATE SET value = excluded.value`;
      }),
      ...inBuckets(deletes, (rows) => {
        const marks = Array(rows).fill('(?,?)').join();
        return `DELETE FROM entry WHERE (namespace, key) IN (VALUES ${marks})`;
      }),
    ];
  }

  async #runAll(statements: readonly { sql: string; values: SqlValue[] }[]): Promise<void> {
    for (const { sql, values } of statements) await (await this.#statement(sql)).run(...values);
  }

  async #statement(sql: string): Promise<SqliteStatement> {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = await this.#connection.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }

  #id(key: StorageKey): number {
    return this.#namespaces.get(key.namespace) as number;
  }

  async #makeNamespace(name: string): Promise<void> {
    if (this.#namespaces.has(name)) return;
    await (await this.#statement('INSERT INTO namespace (name) VALUES (?) ON CONFLICT DO NOTHING')).run(name);
    await this.namespaceId(name);
  }

  /** A namespace's number, or -1, which no entry has, for one that is not there yet. Numbers never change. */
  async namespaceId(name: string): Promise<number> {
    const known = this.#namespaces.get(name);
    if (known !== undefined) return known;
    const [row] = await this.#connection.all('SELECT id FROM namespace WHERE name = ?', name);
    if (row === undefined) return -1;
    this.#namespaces.set(name, Number(row.id));
    return Number(row.id);
  }
}

/** The last write of each key, in order. */
function merge(batches: readonly Batch[]): Write[] {
  if (batches.length === 1) return [...(batches[0] as Batch).writes.values()];
  const last = new Map<string, Write>();
  for (const { writes } of batches) for (const [text, write] of writes) last.set(text, write);
  return [...last.values()];
}

function inBuckets(
  rows: readonly SqlValue[][],
  sqlFor: (rows: number) => string,
): { sql: string; values: SqlValue[] }[] {
  const statements: { sql: string; values: SqlValue[] }[] = [];
  let at = 0;
  for (const size of ROW_BUCKETS) {
    for (; rows.length - at >= size; at += size) {
      statements.push({ sql: sqlFor(size), values: rows.slice(at, at + size).flat() });
    }
  }
  return statements;
}
