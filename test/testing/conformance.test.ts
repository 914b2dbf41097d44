import { describe, expect, test } from '@jest/globals';
import {
  BlockStore,
  type Capability,
  ComputeHint,
  capability,
  GpuEnumerator,
  ObjectStore,
  Queue,
  SecretStore,
  Storage,
} from '../../src/contracts/index.js';
import { conformance } from '../../src/testing/index.js';

describe('conformance', () => {
  const tokens = [
    BlockStore,
    ComputeHint,
    GpuEnumerator,
    ObjectStore,
    Queue,
    SecretStore,
    Storage,
  ] as unknown as Capability<object>[];
  test.each(tokens.map((token) => [token.name, token] as const))(
    '%s has a suite, its cases named apart',
    (_, token) => {
      const names = conformance(token).map(({ name }) => name);
      expect(names.length).toBeGreaterThan(3);
      expect(new Set(names).size).toBe(names.length);
    },
  );

  test('a contract without one is named', () => {
    expect(() => conformance(capability('acme.x/Thing', { major: 1 }))).toThrow(
      'no conformance suite is defined for acme.x/Thing@1; call defineSuite first',
    );
  });

  test('features change what is asked', () => {
    const plain = conformance(Queue).map(({ name }) => name);
    const leased = conformance(Queue, { features: ['lease'] }).map(({ name }) => name);
    expect(leased).not.toEqual(plain);
  });

  test('what a case opened is disposed, also when it fails; a function is enough of a target', async () => {
    const log: string[] = [];
    const [first] = conformance(SecretStore);
    const open = async () =>
      ({ [Symbol.asyncDispose]: async () => void log.push('disposed') }) as unknown as SecretStore;
    await expect(first?.run(open)).rejects.toThrow();
    expect(log).toEqual(['disposed']);
  });

  test('a case that reopens says so when the target cannot', async () => {
    const { MemoryStorage } = await import('../../src/adapters/cloud-local/memory-storage.js');
    const reopening = conformance(Storage, { features: ['persistent'] }).at(-1);
    await expect(reopening?.run(() => MemoryStorage.open())).rejects.toThrow('this case needs `reopen`');
  });
});
