import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { IN_MEM_QUEUE_FEATURES, InMemQueue } from '../../../src/adapters/cloud-local/in-mem-queue.js';
import { MemoryStorage } from '../../../src/adapters/cloud-local/memory-storage.js';
import { SqliteStorage } from '../../../src/adapters/cloud-local/sqlite-storage.js';
import { FatalError, Queue, QueueItemId, RecoverableError, type Storage } from '../../../src/contracts/index.js';
import { conformance } from '../../../src/testing/conformance.js';
import '../../../src/testing/queue-suite.js';
import { bytes, codeOf, hooked, LONG_MS, storedIds, takeAll, text, turn, until } from './queue/support.js';

const ROWS = 'cloudlocal_queue';
const META = 'cloudlocal_queue_meta';
const DEAD = 'cloudlocal_queue_dead';

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

describe('conforms on MemoryStorage', () => {
  let used: MemoryStorage;
  const target = {
    async open() {
      used = await MemoryStorage.open();
      return InMemQueue.open(used, { maxAttempts: 3 });
    },
    reopen: () => InMemQueue.open(used, { maxAttempts: 3 }),
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

  test('an enqueue that failed does not hold up the ones after it, and order holds', async () => {
    const failing = hooked(storage);
    const queue = await InMemQueue.open(failing.storage);
    let commits = 0;
    failing.hook = async (commit) => {
      commits += 1;
      const mine = commits;
      // Answers come in reverse order; the third commit fails.
      await turn(60 - mine * 10);
      if (mine === 3) throw diskFull();
      return commit();
    };
    const sent = await Promise.allSettled(['a', 'b', 'c', 'd', 'e'].map((name) => queue.enqueue(bytes(name))));
    expect(sent.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'rejected', 'fulfilled', 'fulfilled']);
    expect(await takeAll(queue)).toEqual(['a', 'b', 'd', 'e']);
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
      await turn(60);
      return commit();
    };
    const claiming = queue.dequeueWithLease(40);
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

describe('who owns a queue', () => {
  test('a second opener is refused, naming holder and process; close frees the queue', async () => {
    const queue = await InMemQueue.open(storage, { name: 'tour' });
    const refusal = await InMemQueue.open(storage, { name: 'tour' }).catch((error: unknown) => error as Error);
    expect(refusal).toMatchObject({ kind: 'ConfigInvalid', code: 'LOCKED' });
    expect((refusal as Error).message).toContain('queue tour');
    expect((refusal as Error).message).toContain(String(process.pid));
    await queue.close();
    await (await InMemQueue.open(storage, { name: 'tour' })).close();
  });

  test('queues of one storage share nothing: the unnamed one, named ones, and the longest names', async () => {
    const long = 'x'.repeat(64);
    const options = [{}, { name: 'tour' }, { name: long }, { name: `${long.slice(1)}y` }];
    const queues = await Promise.all(options.map((each) => InMemQueue.open(storage, each)));
    for (const [i, queue] of queues.entries()) await queue.enqueue(bytes(String(i)));
    for (const [i, queue] of queues.entries()) expect(await takeAll(queue)).toEqual([String(i)]);
    expect(await storedIds(storage, `${ROWS}.tour`)).toHaveLength(1);
    expect(await storedIds(storage, ROWS)).toHaveLength(1);
    for (const queue of queues) await queue.close();
  });

  test('a row whose key is not a ULID is refused, naming namespace and key, and the lock is freed', async () => {
    for (const path of [['not-a-ulid'], ['01HZZZZZZZ0000000000000000', 'more']]) {
      const txn = storage.begin();
      txn.put({ namespace: ROWS, path }, bytes('x'));
      await txn.commit();
      const refusal = await InMemQueue.open(storage).catch((error: unknown) => error as Error);
      expect(refusal).toBeInstanceOf(FatalError);
      expect(refusal).toMatchObject({ code: 'STORAGE_FORMAT' });
      expect((refusal as Error).message).toContain(ROWS);
      expect((refusal as Error).message).toContain(path.join('/'));
      const undo = storage.begin();
      undo.delete({ namespace: ROWS, path });
      await undo.commit();
    }
    await (await InMemQueue.open(storage)).close();
  });

  test.each(['not JSON', 'null'])('a record that reads %j is refused, naming its item', async (record) => {
    const id = '01HZZZZZZZ0000000000000000';
    const txn = storage.begin();
    txn.put({ namespace: META, path: [id] }, bytes(record));
    await txn.commit();
    await expect(InMemQueue.open(storage)).rejects.toMatchObject({ code: 'STORAGE_FORMAT', context: { id } });
  });

  test.each(['a pending item', 'a dead letter', 'a kept key'])(
    'ids go on rising across a reopen when the clock has stepped back, above %s',
    async (last) => {
      const options = { maxAttempts: 1, keyRetentionMs: 60_000 };
      const queue = await InMemQueue.open(storage, options);
      const id = await queue.enqueue(bytes('a'), { key: 'k' });
      if (last !== 'a pending item') await queue.dequeue();
      if (last === 'a kept key') await queue.ack(id);
      if (last === 'a dead letter') await queue.nack(id).then(() => queue.dequeue());
      await queue.close();
      jest.spyOn(Date, 'now').mockReturnValue(Date.now() - 10_000);
      const again = await InMemQueue.open(storage, options);
      expect((await again.enqueue(bytes('b'))) > id).toBe(true);
      await again.close();
    },
  );

  test('options are checked: unknown ones, names, bounds', async () => {
    const code = (options: object) => codeOf(InMemQueue.open(storage, options));
    expect(await code({ nmae: 'x' })).toBe('ARGUMENT_INVALID');
    expect(await code({ name: 'a/b' })).toBe('ARGUMENT_INVALID');
    expect(await code({ name: '' })).toBe('ARGUMENT_INVALID');
    expect(await code({ maxAttempts: 0 })).toBe('ARGUMENT_INVALID');
    expect(await code({ payloadBytesMax: 2 ** 31 })).toBe('ARGUMENT_INVALID');
    await expect(InMemQueue.open(storage, { nmae: 'x' } as object)).rejects.toThrow(
      /unknown option "nmae"; known are name/,
    );
  });
});

describe('close', () => {
  test('is bounded: a storage that never answers costs closeTimeoutMs, and every promise settles', async () => {
    const stuck = hooked(storage);
    const queue = await InMemQueue.open(stuck.storage, { closeTimeoutMs: 30 });
    await queue.enqueue(bytes('a'));
    const item = await queue.dequeueWithLease(LONG_MS);
    let answer = () => {};
    const answered = new Promise<void>((resolve) => {
      answer = resolve;
    });
    stuck.hook = async (commit) => {
      await answered;
      return commit();
    };
    const calls = [
      codeOf(queue.enqueue(bytes('b'))),
      codeOf(queue.ack(item?.id as QueueItemId, item?.token)),
      codeOf(queue.receive({ leaseMs: LONG_MS, waitMs: LONG_MS })),
    ];
    await queue.close();
    expect(await Promise.all(calls)).toEqual(['CLOSE_TIMEOUT', 'CLOSE_TIMEOUT', 'resolved']);

    // The lock stays until the last write has ended: the next owner must not miss it.
    expect(await codeOf(InMemQueue.open(storage))).toBe('LOCKED');
    answer();
    await until(
      async () =>
        (await codeOf(storage.lock('queue', { holder: 'test' }).then((l) => l[Symbol.asyncDispose]()))) === 'resolved',
    );
    const again = await InMemQueue.open(storage);
    expect(await takeAll(again)).toEqual(['b']);
    await again.close();
  });

  test('does not close the storage, and works after the storage was closed', async () => {
    const queue = await InMemQueue.open(storage);
    await queue.close();
    await storage.ping();
    const other = await MemoryStorage.open();
    const orphan = await InMemQueue.open(other);
    await other.close();
    await orphan.close();
  });

  test('lets a purge of many pages finish', async () => {
    const slow = hooked(storage);
    const queue = await InMemQueue.open(slow.storage);
    await queue.enqueueMany(Array.from({ length: 2_500 }, () => bytes('x')));
    slow.hook = async (commit) => {
      await turn(5);
      return commit();
    };
    const purging = queue.purge('pending');
    await queue.close();
    expect(await purging).toBe(2_500);
    expect(await storedIds(storage, ROWS)).toEqual([]);
  });
});

describe('bounds', () => {
  test('payloadBytesMax and maxPendingBytes hold, and maxPendingBytes bounds a payload', async () => {
    const queue = await InMemQueue.open(storage, { payloadBytesMax: 100, maxPendingBytes: 10 });
    expect((await queue.stats()).payloadBytesMax).toBe(10);
    expect(await codeOf(queue.enqueue(new Uint8Array(11)))).toBe('PAYLOAD_TOO_LARGE');
    expect(await codeOf(queue.enqueueMany([new Uint8Array(11)]))).toBe('PAYLOAD_TOO_LARGE');
    const overlapping = await Promise.all([1, 2, 3].map(() => codeOf(queue.enqueue(new Uint8Array(4)))));
    expect(overlapping).toEqual(['resolved', 'resolved', 'BACKLOG_FULL']);
    const item = await queue.dequeue();
    expect(await codeOf(queue.enqueue(new Uint8Array(4)))).toBe('BACKLOG_FULL');
    await queue.ack(item?.id as QueueItemId);
    await queue.enqueue(new Uint8Array(4));
    expect(await queue.stats()).toMatchObject({ bytesInMemory: 8, bytesInStorage: 8 });
    await queue.close();
  });

  test('20,000 concurrent enqueues settle, in order', async () => {
    const queue = await InMemQueue.open(storage);
    const ids = await Promise.all(Array.from({ length: 20_000 }, (_, i) => queue.enqueue(bytes(String(i)))));
    expect((await queue.stats()).pending).toBe(20_000);
    const taken = [...(await queue.dequeueMany(10_000, LONG_MS)), ...(await queue.dequeueMany(10_000, LONG_MS))];
    expect(taken.map(({ id }) => id)).toEqual(ids);
    await Promise.all(taken.map(({ id, token }) => queue.ack(id, token)));
    expect(await storedIds(storage, ROWS)).toEqual([]);
    await queue.close();
  });

  test('a replay leaves turns to the event loop', async () => {
    const queue = await InMemQueue.open(storage);
    await queue.enqueueMany(Array.from({ length: 5_000 }, () => bytes('x')));
    await queue.close();
    let turns = 0;
    const counting = setInterval(() => {
      turns += 1;
    }, 0);
    const immediate = () => {
      turns += 1;
      ticking = setImmediate(immediate);
    };
    let ticking = setImmediate(immediate);
    const again = await InMemQueue.open(storage);
    clearInterval(counting);
    clearImmediate(ticking);
    expect(turns).toBeGreaterThanOrEqual(10);
    expect((await again.stats()).pending).toBe(5_000);
    await again.close();
  });
});

describe('purge', () => {
  test('a failed purge keeps what it did not delete, in its place', async () => {
    const failing = hooked(storage);
    const queue = await InMemQueue.open(failing.storage);
    const names = Array.from({ length: 1_500 }, (_, i) => String(i));
    await queue.enqueue(bytes('late'), { delayMs: LONG_MS });
    await queue.enqueueMany(names.map(bytes));
    let commits = 0;
    failing.hook = (commit) => {
      commits += 1;
      return commits === 2 ? Promise.reject(diskFull()) : commit();
    };
    expect(await codeOf(queue.purge('pending'))).toBe('IO_ERROR');
    expect(await queue.stats()).toMatchObject({ pending: 501, delayed: 0 });
    expect(await takeAll(queue)).toEqual(names.slice(999));
    expect(await storedIds(storage, ROWS)).toHaveLength(501);
    await queue.close();
  });

  test('a purge that fails at once keeps the delayed items delayed', async () => {
    const failing = hooked(storage);
    const queue = await InMemQueue.open(failing.storage);
    await queue.enqueue(bytes('late'), { delayMs: LONG_MS });
    await queue.enqueue(bytes('a'));
    failing.hook = () => Promise.reject(diskFull());
    expect(await codeOf(queue.purge('pending'))).toBe('IO_ERROR');
    expect(await queue.stats()).toMatchObject({ pending: 1, delayed: 1 });
    await queue.close();
  });
});

describe('dead letters', () => {
  const failOnce = async (queue: InMemQueue): Promise<void> => {
    const item = await queue.dequeue();
    if (item !== null) await queue.nack(item.id);
  };

  test('row, count and dead letter move in one transaction, and survive a restart', async () => {
    const queue = await InMemQueue.open(storage, { maxAttempts: 2 });
    const id = await queue.enqueue(bytes('poison'));
    await failOnce(queue);
    await failOnce(queue);
    expect(await storedIds(storage, ROWS)).toEqual([id]);
    expect(await queue.dequeue()).toBeNull();
    expect([await storedIds(storage, ROWS), await storedIds(storage, DEAD)]).toEqual([[], [id]]);
    await queue.close();

    const again = await InMemQueue.open(storage, { maxAttempts: 2 });
    expect(await again.stats()).toMatchObject({ pending: 0, deadLetters: 1, bytesInStorage: 6, bytesInMemory: 0 });
    const letters = [];
    for await (const letter of again.deadLetters()) letters.push([letter.id, text(letter), letter.attempts]);
    expect(letters).toEqual([[id, 'poison', 2]]);
    await again.requeue(id);
    expect([await storedIds(storage, ROWS), await storedIds(storage, DEAD), await storedIds(storage, META)]).toEqual([
      [id],
      [],
      [],
    ]);
    await again.close();
  });

  test('an item that kills its process each time reaches the dead letters', async () => {
    const handOvers = [];
    for (let process = 0; process < 5; process += 1) {
      const queue = await InMemQueue.open(storage, { maxAttempts: 3 });
      if (process === 0) await queue.enqueue(bytes('poison'));
      handOvers.push((await queue.dequeueWithLease(LONG_MS))?.attempts ?? 'dead');
      await queue.close(); // without ack or nack: what a crash leaves
    }
    // The first hand-over is the one that a crash takes from the count.
    expect(handOvers).toEqual([1, 1, 2, 3, 'dead']);
  });

  test('a dead letter does not stand in the way of what comes after it', async () => {
    const queue = await InMemQueue.open(storage, { maxAttempts: 1 });
    await queue.enqueueMany(['a', 'b', 'c'].map(bytes));
    await failOnce(queue);
    expect(text(await queue.dequeue())).toBe('b');
    const items = await queue.dequeueMany(10, LONG_MS);
    expect(items.map(text)).toEqual(['c']);
    await queue.close();
  });

  test('a requeue or purge that fails keeps the letter', async () => {
    const failing = hooked(storage);
    const queue = await InMemQueue.open(failing.storage, { maxAttempts: 1 });
    const id = await queue.enqueue(bytes('a'));
    await failOnce(queue);
    await queue.dequeue();
    failing.hook = () => Promise.reject(diskFull());
    expect(await codeOf(queue.requeue(id))).toBe('IO_ERROR');
    expect(await codeOf(queue.purge('dead'))).toBe('IO_ERROR');
    failing.hook = (commit) => commit();
    expect(await queue.stats()).toMatchObject({ deadLetters: 1, pending: 0 });
    await Promise.all([queue.requeue(id), expect(queue.requeue(id)).rejects.toMatchObject({ code: 'ITEM_UNKNOWN' })]);
    expect(await takeAll(queue)).toEqual(['a']);
    await queue.close();
  });

  test('a letter whose row somebody else deleted is an error that says so; a listing leaves it out', async () => {
    const queue = await InMemQueue.open(storage, { maxAttempts: 1 });
    const id = await queue.enqueue(bytes('a'));
    await failOnce(queue);
    await queue.dequeue();
    const txn = storage.begin();
    txn.delete({ namespace: DEAD, path: [id] });
    await txn.commit();
    for await (const letter of queue.deadLetters()) throw new Error(`listed ${letter.id}`);
    expect(await codeOf(queue.requeue(id))).toBe('STORAGE_FORMAT');
    await queue.close();
  });

  test('a listing under way when the queue closes ends with CLOSED', async () => {
    const queue = await InMemQueue.open(storage, { maxAttempts: 1 });
    await queue.enqueueMany(Array.from({ length: 20 }, () => bytes('x')));
    for (let i = 0; i < 21; i += 1) await failOnce(queue);
    const listing = queue.deadLetters()[Symbol.asyncIterator]();
    await listing.next();
    await queue.close();
    const rest = async () => {
      while (!(await listing.next()).done);
    };
    expect(await codeOf(rest())).toBe('CLOSED');
  });
});

describe('delays', () => {
  test('survive a restart, an enqueue’s and a nack’s', async () => {
    const queue = await InMemQueue.open(storage);
    await queue.enqueueMany(['a', 'b'].map(bytes));
    await queue.enqueue(bytes('c'), { delayMs: LONG_MS });
    const a = await queue.dequeueWithLease(LONG_MS);
    await queue.nack(a?.id as QueueItemId, a?.token, { delayMs: LONG_MS });
    expect(await queue.stats()).toMatchObject({ delayed: 2, pending: 1, nackedTotal: 1 });
    await queue.close();

    const clock = jest.spyOn(Date, 'now');
    const again = await InMemQueue.open(storage);
    expect(await again.stats()).toMatchObject({ delayed: 2, pending: 1 });
    await again.close();

    clock.mockReturnValue(Date.now() + LONG_MS + 1);
    const later = await InMemQueue.open(storage);
    expect(await takeAll(later)).toEqual(['a', 'b', 'c']);
    await later.close();
  });

  test('a nack whose delay cannot be stored rejects, and the item stays in flight', async () => {
    const failing = hooked(storage);
    const queue = await InMemQueue.open(failing.storage);
    await queue.enqueue(bytes('a'));
    const item = await queue.dequeueWithLease(LONG_MS);
    if (item === null) throw new Error('nothing pending');
    failing.hook = () => Promise.reject(diskFull());
    expect(await codeOf(queue.nack(item.id, item.token, { delayMs: 10 }))).toBe('IO_ERROR');
    failing.hook = (commit) => commit();
    await queue.ack(item.id, item.token);
    await queue.close();
  });

  test('a receive is woken when a delay ends', async () => {
    const queue = await InMemQueue.open(storage);
    const waiting = queue.receive({ leaseMs: LONG_MS, waitMs: LONG_MS });
    await queue.enqueue(bytes('a'), { delayMs: 20 });
    expect((await waiting).map(text)).toEqual(['a']);
    await queue.close();
  });
});

describe('keys', () => {
  test('a key is stored with its item, survives a restart, and is free after the ack', async () => {
    const queue = await InMemQueue.open(storage);
    const id = await queue.enqueue(bytes('a'), { key: 'k' });
    await queue.close();
    const again = await InMemQueue.open(storage);
    expect(await again.enqueue(bytes('a'), { key: 'k' })).toBe(id);
    expect(await codeOf(again.enqueue(bytes('b'), { key: 'k' }))).toBe('KEY_REUSED');
    await again.dequeue();
    expect(await again.enqueue(bytes('a'), { key: 'k' })).toBe(id);
    await again.ack(id);
    expect(await storedIds(storage, META)).toEqual([]);
    expect(await again.enqueue(bytes('b'), { key: 'k' })).not.toBe(id);
    await again.close();
  });

  test('keyRetentionMs keeps the key after the ack, across a restart, and no longer', async () => {
    const clock = jest.spyOn(Date, 'now');
    const startMs = Date.now();
    clock.mockReturnValue(startMs);
    const open = () => InMemQueue.open(storage, { keyRetentionMs: 1_000 });
    const queue = await open();
    const ids = [];
    for (const key of ['k', 'l', 'm']) {
      const id = await queue.enqueue(bytes('a'), { key });
      await queue.dequeue();
      await queue.ack(id);
      ids.push(id);
    }
    expect(await queue.enqueue(bytes('a'), { key: 'k' })).toBe(ids[0]);
    await queue.close();

    clock.mockReturnValue(startMs + 999);
    const again = await open();
    expect(await again.enqueue(bytes('a'), { key: 'k' })).toBe(ids[0]);
    expect(await again.stats()).toMatchObject({ pending: 0 });
    clock.mockReturnValue(startMs + 1_000);
    expect(await again.enqueue(bytes('other'), { key: 'k' })).not.toBe(ids[0]);
    expect(await storedIds(storage, META)).toHaveLength(1);
    await again.close();
  });

  test('keys whose time was over while the queue was closed are deleted by the next open', async () => {
    const queue = await InMemQueue.open(storage, { keyRetentionMs: 1_000 });
    const id = await queue.enqueue(bytes('a'), { key: 'k' });
    await queue.dequeue();
    await queue.ack(id);
    await queue.close();
    expect(await storedIds(storage, META)).toEqual([id]);
    jest.spyOn(Date, 'now').mockReturnValue(Date.now() + 2_000);
    const again = await InMemQueue.open(storage);
    expect(await storedIds(storage, META)).toEqual([]);
    await again.close();
  });

  test('a keyed enqueue that fails frees the key, and fails those that waited for it', async () => {
    const failing = hooked(storage);
    const queue = await InMemQueue.open(failing.storage);
    failing.hook = () => Promise.reject(diskFull());
    const overlapping = [1, 2].map(() => codeOf(queue.enqueue(bytes('a'), { key: 'k' })));
    expect(await Promise.all(overlapping)).toEqual(['IO_ERROR', 'IO_ERROR']);
    failing.hook = (commit) => commit();
    await queue.enqueue(bytes('b'), { key: 'k' });
    await queue.close();
  });

  test('a failed ack keeps the key; a purge frees it, a dead letter’s too', async () => {
    const failing = hooked(storage);
    const queue = await InMemQueue.open(failing.storage, { keyRetentionMs: 1_000, maxAttempts: 1 });
    const id = await queue.enqueue(bytes('a'), { key: 'k' });
    await queue.dequeue();
    failing.hook = () => Promise.reject(diskFull());
    expect(await codeOf(queue.ack(id))).toBe('IO_ERROR');
    failing.hook = (commit) => commit();
    expect(await queue.enqueue(bytes('a'), { key: 'k' })).toBe(id);
    await queue.nack(id);
    expect(await queue.dequeue()).toBeNull();
    expect(await queue.enqueue(bytes('a'), { key: 'k' })).toBe(id);
    await queue.purge('dead');
    const next = await queue.enqueue(bytes('b'), { key: 'k' });
    expect(next).not.toBe(id);
    await queue.purge('pending');
    expect(await queue.enqueue(bytes('c'), { key: 'k' })).not.toBe(next);
    await queue.close();
  });
});
