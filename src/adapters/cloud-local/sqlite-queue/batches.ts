/**
 * Group commit of a queue's calls: all that are made while a transaction is under way share the next one.
 *
 * A call that is refused (a stale token, a backlog that is full) costs the others nothing. A transaction that fails is
 * rolled back, and each of its calls is tried by itself, so that a failure reaches those whom it concerns.
 */
import { FatalError, isCoreError } from '../../../contracts/errors.js';
import { LeaseToken } from '../../../contracts/ids.js';
import type { StorageDurability } from '../../../contracts/storage.js';
import type { SqlConnection, Statements } from '../storage/engine.js';
import { SYNCHRONOUS } from '../storage/options.js';
import { Batch, type Call } from './batch.js';
import type { SqliteQueueSettings } from './options.js';
import type { Table } from './table.js';

/** Calls of one transaction, and bytes that they bring: past that the others would wait for too long. */
const CALLS_MAX = 1_024;
const BYTES_MAX = 16 * 1024 * 1024;

/** What meets every call alike: trying each by itself would only take longer. */
const COMMON_FAILURES: ReadonlySet<string> = new Set(['STORAGE_BUSY', 'STORAGE_REPLACED', 'IO_DENIED']);

export interface BatchesOptions {
  readonly connection: SqlConnection;
  readonly statements: Statements;
  readonly table: Table;
  readonly settings: SqliteQueueSettings;
  /** Makes tokens of one opening differ from those of any other. */
  readonly tokenPrefix: string;
  /** Told after a commit that made so many items pending. */
  onPending(count: number): void;
  /** Asked after each commit: throws when it is not where the next opening will look for it. */
  confirm(): void;
}

export class Batches {
  readonly totals = { enqueuedTotal: 0, ackedTotal: 0, nackedTotal: 0, expiredTotal: 0 };
  /** When the first lease or delay ends, as the last transaction knew it. */
  nextDueMs: number | null = null;
  readonly #options: BatchesOptions;
  #waiting: Call[] = [];
  #running: Promise<void> | null = null;
  #level: StorageDurability;
  #broken: FatalError | null = null;
  #leases = 0;

  constructor(options: BatchesOptions) {
    this.#options = options;
    this.#level = options.settings.durability;
  }

  add(call: Call): void {
    this.#waiting.push(call);
    this.#running ??= this.#run();
  }

  /** Resolves when nothing waits any more. */
  async idle(): Promise<void> {
    await this.#running;
  }

  async #run(): Promise<void> {
    // Everything that is called in this turn of the loop shares the first transaction.
    await null;
    while (this.#waiting.length > 0) await this.#settle(this.#next());
    this.#running = null;
  }

  #next(): Call[] {
    let bytes = 0;
    let count = 0;
    for (const call of this.#waiting) {
      if (call.kind === 'enqueue') for (const { length } of call.payloads) bytes += length;
      if (count > 0 && (bytes > BYTES_MAX || count === CALLS_MAX)) break;
      count++;
    }
    return this.#waiting.splice(0, count);
  }

  async #settle(calls: readonly Call[]): Promise<void> {
    const batch = new Batch(this.#options.table, this.#options.settings, () =>
      LeaseToken.parse(`${this.#options.tokenPrefix}.${++this.#leases}`),
    );
    let committed = false;
    try {
      if (this.#broken !== null) throw this.#broken;
      await this.#sync(calls);
      const reads = calls.every((call) => call.kind === 'work' && call.how === 'read');
      await this.#transaction(reads ? 'BEGIN' : 'BEGIN IMMEDIATE', () => batch.run(calls, reads));
      committed = true;
      this.#options.confirm();
    } catch (error) {
      if (isCoreError(error) && error.code === 'STORAGE_REPLACED') this.#broken ??= error as FatalError;
      // What is written already must not be tried again: it would be written twice.
      const common = committed || (isCoreError(error) && COMMON_FAILURES.has(error.code));
      if (calls.length === 1 || common || this.#broken !== null) for (const call of calls) call.reject(error);
      else for (const call of calls) await this.#settle([call]);
      return;
    }
    this.nextDueMs = batch.nextDue;
    for (const name of Object.keys(this.totals) as (keyof typeof this.totals)[])
      this.totals[name] += batch.totals[name];
    for (const tell of batch.outcomes) tell();
    if (batch.becamePending > 0) this.#options.onPending(batch.becamePending);
  }

  /** What is only about leases needs no sync: after a power cut none holds, and a count may be lost, never an item. */
  async #sync(calls: readonly Call[]): Promise<void> {
    const { settings, connection } = this.#options;
    const durable = calls.some(isDurable);
    const level = durable || settings.durability === 'off' ? settings.durability : 'normal';
    if (level === this.#level) return;
    await connection.exec(`PRAGMA synchronous = ${SYNCHRONOUS[level]}`);
    this.#level = level;
  }

  async #transaction(begin: 'BEGIN' | 'BEGIN IMMEDIATE', work: () => Promise<void>): Promise<void> {
    const { connection, statements } = this.#options;
    await (await statements.of(begin)).run();
    try {
      await work();
      await (await statements.of('COMMIT')).run();
    } catch (error) {
      try {
        await connection.exec('ROLLBACK');
      } catch (cause) {
        try {
          // A full disk may have rolled back already. Then one can begin; inside a transaction none can.
          await connection.exec('BEGIN; ROLLBACK');
        } catch {
          const message = 'a transaction that failed cannot be rolled back: close this queue and open it again';
          this.#broken = new FatalError('Internal', message, { cause });
        }
      }
      throw error;
    }
  }
}

function isDurable(call: Call): boolean {
  switch (call.kind) {
    case 'take':
      return false;
    case 'enqueue':
      return true;
    case 'settle':
      return call.how === 'ack' || (call.how === 'nack' && call.ms > 0);
    case 'work':
      return call.how === 'durable';
  }
}
