import { describe, expect, test } from '@jest/globals';
import { MemoryStorage } from '../../src/adapters/cloud-local/memory-storage.js';
import { Storage } from '../../src/contracts/index.js';
import { conformance, type FaultOptions, faultyStorage } from '../../src/testing/index.js';

const keyOf = (i: number) => ({ namespace: 'n', path: [String(i).padStart(3, '0')] });

/** Commits one row each, all at once: which resolved, in which order they settled, and which rows are there. */
async function commits(count: number, options: FaultOptions) {
  const storage = faultyStorage(await MemoryStorage.open(), options);
  const settled: number[] = [];
  const outcomes = await Promise.allSettled(
    Array.from({ length: count }, async (_, i) => {
      const txn = storage.begin();
      txn.put(keyOf(i), Uint8Array.of(1));
      await txn.commit().finally(() => settled.push(i));
    }),
  );
  const stored = await storage.getMany(Array.from({ length: count }, (_, i) => keyOf(i)));
  await storage.close();
  return {
    resolved: outcomes.map(({ status }) => status === 'fulfilled'),
    reasons: outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason] : [])),
    settled,
    stored: stored.map((value) => value !== null),
  };
}

describe('faultyStorage', () => {
  const none = { seed: 1, refusedShare: 0, unansweredShare: 0 };
  for (const c of conformance(Storage)) {
    test(`without failures: ${c.name}`, () => c.run(async () => faultyStorage(await MemoryStorage.open(), none)));
  }

  test('a refused commit writes nothing; an unanswered one takes effect; both reject as what may pass', async () => {
    const refused = await commits(5, { seed: 1, refusedShare: 1 });
    expect([refused.resolved, refused.stored].flat()).not.toContain(true);
    const unanswered = await commits(5, { seed: 1, refusedShare: 0, unansweredShare: 1 });
    expect(unanswered.resolved).not.toContain(true);
    expect(unanswered.stored).not.toContain(false);
    for (const reason of [...refused.reasons, ...unanswered.reasons]) {
      expect(reason).toMatchObject({ kind: 'Transient', code: 'IO_ERROR', context: { seed: 1 } });
    }
  });

  test('makes all its faults by default, in about the shares asked for, and what resolved is stored', async () => {
    const { resolved, stored, settled } = await commits(1_000, { seed: 7 });
    const count = (holds: (i: number) => boolean) => resolved.filter((_, i) => holds(i)).length;
    expect(count((i) => resolved[i] === true && stored[i] === false)).toBe(0);
    for (const share of [count((i) => !resolved[i] && !stored[i]), count((i) => !resolved[i] && stored[i] === true)]) {
      expect(share).toBeGreaterThan(50);
      expect(share).toBeLessThan(150);
    }
    expect(settled).not.toEqual([...settled].sort((a, b) => a - b));
  });

  test('a seed repeats a run, another makes another', async () => {
    const { reasons: _, ...run } = await commits(100, { seed: 3 });
    expect(await commits(100, { seed: 3 })).toMatchObject(run);
    expect((await commits(100, { seed: 4 })).resolved).not.toEqual(run.resolved);
  });

  test('options are checked', async () => {
    const storage = await MemoryStorage.open();
    const invalid = expect.objectContaining({ code: 'ARGUMENT_INVALID' });
    for (const options of [{}, { seed: -1 }, { seed: 1, refusedShare: 2 }, { seed: 1, shares: 1 }]) {
      expect(() => faultyStorage(storage, options as FaultOptions)).toThrow(invalid);
    }
    await storage.close();
  });
});
