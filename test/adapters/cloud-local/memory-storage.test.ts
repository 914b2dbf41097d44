import { describe, expect, test } from '@jest/globals';
import { MemoryStorage } from '../../../src/adapters/cloud-local/memory-storage.js';
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
