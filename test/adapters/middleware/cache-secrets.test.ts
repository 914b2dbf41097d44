import { describe, expect, test } from '@jest/globals';
import { SecretStore } from '../../../src/contracts/index.js';
import { hostWith } from './kit.js';

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
