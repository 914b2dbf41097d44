import { setImmediate } from 'node:timers/promises';
import { describe, expect, test } from '@jest/globals';
import { cacheSecrets } from '../../../src/adapters/middleware/cache-secrets.js';
import { SecretStore, SecretValue } from '../../../src/contracts/index.js';
import { TestClock } from '../../../src/testing/index.js';
import { contextOf, hostWith } from './kit.js';

async function cached(config: object = {}, logged: string[] = []) {
  const t = await hostWith('SecretStore', [{ use: 'cache', config }], logged);
  const fake = t.fake(SecretStore, undefined, { secrets: { A: 'one', B: 'two' }, allowlist: ['A', 'B', 'C'] });
  const store = await t.get(SecretStore);
  const reads = () => t.calls(SecretStore).filter(({ method }) => method === 'get').length;
  return { t, fake, store, reads };
}

describe('cache of secrets', () => {
  test('asks once while a secret is fresh, and again when its time is over', async () => {
    const { t, fake, store, reads } = await cached({ ttlMs: 1_000 });
    expect((await store.get('A')).reveal()).toBe('one');
    await fake.put('A', 'changed elsewhere');
    await t.clock.advance(999);
    expect((await store.get('A')).reveal()).toBe('one');
    expect(reads()).toBe(1);
    await t.clock.advance(1);
    expect((await store.get('A')).reveal()).toBe('changed elsewhere');
    expect(reads()).toBe(2);
    await t.stop();
  });

  test('asks once for all who ask at the same time', async () => {
    const { t, store, reads } = await cached();
    const secrets = await Promise.all(['A', 'A', 'B', 'A'].map((name) => store.get(name)));
    expect(secrets.map((secret) => secret.reveal())).toEqual(['one', 'one', 'two', 'one']);
    expect(reads()).toBe(2);
    await t.stop();
  });

  test('keeps no failure: what is set is seen at once', async () => {
    const { t, fake, store, reads } = await cached();
    await expect(Promise.all([store.get('C'), store.get('C')])).rejects.toMatchObject({ code: 'SECRET_UNSET' });
    await expect(store.get('D')).rejects.toMatchObject({ code: 'SECRET_NOT_ALLOWED' });
    await fake.put('C', 'three');
    expect((await store.get('C')).reveal()).toBe('three');
    expect(reads()).toBe(3);
    await t.stop();
  });

  test('forgets a secret that is put, also one that is being read meanwhile', async () => {
    const { t, store } = await cached();
    await store.get('A');
    await store.put('A', 'new');
    expect((await store.get('A')).reveal()).toBe('new');
    const reading = store.get('B');
    await store.put('B', 'newer');
    await reading;
    expect((await store.get('B')).reveal()).toBe('newer');
    await t.stop();
  });

  /** A store whose reads answer when they are told to, in their order. */
  function slow(config: { ttlMs: number; maxEntries: number }) {
    const waiting: ((text: string) => void)[] = [];
    const inner: SecretStore = {
      get: () => new Promise((resolve) => waiting.push((text) => resolve(new SecretValue(text)))),
      put: async () => {},
      names: async () => [],
    };
    const clock = new TestClock();
    clock.freeze();
    const context = { ...contextOf(SecretStore.id, config), clock };
    return { store: cacheSecrets(inner, context), waiting, clock };
  }

  test('keeps no secret whose reading began before a put ended, however many puts there were', async () => {
    // A first put that ends at whichever moment of the asking, and a second that ends while the store reads.
    for (let turns = 0; turns < 8; turns += 1) {
      const { store, waiting } = slow({ ttlMs: 1_000, maxEntries: 10 });
      const putting = store.put('A', 'new');
      for (let turn = 0; turn < turns; turn += 1) await null;
      const reading = store.get('A');
      await putting;
      await setImmediate();
      await store.put('A', 'newest');
      waiting[0]?.('old');
      expect((await reading).reveal()).toBe('old');
      const again = store.get('A');
      await setImmediate();
      waiting.at(-1)?.('newest');
      expect((await again).reveal()).toBe('newest');
    }
  });

  test('does not wait for a read that takes longer than a secret is kept: it may never answer', async () => {
    const { store, waiting, clock } = slow({ ttlMs: 1_000, maxEntries: 10 });
    const first = store.get('A');
    await clock.advance(999);
    const sharing = store.get('A');
    expect(waiting).toHaveLength(1);
    await clock.advance(1);
    const second = store.get('A');
    expect(waiting).toHaveLength(2);
    waiting[1]?.('fresh');
    expect((await second).reveal()).toBe('fresh');
    waiting[0]?.('stale');
    expect((await Promise.all([first, sharing])).map((secret) => secret.reveal())).toEqual(['stale', 'stale']);
    expect((await store.get('A')).reveal()).toBe('fresh');
  });

  test('forgets the oldest beyond its bound', async () => {
    const { t, store, reads } = await cached({ maxEntries: 1 });
    for (const name of ['A', 'B', 'B', 'A']) await store.get(name);
    expect(reads()).toBe(3);
    await t.stop();
  });

  test('passes names on, and tells no value', async () => {
    const logged: string[] = [];
    const { t, store } = await cached({}, logged);
    expect(await store.names()).toEqual(['A', 'B', 'C']);
    await store.get('A');
    await store.get('A');
    await t.stop();
    expect(JSON.stringify([logged, t.calls(SecretStore)])).not.toContain('one');
  });

  test('is for secrets alone', async () => {
    await expect(hostWith('Queue', ['cache'])).rejects.toThrow(/RC1109.*no middleware "cache" for Queue@1/);
  });
});
