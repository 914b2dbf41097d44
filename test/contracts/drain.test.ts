import { describe, expect, test } from '@jest/globals';
import { checked, drain, type Queue, Queue as QueueToken } from '../../src/contracts/index.js';
import { openQueueForEach, queue, send, stop, text, turn, withCalls } from './consume-support.js';

openQueueForEach();

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
        await turn(700);
      },
      { leaseMs: 400 },
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
