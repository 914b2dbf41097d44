/** How far the tour is: a bar on a terminal, else a line now and then. */
import { PassThrough } from 'node:stream';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import type { Cli } from '../../../src/cli/io.js';
import { withProgress } from '../../../src/cli/tour/progress.js';

beforeEach(() => {
  jest.useFakeTimers();
});
afterEach(() => {
  jest.useRealTimers();
});

function start(isTTY: boolean, total: number | null) {
  const stderr = Object.assign(new PassThrough(), { isTTY, cursorTo: () => {}, clearLine: () => {}, columns: 100 });
  const far = { files: 0, bytes: 0 };
  let end = () => {};
  const working = withProgress(
    { stderr } as unknown as Cli,
    { doing: 'storing', total, now: () => far },
    () => new Promise<void>((resolve) => (end = resolve)),
  );
  // Node 26 gives what waits chunk by chunk, older ones at once.
  const written = () => {
    let text = '';
    for (let chunk = stderr.read(); chunk !== null; chunk = stderr.read()) text += chunk;
    return text;
  };
  const ended = () => {
    end();
    return working;
  };
  return { far, written, end: ended };
}

describe('not on a terminal', () => {
  test('a run under a second says nothing', async () => {
    const { end, written } = start(false, null);
    jest.advanceTimersByTime(999);
    await end();
    jest.advanceTimersByTime(60_000);
    expect(written()).toBe('');
  });

  test('a longer one says a plain line after a second, then every five', async () => {
    const { end, written, far } = start(false, null);
    far.files = 1234;
    far.bytes = 3 * 1024 * 1024;
    jest.advanceTimersByTime(1_000);
    expect(written()).toBe('rollout-cloud: storing: 1,234 files, 3.0 MiB\n');
    jest.advanceTimersByTime(4_999);
    expect(written()).toBe('');
    jest.advanceTimersByTime(1);
    expect(written()).toContain('storing');
    await end();
  });

  test('says of how many, where that is known', async () => {
    const { end, written } = start(false, 5000);
    jest.advanceTimersByTime(1_000);
    expect(written()).toBe('rollout-cloud: storing: 0 of 5,000 files, 0 B\n');
    await end();
  });
});

describe('on a terminal', () => {
  test('a bar shows how many of how many, and goes away at the end', async () => {
    const { end, written, far } = start(true, 10);
    far.files = 4;
    jest.advanceTimersByTime(1_000);
    expect(written()).toMatch(/storing █+░+ 4 of 10 files/);
    await end();
    jest.advanceTimersByTime(60_000);
    expect(written()).not.toContain('files');
  });

  test('where nobody knows of how many, there is no bar', async () => {
    const { end, written, far } = start(true, null);
    far.files = 4;
    jest.advanceTimersByTime(1_000);
    const text = written();
    expect(text).toContain('storing 4 files');
    expect(text).not.toMatch(/[█░]/);
    await end();
  });
});
