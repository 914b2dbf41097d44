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
import { conformance, defineSuite } from '../../src/testing/index.js';

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

  test.each(tokens.map((token) => [token.name, token] as const))(
    'the suite of %s refuses a feature that it does not know',
    (_, token) => {
      expect(() => conformance(token, { features: ['leese'] })).toThrow(
        `the suite of ${token.id} knows no feature "leese".`,
      );
    },
  );

  test('the refusal of a feature names the nearest, and those that there are', () => {
    expect(() => conformance(Queue, { features: ['lease', 'dead-leters'] })).toThrow(
      'no feature "dead-leters". Did you mean "dead-letters"? Known: dead-letters, delay, key, lease, multi-process, replay.',
    );
    expect(() => conformance(GpuEnumerator, { features: ['mig'] })).toThrow('no feature "mig". It has none.');
    expect(() => conformance(Queue, { features: 'lease' as never })).toThrow(
      'options.features must be an array of names',
    );
    expect(() => conformance(Queue, { features: [7 as never] })).toThrow('options.features must be an array of names');
    expect(() => conformance(Queue, { feature: ['lease'] } as never)).toThrow('Did you mean "features"?');
  });

  test('a plugin’s suite says which features it knows, or takes any', () => {
    const Open = capability<{ x(): void }>('acme.x/Open', { major: 1 });
    defineSuite(Open, (features) => ({ [`with ${[...features]}`]: async () => {} }));
    expect(conformance(Open, { features: ['anything'] })[0]?.name).toBe('with anything');
    defineSuite(Open, () => ({}), ['swift']);
    expect(() => conformance(Open, { features: ['swif'] })).toThrow('Did you mean "swift"?');
  });

  test('what a case opened is disposed, also when it fails; a function is enough of a target', async () => {
    const log: string[] = [];
    const [first] = conformance(SecretStore);
    const open = async () =>
      ({ [Symbol.asyncDispose]: async () => void log.push('disposed') }) as unknown as SecretStore;
    await expect(first?.run(open)).rejects.toThrow();
    expect(log).toEqual(['disposed']);
  });

  test('what a case found is told though closing fails, and everything opened is closed', async () => {
    const [, found] = conformance(SecretStore);
    const log: string[] = [];
    const open = async () => ({
      get: () => Promise.reject(new Error('the case')),
      put: async () => {},
      names: async () => [],
      close: () => Promise.reject(new Error(`the end ${log.push('closed')}`)),
    });
    await expect(found?.run(open as never)).rejects.toThrow('the case; and when it was closed: the end 1');
    const Twice = capability<{ x(): void }>('acme.x/Twice', { major: 1 });
    defineSuite(Twice, () => ({
      twice: async ({ open }) => {
        await open();
        await open();
      },
    }));
    await expect(conformance(Twice)[0]?.run(open as never)).rejects.toThrow(
      'the end 2; and when it was closed: the end 3',
    );
    expect(log).toHaveLength(3);
  });

  test('a target that opens nothing, or cannot be called, is told', async () => {
    const [first] = conformance(SecretStore);
    await expect(first?.run((() => {}) as never)).rejects.toThrow('the target opened undefined; give a function that');
    await expect(first?.run(undefined as never)).rejects.toThrow('a case runs on a function that opens an instance');
    expect(() => conformance('SecretStore' as never)).toThrow(
      'capability must be a capability itself, as in host.get(Queue), found "SecretStore"',
    );
  });

  test('a case that reopens says so when the target cannot', async () => {
    const { MemoryStorage } = await import('../../src/adapters/cloud-local/memory-storage.js');
    const reopening = conformance(Storage, { features: ['persistent'] }).at(-1);
    await expect(reopening?.run(() => MemoryStorage.open())).rejects.toThrow('this case needs `reopen`');
  });
});
