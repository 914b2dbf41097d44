/** Purging, and what dead letters, delays and keys leave in storage, restarts and failed writes included. */
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { InMemQueue } from '../../../../src/adapters/cloud-local/in-mem-queue.js';
import { MemoryStorage } from '../../../../src/adapters/cloud-local/memory-storage.js';
import { type QueueItemId, RecoverableError, type Storage, type StorageKey } from '../../../../src/contracts/index.js';
import { bytes, codeOf, heapBytes, hooked, LONG_MS, storedIds, takeAll, text, turn, until } from './support.js';

const ROWS = 'cloudlocal_queue';
const META = 'cloudlocal_queue_meta';
const DEAD = 'cloudlocal_queue_dead';

/** Ids in order, of long ago. */
const idsFrom = (count: number) =>
  Array.from({ length: count }, (_, i) => `01A${String(i).padStart(23, '0')}` as QueueItemId);

const diskFull = () =>
  new RecoverableError('Transient', 'could not commit: ENOSPC, the disk is full', { code: 'IO_ERROR' });

/** The commit takes effect, and nobody is told. */
const applyThenFail = async (commit: () => Promise<boolean>): Promise<boolean> => {
  await commit();
  throw diskFull();
};

let storage: Storage;

beforeEach(async () => {
  storage = await MemoryStorage.open();
});

afterEach(async () => {
  jest.restoreAllMocks();
  await storage.close();
});

describe('purge', () => {
  test('a purge deletes what is delayed and what is pending, also more than fit into one transaction', async () => {
    const queue = await InMemQueue.open(storage);
    await queue.enqueueMany(
      Array.from({ length: 1_500 }, () => bytes('late')),
      { delayMs: LONG_MS },
    );
    await queue.enqueueMany(Array.from({ length: 700 }, () => bytes('x')));
    expect(await queue.purge('pending')).toBe(2_200);
    expect(await queue.stats()).toMatchObject({ pending: 0, delayed: 0, bytesInStorage: 0 });
    expect(await storedIds(storage, ROWS)).toEqual([]);
    await queue.close();
  });

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
      const crashing = hooked(storage);
      const queue = await InMemQueue.open(crashing.storage, { maxAttempts: 3 });
      if (process === 0) await queue.enqueue(bytes('poison'));
      handOvers.push((await queue.dequeueWithLease(LONG_MS))?.attempts ?? 'dead');
      // What a crash leaves: nothing is written any more.
      crashing.hook = () => Promise.reject(diskFull());
      await queue.close();
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

  test.each(['requeue', 'purge'])('while a %s is being written, the letter is still no unknown id', async (how) => {
    const held = hooked(storage);
    const queue = await InMemQueue.open(held.storage, { maxAttempts: 1 });
    const id = await queue.enqueue(bytes('a'));
    const item = await queue.dequeueWithLease(1);
    await until(async () => (await queue.stats()).pending === 1);
    await queue.dequeue();
    let release = () => {};
    held.hook = async (commit) => {
      await new Promise<void>((resolve) => {
        release = resolve;
      });
      return commit();
    };
    const writing = how === 'requeue' ? queue.requeue(id) : queue.purge('dead');
    await turn();
    expect(await codeOf(queue.ack(id, item?.token))).toBe('LEASE_LOST');
    expect(await codeOf(queue.nack(id, item?.token))).toBe('LEASE_LOST');
    expect(await codeOf(queue.ack(id))).toBe('ITEM_NOT_LEASED');
    release();
    await writing;
    // Requeued, it is held by nobody; purged, it is unknown, and an ack of that resolves.
    expect(await codeOf(queue.ack(id, item?.token))).toBe(how === 'requeue' ? 'LEASE_LOST' : 'resolved');
    await queue.close();
  });

  test('a requeue that took effect and failed can be repeated, or its letter purged', async () => {
    const failing = hooked(storage);
    const queue = await InMemQueue.open(failing.storage, { maxAttempts: 1 });
    const ids = await queue.enqueueMany(['a', 'b'].map(bytes));
    for (let i = 0; i < 3; i += 1) await failOnce(queue);
    failing.hook = applyThenFail;
    for (const id of ids) expect(await codeOf(queue.requeue(id))).toBe('IO_ERROR');
    failing.hook = (commit) => commit();
    await queue.requeue(ids[0] as QueueItemId);
    expect(await queue.purge('dead')).toBe(1);
    await queue.close();
    const again = await InMemQueue.open(storage);
    expect(await takeAll(again)).toEqual(['a']);
    expect((await again.stats()).deadLetters).toBe(0);
    await again.close();
  });

  test('an item that became a dead letter by a write that failed can be purged for good', async () => {
    const failing = hooked(storage);
    const queue = await InMemQueue.open(failing.storage, { maxAttempts: 1 });
    await queue.enqueue(bytes('a'));
    await failOnce(queue);
    failing.hook = applyThenFail;
    expect(await codeOf(queue.dequeue())).toBe('IO_ERROR');
    failing.hook = (commit) => commit();
    expect(await queue.purge('pending')).toBe(1);
    expect([await storedIds(storage, DEAD), await storedIds(storage, META)]).toEqual([[], []]);
    await queue.close();
  });

  test('a letter whose row somebody else deleted is none any more', async () => {
    const queue = await InMemQueue.open(storage, { maxAttempts: 1 });
    const id = await queue.enqueue(bytes('a'));
    await failOnce(queue);
    await queue.dequeue();
    const txn = storage.begin();
    txn.delete({ namespace: DEAD, path: [id] });
    await txn.commit();
    for await (const letter of queue.deadLetters()) throw new Error(`listed ${letter.id}`);
    expect(await codeOf(queue.requeue(id))).toBe('ITEM_UNKNOWN');
    await queue.close();
  });

  test('take no memory: 50,000 of them are counted, and read page by page', async () => {
    const ids = idsFrom(50_000);
    for (let at = 0; at < ids.length; at += 5_000) {
      const txn = storage.begin();
      for (const id of ids.slice(at, at + 5_000)) {
        txn.put({ namespace: DEAD, path: [id] }, bytes('x'));
        txn.put({ namespace: META, path: [id] }, bytes('{"attempts":3}'));
      }
      await txn.commit();
    }
    let rowsAtOnce = 0;
    const counting: Storage = Object.assign(Object.create(storage), {
      getMany: (keys: readonly StorageKey[]) => {
        rowsAtOnce = Math.max(rowsAtOnce, keys.length);
        return storage.getMany(keys);
      },
    });
    const before = heapBytes();
    const queue = await InMemQueue.open(counting, { maxAttempts: 3 });
    // 170 bytes for each of them were 8 MB.
    expect(heapBytes() - before).toBeLessThan(3_000_000);
    expect(await queue.stats()).toMatchObject({ deadLetters: ids.length, bytesInStorage: ids.length });
    const found: string[] = [];
    const attempts = new Set<number>();
    for await (const letter of queue.deadLetters()) {
      found.push(letter.id);
      attempts.add(letter.attempts);
    }
    expect(found).toEqual(ids);
    expect([...attempts]).toEqual([3]);
    expect(rowsAtOnce).toBeLessThanOrEqual(256);
    await queue.requeue(ids[7] as QueueItemId);
    expect(await codeOf(queue.requeue(ids[7] as QueueItemId))).toBe('ITEM_UNKNOWN');
    expect(await queue.purge('dead')).toBe(ids.length - 1);
    expect(await queue.stats()).toMatchObject({ deadLetters: 0, pending: 1, bytesInStorage: 1 });
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

  test('are no longer than they were when the clock has been set back before a restart', async () => {
    const queue = await InMemQueue.open(storage);
    await queue.enqueueMany(['nacked', 'taken'].map(bytes), { delayMs: 1 });
    await until(async () => (await queue.stats()).pending === 2);
    const [nacked] = await queue.dequeueMany(2, LONG_MS);
    await queue.nack(nacked?.id as QueueItemId, nacked?.token, { delayMs: 50 });
    await queue.enqueue(bytes('late'), { delayMs: 50 });
    await queue.close();

    const hourAgoMs = Date.now() - 3_600_000;
    jest.spyOn(Date, 'now').mockImplementation(() => hourAgoMs);
    const again = await InMemQueue.open(storage);
    expect(await again.stats()).toMatchObject({ pending: 1, delayed: 2 });
    await until(async () => (await again.stats()).pending === 3);
    await again.close();
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

  test.each(['the same', 'other'])(
    'an enqueue that took effect and failed, repeated with %s bytes: one item',
    async (b) => {
      const failing = hooked(storage);
      const queue = await InMemQueue.open(failing.storage);
      failing.hook = applyThenFail;
      expect(await codeOf(queue.enqueue(bytes('a'), { key: 'k' }))).toBe('IO_ERROR');
      failing.hook = () => Promise.reject(diskFull());
      expect(await codeOf(queue.enqueue(bytes('a'), { key: 'k' }))).toBe('IO_ERROR');
      failing.hook = (commit) => commit();
      const between = await queue.enqueue(bytes('between'));
      const payload = b === 'other' ? 'b' : 'a';
      const id = await queue.enqueue(bytes(payload), { key: 'k' });
      expect(await queue.enqueue(bytes(payload), { key: 'k' })).toBe(id);
      expect(await storedIds(storage, ROWS)).toEqual([id, between]);
      // Now it came second; the next opening goes by the ids.
      expect(await takeAll(queue)).toEqual(['between', payload]);
      await queue.close();
      const again = await InMemQueue.open(storage);
      expect(await again.enqueue(bytes(payload), { key: 'k' })).toBe(id);
      expect(await takeAll(again)).toEqual([payload, 'between']);
      await again.close();
    },
  );

  test('the ids of the last 10,000 failed keys are remembered; one turned away by a full backlog has none', async () => {
    const failing = hooked(storage);
    const queue = await InMemQueue.open(failing.storage, { maxPendingBytes: 10_001 });
    failing.hook = applyThenFail;
    const keys = Array.from({ length: 10_001 }, (_, i) => String(i));
    await Promise.all(keys.map((key) => codeOf(queue.enqueue(bytes('a'), { key }))));
    failing.hook = (commit) => commit();
    const [first, second, ...rest] = await storedIds(storage, ROWS);
    expect(rest).toHaveLength(9_999);
    expect(await queue.enqueue(bytes('a'), { key: '1' })).toBe(second);
    await queue.enqueue(new Uint8Array(10_000));
    expect(await codeOf(queue.enqueue(bytes('a'), { key: 'new' }))).toBe('BACKLOG_FULL');
    expect(await codeOf(queue.enqueue(bytes('a'), { key: '0' }))).toBe('BACKLOG_FULL');
    await queue.purge('pending');
    expect(await queue.enqueue(bytes('a'), { key: '0' })).not.toBe(first);
    expect(await queue.enqueue(bytes('a'), { key: '2' })).toBe(rest[0]);
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
