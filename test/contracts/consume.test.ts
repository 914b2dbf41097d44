import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { InMemQueue } from '../../src/adapters/cloud-local/in-mem-queue.js';
import { MemoryStorage } from '../../src/adapters/cloud-local/memory-storage.js';
import {
  checked,
  consume,
  deliveries,
  drain,
  type Queue,
  type QueueItem,
  Queue as QueueToken,
  RecoverableError,
  type Storage,
} from '../../src/contracts/index.js';

let storage: Storage;
let queue: InMemQueue;
let stop: AbortController;

beforeEach(async () => {
  storage = await MemoryStorage.open();
  queue = await InMemQueue.open(storage);
  stop = new AbortController();
});

afterEach(async () => {
  await queue.close();
  await storage.close();
});

const busy = () => new RecoverableError('Transient', 'the storage is busy', { code: 'IO_ERROR' });

function send(...texts: string[]): Promise<unknown> {
  return queue.enqueueMany(texts.map((text) => Buffer.from(text)));
}

function text({ payload }: QueueItem): string {
  return Buffer.from(payload).toString();
}

function turn(ms = 0): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  for (const limitMs = performance.now() + 10_000; !(await condition()); await turn(2)) {
    if (performance.now() > limitMs) throw new Error('waited for 10 s in vain');
  }
}

/** Ends only by its signal, as a handler that hangs. */
function hang(_item: QueueItem, signal: AbortSignal): Promise<void> {
  return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
}

/** The queue with some calls replaced. */
function withCalls(calls: Partial<Queue>): Queue {
  return new Proxy<Queue>(queue, {
    get(target, property) {
      const value: unknown = Reflect.get(calls, property) ?? Reflect.get(target, property);
      return value;
    },
  });
}

describe('consume', () => {
  test('works until the signal aborts, then lets the running handlers finish and acks them', async () => {
    await send('a', 'b');
    const seen: string[] = [];
    let finish = () => {};
    const report = consume(
      queue,
      async (item) => {
        seen.push(text(item));
        if (text(item) === 'c') {
          await new Promise<void>((resolve) => {
            finish = resolve;
          });
        }
      },
      { signal: stop.signal },
    );
    await until(() => seen.length === 2);
    await send('c', 'd');
    await until(() => seen.length === 3);
    stop.abort();
    await turn(5);
    expect((await queue.stats()).inFlight).toBe(1);
    finish();
    expect(await report).toEqual({ acked: 3, nacked: 0, lost: 0 });
    expect(await queue.stats()).toMatchObject({ pending: 1, inFlight: 0 });
  });

  test('an aborted signal takes nothing', async () => {
    await send('a');
    expect(await consume(queue, () => {}, { signal: AbortSignal.abort() })).toEqual({ acked: 0, nacked: 0, lost: 0 });
    expect((await queue.stats()).pending).toBe(1);
  });

  test('runs up to `concurrency` handlers at once, and takes no more than it starts', async () => {
    await send('a', 'b', 'c', 'd', 'e');
    let running = 0;
    let most = 0;
    const ends: (() => void)[] = [];
    const report = consume(
      queue,
      async () => {
        running += 1;
        most = Math.max(most, running);
        await new Promise<void>((resolve) => ends.push(resolve));
        running -= 1;
      },
      { concurrency: 2, signal: stop.signal },
    );
    await until(() => ends.length === 2);
    await turn(5);
    expect(await queue.stats()).toMatchObject({ pending: 3, inFlight: 2 });
    for (let ended = 0; ended < 5; ended += 1) {
      await until(() => ends.length > ended);
      ends[ended]?.();
    }
    await until(async () => (await queue.stats()).ackedTotal === 5);
    stop.abort();
    expect((await report).acked).toBe(5);
    expect(most).toBe(2);
  });

  test('renews the lease while a handler runs', async () => {
    await send('a');
    const report = consume(queue, () => turn(250), { leaseMs: 60, signal: stop.signal });
    await until(async () => (await queue.stats()).ackedTotal === 1);
    stop.abort();
    expect(await report).toEqual({ acked: 1, nacked: 0, lost: 0 });
    expect((await queue.stats()).expiredTotal).toBe(0);
  });

  test('a handler that throws: the item is nacked after a bounded, growing pause, and others go on meanwhile', async () => {
    await send('poison', 'good');
    const seen: string[] = [];
    const errors: unknown[] = [];
    const atMs: number[] = [];
    const pauses = jest.spyOn(globalThis, 'setTimeout');
    const report = consume(
      queue,
      (item) => {
        seen.push(`${text(item)} ${item.attempts}`);
        if (text(item) === 'poison') {
          atMs.push(performance.now());
          throw new Error('bad item');
        }
      },
      {
        retryBaseMs: 20,
        retryMaxMs: 50,
        signal: stop.signal,
        onError: (error, item) => errors.push((error as Error).message, text(item)),
      },
    );
    await until(() => seen.length >= 5);
    stop.abort();
    const { acked, nacked } = await report;
    expect(seen.slice(0, 5)).toEqual(['poison 1', 'good 1', 'poison 2', 'poison 3', 'poison 4']);
    expect(acked).toBe(1);
    expect(nacked).toBeGreaterThanOrEqual(3);
    expect(errors.slice(0, 2)).toEqual(['bad item', 'poison']);
    const asked = pauses.mock.calls.map(([, ms]) => ms);
    pauses.mockRestore();
    expect(asked.filter((ms) => ms === 20 || ms === 40 || ms === 50).slice(0, 3)).toEqual([20, 40, 50]);
    expect(await queue.stats()).toMatchObject({ pending: 1, inFlight: 0 });
  });

  test('an abort ends a pause at once: the failed items go back, the oldest first', async () => {
    await send('a', 'b', 'c');
    let failed = 0;
    const report = consume(
      queue,
      () => {
        failed += 1;
        throw new Error('bad');
      },
      { concurrency: 3, retryBaseMs: 60_000, retryMaxMs: 60_000, signal: stop.signal },
    );
    await until(() => failed === 3);
    stop.abort();
    expect(await report).toEqual({ acked: 0, nacked: 3, lost: 0 });
    expect((await queue.dequeueMany(3, 60_000)).map(text)).toEqual(['a', 'b', 'c']);
  });

  test('a lost lease aborts the handler’s own signal and is counted; what the handler does then is not looked at', async () => {
    await send('a');
    const reasons: unknown[] = [];
    let lose = true;
    const losing = withCalls({
      extendLease: async (id, token, byMs) => {
        await queue.extendLease(id, token, lose ? 1 : byMs);
        if (lose) await turn(10);
      },
    });
    const report = consume(
      losing,
      async (item, signal) => {
        if (item.attempts > 1) return;
        await new Promise((resolve) => signal.addEventListener('abort', resolve));
        reasons.push(signal.reason);
        lose = false;
      },
      { leaseMs: 60, concurrency: 2, signal: stop.signal },
    );
    await until(async () => (await queue.stats()).ackedTotal === 1);
    stop.abort();
    expect(await report).toEqual({ acked: 1, nacked: 0, lost: 1 });
    expect(reasons).toMatchObject([{ code: 'LEASE_LOST' }]);
  });

  test('a handler that blocks the event loop beyond its lease loses the item, and the ack is counted as lost', async () => {
    await send('a');
    const report = consume(
      queue,
      (item) => {
        if (item.attempts > 1) return;
        for (const end = performance.now() + 60; performance.now() < end; );
      },
      { leaseMs: 30, signal: stop.signal },
    );
    await until(async () => (await queue.stats()).ackedTotal === 1);
    stop.abort();
    expect(await report).toEqual({ acked: 1, nacked: 0, lost: 1 });
  });

  test('a handler that hangs until it is aborted is aborted after graceMs, and its item given back', async () => {
    await send('a');
    let reason: unknown;
    let begun = false;
    const report = consume(
      queue,
      (item, signal) => {
        begun = true;
        signal.addEventListener('abort', () => {
          reason = signal.reason;
        });
        return hang(item, signal);
      },
      { graceMs: 20, signal: stop.signal },
    );
    await until(() => begun);
    stop.abort();
    expect(await report).toEqual({ acked: 0, nacked: 1, lost: 0 });
    expect(reason).toMatchObject({ kind: 'Preempted', code: 'CONSUMER_STOPPED' });
    expect((await queue.stats()).pending).toBe(1);
  });

  test('a handler that never ends, whatever its signal says, does not keep consume from ending', async () => {
    await send('a');
    let begun = false;
    const report = consume(
      queue,
      () => {
        begun = true;
        return new Promise(() => {});
      },
      { graceMs: 10, signal: stop.signal },
    );
    await until(() => begun);
    stop.abort();
    expect(await report).toEqual({ acked: 0, nacked: 1, lost: 0 });
  });

  test('a renewal that fails for another reason is tried again, and costs nothing', async () => {
    await send('a');
    let failures = 0;
    const flaky = withCalls({
      extendLease: (id, token, byMs) => {
        failures += 1;
        return failures % 2 === 1 ? Promise.reject(busy()) : queue.extendLease(id, token, byMs);
      },
    });
    const report = consume(flaky, () => turn(300), { leaseMs: 150, signal: stop.signal });
    await until(async () => (await queue.stats()).ackedTotal === 1);
    stop.abort();
    expect(await report).toEqual({ acked: 1, nacked: 0, lost: 0 });
    expect(failures).toBeGreaterThan(1);
  });

  test('a queue that fails ends the call with its error, after the running handlers had time to finish', async () => {
    await send('a', 'b');
    let finished = false;
    const failing = withCalls({
      receive: (options) => (finished || options.max === 1 ? Promise.reject(busy()) : queue.dequeueMany(1, 60_000)),
    });
    const report = consume(
      failing,
      async () => {
        await turn(20);
        finished = true;
      },
      { concurrency: 2, signal: stop.signal },
    );
    await expect(report).rejects.toMatchObject({ code: 'IO_ERROR' });
    expect(finished).toBe(true);
    expect(await queue.stats()).toMatchObject({ ackedTotal: 1, inFlight: 0 });
  });

  test('an ack that fails ends the call with its error', async () => {
    await send('a');
    const failing = withCalls({ ack: () => Promise.reject(busy()) });
    await expect(consume(failing, () => {}, { signal: stop.signal })).rejects.toMatchObject({ code: 'IO_ERROR' });
  });

  test('a nack that fails when the work ends is told of', async () => {
    await send('a', 'b');
    let begun = 0;
    const failing = withCalls({ nack: () => Promise.reject(busy()) });
    const report = consume(
      failing,
      (item, signal) => {
        begun += 1;
        return hang(item, signal);
      },
      { concurrency: 2, graceMs: 1, signal: stop.signal },
    );
    await until(() => begun === 2);
    stop.abort();
    await expect(report).rejects.toMatchObject({ code: 'IO_ERROR' });
  });

  test('what onError throws ends the call', async () => {
    await send('a');
    const report = consume(
      queue,
      () => {
        throw new Error('bad item');
      },
      {
        signal: stop.signal,
        onError: () => {
          throw new Error('bad callback');
        },
      },
    );
    await expect(report).rejects.toThrow('bad callback');
    expect((await queue.stats()).pending).toBe(1);
  });

  test('items that arrive together with the abort are given back unseen', async () => {
    await send('a');
    const late = withCalls({
      receive: async (options) => {
        const items = await queue.receive(options);
        stop.abort();
        return items;
      },
    });
    const handler = jest.fn(() => {});
    expect(await consume(late, handler, { signal: stop.signal })).toEqual({ acked: 0, nacked: 1, lost: 0 });
    expect(handler).not.toHaveBeenCalled();
  });

  test('a queue closed under it ends it with CLOSED', async () => {
    const report = consume(queue, () => {}, { signal: stop.signal });
    await turn();
    await queue.close();
    await expect(report).rejects.toMatchObject({ code: 'CLOSED' });
  });

  test('options are checked', async () => {
    const invalid = { code: 'ARGUMENT_INVALID' };
    await expect(consume(queue, () => {}, { concurrency: 0 })).rejects.toMatchObject(invalid);
    await expect(drain(queue, () => {}, { leaseMs: 0 })).rejects.toMatchObject(invalid);
    await expect(drain(queue, () => {}, { graceMs: -1 })).rejects.toMatchObject(invalid);
    await expect(drain(queue, () => {}, { retryBaseMs: 0.5 })).rejects.toMatchObject(invalid);
    await expect(deliveries(queue, { concurrency: 20_000 }).next()).rejects.toMatchObject(invalid);
  });
});

test('consume with 1,000 failed items in their pause takes no more', async () => {
  await send(...Array.from({ length: 1_100 }, (_, i) => String(i)));
  const report = consume(
    queue,
    () => {
      throw new Error('all bad');
    },
    { concurrency: 10, retryBaseMs: 60_000, retryMaxMs: 60_000, signal: stop.signal },
  );
  await until(async () => (await queue.stats()).inFlight >= 1_000);
  await turn(20);
  expect((await queue.stats()).inFlight).toBeLessThan(1_010);
  stop.abort();
  await report;
  expect((await queue.stats()).pending).toBe(1_100);
});

describe('drain', () => {
  test('works until nothing is pending, items that handlers enqueue included', async () => {
    await send('a', 'b', 'c');
    const seen: string[] = [];
    const report = await drain(
      queue,
      async (item) => {
        seen.push(text(item));
        if (text(item).length < 3) await send(`${text(item)}x`);
      },
      { concurrency: 2 },
    );
    expect(report).toEqual({ acked: 9, nacked: 0, lost: 0 });
    expect(seen.sort()).toEqual(['a', 'ax', 'axx', 'b', 'bx', 'bxx', 'c', 'cx', 'cxx']);
  });

  test('looks again when a handler ended while the queue was asked', async () => {
    await send('a');
    let finish = () => {};
    const slow = withCalls({
      receive: async (options) => {
        const items = await queue.receive(options);
        if (items.length === 0) {
          finish();
          await turn(20);
        }
        return items;
      },
    });
    const seen: string[] = [];
    await drain(
      slow,
      async (item) => {
        seen.push(text(item));
        if (text(item) === 'b') return;
        await new Promise<void>((resolve) => {
          finish = resolve;
        });
        await send('b');
      },
      { concurrency: 2 },
    );
    expect(seen).toEqual(['a', 'b']);
  });

  test('ends at once when nothing is pending', async () => {
    expect(await drain(queue, () => {})).toEqual({ acked: 0, nacked: 0, lost: 0 });
  });

  test('items that failed in this drain are given back at its end, so that it ends', async () => {
    await send('bad 1', 'good 1', 'bad 2', 'good 2');
    const seen: string[] = [];
    const report = await drain(queue, (item) => {
      seen.push(text(item));
      if (text(item).startsWith('bad')) throw new Error('bad');
    });
    expect(report).toEqual({ acked: 2, nacked: 2, lost: 0 });
    expect(seen).toEqual(['bad 1', 'good 1', 'bad 2', 'good 2']);
    const left = await queue.dequeueMany(5, 60_000);
    expect(left.map((item) => [text(item), item.attempts])).toEqual([
      ['bad 1', 2],
      ['bad 2', 2],
    ]);
  });

  test('keeps the leases of failed items until its end', async () => {
    await send('bad', 'slow');
    const report = await drain(
      queue,
      async (item) => {
        if (text(item) === 'bad') throw new Error('bad');
        await turn(200);
      },
      { leaseMs: 60 },
    );
    expect(report).toEqual({ acked: 1, nacked: 1, lost: 0 });
  });

  test('stops early after 1,000 failures', async () => {
    await send(...Array.from({ length: 1_100 }, (_, i) => String(i)));
    const report = await drain(
      queue,
      () => {
        throw new Error('all bad');
      },
      { concurrency: 10 },
    );
    expect(report.nacked).toBeGreaterThanOrEqual(1_000);
    expect(report.nacked).toBeLessThan(1_010);
    expect((await queue.stats()).pending).toBe(1_100);
  });

  test('an abort ends it early, in the same orderly way', async () => {
    await send('a', 'b', 'c');
    const report = await drain(
      queue,
      async () => {
        stop.abort();
        await turn(5);
      },
      { signal: stop.signal },
    );
    expect(report).toEqual({ acked: 1, nacked: 0, lost: 0 });
    expect((await queue.stats()).pending).toBe(2);
  });

  test('a queue without leases says so', async () => {
    const anyMethod: ProxyHandler<Queue> = {
      get: (_, name) => (typeof name === 'string' ? async () => [] : undefined),
    };
    const plain = checked(QueueToken, new Proxy({} as Queue, anyMethod), { adapter: 'test.plain' });
    await expect(drain(plain, () => {})).rejects.toMatchObject({ code: 'FEATURE_UNSUPPORTED' });
  });
});

describe('deliveries', () => {
  test('yields items one by one, until the signal aborts', async () => {
    await send('a', 'b');
    const seen: string[] = [];
    for await (const delivery of deliveries(queue, { signal: stop.signal })) {
      seen.push(text(delivery.item));
      await delivery.ack();
      if (seen.length === 2) stop.abort();
    }
    expect(seen).toEqual(['a', 'b']);
    expect(await queue.stats()).toMatchObject({ ackedTotal: 2, pending: 0 });
  });

  test('an abort ends a loop that waits for an item, and one that waits for a delivery to be settled', async () => {
    const waiting = deliveries(queue, { signal: stop.signal }).next();
    await turn();
    stop.abort();
    expect(await waiting).toEqual({ done: true, value: undefined });

    await send('a', 'b');
    const other = new AbortController();
    const loop = deliveries(queue, { signal: other.signal });
    await loop.next();
    const next = loop.next();
    await turn(5);
    other.abort();
    expect(await next).toEqual({ done: true, value: undefined });
    expect((await queue.stats()).pending).toBe(2);
  });

  test('breaking out of the loop gives back what is unhandled, and aborts it', async () => {
    await send('a', 'b', 'c');
    const signals: AbortSignal[] = [];
    for await (const delivery of deliveries(queue, { concurrency: 2 })) {
      signals.push(delivery.signal);
      expect((await queue.stats()).inFlight).toBe(2);
      break;
    }
    expect(signals[0]?.aborted).toBe(true);
    expect(await queue.stats()).toMatchObject({ inFlight: 0, pending: 3 });
    expect((await queue.dequeueMany(3, 60_000)).map(text)).toEqual(['a', 'b', 'c']);
  });

  test('holds no more than `concurrency`, and goes on when one is settled', async () => {
    await send('a', 'b', 'c');
    const loop = deliveries(queue, { concurrency: 2 });
    const first = await loop.next();
    const second = await loop.next();
    if (first.done || second.done) throw new Error('ended early');
    let third: string | null = null;
    const asking = loop.next().then(({ value }) => {
      if (value) third = text(value.item);
    });
    await turn(5);
    expect([third, (await queue.stats()).pending]).toEqual([null, 1]);
    await second.value.nack();
    await asking;
    expect(third).toBe('b');
    await first.value.ack();
    await first.value.ack();
    await loop.return();
    expect(await queue.stats()).toMatchObject({ ackedTotal: 1, inFlight: 0, pending: 2 });
  });

  test('a delivery never acked keeps its lease for as long as the loop lives', async () => {
    await send('a');
    const loop = deliveries(queue, { leaseMs: 40 });
    const { value } = await loop.next();
    await turn(150);
    expect((await queue.stats()).expiredTotal).toBe(0);
    await value?.ack();
    await loop.return();
  });

  test('a delivery whose lease was lost says so when it is acked, and frees its place', async () => {
    await send('a', 'b');
    const losing = withCalls({
      extendLease: async (id, token) => {
        await queue.extendLease(id, token, 1);
        await turn(10);
      },
    });
    const loop = deliveries(losing, { leaseMs: 60 });
    const { value } = await loop.next();
    await until(() => value?.signal.aborted === true);
    await expect(value?.ack()).rejects.toMatchObject({ code: 'LEASE_LOST' });
    const next = await loop.next();
    expect(next.value?.item.attempts).toBe(2);
    await loop.return();
  });

  test('an item whose lease was lost before the loop came to it is left out', async () => {
    await send('a', 'b');
    let renewals = 0;
    const losing = withCalls({
      extendLease: async (id, token, byMs) => {
        renewals += 1;
        const isFirst = id === firstId;
        await queue.extendLease(id, token, isFirst ? byMs : 1);
        if (!isFirst) await turn(10);
      },
    });
    const loop = deliveries(losing, { leaseMs: 60, concurrency: 2 });
    const first = await loop.next();
    const firstId = first.value?.item.id;
    await until(async () => renewals > 0 && (await queue.stats()).pending === 1);
    await until(async () => (await queue.stats()).inFlight === 1 && renewals > 3);
    const second = await loop.next();
    expect([second.value && text(second.value.item), second.value?.item.attempts]).toEqual(['b', 2]);
    await loop.return();
  });
});
