/**
 * One transaction's worth of calls. In it items are settled first, then deadlines that are over are ended, then items
 * enqueued, then taken: calls that overlap have no order.
 */
import { createHash } from 'node:crypto';
import { decodeTime, incrementBase32, ulid } from 'ulid';
import { FatalError, isCoreError } from '../../../contracts/errors.js';
import { type LeaseToken, QueueItemId, show } from '../../../contracts/ids.js';
import type { QueueItem } from '../../../contracts/queue.js';
import { itemUnknown, leaseLost, requireHeld } from '../queue/holding.js';
import { requireRoom } from '../queue/options.js';
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
  /** On the boot clock. A lease that had not ended then, and nobody has ended since, is still held. */
  readonly askedMs: number;
}
/** Anything else, with the transaction to itself as far as its statements go. */
export interface Work extends Asked<unknown> {
  readonly kind: 'work';
  /** `read`: it writes nothing, and needs nobody to wait. `durable`: it is to survive what the queue promises. */
  readonly how: 'read' | 'write' | 'durable';
  run(table: Table, sums: Sums, nowMs: number): Promise<unknown>;
}
export type Call = Enqueue | Take | Settle | Work;

export class Batch {
  /** To be called after the commit: each answers one call. */
  readonly outcomes: (() => void)[] = [];
  readonly totals = { enqueuedTotal: 0, ackedTotal: 0, nackedTotal: 0, expiredTotal: 0 };
  becamePending = 0;
  nextDue: number | null = null;
  readonly #table: Table;
  readonly #settings: SqliteQueueSettings;
  readonly #nextToken: () => LeaseToken;
  /** When the transaction began: it may have waited for those of others. */
  #nowMs = 0;
  #wallMs = 0;

  constructor(table: Table, settings: SqliteQueueSettings, nextToken: () => LeaseToken) {
    this.#table = table;
    this.#settings = settings;
    this.#nextToken = nextToken;
  }

  /** @param reads whether nothing is to be written */
  async run(calls: readonly Call[], reads: boolean): Promise<void> {
    const { clock } = this.#settings;
    this.#nowMs = bootMs(clock);
    this.#wallMs = clock.wallMs();
    const sums = await this.#table.load();
    const before = JSON.stringify(sums);
    const pendingBefore = sums.pending;
    this.nextDue = sums.nextDue;
    const settles = calls.filter((call) => call.kind === 'settle');
    if (settles.length > 0) await this.#settle(settles, sums);
    if (!reads) await this.#endDue(sums);
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
      const found = rows.get(id);
      const isOver = found?.state === IN_FLIGHT && found.due !== null && found.due <= call.askedMs;
      const row = isOver ? { ...found, state: PENDING, token: null } : found;
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
          const { state, token = null, due = null } = change;
          rows.set(id, { ...(row as ItemRow), state, token, due });
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
      if (rows.length === 0) throw lineDamaged(sums.pending);
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

/** The line is an index of its own: after damage it may lack items that the table has. */
function lineDamaged(pending: number): FatalError {
  return new FatalError(
    'Internal',
    `the queue's database is damaged: ${pending} items are pending, and none is found in line; restore it from a copy`,
    { code: 'STORAGE_CORRUPT', context: { pending } },
  );
}

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
