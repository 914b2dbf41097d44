/** The watch over the instances' health, alone: what it has scheduled, and when it is over. */
import { expect, test } from '@jest/globals';
import { type Clock, systemClock } from '../../src/contracts/clock.js';
import { HealthWatch } from '../../src/registry/health-watch.js';

/** What is scheduled and neither called nor cancelled. */
function clockOf(scheduled: Set<() => void>): Clock {
  return {
    ...systemClock,
    schedule(_delayMs, callback) {
      scheduled.add(callback);
      return { cancel: () => scheduled.delete(callback) };
    },
  };
}

function callNext(scheduled: Set<() => void>): void {
  const [next] = scheduled;
  scheduled.delete(next as () => void);
  next?.();
}

test('asks again only when all have answered, and not when it was ended meanwhile', async () => {
  const scheduled = new Set<() => void>();
  const answers: (() => void)[] = [];
  const watch = new HealthWatch(clockOf(scheduled), 10, () => new Promise<void>((resolve) => answers.push(resolve)));
  const settled = () => new Promise((resolve) => setImmediate(resolve));

  callNext(scheduled);
  expect([answers.length, scheduled.size]).toEqual([1, 0]);
  answers[0]?.();
  await settled();
  expect(scheduled.size).toBe(1);

  callNext(scheduled);
  watch.end();
  answers[1]?.();
  await settled();
  expect(scheduled.size).toBe(0);
});

test('one that is ended while it waits has nothing scheduled any more', () => {
  const scheduled = new Set<() => void>();
  new HealthWatch(clockOf(scheduled), 10, async () => {}).end();
  expect(scheduled.size).toBe(0);
});
