/** Nothing is waited for for ever. */
import { afterEach, beforeEach, expect, jest, test } from '@jest/globals';
import { timed, within } from '../../src/cli/time.js';

beforeEach(() => {
  jest.useFakeTimers();
});
afterEach(() => {
  jest.useRealTimers();
});

test('within gives the answer, or the failure, that comes in time', async () => {
  await expect(within(1_000, async () => 7)).resolves.toBe(7);
  await expect(within(1_000, async () => Promise.reject(new Error('no')))).rejects.toThrow('no');
  expect(jest.getTimerCount()).toBe(0);
});

test('within gives up on what does not answer', async () => {
  const waiting = within(20_000, () => new Promise<never>(() => {}));
  const refused = expect(waiting).rejects.toThrow('no answer within 20 s');
  await jest.advanceTimersByTimeAsync(20_000);
  await refused;
});

test('timed says how long it took', async () => {
  const timing = timed(() => new Promise<string>((resolve) => setTimeout(() => resolve('done'), 1_500)));
  await jest.advanceTimersByTimeAsync(1_500);
  expect(await timing).toEqual([1_500, 'done']);
});
