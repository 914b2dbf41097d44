import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { MemoryStorage } from '../../../src/adapters/cloud-local/memory-storage.js';
import { SortedKeys } from '../../../src/adapters/cloud-local/storage/sorted-keys.js';
import { Storage } from '../../../src/contracts/index.js';
import { conformance } from '../../../src/testing/conformance.js';
import '../../../src/testing/storage-suite.js';

describe('local.memory is a Storage', () => {
  for (const c of conformance(Storage)) test(c.name, () => c.run(() => MemoryStorage.open()));

  test('it promises nothing beyond the process, and two of them share nothing', async () => {
    const [one, two] = [await MemoryStorage.open(), await MemoryStorage.open()];
    expect(one.durability).toBe('off');
    const txn = one.begin();
    txn.put({ namespace: 'n', path: ['a'] }, Uint8Array.of(1));
    await txn.commit();
    await one.lock('x', { holder: 'one' });
    expect(await two.get({ namespace: 'n', path: ['a'] })).toBeNull();
    await two.lock('x', { holder: 'two' });
  });
});

describe('sorted keys', () => {
  const asList = (keys: SortedKeys, from = '') => [...keys.from(from)];

  test('whatever is added and deleted, they are those of a sorted list', () => {
    const key = fc.integer({ min: 0, max: 40 }).map((n) => String(n).padStart(3, '0'));
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.boolean(), key), { maxLength: 200 }), key, (steps, from) => {
        const keys = new SortedKeys();
        const model = new Set<string>();
        for (const [adding, at] of steps) {
          if (!adding) keys.delete(at);
          else if (!model.has(at)) keys.add(at);
          model[adding ? 'add' : 'delete'](at);
          expect(keys.size).toBe(model.size);
        }
        const sorted = [...model].sort();
        expect(asList(keys)).toEqual(sorted);
        expect(asList(keys, from)).toEqual(sorted.filter((at) => at >= from));
      }),
    );
  });

  test('a long line that is worked off from the front, its first few in any order, stays whole', () => {
    const keys = new SortedKeys();
    const all = Array.from({ length: 10_000 }, (_, i) => String(i).padStart(6, '0'));
    for (const key of all) keys.add(key);
    for (let at = 0; at < 9_000; at += 4) {
      for (const i of [at + 2, at, at + 3, at + 1]) keys.delete(all[i] as string);
      if (at % 1_000 === 0) expect(asList(keys)).toEqual(all.slice(at + 4));
    }
    keys.add('000000');
    expect(asList(keys)).toEqual(['000000', ...all.slice(9_000)]);
    for (const key of all) keys.delete(key);
    expect(asList(keys)).toEqual([]);
    keys.add('b');
    keys.add('a');
    expect(asList(keys)).toEqual(['a', 'b']);
  });
});
