/** Who owns a queue, how it opens and closes, and its bounds. */
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { InMemQueue } from '../../../../src/adapters/cloud-local/in-mem-queue.js';
import { MemoryStorage } from '../../../../src/adapters/cloud-local/memory-storage.js';
import {
  FatalError,
  LeaseToken,
  type QueueItemId,
  RecoverableError,
  type Storage,
  type StorageKey,
} from '../../../../src/contracts/index.js';
import { bytes, codeOf, hooked, LONG_MS, storedIds, takeAll, text, turn, until } from './support.js';

const ROWS = 'cloudlocal_queue';
const META = 'cloudlocal_queue_meta';

let storage: Storage;

beforeEach(async () => {
  storage = await MemoryStorage.open();
});

afterEach(async () => {
  jest.restoreAllMocks();
  await storage.close();
});

/** The storage, once whoever had its queue has let go of it. */
async function freed(): Promise<Storage> {
  await until(async () => {
    const lock = await storage.lock('queue', { holder: 'test' }).catch(() => null);
    await lock?.[Symbol.asyncDispose]();
    return lock !== null;
  });
  return storage;
}

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
    expect(await code({ whenFull: 'grow' })).toBe('ARGUMENT_INVALID');
    await expect(InMemQueue.open(storage, { nmae: 'x' } as object)).rejects.toThrow(
      /unknown option "nmae" in options. Known: /,
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
    // Together more than the backlog could ever hold: no retry would help.
    expect(await codeOf(queue.enqueueMany([new Uint8Array(6), new Uint8Array(5)]))).toBe('PAYLOAD_TOO_LARGE');
    const overlapping = await Promise.all([1, 2, 3].map(() => codeOf(queue.enqueue(new Uint8Array(4)))));
    expect(overlapping).toEqual(['resolved', 'resolved', 'BACKLOG_FULL']);
    const item = await queue.dequeue();
    expect(await codeOf(queue.enqueue(new Uint8Array(4)))).toBe('BACKLOG_FULL');
    await queue.ack(item?.id as QueueItemId);
    await queue.enqueue(new Uint8Array(4));
    expect(await queue.stats()).toMatchObject({ bytesInMemory: 8, bytesInStorage: 8 });
    await queue.close();
  });

  test('whenFull "wait": an enqueue waits in turn until there is room, its signal aborts, or the queue closes', async () => {
    const queue = await InMemQueue.open(storage, { maxPendingBytes: 10, whenFull: 'wait' });
    const [first, second] = await queue.enqueueMany(['aaaa', 'bbbb'].map(bytes));
    const done: string[] = [];
    const stop = new AbortController();
    const large = queue.enqueue(bytes('cccc'), { key: 'c' }).then(() => done.push('large'));
    const gaveUp = queue.enqueue(bytes('dddd'), { signal: stop.signal }).catch(({ message }) => done.push(message));
    // It would fit, but came later.
    const small = queue.enqueue(bytes('e')).then(() => done.push('small'));
    // More than there ever could be: nothing to wait for.
    expect(await codeOf(queue.enqueueMany(['ffffff', 'gggggg'].map(bytes)))).toBe('PAYLOAD_TOO_LARGE');
    await turn(5);
    expect(done).toEqual([]);
    stop.abort(new Error('gave up'));
    await gaveUp;
    const item = await queue.dequeue();
    expect(item?.id).toBe(first);
    await queue.ack(first as QueueItemId);
    await Promise.all([large, small]);
    expect(done).toEqual(['gave up', 'large', 'small']);
    // One that stands for an item already needs no room.
    await queue.enqueue(bytes('cccc'), { key: 'c' });
    const late = [codeOf(queue.enqueue(bytes('hh'))), codeOf(queue.enqueueMany([bytes('ii')]))];
    await turn();
    await queue.close();
    expect(await Promise.all(late)).toEqual(['CLOSED', 'CLOSED']);
    const again = await InMemQueue.open(storage);
    expect(second).toBeDefined();
    expect(await takeAll(again)).toEqual(['bbbb', 'cccc', 'e']);
    await again.close();
  });

  test('maxUnflushedBytes: an enqueue waits for the flush of those before it', async () => {
    const held = hooked(storage);
    const queue = await InMemQueue.open(held.storage, { maxUnflushedBytes: 10 });
    const releases: (() => void)[] = [];
    held.hook = async (commit) => {
      await new Promise<void>((resolve) => releases.push(resolve));
      return commit();
    };
    const done: string[] = [];
    const sent = ['aaaa', 'bbbb', 'cccc', 'longer than all'].map((name) =>
      queue.enqueue(bytes(name)).then(() => done.push(name)),
    );
    for (const [flushed, names] of [['aaaa', 'bbbb'], ['cccc'], ['longer than all']].entries()) {
      await until(() => releases.length === flushed + 1);
      expect(done).not.toContain(names[0]);
      releases[flushed]?.();
      await until(() => names.every((name) => done.includes(name)));
    }
    await Promise.all(sent);
    held.hook = (commit) => commit();
    expect(await takeAll(queue)).toEqual(['aaaa', 'bbbb', 'cccc', 'longer than all']);
    await queue.close();
  });

  test('a storage that has no room for now is waited for: the call is made again, with all that it writes', async () => {
    const full = hooked(storage);
    const queue = await InMemQueue.open(full.storage, { closeTimeoutMs: 50 });
    let refusals = 3;
    const refuse = async (commit: () => Promise<boolean>) => {
      refusals -= 1;
      if (refusals < 0) return commit();
      throw new RecoverableError('Throttled', 'too much waits', { code: 'BACKLOG_FULL' });
    };
    full.hook = refuse;
    await Promise.all([queue.enqueue(bytes('a'), { key: 'k' }), queue.enqueue(bytes('b'))]);
    expect(refusals).toBe(-1);
    expect(await storedIds(storage, 'cloudlocal_queue_ids')).toEqual(['mark']);
    // One that never has room costs close no more than its time, and writes nothing after it.
    refusals = Number.POSITIVE_INFINITY;
    const late = codeOf(queue.enqueue(bytes('c')));
    await turn();
    await queue.close();
    expect(await late).toBe('CLOSE_TIMEOUT');
    full.hook = (commit) => commit();
    const again = await InMemQueue.open(await freed());
    expect(await takeAll(again)).toEqual(['a', 'b']);
    await again.close();
  });

  test('payloads beyond memoryBytesMax stay in storage and come in their turn, also after a restart', async () => {
    const options = { memoryBytesMax: 20_000 };
    const item = (i: number) => bytes(String(i).padStart(500, ' '));
    const bounded = async (queue: InMemQueue, pending: number) => {
      const stats = await queue.stats();
      expect(stats).toMatchObject({ pending, bytesInStorage: pending * 500 });
      expect(stats.bytesInMemory).toBeLessThanOrEqual(options.memoryBytesMax);
      expect(stats.bytesInMemory).toBeGreaterThan(0);
    };
    const queue = await InMemQueue.open(storage, options);
    await queue.enqueueMany(Array.from({ length: 300 }, (_, i) => item(i)));
    await bounded(queue, 300);
    await queue.close();
    const again = await InMemQueue.open(storage, options);
    await bounded(again, 300);
    for (let i = 0; i < 300; i += 1) {
      // What is enqueued meanwhile comes after what lies in storage.
      if (i === 150) await again.enqueue(item(300));
      const taken = await again.dequeueWithLease(LONG_MS);
      expect(text(taken)?.trim()).toBe(String(i));
      if (taken !== null) await again.ack(taken.id, taken.token);
      if (i % 50 === 49) await bounded(again, (i < 150 ? 300 : 301) - i - 1);
    }
    expect((await takeAll(again)).map((each) => each?.trim())).toEqual(['300']);
    await again.close();
  });

  test('what it takes to hold delayed and keyed items counts as memory, and leaves half of it to the line', async () => {
    const queue = await InMemQueue.open(storage, { memoryBytesMax: 100_000 });
    await queue.enqueueMany(
      Array.from({ length: 1_000 }, () => new Uint8Array(50)),
      { delayMs: LONG_MS },
    );
    // 280 bytes each, and 250 for each payload that found room.
    expect((await queue.stats()).bytesInMemory).toBeLessThanOrEqual(200 * 50);
    expect(await queue.purge('pending')).toBe(1_000);
    for (let n = 0; n < 800; n += 1) await queue.enqueue(bytes(`${n}`.padStart(50)), { key: `${n}` });
    const { bytesInMemory } = await queue.stats();
    expect(bytesInMemory).toBeLessThan(800 * 50);
    expect(bytesInMemory).toBeGreaterThan(300 * 50);
    expect((await takeAll(queue)).map(Number)).toEqual(Array.from({ length: 800 }, (_, n) => n));
    await queue.close();
  });

  test('a stale ack of an item that lies in storage is refused, also when somebody takes it meanwhile', async () => {
    let looked = () => {};
    const looking = new Promise<void>((resolve) => {
      looked = resolve;
    });
    let answer = () => {};
    const slow: Storage = Object.assign(Object.create(storage), {
      get: async (key: StorageKey) => {
        if (key.namespace !== ROWS) return storage.get(key);
        looked();
        await new Promise<void>((resolve) => {
          answer = resolve;
        });
        return storage.get(key);
      },
    });
    const queue = await InMemQueue.open(slow, { memoryBytesMax: 0 });
    const id = await queue.enqueue(bytes('a'));
    const stale = codeOf(queue.ack(id, LeaseToken.parse('stale')));
    await looking;
    const item = await queue.dequeueWithLease(LONG_MS);
    expect(item?.id).toBe(id);
    answer();
    expect(await stale).toBe('LEASE_LOST');
    await queue.close();
  });

  test('a read that fails rejects the dequeue, and the next one reads again', async () => {
    const failing = Object.create(storage, {
      scan: {
        value: (options: Parameters<Storage['scan']>[0]) => {
          if (broken) throw new Error('unplugged');
          return storage.scan(options);
        },
      },
    }) as Storage;
    let broken = false;
    const queue = await InMemQueue.open(failing, { memoryBytesMax: 0 });
    await queue.enqueueMany(['a', 'b'].map(bytes));
    broken = true;
    await expect(queue.dequeue()).rejects.toThrow('unplugged');
    expect((await queue.stats()).pending).toBe(2);
    broken = false;
    expect(await takeAll(queue)).toEqual(['a', 'b']);
    await queue.close();
  });

  test('an enqueue that was rejected is not read back before a reopen, also after a purge that failed', async () => {
    const hooks = hooked(await MemoryStorage.open());
    const queue = await InMemQueue.open(hooks.storage, { memoryBytesMax: 0 });
    await queue.enqueueMany(['a', 'b'].map(bytes));
    hooks.hook = async (commit) => {
      await commit();
      throw new Error('stored, and taken for failed');
    };
    await expect(queue.enqueue(bytes('rejected'))).rejects.toThrow('taken for failed');
    hooks.hook = () => Promise.reject(new Error('not stored'));
    await expect(queue.purge('pending')).rejects.toThrow('not stored');
    hooks.hook = (commit) => commit();
    await queue.enqueue(bytes('c'));
    expect((await queue.stats()).pending).toBe(3);
    expect(await takeAll(queue)).toEqual(['a', 'b', 'c']);
    await queue.close();
    expect(await takeAll(await InMemQueue.open(hooks.storage))).toEqual(['a', 'b', 'rejected', 'c']);
  });

  test('an item that only storage holds is pending to whoever wants to settle it', async () => {
    const queue = await InMemQueue.open(storage, { memoryBytesMax: 0 });
    const [, id] = await queue.enqueueMany(['a', 'b'].map(bytes));
    expect(await codeOf(queue.ack(id as QueueItemId))).toBe('ITEM_NOT_LEASED');
    expect(await codeOf(queue.nack(id as QueueItemId))).toBe('ITEM_NOT_LEASED');
    expect(await takeAll(queue)).toEqual(['a', 'b']);
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
