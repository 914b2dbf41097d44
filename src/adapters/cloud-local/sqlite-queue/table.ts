/**
 * What the queue keeps in its database, and every statement on it. All of it runs inside one write transaction of the
 * caller's, which has loaded the queue's row with {@link Table.load} and saves it with {@link Table.save}.
 *
 *   pending ──take──> in flight ──ack──> gone
 *    ▲  ▲                │  │
 *    │  └── nack, lease  │  └──nack, delay──> delayed ──due──> pending
 *    │      over, holder │
 *    │      gone ────────┘         pending, attempts used up ──take──> dead ──requeue──> pending
 *
 * `seq` is the place in line: those given back count down from -1 (with gaps behind those that were requeued), those that
 * join count up from 1. Deadlines are of the boot clock. Sums are kept in the queue's row, so that nothing has to be
 * counted.
 */
import type { LeaseToken, QueueItemId } from '../../../contracts/ids.js';
import type { Row, SqlConnection, SqlValue, Statements } from '../storage/engine.js';
import type { Schema } from '../storage/schema.js';

export const QUEUE_SCHEMA: Schema = {
  // `rolq`
  application: 0x726f6c71,
  format: 1,
  tables: `
  CREATE TABLE boot (id TEXT NOT NULL);
  CREATE TABLE queue (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    last TEXT NOT NULL DEFAULT '',
    head INTEGER NOT NULL DEFAULT 0,
    tail INTEGER NOT NULL DEFAULT 0,
    pending INTEGER NOT NULL DEFAULT 0,
    delayed INTEGER NOT NULL DEFAULT 0,
    inFlight INTEGER NOT NULL DEFAULT 0,
    dead INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    deadBytes INTEGER NOT NULL DEFAULT 0
  );
  CREATE TABLE opener (slot INTEGER PRIMARY KEY, queue INTEGER NOT NULL);
  CREATE TABLE item (
    queue INTEGER NOT NULL,
    id TEXT NOT NULL,
    state INTEGER NOT NULL,
    seq INTEGER,
    due INTEGER,
    wall INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0,
    opener INTEGER,
    token TEXT,
    key TEXT,
    bytes INTEGER NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (queue, id)
  ) WITHOUT ROWID;
  CREATE INDEX ready ON item (queue, seq) WHERE state = 0;
  CREATE INDEX timed ON item (queue, due) WHERE due IS NOT NULL;
  CREATE INDEX held ON item (opener) WHERE opener IS NOT NULL;
  CREATE INDEX dead ON item (queue, id) WHERE state = 3;
  CREATE TABLE key (
    queue INTEGER NOT NULL,
    key TEXT NOT NULL,
    id TEXT NOT NULL,
    digest TEXT NOT NULL,
    until INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (queue, key)
  ) WITHOUT ROWID;
  CREATE INDEX retained ON key (queue, until) WHERE until > 0`,
};

export const PENDING = 0;
export const DELAYED = 1;
export const IN_FLIGHT = 2;
export const DEAD = 3;

/** The queue's row. */
export interface Sums {
  readonly id: number;
  last: string;
  head: number;
  tail: number;
  pending: number;
  delayed: number;
  inFlight: number;
  dead: number;
  bytes: number;
  deadBytes: number;
  /** When the first lease or delay ends, on the boot clock; `null` for none. */
  nextDue: number | null;
}

export interface NewItem {
  readonly id: QueueItemId;
  readonly state: typeof PENDING | typeof DELAYED;
  readonly seq: number | null;
  readonly due: number | null;
  readonly wall: number | null;
  readonly key: string | null;
  readonly payload: Uint8Array;
}

/** What of an item changes when its state does. `opener` is kept while it is in flight. */
export interface Change {
  readonly id: QueueItemId;
  readonly state: number;
  readonly seq?: number | null;
  readonly due?: number | null;
  readonly wall?: number | null;
  readonly token?: LeaseToken | null;
  readonly attempts: number;
}

export interface ItemRow {
  readonly id: QueueItemId;
  readonly state: number;
  readonly token: LeaseToken | null;
  readonly attempts: number;
  readonly bytes: number;
  readonly key: string | null;
}

/** With the end of its lease or delay. */
export interface TimedRow extends ItemRow {
  readonly due: number | null;
}

const SUMS = ['last', 'head', 'tail', 'pending', 'delayed', 'inFlight', 'dead', 'bytes', 'deadBytes'] as const;

/** A payload above this is bound by itself; those below travel packed in one blob of at most so many bytes. */
const PACKED_PAYLOAD_BYTES_MAX = 64 * 1024;
const PACKED_BYTES_MAX = 4 * 1024 * 1024;

/** Deadlines that one transaction ends: more wait for the next one. */
const DUE_MAX = 10_000;

/** Bytes of dead letters that are read together; a larger one is read alone. */
const LETTER_BYTES_MAX = 8 * 1024 * 1024;

/** Places left free behind a requeued item, for newer ones that are requeued after it. */
const REQUEUE_GAP = 2 ** 20;

/** A place on a way: `after`, and among those that are equal in it, `id`. */
export interface Place {
  readonly after: number | string;
  readonly id: string;
}

/** Ways over many items, each along an index, so that a page costs what it holds. Among the timed ones are leases. */
const WAYS = {
  ready: { place: 'seq', where: `state = ${PENDING} AND seq > ?2`, order: 'seq' },
  timed: { place: 'due', where: 'due IS NOT NULL AND (due, id) > (?2, ?3)', order: 'due, id' },
  dead: { place: 'id', where: `state = ${DEAD} AND id > ?3`, order: 'id' },
} as const;
export type Way = keyof typeof WAYS;

const LINE = `FROM item INDEXED BY ready WHERE queue = ?1 AND state = ${PENDING}`;

const COLUMNS = 'queue, id, state, seq, due, wall, key, bytes, payload';
const INSERT_ONE = `INSERT INTO item (${COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`;
const INSERT_PACKED = `INSERT INTO item (${COLUMNS}) SELECT ?3, value ->> 0, value ->> 1, value ->> 2, value ->> 3,
  value ->> 4, value ->> 5, value ->> 7, substr(?2, value ->> 6, value ->> 7) FROM json_each(?1)`;
/** Materialised, so that each change looks its item up: else every item of the queue would be held against each change. */
const UPDATE = `WITH j AS MATERIALIZED (
    SELECT value ->> 0 AS id, value ->> 1 AS state, value ->> 2 AS seq, value ->> 3 AS due, value ->> 4 AS wall,
      value ->> 5 AS token, value ->> 6 AS attempts FROM json_each(?1))
  UPDATE item SET state = j.state, seq = j.seq, due = j.due, wall = j.wall, token = j.token, attempts = j.attempts,
    opener = CASE WHEN j.state = ${IN_FLIGHT} THEN ?3 END
  FROM j WHERE item.queue = ?2 AND item.id = j.id`;

export class Table {
  readonly #connection: SqlConnection;
  readonly #statements: Statements;
  readonly #queue: number;
  readonly #slot: number;
  /** What was requeued last through this table, and the line's head after it. */
  #requeued: { readonly id: QueueItemId; readonly seq: number; readonly head: number } | null = null;

  constructor(connection: SqlConnection, statements: Statements, queue: number, slot: number) {
    this.#connection = connection;
    this.#statements = statements;
    this.#queue = queue;
    this.#slot = slot;
  }

  async load(): Promise<Sums> {
    const [row] = await this.#all(
      `SELECT *, (SELECT min(due) FROM item WHERE item.queue = queue.id AND due IS NOT NULL) AS nextDue
       FROM queue WHERE id = ?`,
      this.#queue,
    );
    return { ...row } as unknown as Sums;
  }

  async save(sums: Sums): Promise<void> {
    const sets = SUMS.map((name) => `${name} = ?`).join();
    await this.#run(`UPDATE queue SET ${sets} WHERE id = ?`, ...SUMS.map((name) => sums[name]), this.#queue);
  }

  /** First in line first. */
  async ready(limit: number): Promise<(ItemRow & { readonly payload: Uint8Array })[]> {
    return (await this.#all(
      `SELECT id, state, token, attempts, bytes, key, payload FROM item WHERE queue = ? AND state = ${PENDING}
       ORDER BY seq LIMIT ?`,
      this.#queue,
      limit,
    )) as never;
  }

  /** Those whose lease or delay is over, first those that were over first. */
  async due(nowMs: number): Promise<TimedRow[]> {
    return (await this.#all(
      `SELECT id, state, token, attempts, bytes, key, due FROM item WHERE queue = ? AND due IS NOT NULL AND due <= ?
       ORDER BY due, id LIMIT ${DUE_MAX}`,
      this.#queue,
      nowMs,
    )) as never;
  }

  async nextDue(): Promise<number | null> {
    const [row] = await this.#all('SELECT min(due) AS due FROM item WHERE queue = ? AND due IS NOT NULL', this.#queue);
    return (row?.due ?? null) as number | null;
  }

  /** The item first in line. */
  async first(): Promise<QueueItemId | null> {
    const sql = `SELECT id FROM item WHERE queue = ? AND state = ${PENDING} ORDER BY seq LIMIT 1`;
    const [row] = await this.#all(sql, this.#queue);
    return (row?.id ?? null) as QueueItemId | null;
  }

  async find(ids: readonly QueueItemId[]): Promise<Map<QueueItemId, TimedRow>> {
    const rows = (await this.#all(
      `SELECT id, state, token, attempts, bytes, key, due FROM item
       WHERE queue = ? AND id IN (SELECT value FROM json_each(?))`,
      this.#queue,
      JSON.stringify(ids),
    )) as unknown as TimedRow[];
    return new Map(rows.map((row) => [row.id, row]));
  }

  /** Some of the items along a way, after a place on it, whose ids are not after `through`. */
  async walk(way: Way, { after, id }: Place, through: string, limit: number): Promise<(ItemRow & Place)[]> {
    const { place, where, order } = WAYS[way];
    return (await this.#all(
      `SELECT id, state, token, attempts, bytes, key, ${place} AS after FROM item INDEXED BY ${way}
       WHERE queue = ?1 AND ${where} AND id <= ?4 ORDER BY ${order} LIMIT ?5`,
      this.#queue,
      after,
      id,
      through,
      limit,
    )) as never;
  }

  /** Dead letters after an id, oldest first: as many as are asked for, but no more than {@link LETTER_BYTES_MAX} together. */
  async letters(after: string, limit: number): Promise<(ItemRow & { readonly payload: Uint8Array })[]> {
    return (await this.#all(
      `WITH next AS MATERIALIZED (
         SELECT id, sum(bytes) OVER (ORDER BY id) - bytes AS before FROM (
           SELECT id, bytes FROM item INDEXED BY dead WHERE queue = ?1 AND state = ${DEAD} AND id > ?2 ORDER BY id LIMIT ?3))
       SELECT item.id, state, token, attempts, bytes, key, payload FROM next CROSS JOIN item
       WHERE item.queue = ?1 AND item.id = next.id AND (before = 0 OR before + bytes <= ${LETTER_BYTES_MAX})
       ORDER BY item.id`,
      this.#queue,
      after,
      limit,
    )) as never;
  }

  /** The place in line of an item that is requeued: before all others but those requeued before it that are older. */
  async placeRequeued(id: QueueItemId, sums: Sums): Promise<number> {
    const from = await this.#olderRequeued(id, sums);
    const [next] = await this.#all(
      `SELECT seq ${LINE} AND seq >= ?3 AND (seq > 0 OR attempts > 0 OR id > ?2) ORDER BY seq LIMIT 1`,
      this.#queue,
      id,
      from,
    );
    const seq = await this.#placeBefore(Number(next?.seq ?? 1), sums);
    this.#requeued = { id, seq, head: sums.head };
    return seq;
  }

  /** A place in line before which there is nothing but requeued items that are older: whoever requeues many goes on there. */
  async #olderRequeued(id: QueueItemId, { head }: Sums): Promise<number> {
    const last = this.#requeued;
    if (last === null || last.head !== head || last.id > id) return Number.MIN_SAFE_INTEGER;
    const [known] = await this.#all(
      `SELECT EXISTS (SELECT 1 ${LINE} AND id = ?2 AND seq = ?3)
         AND (SELECT seq <= 0 AND attempts = 0 ${LINE} ORDER BY seq LIMIT 1) AS holds`,
      this.#queue,
      last.id,
      last.seq,
    );
    return known?.holds === 1 ? last.seq : Number.MIN_SAFE_INTEGER;
  }

  /** Makes a place right before another one that is taken. */
  async #placeBefore(end: number, sums: Sums): Promise<number> {
    const [last] = await this.#all(`SELECT max(seq) AS seq ${LINE} AND seq < ?2`, this.#queue, end);
    if (last?.seq == null) {
      sums.head -= REQUEUE_GAP;
      return sums.head;
    }
    const seq = Number(last.seq) + 1;
    if (seq < end) return seq;
    await this.#run(
      `UPDATE item SET seq = seq - 1 WHERE queue = ?1 AND state = ${PENDING} AND seq < ?2`,
      this.#queue,
      end,
    );
    sums.head--;
    return seq - 1;
  }

  /** Items that an opener has taken, oldest first. */
  async held(slot: number, limit: number): Promise<Pick<ItemRow, 'id' | 'attempts'>[]> {
    const sql = 'SELECT id, attempts FROM item WHERE opener = ? AND queue = ? ORDER BY id LIMIT ?';
    return (await this.#all(sql, slot, this.#queue, limit)) as never;
  }

  /** The opening that this table is of is none any more. */
  async leave(): Promise<void> {
    await this.#run('DELETE FROM opener WHERE slot = ?', this.#slot);
  }

  async countHeld(slot: number): Promise<number> {
    const [row] = await this.#all('SELECT count(*) AS n FROM item WHERE opener = ? AND queue = ?', slot, this.#queue);
    return Number(row?.n);
  }

  /** Items of the temporary table `given` that are still where it says, with their rows in it: those after a row. */
  async given(after: number, limit: number): Promise<(Pick<ItemRow, 'id' | 'attempts'> & { readonly row: number })[]> {
    return (await this.#all(
      `SELECT item.id AS id, attempts, given.rowid AS row FROM given CROSS JOIN item
       WHERE given.rowid > ?2 AND given.rowid <= ?2 + ?3
         AND item.queue = ?1 AND item.id = given.id AND item.state = ${PENDING} AND item.seq = given.seq`,
      this.#queue,
      after,
      limit,
    )) as never;
  }

  async insert(items: readonly NewItem[]): Promise<void> {
    let packed: NewItem[] = [];
    let bytes = 0;
    for (const item of items) {
      const { length } = item.payload;
      if (!this.#connection.threaded || length > PACKED_PAYLOAD_BYTES_MAX) {
        const { id, state, seq, due, wall, key, payload } = item;
        await this.#run(INSERT_ONE, this.#queue, id, state, seq, due, wall, key, length, payload);
        continue;
      }
      if (bytes + length > PACKED_BYTES_MAX) {
        await this.#insertPacked(packed, bytes);
        packed = [];
        bytes = 0;
      }
      packed.push(item);
      bytes += length;
    }
    if (packed.length > 0) await this.#insertPacked(packed, bytes);
  }

  async #insertPacked(items: readonly NewItem[], bytes: number): Promise<void> {
    // Never empty: a part of an empty blob is NULL, and no empty payload.
    const payloads = Buffer.allocUnsafe(Math.max(1, bytes));
    let at = 0;
    const rows = items.map(({ id, state, seq, due, wall, key, payload }) => {
      payloads.set(payload, at);
      at += payload.length;
      return [id, state, seq, due, wall, key, at - payload.length + 1, payload.length];
    });
    await this.#run(INSERT_PACKED, JSON.stringify(rows), payloads, this.#queue);
  }

  async update(changes: readonly Change[]): Promise<void> {
    if (changes.length === 0) return;
    const rows = changes.map(({ id, state, seq = null, due = null, wall = null, token = null, attempts }) => [
      id,
      state,
      seq,
      due,
      wall,
      token,
      attempts,
    ]);
    await this.#run(UPDATE, JSON.stringify(rows), this.#queue, this.#slot);
  }

  async remove(ids: readonly QueueItemId[]): Promise<void> {
    if (ids.length === 0) return;
    const sql = 'DELETE FROM item WHERE queue = ? AND id IN (SELECT value FROM json_each(?))';
    await this.#run(sql, this.#queue, JSON.stringify(ids));
  }

  /** Deletes items that nobody has, and frees their keys. */
  async purge(rows: readonly ItemRow[], sums: Sums): Promise<void> {
    for (const { state, bytes } of rows) {
      if (state === DEAD) sums.deadBytes -= bytes;
      else sums.bytes -= bytes;
      sums[state === DEAD ? 'dead' : state === PENDING ? 'pending' : 'delayed']--;
    }
    await this.remove(rows.map(({ id }) => id));
    await this.freeKeys(
      rows.flatMap(({ key }) => key ?? []),
      0,
    );
  }

  /** What a key stands for, unless its time is over. */
  async key(key: string, wallMs: number): Promise<{ id: QueueItemId; digest: string } | null> {
    const sql = 'SELECT id, digest FROM key WHERE queue = ? AND key = ? AND (until = 0 OR until > ?)';
    const [row] = await this.#all(sql, this.#queue, key, wallMs);
    return (row ?? null) as never;
  }

  async setKey(key: string, id: QueueItemId, digest: string): Promise<void> {
    const sql = 'INSERT OR REPLACE INTO key (queue, key, id, digest) VALUES (?, ?, ?, ?)';
    await this.#run(sql, this.#queue, key, id, digest);
  }

  /** Frees the keys of items that are gone, at once or (not 0) when the wall clock reaches `untilMs`. */
  async freeKeys(keys: readonly string[], untilMs: number): Promise<void> {
    if (keys.length === 0) return;
    const which = 'WHERE queue = ? AND key IN (SELECT value FROM json_each(?))';
    const json = JSON.stringify(keys);
    if (untilMs === 0) await this.#run(`DELETE FROM key ${which}`, this.#queue, json);
    else await this.#run(`UPDATE key SET until = ? ${which}`, untilMs, this.#queue, json);
  }

  /** Forgets some of the keys whose time is over: more than one enqueue adds, so that forgetting keeps up. */
  async forgetKeys(wallMs: number): Promise<void> {
    await this.#run(
      `DELETE FROM key WHERE queue = ?1 AND key IN
       (SELECT key FROM key WHERE queue = ?1 AND until > 0 AND until <= ?2 LIMIT 16)`,
      this.#queue,
      wallMs,
    );
  }

  async #all(sql: string, ...values: SqlValue[]): Promise<Row[]> {
    return (await this.#statements.of(sql)).all(...values);
  }

  async #run(sql: string, ...values: SqlValue[]): Promise<void> {
    await (await this.#statements.of(sql)).run(...values);
  }
}
