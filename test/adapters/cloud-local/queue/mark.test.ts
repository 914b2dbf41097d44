/** The mark: what keeps ids rising where no row of an item is left to tell of the last one. */
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { InMemQueue } from '../../../../src/adapters/cloud-local/in-mem-queue.js';
import { MemoryStorage } from '../../../../src/adapters/cloud-local/memory-storage.js';
import { idTimeMs } from '../../../../src/adapters/cloud-local/queue/ids.js';
import type { QueueItemId, Storage } from '../../../../src/contracts/index.js';
import { bytes, codeOf, hooked, turn } from './support.js';

const NAMESPACES = ['', '_meta', '_dead', '_ids'].map((suffix) => `cloudlocal_queue${suffix}`);
const START_MS = 1_700_000_000_000;

let nowMs = START_MS;

beforeEach(() => {
  nowMs = START_MS;
  jest.spyOn(Date, 'now').mockImplementation(() => nowMs);
});

afterEach(() => {
  jest.restoreAllMocks();
});

/** What a process that is killed now leaves. */
async function leftBy(storage: Storage): Promise<Storage> {
  const left = new MemoryStorage();
  const txn = left.begin();
  for (const namespace of NAMESPACES) {
    for await (const { key, value } of storage.scan({ prefix: { namespace, path: [] } })) txn.put(key, value);
  }
  await txn.commit();
  return left;
}

/** The first id that another opening of the storage answers, with its clock so far back. */
async function nextId(storage: Storage, backMs: number): Promise<QueueItemId> {
  nowMs -= backMs;
  const queue = await InMemQueue.open(storage);
  const id = await queue.enqueue(bytes('next'));
  await queue.close();
  nowMs += backMs;
  return id;
}

async function drain(queue: InMemQueue): Promise<void> {
  for (let item = await queue.dequeue(); item !== null; item = await queue.dequeue()) await queue.ack(item.id);
}

describe('a queue that is emptied, killed, and opened again an hour earlier', () => {
  test('after any enqueue: its ids go on rising', async () => {
    const storage = new MemoryStorage();
    const queue = await InMemQueue.open(storage);
    for (const stepMs of [0, 0, 1, 99, 1, 1, 100, 101, 5_000, -3_000, 0, 10_000]) {
      nowMs += stepMs;
      const many = await queue.enqueueMany([bytes('a'), bytes('b')]);
      const one = await queue.enqueue(bytes('c'), { key: `${stepMs}` });
      await drain(queue);
      for (const id of [...many, one]) expect((await nextId(await leftBy(storage), 3_600_000)) > id).toBe(true);
    }
    await queue.close();
  });

  test('where the transaction that was to set the mark had failed: likewise', async () => {
    const { storage, ...hooks } = failing(new MemoryStorage());
    const queue = await InMemQueue.open(storage);
    hooks.failNext();
    expect(await codeOf(queue.enqueue(bytes('a')))).toMatch(/EIO/);
    const id = await queue.enqueue(bytes('b'));
    await drain(queue);
    expect((await nextId(await leftBy(storage), 3_600_000)) > id).toBe(true);
    await queue.close();
  });
});

test.each([
  ['a dead letter', 'cloudlocal_queue_dead', ''],
  ['a retained key', 'cloudlocal_queue_meta', '{"key":"k","digest":"d","untilMs":9000000000000}'],
])('where there is none, ids go on after that of %s', async (_, namespace, value) => {
  const storage = new MemoryStorage();
  const id = await nextId(new MemoryStorage(), 0);
  const txn = storage.begin();
  txn.put({ namespace, path: [id] }, bytes(value));
  await txn.commit();
  expect((await nextId(storage, 3_600_000)) > id).toBe(true);
});

test('most enqueues do not write it', async () => {
  let marks = 0;
  const storage = new MemoryStorage();
  const counting: Storage = new Proxy(storage, {
    get(target, property) {
      if (property !== 'begin') return Reflect.get(target, property, target);
      return () => {
        const txn = target.begin();
        const put: typeof txn.put = (key, value) => {
          if (key.namespace === 'cloudlocal_queue_ids') marks += 1;
          txn.put(key, value);
        };
        return { ...txn, put };
      };
    },
  });
  const queue = await InMemQueue.open(counting);
  for (let i = 0; i < 1_000; i++) {
    nowMs += 1;
    await queue.enqueue(bytes('a'));
  }
  await queue.close();
  // One for each 101 ms.
  expect(marks).toBe(10);
});

test('restarts in quick succession do not drive ids ahead of the clock', async () => {
  const storage = new MemoryStorage();
  let last = 0;
  for (let i = 0; i < 200; i++) last = idTimeMs(await nextId(storage, 0));
  // A millisecond for each restart within the same one, from the 100 on that it is set ahead.
  expect(last).toBeLessThanOrEqual(START_MS + 100 + 200);
  nowMs += 1_000;
  expect(idTimeMs(await nextId(storage, 0))).toBe(nowMs);
});

test('one that is no id is refused, with the place, and the lock is freed', async () => {
  const storage = new MemoryStorage();
  const key = { namespace: 'cloudlocal_queue_ids', path: ['mark'] };
  const spoil = storage.begin();
  spoil.put(key, bytes('yesterday'));
  await spoil.commit();
  await expect(InMemQueue.open(storage)).rejects.toMatchObject({
    code: 'STORAGE_FORMAT',
    message: 'storage namespace cloudlocal_queue_ids holds "yesterday", which is no queue item id; delete that row',
  });
  const mend = storage.begin();
  mend.delete(key);
  await mend.commit();
  await (await InMemQueue.open(storage)).close();
});

/** A storage whose next commit fails when told to, and takes effect in no part. */
function failing(inner: Storage): { storage: Storage; failNext(): void } {
  const hooks = hooked(inner);
  return {
    storage: hooks.storage,
    failNext: () => {
      hooks.hook = async () => {
        hooks.hook = (commit) => commit();
        await turn();
        throw new Error('EIO');
      };
    },
  };
}
