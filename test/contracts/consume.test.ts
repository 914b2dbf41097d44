import { describe, expect, jest, test } from '@jest/globals';
import { consume, deliveries, drain, type LeaseToken } from '../../src/contracts/index.js';
import { busy, hang, openQueueForEach, queue, send, stop, text, turn, until, withCalls } from './consume-support.js';

openQueueForEach();

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
    const report = consume(queue, () => turn(700), { leaseMs: 400, signal: stop.signal });
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
      { leaseMs: 300, concurrency: 2, signal: stop.signal },
    );
    await until(async () => (await queue.stats()).ackedTotal === 1);
    stop.abort();
    expect(await report).toEqual({ acked: 1, nacked: 0, lost: 1 });
    expect(reasons).toMatchObject([{ code: 'LEASE_LOST' }]);
  });

  test('a handler that fails after another consumer took its item and acked it ends nothing: the lease is lost', async () => {
    await send('a', 'b');
    const report = consume(
      queue,
      async (held) => {
        if (text(held) === 'b') return stop.abort();
        const { id, token } = held;
        await queue.extendLease(id, token as LeaseToken, 1);
        await until(async () => (await queue.stats()).pending === 2);
        const item = await queue.dequeueWithLease(60_000);
        expect(item?.id).toBe(id);
        await queue.ack(id, item?.token);
        throw new Error('too late');
      },
      { retryBaseMs: 0, leaseMs: 60_000, signal: stop.signal },
    );
    expect(await report).toEqual({ acked: 1, nacked: 0, lost: 1 });
  });

  test('a handler that blocks the event loop beyond its lease loses the item, and the ack is counted as lost', async () => {
    await send('a');
    const report = consume(
      queue,
      (item) => {
        if (item.attempts > 1) return;
        for (const end = performance.now() + 300; performance.now() < end; );
      },
      { leaseMs: 200, signal: stop.signal },
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
    const report = consume(flaky, () => turn(700), { leaseMs: 400, signal: stop.signal });
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

  test.each(['answers', 'fails'])(
    'a nack that is being made when the signal aborts is waited for, and counted: the queue %s',
    async (how) => {
      await send('a');
      let nacking = false;
      const slow = withCalls({
        nack: async (id, token) => {
          nacking = true;
          await turn(30);
          if (how === 'fails') throw busy();
          await queue.nack(id, token);
        },
      });
      const report = consume(
        slow,
        () => {
          throw new Error('bad');
        },
        { retryBaseMs: 0, signal: stop.signal },
      );
      await until(() => nacking);
      stop.abort();
      if (how === 'fails') await expect(report).rejects.toMatchObject({ code: 'IO_ERROR' });
      else {
        expect(await report).toEqual({ acked: 0, nacked: 1, lost: 0 });
        expect(await queue.stats()).toMatchObject({ pending: 1, inFlight: 0 });
      }
    },
  );

  test.each(['answers', 'fails'])(
    'an ack that takes longer than graceMs is waited for, and counted: the queue %s',
    async (how) => {
      await send('a');
      let acking = false;
      const slow = withCalls({
        ack: async (id, token) => {
          acking = true;
          await turn(30);
          if (how === 'fails') throw busy();
          await queue.ack(id, token);
        },
      });
      const report = consume(slow, () => {}, { graceMs: 1, signal: stop.signal });
      await until(() => acking);
      stop.abort();
      if (how === 'fails') await expect(report).rejects.toMatchObject({ code: 'IO_ERROR' });
      else expect(await report).toEqual({ acked: 1, nacked: 0, lost: 0 });
    },
  );

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
    const ended = expect(consume(queue, () => {}, { signal: stop.signal })).rejects.toMatchObject({ code: 'CLOSED' });
    await turn();
    await queue.close();
    await ended;
  });

  test('handler and options are checked, before anything is taken', async () => {
    await send('a');
    const invalid = { code: 'ARGUMENT_INVALID' };
    for (const work of [consume, drain]) {
      await expect(work(queue, undefined as never)).rejects.toMatchObject(invalid);
      await expect(work(queue, () => {}, null as never)).rejects.toMatchObject(invalid);
      await expect(work(queue, () => {}, { onError: 'log' as never })).rejects.toMatchObject(invalid);
    }
    await expect(deliveries(queue, null as never).next()).rejects.toMatchObject(invalid);
    await expect(consume(queue, () => {}, { concurrency: 0 })).rejects.toMatchObject(invalid);
    await expect(drain(queue, () => {}, { leaseMs: 0 })).rejects.toMatchObject(invalid);
    await expect(drain(queue, () => {}, { graceMs: -1 })).rejects.toMatchObject(invalid);
    await expect(drain(queue, () => {}, { retryBaseMs: 0.5 })).rejects.toMatchObject(invalid);
    await expect(deliveries(queue, { concurrency: 20_000 }).next()).rejects.toMatchObject(invalid);
    expect((await queue.stats()).pending).toBe(1);
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
