/** Dead letters that others take, that a write left in doubt, or of which there is more than a page. */
import { beforeEach, describe, expect, test } from '@jest/globals';
import { InMemQueue } from '../../../../src/adapters/cloud-local/in-mem-queue.js';
import { MemoryStorage } from '../../../../src/adapters/cloud-local/memory-storage.js';
import { type QueueItemId, RecoverableError, type Storage, type StorageKey } from '../../../../src/contracts/index.js';
import { bytes, codeOf, hooked, LONG_MS, storedIds, takeAll, text, turn } from './support.js';

const ROWS = 'cloudlocal_queue';
const META = 'cloudlocal_queue_meta';
const DEAD = 'cloudlocal_queue_dead';
/** Letters read at a time. */
const PAGE = 256;

const OPTIONS = { maxAttempts: 1 } as const;

let storage: MemoryStorage;
beforeEach(() => {
  storage = new MemoryStorage();
});

/** Ids in order, of long ago. */
const idOf = (i: number) => `01A${String(i).padStart(23, '0')}` as QueueItemId;

async function put(rows: readonly (readonly [namespace: string, id: QueueItemId, value: Uint8Array])[]): Promise<void> {
  const txn = storage.begin();
  for (const [namespace, id, value] of rows) txn.put({ namespace, path: [id] }, value);
  await txn.commit();
}

const putLetters = (count: number) =>
  put(Array.from({ length: count }, (_, i) => [DEAD, idOf(i), bytes(`${i}`)] as const));

async function listed(queue: InMemQueue): Promise<(string | null)[]> {
  const texts: (string | null)[] = [];
  for await (const letter of queue.deadLetters()) texts.push(text(letter));
  return texts;
}

/** Enqueues an item and has it fail until it is a dead letter. */
async function die(queue: InMemQueue, payload: string, key?: string): Promise<QueueItemId> {
  const id = await queue.enqueue(bytes(payload), key === undefined ? {} : { key });
  const item = await queue.dequeueWithLease(LONG_MS);
  await queue.nack(id, item?.token);
  expect(await queue.dequeue()).toBeNull();
  return id;
}

/** Commits that take effect, and are taken for failed. */
const applyThenFail = async (commit: () => Promise<boolean>): Promise<boolean> => {
  await commit();
  throw new RecoverableError('Transient', 'EIO', { code: 'IO_ERROR' });
};

/** A storage whose commits wait until they are let go. */
function holding(): { readonly storage: Storage; hold(): void; letGo(): void } {
  const hooks = hooked(storage);
  let letGo = () => {};
  return {
    storage: hooks.storage,
    hold: () => {
      const held = new Promise<void>((resolve) => {
        letGo = resolve;
      });
      hooks.hook = async (commit) => {
        await held;
        return commit();
      };
    },
    letGo: () => {
      hooks.hook = (commit) => commit();
      letGo();
    },
  };
}

describe('a letter whose requeue took effect, and was taken for failed', () => {
  test('is none of the items between which its row lies', async () => {
    await put([
      [ROWS, idOf(0), bytes('a')],
      [DEAD, idOf(1), bytes('b')],
      [ROWS, idOf(2), bytes('c')],
    ]);
    const failing = hooked(storage);
    const queue = await InMemQueue.open(failing.storage, { memoryBytesMax: 0 });
    failing.hook = applyThenFail;
    expect(await codeOf(queue.requeue(idOf(1)))).toBe('IO_ERROR');
    failing.hook = (commit) => commit();
    expect(await queue.stats()).toMatchObject({ pending: 2, deadLetters: 1 });
    await expect(queue.ack(idOf(1))).rejects.toMatchObject({ context: { state: 'a dead letter' } });
    expect(await takeAll(queue)).toEqual(['a', 'c']);
    expect(await listed(queue)).toEqual(['b']);
    await queue.requeue(idOf(1));
    expect(await takeAll(queue)).toEqual(['b']);
    await queue.close();
  });

  test.each([0, PAGE - 1, PAGE, 2 * PAGE, 2 * PAGE + 10])('is listed once, in its place (%d)', async (at) => {
    const count = 2 * PAGE + 11;
    await putLetters(count);
    const failing = hooked(storage);
    const queue = await InMemQueue.open(failing.storage, OPTIONS);
    failing.hook = applyThenFail;
    expect(await codeOf(queue.requeue(idOf(at)))).toBe('IO_ERROR');
    failing.hook = (commit) => commit();
    expect(await listed(queue)).toEqual(Array.from({ length: count }, (_, i) => `${i}`));
    expect(await queue.purge('dead')).toBe(count);
    expect([await storedIds(storage, ROWS), await storedIds(storage, DEAD)]).toEqual([[], []]);
    await queue.close();
  });
});

describe('a purge', () => {
  test('leaves the letter that is being requeued', async () => {
    const held = holding();
    const queue = await InMemQueue.open(held.storage, OPTIONS);
    const ids = [await die(queue, 'a'), await die(queue, 'b')];
    held.hold();
    const requeued = queue.requeue(ids[0] as QueueItemId);
    await turn();
    const purged = queue.purge('dead');
    await turn();
    held.letGo();
    await requeued;
    expect(await purged).toBe(1);
    expect(await queue.stats()).toMatchObject({ deadLetters: 0, pending: 1 });
    expect(await storedIds(storage, ROWS)).toEqual([ids[0]]);
    await queue.close();
  });

  test('deletes no more letters than there were when it began', async () => {
    await putLetters(PAGE + 1);
    const held = holding();
    const queue = await InMemQueue.open(held.storage, OPTIONS);
    const id = await queue.enqueue(bytes('late'));
    const item = await queue.dequeueWithLease(LONG_MS);
    held.hold();
    const purged = queue.purge('dead');
    await turn();
    await queue.nack(id, item?.token);
    const died = queue.dequeue();
    held.letGo();
    expect(await purged).toBe(PAGE + 1);
    expect(await died).toBeNull();
    expect(await listed(queue)).toEqual(['late']);
    await queue.close();
  });
});

describe('a listing', () => {
  test('leaves out what is requeued between two of its letters', async () => {
    await putLetters(3);
    const held = holding();
    const queue = await InMemQueue.open(held.storage, OPTIONS);
    const listing = queue.deadLetters()[Symbol.asyncIterator]();
    expect((await listing.next()).value?.id).toBe(idOf(0));
    held.hold();
    const requeued = queue.requeue(idOf(1));
    await turn();
    expect((await listing.next()).value?.id).toBe(idOf(2));
    held.letGo();
    await requeued;
    await queue.close();
  });

  test('reads a few large letters at a time', async () => {
    const sizes = [3, 4, 5, 9, 1].map((mib) => mib * 2 ** 20);
    await put(sizes.map((size, i) => [DEAD, idOf(i), new Uint8Array(size)] as const));
    const pages: number[] = [];
    const counting: Storage = Object.assign(Object.create(storage), {
      getMany: (keys: readonly StorageKey[]) => {
        pages.push(keys.length);
        return storage.getMany(keys);
      },
    });
    const queue = await InMemQueue.open(counting, OPTIONS);
    const found: number[] = [];
    for await (const { payload } of queue.deadLetters()) found.push(payload.length);
    expect(found).toEqual(sizes);
    // A page ends with the letter that takes it over 8 MiB; the last one is empty.
    expect(pages).toEqual([3, 1, 1, 0]);
    await queue.close();
  });
});

describe('a requeue', () => {
  test('that found no letter, or could not look for one, stands in the way of none that follows', async () => {
    let isFailing = false;
    const failing: Storage = Object.assign(Object.create(storage), {
      getMany: (keys: readonly StorageKey[]) =>
        isFailing
          ? Promise.reject(new RecoverableError('Transient', 'EIO', { code: 'IO_ERROR' }))
          : storage.getMany(keys),
    });
    const queue = await InMemQueue.open(failing, OPTIONS);
    await die(queue, 'a');
    const id = await queue.enqueue(bytes('b'));
    expect(await codeOf(queue.requeue(id))).toBe('ITEM_UNKNOWN');
    const item = await queue.dequeueWithLease(LONG_MS);
    await queue.nack(id, item?.token);
    await queue.dequeue();
    isFailing = true;
    expect(await codeOf(queue.requeue(id))).toBe('IO_ERROR');
    isFailing = false;
    await queue.requeue(id);
    expect(await takeAll(queue)).toEqual(['b']);
    await queue.close();
  });

  test('keeps the key, over a restart, until the item is acked', async () => {
    const queue = await InMemQueue.open(storage, OPTIONS);
    const id = await die(queue, 'a', 'k');
    await queue.close();
    const again = await InMemQueue.open(storage, OPTIONS);
    expect(await again.enqueue(bytes('a'), { key: 'k' })).toBe(id);
    await again.requeue(id);
    await again.close();
    const third = await InMemQueue.open(storage, OPTIONS);
    expect(await third.enqueue(bytes('a'), { key: 'k' })).toBe(id);
    const item = await third.dequeueWithLease(LONG_MS);
    await third.ack(id, item?.token);
    expect(await storedIds(storage, META)).toEqual([]);
    expect(await third.enqueue(bytes('other bytes'), { key: 'k' })).not.toBe(id);
    await third.close();
  });
});
