import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import type { Cli } from '../../src/cli/io.js';
import { Ticker } from '../../src/cli/ticker.js';

beforeEach(() => {
  jest.useFakeTimers();
});

afterEach(() => {
  jest.useRealTimers();
});

describe('the line of progress', () => {
  const TEXT = 'verifying: 2,186 objects, 433 MiB, 0 failed';

  test.each([
    ['wide enough', 100, TEXT],
    ['narrow: cut, so that it stays one line', 20, TEXT.slice(0, 19)],
    ['without a width, as in a CI', 0, TEXT],
    ['of unknown width', undefined, TEXT],
  ])('on a terminal %s', async (_, columns, line) => {
    const written: string[] = [];
    const stderr = { isTTY: true, columns, write: (text: string) => written.push(text) };
    await Ticker.during(
      { stderr } as unknown as Cli,
      'one line',
      () => TEXT,
      async () => {
        jest.advanceTimersByTime(1_000);
      },
    );
    expect(written).toEqual([`\r${line}\x1b[K`, '\r\x1b[K']);
  });
});
