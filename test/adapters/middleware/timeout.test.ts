import { describe, expect, test } from '@jest/globals';
import { timeout } from '../../../src/adapters/middleware/timeout.js';
import { isCoreError, ObjectStore, Queue, Storage } from '../../../src/contracts/index.js';
import { fake, TestClock } from '../../../src/testing/index.js';
import { contextOf, hostWith, isSettled } from './kit.js';

const never = () => new Promise<never>(() => {});

function frozen(): TestClock {
  const clock = new TestClock();
  clock.freeze();
  return clock;
}

describe('timeout', () => {
  test('rejects a call that does not answer, says which and how long, and aborts its signal', async () => {
    const clock = frozen();
    const signals: AbortSignal[] = [];
    const slow = Object.assign(Object.create(fake(ObjectStore)), {
      getBytes: (_id: string, { signal }: { signal: AbortSignal }) => {
        signals.push(signal);
        return never();
      },
    }) as ObjectStore;
    const config = { timeoutMs: 500, methods: {} };
    const store = timeout(slow, { ...contextOf(ObjectStore.id, config), clock });
    const reading = store.getBytes('id' as never);
    const failing = reading.catch((error: unknown) => error);
    await clock.advance(499);
    expect(await isSettled(reading)).toBe(false);
    await clock.advance(1);
    const error = await failing;
    expect(isCoreError(error) && error).toMatchObject({
      kind: 'Transient',
      code: 'TIMEOUT',
      message: 'ObjectStore@1 getBytes (adapter test.fake) did not answer within 500 ms',
      context: { method: 'getBytes', timeoutMs: 500 },
    });
    expect(signals[0]?.reason).toBe(error);
  });

  test('keeps the signal of the caller, which aborts with its own reason', async () => {
    const t = await hostWith('Queue', ['timeout']);
    const queue = await t.get(Queue);
    const stop = new AbortController();
    const waiting = queue.receive({ leaseMs: 1, waitMs: 1_000, signal: stop.signal });
    const reason = new Error('changed my mind');
    const refused = expect(waiting).rejects.toBe(reason);
    await isSettled(waiting);
    stop.abort(reason);
    await refused;
    await t.stop();
  });

  test('holds on to a caller’s signal for as long as the call lasts, and of a stream as long as that is read', async () => {
    const stop = new AbortController();
    const { signal } = stop;
    let held = 0;
    const [add, remove] = [signal.addEventListener.bind(signal), signal.removeEventListener.bind(signal)];
    signal.addEventListener = (...args: Parameters<typeof add>) => {
      held += 1;
      add(...args);
    };
    signal.removeEventListener = (...args: Parameters<typeof remove>) => {
      held -= 1;
      remove(...args);
    };
    const given: AbortSignal[] = [];
    const note = (options: { signal: AbortSignal }) => void given.push(options.signal);
    const real = fake(ObjectStore);
    const [first, second] = [await real.putBytes(Buffer.from('1')), await real.putBytes(Buffer.from('2'))];
    const noting = Object.assign(Object.create(real), {
      getBytes: async (_: string, options: never) => note(options),
      getStream: async (_: string, options: never) => note(options),
      list: (options: never) => {
        note(options);
        return real.list();
      },
    }) as ObjectStore;
    const clock = frozen();
    const store = timeout(noting, { ...contextOf(ObjectStore.id, { timeoutMs: 500, methods: {} }), clock });
    const reading = store.getBytes(first, { signal });
    expect(held).toBe(1);
    await reading;
    expect(held).toBe(0);
    for await (const id of store.list({ signal })) {
      expect([first, second]).toContain(id);
      expect(held).toBe(1);
      break;
    }
    for await (const id of store.list({ signal })) expect([first, second]).toContain(id);
    expect(held).toBe(0);
    await store.getStream(first, { signal });
    stop.abort(new Error('changed my mind'));
    expect(given.map(({ aborted }) => aborted)).toEqual([false, false, false, true]);
    await store.getBytes(first, { signal });
    expect(given.at(-1)?.reason).toBe(signal.reason);
  });

  test('gives receive what it was told to wait, and its time besides', async () => {
    const t = await hostWith('Queue', [{ use: 'timeout', config: { timeoutMs: 100 } }]);
    const queue = await t.get(Queue);
    const waiting = queue.receive({ leaseMs: 1, waitMs: 60_000 });
    await t.clock.advance(60_000);
    expect(await waiting).toEqual([]);
    await t.stop();
  });

  test('has other times for single methods, and none where it is 0', async () => {
    const clock = frozen();
    const slow = Object.assign(Object.create(fake(Queue)), { stats: never, purge: never }) as Queue;
    const config = { timeoutMs: 500, methods: { stats: 0, purge: 5 } };
    const queue = timeout(slow, { ...contextOf(Queue.id, config), clock });
    const asking = queue.stats();
    const purging = expect(queue.purge('pending')).rejects.toMatchObject({ code: 'TIMEOUT' });
    await clock.advance(5);
    await purging;
    await clock.advance(3_600_000);
    expect(await isSettled(asking)).toBe(false);
  });

  test('gives each item of an iterable the time, and a watch none', async () => {
    const clock = frozen();
    let returned = 0;
    const items = {
      [Symbol.asyncIterator]: () => ({
        count: 0,
        async next() {
          this.count += 1;
          return this.count < 3 ? { done: false, value: this.count } : never();
        },
        async return() {
          returned += 1;
          return { done: true, value: undefined };
        },
      }),
    };
    const slow = Object.assign(Object.create(fake(Storage)), { scan: () => items, watch: () => items }) as Storage;
    const storage = timeout(slow, { ...contextOf(Storage.id, { timeoutMs: 500, methods: {} }), clock });
    const scan = storage.scan({ prefix: { namespace: 'n', path: [] } })[Symbol.asyncIterator]();
    await scan.next();
    await clock.advance(499);
    await scan.next();
    await clock.advance(499);
    const third = expect(scan.next()).rejects.toMatchObject({ code: 'TIMEOUT', context: { method: 'scan' } });
    await clock.advance(500);
    await third;
    expect(returned).toBe(1);
    const watch = storage.watch({ namespace: 'n', path: [] })[Symbol.asyncIterator]();
    await watch.next();
    await watch.next();
    const change = watch.next();
    await clock.advance(3_600_000);
    expect(await isSettled(change)).toBe(false);
  });

  test('bounds the end of an iterable, whose signal it aborts, and takes a late one', async () => {
    const clock = frozen();
    let signal: AbortSignal | undefined;
    let end = () => {};
    const items = {
      [Symbol.asyncIterator]: () => ({
        next: async () => ({ done: false, value: 1 }),
        return: () =>
          new Promise((resolve) => {
            end = () => resolve({ done: true, value: undefined });
          }),
      }),
    };
    const list = (options?: { signal?: AbortSignal }) => {
      signal = options?.signal;
      return items;
    };
    const slow = Object.assign(Object.create(fake(ObjectStore)), { list }) as ObjectStore;
    const store = timeout(slow, { ...contextOf(ObjectStore.id, { timeoutMs: 500, methods: {} }), clock });
    const reading = async () => {
      for await (const _ of store.list()) break;
    };
    const ended = expect(reading()).rejects.toMatchObject({ code: 'TIMEOUT', context: { method: 'list' } });
    await isSettled(never());
    await clock.advance(500);
    await ended;
    expect(signal?.reason).toMatchObject({ code: 'TIMEOUT' });
    end();
    const quick = reading();
    await isSettled(never());
    end();
    await quick;
  });

  test('loses nothing by a late answer: items go back, streams are cancelled, locks freed', async () => {
    const clock = frozen();
    const config = { timeoutMs: 500, methods: {} };
    let answer = () => {};
    const held = <T>(make: () => Promise<T>): Promise<T> =>
      new Promise((resolve) => {
        answer = () => resolve(make());
      });

    const queue = fake(Queue);
    await queue.enqueueMany(['a', 'b', 'c'].map((text) => Buffer.from(text)));
    const slowQueue = Object.assign(Object.create(queue), {
      dequeueMany: (max: number, leaseMs: number) => held(() => queue.dequeueMany(max, leaseMs)),
      nack: (...args: Parameters<Queue['nack']>) => queue.nack(...args),
    }) as Queue;
    const limited = timeout(slowQueue, { ...contextOf(Queue.id, config), clock });
    const taking = expect(limited.dequeueMany(2, 60_000)).rejects.toMatchObject({ code: 'TIMEOUT' });
    await clock.advance(500);
    await taking;
    answer();
    await isSettled(never());
    expect(await queue.stats()).toMatchObject({ pending: 3, inFlight: 0 });
    const again = await queue.dequeueMany(3, 1_000);
    expect(again.map(({ payload }) => Buffer.from(payload).toString())).toEqual(['a', 'b', 'c']);

    let cancelled = 0;
    const stream = new ReadableStream({
      cancel() {
        cancelled += 1;
      },
    });
    const slowStore = Object.assign(Object.create(fake(ObjectStore)), { getStream: () => held(async () => stream) });
    const store = timeout(slowStore as ObjectStore, { ...contextOf(ObjectStore.id, config), clock });
    const opening = expect(store.getStream('x' as never)).rejects.toMatchObject({ code: 'TIMEOUT' });
    await clock.advance(500);
    await opening;
    answer();
    await isSettled(never());
    expect(cancelled).toBe(1);

    const storage = fake(Storage);
    const slowStorage = Object.assign(Object.create(storage), {
      lock: (...args: Parameters<Storage['lock']>) => held(() => storage.lock(...args)),
    }) as Storage;
    const guarded = timeout(slowStorage, { ...contextOf(Storage.id, config), clock });
    const locking = expect(guarded.lock('x', { holder: 'test' })).rejects.toMatchObject({ code: 'TIMEOUT' });
    await clock.advance(500);
    await locking;
    answer();
    await isSettled(never());
    await storage.lock('x', { holder: 'after' });
  });
});
