/** The five statements that the queue's restart semantics stand on, on a database file, with a reopen in each. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { InMemQueue } from '../../../src/adapters/cloud-local/in-mem-queue.js';
import { SqliteStorage } from '../../../src/adapters/cloud-local/sqlite-storage.js';
import { bytes, takeAll, text } from './queue/support.js';

let folder: string;
let storage: SqliteStorage;
let queue: InMemQueue;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'queue-replay-'));
  await open();
});

afterEach(async () => {
  await shut();
  await rm(folder, { recursive: true });
});

async function open(): Promise<void> {
  storage = await SqliteStorage.open(join(folder, 'rollout.db'));
  queue = await InMemQueue.open(storage);
}

async function shut(): Promise<void> {
  await queue.close();
  await storage.close();
}

async function restart(): Promise<void> {
  await shut();
  await open();
}

test('FIFO ULID order', async () => {
  const ids = await Promise.all(['a', 'b', 'c', 'd'].map((name) => queue.enqueue(bytes(name))));
  expect([...ids].sort()).toEqual(ids);
  const first = await queue.dequeue();
  expect([first?.id, text(first)]).toEqual([ids[0], 'a']);
  await restart();
  expect(await takeAll(queue)).toEqual(['a', 'b', 'c', 'd']);
});

test('nack-to-front', async () => {
  await queue.enqueueMany(['a', 'b', 'c'].map(bytes));
  const a = await queue.dequeue();
  const b = await queue.dequeue();
  if (a === null || b === null) throw new Error('nothing pending');
  await queue.nack(b.id);
  expect(text(await queue.dequeue())).toBe('b');
  await restart();
  expect(await takeAll(queue)).toEqual(['a', 'b', 'c']);
});

test('restart replay', async () => {
  const ids = await queue.enqueueMany(['a', 'b', 'c'].map(bytes));
  await queue.dequeue();
  await queue.dequeueWithLease(60_000);
  await restart();
  expect((await queue.stats()).pending).toBe(3);
  const items = await queue.dequeueMany(10, 60_000);
  expect(items.map((item) => [item.id, text(item)])).toEqual([
    [ids[0], 'a'],
    [ids[1], 'b'],
    [ids[2], 'c'],
  ]);
  expect((await queue.enqueue(bytes('d'))) > (ids[2] ?? '')).toBe(true);
});

test('ack removes', async () => {
  await queue.enqueueMany(['a', 'b'].map(bytes));
  const a = await queue.dequeueWithLease(60_000);
  if (a === null) throw new Error('nothing pending');
  await queue.ack(a.id, a.token);
  await restart();
  expect(await takeAll(queue)).toEqual(['b']);
});

test('nack keeps', async () => {
  await queue.enqueueMany(['a', 'b'].map(bytes));
  const a = await queue.dequeueWithLease(60_000);
  if (a === null) throw new Error('nothing pending');
  await queue.nack(a.id, a.token);
  await restart();
  expect(await takeAll(queue)).toEqual(['a', 'b']);
});
