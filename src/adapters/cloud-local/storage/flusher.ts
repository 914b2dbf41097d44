/**
 * The one writer. Whatever is committed while a flush is under way becomes the next flush: a group commit without a timer,
 * and the one thing that decides how fast a store with many commits in flight is.
 *
 * A flush is one transaction. Checks are looked up in it, and judged in the order of the commits, each seeing the writes
 * of those before; the writes that are left, one per key, go out in few statements of many rows. It is synced as far as
 * the most demanding of its commits asks. A flush that fails is rolled back; where one commit may be at fault, each is
 * then tried by itself, so that a failure reaches those whom it concerns. Where even the rollback fails the flusher is
 * broken, and refuses every later commit.
 */
import { FatalError, isCoreError, RecoverableError } from '../../../contracts/errors.js';
import type { StorageDurability, StorageKey } from '../../../contracts/storage.js';
import { type Batch, type Check, checksHold, type Write } from './batch.js';
import { type SqlConnection, Statements } from './engine.js';
import { encodePath, keyText } from './keys.js';
import { SYNCHRONOUS } from './options.js';
import { type EntryRow, lookUp, lookUpCalls, writeCalls, writeScript } from './rows.js';

/** Bytes of values and commits that one flush takes: past that the others would wait for too long. */
const FLUSH_BYTES_MAX = 16 * 1024 * 1024;
const FLUSH_COMMITS_MAX = 4096;

/** What meets every commit alike: trying each by itself would only take longer. */
const COMMON_FAILURES: ReadonlySet<string> = new Set(['STORAGE_BUSY', 'STORAGE_REPLACED', 'IO_DENIED']);

const LEVELS: readonly StorageDurability[] = ['off', 'normal', 'full'];

export interface FlusherOptions {
  /** What a commit survives at most, and where it asks for nothing else. */
  readonly durability: StorageDurability;
  /** Bytes that may wait or be under way, those of keys and what else a write takes included; a commit beyond them is refused, unless it is alone of its kind. */
  readonly maxUnflushedBytes: number;
  /** Told of each commit's writes, in order, after the flush and before the commit resolves. */
  onCommitted(writes: Iterable<Write>): void;
  /** Asked after each flush: throws when what was written is not where the next opening will look for it. */
  confirm(): void;
}

/** What makes room is not refused for what needs it: commits that only delete have a bound of their own. */
type Kind = 'puts' | 'deletes';

interface Commit {
  readonly batch: Batch;
  readonly kind: Kind;
  readonly bytes: number;
  resolve(committed: boolean): void;
  reject(error: unknown): void;
}

export class Flusher {
  readonly #connection: SqlConnection;
  readonly #options: FlusherOptions;
  readonly #statements: Statements;
  readonly #namespaces = new Map<string, number>();
  #waiting: Commit[] = [];
  readonly #unflushedBytes: Record<Kind, number> = { puts: 0, deletes: 0 };
  #running: Promise<void> | null = null;
  /** What the connection syncs at the moment; `null` after a call that failed and was to change it. */
  #level: StorageDurability | null;
  /** Set once nothing more can be committed: what is written after it would be reported as committed, and be lost. */
  #broken: FatalError | null = null;
  /** How many flushes there were. */
  flushes = 0;

  /** @param connection set to sync as `durability` says */
  constructor(connection: SqlConnection, options: FlusherOptions) {
    this.#connection = connection;
    this.#options = options;
    this.#level = options.durability;
    this.#statements = new Statements(connection);
  }

  commit(batch: Batch): Promise<boolean> {
    const bytes = bytesOf(batch);
    const kind = kindOf(batch);
    const unflushed = this.#unflushedBytes[kind];
    const { maxUnflushedBytes } = this.#options;
    if (unflushed > 0 && unflushed + bytes > maxUnflushedBytes) {
      const message = `commits of ${maxUnflushedBytes} bytes wait to be written; wait for some of them, then retry`;
      return Promise.reject(
        new RecoverableError('Throttled', message, { code: 'BACKLOG_FULL', context: { maxUnflushedBytes } }),
      );
    }
    this.#unflushedBytes[kind] += bytes;
    return new Promise((resolve, reject) => {
      this.#waiting.push({ batch, kind, bytes, resolve, reject });
      this.#running ??= this.#run();
    });
  }

  /** @throws what the next commit would be refused with, where none can be made any more */
  requireUsable(): void {
    if (this.#broken !== null) throw this.#broken;
    this.#options.confirm();
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
      await this.#settle(commits);
      for (const { kind, bytes } of commits) this.#unflushedBytes[kind] -= bytes;
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
    if (count === this.#waiting.length) {
      const all = this.#waiting;
      this.#waiting = [];
      return all;
    }
    return this.#waiting.splice(0, count);
  }

  /** Flushes, and tells each commit what became of it. */
  async #settle(commits: readonly Commit[]): Promise<void> {
    let outcomes: boolean[] | null = null;
    this.flushes++;
    try {
      outcomes = await this.#flush(commits.map(({ batch }) => batch));
      this.#options.confirm();
    } catch (error) {
      if (isCoreError(error) && error.code === 'STORAGE_REPLACED') this.#broken ??= error as FatalError;
      // What is written already must not be tried again: a check would be held against its own commit's writes.
      const common = outcomes !== null || (isCoreError(error) && COMMON_FAILURES.has(error.code));
      if (commits.length === 1 || common || this.#broken !== null) {
        for (const commit of commits) commit.reject(error);
      } else {
        for (const commit of commits) await this.#settle([commit]);
      }
      return;
    }
    commits.forEach(({ batch, resolve }, i) => {
      const committed = outcomes?.[i] === true;
      if (committed) this.#options.onCommitted(batch.writes.values());
      resolve(committed);
    });
  }

  async #flush(batches: readonly Batch[]): Promise<boolean[]> {
    if (this.#broken !== null) throw this.#broken;
    const level = this.#levelFor(batches);
    for (const { writes } of batches) {
      for (const { key } of writes.values()) {
        if (!this.#namespaces.has(key.namespace)) await this.#makeNamespace(key.namespace);
      }
    }
    if (batches.every(({ checks }) => checks.length === 0)) {
      await this.#write(this.#rows(merge(batches)), level);
      return batches.map(() => true);
    }
    await this.#setLevel(level);
    return this.#transaction(async () => {
      const now = await this.#read(batches.flatMap(({ checks }) => checks));
      const outcomes = batches.map(({ writes, checks }) => {
        if (!checksHold(checks, (key) => now.get(keyText(key)) ?? null)) return false;
        for (const [text, { value }] of writes) now.set(text, value);
        return true;
      });
      const rows = this.#rows(merge(batches.filter((_, i) => outcomes[i])));
      for (const { sql, values } of writeCalls(rows, this.#connection)) {
        await (await this.#statements.of(sql)).run(...values);
      }
      return outcomes;
    });
  }

  async #write(rows: readonly EntryRow[], level: StorageDurability): Promise<void> {
    const script = writeScript(rows, level === this.#level ? null : levelPragma(level), this.#connection);
    if (script !== null) {
      this.#level = null;
      try {
        await this.#connection.exec(script);
      } catch (error) {
        await this.#rollBack();
        throw error;
      }
      this.#level = level;
      return;
    }
    await this.#setLevel(level);
    const calls = writeCalls(rows, this.#connection);
    const run = async () => {
      for (const { sql, values } of calls) await (await this.#statements.of(sql)).run(...values);
    };
    // A single statement is a transaction by itself.
    if (calls.length > 1) await this.#transaction(run);
    else await run();
  }

  /** What the most demanding of `batches` asks for, and no more than the store promises. */
  #levelFor(batches: readonly Batch[]): StorageDurability {
    const { durability } = this.#options;
    let asked = 0;
    for (const batch of batches) asked = Math.max(asked, LEVELS.indexOf(batch.durability ?? durability));
    // `off` is for whole stores only: without any sync the file could be damaged by a power cut.
    if (durability !== 'off') asked = Math.max(asked, LEVELS.indexOf('normal'));
    return LEVELS[Math.min(asked, LEVELS.indexOf(durability))] as StorageDurability;
  }

  async #setLevel(level: StorageDurability): Promise<void> {
    if (level === this.#level) return;
    this.#level = null;
    await this.#connection.exec(levelPragma(level));
    this.#level = level;
  }

  async #transaction<T>(work: () => Promise<T>): Promise<T> {
    await (await this.#statements.of('BEGIN IMMEDIATE')).run();
    try {
      const result = await work();
      await (await this.#statements.of('COMMIT')).run();
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
    const byNamespace = new Map<string, Map<string, Buffer>>();
    for (const { key } of checks) {
      const keys = byNamespace.get(key.namespace) ?? new Map<string, Buffer>();
      byNamespace.set(key.namespace, keys.set(keyText(key), encodePath(key.path)));
    }
    const now = new Map<string, Uint8Array | null>();
    for (const [name, keys] of byNamespace) {
      const namespace = await this.#namespaceId(name);
      if (namespace === null) continue;
      const texts = [...keys.keys()];
      const calls = lookUpCalls(this.#connection, namespace, [...keys.values()]);
      await lookUp(calls, this.#statements, (place, value) => now.set(texts[place] as string, value));
    }
    return now;
  }

  #rows(writes: readonly Write[]): EntryRow[] {
    return writes.map(({ key, value }) => ({
      namespace: this.#namespaces.get(key.namespace) as number,
      key: encodePath(key.path),
      value,
    }));
  }

  async #makeNamespace(name: string): Promise<void> {
    await (await this.#statements.of('INSERT INTO namespace (name) VALUES (?) ON CONFLICT DO NOTHING')).run(name);
    await this.#namespaceId(name);
  }

  /** A namespace's number, which never changes; `null` for one that is not there yet. */
  async #namespaceId(name: string): Promise<number | null> {
    const known = this.#namespaces.get(name);
    if (known !== undefined) return known;
    const id = await namespaceId(this.#connection, name);
    if (id !== null) this.#namespaces.set(name, id);
    return id;
  }
}

/** Numbers never change, so they may be kept; a namespace that nobody wrote to has none. */
export async function namespaceId(connection: SqlConnection, name: StorageKey['namespace']): Promise<number | null> {
  const [row] = await connection.all('SELECT id FROM namespace WHERE name = ?', name);
  return row === undefined ? null : Number(row.id);
}

function levelPragma(level: StorageDurability): string {
  return `PRAGMA synchronous = ${SYNCHRONOUS[level]}`;
}

/** Bytes of memory that a write or a check takes, besides its key and value. */
const WRITE_BYTES = 200;

function bytesOf({ writes, checks }: Batch): number {
  let bytes = 0;
  for (const [text, { value }] of writes) bytes += WRITE_BYTES + text.length + (value?.byteLength ?? 0);
  for (const { expected } of checks) bytes += WRITE_BYTES + (expected?.byteLength ?? 0);
  return bytes;
}

function kindOf({ writes }: Batch): Kind {
  for (const { value } of writes.values()) if (value !== null) return 'puts';
  return 'deletes';
}

/** The last write of each key, in order. */
function merge(batches: readonly Batch[]): Write[] {
  if (batches.length === 1) return [...(batches[0] as Batch).writes.values()];
  const last = new Map<string, Write>();
  for (const { writes } of batches) for (const [text, write] of writes) last.set(text, write);
  return [...last.values()];
}
