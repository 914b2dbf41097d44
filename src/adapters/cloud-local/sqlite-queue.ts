/**
 * `local.sqlite-queue`: a queue for many processes of one machine, in one SQLite file.
 *
 * Everything about an item is a row: where it stands in line, under which token until when, how often it was handed over.
 * Each call is part of a write transaction, which SQLite gives to one process at a time, so that no item is taken twice;
 * calls that overlap within a process share one (sqlite-queue/batches.ts).
 *
 * Peculiar to it: items are shared with every process that has the file open. A lease ends on a clock that all of them
 * share and that nobody can set. What a process held goes back when it closes the queue; when it dies, as its leases end,
 * or at once when any process opens a queue of the file: that sees, by a lock, who is dead. Every hand-over is counted in
 * the transaction that makes it, so none is lost. A `receive` that waits is woken by a bell, a file of its own.
 */
import { randomUUID } from 'node:crypto';
import { realpath } from 'node:fs/promises';
import { dirname } from 'node:path';
import { checked } from '../../contracts/capability.js';
import { FatalError } from '../../contracts/errors.js';
import type { LeaseToken, QueueItemId } from '../../contracts/ids.js';
import {
  type EnqueueOptions,
  type NackOptions,
  Queue,
  type QueueItem,
  type QueueStats,
  type ReceiveOptions,
} from '../../contracts/queue.js';
import { itemUnknown } from './queue/holding.js';
import { idTimeMs } from './queue/ids.js';
import { requireFits } from './queue/options.js';
import { Waiters } from './queue/waiters.js';
import type { Call, Work } from './sqlite-queue/batch.js';
import { Batches } from './sqlite-queue/batches.js';
import { Bell } from './sqlite-queue/bell.js';
import { bootId, bootMs } from './sqlite-queue/boot-clock.js';
import { enter, giveBackSome, type Slot, takeSlot } from './sqlite-queue/openers.js';
import { checkOptions, type SqliteQueueOptions, type SqliteQueueSettings } from './sqlite-queue/options.js';
import { ITEMS_PER_BATCH, inBatches } from './sqlite-queue/paced.js';
import { DEAD, DELAYED, PENDING, type Place, QUEUE_SCHEMA, type Sums, Table, type Way } from './sqlite-queue/table.js';
import { requireSafe, type SqlConnection, Statements } from './storage/engine.js';
import { makeFolder } from './storage/folder.js';
import { NODE_SQLITE } from './storage/node-engine.js';
import { prepareFile } from './storage/schema.js';
import { claim, databasePath, realPath, setPragmas } from './storage/sql-storage.js';
import { SQLITE3 } from './storage/sqlite3-engine.js';
import { stillThere } from './storage/still-there.js';

export type { SqliteQueueOptions } from './sqlite-queue/options.js';

/** What the manifest of `local.sqlite-queue` declares. */
export const SQLITE_QUEUE_FEATURES = ['lease', 'replay', 'delay', 'key', 'dead-letters', 'multi-process'] as const;

/** A waiting `receive` looks again after so long even if no bell rang, in case a ring was lost. */
const RECHECK_MS = 1_000;

/** Dead letters that are read at once. */
const LETTERS_PER_READ = 256;

interface Parts {
  readonly path: string;
  readonly settings: SqliteQueueSettings;
  readonly connection: SqlConnection;
  readonly statements: Statements;
  readonly slot: Slot;
  readonly queue: number;
  release(): void;
}

export class SqliteQueue implements Queue {
  /** Absolute path of the database. */
  readonly path: string;
  readonly #parts: Parts;
  readonly #settings: SqliteQueueSettings;
  readonly #batches: Batches;
  readonly #waiters: Waiters;
  readonly #bell: Bell;
  /** How often something became pending, as far as is known here. */
  #rings = 0;
  #closing = false;
  #closed = false;

  private constructor(parts: Parts) {
    const { connection, statements, settings, queue, slot, path } = parts;
    this.path = path;
    this.#parts = parts;
    this.#settings = settings;
    this.#waiters = new Waiters(settings.clock);
    this.#bell = new Bell(`${path}.bell`, () => this.#onPending(Number.POSITIVE_INFINITY));
    this.#batches = new Batches({
      connection,
      statements,
      settings,
      table: new Table(connection, statements, queue, slot.number),
      tokenPrefix: randomUUID(),
      onPending: (count) => {
        this.#onPending(count);
        this.#bell.ring();
      },
      confirm: stillThere(path),
    });
  }

  /**
   * Opens a queue of the file, which is made with its folders when it is not there.
   * @throws FatalError ConfigInvalid: the file cannot be opened, or the engine or the platform does not serve; code
   * `STORAGE_FORMAT`: it is no database, or another program's, and was left untouched. FatalError SchemaViolation: an
   * option is not what it should be. RecoverableError Transient: disk full, too many open files or the like.
   */
  static async open(path: string, options: SqliteQueueOptions = {}): Promise<SqliteQueue> {
    const settings = checkOptions(options);
    const given = databasePath(path);
    const engine = settings.engine === 'node' ? NODE_SQLITE : SQLITE3;
    const boot = await bootId();
    await makeFolder(dirname(given));
    const release = claim(await realPath(given), engine);
    let connection: SqlConnection | null = null;
    let slot: Slot | null = null;
    try {
      connection = await engine.open(given, settings.busyTimeoutMs);
      await requireSafe(connection, engine);
      await prepareFile(connection, given, settings.durability, QUEUE_SCHEMA);
      await setPragmas(connection, given, settings.durability);
      // By the real path: a link to the database is the same database, and its locks are the same locks.
      const file = await realpath(given);
      slot = await takeSlot(engine, file);
      const statements = new Statements(connection);
      const { name, clock } = settings;
      const nowMs = bootMs(clock);
      const wallMs = clock.wallMs();
      const queue = await enter({
        engine,
        file,
        connection,
        statements,
        name,
        slot: slot.number,
        boot,
        nowMs,
        wallMs,
      });
      const opened = new SqliteQueue({ path: file, settings, connection, statements, slot, queue, release });
      opened.#bell.ring();
      return checked(Queue, opened, { adapter: 'local.sqlite-queue', features: SQLITE_QUEUE_FEATURES });
    } catch (error) {
      // Closing ends a transaction under way, too.
      await connection?.close();
      await slot?.lock.release();
      release();
      throw error;
    }
  }

  // The door looks at `signal` before the call; a commit under way cannot be taken back.
  async enqueue(payload: Uint8Array, { delayMs = 0, key }: EnqueueOptions = {}): Promise<QueueItemId> {
    const [id] = await this.#enqueue([payload], delayMs, key ?? null);
    return id as QueueItemId;
  }

  enqueueMany(payloads: readonly Uint8Array[], { delayMs = 0 }: EnqueueOptions = {}): Promise<QueueItemId[]> {
    return this.#enqueue(payloads, delayMs, null);
  }

  async dequeue(): Promise<QueueItem | null> {
    return (await this.#take(1, null))[0] ?? null;
  }

  async dequeueWithLease(leaseMs: number): Promise<QueueItem | null> {
    return (await this.#take(1, leaseMs))[0] ?? null;
  }

  dequeueMany(max: number, leaseMs: number): Promise<QueueItem[]> {
    return this.#take(max, leaseMs);
  }

  async receive({ leaseMs, max = 1, waitMs, signal }: ReceiveOptions): Promise<QueueItem[]> {
    const { clock } = this.#settings;
    const untilMs = clock.monotonicMs() + waitMs;
    for (;;) {
      if (signal?.aborted) {
        // It may have been woken for an item that it will not take now.
        this.#waiters.wake(1);
        throw signal.reason;
      }
      const rings = this.#rings;
      const items = await this.#take(max, leaseMs);
      if (items.length > 0) return items;
      if (this.#closing || clock.monotonicMs() >= untilMs) return [];
      // What came while nothing was found woke nobody: look again.
      if (rings !== this.#rings) continue;
      await this.#waiters.wait(this.#lookAgainMs(untilMs), signal);
      if (this.#closing) return [];
    }
  }

  extendLease(id: QueueItemId, token: LeaseToken, byMs: number): Promise<void> {
    return this.#settle('extend', id, token, byMs);
  }

  ack(id: QueueItemId, token: LeaseToken | null = null): Promise<void> {
    return this.#settle('ack', id, token, 0);
  }

  nack(id: QueueItemId, token: LeaseToken | null = null, { delayMs = 0 }: NackOptions = {}): Promise<void> {
    return this.#settle('nack', id, token, delayMs);
  }

  async *deadLetters(): AsyncGenerator<QueueItem> {
    for (let after = ''; ; ) {
      const from = after;
      const page = await this.#work('read', (table) => table.letters(from, LETTERS_PER_READ));
      for (const { id, payload, attempts } of page) yield { id, payload, attempts, token: null, leaseMs: null };
      after = page.at(-1)?.id ?? '';
      if (after === '') return;
    }
  }

  async requeue(id: QueueItemId): Promise<void> {
    await this.#work('durable', async (table, sums) => {
      const row = (await table.find([id])).get(id);
      if (row?.state !== DEAD) throw itemUnknown(id, 'a dead letter of this queue');
      sums.dead--;
      sums.deadBytes -= row.bytes;
      sums.pending++;
      sums.bytes += row.bytes;
      await table.update([{ id, state: PENDING, seq: await table.placeRequeued(id, sums), attempts: 0 }]);
    });
  }

  async purge(which: 'pending' | 'dead'): Promise<number> {
    const { last } = await this.#work('read', async (_, sums) => sums);
    if (which === 'dead') return this.#purge('dead', DEAD, last);
    // In this order: what is due meanwhile has joined the line by then.
    return (await this.#purge('timed', DELAYED, last)) + (await this.#purge('ready', PENDING, last));
  }

  async stats(): Promise<QueueStats> {
    const { sums, first } = await this.#work('write', async (table, now) => ({
      sums: { ...now },
      first: await table.first(),
    }));
    const { pending, delayed, inFlight, dead, bytes, deadBytes } = sums;
    return {
      pending,
      delayed,
      inFlight,
      deadLetters: dead,
      oldestPendingAgeMs: first === null ? null : Math.max(0, this.#settings.clock.wallMs() - idTimeMs(first)),
      ...this.#batches.totals,
      durability: this.#settings.durability,
      payloadBytesMax: this.#settings.payloadBytesMax,
      bytesInMemory: 0,
      bytesInStorage: bytes + deadBytes,
    };
  }

  async close(): Promise<void> {
    this.#closing = true;
    this.#waiters.close();
    const { connection, slot, release } = this.#parts;
    try {
      await this.#batches.idle();
      // Should it fail, the next opening does it: this slot's lock is free by then.
      let seq: number | null = null;
      await inBatches(async () => {
        seq = await this.#work('write', (table, sums) => giveBackSome(table, sums, slot.number, seq));
        return seq === null ? 'done' : 'more';
      });
      await this.#work('write', (table) => table.leave());
    } finally {
      this.#closed = true;
      await this.#batches.idle();
      this.#bell.close();
      await connection.close();
      await slot.lock.release();
      release();
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #enqueue(payloads: readonly Uint8Array[], delayMs: number, key: string | null): Promise<QueueItemId[]> {
    for (const payload of payloads) requireFits(payload, this.#settings.payloadBytesMax);
    return this.#ask((asked) => ({ kind: 'enqueue', payloads, delayMs, key, ...asked }));
  }

  #take(max: number, leaseMs: number | null): Promise<QueueItem[]> {
    return this.#ask((asked) => ({ kind: 'take', max, leaseMs, ...asked }));
  }

  #settle(how: 'ack' | 'nack' | 'extend', id: QueueItemId, token: LeaseToken | null, ms: number): Promise<void> {
    const askedMs = bootMs(this.#settings.clock);
    return this.#ask((asked) => ({ kind: 'settle', how, id, token, ms, askedMs, ...asked }));
  }

  #work<T>(how: Work['how'], run: (table: Table, sums: Sums) => Promise<T>): Promise<T> {
    return this.#ask<T>(({ resolve, reject }) => ({
      kind: 'work',
      how,
      run,
      resolve: (value) => resolve(value as T),
      reject,
    }));
  }

  /** Goes along a way, once, and deletes the items in a state whose ids are not after `through`. */
  async #purge(way: Way, state: typeof DEAD | typeof DELAYED | typeof PENDING, through: string): Promise<number> {
    let purged = 0;
    let place: Place = { after: Number.MIN_SAFE_INTEGER, id: '' };
    await inBatches(async () => {
      const [page, doomed] = await this.#work('durable', async (table, sums) => {
        const page = await table.walk(way, place, through, ITEMS_PER_BATCH);
        const doomed = page.filter((row) => row.state === state);
        await table.purge(doomed, sums);
        return [page, doomed] as const;
      });
      purged += doomed.length;
      place = page.at(-1) ?? place;
      return page.length < ITEMS_PER_BATCH ? 'done' : 'more';
    });
    return purged;
  }

  #onPending(count: number): void {
    this.#rings++;
    this.#waiters.wake(count);
  }

  /** When a waiting `receive` is to look again by itself: a lease or delay ends, or a ring may have been lost. */
  #lookAgainMs(untilMs: number): number {
    const { clock } = this.#settings;
    const nowMs = clock.monotonicMs();
    const { nextDueMs } = this.#batches;
    const dueMs = nextDueMs === null ? RECHECK_MS : Math.max(0, nextDueMs - bootMs(clock)) + 1;
    return Math.min(untilMs, nowMs + dueMs, nowMs + RECHECK_MS);
  }

  async #ask<T>(make: (asked: { resolve(value: T): void; reject(error: unknown): void }) => Call): Promise<T> {
    if (this.#closed) throw new FatalError('Internal', 'the queue was used after close()', { code: 'CLOSED' });
    return new Promise((resolve, reject) => this.#batches.add(make({ resolve, reject })));
  }
}
