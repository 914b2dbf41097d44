import { getEventListeners } from 'node:events';
import { describe, expect, test } from '@jest/globals';
import {
  BlockStore,
  ComputeHint,
  FatalError,
  GpuEnumerator,
  RecoverableError,
  watchPreemption,
} from '../../src/contracts/index.js';
import { call, type Refused, recorder, titled } from './recorder.js';

describe('the doors of ComputeHint and GpuEnumerator', () => {
  test('pass the calls on, and make a promise of whatever is thrown', async () => {
    const hint = recorder(ComputeHint);
    await hint.door.inventory();
    await hint.door.preemptionSignal();
    await hint.door.inventory({ gpuMaxAgeMs: 0 });
    expect(hint.calls).toEqual([['inventory', {}], ['preemptionSignal'], ['inventory', { gpuMaxAgeMs: 0 }]]);
    const enumerator = recorder(GpuEnumerator, [], {
      enumerate: () => {
        throw new Error('at once');
      },
    });
    await expect(enumerator.door.enumerate()).rejects.toThrow('at once');
  });
});

describe('the ages that inventory and enumerate take', () => {
  test.each(
    titled([
      ['inventory', [{ gpuMaxAgeMs: -1 }], 'gpuMaxAgeMs must be an integer of at least 0, found -1'],
      ['inventory', [{ maxAgeMs: 1 }], 'unknown option "maxAgeMs" in options. Known: gpuMaxAgeMs.'],
      ['inventory', ['now'], 'options must be an object, found "now"'],
    ]),
  )('%s refuses: %s', async (method, message, args) => {
    const { door, calls } = recorder(ComputeHint);
    await expect(call(door, method, args)).rejects.toMatchObject({ message: expect.stringContaining(message) });
    expect(calls).toEqual([]);
  });
});

/** A hint whose signal answers these, one a reading, then the last for ever; an Error is thrown. */
function readings(...answers: (number | null | Error)[]) {
  let made = 0;
  return {
    made: () => made,
    preemptionSignal: async () => {
      const answer = answers[Math.min(made++, answers.length - 1)];
      if (answer instanceof Error) throw answer;
      return answer as number | null;
    },
  };
}

describe('watchPreemption', () => {
  const MINUTE = 60_000;

  async function told(hint: ReturnType<typeof readings>, count: number, pollMs = 1): Promise<(number | null)[]> {
    const leads: (number | null)[] = [];
    for await (const { leadMs } of watchPreemption(hint, { pollMs })) {
      leads.push(leadMs);
      if (leads.length === count) break;
    }
    return leads;
  }

  test('tells of a notice once, of one that moves again, and of one that is withdrawn', async () => {
    const hint = readings(null, null, 30 * MINUTE, 30 * MINUTE, 30 * MINUTE - 20, 2 * MINUTE, null, null, MINUTE);
    expect(await told(hint, 4)).toEqual([30 * MINUTE, 2 * MINUTE, null, MINUTE]);
    expect(hint.made()).toBe(9);
  });

  test('gives the time beside the lead', async () => {
    for await (const { atMs } of watchPreemption(readings(MINUTE))) {
      expect(Math.abs((atMs ?? 0) - Date.now() - MINUTE)).toBeLessThan(MINUTE / 2);
      break;
    }
  });

  test('makes a reading that failed for a while again', async () => {
    expect(await told(readings(new RecoverableError('Transient', 'no metadata'), null, MINUTE), 1)).toEqual([MINUTE]);
  });

  test.each([
    ['a defect', new Error('a defect')],
    ['a FatalError', new FatalError('ConfigInvalid', 'no metadata service')],
  ])('throws what else the reading threw: %s', async (_, error) => {
    await expect(told(readings(error), 1)).rejects.toBe(error);
  });

  test.each([Number.NaN, '10', Number.POSITIVE_INFINITY])(
    'throws for an answer that is no number of ms: %p',
    async (answer) => {
      await expect(told(readings(null, answer as number), 1)).rejects.toThrow(
        /^what preemptionSignal\(\) answers must be ms or null, found /,
      );
    },
  );

  test('a time that has passed is now', async () => {
    expect(await told(readings(-5, MINUTE), 2)).toEqual([0, MINUTE]);
  });

  test('ends when the signal aborts: before it, between readings, and in one that never answers', async () => {
    const all = async (hint: Pick<ComputeHint, 'preemptionSignal'>, signal: AbortSignal) => {
      const notices = [];
      for await (const notice of watchPreemption(hint, { signal, pollMs: MINUTE })) notices.push(notice);
      return notices;
    };
    const unread = readings(MINUTE);
    expect(await all(unread, AbortSignal.abort())).toEqual([]);
    expect(unread.made()).toBe(0);
    const abort = new AbortController();
    const quiet = readings(null);
    const watching = all(quiet, abort.signal);
    while (quiet.made() === 0) await new Promise((resolve) => setImmediate(resolve));
    abort.abort();
    expect(await watching).toEqual([]);
    const late = new AbortController();
    const hanging = all({ preemptionSignal: () => new Promise<null>(() => {}) }, late.signal);
    late.abort();
    expect(await hanging).toEqual([]);
  });

  test('leaves nothing on the signal, however often it looks', async () => {
    const { signal } = new AbortController();
    const hint = readings(null, null, null, null, null, MINUTE);
    for await (const _ of watchPreemption(hint, { signal, pollMs: 1 })) break;
    expect(getEventListeners(signal, 'abort')).toEqual([]);
  });

  test.each([
    [{ pollMs: 0 }, 'pollMs must be an integer from 1 to 86400000, found 0'],
    [{ every: 1 }, 'unknown option "every" in options. Known: pollMs, signal.'],
    [{ signal: 'stop' }, 'signal must be an AbortSignal, found "stop"'],
  ])('refuses %j', async (options, message) => {
    await expect(watchPreemption(readings(null), options as object).next()).rejects.toThrow(message);
  });
});

describe('the door of BlockStore', () => {
  const REFUSED: Refused[] = [
    ['attach', [], 'volumeId must be well-formed text of 1 to 512 characters without NUL, found undefined'],
    ['attach', ['vol-1', 'read-only'], 'options must be an object, found "read-only"'],
    ['detach', [''], 'volumeId must be'],
    ['snapshot', [7], 'volumeId must be'],
    ['snapshot', ['vol-1', 'label'], 'options must be an object, found "label"'],
  ];

  test.each(titled(REFUSED))('%s refuses: %s', async (method, message, args) => {
    const { door, calls } = recorder(BlockStore);
    await expect(call(door, method, args)).rejects.toMatchObject({
      kind: 'SchemaViolation',
      code: 'ARGUMENT_INVALID',
      message: expect.stringContaining(message),
    });
    expect(calls).toEqual([]);
  });

  test('the adapter receives the rest', async () => {
    const { door, calls } = recorder(BlockStore);
    await door.attach('vol-1', { readOnly: true });
    await door.detach('vol-1');
    await door.snapshot('vol-1');
    expect(calls).toEqual([
      ['attach', 'vol-1', { readOnly: true }],
      ['detach', 'vol-1'],
      ['snapshot', 'vol-1', {}],
    ]);
  });
});
