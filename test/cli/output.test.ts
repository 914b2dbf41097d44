/** Writing to streams that are slow, full, or not read any more; and how much of a list is in memory. */
import { Writable } from 'node:stream';
import { setTimeout as sleep, setImmediate as tick } from 'node:timers/promises';
import { describe, expect, test } from '@jest/globals';
import { inOrder } from '../../src/cli/in-order.js';
import type { Cli } from '../../src/cli/io.js';
import { writeJsonList } from '../../src/cli/json-list.js';
import { flush, quoted, ReaderGone, tell, watch, write } from '../../src/cli/output.js';

/** A stream that takes one chunk at a time, when it is told to. */
class Slow extends Writable {
  readonly chunks: string[] = [];
  readonly waiting: ((error?: Error) => void)[] = [];
  constructor() {
    super({ highWaterMark: 1 });
  }
  override _write(chunk: Buffer, _encoding: string, done: (error?: Error) => void): void {
    this.chunks.push(chunk.toString());
    this.waiting.push(done);
  }
  take(error?: NodeJS.ErrnoException): void {
    this.waiting.shift()?.(error);
  }
}

function failing(code: string): Writable {
  const stream = new Writable({ write: (_chunk, _encoding, done) => done(Object.assign(new Error(code), { code })) });
  watch(stream);
  return stream;
}

describe('write', () => {
  test('waits until the stream takes more', async () => {
    const stream = new Slow();
    let written = false;
    const writing = write(stream, 'a').then(() => {
      written = true;
    });
    await tick();
    expect(written).toBe(false);
    stream.take();
    await writing;
    expect(stream.listenerCount('drain') + stream.listenerCount('error')).toBe(0);
  });

  test('a reader that has gone is ReaderGone, a full disk an error that says so', async () => {
    for (const stream of [failing('EPIPE'), failing('EPIPE')]) {
      stream.write('x');
      await tick();
      await expect(write(stream, 'y')).rejects.toBeInstanceOf(ReaderGone);
    }
    await expect(flush(failing('EPIPE'))).rejects.toBeInstanceOf(ReaderGone);
    await expect(flush(failing('ENOSPC'))).rejects.toMatchObject({
      kind: 'Transient',
      message: expect.stringContaining('the disk is full'),
    });
  });

  test('a stream that breaks while it is waited for rejects', async () => {
    const stream = new Slow();
    watch(stream);
    const writing = write(stream, 'a');
    await tick();
    stream.take(Object.assign(new Error('gone'), { code: 'EPIPE' }));
    await expect(writing).rejects.toBeInstanceOf(ReaderGone);
  });
});

describe('tell and quoted', () => {
  test('nothing that is told disturbs a terminal; each line names the program', () => {
    const stderr = new Slow();
    tell({ stderr }, 'one\x1b[31m\ntwo');
    expect(stderr.chunks).toEqual(['rollout-cloud: one\\u001b[31m\n']);
    stderr.take();
    expect(stderr.chunks[1]).toBe('rollout-cloud: two\n');
  });

  test('a quoted text is a JSON string', () => {
    const text = 'a"\\\n\x7f\u202e é';
    expect(quoted(text)).toBe('"a\\"\\\\\\n\\u007f\\u202e é"');
    expect(JSON.parse(quoted(text))).toBe(text);
  });
});

test('a JSON list asks for the next element when the one before has been taken', async () => {
  const stdout = new Slow();
  const cli = { stdout, documentBegun: false } as unknown as Cli;
  let asked = 0;
  async function* elements(): AsyncGenerator<number> {
    for (; asked < 1_000_000; asked++) yield asked;
  }
  const writing = writeJsonList(cli, elements());
  writing.catch(() => {});
  for (let i = 0; i < 20; i++) await tick();
  expect(asked).toBe(0);
  stdout.take();
  for (let i = 0; i < 20; i++) await tick();
  expect(asked).toBe(1);
  expect(stdout.chunks).toEqual(['[\n0', ',\n1']);
});

describe('inOrder', () => {
  test('results come in the order of the items, with so many at a time', async () => {
    let [running, most] = [0, 0];
    const results: number[] = [];
    for await (const result of inOrder([30, 1, 20, 2, 10, 3], 3, async (ms) => {
      most = Math.max(most, ++running);
      await sleep(ms);
      running--;
      return ms;
    })) {
      results.push(result);
    }
    expect({ results, most }).toEqual({ results: [30, 1, 20, 2, 10, 3], most: 3 });
  });

  test('a failure is thrown in its place, no item is taken after it, and those under way end', async () => {
    const begun: number[] = [];
    const ended: number[] = [];
    const results: number[] = [];
    const run = async () => {
      for await (const result of inOrder([0, 1, 2, 3, 4, 5, 6, 7], 3, async (i) => {
        begun.push(i);
        await sleep(i === 1 ? 1 : 30);
        if (i === 1) throw new Error('one');
        ended.push(i);
        return i;
      })) {
        results.push(result);
      }
    };
    await expect(run()).rejects.toThrow('one');
    expect({ begun, ended, results }).toEqual({ begun: [0, 1, 2], ended: [0, 2], results: [0] });
  });
});
