/** That long work lets others in: beside somebody who tries again and again, on a clock that the test moves. */
import { afterEach, expect, jest, test } from '@jest/globals';
import { inBatches } from '../../../../src/adapters/cloud-local/sqlite-queue/paced.js';
import { BUSY_RETRY_MS } from '../../../../src/adapters/cloud-local/storage/engine.js';

afterEach(() => {
  jest.useRealTimers();
});

test.each([1, 3, 10, 25, 59, 60, 90, 300])(
  'batches of %d ms: none begins long after others could have the file, and each pause is long enough for that',
  async (batchMs) => {
    jest.useFakeTimers();
    const spans: { fromMs: number; untilMs: number }[] = [];
    let isDone = false;
    const done = inBatches(async () => {
      const fromMs = performance.now();
      jest.advanceTimersByTime(batchMs);
      spans.push({ fromMs, untilMs: performance.now() });
      return spans.length === 300 ? 'done' : 'more';
    }).then(() => {
      isDone = true;
    });
    while (!isDone) await jest.advanceTimersByTimeAsync(1);
    await done;
    let sinceMs = 0;
    for (const [i, { fromMs, untilMs }] of spans.entries()) {
      const pauseMs = fromMs - (spans[i - 1]?.untilMs ?? 0);
      if (pauseMs > 0) {
        // A try that is late by some turns of the loop is in time.
        expect(pauseMs).toBeGreaterThanOrEqual(5 * BUSY_RETRY_MS);
        sinceMs = fromMs;
      }
      expect(untilMs - sinceMs).toBeLessThan(50 + batchMs);
    }
    expect(sinceMs).toBeGreaterThan(0);
  },
);
