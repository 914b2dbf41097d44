/** A plugin in a process of its own: what it may ask for, how it misbehaves, crashes, hangs, is reloaded and ends. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import { MemoryStorage } from '../../src/adapters/cloud-local/memory-storage.js';
import { capability } from '../../src/contracts/capability.js';
import { ObjectStore, SecretValue, Storage } from '../../src/contracts/index.js';
import { reloadIsolated } from '../../src/registry/isolation/isolate.js';
import { alive, type Isolated, isolate, openSecrets, secrets, started, stopAll, until } from './isolation-support.js';

afterEach(stopAll);

const BLOCK = 'for (;;);';
const code = (name: string) => expect.objectContaining({ code: name });

describe('what the context has', () => {
  test('configuration, names, capabilities, logger, and what it owns, released in reverse order after the instance', async () => {
    const plugin = await secrets(
      {},
      {
        adapter: { requires: ['Storage', 'ObjectStore?', 'Storage#other', 'SecretStore*'] },
        factory: `
          setUp = async (ctx) => {
            const storage = await ctx.get(Storage);
            const txn = storage.begin();
            txn.put({ namespace: 'n', path: ['k'] }, Buffer.from(ctx.config.deep.text));
            await txn.commit();
            const all = await ctx.getAll(SecretStore, { withinMs: 7 });
            ctx.logger.info('has', { found: [
              ctx.id, ctx.name, ctx.has(Storage), ctx.has(contracts.ObjectStore), ctx.has(Storage, 'other'),
              await storage.get({ namespace: 'n', path: ['k'] }), storage.durability, storage === await ctx.get(Storage),
              await (await all[0].get('x')).reveal(), all.failed[0].name, all.failed[0].error.code, all.absent,
            ] });
            for (const name of ['a', 'b']) ctx.own(name, () => console.log('released ' + name));
            ctx.signal.addEventListener('abort', () => console.log('aborted'));
          }
          more = { [Symbol.asyncDispose]: async () => console.log('disposed') };`,
      },
    );
    const contexts: unknown[] = [];
    const storage = await MemoryStorage.open();
    const store = await openSecrets(
      plugin,
      { deep: { text: 'kept' } },
      {
        name: 'mine',
        logger: { info: (_: string, context: unknown) => contexts.push(context) },
        has: (asked: { name: string }, name?: string) => asked.name === 'Storage' && name === undefined,
        get: async () => storage,
        getAll: async (_: unknown, options: unknown) =>
          contexts.push(options) &&
          Object.assign([{ get: async (name: string) => new SecretValue(`of ${name}`), put() {}, names() {} }], {
            failed: [{ name: 'bad', error: Object.assign(new Error('no'), { code: 'E' }) }],
            absent: 'not quite',
          }),
      },
    );
    plugin.logged.length = 0;
    await (store as unknown as AsyncDisposable)[Symbol.asyncDispose]();
    await until(() => plugin.logged.length >= 4);
    expect(contexts).toEqual([
      { withinMs: 7 },
      {
        found: [
          ...['acme.secrets', 'mine', true, false, false],
          ...[Buffer.from('kept'), 'off', true, 'of x', 'bad', 'E', 'not quite'],
        ],
      },
    ]);
    expect(plugin.logged).toEqual(
      ['aborted', 'disposed', 'released b', 'released a'].map((line) => `info plugin acme.test: ${line}`),
    );
    await storage.close();
  });

  test('what its manifest does not require is refused, in has as in get', async () => {
    const plugin = await secrets({}, { factory: `setUp = (ctx) => { ctx.has(Storage); }` });
    await expect(openSecrets(plugin)).rejects.toMatchObject({ code: 'RC1304', kind: 'PluginContract' });
  });

  test('a lock that it took of a storage in the host is free when its process is gone', async () => {
    const plugin = await secrets(
      { crash: 'process.exit(1)' },
      {
        adapter: { requires: ['Storage'] },
        factory: `setUp = async (ctx) => { await (await ctx.get(Storage)).lock('it', { holder: 'acme' }); }`,
      },
    );
    const storage = await MemoryStorage.open();
    const store = await openSecrets(plugin, {}, { has: () => true, get: async () => storage });
    await expect(storage.lock('it', { holder: 'test' })).rejects.toMatchObject({ code: 'LOCKED' });
    await expect(store.get('crash')).rejects.toMatchObject({ code: 'PLUGIN_CRASHED' });
    expect((await store.get('again')).reveal()).toBe('again');
    await storage.close();
  });

  test('stdout and stderr go to the logger by lines, whatever it writes there', async () => {
    const plugin = await secrets({
      talk: `process.stdout.write('half'); process.stdout.write(' a line\\n\\u20acuro\\n{"id":1}');
             process.stderr.write('x'.repeat(20000) + '\\n'); return new SecretValue('');`,
    });
    await (await openSecrets(plugin)).get('talk');
    await plugin.plugin.stop();
    const texts = (level: string) =>
      plugin.logged
        .filter((line) => line.startsWith(level))
        .map((line) => line.replace(`${level} plugin acme.test: `, ''));
    expect(texts('info')).toEqual(['half a line', '\u20acuro', '{"id":1}']);
    expect(texts('warn').map(({ length }) => length)).toEqual([8_192, 8_192, 20_000 - 2 * 8_192]);
  });
});

describe('misbehaviour is told with the method, and the process goes on', () => {
  test('what it throws that is no error of the contract is a defect; what is, passes', async () => {
    const plugin = await secrets({
      type: `throw new TypeError('oops')`,
      text: `throw 'just text'`,
      fine: `throw new RecoverableError('Transient', 'later', { code: 'SECRET_UNSET', retry: { kind: 'never' } })`,
    });
    const store = await openSecrets(plugin);
    const before = await store.names();
    for (const what of ['type', 'text']) {
      await expect(store.get(what)).rejects.toMatchObject({
        kind: 'PluginContract',
        code: 'PLUGIN_ERROR',
        message: expect.stringMatching(/SecretStore#default \(adapter acme\.secrets, .*get\(\).*(oops|just text)/),
      });
    }
    await expect(store.get('type')).rejects.toMatchObject({ cause: { name: 'TypeError', message: 'oops' } });
    await expect(store.get('fine')).rejects.toMatchObject({ code: 'SECRET_UNSET', retry: { kind: 'never' } });
    expect(await store.names()).toEqual(before);
  });

  test('an answer of the wrong form is refused, and not shown: it may be a secret', async () => {
    const plugin = await secrets(
      { text: `return 'hunter2'`, object: `return { reveal: 'hunter2' }`, nothing: `return undefined` },
      { factory: `more = { names: async () => ['a', 7] };` },
    );
    const store = await openSecrets(plugin);
    for (const what of ['text', 'object', 'nothing']) {
      const error = await store.get(what).catch((e: Error) => e);
      expect(error).toMatchObject({
        kind: 'PluginContract',
        code: 'ANSWER_INVALID',
        message: expect.stringMatching(/acme\.secrets.*get\(\) answered .*; the contract asks for a SecretValue/),
      });
      expect((error as Error).message).not.toContain('hunter2');
    }
    await expect(store.names()).rejects.toMatchObject({
      message: expect.stringContaining('names() answered an array'),
    });
  });

  test('so is a wrong item of an iterable and a wrong chunk of a stream, and a method that is missing', async () => {
    const plugin = await isolate({
      adapters: { 'acme.objects': ObjectStore, 'acme.none': ObjectStore },
      code: `export default definePlugin({ adapters: {
        'acme.objects': () => ({
          getStream: async () => new ReadableStream({ pull: (c) => c.enqueue('text') }),
          list: async function* () { yield 'a'.repeat(64); yield 'short'; },
        }),
        'acme.none': () => null,
      } });`,
    });
    started.push(plugin);
    const store = await plugin.open(ObjectStore, 'acme.objects');
    expect('exists' in store).toBe(false);
    const seen: string[] = [];
    const reading = (async () => {
      for await (const id of store.list()) seen.push(id);
    })();
    await expect(reading).rejects.toMatchObject({ message: expect.stringContaining('an item of') });
    expect(seen).toEqual(['a'.repeat(64)]);
    const stream = await store.getStream('a'.repeat(64) as never);
    await expect(stream.getReader().read()).rejects.toMatchObject({ code: 'ANSWER_INVALID' });
    await expect(plugin.open(ObjectStore, 'acme.none')).rejects.toThrow('the factory answered null');
  });

  test('what fails while an iterable or stream is read is a defect in the same way', async () => {
    const plugin = await isolate({
      adapters: { 'acme.objects': ObjectStore },
      code: `export default definePlugin({ adapters: { 'acme.objects': () => ({
        getStream: async () => new ReadableStream({ pull: () => { throw new RangeError('torn'); } }),
        list: async function* () { throw new FatalError('Internal', 'gone', { code: 'IO_ERROR' }); },
      }) } });`,
    });
    started.push(plugin);
    const store = await plugin.open(ObjectStore, 'acme.objects');
    const reading = (await store.getStream('a' as never)).getReader().read();
    await expect(reading).rejects.toMatchObject({
      code: 'PLUGIN_ERROR',
      cause: { name: 'RangeError', message: 'torn' },
    });
    await expect(store.list()[Symbol.asyncIterator]().next()).rejects.toMatchObject({ code: 'IO_ERROR' });
  });

  test('it cannot write, read, start programs or see variables beyond what its manifest lists', async () => {
    process.env.ROLLOUT_TEST_GIVEN = 'given';
    process.env.ROLLOUT_TEST_SECRET = 'hunter2';
    const plugin = await secrets(
      {
        write: `fs.writeFileSync(DIR + '/secret/out', 'x')`,
        read: `fs.readFileSync(DIR + '/secret/in')`,
        start: `spawnSync('true')`,
        allowed: `fs.writeFileSync(DIR + '/out/file', 'x'); fs.mkdirSync(DIR + '/new/deep', { recursive: true });`,
        env: `return new SecretValue(JSON.stringify(process.env))`,
      },
      {
        factory: `const DIR = new URL('..', import.meta.url).pathname.slice(0, -1);`,
        manifest: { permissions: { fs: { write: ['out', 'new'] }, env: ['ROLLOUT_TEST_GIVEN'] } },
      },
    );
    for (const name of ['secret', 'out']) mkdirSync(join(plugin.folder, name));
    writeFileSync(join(plugin.folder, 'secret/in'), 'x');
    const store = await openSecrets(plugin);
    for (const [what, permission] of [
      ['write', 'FileSystemWrite'],
      ['read', 'FileSystemRead'],
      ['start', 'ChildProcess'],
    ] as const) {
      await expect(store.get(what)).rejects.toMatchObject({
        kind: 'PluginContract',
        code: 'PERMISSION_DENIED',
        context: { permission },
        message: expect.stringContaining('"permissions"'),
      });
    }
    await store.get('allowed');
    expect(JSON.parse((await store.get('env')).reveal())).toEqual({ ROLLOUT_TEST_GIVEN: 'given' });
    expect(existsSync(join(plugin.folder, 'secret/out'))).toBe(false);
    expect(existsSync(join(plugin.folder, 'out/file')) && existsSync(join(plugin.folder, 'new/deep'))).toBe(true);
    delete process.env.ROLLOUT_TEST_GIVEN;
    delete process.env.ROLLOUT_TEST_SECRET;
  });

  test('what Node refuses whatever is granted is told as that, with what to do; from a local adapter, too', async () => {
    const plugin = await secrets(
      {
        sync: `const fd = fs.openSync(DIR + '/out', 'w'); fs.fsyncSync(fd);`,
        store: `const { FsObjectStore } = await import('DIST/adapters/cloud-local/index.js'); await FsObjectStore.open(DIR + '/store');`,
        durable: `const { O_CREAT, O_DSYNC, O_WRONLY } = fs.constants;
          const fd = fs.openSync(DIR + '/durable', O_CREAT | O_DSYNC | O_WRONLY); fs.writeSync(fd, 'x'); fs.closeSync(fd);`,
      },
      {
        factory: `const DIR = new URL('../data', import.meta.url).pathname;`,
        manifest: { permissions: { addons: true, fs: { read: ['*'], write: ['data'] } } },
      },
    );
    mkdirSync(join(plugin.folder, 'data'));
    const store = await openSecrets(plugin);
    const todo =
      /run the plugin in the host's process \("run": "inprocess"\), keep what has to last in the host's Storage/;
    await expect(store.get('sync')).rejects.toMatchObject({
      code: 'PERMISSION_DENIED',
      message: expect.stringMatching(todo),
    });
    await expect(store.get('sync')).rejects.toThrow(
      'get() failed, as fsync API is disabled when Permission Model is enabled.',
    );
    await expect(store.get('store')).rejects.toMatchObject({ code: 'IO_DENIED', message: expect.stringMatching(todo) });
    // What the docs say to do instead.
    await store.get('durable');
    expect(readFileSync(join(plugin.folder, 'data/durable'), 'utf8')).toBe('x');
  });

  test('a module in TypeScript that this version of Node does not run is to be compiled', async () => {
    const plugin = await secrets({}, { manifest: { main: './index.ts' } });
    writeFileSync(join(plugin.folder, 'plugin/index.ts'), 'export enum Kind { one }');
    await expect(openSecrets(plugin)).rejects.toMatchObject({
      code: 'RC1301',
      message: expect.stringMatching(/does not run this TypeScript: compile it, and name the JavaScript as "main"/),
    });
  });

  test('a module that cannot be imported, is no plugin or lacks a factory says so, and the next demand tries anew', async () => {
    const plugin = await secrets();
    for (const [text, message] of [
      ['import "nowhere-to-be-found";', /loading \.\/index\.mjs failed: .*nowhere-to-be-found/],
      ['export default {};', /not from definePlugin/],
      ['export default definePlugin({ adapters: {} });', /no factory for it/],
    ] as const) {
      plugin.write(text);
      await expect(openPlugin(plugin)).rejects.toMatchObject({
        code: 'RC1301',
        message: expect.stringMatching(message),
      });
    }
    plugin.write(`export default definePlugin({ adapters: { 'acme.secrets': () => ({ names: async () => [] }) } });`);
    expect(await (await openSecrets(plugin)).names()).toEqual([]);
    expect(plugin.logged.filter((line) => line.startsWith('error'))).toEqual([]);
  });
});

const openPlugin = (plugin: Isolated) => Promise.resolve(plugin.plugin.running());

describe('a crash', () => {
  test('rejects what is under way as Transient; the next call starts it again, and whoever holds it goes on', async () => {
    const plugin = await secrets({ crash: 'process.exit(3)', never: 'await new Promise(() => {})' });
    const store = await openSecrets(plugin);
    const [pid] = await store.names();
    const others = [store.get('never'), store.get('never')].map((call) => call.catch((e: unknown) => e));
    await expect(store.get('crash')).rejects.toMatchObject({
      kind: 'Transient',
      code: 'PLUGIN_CRASHED',
      retry: { kind: 'backoff' },
      message: expect.stringContaining('exited with 3'),
    });
    expect(await Promise.all(others)).toEqual([code('PLUGIN_CRASHED'), code('PLUGIN_CRASHED')]);
    const health = (store as unknown as { health(signal: AbortSignal): Promise<unknown> }).health;
    expect(await health(AbortSignal.timeout(1_000))).toMatchObject({ status: 'degraded' });
    expect((await store.get('x')).reveal()).toBe('x');
    expect(await health(AbortSignal.timeout(1_000))).toBe(undefined);
    expect(await store.names()).not.toEqual([pid]);
    expect(plugin.logged.filter((line) => line.startsWith('error'))).toEqual([
      'error plugin acme.test: its process exited with 3; the next call starts it again (crash 1 of 3 within 5 minutes)',
    ]);
    expect(plugin.reported).toEqual(['ok', 'degraded its process exited with 3; the next call starts it again', 'ok']);
  });

  test('the third within five minutes fails the plugin, until it is reloaded', async () => {
    const plugin = await secrets({ crash: `process.kill(process.pid, 'SIGKILL'); await new Promise(() => {});` });
    const store = await openSecrets(plugin);
    for (const retry of ['backoff', 'backoff', 'never']) {
      await expect(store.get('crash')).rejects.toMatchObject({
        code: 'PLUGIN_CRASHED',
        retry: { kind: retry },
        context: { how: 'was killed by SIGKILL' },
      });
    }
    for (const call of [store.get('x'), openSecrets(plugin)]) {
      await expect(call).rejects.toMatchObject({
        kind: 'PluginContract',
        code: 'PLUGIN_FAILED',
        message: expect.stringContaining('host.reload("acme.test")'),
      });
    }
    expect(plugin.reported.at(-1)).toMatch(/^degraded .*crashed 3 times/);
    await plugin.plugin.reload();
    expect((await store.get('x')).reveal()).toBe('x');
    expect(plugin.reported.at(-1)).toBe('ok');
  });

  test('calls made while it starts again keep their order', async () => {
    const plugin = await secrets(
      { crash: 'process.exit(1)', list: `return new SecretValue(seen.join(' '))` },
      {
        factory: `const seen = []; more = { put: async (name) => { seen.push(name); } };`,
      },
    );
    const store = await openSecrets(plugin);
    await store.get('crash').catch(() => {});
    const names = ['a', 'b', 'c', 'd'];
    await Promise.all(names.map((name) => store.put(name, 'x')));
    expect((await store.get('list')).reveal()).toBe(names.join(' '));
  });
});

describe('a process that hangs', () => {
  test('while a call is under way is killed when it has not said a word for too long', async () => {
    const plugin = await secrets({ block: BLOCK }, { limits: { answerMs: 300 } });
    const store = await openSecrets(plugin);
    await expect(store.get('block')).rejects.toMatchObject({
      code: 'PLUGIN_CRASHED',
      message: expect.stringContaining('did not answer for 300 ms'),
    });
    expect((await store.get('x')).reveal()).toBe('x');
  });

  test('while it activates is killed after the time for that; one that only takes long is left alone', async () => {
    const plugin = await secrets(
      {},
      {
        adapter: { timeouts: { activateMs: 200 } },
        factory: `setUp = async ({ config }) => { if (config.block) { ${BLOCK} } if (config.wait) await new Promise(() => {}); }`,
      },
    );
    const fine = await openSecrets(plugin);
    const [pid] = await fine.names();
    await expect(openSecrets(plugin, { wait: true })).rejects.toMatchObject({ code: 'RC1302' });
    expect(await fine.names()).toEqual([pid]);
    await expect(openSecrets(plugin, { block: true })).rejects.toMatchObject({ code: 'RC1302' });
    await until(() => !alive(Number(pid)));
    expect(await fine.names()).not.toEqual([pid]);
    expect(plugin.logged.join()).toContain('hung (activating SecretStore#default');
  });

  test('does not keep the host from stopping', async () => {
    const plugin = await secrets({ block: BLOCK });
    const store = await openSecrets(plugin);
    const [pid] = await store.names();
    const blocked = store.get('block').catch((e: unknown) => e);
    await expect(plugin.plugin.stop()).rejects.toMatchObject({ code: 'RC1305' });
    expect(await blocked).toMatchObject({ code: 'CLOSED' });
    expect(alive(Number(pid))).toBe(false);
  });

  test('in its first lines does not keep the host from stopping either', async () => {
    const plugin = await secrets();
    plugin.write('console.log(process.pid); for (;;);');
    const opening = openSecrets(plugin).catch((e: unknown) => e);
    await until(() => plugin.logged.length > 0);
    await plugin.plugin.stop();
    expect(await opening).toMatchObject({ code: 'CLOSED' });
    await until(() => !alive(Number(plugin.logged[0]?.split(' ').at(-1))));
  });

  test('ends by the host alone: signals to its group are not for it', async () => {
    const plugin = await secrets();
    const store = await openSecrets(plugin);
    const [pid] = await store.names();
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.kill(Number(pid), signal);
    expect(await store.names()).toEqual([pid]);
    await plugin.plugin.stop();
    expect(alive(Number(pid))).toBe(false);
  });
});

describe('reload', () => {
  const version = (n: number, more = '') => `
    export default definePlugin({
      adapters: { 'acme.secrets': async (ctx) => {
        ${more}
        return {
          get: async (name) => {
            if (name === 'slow') await new Promise((resolve) => setTimeout(resolve, 300));
            return new SecretValue('v${n} ' + ctx.config.text);
          },
          names: async () => [String(process.pid)],
          put: async () => {},
          [Symbol.asyncDispose]: async () => console.log('disposed v${n}'),
        };
      } },
      deactivate: () => console.log('deactivated v${n}'),
    });`;

  test('moves instances to the new code; calls under way end in the old, which then is disposed and gone', async () => {
    const plugin = await secrets();
    plugin.write(version(1));
    const store = await openSecrets(plugin, { text: 'mine' });
    const [pid] = await store.names();
    const slow = store.get('slow');
    plugin.write(version(2));
    const reloading = plugin.plugin.reload();
    expect((await slow).reveal()).toBe('v1 mine');
    await reloading;
    expect((await store.get('x')).reveal()).toBe('v2 mine');
    expect(alive(Number(pid))).toBe(false);
    const told = plugin.logged.filter((line) => !line.includes('SecurityWarning'));
    expect(told.map((line) => line.replace('plugin acme.test: ', ''))).toEqual([
      'info reloaded',
      'info disposed v1',
      'info deactivated v1',
    ]);
  });

  test('lets a stream that is being read come to its end in the old process', async () => {
    const code = (text: string) => `export default definePlugin({ adapters: { 'acme.objects': () => ({
      getStream: async () => {
        let left = 3;
        return new ReadableStream({ pull: (c) => (left-- > 0 ? c.enqueue(Buffer.from('${text}')) : c.close()) });
      },
    }) } });`;
    const plugin = await isolate({ adapters: { 'acme.objects': ObjectStore }, code: code('old ') });
    started.push(plugin);
    const store = await plugin.open(ObjectStore, 'acme.objects');
    const reader = (await store.getStream('a' as never)).getReader();
    await reader.read();
    plugin.write(code('new '));
    const reloading = plugin.plugin.reload();
    await until(() => plugin.logged.some((line) => line.endsWith('reloaded')));
    const rest = [await reader.read(), await reader.read(), await reader.read()];
    expect(rest.map(({ value, done }) => (done ? 'end' : `${Buffer.from(value as Uint8Array)}`))).toEqual([
      'old ',
      'old ',
      'end',
    ]);
    await reloading;
    const [first] = [await (await store.getStream('a' as never)).getReader().read()];
    expect(`${Buffer.from(first?.value as Uint8Array)}`).toBe('new ');
    expect(plugin.logged.filter((line) => line.startsWith('warn'))).toEqual([]);
  });

  test.each([
    ['does not load', 'syntax error', 'RC1301'],
    [
      'cannot open its instances',
      version(2, `throw new FatalError('ConfigInvalid', 'no', { code: 'NOT_NOW' });`),
      'NOT_NOW',
    ],
  ])('keeps the old process when the new code %s', async (_, broken, expected) => {
    const plugin = await secrets();
    plugin.write(version(1));
    const store = await openSecrets(plugin, { text: 'mine' });
    const before = await store.names();
    plugin.write(broken);
    await expect(plugin.plugin.reload()).rejects.toMatchObject({ code: expected });
    expect(await store.names()).toEqual(before);
    expect((await store.get('x')).reveal()).toBe('v1 mine');
  });

  test('that the host stops meanwhile leaves no process', async () => {
    const plugin = await secrets();
    plugin.write(version(1));
    await openSecrets(plugin, { text: 'mine' });
    plugin.write(`console.log(process.pid); ${version(2, 'await new Promise(() => {});')}`);
    const reloading = plugin.plugin.reload().catch((e: unknown) => e);
    const pid = () => plugin.logged.map((line) => /info plugin acme\.test: (\d+)/.exec(line)?.[1]).find(Boolean);
    await until(() => pid() !== undefined);
    await plugin.plugin.stop();
    expect(await reloading).toMatchObject({ code: 'CLOSED' });
    await until(() => !alive(Number(pid())));
  });

  test('that is quicker than a start after a crash leaves one process, its own', async () => {
    const body = (n: number) => `
      import fs from 'node:fs';
      const counter = new URL('../count/loads', import.meta.url).pathname;
      const loads = fs.existsSync(counter) ? fs.readFileSync(counter, 'utf8').length + 1 : 1;
      fs.writeFileSync(counter, '.'.repeat(loads));
      console.log('load ' + loads + ' in ' + process.pid);
      // The first serves, the second is the reload's, the third takes the place of the first after its crash.
      if (loads === 2) while (fs.readFileSync(counter, 'utf8').length < 3) await new Promise((resolve) => setTimeout(resolve, 5));
      if (loads === 3) await new Promise((resolve) => setTimeout(resolve, 500));
      export default definePlugin({ adapters: { 'acme.secrets': async () => ({
        get: async (name) => { if (name === 'crash') process.exit(1); return new SecretValue('v${n}'); },
        names: async () => [String(process.pid)],
        put: async () => {},
      }) } });`;
    const grant = ['count'];
    const plugin = await secrets({}, { manifest: { permissions: { fs: { read: grant, write: grant } } } });
    mkdirSync(join(plugin.folder, 'count'));
    plugin.write(body(1));
    const store = await openSecrets(plugin);
    const pids = () => plugin.logged.flatMap((line) => /load \d in (\d+)/.exec(line)?.[1] ?? []).map(Number);
    plugin.write(body(2));
    const reloading = plugin.plugin.reload();
    await until(() => pids().length === 2);
    await expect(store.get('crash')).rejects.toMatchObject({ code: 'PLUGIN_CRASHED' });
    const again = store.get('x');
    await reloading;
    expect((await again).reveal()).toBe('v2');
    expect(await store.names()).toEqual([String(pids()[1])]);
    await until(() => pids().length === 3 && pids().filter(alive).join() === String(pids()[1]));
    await plugin.plugin.stop();
    await until(() => pids().filter(alive).length === 0);
  });

  test('of a module that runs here does nothing', async () => {
    await expect(reloadIsolated({ adapters: {} })).resolves.toBeUndefined();
  });
});

describe('a capability that the plugin brings', () => {
  interface Notes {
    add(text: string): Promise<number>;
    all(): AsyncIterable<string>;
    each(tell: (text: string) => void): Promise<void>;
  }
  const Notes = capability<Notes>('acme.test/Notes', { major: 1 });

  test('has its methods, iterables and callbacks, whatever they are', async () => {
    const plugin = await isolate({
      adapters: { 'acme.notes': Notes },
      code: `
        class Notes {
          #texts = [];
          async add(text) { return this.#texts.push(text); }
          async *all() { yield* this.#texts; }
          async each(tell) { for (const text of this.#texts) await tell(text); }
        }
        export default definePlugin({ adapters: { 'acme.notes': () => new Notes() } });`,
    });
    started.push(plugin);
    const notes = await plugin.open(Notes, 'acme.notes');
    expect([await notes.add('a'), await notes.add('b')]).toEqual([1, 2]);
    const read: string[] = [];
    for await (const text of notes.all()) read.push(text);
    await notes.each((text) => void read.push(`told ${text}`));
    expect(read).toEqual(['a', 'b', 'told a', 'told b']);
  });
});

test('an instance whose storage is a host’s works on it, and the storage’s own errors come through as they are', async () => {
  const plugin = await secrets(
    { closed: `await (await saved.get(Storage)).ping(); return new SecretValue('');` },
    { adapter: { requires: ['Storage'] }, factory: `let saved; setUp = (ctx) => { saved = ctx; }` },
  );
  const storage = await MemoryStorage.open();
  const store = await openSecrets(
    plugin,
    {},
    { has: () => true, get: async (asked: object) => (asked === Storage ? storage : null) },
  );
  await store.get('closed');
  await storage.close();
  await expect(store.get('closed')).rejects.toMatchObject({ code: 'CLOSED', kind: 'Internal' });
});
