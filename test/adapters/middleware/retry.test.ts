import { getEventListeners } from 'node:events';
import { describe, expect, test } from '@jest/globals';
import { retry } from '../../../src/adapters/middleware/retry.js';
import { FatalError, ObjectStore, Queue, RecoverableError, Storage } from '../../../src/contracts/index.js';
import { fake } from '../../../src/testing/index.js';
import { contextOf, hostWith, isSettled, transient } from './kit.js';

const layer = (config: object = {}) => [{ use: 'retry', config }];

describe('retry', () => {
  test('waits as long as the error says, then makes the call again', async () => {
    const logged: string[] = [];
    const t = await hostWith('Queue', layer(), logged);
    const queue = await t.get(Queue);
    t.failNext(Queue, 'stats', transient({ kind: 'after', delayMs: 1_000 }), 2);
    const asking = queue.stats();
    await t.clock.advance(999);
    expect(t.calls(Queue)).toHaveLength(1);
    await t.clock.advance(1);
    expect(t.calls(Queue)).toHaveLength(2);
    await t.clock.advance(1_000);
    expect(await asking).toMatchObject({ pending: 0 });
    expect(t.calls(Queue)).toHaveLength(3);
    expect(logged[0]).toMatch(
      /^Queue@1 stats \(adapter local.in-mem\) failed and is tried again in 1000 ms .*IO_ERROR/,
    );
    await t.stop();
  });

  test('backs off for a random time under a bound that doubles, up to its maximum', async () => {
    const waits: number[][] = [];
    for (let run = 0; run < 20; run += 1) {
      const logged: string[] = [];
      const t = await hostWith('Queue', layer({ maxAttempts: 6 }), logged);
      const queue = await t.get(Queue);
      t.failNext(Queue, 'stats', transient({ kind: 'backoff', baseMs: 100, maxMs: 500 }), 5);
      const asking = queue.stats();
      for (let step = 0; step < 5; step += 1) await t.clock.advance(500);
      await asking;
      waits.push(logged.map((line) => Number(/in (\d+) ms/.exec(line)?.[1])));
      await t.stop();
    }
    const largest = [0, 1, 2, 3, 4].map((at) => Math.max(...waits.map((times) => times[at] ?? 0)));
    [100, 200, 400, 500, 500].forEach((boundMs, at) => {
      expect(largest[at]).toBeLessThanOrEqual(boundMs);
      expect(largest[at]).toBeGreaterThan(boundMs / 4);
    });
    expect(new Set(waits.map(([first]) => first)).size).toBeGreaterThan(3);
  });

  test.each([
    ['a hint that it never helps', transient({ kind: 'never' })],
    ['a fatal error', new FatalError('Internal', 'broken')],
    ['an error of another family', new TypeError('a defect')],
  ])('gives up at once on %s, with the error as it was', async (_, error) => {
    const t = await hostWith('Queue', layer());
    const queue = await t.get(Queue);
    t.failNext(Queue, 'stats', error);
    await expect(queue.stats()).rejects.toBe(error);
    expect(t.calls(Queue)).toHaveLength(1);
    await t.stop();
  });

  test('gives up after maxAttempts, and does not begin a wait that maxElapsedMs would cut', async () => {
    const t = await hostWith('Queue', layer({ maxAttempts: 3, maxElapsedMs: 2_500 }));
    const queue = await t.get(Queue);
    t.failNext(Queue, 'stats', transient({ kind: 'after', delayMs: 0 }), 3);
    const failing = expect(queue.stats()).rejects.toMatchObject({ code: 'IO_ERROR' });
    await t.clock.advance(10);
    await failing;
    expect(t.calls(Queue)).toHaveLength(3);
    t.failNext(Queue, 'ack', transient({ kind: 'after', delayMs: 2_501 }));
    await expect(queue.ack('01HZZZZZZZ0000000000000000' as never)).rejects.toMatchObject({ code: 'IO_ERROR' });
    await t.stop();
  });

  test('repeats an enqueue whose outcome is unknown only where its key makes that safe', async () => {
    const t = await hostWith('Queue', layer());
    const queue = await t.get(Queue);
    t.failNext(Queue, 'enqueue', transient());
    await expect(queue.enqueue(Buffer.from('x'))).rejects.toMatchObject({ code: 'IO_ERROR' });
    t.failNext(Queue, 'enqueue', transient());
    const sending = queue.enqueue(Buffer.from('x'), { key: 'k' });
    await t.clock.advance(1_000);
    await sending;
    expect((await queue.stats()).pending).toBe(1);
    await t.stop();
  });

  test('repeats whatever was throttled, which has not taken effect', async () => {
    const t = await hostWith('Queue', layer());
    const queue = await t.get(Queue);
    t.failNext(Queue, 'enqueueMany', transient({ kind: 'after', delayMs: 10 }, 'Throttled'));
    const sending = queue.enqueueMany([Buffer.from('x')]);
    await t.clock.advance(10);
    expect(await sending).toHaveLength(1);
    await t.stop();
  });

  test('repeats what the configuration says is safe besides', async () => {
    const t = await hostWith('Queue', layer({ methods: ['purge'] }));
    const queue = await t.get(Queue);
    t.failNext(Queue, 'purge', transient());
    const purging = queue.purge('pending');
    await t.clock.advance(1_000);
    expect(await purging).toBe(0);
    await t.stop();
  });

  test.each([
    ['retry', { methods: ['enqueu'] }],
    ['timeout', { methods: { enqueu: 1 } }],
  ])('%s tells of a method that the contract does not have', async (use, config) => {
    const t = await hostWith('Queue', [{ use, config }]);
    await expect(t.get(Queue)).rejects.toMatchObject({
      kind: 'ConfigInvalid',
      message: expect.stringContaining(
        `middleware ${use} of Queue#default: config.methods: Queue has no method "enqueu". Did you mean "enqueue"?`,
      ),
    });
    await t.stop();
  });

  test('never repeats what uses something up: a stream that was read, a transaction', async () => {
    const t = await hostWith('Storage', layer({ methods: ['commit'] }));
    const storage = await t.get(Storage);
    t.failNext(Storage, 'commit', transient({ kind: 'after', delayMs: 1 }, 'Throttled'));
    await expect(storage.begin().commit()).rejects.toMatchObject({ code: 'IO_ERROR' });
    await t.stop();

    const store = fake(ObjectStore);
    const config = { maxAttempts: 5, maxElapsedMs: 1_000, methods: ['putStream'] };
    store.failNext('putStream', transient({ kind: 'after', delayMs: 1 }, 'Throttled'));
    const putting = retry(store, contextOf(ObjectStore.id, config)).putStream(new Blob(['x']).stream());
    await expect(putting).rejects.toMatchObject({ code: 'IO_ERROR' });
    expect(store.calls).toHaveLength(1);
  });

  test('opens an iterable again as long as it has given no item', async () => {
    const t = await hostWith('Storage', layer());
    const storage = await t.get(Storage);
    const txn = storage.begin();
    txn.put({ namespace: 'n', path: ['a'] }, Buffer.from('1'));
    await txn.commit();
    t.failNext(Storage, 'scan', transient());
    const scan = storage.scan({ prefix: { namespace: 'n', path: [] } })[Symbol.asyncIterator]();
    const first = scan.next();
    expect(await isSettled(first)).toBe(false);
    await t.clock.advance(1_000);
    expect((await first).value.key.path).toEqual(['a']);
    expect((await scan.next()).done).toBe(true);
    await scan.return?.();
    t.failNext(Storage, 'watch', transient());
    const watch = storage.watch({ namespace: 'n', path: [] })[Symbol.asyncIterator]();
    await expect(watch.next()).rejects.toMatchObject({ code: 'IO_ERROR' });
    await t.stop();
  });

  test('ends the wait with the reason when the call’s signal aborts, and with the error when the host stops', async () => {
    const t = await hostWith('Queue', layer());
    const queue = await t.get(Queue);
    const error = transient();
    t.failNext(Queue, 'receive', error, 2);
    const stop = new AbortController();
    const reason = new Error('changed my mind');
    const asked = queue.receive({ leaseMs: 1, waitMs: 0, signal: stop.signal });
    const refused = expect(asked).rejects.toBe(reason);
    expect(await isSettled(asked)).toBe(false);
    stop.abort(reason);
    await refused;
    const waiting = queue.receive({ leaseMs: 1, waitMs: 0 });
    const ended = expect(waiting).rejects.toBe(error);
    expect(await isSettled(waiting)).toBe(false);
    await t.stop();
    await ended;
    expect(error).toBeInstanceOf(RecoverableError);
  });

  test('has one listener on a signal, however many calls wait: Node warns of a leak at the eleventh', async () => {
    const t = await hostWith('Queue', [...layer(), 'timeout']);
    const queue = await t.get(Queue);
    t.failNext(Queue, 'receive', transient(), 20);
    const stop = new AbortController();
    const listeners = () => getEventListeners(stop.signal, 'abort').length;
    const receive = () => queue.receive({ leaseMs: 1, waitMs: 0, signal: stop.signal });
    const waiting = Promise.allSettled(Array.from({ length: 20 }, receive));
    expect(await isSettled(waiting)).toBe(false);
    expect(listeners()).toBe(1);
    await t.clock.advance(1_000);
    expect(new Set((await waiting).map(({ status }) => status))).toEqual(new Set(['fulfilled']));
    expect(listeners()).toBe(0);
    await t.stop();
  });
});
