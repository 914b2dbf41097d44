import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { IN_MEM_QUEUE_FEATURES, InMemQueue } from '../../../src/adapters/cloud-local/in-mem-queue.js';
import { MemoryStorage } from '../../../src/adapters/cloud-local/memory-storage.js';
import { SqliteStorage } from '../../../src/adapters/cloud-local/sqlite-storage.js';
import { Queue, QueueItemId, RecoverableError, type Storage } from '../../../src/contracts/index.js';
import { conformance } from '../../../src/testing/conformance.js';
import '../../../src/testing/queue-suite.js';
import { bytes, codeOf, hooked, LONG_MS, storedIds, takeAll, text, turn, until } from './queue/support.js';

const ROWS = 'cloudlocal_queue';
const META = 'cloudlocal_queue_meta';

const diskFull = () =>
  new RecoverableError('Transient', 'could not commit: ENOSPC, the disk is full', { code: 'IO_ERROR' });

let storage: Storage;

beforeEach(async () => {
  storage = await MemoryStorage.open();
});

afterEach(async () => {
  jest.restoreAllMocks();
  await storage.close();
});

// With no memory at all, every payload is read back from storage.
describe.each([{}, { memoryBytesMax: 0 }])('conforms on MemoryStorage with %j', (bounds) => {
  let used: MemoryStorage;
  const target = {
    async open() {
      used = await MemoryStorage.open();
      return InMemQueue.open(used, { maxAttempts: 3, ...bounds });
    },
    reopen: () => InMemQueue.open(used, { maxAttempts: 3, ...bounds }),
  };
  for (const c of conformance(Queue, { features: IN_MEM_QUEUE_FEATURES })) test(c.name, () => c.run(target));
});

describe('conforms on SqliteStorage', () => {
  let folder: string;
  let used: SqliteStorage | undefined;
  let openings = 0;
  const open = async () => {
    await used?.close();
    used = await SqliteStorage.open(join(folder, `${openings}.db`));
    return InMemQueue.open(used, { maxAttempts: 3 });
  };
  const target = {
    open() {
      openings += 1;
      return open();
    },
    reopen: open,
  };
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'in-mem-queue-'));
  });
  afterAll(async () => {
    await used?.close();
    await rm(folder, { recursive: true });
  });
  for (const c of conformance(Queue, { features: IN_MEM_QUEUE_FEATURES })) test(c.name, () => c.run(target));
});

describe('what is written when', () => {
  test('enqueue writes through a Storage transaction before the item is on the deque, then resolves', async () => {
    const held = hooked(storage);
    let release = () => {};
    held.hook = async (commit) => {
      await new Promise<void>((resolve) => {
        release = resolve;
      });
      return commit();
    };
    const queue = await InMemQueue.open(held.storage);
    let resolved = false;
    const sent = queue.enqueue(bytes('a')).then((id) => {
      resolved = true;
      return id;
    });
    await turn();
    expect([resolved, (await queue.stats()).pending, await queue.dequeue()]).toEqual([false, 0, null]);
    release();
    const id = await sent;
    expect(await storage.get({ namespace: ROWS, path: [id] })).toEqual(bytes('a'));
    expect(text(await queue.dequeue())).toBe('a');
    await queue.close();
  });

  test('the stored value is the payload itself, under cloudlocal_queue/<ulid>', async () => {
    const queue = await InMemQueue.open(storage);
    const id = await queue.enqueue(bytes('payload'));
    expect(QueueItemId.is(id)).toBe(true);
    expect(await storedIds(storage, ROWS)).toEqual([id]);
    expect(await storage.get({ namespace: ROWS, path: [id] })).toEqual(bytes('payload'));
    expect(await storedIds(storage, META)).toEqual([]);
    await queue.close();
  });

  test('a failed enqueue commit passes the error through, and nothing is on the deque', async () => {
    const failing = hooked(storage);
    const queue = await InMemQueue.open(failing.storage);
    failing.hook = () => Promise.reject(diskFull());
    await expect(queue.enqueue(bytes('a'))).rejects.toMatchObject({ code: 'IO_ERROR', kind: 'Transient' });
    await expect(queue.enqueueMany([bytes('a'), bytes('b')])).rejects.toMatchObject({ code: 'IO_ERROR' });
    expect(await queue.stats()).toMatchObject({ pending: 0, enqueuedTotal: 0, bytesInMemory: 0 });
    failing.hook = (commit) => commit();
    await queue.enqueue(bytes('c'));
    expect(await takeAll(queue)).toEqual(['c']);
    await queue.close();
  });

  test('enqueues that failed together do not hold up the ones after it, and order holds', async () => {
    const failing = hooked(storage);
    const queue = await InMemQueue.open(failing.storage);
    let commits = 0;
    failing.hook = async (commit) => {
      commits += 1;
      const mine = commits;
      await turn(5);
      if (mine === 2) throw diskFull();
      return commit();
    };
    // What is enqueued while a commit is under way goes into the next one.
    const sent: Promise<unknown>[] = [];
    for (const [turns, names] of [['a'], ['b', 'c'], ['d', 'e']].entries()) {
      sent.push(...names.map((name) => queue.enqueue(bytes(name))));
      await until(() => commits > turns);
    }
    const outcomes = await Promise.allSettled(sent);
    expect(outcomes.map(({ status }) => status)).toEqual([
      'fulfilled',
      'rejected',
      'rejected',
      'fulfilled',
      'fulfilled',
    ]);
    expect(await takeAll(queue)).toEqual(['a', 'd', 'e']);
    await queue.close();
  });

  test('ack deletes the storage entry and resolves after that commit', async () => {
    const held = hooked(storage);
    const queue = await InMemQueue.open(held.storage);
    const id = await queue.enqueue(bytes('a'));
    await queue.dequeue();
    let committed = false;
    held.hook = async (commit) => {
      await turn(10);
      const done = await commit();
      committed = true;
      return done;
    };
    await queue.ack(id);
    expect(committed).toBe(true);
    expect(await storedIds(storage, ROWS)).toEqual([]);
    await queue.close();
  });

  test('nack re-pushes the item to the front of the deque without touching storage', async () => {
    const counted = hooked(storage);
    const queue = await InMemQueue.open(counted.storage);
    const [id] = await queue.enqueueMany([bytes('a'), bytes('b')]);
    const item = await queue.dequeueWithLease(LONG_MS);
    let commits = 0;
    counted.hook = (commit) => {
      commits += 1;
      return commit();
    };
    await queue.nack(item?.id ?? QueueItemId.parse(id), item?.token);
    expect(commits).toBe(0);
    expect((await storedIds(storage, ROWS))[0]).toBe(id);
    expect(text(await queue.dequeue())).toBe('a');
    await queue.close();
  });

  test('a first hand-over writes nothing; each later one stores its count before the item is out', async () => {
    const counted = hooked(storage);
    const queue = await InMemQueue.open(counted.storage);
    const id = await queue.enqueue(bytes('a'));
    await queue.dequeue();
    expect(await storedIds(storage, META)).toEqual([]);
    await queue.nack(id);
    await queue.dequeue();
    const meta = async () =>
      JSON.parse(Buffer.from((await storage.get({ namespace: META, path: [id] })) ?? []).toString());
    expect(await meta()).toEqual({ attempts: 2 });
    await queue.close();

    const again = await InMemQueue.open(storage);
    expect((await again.dequeue())?.attempts).toBe(3);
    expect(await meta()).toEqual({ attempts: 3 });
    await again.ack(id);
    expect(await storedIds(storage, META)).toEqual([]);
    await again.close();
  });

  test('a count that cannot be stored keeps the item, first in line, uncounted', async () => {
    const failing = hooked(storage);
    const queue = await InMemQueue.open(failing.storage);
    await queue.enqueueMany(['a', 'b', 'c'].map(bytes));
    for (const item of await queue.dequeueMany(2, LONG_MS)) await queue.nack(item.id, item.token);
    failing.hook = () => Promise.reject(diskFull());
    expect(await codeOf(queue.dequeueMany(3, LONG_MS))).toBe('IO_ERROR');
    failing.hook = (commit) => commit();
    const items = await queue.dequeueMany(3, LONG_MS);
    expect(items.map((item) => [text(item), item.attempts])).toEqual([
      ['b', 2],
      ['a', 2],
      ['c', 1],
    ]);
    await queue.close();
  });
});

describe('acking and claiming are entered synchronously', () => {
  test('a failed ack rejects, and returns the item to in flight under its token', async () => {
    const failing = hooked(storage);
    const queue = await InMemQueue.open(failing.storage);
    await queue.enqueue(bytes('a'));
    const item = await queue.dequeueWithLease(LONG_MS);
    if (item === null) throw new Error('nothing pending');
    failing.hook = () => Promise.reject(diskFull());
    const [one, two] = await Promise.all([
      codeOf(queue.ack(item.id, item.token)),
      codeOf(queue.ack(item.id, item.token)),
    ]);
    expect([one, two]).toEqual(['IO_ERROR', 'IO_ERROR']);
    expect(await queue.stats()).toMatchObject({ inFlight: 1, pending: 0, ackedTotal: 0 });
    failing.hook = (commit) => commit();
    await queue.ack(item.id, item.token);
    expect(await queue.stats()).toMatchObject({ inFlight: 0, ackedTotal: 1 });
    await queue.close();
  });

  test('while an ack is being written the lease does not end; if the ack fails after that, the item is pending at once', async () => {
    const failing = hooked(storage);
    const queue = await InMemQueue.open(failing.storage);
    await queue.enqueue(bytes('a'));
    const item = await queue.dequeueWithLease(20);
    if (item === null) throw new Error('nothing pending');
    let fail = (_: Error) => {};
    failing.hook = () =>
      new Promise((_, reject) => {
        fail = reject;
      });
    const acking = queue.ack(item.id, item.token);
    await turn(60);
    expect(await queue.stats()).toMatchObject({ inFlight: 1, pending: 0, expiredTotal: 0 });
    fail(diskFull());
    expect(await codeOf(acking)).toBe('IO_ERROR');
    expect(await queue.stats()).toMatchObject({ inFlight: 0, pending: 1, expiredTotal: 1 });
    expect(await codeOf(queue.ack(item.id, item.token))).toBe('LEASE_LOST');
    await queue.close();
  });

  test('while an ack is being written its token is good for nothing else', async () => {
    const held = hooked(storage);
    const queue = await InMemQueue.open(held.storage);
    await queue.enqueueMany(['a', 'b'].map(bytes));
    const item = await queue.dequeueWithLease(LONG_MS);
    const unleased = await queue.dequeue();
    if (item?.token == null || unleased === null) throw new Error('nothing pending');
    let release = () => {};
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    held.hook = async (commit) => {
      await gate;
      return commit();
    };
    const acking = [queue.ack(item.id, item.token), queue.ack(unleased.id)];
    expect(await codeOf(queue.nack(item.id, item.token))).toBe('LEASE_LOST');
    expect(await codeOf(queue.extendLease(item.id, item.token, LONG_MS))).toBe('LEASE_LOST');
    expect(await codeOf(queue.ack(item.id))).toBe('LEASE_TOKEN_REQUIRED');
    expect(await codeOf(queue.nack(unleased.id))).toBe('ITEM_NOT_LEASED');
    release();
    await Promise.all(acking);
    expect((await queue.stats()).ackedTotal).toBe(2);
    await queue.close();
  });

  test('an item whose count is being stored is nobody else’s, and its lease begins after that', async () => {
    const held = hooked(storage);
    const queue = await InMemQueue.open(held.storage);
    const id = await queue.enqueue(bytes('a'));
    await queue.dequeue();
    await queue.nack(id);
    held.hook = async (commit) => {
      await turn(500);
      return commit();
    };
    const claiming = queue.dequeueWithLease(400);
    expect(await queue.dequeue()).toBeNull();
    expect(await codeOf(queue.ack(id))).toBe('ITEM_NOT_LEASED');
    expect((await queue.stats()).inFlight).toBe(1);
    const item = await claiming;
    held.hook = (commit) => commit();
    await queue.ack(id, item?.token);
    expect(await queue.stats()).toMatchObject({ ackedTotal: 1, expiredTotal: 0 });
    await queue.close();
  });
});

describe('leases', () => {
  test('a token is refused once its time is over, even when a busy event loop kept the timer from firing', async () => {
    const queue = await InMemQueue.open(storage);
    await queue.enqueue(bytes('a'));
    const item = await queue.dequeueWithLease(20);
    const end = performance.now() + 40;
    while (performance.now() < end);
    expect(await codeOf(queue.ack(item?.id as QueueItemId, item?.token))).toBe('LEASE_LOST');
    expect((await queue.stats()).pending).toBe(1);
    await queue.close();
  });

  test('leases that end in one tick give back the oldest item first, whichever ended first', async () => {
    const queue = await InMemQueue.open(storage);
    await queue.enqueueMany(['a', 'b', 'c'].map(bytes));
    for (const leaseMs of [30, 20, 10]) await queue.dequeueWithLease(leaseMs);
    for (const end = performance.now() + 50; performance.now() < end; );
    expect(await takeAll(queue)).toEqual(['a', 'b', 'c']);
    await queue.close();
  });

  test('leases of one call end in one moment, however long the hand-over takes', async () => {
    const queue = await InMemQueue.open(storage);
    await queue.enqueueMany(['a', 'b', 'c'].map(bytes));
    let nowMs = performance.now();
    const clock = jest.spyOn(performance, 'now').mockImplementation(() => {
      nowMs += 1;
      return nowMs;
    });
    await queue.dequeueMany(3, LONG_MS);
    nowMs += LONG_MS - 100;
    let pending = 0;
    while (pending === 0) pending = (await queue.stats()).pending;
    expect(pending).toBe(3);
    clock.mockRestore();
    await queue.close();
  });

  test('a step of the wall clock moves no lease', async () => {
    const queue = await InMemQueue.open(storage);
    await queue.enqueue(bytes('a'));
    const item = await queue.dequeueWithLease(LONG_MS);
    jest.spyOn(Date, 'now').mockReturnValue(Date.now() + 10 * LONG_MS);
    await turn(5);
    await queue.ack(item?.id as QueueItemId, item?.token);
    expect((await queue.stats()).expiredTotal).toBe(0);
    await queue.close();
  });

  test('a receive that is woken and aborted in one turn leaves its wake-up to the next one', async () => {
    const queue = await InMemQueue.open(storage);
    await queue.enqueue(bytes('a'));
    const item = await queue.dequeueWithLease(LONG_MS);
    const stop = new AbortController();
    const first = queue.receive({ leaseMs: LONG_MS, waitMs: LONG_MS, signal: stop.signal });
    const second = queue.receive({ leaseMs: LONG_MS, waitMs: LONG_MS });
    await turn();
    const nacked = queue.nack(item?.id as QueueItemId, item?.token);
    stop.abort(new Error('enough'));
    await expect(first).rejects.toThrow('enough');
    await nacked;
    expect((await second).map(text)).toEqual(['a']);
    await queue.close();
  });
});
