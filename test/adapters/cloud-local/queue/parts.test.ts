import { afterEach, describe, expect, jest, test } from '@jest/globals';
import fc from 'fast-check';
import { MemoryStorage } from '../../../../src/adapters/cloud-local/memory-storage.js';
import { Commits } from '../../../../src/adapters/cloud-local/queue/commits.js';
import { Deadlines } from '../../../../src/adapters/cloud-local/queue/deadlines.js';
import { Deque } from '../../../../src/adapters/cloud-local/queue/deque.js';
import { idsAfter, idTimeMs, lastIdOf } from '../../../../src/adapters/cloud-local/queue/ids.js';
import { Item, Items, Memory } from '../../../../src/adapters/cloud-local/queue/items.js';
import { Slab } from '../../../../src/adapters/cloud-local/queue/slab.js';
import { Waiters } from '../../../../src/adapters/cloud-local/queue/waiters.js';
import { QueueItemId } from '../../../../src/contracts/ids.js';
import type { StorageTxn } from '../../../../src/contracts/storage.js';
import { hooked, turn, until } from './support.js';

afterEach(() => {
  jest.restoreAllMocks();
});

describe('Deque', () => {
  test('does what an array does, whatever the order of pushes and pops', () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constant('back' as const), times: fc.integer({ min: 1, max: 40 }) }),
      fc.record({ kind: fc.constant('front' as const), times: fc.integer({ min: 1, max: 40 }) }),
      fc.record({ kind: fc.constant('pop' as const), times: fc.integer({ min: 1, max: 60 }) }),
      fc.record({ kind: fc.constant('insert' as const), times: fc.integer({ min: 1, max: 20 }) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const deque = new Deque<number>();
        const model: number[] = [];
        let n = 0;
        for (const { kind, times } of steps) {
          for (let i = 0; i < times; i += 1, n += 1) {
            if (kind === 'back') {
              deque.pushBack(n);
              model.push(n);
            } else if (kind === 'front') {
              deque.pushFront(n);
              model.unshift(n);
            } else if (kind === 'insert') {
              const index = (n * 7) % (model.length + 1);
              deque.insert(index, n);
              model.splice(index, 0, n);
              expect([...deque]).toEqual(model);
              expect(deque.at(index)).toBe(n);
            } else {
              expect(deque.front).toBe(model[0]);
              expect(deque.popFront()).toBe(model.shift());
            }
            expect(deque.size).toBe(model.length);
          }
        }
      }),
    );
  });
});

describe('Deadlines', () => {
  test('yields what is due, earliest first, after any sets, moves and deletes', () => {
    const step = fc.record({ element: fc.nat(19), atMs: fc.integer({ min: 0, max: 1_000 }), remove: fc.boolean() });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 100 }), fc.nat(1_000), (steps, nowMs) => {
        const deadlines = new Deadlines<Item>(() => undefined);
        const elements = Array.from(
          { length: 20 },
          () => new Item(QueueItemId.parse('0'.repeat(26)), new Uint8Array()),
        );
        const model = new Map<Item, number>();
        for (const { element, atMs, remove } of steps) {
          const item = elements[element] as Item;
          if (remove) {
            deadlines.delete(item);
            model.delete(item);
          } else {
            deadlines.set(item, atMs);
            model.set(item, atMs);
          }
        }
        const due = [...model.values()].filter((atMs) => atMs <= nowMs).sort((a, b) => a - b);
        expect(deadlines.takeDue(nowMs).map(({ dueAtMs }) => dueAtMs)).toEqual(due);
        expect(deadlines.takeDue(1_001)).toHaveLength(model.size - due.length);
        deadlines.stop();
      }),
    );
  });

  test('one timer serves all, and follows the earliest', () => {
    jest.useFakeTimers();
    try {
      const fired: number[] = [];
      const deadlines = new Deadlines<Item>(() => {
        fired.push(...deadlines.takeDue(performance.now()).map(({ dueAtMs }) => dueAtMs));
      });
      const startMs = performance.now();
      for (const afterMs of [300, 100, 200]) {
        deadlines.set(new Item(QueueItemId.parse('0'.repeat(26)), new Uint8Array()), startMs + afterMs);
        expect(jest.getTimerCount()).toBe(1);
      }
      jest.advanceTimersByTime(250);
      expect(fired.map((atMs) => atMs - startMs)).toEqual([100, 200]);
      jest.advanceTimersByTime(100);
      expect(fired).toHaveLength(3);
      expect(jest.getTimerCount()).toBe(0);
    } finally {
      jest.useRealTimers();
    }
  });
});

describe('ids', () => {
  test('rise within a millisecond, and when the clock steps back', () => {
    const clock = jest.spyOn(Date, 'now').mockReturnValue(1_700_000_000_000);
    const next = idsAfter(null);
    const ids = Array.from({ length: 1_000 }, next);
    clock.mockReturnValue(1_600_000_000_000);
    ids.push(next(), next());
    clock.mockReturnValue(1_700_000_000_001);
    ids.push(next());
    expect([...ids].sort()).toEqual(ids);
    expect(new Set(ids).size).toBe(ids.length);
    expect(idTimeMs(ids[0] as QueueItemId)).toBe(1_700_000_000_000);
  });

  test('start above the largest id known, also one from the future', () => {
    const future = QueueItemId.parse('7ZZZZZZZZY0000000000000000');
    const next = idsAfter(future);
    const [one, other] = [next(), next()];
    expect(one > future).toBe(true);
    expect(other > one).toBe(true);
  });

  test('the last one of a millisecond is after all of it, and before the next', () => {
    expect([0, 1_700_000_000_000].map((ms) => idTimeMs(lastIdOf(ms)))).toEqual([0, 1_700_000_000_000]);
    const id = idsAfter(null)();
    expect(lastIdOf(idTimeMs(id)) > id).toBe(true);
    expect(lastIdOf(idTimeMs(id) - 1) < id).toBe(true);
  });

  test('an id that none can follow is refused, naming it', () => {
    expect(() => idsAfter(QueueItemId.parse('7ZZZZZZZZZ0000000000000000'))).toThrow(/7ZZZZZZZZZ0000000000000000/);
  });
});

describe('Commits', () => {
  test('what is asked for while a transaction is under way is the next one, and answers come in the order of calls', async () => {
    const storage = await MemoryStorage.open();
    const held = hooked(storage);
    let release = () => {};
    const transactions: number[] = [];
    held.hook = (commit) =>
      new Promise((resolve, reject) => {
        transactions.push(0);
        release = () => commit().then(resolve, reject);
      });
    const commits = new Commits(held.storage, 1_000);
    const answers: string[] = [];
    const write = (name: string) =>
      commits
        .write((txn) => {
          txn.put({ namespace: 'n', path: [name] }, new Uint8Array());
        })
        .then(() => answers.push(name));
    const all = [write('a'), write('b')];
    await turn();
    expect(transactions).toHaveLength(1);
    all.push(write('c'), write('d'), write('e'));
    release();
    await until(() => transactions.length === 2);
    expect(answers).toEqual(['a', 'b']);
    release();
    await Promise.all(all);
    expect(answers).toEqual(['a', 'b', 'c', 'd', 'e']);
    expect(transactions).toHaveLength(2);
    await storage.close();
  });

  test('a transaction that fails, fails its own calls; the next one is another', async () => {
    const storage = await MemoryStorage.open();
    const failing = hooked(storage);
    failing.hook = () => Promise.reject(new Error('disk full'));
    const commits = new Commits(failing.storage, 1_000);
    const put = (txn: StorageTxn) => txn.put({ namespace: 'n', path: ['a'] }, new Uint8Array());
    const outcomes = await Promise.allSettled([commits.write(put), commits.write(put)]);
    expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    failing.hook = (commit) => commit();
    await commits.write(put);
    await storage.close();
  });
});

describe('Slab', () => {
  test('gives back what went in, first in first out, whatever the sizes; and knows which ids it holds', () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constant('push' as const), length: fc.oneof(fc.nat(200), fc.nat(100_000)) }),
      fc.record({ kind: fc.constant('pop' as const), length: fc.constant(0) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
        const slab = new Slab();
        const next = idsAfter(null);
        const gone: QueueItemId[] = [];
        const model: { id: QueueItemId; payload: Uint8Array }[] = [];
        for (const { kind, length } of steps) {
          if (kind === 'push') {
            const entry = { id: next(), payload: new Uint8Array(length).fill(model.length + 1) };
            slab.push(entry.id, entry.payload);
            model.push(entry);
          } else {
            const first = model.shift();
            expect(slab.frontId).toBe(first?.id ?? null);
            if (first === undefined) continue;
            expect(Buffer.compare(slab.popPayload(), first.payload)).toBe(0);
            gone.push(first.id);
          }
          expect(slab.size).toBe(model.length);
          expect(slab.payloadBytes).toBe(model.reduce((sum, { payload }) => sum + payload.length, 0));
        }
        expect(model.every(({ id }) => slab.has(id))).toBe(true);
        expect([...gone, next()].some((id) => slab.has(id))).toBe(false);
      }),
    );
  });
});

describe('Items', () => {
  test('keep of a payload no more than its bytes, however large the buffer that it is a part of', () => {
    const items = new Items(new Memory(1_000));
    const item = new Item(
      QueueItemId.parse('01ARZ3NDEKTSV4RRFFQ69G5FAV'),
      new Uint8Array(16_384).fill(7, 9).subarray(8, 12),
    );
    items.add(item, 'delayed');
    expect(item.payload).toEqual(Uint8Array.of(0, 7, 7, 7));
    expect(item.payload?.buffer.byteLength).toBe(4);
  });

  test('count what it takes to hold them, and their keys, until they are gone', () => {
    const memory = new Memory(10_000);
    const items = new Items(memory);
    const [plain, keyed] = ['0', '1'].map((id) => new Item(QueueItemId.parse(id.repeat(26)), new Uint8Array(5)));
    if (plain === undefined || keyed === undefined) throw new Error('two were made');
    keyed.key = { key: 'k', id: keyed.id, digest: '', untilMs: 0, storing: null };
    items.add(plain, 'claiming');
    const plainBytes = memory.objectBytes;
    expect(plainBytes).toBeGreaterThan(0);
    items.add(keyed, 'claiming');
    expect(memory.objectBytes - plainBytes).toBeGreaterThan(plainBytes);
    expect(memory.payloadBytesMax).toBe(10_000 - memory.objectBytes);
    items.move(keyed, 'gone');
    expect(memory.objectBytes).toBe(plainBytes);
    items.move(plain, 'gone');
    expect([memory.objectBytes, memory.bytes]).toEqual([0, 0]);
  });

  test('a change of state that the sketch does not show is refused', () => {
    const items = new Items(new Memory(0));
    const item = new Item(QueueItemId.parse('0'.repeat(26)), new Uint8Array(5));
    items.add(item, 'pending');
    expect(() => items.move(item, 'acking')).toThrow('cannot go from pending to acking');
    expect([items.count('pending'), items.bytes]).toEqual([1, 5]);
  });
});

describe('Waiters', () => {
  test('wakes those who came first, once each, and nobody after close', async () => {
    const waiters = new Waiters();
    const woken: string[] = [];
    const wait = async (name: string) => {
      if (await waiters.wait(performance.now() + 60_000, undefined)) woken.push(name);
    };
    const all = [wait('a'), wait('b'), wait('c')];
    waiters.wake(2);
    waiters.close();
    await Promise.all([...all, wait('d')]);
    expect(woken).toEqual(['a', 'b']);
  });
});
