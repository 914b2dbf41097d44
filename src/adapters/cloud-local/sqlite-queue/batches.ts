/**
 * Group commit of a queue's calls: all that are made while a transaction is under way share the next one. In it deadlines
 * that are over are ended first, then items are settled, then enqueued, then taken: calls that overlap have no order.
 *
 * A call that is refused (a stale token, a backlog that is full) costs the others nothing. A transaction that fails is
 * rolled back, and each of its calls is tried by itself, so that a failure reaches those whom it concerns.
 */
import { createHash } from 'node:crypto';
import { decodeTime, incrementBase32, ulid } from 'ulid';
import { FatalError, isCoreError } from '../../../contracts/errors.js';
import { LeaseToken, QueueItemId, show } from '../../../contracts/ids.js';
import type { QueueItem } from '../../../contracts/queue.js';
import type { StorageDurability } from '../../../contracts/storage.js';
import { itemUnknown, leaseLost, requireHeld } from '../queue/holding.js';
import { requireRoom } from '../queue/options.js';
import type { SqlConnection, Statements } from '../storage/engine.js';
import { SYNCHRONOUS } from '../storage/options.js';
import { bootMs } from './boot-clock.js';
import type { SqliteQueueSettings } from './options.js';
import {
  type Change,
  DEAD,
  DELAYED,
  IN_FLIGHT,
  type ItemRow,
  type NewItem,
  PENDING,
  type Sums,
  type Table,
} from './table.js';

/** Calls of one transaction, and bytes that they bring: past that the others would wait for too long. */
const CALLS_MAX = 1_024;
const BYTES_MAX = 16 * 1024 * 1024;

/** What meets every call alike: trying each by itself would only take longer. */
const COMMON_FAILURES: ReadonlySet<string> = new Set(['STORAGE_BUSY', 'STORAGE_REPLACED', 'IO_DENIED']);

const STATES = ['pending', 'delayed', 'inFlight', 'a dead letter'] as const;

interface Asked<T> {
  resolve(value: T): void;
  reject(error: unknown): void;
}
export interface Enqueue extends Asked<QueueItemId[]> {
  readonly kind: 'enqueue';
  readonly payloads: readonly Uint8Array[];
  readonly delayMs: number;
  readonly key: string | null;
}
export interface Take extends Asked<QueueItem[]> {
  readonly kind: 'take';
  readonly max: number;
  readonly leaseMs: number | null;
}
export interface Settle extends Asked<void> {
  readonly kind: 'settle';
  readonly how: 'ack' | 'nack' | 'extend';
  readonly id: QueueItemId;
  readonly token: LeaseToken | null;
  /** Delay of a nack, new length of a lease. */
  readonly ms: number;
}
/** Anything else, with the transaction to itself as far as its statements go. */
export interface Work extends Asked<unknown> {
  readonly kind: 'work';
  /** `read`: it writes nothing, and needs nobody to wait. `durable`: it is to survive what the queue promises. */
  readonly how: 'read' | 'write' | 'durable';
  run(table: Table, sums: Sums, nowMs: number): Promise<unknown>;
}
export type Call = Enqueue | Take | Settle | Work;

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
    const batch = new Batch(this.#options, () => LeaseToken.parse(`${this.#options.tokenPrefix}.${++this.#leases}`));
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

  /** A hand-over needs no sync: after a power cut no lease holds, and a count may be lost, never an item. */
  async #sync(calls: readonly Call[]): Promise<void> {
    const { settings, connection } = this.#options;
    const durable = calls.some((call) => (call.kind === 'work' ? call.how === 'durable' : call.kind !== 'take'));
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

/** One transaction's worth of calls. */
class Batch {
  /** To be called after the commit: each answers one call. */
  readonly outcomes: (() => void)[] = [];
  readonly totals = { enqueuedTotal: 0, ackedTotal: 0, nackedTotal: 0, expiredTotal: 0 };
  becamePending = 0;
  nextDue: number | null = null;
  readonly #table: Table;
  readonly #settings: SqliteQueueSettings;
  readonly #nextToken: () => LeaseToken;
  readonly #nowMs: number;
  readonly #wallMs: number;

  constructor({ table, settings }: BatchesOptions, nextToken: () => LeaseToken) {
    this.#table = table;
    this.#settings = settings;
    this.#nextToken = nextToken;
    this.#nowMs = bootMs(settings.clock);
    this.#wallMs = settings.clock.wallMs();
  }

  /** @param reads whether nothing is to be written */
  async run(calls: readonly Call[], reads: boolean): Promise<void> {
    const sums = await this.#table.load();
    const before = JSON.stringify(sums);
    const pendingBefore = sums.pending;
    this.nextDue = sums.nextDue;
    if (!reads) await this.#endDue(sums);
    const settles = calls.filter((call) => call.kind === 'settle');
    if (settles.length > 0) await this.#settle(settles, sums);
    const enqueues = calls.filter((call) => call.kind === 'enqueue');
    if (enqueues.length > 0) await this.#enqueue(enqueues, sums);
    for (const call of calls) {
      if (call.kind !== 'work') continue;
      try {
        const value = await call.run(this.#table, sums, this.#nowMs);
        this.outcomes.push(() => call.resolve(value));
      } catch (error) {
        // What the contract refuses wrote nothing; anything else is the transaction's failure.
        if (!isCoreError(error) || error.code !== 'ITEM_UNKNOWN') throw error;
        this.outcomes.push(() => call.reject(error));
      }
    }
    const pendingAfter = sums.pending;
    const takes = calls.filter((call) => call.kind === 'take');
    if (takes.length > 0) await this.#take(takes, sums);
    if (JSON.stringify(sums) !== before) await this.#table.save(sums);
    // What one call of this batch took at once wakes nobody.
    this.becamePending = Math.max(0, Math.min(sums.pending, pendingAfter - pendingBefore));
  }

  /** Leases and delays that are over. What was handed over before goes to the front, what was only held back to the back. */
  async #endDue(sums: Sums): Promise<void> {
    if (sums.nextDue === null || sums.nextDue > this.#nowMs) return;
    const due = await this.#table.due(this.#nowMs);
    const front = due.filter(({ attempts }) => attempts > 0).sort((one, other) => (one.id < other.id ? -1 : 1));
    const back = due.filter(({ attempts }) => attempts === 0);
    sums.head -= front.length;
    await this.#table.update([
      ...front.map(({ id, attempts }, i) => ({ id, attempts, state: PENDING, seq: sums.head + i })),
      ...back.map(({ id, attempts }) => ({ id, attempts, state: PENDING, seq: ++sums.tail })),
    ]);
    const expired = due.filter(({ state }) => state === IN_FLIGHT).length;
    this.totals.expiredTotal += expired;
    sums.inFlight -= expired;
    sums.delayed -= due.length - expired;
    sums.pending += due.length;
    this.nextDue = await this.#table.nextDue();
  }

  async #settle(calls: readonly Settle[], sums: Sums): Promise<void> {
    const rows = await this.#table.find([...new Set(calls.map(({ id }) => id))]);
    const changed = new Map<QueueItemId, Change>();
    const gone = new Set<QueueItemId>();
    const keys: string[] = [];
    for (const call of calls) {
      const { id, how } = call;
      const row = rows.get(id);
      try {
        if (how === 'ack') {
          if (row !== undefined) {
            requireHeld({ ...row, state: nameOf(row) }, call.token);
            rows.delete(id);
            gone.add(id);
            sums.inFlight--;
            sums.bytes -= row.bytes;
            if (row.key !== null) keys.push(row.key);
            this.totals.ackedTotal++;
          }
        } else {
          const change = how === 'nack' ? this.#nack(call, row, sums) : this.#extend(call, row);
          changed.set(id, change);
          rows.set(id, { ...(row as ItemRow), state: change.state, token: change.token ?? null });
        }
        this.outcomes.push(() => call.resolve());
      } catch (error) {
        this.outcomes.push(() => call.reject(error));
      }
    }
    await this.#table.update([...changed.values()].filter(({ id }) => !gone.has(id)));
    await this.#table.remove([...gone]);
    const { keyRetentionMs } = this.#settings;
    await this.#table.freeKeys(keys, keyRetentionMs === 0 ? 0 : this.#wallMs + keyRetentionMs);
  }

  #nack({ id, token, ms }: Settle, row: ItemRow | undefined, sums: Sums): Change {
    if (row === undefined) throw itemUnknown(id, 'an item of this queue');
    requireHeld({ ...row, state: nameOf(row) }, token);
    this.totals.nackedTotal++;
    sums.inFlight--;
    const { attempts } = row;
    if (ms > 0) {
      sums.delayed++;
      return { id, attempts, state: DELAYED, due: this.#dueIn(ms), wall: this.#wallMs + ms };
    }
    sums.pending++;
    return { id, attempts, state: PENDING, seq: --sums.head };
  }

  #extend({ id, token, ms }: Settle, row: ItemRow | undefined): Change {
    if (row?.state !== IN_FLIGHT || row.token !== token) throw leaseLost(id);
    return { id, attempts: row.attempts, state: IN_FLIGHT, due: this.#dueIn(ms), token };
  }

  async #enqueue(calls: readonly Enqueue[], sums: Sums): Promise<void> {
    const items: NewItem[] = [];
    const { maxPendingBytes, keyRetentionMs } = this.#settings;
    for (const call of calls) {
      try {
        const bytes = call.payloads.reduce((sum, { length }) => sum + length, 0);
        const known = call.key === null ? null : await this.#known(call.key, call.payloads[0] as Uint8Array);
        if (known !== null) {
          this.outcomes.push(() => call.resolve([known]));
          continue;
        }
        requireRoom(bytes, sums.bytes, maxPendingBytes);
        const ids = call.payloads.map((payload) => {
          const item = this.#newItem(payload, call, sums);
          items.push(item);
          return item.id;
        });
        sums.bytes += bytes;
        if (call.key !== null) await this.#table.setKey(call.key, ids[0] as QueueItemId, digestOf(call.payloads[0]));
        this.totals.enqueuedTotal += ids.length;
        this.outcomes.push(() => call.resolve(ids));
      } catch (error) {
        if (!isCoreError(error) || !REFUSALS.has(error.code)) throw error;
        this.outcomes.push(() => call.reject(error));
      }
    }
    await this.#table.insert(items);
    if (keyRetentionMs > 0) await this.#table.forgetKeys(this.#wallMs);
  }

  async #known(key: string, payload: Uint8Array): Promise<QueueItemId | null> {
    const known = await this.#table.key(key, this.#wallMs);
    if (known === null) return null;
    if (known.digest === digestOf(payload)) return known.id;
    const message = `key ${show(key)} stands for other bytes; give a new item a new key`;
    throw new FatalError('SchemaViolation', message, { code: 'KEY_REUSED', context: { key, id: known.id } });
  }

  #newItem(payload: Uint8Array, { delayMs, key }: Enqueue, sums: Sums): NewItem {
    const id = idAfter(sums.last, this.#wallMs);
    sums.last = id;
    if (delayMs > 0) {
      sums.delayed++;
      return { id, state: DELAYED, seq: null, due: this.#dueIn(delayMs), wall: this.#wallMs + delayMs, key, payload };
    }
    sums.pending++;
    return { id, state: PENDING, seq: ++sums.tail, due: null, wall: null, key, payload };
  }

  /** One read serves all the calls, first come, first served. An item without attempts left dies instead. */
  async #take(calls: readonly Take[], sums: Sums): Promise<void> {
    const taken = calls.map((): QueueItem[] => []);
    let at = 0;
    const missing = () => calls.reduce((sum, { max }, i) => sum + max - (taken[i] as QueueItem[]).length, 0);
    for (let want = missing(); want > 0 && sums.pending > 0; want = missing()) {
      const rows = await this.#table.ready(want);
      if (rows.length === 0) break;
      sums.pending -= rows.length;
      const round: Change[] = [];
      for (const row of rows) {
        if (row.attempts >= this.#settings.maxAttempts) {
          round.push({ id: row.id, attempts: row.attempts, state: DEAD });
          sums.dead++;
          sums.bytes -= row.bytes;
          sums.deadBytes += row.bytes;
          continue;
        }
        while ((taken[at] as QueueItem[]).length === (calls[at] as Take).max) at++;
        const { leaseMs } = calls[at] as Take;
        const token = leaseMs === null ? null : this.#nextToken();
        const attempts = row.attempts + 1;
        const due = leaseMs === null ? null : this.#dueIn(leaseMs);
        round.push({ id: row.id, attempts, state: IN_FLIGHT, due, token });
        sums.inFlight++;
        (taken[at] as QueueItem[]).push({ id: row.id, payload: row.payload, attempts, token, leaseMs });
      }
      // Before the next round reads what is ready.
      await this.#table.update(round);
    }
    for (const [i, call] of calls.entries()) this.outcomes.push(() => call.resolve(taken[i] as QueueItem[]));
  }

  #dueIn(ms: number): number {
    const due = this.#nowMs + ms;
    this.nextDue = Math.min(this.nextDue ?? due, due);
    return due;
  }
}

/** What the contract refuses, having written nothing. */
const REFUSALS: ReadonlySet<string> = new Set(['KEY_REUSED', 'BACKLOG_FULL', 'PAYLOAD_TOO_LARGE']);

function nameOf({ state }: ItemRow): (typeof STATES)[number] {
  return STATES[state] as (typeof STATES)[number];
}

function digestOf(payload: Uint8Array | undefined): string {
  return createHash('sha256')
    .update(payload ?? '')
    .digest('hex');
}

/** The next id after all that the queue ever gave, whichever process gave them, and wherever the clock was set. */
function idAfter(last: string, wallMs: number): QueueItemId {
  if (last === '' || wallMs > decodeTime(last)) return QueueItemId.parse(ulid(wallMs));
  return QueueItemId.parse(last.slice(0, 10) + incrementBase32(last.slice(10)));
}
