/** What a host has let go of refuses, whether or not it has anything to close. */
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { EnvSecretStore, FsObjectStore } from '../../src/adapters/cloud-local/index.js';
import { type Capability, ComputeHint, capability, ObjectStore, SecretStore } from '../../src/contracts/index.js';
import { createTestHost, fake } from '../../src/testing/index.js';
import { Workspace } from '../support/workspace.js';

let space: Workspace;
beforeEach(() => {
  space = new Workspace();
});
afterEach(() => space[Symbol.asyncDispose]());

const CLOSED = { severity: 'fatal', kind: 'Internal', code: 'CLOSED' };
const BYTES = Buffer.from('x');

test('a stop ends what has no close(): every call of the contract is CLOSED', async () => {
  const host = await space.host({
    bindings: {
      ObjectStore: { adapter: 'local.fs', config: { root: './objects' } },
      SecretStore: { adapter: 'local.env', config: { allowlist: ['PATH'] } },
      ComputeHint: { adapter: 'local.compute' },
    },
  });
  const [store, secrets, hint] = [
    await host.get(ObjectStore),
    await host.get(SecretStore),
    await host.get(ComputeHint),
  ];
  const id = await store.putBytes(BYTES);
  expect(store).toBeInstanceOf(FsObjectStore);
  await secrets.names();
  await host.stop();
  for (const call of [
    () => store.putBytes(BYTES),
    () => store.getBytes(id),
    () => store.list()[Symbol.asyncIterator]().next(),
    () => secrets.get('PATH'),
    () => secrets.names(),
    () => hint.inventory(),
  ]) {
    await expect(call()).rejects.toMatchObject(CLOSED);
  }
  await expect(secrets.names()).rejects.toThrow(
    'SecretStore (adapter local.env) was used after the host had let go of it',
  );
});

test('what middleware keeps is not served after a stop', async () => {
  const host = await space.host({
    plugins: ['rollout.cloud-local', 'rollout.middleware'],
    bindings: { SecretStore: { adapter: 'local.env', config: { allowlist: ['PATH'] }, middleware: ['cache'] } },
  });
  const secrets = await host.get(SecretStore);
  process.env.ROLLOUT_SECRET_PATH = 'kept';
  try {
    expect((await secrets.get('PATH')).reveal()).toBe('kept');
    await host.stop();
    await expect(secrets.get('PATH')).rejects.toMatchObject(CLOSED);
  } finally {
    delete process.env.ROLLOUT_SECRET_PATH;
  }
});

test('what a reconfiguration replaced is CLOSED', async () => {
  const bindings = (allowlist: string[]) => ({ SecretStore: { adapter: 'local.env', config: { allowlist } } });
  const host = await space.host({ bindings: bindings(['PATH']) });
  const before = await host.get(SecretStore);
  await host.reconfigure({ config: { bindings: bindings(['PATH', 'HOME']) } });
  await expect(before.names()).rejects.toMatchObject(CLOSED);
  expect(await (await host.get(SecretStore)).names()).toEqual(['HOME', 'PATH']);
});

interface Lamp {
  light(): Promise<string>;
}
const Lamp: Capability<Lamp> = capability<Lamp>('acme.lamp/Lamp', {
  major: 1,
  door: (impl) => ({ light: async () => impl.light() }),
});

/** A plugin whose factories answer the very same object each time. */
function lamp(): string {
  const adapters = [
    { id: 'acme.lamp', provides: 'acme.lamp/Lamp@1', config: { properties: { watt: {} } } },
    { id: 'acme.secrets', provides: 'SecretStore@1', config: { properties: { watt: {} } } },
  ];
  return space.plugin({
    id: 'acme.lamp',
    adapters,
    manifest: { contributes: { adapters, capabilities: [{ id: 'acme.lamp/Lamp@1' }] } },
    code: `
      const lamp = { light: async () => 'light' };
      const secrets = globalThis[${JSON.stringify(`${space.folder}/secrets`)}];
      export default definePlugin({ adapters: { 'acme.lamp': () => lamp, 'acme.secrets': () => secrets } });`,
  });
}

test('what has no end of its own and is answered again for another instance serves there: only the one that was let go of is CLOSED', async () => {
  const shared = globalThis as Record<string, unknown>;
  const secrets = new EnvSecretStore(['PATH']);
  shared[`${space.folder}/secrets`] = secrets;
  const use = lamp();
  const config = (watt: number) => ({
    plugins: [use],
    bindings: {
      'acme.lamp/Lamp': { adapter: 'acme.lamp', config: { watt } },
      SecretStore: { adapter: 'acme.secrets', config: { watt } },
    },
  });
  const host = await space.host(config(1));
  const [lampBefore, secretsBefore] = [await host.get(Lamp), await host.get(SecretStore)];
  await lampBefore.light();
  expect(await secretsBefore.names()).toEqual(['PATH']);
  for (const watt of [2, 3]) {
    space.write('plugins.json', config(watt));
    await host.reconfigure();
    await expect(lampBefore.light()).rejects.toMatchObject(CLOSED);
    await expect(secretsBefore.names()).rejects.toMatchObject(CLOSED);
    expect(await (await host.get(Lamp)).light()).toBe('light');
    expect(await (await host.get(SecretStore)).names()).toEqual(['PATH']);
  }
  const [last, lastSecrets] = [await host.get(Lamp), await host.get(SecretStore)];
  await host.stop();
  await expect(last.light()).rejects.toMatchObject(CLOSED);
  await expect(lastSecrets.names()).rejects.toMatchObject(CLOSED);
  // It is its opener's, who may have it still.
  expect(await secrets.names()).toEqual(['PATH']);
  delete shared[`${space.folder}/secrets`];
});

test('of a contract without a door, whatever can be called is CLOSED', async () => {
  const Bare = capability<{ on(): string; wait(): Promise<string>; all(): AsyncIterable<string> }>('acme.bare/Bare', {
    major: 1,
  });
  const adapters = [{ id: 'acme.bare', provides: 'acme.bare/Bare@1' }];
  const use = space.plugin({
    id: 'acme.bare',
    adapters,
    manifest: { contributes: { adapters, capabilities: [{ id: 'acme.bare/Bare@1' }] } },
    code: `
      class It { on() { return 'on'; } async wait() { return 'waited'; } async *all() { yield 'one'; } }
      export default definePlugin({ adapters: { 'acme.bare': () => new It() } });`,
  });
  const host = await space.host({ plugins: [use], bindings: { 'acme.bare/Bare': { adapter: 'acme.bare' } } });
  const bare = await host.get(Bare);
  expect([bare.on(), await bare.wait()]).toEqual(['on', 'waited']);
  await host.stop();
  expect(() => bare.on()).toThrow(expect.objectContaining(CLOSED));
  await expect(bare.wait()).rejects.toMatchObject(CLOSED);
  await expect(bare.all()[Symbol.asyncIterator]().next()).rejects.toMatchObject(CLOSED);
});

test('an instance of a test, given to a host, is the test’s own after the stop', async () => {
  const objects = fake(ObjectStore);
  const host = await createTestHost({ config: { bindings: {} }, fakes: [] });
  host.override(ObjectStore, objects);
  const store = await host.get(ObjectStore);
  const id = await store.putBytes(BYTES);
  await host.stop();
  await expect(store.exists(id)).rejects.toMatchObject(CLOSED);
  expect(await objects.exists(id)).toBe(true);
});
