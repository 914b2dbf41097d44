/** Plugins in processes of their own under a host: demands, reports, reload, and capabilities from process to process. */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { ComputeHint, capability, ObjectStore, Queue, SecretStore, Storage } from '../../src/contracts/index.js';
import { Workspace } from '../support/workspace.js';

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const DIST = pathToFileURL(join(ROOT, 'dist')).href;

let space: Workspace;
beforeEach(() => {
  space = new Workspace();
});
afterEach(() => space[Symbol.asyncDispose]());

/** Writes a plugin with `run: process`; its `use`. */
function isolated(id: string, adapters: readonly object[], code: string, manifest: object = {}): string {
  space.write(`plugins/${id}/plugin.json`, {
    ...{ id, version: '1.0.0', main: './index.mjs', run: 'process' },
    ...{ contributes: { adapters }, ...manifest },
  });
  write(id, code);
  return `./plugins/${id}`;
}

function write(id: string, code: string): void {
  const contracts = `import { capability, definePlugin, FatalError, SecretValue, Storage } from '${DIST}/contracts/index.js';`;
  space.write(`plugins/${id}/index.mjs`, `${contracts}\n${code}`);
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const each of items) all.push(each);
  return all;
}

const secretStore = (get: string) => `
  import { writeFileSync, mkdirSync } from 'node:fs';
  export default definePlugin({ adapters: { 'acme.vault': (ctx) => ({
    get: async (name) => { ${get} }, put: async () => {}, names: async () => [String(process.pid)],
  }) } });`;
const VAULT = [{ id: 'acme.vault', provides: 'SecretStore@1' }];
const bindVault = (use: string) => ({ plugins: [use], bindings: { SecretStore: { adapter: 'acme.vault' } } });

describe('reload', () => {
  test('puts the code of now in place; whoever holds the instance goes on with it', async () => {
    const use = isolated('acme.vault', VAULT, secretStore(`return new SecretValue('one');`));
    const host = await space.host(bindVault(use));
    await host.reload('acme.vault');
    const store = await host.get(SecretStore);
    expect((await store.get('x')).reveal()).toBe('one');
    write('acme.vault', secretStore(`return new SecretValue('two');`));
    await host.reload('acme.vault');
    expect((await store.get('x')).reveal()).toBe('two');
    expect(await host.get(SecretStore)).toBe(store);
    write('acme.vault', 'not JavaScript');
    await expect(host.reload('acme.vault')).rejects.toMatchObject({ code: 'RC1301' });
    expect((await store.get('x')).reveal()).toBe('two');
    expect(host.report().instances.find(({ instance }) => instance === 'SecretStore#default')?.state).toBe('active');
  });

  test('gives the process what the permissions of the manifest say now, and keeps the old when it cannot', async () => {
    const code = secretStore(`
      if (name === 'env') return new SecretValue(process.env.HOSTMEND_TEST ?? 'none');
      writeFileSync('${space.folder}/' + name + '/x', '');
      return new SecretValue('written');`);
    for (const folder of ['a', 'b']) space.write(`${folder}/there`, '');
    const manifest = (more: object) => isolated('acme.vault', VAULT, code, more);
    const host = await space.host(bindVault(manifest({ permissions: { fs: { write: ['./a'] } } })));
    const store = await host.get(SecretStore);
    const asks = async (name: string) => (await store.get(name)).reveal();
    const served = (await store.names()).join();
    process.env.HOSTMEND_TEST = 'given';
    try {
      expect(await asks('a')).toBe('written');
      await expect(asks('b')).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });
      expect(await asks('env')).toBe('none');

      const now = { permissions: { fs: { write: ['./b'] }, env: ['HOSTMEND_TEST'] }, description: 'a vault' };
      manifest({ ...now, timeouts: 1 });
      await expect(host.reload('acme.vault')).rejects.toMatchObject({
        kind: 'ConfigInvalid',
        code: 'RC1107',
        message: expect.stringMatching(/plugin\.json:\d+:\d+ timeouts: unknown key/),
      });
      manifest({ ...now, contributes: { adapters: [{ ...VAULT[0], features: ['put'] }] } });
      await expect(host.reload('acme.vault')).rejects.toMatchObject({
        kind: 'ConfigInvalid',
        code: 'RELOAD_REFUSED',
        message: expect.stringMatching(/its manifest has another "contributes", of which.*host\.reconfigure\(\) puts/),
      });
      manifest({ ...now, when: { env: ['HOSTMEND_NOT_SET'] } });
      await expect(host.reload('acme.vault')).rejects.toThrow(
        'its manifest does not hold here any more (environment variable HOSTMEND_NOT_SET is not set)',
      );
      expect(await asks('env')).toBe('none');
      expect((await store.names()).join()).toBe(served);

      manifest(now);
      await host.reload('acme.vault');
      expect(await asks('env')).toBe('given');
      expect(await asks('b')).toBe('written');
      await expect(asks('a')).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });
      // It is what a new plan reads, too: there is nothing to make anew.
      expect((await host.reconfigure()).kept).toContain('SecretStore#default');
    } finally {
      delete process.env.HOSTMEND_TEST;
    }
  });

  test('before the plugin was needed has no code to load; its permissions are those of now all the same', async () => {
    const code = secretStore(`return new SecretValue(process.env.HOSTMEND_TEST ?? 'none');`);
    const host = await space.host(bindVault(isolated('acme.vault', VAULT, code)));
    isolated('acme.vault', VAULT, code, { permissions: { env: ['HOSTMEND_TEST'] } });
    process.env.HOSTMEND_TEST = 'given';
    try {
      await host.reload('acme.vault');
      expect((await (await host.get(SecretStore)).get('x')).reveal()).toBe('given');
    } finally {
      delete process.env.HOSTMEND_TEST;
    }
  });

  test('of a plugin in the host’s process is refused with what to do, of one that is not there with what there is', async () => {
    const host = await space.host({ bindings: { Storage: { adapter: 'local.memory' } } });
    await expect(host.reload('rollout.cloud-local')).rejects.toMatchObject({
      kind: 'ConfigInvalid',
      code: 'RELOAD_UNSUPPORTED',
      message: expect.stringContaining('"run": "process"'),
    });
    await expect(host.reload('acme.vault')).rejects.toMatchObject({
      code: 'ARGUMENT_INVALID',
      message: expect.stringContaining('rollout.cloud-local'),
    });
    await host.stop();
    await expect(host.reload('rollout.cloud-local')).rejects.toMatchObject({ code: 'CLOSED' });
  });
});

describe('a plugin that crashed too often', () => {
  const crashing = secretStore(`if (name === 'crash') process.exit(7); return new SecretValue(name);`);
  const failed = async () => {
    const host = await space.host({
      ...bindVault(isolated('acme.vault', VAULT, crashing)),
      bindings: {
        SecretStore: { default: 'a', instances: { a: { adapter: 'acme.vault' }, b: { adapter: 'acme.vault' } } },
      },
    });
    const store = await host.get(SecretStore);
    for (let i = 0; i < 3; i++) await expect(store.get('crash')).rejects.toMatchObject({ code: 'PLUGIN_CRASHED' });
    const state = () => host.report().instances.find(({ instance }) => instance === 'SecretStore#a');
    const plugin = () => host.report().plugins.find((each) => each.plugin === 'acme.vault');
    return { host, store, state, plugin };
  };
  const GIVEN_UP = { kind: 'PluginContract', code: 'PLUGIN_FAILED' };

  test('is failed with the reason, and so is what it serves, until it is reloaded; holders go on with it then', async () => {
    const { host, store, state, plugin } = await failed();
    const reason = expect.stringMatching(/crashed 3 times within 5 minutes/);
    expect(state()).toMatchObject({ state: 'failed', reason, retryAtMs: null });
    expect(plugin()).toMatchObject({ state: 'failed', reason });
    expect(host.plugins().find(({ id }) => id === 'acme.vault')).toMatchObject({ state: 'failed', reason });
    // What was asked for before, and again and again, and what never was.
    for (const name of ['a', 'a', 'b', 'b']) await expect(host.get(SecretStore, name)).rejects.toMatchObject(GIVEN_UP);
    await expect(store.get('x')).rejects.toMatchObject(GIVEN_UP);
    expect((await host.checkHealth()).instances[0]).toMatchObject({ state: 'failed' });

    const states: string[] = [];
    host.on('instance', ({ instance, from, to }) => states.push(`${instance} ${from} -> ${to}`));
    host.on('plugin', ({ plugin: id, from, to }) => states.push(`${id} ${from} -> ${to}`));
    await host.reload('acme.vault');
    expect(states).toEqual(['acme.vault failed -> loaded', 'SecretStore#a failed -> active']);
    expect(state()).toMatchObject({ state: 'active', reason: null });
    expect(plugin()).toMatchObject({ state: 'loaded', reason: null });
    expect(await host.get(SecretStore)).toBe(store);
    expect((await store.get('x')).reveal()).toBe('x');
    expect((await (await host.get(SecretStore, 'b')).get('x')).reveal()).toBe('x');
  });

  test('is started anew by a reconfiguration', async () => {
    const { host, store, state, plugin } = await failed();
    const { replaced } = await host.reconfigure();
    expect(replaced).toContain('SecretStore#a');
    expect(plugin()).toMatchObject({ state: 'ready', reason: null });
    expect((await (await host.get(SecretStore)).get('x')).reveal()).toBe('x');
    expect(state()).toMatchObject({ state: 'active' });
    await expect(store.get('x')).rejects.toMatchObject({ code: 'CLOSED' });
  });

  test('makes what holds its instance degraded, until it is reloaded; stopping disposes both', async () => {
    space.write('plugins/holder/plugin.json', {
      ...{ id: 'acme.holder', version: '1.0.0', main: './index.mjs' },
      contributes: {
        adapters: [{ id: 'acme.holder', provides: 'ComputeHint@1', requires: ['SecretStore'] }],
      },
    });
    space.write(
      'plugins/holder/index.mjs',
      `import { capability, definePlugin } from '${DIST}/contracts/index.js';
       export default definePlugin({ adapters: { 'acme.holder': async (ctx) => {
         const secrets = await ctx.get(capability('SecretStore', { major: 1 }));
         return { inventory: async () => (await secrets.get('x')).reveal(), preemptionSignal: async () => null };
       } } });`,
    );
    const host = await space.host({
      plugins: [isolated('acme.vault', VAULT, crashing), './plugins/holder'],
      bindings: { SecretStore: { adapter: 'acme.vault' }, ComputeHint: { adapter: 'acme.holder' } },
    });
    const hint = await host.get(ComputeHint);
    const store = await host.get(SecretStore);
    for (let i = 0; i < 3; i++) await expect(store.get('crash')).rejects.toMatchObject({ code: 'PLUGIN_CRASHED' });
    const holder = () => host.report().instances.find(({ instance }) => instance === 'ComputeHint#default');
    expect(holder()).toMatchObject({ state: 'degraded', reason: expect.stringMatching(/SecretStore#default.*gone/) });
    await host.reload('acme.vault');
    expect(holder()).toMatchObject({ state: 'active', reason: null });
    expect(await hint.inventory()).toBe('x');
    for (let i = 0; i < 3; i++) await expect(store.get('crash')).rejects.toMatchObject({ code: 'PLUGIN_CRASHED' });
    const { stopped, errors } = await host.stop();
    expect(stopped).toEqual(['ComputeHint#default']);
    expect(errors).toEqual([]);
    expect(host.report().instances.map(({ state }) => state)).toEqual(['stopped', 'stopped']);
  });
});

test('a crash makes the instance degraded, with an event, until the next call; its path permissions are of the configuration', async () => {
  const use = isolated(
    'acme.vault',
    VAULT,
    secretStore(`
      if (name === 'crash') process.exit(7);
      mkdirSync(ctx.config.to ?? '${space.folder}/kept/by', { recursive: true });
      return new SecretValue(name);`),
    { permissions: { fs: { write: ['./kept'] } } },
  );
  const host = await space.host(bindVault(use));
  const states: string[] = [];
  host.on('instance', ({ instance, to }) => states.push(`${instance} ${to}`));
  const store = await host.get(SecretStore);
  await store.get('x');
  expect(existsSync(space.path('kept/by'))).toBe(true);
  await expect(store.get('crash')).rejects.toMatchObject({ kind: 'Transient', code: 'PLUGIN_CRASHED' });
  const [report] = host.report().instances.filter(({ adapter }) => adapter === 'acme.vault');
  expect(report).toMatchObject({ state: 'degraded', reason: expect.stringContaining('exited with 7') });
  expect((await host.checkHealth()).instances.find(({ adapter }) => adapter === 'acme.vault')?.state).toBe('degraded');
  await store.get('y');
  expect((await host.checkHealth()).instances.find(({ adapter }) => adapter === 'acme.vault')?.state).toBe('active');
  expect(states).toEqual(['activating', 'active', 'degraded', 'active'].map((state) => `SecretStore#default ${state}`));
  expect(space.logged).toContainEqual(expect.stringMatching(/^error plugin acme\.vault: its process exited with 7/));
});

test('folders that the configuration names can be granted by their option; another instance’s come with it', async () => {
  const config = { properties: { root: { type: 'string', format: 'path' } } };
  const grant = ['${config.root}'];
  const use = isolated(
    'acme.files',
    [{ id: 'acme.files', provides: 'SecretStore@1', config }],
    `import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
     export default definePlugin({ adapters: { 'acme.files': ({ config: { root } }) => {
       mkdirSync(root, { recursive: true });
       return {
         put: async (name, text) => writeFileSync(root + '/' + name, text),
         get: async (name) => new SecretValue(readFileSync(root + '/' + name, 'utf8')),
         names: async () => [String(process.pid)],
       };
     } } });`,
    { permissions: { fs: { read: grant, write: grant } } },
  );
  const instance = (root: string) => ({ adapter: 'acme.files', config: { root } });
  const configOf = (...names: string[]) => ({
    plugins: [use],
    bindings: {
      SecretStore: { default: 'a', instances: Object.fromEntries(names.map((name) => [name, instance(name)])) },
    },
  });
  const host = await space.host(configOf('a', 'b'));
  const stores = [await host.get(SecretStore, 'a'), await host.get(SecretStore, 'b')] as const;
  for (const store of stores) await store.put('x', 'kept');
  const pids = [await stores[0].names(), await stores[1].names()];
  // Planned from the start: they share the one process.
  expect(pids[0]).toEqual(pids[1]);
  space.write('plugins.json', configOf('a', 'b', 'c'));
  await host.reconfigure();
  const third = await host.get(SecretStore, 'c');
  await third.put('x', 'too');
  expect(readFileSync(space.path('c/x'), 'utf8')).toBe('too');
  expect(await third.names()).not.toEqual(pids[0]);
  expect((await stores[0].get('x')).reveal()).toBe('kept');
  expect(await stores[0].names()).toEqual(await third.names());
});

test('an option that a permission names and no schema lists has to be in a configuration', async () => {
  const open = [{ ...VAULT[0], config: { additionalProperties: true } }];
  const permissions = { fs: { write: ['${config.root}'] } };
  const use = isolated('acme.vault', open, secretStore(`return new SecretValue('opened');`), { permissions });
  const bound = (config: object) => ({ plugins: [use], bindings: { SecretStore: { adapter: 'acme.vault', config } } });
  const host = await space.host(bound({ rot: './x' }));
  await expect(host.get(SecretStore)).rejects.toMatchObject({
    code: 'RC1303',
    message: expect.stringContaining(
      'plugin acme.vault: "${config.root}" in its manifest\'s permissions grants nothing, as no configuration of its instances has the option "root"',
    ),
  });
  space.write('plugins.json', bound({ root: './x' }));
  await host.reconfigure();
  expect((await (await host.get(SecretStore)).get('x')).reveal()).toBe('opened');
});

test('a queue in a process of its own, on a storage in the host’s: a crash loses nothing that was promised', async () => {
  const use = isolated(
    'acme.queue',
    [{ id: 'acme.queue', provides: 'Queue@1', requires: ['Storage'], features: ['lease', 'replay'] }],
    `import { InMemQueue } from '${DIST}/adapters/cloud-local/index.js';
     export default definePlugin({ adapters: { 'acme.queue': async ({ get }) => {
       const queue = await InMemQueue.open(await get(Storage));
       return Object.assign(queue, { purge: () => process.abort() });
     } } });`,
  );
  const bindings = { Storage: { adapter: 'local.memory' }, Queue: { adapter: 'acme.queue' } };
  const host = await space.host({ plugins: ['rollout.cloud-local', use], bindings });
  const queue = await host.get(Queue);
  const ids = await queue.enqueueMany(['a', 'b', 'c'].map((text) => Buffer.from(text)));
  const first = await queue.dequeueWithLease(60_000);
  await queue.ack(ids[0] as (typeof ids)[number], first?.token);
  await expect(queue.purge('pending')).rejects.toMatchObject({ code: 'PLUGIN_CRASHED' });
  const items = await queue.dequeueMany(10, 60_000);
  expect(items.map(({ id, payload }) => `${id} ${Buffer.from(payload)}`)).toEqual([`${ids[1]} b`, `${ids[2]} c`]);
  expect(await (await host.get(Storage)).durability).toBe('off');
  expect((await host.stop()).errors).toEqual([]);
});

test('a capability that one isolated plugin brings serves another, behind the checks of the asker’s token', async () => {
  const notes = `const Notes = capability('acme.notes/Notes', { major: 1, door: (impl) => ({
    add: async (text) => {
      if (typeof text !== 'string') throw new FatalError('SchemaViolation', 'text must be text', { code: 'ARGUMENT_INVALID' });
      return impl.add(text);
    },
  }) });`;
  const uses = [
    isolated(
      'acme.notes',
      [{ id: 'acme.notes', provides: 'acme.notes/Notes@1' }],
      `${notes} const texts = [];
       export default definePlugin({ adapters: { 'acme.notes': () => ({ add: async (text) => texts.push(text) }) } });`,
      {
        contributes: {
          adapters: [{ id: 'acme.notes', provides: 'acme.notes/Notes@1' }],
          capabilities: [{ id: 'acme.notes/Notes@1' }],
        },
      },
    ),
    isolated(
      'acme.vault',
      [{ ...VAULT[0], requires: ['acme.notes/Notes'] }],
      `${notes}
       export default definePlugin({ adapters: { 'acme.vault': async ({ get }) => {
         const book = await get(Notes);
         return { get: async (name) => new SecretValue(String(await book.add(name === 'wrong' ? 7 : name))), put: async () => {}, names: async () => [] };
       } } });`,
    ),
  ];
  const host = await space.host({
    plugins: uses,
    bindings: { SecretStore: { adapter: 'acme.vault' }, 'acme.notes/Notes': { adapter: 'acme.notes' } },
  });
  const store = await host.get(SecretStore);
  expect([(await store.get('a')).reveal(), (await store.get('b')).reveal()]).toEqual(['1', '2']);
  await expect(store.get('wrong')).rejects.toMatchObject({ code: 'ARGUMENT_INVALID', message: 'text must be text' });
  interface Notes {
    add(text: string): Promise<number>;
  }
  const mine = await host.get(capability<Notes>('acme.notes/Notes', { major: 1 }));
  expect(await mine.add('c')).toBe(3);
});

test('the manifest that the docs show is one', async () => {
  const page = readFileSync(join(ROOT, 'docs/isolation.md'), 'utf8');
  const manifest = JSON.parse(/```json\n([\s\S]*?)```/.exec(page)?.[1] ?? '') as object;
  space.write('plugins/acme.vault/plugin.json', manifest);
  write('acme.vault', secretStore('return new SecretValue(String(process.env.VAULT_ADDR));'));
  space.write('plugins/acme.vault/index.js', `export { default } from './index.mjs';`);
  const host = await space.host(bindVault('./plugins/acme.vault'));
  expect((await (await host.get(SecretStore)).get('x')).reveal()).toBe('undefined');
});

describe('middleware of a plugin in a process of its own', () => {
  const traced = (body: string) => `
    import { decorate } from '${DIST}/contracts/index.js';
    export default definePlugin({ middleware: { 'acme.trace': (inner, ctx) => { ${body} } } });`;
  const decorated = traced(`
    console.log(['wraps', ctx.capability, ctx.adapter, ctx.name, ctx.config.tag].join(' '));
    return decorate(ctx.capability, inner, {
      call: async ({ method, args }, proceed) => {
        if (args[0] === 'crash') process.exit(9);
        console.log(ctx.config.tag + ' ' + method);
        return proceed(typeof args[0] === 'string' ? [args[0].replace(/^[a-z]$/, (letter) => letter.toUpperCase()), ...args.slice(1)] : args);
      },
      iterate: ({ method }, proceed) => {
        console.log(ctx.config.tag + ' ' + method);
        return proceed();
      },
    });`);
  const trace = (wraps: string) =>
    isolated('acme.trace', [], traced(''), {
      contributes: {
        middleware: [{ id: 'acme.trace', wraps: [wraps], config: { properties: { tag: { default: 'traced' } } } }],
      },
    });
  const lines = () => space.logged.filter((line) => /traced|wraps/.test(line)).map((line) => line.split(': ')[1]);

  test('stands round an instance of this process: its calls, streams, iterables and errors cross over and back', async () => {
    const use = trace('ObjectStore@1');
    write('acme.trace', decorated);
    const host = await space.host({
      plugins: ['rollout.cloud-local', use],
      bindings: { ObjectStore: { adapter: 'local.fs', config: { root: './objects' }, middleware: ['acme.trace'] } },
    });
    const store = await host.get(ObjectStore);
    const id = await store.putStream(new Blob(['hello']).stream());
    expect(await new Response(await store.getStream(id)).text()).toBe('hello');
    expect(await store.stat(id)).toMatchObject({ size: 5 });
    expect(await collect(store.list())).toEqual([id]);
    await expect(store.getBytes('0'.repeat(64) as typeof id)).rejects.toMatchObject({ code: 'OBJECT_NOT_FOUND' });
    expect((await host.stop()).errors).toEqual([]);
    expect(lines()).toEqual([
      'wraps ObjectStore@1 local.fs default traced',
      ...['putStream', 'getStream', 'stat', 'list', 'getBytes'].map((method) => `traced ${method}`),
    ]);
  });

  test('of a storage: a transaction that is begun here is committed through it', async () => {
    const use = trace('Storage@1');
    write('acme.trace', decorated);
    const host = await space.host({
      plugins: ['rollout.cloud-local', use],
      bindings: { Storage: { adapter: 'local.memory', middleware: ['acme.trace'] } },
    });
    const storage = await host.get(Storage);
    const txn = storage.begin();
    txn.put({ namespace: 'n', path: ['k'] }, Buffer.from('v'));
    expect(await txn.commit()).toBe(true);
    expect(await storage.get({ namespace: 'n', path: ['k'] })).toEqual(Buffer.from('v'));
    expect((await host.stop()).errors).toEqual([]);
    expect(lines()).toContain('traced commit');
  });

  test('a crash of it is one of its instance, which the next call puts it round again; so does a reload', async () => {
    const vault = isolated('acme.vault', VAULT, secretStore('return new SecretValue(name);'));
    const use = trace('SecretStore@1');
    write('acme.trace', decorated);
    const host = await space.host({
      plugins: [vault, use],
      bindings: { SecretStore: { adapter: 'acme.vault', middleware: ['acme.trace'] } },
    });
    const store = await host.get(SecretStore);
    expect((await store.get('x')).reveal()).toBe('X');
    const pids = await store.names();
    await expect(store.get('crash')).rejects.toMatchObject({
      ...{ kind: 'Transient', code: 'PLUGIN_CRASHED' },
      message: expect.stringContaining('plugin acme.trace'),
    });
    const state = () => host.report().instances.find(({ adapter }) => adapter === 'acme.vault')?.state;
    expect(state()).toBe('degraded');
    expect((await store.get('y')).reveal()).toBe('Y');
    expect(state()).toBe('active');
    write('acme.trace', decorated.replaceAll('toUpperCase', 'trim'));
    await host.reload('acme.trace');
    expect((await store.get('y')).reveal()).toBe('y');
    expect(await store.names()).toEqual(pids);
    expect((await host.stop()).errors).toEqual([]);
  });

  test('one that is no decoration is disposed before what it wraps, which is once', async () => {
    const vault = isolated(
      'acme.vault',
      VAULT,
      `
      export default definePlugin({ adapters: { 'acme.vault': () => ({
        get: async (name) => new SecretValue(name), put: async () => {}, names: async () => [],
        close: async () => console.log('traced: the vault closed'),
      }) } });`,
    );
    const use = trace('SecretStore@1');
    write(
      'acme.trace',
      traced(`return { ...inner, close: async () => { console.log('traced: closes'); await inner.close?.(); } };`),
    );
    const host = await space.host({
      plugins: [vault, use],
      bindings: { SecretStore: { adapter: 'acme.vault', middleware: ['acme.trace'] } },
    });
    expect((await (await host.get(SecretStore)).get('x')).reveal()).toBe('x');
    expect((await host.stop()).errors).toEqual([]);
    expect(space.logged.filter((line) => line.includes('traced: ')).map((line) => line.split('traced: ')[1])).toEqual([
      'closes',
      'the vault closed',
    ]);
  });

  test('of a capability that a plugin brings: it stands round that, too', async () => {
    const code = `export default definePlugin({ adapters: { 'acme.notes': () => ({
      add: async (text) => 'added ' + text, all: async function* () { yield 'a'; yield 'b'; },
    }) } });`;
    space.write('plugins/acme.notes/plugin.json', {
      ...{ id: 'acme.notes', version: '1.0.0', main: './index.mjs' },
      contributes: {
        capabilities: [{ id: 'acme.notes/Notes@1' }],
        adapters: [{ id: 'acme.notes', provides: 'acme.notes/Notes@1' }],
      },
    });
    write('acme.notes', code);
    const use = trace('*');
    write('acme.trace', decorated);
    const host = await space.host({
      plugins: ['./plugins/acme.notes', use],
      bindings: { 'acme.notes/Notes': { adapter: 'acme.notes', middleware: ['acme.trace'] } },
    });
    interface Notes {
      add(text: string): Promise<string>;
      all(): AsyncIterable<string>;
    }
    const notes = await host.get(capability<Notes>('acme.notes/Notes', { major: 1 }));
    expect(await notes.add('x')).toBe('added x');
    expect(await collect(notes.all())).toEqual(['a', 'b']);
    expect((await host.stop()).errors).toEqual([]);
    expect(lines().slice(1)).toEqual(['traced add', 'traced all']);
  });
});
