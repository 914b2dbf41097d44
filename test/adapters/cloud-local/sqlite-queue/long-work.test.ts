/** What goes over many items: bounded by what was there, and in batches between which others write. */
import { describe, expect, jest, test } from '@jest/globals';
import sqlite3 from 'sqlite3';
import { enter } from '../../../../src/adapters/cloud-local/sqlite-queue/openers.js';
import { ITEMS_PER_BATCH } from '../../../../src/adapters/cloud-local/sqlite-queue/paced.js';
import type { SqliteQueue } from '../../../../src/adapters/cloud-local/sqlite-queue.js';
import { type SqlConnection, Statements } from '../../../../src/adapters/cloud-local/storage/engine.js';
import { SQLITE3 } from '../../../../src/adapters/cloud-local/storage/sqlite3-engine.js';
import type { QueueItemId } from '../../../../src/contracts/index.js';
import { bytes, LONG_MS, text } from '../queue/support.js';
import { child, file, open, sql } from './support.js';

const MANY = 2.5 * ITEMS_PER_BATCH;
const FAST = { durability: 'off' } as const;

async function fill(queue: SqliteQueue, count = MANY, delayMs = 0): Promise<string[]> {
  return queue.enqueueMany(
    Array.from({ length: count }, (_, i) => bytes(`${i}`)),
    { delayMs },
  );
}

describe('a purge', () => {
  test('deletes what was there when it began, and ends, however much is enqueued meanwhile', async () => {
    const queue = await open(FAST);
    await fill(queue);
    await fill(queue, MANY, LONG_MS);
    await queue.enqueue(bytes('keyed'), { key: 'k' });
    let purging = true;
    const purged = queue.purge('pending').finally(() => {
      purging = false;
    });
    const later: string[] = [];
    await queue.stats();
    while (purging) {
      later.push(...(await fill(queue, ITEMS_PER_BATCH / 2)));
      later.push(...(await fill(queue, ITEMS_PER_BATCH / 2, LONG_MS)));
      if (later.length > 40 * ITEMS_PER_BATCH) throw new Error('a purge that others keep from its end');
    }
    expect(await purged).toBe(2 * MANY + 1);
    const stats = await queue.stats();
    expect(stats.pending + stats.delayed).toBe(later.length);
    const [first] = await queue.dequeueMany(1, LONG_MS);
    expect(first?.id).toBe(later[0]);
    expect(await queue.enqueue(bytes('other bytes'), { key: 'k' })).not.toBe('');
    expect(await sql('SELECT pending, delayed, bytes FROM queue')).toEqual(
      await sql(`SELECT sum(state = 0) AS pending, sum(state = 1) AS delayed, sum(bytes) AS bytes FROM item`),
    );
  }, 60_000);

  test('leaves what is taken, and takes in what falls due while it is under way', async () => {
    const queue = await open(FAST);
    await fill(queue, 10);
    const taken = await queue.dequeueMany(5, LONG_MS);
    await fill(queue, MANY, 1);
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(await queue.purge('pending')).toBe(5 + MANY);
    expect(await queue.stats()).toMatchObject({ pending: 0, delayed: 0, inFlight: 5 });
    for (const { id, token } of taken) await queue.ack(id, token);
    expect(await queue.stats()).toMatchObject({ inFlight: 0, bytesInStorage: 0 });
  });

  test('of dead letters goes over any number of them', async () => {
    const queue = await open(FAST);
    await fill(queue);
    await sql('UPDATE item SET state = 3, seq = NULL, attempts = 1');
    await sql(`UPDATE queue SET pending = 0, dead = ${MANY}, deadBytes = bytes, bytes = 0`);
    expect(await queue.purge('dead')).toBe(MANY);
    expect(await queue.stats()).toMatchObject({ deadLetters: 0, bytesInStorage: 0 });
  });
});

describe('what a dead opener held', () => {
  test('goes back in batches, in the order of the ids, before what nobody took', async () => {
    const queue = await open(FAST);
    const ids = await fill(queue, MANY + 10);
    const holder = await child(
      `for (let n = 0; n < 3; n++) await queue.dequeueMany(1000, 600000); console.log('held'); await line();`,
      FAST,
    );
    expect(await holder.line()).toBe('held');
    await fill(queue, 5);
    await holder.kill();
    const most = await entered('third');
    expect(most.rows).toBeLessThanOrEqual(ITEMS_PER_BATCH);
    expect(most.changed).toBeLessThanOrEqual(ITEMS_PER_BATCH + 10);
    expect(await queue.stats()).toMatchObject({ inFlight: 0, pending: MANY + 15 });
    expect((await queue.dequeueMany(MANY + 10, LONG_MS)).map(({ id }) => id)).toEqual(ids);
  });

  test('is put in the order of the ids by whoever opens the queue alone, in batches too', async () => {
    const queue = await open(FAST);
    const ids = await fill(queue);
    const taken = await queue.dequeueMany(MANY, LONG_MS);
    // Each to the front: the youngest is first.
    for (const { id, token } of taken) void queue.nack(id, token);
    expect(text(await queue.dequeue())).toBe(`${MANY - 1}`);
    await queue.close();
    const most = await entered('');
    expect(most.rows).toBeLessThanOrEqual(ITEMS_PER_BATCH);
    expect(most.changed).toBeLessThanOrEqual(ITEMS_PER_BATCH + 10);
    const again = await open(FAST);
    expect((await again.dequeueMany(MANY, LONG_MS)).map(({ id }) => id)).toEqual(ids);
  });

  test('goes back in batches when the queue is closed, too, and stays in order', async () => {
    const [queue, other] = [await open(FAST), await open(FAST)];
    const ids = await fill(queue, MANY + 1);
    await queue.dequeueMany(MANY, LONG_MS);
    await queue.close();
    expect(await sql('SELECT slot FROM opener')).toHaveLength(1);
    expect((await other.dequeueMany(MANY + 1, LONG_MS)).map(({ id }) => id)).toEqual(ids);
  });
});

test('delays go on after a reboot, moved in batches, in every queue of the file', async () => {
  const [queue, other] = [await open(FAST), await open({ ...FAST, name: 'other' })];
  await fill(queue, MANY, LONG_MS);
  await fill(queue, 2);
  const [taken] = await queue.dequeueMany(1, LONG_MS);
  await fill(other, 1, LONG_MS);
  const most = await entered('', 'another boot');
  expect(most.changed).toBeLessThanOrEqual(ITEMS_PER_BATCH + 10);
  expect(await sql('SELECT id FROM boot')).toEqual([{ id: 'another boot' }]);
  const due = await sql('SELECT min(due) AS first, max(due) AS last, count(*) AS n FROM item WHERE state = 1');
  // By the clock of that boot, which stood at 1,000 ms; some of each delay is over.
  const { first, last, n } = due[0] as { first: number; last: number; n: number };
  expect(n).toBe(MANY + 1);
  expect(first).toBeGreaterThan(1_000);
  expect(last).toBeLessThanOrEqual(1_000 + LONG_MS);
  // The lease of one that lives is over.
  expect(await sql(`SELECT due FROM item WHERE id = '${taken?.id}'`)).toEqual([{ due: 1_000 }]);
});

test('many dead letters are requeued in their order, and none of them looks over those before it', async () => {
  const queue = await open(FAST);
  const ids = await fill(queue, 40);
  await sql('UPDATE item SET state = 3, seq = NULL, attempts = 1');
  await sql('UPDATE queue SET pending = 0, dead = 40, deadBytes = bytes, bytes = 0');
  const waiting = await queue.enqueue(bytes('waiting'));
  const all = jest.spyOn(sqlite3.Statement.prototype, 'all');
  const requeued: string[] = [];
  for (const [i, id] of ids.entries()) {
    all.mockClear();
    await queue.requeue(id as QueueItemId);
    requeued.push(id);
    // Where the search began: at the one before.
    const asked = all.mock.calls.map(([values]) => values as unknown as unknown[]);
    const from = Number(asked.filter(({ length }) => length === 3).at(-1)?.[2]);
    const rows = await sql(`SELECT id FROM item WHERE state = 0 AND seq BETWEEN ${from} AND 0 ORDER BY seq`);
    expect(rows.map((row) => row.id)).toEqual(requeued.slice(-2));
    if (i % 10 !== 9) continue;
    // What comes to the front meanwhile, or is taken from there, is seen.
    const [item] = await queue.dequeueMany(1, LONG_MS);
    expect(item?.id).toBe(requeued.shift());
    await queue.ack(item?.id as QueueItemId, item?.token);
  }
  all.mockRestore();
  const [first] = await queue.dequeueMany(1, LONG_MS);
  await queue.nack(first?.id as QueueItemId, first?.token);
  expect((await queue.dequeueMany(100, LONG_MS)).map(({ id }) => id)).toEqual([...requeued, waiting]);
});

test('dead letters are read while another process writes', async () => {
  const queue = await open({ ...FAST, busyTimeoutMs: 1 });
  const ids = await fill(queue, 600);
  await sql('UPDATE item SET state = 3, seq = NULL, attempts = 1');
  const writer = await SQLITE3.open(file(), 0);
  await writer.exec('BEGIN IMMEDIATE');
  const found: string[] = [];
  for await (const { id } of queue.deadLetters()) found.push(id);
  await writer.close();
  expect(found).toEqual(ids);
});

test('dead letters are read some bytes at a time', async () => {
  const queue = await open(FAST);
  const sizes = [3, 5, 6, 9, 0, 1].map((mib) => mib * 2 ** 20);
  await queue.enqueueMany(sizes.map((size, i) => new Uint8Array(size).fill(i)));
  await sql('UPDATE item SET state = 3, seq = NULL, attempts = 1');
  const found: number[][] = [];
  for await (const { payload } of queue.deadLetters()) found.push([payload.length, payload[0] ?? 4]);
  expect(found).toEqual(sizes.map((size, i) => [size, i]));
});

/** Opens a queue of the file through a connection that counts: rows of one answer, and rows that one transaction changed. */
async function entered(name: string, boot?: string): Promise<{ rows: number; changed: number }> {
  const connection = await SQLITE3.open(file(), 5_000);
  const most = { rows: 0, changed: 0 };
  let before = 0;
  const changes = async () => Number((await connection.all('SELECT total_changes() AS n'))[0]?.n);
  const seen = <T extends readonly unknown[]>(rows: T): T => {
    most.rows = Math.max(most.rows, rows.length);
    return rows;
  };
  const counting: SqlConnection = {
    ...connection,
    exec: async (text) => {
      if (text.startsWith('BEGIN')) before = await changes();
      await connection.exec(text);
      if (text === 'COMMIT') most.changed = Math.max(most.changed, (await changes()) - before);
    },
    all: async (...args) => seen(await connection.all(...args)),
    prepare: async (text) => {
      const statement = await connection.prepare(text);
      return { ...statement, all: async (...values) => seen(await statement.all(...values)) };
    },
  };
  boot ??= String((await sql('SELECT id FROM boot'))[0]?.id);
  const statements = new Statements(counting);
  const times = { nowMs: 1_000, wallMs: Date.now() };
  await enter({ engine: SQLITE3, file: file(), connection: counting, statements, name, slot: 200, boot, ...times });
  await connection.close();
  return most;
}
