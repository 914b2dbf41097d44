/** Another configuration under a running host, and the signals that end it. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { ObjectStore, Queue, SecretStore, Storage } from '../../src/contracts/index.js';
import type { PluginContext } from '../../src/contracts/plugin.js';
import type { Host } from '../../src/registry/index.js';
import { Workspace } from '../support/workspace.js';

let space: Workspace;
let use: string;
beforeEach(() => {
  space = new Workspace();
  use = space.plugin({
    id: 'acme.parts',
    adapters: [
      { id: 'p.storage', provides: 'Storage@1', config: CONFIG },
      { id: 'p.queue', provides: 'Queue@1', requires: ['Storage'], config: CONFIG },
      { id: 'p.secrets', provides: 'SecretStore@1', config: CONFIG },
      { id: 'p.objects', provides: 'ObjectStore@1', config: CONFIG },
    ],
    code: `
      const make = (...needs) => async (ctx) => {
        const me = ctx.id.slice(2) + ctx.config.v;
        for (const need of needs) await ctx.get(need);
        if (ctx.config.v === 13) throw new Error('unlucky');
        if (ctx.config.v === 99) await new Promise((_, reject) => ctx.signal.addEventListener('abort', () => reject(ctx.signal.reason)));
        log('made ' + me);
        (globalThis[Symbol.for('rollout-cloud/test/contexts')] ??= {})[ctx.id] = ctx;
        return new Proxy({ v: ctx.config.v }, { get: (it, key) => key === 'v' ? it.v : key === 'then' || key === 'health' ? undefined
          : key === 'drain' ? async () => { log('drained ' + me); }
          : key === 'close' || key === Symbol.asyncDispose ? async () => { log('closed ' + me); } : async () => {} });
      };
      export default definePlugin({
        activate() { log('activate'); }, deactivate() { log('deactivate'); },
        adapters: { 'p.storage': make(), 'p.queue': make(Storage), 'p.secrets': make(), 'p.objects': make() } });`,
  });
});
afterEach(() => space[Symbol.asyncDispose]());

const CONTEXTS = Symbol.for('rollout-cloud/test/contexts');
const CONFIG = { properties: { v: { type: 'integer', default: 1 } } };
const file = (bindings: Record<string, number>) => ({
  plugins: [use],
  bindings: Object.fromEntries(
    Object.entries(bindings).map(([capability, v]) => [
      capability,
      { adapter: `p.${ADAPTERS[capability as keyof typeof ADAPTERS]}`, config: { v } },
    ]),
  ),
});
const ADAPTERS = { Storage: 'storage', Queue: 'queue', SecretStore: 'secrets', ObjectStore: 'objects' } as const;
const version = async (host: Host, capability: typeof SecretStore) =>
  ((await host.get(capability)) as unknown as { v: number }).v;

/** Rewrites plugins.json and puts it into effect. */
function change(host: Host, bindings: Record<string, number>) {
  space.write('plugins.json', file(bindings));
  return host.reconfigure();
}

describe('reconfigure', () => {
  test('activates the new, switches, drains and disposes the old; what has not changed stays', async () => {
    const host = await space.host(file({ Storage: 1, SecretStore: 1 }));
    const storage = await host.get(Storage);
    await host.get(SecretStore);
    space.log.length = 0;
    const report = await change(host, { Storage: 1, SecretStore: 2 });
    expect(space.log).toEqual(['made secrets2', 'drained secrets1', 'closed secrets1']);
    expect(await version(host, SecretStore)).toBe(2);
    expect(await host.get(Storage)).toBe(storage);
    expect(report).toMatchObject({
      replaced: ['SecretStore#default'],
      kept: expect.arrayContaining(['Storage#default']),
      added: [],
      removed: [],
      activated: [{ instance: 'SecretStore#default', state: 'active' }],
      stopped: { stopped: ['SecretStore#default'], errors: [] },
    });
    expect(space.imported).toHaveLength(1);
  });

  test('what depends on something that changes is made anew with it, in the order of its needs', async () => {
    const host = await space.host(file({ Storage: 1, Queue: 1 }));
    await host.get(Queue);
    space.log.length = 0;
    await change(host, { Storage: 2, Queue: 1 });
    expect(space.log).toEqual([
      'made storage2',
      'made queue1',
      'drained queue1',
      'closed queue1',
      'drained storage1',
      'closed storage1',
    ]);
  });

  test('what nobody has asked for yet is planned anew, and not activated', async () => {
    const host = await space.host(file({ Storage: 1, SecretStore: 1 }));
    await change(host, { Storage: 1, SecretStore: 2 });
    expect(space.log).toEqual([]);
    expect(await version(host, SecretStore)).toBe(2);
  });

  test('keeps the old when the new cannot be activated, and lets go of what it had made', async () => {
    const host = await space.host(file({ SecretStore: 1, Storage: 1 }));
    const [secrets, storage] = [await host.get(SecretStore), await host.get(Storage)];
    space.log.length = 0;
    await expect(change(host, { SecretStore: 13, Storage: 2 })).rejects.toMatchObject({
      code: 'RC1310',
      message: expect.stringMatching(
        /^RC1310 the new configuration was not put into effect, the old one stays:\nSecretStore#default: RC1303 .*unlucky$/,
      ),
    });
    expect(await host.get(SecretStore)).toBe(secrets);
    expect(await host.get(Storage)).toBe(storage);
    expect(space.log).toEqual(['made storage2', 'drained storage2', 'closed storage2']);
    await change(host, { SecretStore: 3, Storage: 1 });
    expect(await version(host, SecretStore)).toBe(3);
  });

  test('keeps the old when the new is no configuration', async () => {
    const host = await space.host(file({ SecretStore: 1 }));
    const secrets = await host.get(SecretStore);
    space.write('plugins.json', { ...file({ SecretStore: 2 }), bindigns: {} });
    await expect(host.reconfigure()).rejects.toMatchObject({ code: 'RC1003' });
    expect(await host.get(SecretStore)).toBe(secrets);
  });

  test('adds and takes away instances, also from the container; what the application bound there stays', async () => {
    const host = await space.host(file({ Storage: 1, SecretStore: 1 }));
    await host.get(SecretStore);
    const mine = { v: 77 };
    (await host.container.rebind(Storage.key)).toConstantValue(mine);
    const two = { a: { adapter: 'p.secrets', config: { v: 1 } }, b: { adapter: 'p.secrets', config: { v: 2 } } };
    const config = file({ Storage: 2, ObjectStore: 1 });
    space.write('plugins.json', {
      ...config,
      bindings: { ...config.bindings, SecretStore: { default: 'b', instances: two } },
    });
    await host.reconfigure();
    expect(host.has(SecretStore, 'default')).toBe(false);
    expect(await version(host, SecretStore)).toBe(2);
    expect(((await host.get(SecretStore, 'a')) as unknown as { v: number }).v).toBe(1);
    await expect(host.get(SecretStore, 'default')).rejects.toMatchObject({ code: 'RC1122' });
    expect(await host.get(ObjectStore)).toBeDefined();
    expect(await host.get(Storage)).toBe(mine);
    // Only which one is the default changes: both stay.
    const [a, b] = [await host.get(SecretStore, 'a'), await host.get(SecretStore, 'b')];
    space.write('plugins.json', {
      ...config,
      bindings: { ...config.bindings, SecretStore: { default: 'a', instances: two } },
    });
    await host.reconfigure();
    expect(await host.get(SecretStore)).toBe(a);
    expect(await host.get(SecretStore, 'b')).toBe(b);
    expect(host.bindings().find(({ name }) => name === 'a')?.isDefault).toBe(true);
  });

  test('a plugin that is not listed any more is deactivated; one that stays is not activated twice', async () => {
    const other = space.plugin({
      id: 'acme.other',
      adapters: [{ id: 'o.secrets', provides: 'SecretStore@1' }],
      code: `export default definePlugin({ adapters: { 'o.secrets': () => ({ get() {}, put() {}, names() {} }) } });`,
    });
    const host = await space.host(file({ SecretStore: 1 }));
    await host.get(SecretStore);
    await change(host, { SecretStore: 2 });
    await host.reconfigure({
      config: { plugins: [space.path(other)], bindings: { SecretStore: { adapter: 'o.secrets' } } },
    });
    expect(space.log.filter((line) => line.endsWith('activate'))).toEqual(['activate', 'deactivate']);
    expect(host.report().plugins.map(({ plugin }) => plugin)).toEqual(['acme.other']);
  });

  test('calls take turns, and a stop ends the one under way', async () => {
    const host = await space.host(file({ SecretStore: 1 }));
    await host.get(SecretStore);
    const turns = [2, 3].map((v) => host.reconfigure({ config: space.write(`${v}.json`, file({ SecretStore: v })) }));
    await Promise.all(turns);
    expect(space.log).toEqual([
      ...['activate', 'made secrets1', 'made secrets2', 'drained secrets1', 'closed secrets1'],
      ...['made secrets3', 'drained secrets2', 'closed secrets2'],
    ]);
    expect(await version(host, SecretStore)).toBe(3);
    const hanging = host.reconfigure({ config: space.write('99.json', file({ SecretStore: 99 })) }).then(
      () => 'done',
      ({ code }) => code,
    );
    await new Promise((resolve) => setTimeout(resolve, 10));
    const { errors } = await host.stop();
    expect(await hanging).toBe('CLOSED');
    expect(errors).toEqual([]);
    expect(space.log.at(-2)).toBe('closed secrets3');
    await expect(host.reconfigure()).rejects.toMatchObject({ code: 'CLOSED' });
  });

  test('a start under way goes on with what takes the place of what it has asked for', async () => {
    const bound = { onFailure: 'abort' };
    const config = (v: number) => ({
      plugins: [use],
      bindings: {
        SecretStore: { ...bound, adapter: 'p.secrets', config: { v } },
        ...(v === 99 && { ObjectStore: { adapter: 'p.objects' } }),
      },
    });
    const host = await space.host(config(99));
    const starting = host.start({ activate: [SecretStore, ObjectStore] });
    space.write('plugins.json', config(2));
    await host.reconfigure();
    const { started, failed } = await starting;
    expect(failed).toEqual([]);
    expect(started.map(({ instance, state }) => `${instance} ${state}`)).toContain('SecretStore#default active');
    expect(host.report().state).toBe('running');
    expect(await version(host, SecretStore)).toBe(2);
  });

  test('a source that is not given stays as it was last', async () => {
    const host = await space.host(file({ SecretStore: 1 }));
    await host.reconfigure({ set: { 'bindings.SecretStore.config.v': 5 } });
    expect(await version(host, SecretStore)).toBe(5);
    await host.reconfigure();
    expect(await version(host, SecretStore)).toBe(5);
    await expect(host.reconfigure({ set: { 'bindings.SecretStore.config.v': 'x' } })).rejects.toMatchObject({
      code: 'RC1105',
    });
    await host.reconfigure({ set: {} });
    expect(await version(host, SecretStore)).toBe(1);
  });

  test('an instance that was made later is told of the loss of one that was kept', async () => {
    const host = await space.host(file({ Storage: 1, Queue: 1 }));
    await host.get(Queue);
    await change(host, { Storage: 1, Queue: 2 });
    const contexts = (globalThis as unknown as Record<symbol, Record<string, PluginContext>>)[CONTEXTS];
    contexts?.['p.storage']?.report({ status: 'lost', reason: 'gone' });
    expect(host.report().instances.find(({ instance }) => instance === 'Queue#default')).toMatchObject({
      state: 'degraded',
      reason: 'Storage#default, which it holds, is gone: gone',
    });
    delete (globalThis as Record<symbol, unknown>)[CONTEXTS];
  });

  test('what was given beside the manifests counts, too: who holds what goes is made anew, on what comes', async () => {
    const app = space.plugin({
      id: 'acme.app',
      adapters: [{ id: 'app', provides: 'ObjectStore@1' }],
      code: `export default definePlugin({ adapters: { app: async () => {
        const held = await globalThis[Symbol.for('rollout-cloud/test/host')].get(SecretStore);
        return new Proxy({ held }, { get: (it, key) => key === 'held' ? held : ['then', 'health', 'drain'].includes(key) ? undefined : async () => {} });
      } } });`,
    });
    const config = (v: number) => ({
      plugins: [use, app],
      bindings: { SecretStore: { adapter: 'p.secrets', config: { v } }, ObjectStore: { adapter: 'app' } },
    });
    const host = await space.host(config(1));
    const global = globalThis as Record<symbol, unknown>;
    global[Symbol.for('rollout-cloud/test/host')] = host;
    try {
      await host.get(ObjectStore);
      space.write('plugins.json', config(2));
      expect((await host.reconfigure()).replaced).toEqual(['SecretStore#default', 'ObjectStore#default']);
      const { held } = (await host.get(ObjectStore)) as unknown as { held: { v: number } };
      expect(held.v).toBe(2);
    } finally {
      delete global[Symbol.for('rollout-cloud/test/host')];
    }
  });

  test('a secret that another store serves is another', async () => {
    const store = (id: string) => ({ adapter: 'store', config: { id } });
    const told = space.plugin({
      id: 'acme.told',
      adapters: [
        { id: 'store', provides: 'SecretStore@1', config: { properties: { id: { type: 'string' } } } },
        { id: 'told', provides: 'ObjectStore@1', config: { properties: { token: { type: 'string' } } } },
      ],
      code: `export default definePlugin({ adapters: {
        store: ({ config }) => ({ get: async () => new SecretValue('of ' + config.id), put() {}, names() {} }),
        told: ({ config }) => { log(config.token); return new Proxy({}, {
        get: (_, key) => ['then', 'health', 'drain'].includes(key) ? undefined : async () => {} }); } } });`,
    });
    const config = (standard: string) => ({
      plugins: [told],
      bindings: {
        SecretStore: { default: standard, instances: { a: store('a'), b: store('b') } },
        ObjectStore: { adapter: 'told', config: { token: { $secret: 'TOKEN' } } },
      },
    });
    const host = await space.host(config('a'));
    await host.get(SecretStore, 'b');
    await host.get(ObjectStore);
    space.write('plugins.json', config('b'));
    expect((await host.reconfigure()).replaced).toEqual(['ObjectStore#default']);
    expect(space.log).toEqual(['of a', 'of b']);
  });

  test.each([
    ['a slip', { confg: './other.json' }, 'Did you mean "config"?'],
    ['a path', './other.json', 'changed must be an object'],
  ])('%s in what is to change is refused', async (_, changed, message) => {
    const host = await space.host(file({ SecretStore: 1 }));
    await expect(host.reconfigure(changed as never)).rejects.toThrow(message);
    // As is what a variable without a value is given for.
    expect((await host.reconfigure({ config: undefined } as never)).kept).toContain('SecretStore#default');
  });

  test('a plugin whose instance is still being closed when a stop comes is deactivated after it', async () => {
    const slow = space.plugin({
      id: 'acme.slow',
      // Not where plugins are found: it comes with the new configuration.
      folder: 'later/slow',
      adapters: [{ id: 'slow', provides: 'SecretStore@1' }],
      code: `export default definePlugin({ deactivate() { log('deactivate slow'); }, adapters: { slow: () => {
        log('made slow');
        return { get() {}, put() {}, names() {}, close: () => new Promise((r) => setTimeout(r, 50)).then(() => log('closed slow')) };
      } } });`,
    });
    const host = await space.host(file({ SecretStore: 1, ObjectStore: 1 }));
    await host.getAll(SecretStore);
    await host.get(ObjectStore);
    const next = file({ ObjectStore: 99 });
    space.write('plugins.json', {
      plugins: [...next.plugins, slow],
      bindings: { ...next.bindings, SecretStore: { adapter: 'slow' } },
    });
    const isUp = new Promise((resolve) => {
      host.on('instance', ({ adapter, to }) => adapter === 'slow' && to === 'active' && resolve(null));
    });
    const turn = host.reconfigure().catch(({ code }) => code);
    await isUp;
    await host.stop();
    expect(await turn).toBe('CLOSED');
    expect(space.log.filter((line) => line.endsWith('slow'))).toEqual(['made slow', 'closed slow', 'deactivate slow']);
  });

  test('an old instance that cannot be disposed is in the report, and the new configuration holds', async () => {
    const bad = space.plugin({
      id: 'acme.bad',
      adapters: [{ id: 'bad', provides: 'SecretStore@1', config: CONFIG }],
      code: `export default definePlugin({ adapters: { bad: (ctx) => ({ v: ctx.config.v, get() {}, put() {}, names() {},
        close() { throw new Error('stuck'); } }) } });`,
    });
    const config = (v: number) => ({ plugins: [bad], bindings: { SecretStore: { adapter: 'bad', config: { v } } } });
    const host = await space.host(config(1));
    await host.get(SecretStore);
    space.write('plugins.json', config(2));
    const { stopped } = await host.reconfigure();
    expect(stopped.errors).toEqual([{ instance: 'SecretStore#default', error: new Error('stuck') }]);
    expect(await version(host, SecretStore)).toBe(2);
  });
});

describe('handleSignals', () => {
  const built = new URL('../../dist/index.js', import.meta.url).href;

  /** A process that waits with a host on one plugin, whose instance logs when it is closed. */
  async function waiting(close: string, more = '', wrapper: readonly string[] = []) {
    space.write('plugins/slow/plugin.json', {
      id: 'slow',
      version: '1.0.0',
      main: './index.mjs',
      contributes: { adapters: [{ id: 'slow', provides: 'SecretStore@1' }] },
    });
    space.write(
      'plugins/slow/index.mjs',
      `export default { [Symbol.for('rollout-cloud/plugin')]: true, adapters: { slow: () => ({
        get() {}, put() {}, names() {}, async close() { console.log('closing'); ${close}; console.log('closed'); } }) } };`,
    );
    const main = space.write(
      'main.mjs',
      `import { createHost, SecretStore } from ${JSON.stringify(built)};
       const host = await createHost({ config: { plugins: [${JSON.stringify(space.path('plugins/slow'))}] } });
       await host.get(SecretStore);
       const off = host.handleSignals({ onStopped: (report, signal) => console.log(signal, report.stopped.join()) });
       ${more}
       setInterval(() => {}, 1000);
       console.log('ready');`,
    );
    const [program = '', ...args] = [...wrapper, process.execPath, main];
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    let stdout = '';
    child.stdout.on('data', (chunk) => {
      stdout += chunk;
    });
    const closed = once(child, 'close');
    const said = async (word: string) => {
      while (!stdout.includes(word)) {
        const [code] = await Promise.race([once(child.stdout, 'data'), closed]);
        if (code === 1) throw new Error(`it ended without saying ${word}`);
      }
    };
    await said('ready');
    return {
      child,
      said,
      ended: closed.then(([code, signal]) => ({ code, signal, lines: stdout.trim().split('\n') })),
    };
  }

  test('stops the host, then ends the process as the signal would', async () => {
    const { child, ended } = await waiting('');
    child.kill('SIGTERM');
    expect(await ended).toMatchObject({
      signal: 'SIGTERM',
      lines: ['ready', 'closing', 'closed', 'SIGTERM SecretStore#default'],
    });
  });

  test('a second signal ends it at once', async () => {
    const { child, said, ended } = await waiting('await new Promise(() => {})');
    child.kill('SIGINT');
    await said('closing');
    child.kill('SIGINT');
    expect(await ended).toMatchObject({ signal: 'SIGINT', lines: ['ready', 'closing'] });
  });

  // The kernel drops signals to process 1 that nothing handles.
  const unshare = ['unshare', '--user', '--map-root-user', '--pid', '--fork', '--kill-child'];
  const isPossible = spawnSync(unshare[0] as string, [...unshare.slice(1), 'true']).status === 0;
  (isPossible ? test : test.skip)(
    `ends process 1 of a container, too${isPossible ? '' : ' (skipped: no namespace of its own can be had here)'}`,
    async () => {
      const kill = `setTimeout(() => process.kill(process.pid, 'SIGTERM'), 10); setTimeout(() => process.exit(1), 10_000);`;
      const { ended } = await waiting('', kill, unshare);
      expect(await ended).toMatchObject({ code: 128 + 15, lines: ['ready', 'closing', 'closed', expect.any(String)] });
    },
  );

  test('a slip in its options is refused, before anything is handled', async () => {
    const host = await space.host(file({}));
    const handle = (options: unknown) => () => host.handleSignals(options as never);
    expect(handle({ signal: 'SIGTERM' })).toThrow('Did you mean "signals"?');
    expect(handle({ signals: 'SIGTERM' })).toThrow('options.signals must be a list of signals');
    expect(handle({ signals: ['SIGTERM', 'SIGTREM'] })).toThrow('options.signals must be signals that can be handled');
    expect(handle({ signals: ['SIGTERM', 'SIGKILL'] })).toThrow('options.signals must be signals that can be handled');
    expect(handle({ onStopped: 1 })).toThrow('options.onStopped must be a function');
    expect(process.listenerCount('SIGTERM')).toBe(0);
  });

  test('can be taken back', async () => {
    const { child, ended } = await waiting('', 'off();');
    child.kill('SIGTERM');
    expect(await ended).toMatchObject({ signal: 'SIGTERM', lines: ['ready'] });
  });
});
