/** Bounded concurrency. */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from '@jest/globals';
import { eachOf, Slots } from '../../../src/cli/tour/pool.js';

async function* numbers(count: number, given: number[] = []): AsyncGenerator<number> {
  for (let i = 0; i < count; i++) {
    given.push(i);
    yield i;
  }
}

const never = new AbortController().signal;

describe('eachOf', () => {
  test('works every item once, with that many workers at a time and no more', async () => {
    const seen: number[] = [];
    let [running, most] = [0, 0];
    await eachOf(numbers(20), 3, never, async (item) => {
      most = Math.max(most, ++running);
      await sleep(1);
      running--;
      seen.push(item);
    });
    expect(seen.sort((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, i) => i));
    expect(most).toBe(3);
  });

  test('after a failure takes nothing more, and rejects only when what was under way has ended', async () => {
    const given: number[] = [];
    let ended = 0;
    const working = eachOf(numbers(1000, given), 2, never, async (item) => {
      if (item === 0) throw new Error('first');
      await sleep(20);
      ended++;
    });
    await expect(working).rejects.toThrow('first');
    expect(ended).toBe(1);
    expect(given.length).toBeLessThanOrEqual(3);
  });

  test('passes on the failure of the source', async () => {
    async function* broken(): AsyncGenerator<number> {
      yield 1;
      throw new Error('source');
    }
    await expect(eachOf(broken(), 2, never, async () => {})).rejects.toThrow('source');
  });

  test('ends early, and well, when the signal aborts', async () => {
    const stop = new AbortController();
    let done = 0;
    await eachOf(numbers(1000), 1, stop.signal, async () => {
      if (++done === 5) stop.abort();
    });
    expect(done).toBe(5);
  });
});

describe('Slots', () => {
  test('let that many through at a time, in order, and free the slot of one that fails', async () => {
    const slots = new Slots(2);
    const order: number[] = [];
    let [inside, most] = [0, 0];
    const results = await Promise.allSettled(
      [0, 1, 2, 3, 4].map((i) =>
        slots.with(async () => {
          most = Math.max(most, ++inside);
          order.push(i);
          await sleep(1);
          inside--;
          if (i === 1) throw new Error('one');
          return i;
        }),
      ),
    );
    expect(order).toEqual([0, 1, 2, 3, 4]);
    expect(most).toBe(2);
    expect(results.map(({ status }) => status === 'fulfilled')).toEqual([true, false, true, true, true]);
  });
});
