import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { inject, named, optional } from 'inversify';
import {
  BlockStore,
  ComputeHint,
  capability,
  FatalError,
  ObjectStore,
  Queue,
  SecretStore,
  Storage,
} from '../../src/contracts/index.js';
import { createHost, type Host } from '../../src/registry/index.js';
import { NAMING_STORE, type TestPlugin, Workspace } from '../support/workspace.js';

let space: Workspace;
beforeEach(() => {
  space = new Workspace();
});
afterEach(() => space[Symbol.asyncDispose]());

const ADAPTER = { id: 'acme.vault', provides: 'SecretStore@1' };
const SECRETS = 'get: async () => {}, put: async () => {}, names: async () => []';

/** A host on one plugin with an adapter `acme.vault` whose factory has this body. */
function vaultHost(
  factory: string,
  adapter: object = {},
  bindings: object = { SecretStore: { adapter: 'acme.vault' } },
): Promise<Host> {
  const use = space.plugin({
    id: 'acme.vault',
    adapters: [{ ...ADAPTER, ...adapter }],
    code: `${NAMING_STORE} let calls = 0;
      export default definePlugin({ adapters: { 'acme.vault': async (ctx) => { calls++; ${factory} } } });`,
  });
  return space.host({ plugins: [use], bindings });
}

/** A plugin whose adapters log when they are made and disposed, and take what they require. */
function chain(...adapters: { id: string; provides: string; requires?: string[] }[]): string {
  return space.plugin({
    id: 'acme.chain',
    adapters,
    code: `
      const tokens = Object.fromEntries([Queue, Storage, ObjectStore, SecretStore, GpuEnumerator, ComputeHint].map((t) => [t.name, t]));
      const any = { get: () => async () => {} };
      const make = (requires) => async (ctx) => {
        for (const need of requires) {
          const [, name, instance] = /^(\\w+)(?:#(\\w+))?/.exec(need);
          if (need.endsWith('*')) await ctx.getAll(tokens[name]);
          else await ctx.get(tokens[name], instance).catch((e) => { if (!need.endsWith('?')) throw e; log(e.message); });
        }
        log('made ' + ctx.id + '#' + ctx.name);
        return new Proxy({}, { get: (_, key) => key === 'then' ? undefined : key === Symbol.asyncDispose || key === 'close'
          ? async () => { log('disposed ' + ctx.id + '#' + ctx.name); } : async () => {} });
      };
      export default definePlugin({ adapters: { ${adapters.map(({ id, requires = [] }) => `'${id}': make(${JSON.stringify(requires)})`).join(', ')} } });`,
  });
}

describe('asking for a capability', () => {
  test('gives the adapter that plugins.json names, made once whoever asks', async () => {
    const host = await vaultHost(`await new Promise((r) => setTimeout(r, 5)); log('made'); return naming(ctx);`);
    const [a, b] = await Promise.all([host.get(SecretStore), host.get(SecretStore)]);
    expect(a).toBe(b);
    expect(await host.get(SecretStore)).toBe(a);
    expect(space.log).toEqual(['made']);
    expect((await a.get('k')).reveal()).toBe('acme.vault#default:k');
  });

  test('instances of one capability are told apart by name, and one is the default', async () => {
    const instances = { main: { adapter: 'acme.vault' }, other: { adapter: 'acme.vault' } };
    const host = await vaultHost('return naming(ctx);', {}, { SecretStore: { default: 'other', instances } });
    expect((await (await host.get(SecretStore)).get('k')).reveal()).toBe('acme.vault#other:k');
    expect((await (await host.get(SecretStore, 'main')).get('k')).reveal()).toBe('acme.vault#main:k');
    expect(await host.getAll(SecretStore)).toEqual([
      await host.get(SecretStore, 'main'),
      await host.get(SecretStore, 'other'),
    ]);
    expect(host.has(SecretStore, 'main')).toBe(true);
    expect(host.has(SecretStore, 'none')).toBe(false);
    await expect(host.get(SecretStore, 'man')).rejects.toMatchObject({
      code: 'RC1122',
      message: 'RC1122 SecretStore has no instance "man". Did you mean "main"? Known: main, other.',
    });
  });

  test('several instances without a default are asked for by name', async () => {
    const instances = { a: { adapter: 'acme.vault' }, b: { adapter: 'acme.vault' } };
    const host = await vaultHost('return naming(ctx);', {}, { SecretStore: { instances } });
    await expect(host.get(SecretStore)).rejects.toMatchObject({
      code: 'RC1122',
      message: expect.stringContaining(
        'SecretStore has several instances and no default; set bindings.SecretStore.default',
      ),
    });
    await expect(vaultHost('', {}, { SecretStore: { default: 'c', instances } })).rejects.toThrow(
      'bindings.SecretStore.default: there is no instance "c". Known: a, b.',
    );
  });

  test('BlockStore: nothing provides it, and what to bind', async () => {
    const host = await createHost({ config: {} });
    await expect(host.get(BlockStore)).rejects.toMatchObject({
      severity: 'fatal',
      kind: 'ConfigInvalid',
      code: 'RC1121',
      message: expect.stringMatching(/nothing provides BlockStore; list a plugin .* bindings\.BlockStore\.adapter/),
    });
    expect(host.has(BlockStore)).toBe(false);
    expect(await host.getAll(BlockStore)).toEqual([]);
  });

  test('a capability with one provider needs no binding; with two, one has to be chosen', async () => {
    const host = await createHost({ config: {} });
    expect(host.has(SecretStore)).toBe(true);
    await expect(host.get(Storage)).rejects.toMatchObject({
      code: 'RC1120',
      message: expect.stringMatching(
        /^RC1120 Storage has \d providers \(local\.sqlite, .*local\.memory.*\) and none is chosen; set bindings\.Storage\.adapter\.$/,
      ),
    });
    const use = chain({ id: 'x.queue', provides: 'Queue@1', requires: ['Storage'] });
    const alone = await space.host({ plugins: [use] });
    await expect(alone.get(Queue)).rejects.toMatchObject({
      code: 'RC1121',
      message: expect.stringMatching(
        /Queue is not bound, and cannot be served as it stands: .*requires Storage: nothing provides Storage/,
      ),
    });
  });

  test('a capability that a plugin brings works like any other', async () => {
    const Vault = capability<{ open(): Promise<string> }>('acme.vault/Vault', { major: 1 });
    const host = await vaultHost(`return { open: async () => 'opened' };`, { provides: 'acme.vault/Vault@1' }, {});
    expect(await (await host.get(Vault)).open()).toBe('opened');
  });
});

describe('what is asked for in a wrong way', () => {
  test.each([
    ['its name', 'Queue'],
    ['its key', Queue.key],
    ['nothing', undefined],
  ])('a capability by %s', async (_, asked) => {
    const host = await createHost({ config: {} });
    for (const call of [() => host.get(asked as never), () => host.getAll(asked as never)]) {
      await expect(call()).rejects.toThrow('capability must be a capability itself, as in host.get(Queue)');
    }
  });

  test('another major than the host has', async () => {
    const host = await createHost({ config: {} });
    await expect(host.get(capability('SecretStore', { major: 2 }))).rejects.toMatchObject({
      code: 'RC1111',
      message: 'RC1111 this host has SecretStore@1, asked was SecretStore@2; use versions that agree',
    });
  });

  test('no class to make', async () => {
    const host = await createHost({ config: {} });
    await expect(host.make((() => 1) as never)).rejects.toThrow('Class must be a class');
  });
});

describe('the door of a capability that a plugin brings', () => {
  test('stands before it for whoever asks, once', async () => {
    const Vault = capability<{ open(n: number): Promise<number> }>('acme.vault/Vault', {
      major: 1,
      door: (impl) => ({ open: async (n) => impl.open(Math.abs(n)) }),
    });
    const host = await vaultHost('return { open: async (n) => n };', { provides: 'acme.vault/Vault@1' }, {});
    expect(await (await host.get(Vault)).open(-3)).toBe(3);
    expect(await host.get(Vault)).toBe(await host.get(Vault));
    expect(await host.getAll(Vault)).toEqual([await host.get(Vault)]);
  });
});

describe('configuration of an adapter', () => {
  const SCHEMA = {
    required: ['url'],
    properties: {
      url: { type: 'string' },
      retries: { type: 'integer', default: 3 },
      cache: { type: 'string', format: 'path', default: './cache' },
      nested: { type: 'object', properties: { file: { type: 'string', format: 'path' } } },
    },
  };
  const bind = (config: object) => ({ SecretStore: { adapter: 'acme.vault', config } });

  test('is checked, gets its defaults, and its paths are relative to plugins.json', async () => {
    const host = await vaultHost('return naming(ctx);', { config: SCHEMA }, bind({ url: 'x', nested: { file: 'f' } }));
    expect(((await host.get(SecretStore)) as unknown as { config: unknown }).config).toEqual({
      url: 'x',
      retries: 3,
      cache: space.path('cache'),
      nested: { file: space.path('f') },
    });
  });

  test.each([
    [
      { url: 'x', retrys: 1 },
      'RC1104 <space>/plugins.json:10:9 bindings.SecretStore.config.retrys: unknown key. Did you mean "retries"? Known: cache, nested, retries, url. (adapter acme.vault)',
    ],
    [
      { url: 7 },
      'RC1105 <space>/plugins.json:9:16 bindings.SecretStore.config.url must be of type string, found 7 (adapter acme.vault)',
    ],
    [{}, 'RC1105 <space>/plugins.json:8:17 bindings.SecretStore.config.url is missing (adapter acme.vault)'],
  ])('%j is refused with its place', async (config, expected) => {
    await expect(vaultHost('', { config: SCHEMA }, bind(config))).rejects.toThrow(
      expected.replace('<space>', space.folder),
    );
  });

  test('paths in lists and maps are absolute, and nested objects refuse unknown keys', async () => {
    const path = { type: 'string', format: 'path' };
    const config = {
      $schema: 'https://json-schema.org/draft/2020-12/schema',
      properties: {
        roots: { type: 'array', items: path },
        map: { type: 'object', additionalProperties: path },
        tls: { type: 'object', properties: { ca: path } },
        open: { type: 'object', properties: {}, additionalProperties: true },
      },
    };
    const given = { roots: ['a', '/b'], map: { x: 'c' }, tls: { ca: 'd' }, open: { any: 1 } };
    const host = await vaultHost('return naming(ctx);', { config }, bind(given));
    expect(host.bindings()[0]?.config).toEqual({
      roots: [space.path('a'), '/b'],
      map: { x: space.path('c') },
      tls: { ca: space.path('d') },
      open: { any: 1 },
    });
    await expect(vaultHost('', { config }, bind({ tls: { caa: 'x' } }))).rejects.toThrow(
      'bindings.SecretStore.config.tls.caa: unknown key. Did you mean "ca"?',
    );
  });

  test('what it says is in no message, and what is sensitive is not shown', async () => {
    const token = { type: 'string', pattern: '^tok_', sensitive: true };
    const config = { properties: { token, list: { type: 'array' } } };
    const slip = vaultHost('', { config }, bind({ token: 's3cr3t', list: 'hf_s3cr3t' }));
    await expect(slip).rejects.toThrow('config.list must be of type array, found a text of 9 characters');
    await expect(slip).rejects.not.toThrow('s3cr3t');
    const pin = vaultHost('', { config }, bind({ token: 493817 }));
    await expect(pin).rejects.toThrow('config.token must be of type string, found a number (adapter');
    const host = await vaultHost('return naming(ctx);', { config }, bind({ token: 'tok_1' }));
    expect(host.bindings()[0]?.config).toEqual({ token: '[redacted]' });
    expect(((await host.get(SecretStore)) as unknown as { config: unknown }).config).toEqual({ token: 'tok_1' });
  });

  test('what is sensitive or a path is found wherever a schema may say so', async () => {
    const token = { type: 'string', sensitive: true };
    const config = {
      definitions: { token, file: { type: 'string', format: 'path' } },
      properties: {
        auth: { oneOf: [token, { type: 'object' }] },
        user: { allOf: [{ type: 'object', properties: { token, name: { type: 'string' } } }] },
        byHost: { type: 'object', patternProperties: { '[.]org$': token } },
        referred: { $ref: '#/definitions/token' },
        also: { allOf: [{ sensitive: true }, { type: 'string' }] },
        pair: { type: 'array', items: [{ type: 'string' }, token] },
        more: { type: 'object', additionalProperties: { anyOf: [{ type: 'integer' }, token] } },
        file: { $ref: '#/definitions/file' },
        database: { anyOf: [{ const: ':memory:' }, { type: 'string', format: 'path' }] },
      },
    };
    const given = {
      auth: { token: 's3cr3t' },
      user: { token: 's3cr3t', name: 'u' },
      byHost: { 'acme.org': 's3cr3t' },
      referred: 's3cr3t',
      also: 's3cr3t',
      pair: ['user', 's3cr3t'],
      more: { key: 's3cr3t' },
      file: 'a',
      database: ':memory:',
    };
    const host = await vaultHost('return naming(ctx);', { config }, bind(given));
    const redacted = '[redacted]';
    expect(host.bindings()[0]?.config).toEqual({
      auth: redacted,
      user: { token: redacted, name: 'u' },
      byHost: { 'acme.org': redacted },
      referred: redacted,
      also: redacted,
      pair: ['user', redacted],
      more: { key: redacted },
      file: space.path('a'),
      database: ':memory:',
    });
    expect(JSON.stringify(host.explain(SecretStore))).not.toContain('s3cr3t');
  });

  test('an adapter without a schema takes no configuration', async () => {
    await expect(vaultHost('', {}, bind({ a: 1 }))).rejects.toThrow(
      'bindings.SecretStore.config.a: unknown key. (adapter acme.vault)',
    );
  });

  test('an adapter of another capability is refused', async () => {
    await expect(vaultHost('', {}, { Queue: { adapter: 'acme.vault' } })).rejects.toThrow(
      'no adapter "acme.vault" for Queue: it serves SecretStore. No plugin that is listed serves Queue',
    );
  });

  test('an adapter of another major is refused', async () => {
    await expect(vaultHost('', { provides: 'SecretStore@2' })).rejects.toThrow(
      /RC1111 .*adapter acme.vault serves SecretStore@2, this host knows SecretStore@1/,
    );
  });
});

describe('activation', () => {
  test('a failure is not kept: the next demand tries again', async () => {
    const host = await vaultHost(`if (calls === 1) throw new Error('not yet'); return naming(ctx);`);
    await expect(host.get(SecretStore)).rejects.toMatchObject({
      kind: 'PluginContract',
      code: 'RC1303',
      message: 'RC1303 activation of SecretStore#default (adapter acme.vault) failed: not yet',
    });
    await expect(host.get(SecretStore)).resolves.toBeDefined();
  });

  test.each([
    ['an object with a message', `{ code: 'ENOTFOUND', message: 'no such host' }`, 'no such host'],
    ['an object', `{ code: 7 }`, '{ code: 7 }'],
    ['an object without a prototype', `Object.create(null)`, '[Object: null prototype] {}'],
    ['a symbol', `Symbol('x')`, 'Symbol(x)'],
    ['nothing', 'undefined', 'undefined'],
  ])('what is thrown is told, if it is no Error too: %s', async (_, thrown, told) => {
    const host = await vaultHost(`throw ${thrown};`);
    await expect(host.get(SecretStore)).rejects.toMatchObject({
      code: 'RC1303',
      message: `RC1303 activation of SecretStore#default (adapter acme.vault) failed: ${told}`,
    });
  });

  test('an error of the family passes as it is', async () => {
    const host = await vaultHost(
      `throw new contracts.RecoverableError('Transient', 'no server', { code: 'NO_SERVER' });`,
    );
    await expect(host.get(SecretStore)).rejects.toMatchObject({
      kind: 'Transient',
      code: 'NO_SERVER',
      message: 'no server',
    });
  });

  test.each([
    ['nothing', 'return undefined;', 'RC1303', 'answered undefined, not an object'],
    ['null', 'return null;', 'RC1303', 'answered null, not an object'],
    [
      'an object without the contract',
      'return { get() {} };',
      'PLUGIN_CONTRACT',
      'adapter acme.vault has no put(), which SecretStore@1 asks for',
    ],
  ])('a factory that answers %s is refused', async (_, code, expectedCode, message) => {
    const host = await vaultHost(code);
    await expect(host.get(SecretStore)).rejects.toMatchObject({
      kind: 'PluginContract',
      code: expectedCode,
      message: expect.stringContaining(message),
    });
  });

  test('what a failed activation owned is released before the next one starts, last first', async () => {
    const host = await vaultHost(`
      ctx.own('a', async (it) => { await null; log('released ' + it); });
      ctx.own('b', (it) => log('released ' + it));
      log('activating');
      if (calls === 1) throw new Error('no');
      return naming(ctx);`);
    await expect(host.get(SecretStore)).rejects.toThrow('no');
    await host.get(SecretStore);
    expect(space.log).toEqual(['activating', 'released b', 'released a', 'activating']);
  });

  test('what a factory owned is released although its refused result cannot be closed', async () => {
    const host = await vaultHost(`
      ctx.own('a', () => log('released'));
      return { get() {}, close: () => { throw new Error('cannot'); } };`);
    await expect(host.get(SecretStore)).rejects.toThrow('has no put()');
    expect(space.log).toEqual(['released']);
  });

  test('its signal is aborted before the instance is disposed', async () => {
    const host = await vaultHost(`
      ctx.signal.addEventListener('abort', () => log('aborted'));
      return { ${SECRETS}, close: () => log('closed') };`);
    await host.get(SecretStore);
    await host.stop();
    expect(space.log).toEqual(['aborted', 'closed']);
  });

  test('has tells whether an optional requirement can be met', async () => {
    const use = space.plugin({
      id: 'acme.vault',
      adapters: [{ ...ADAPTER, requires: ['Storage?', 'ObjectStore?'] }],
      code: `${NAMING_STORE} export default definePlugin({ adapters: { 'acme.vault': (ctx) => {
        log([ctx.has(Storage), ctx.has(ObjectStore)].join()); return naming(ctx); } } });`,
    });
    const bindings = { SecretStore: { adapter: 'acme.vault' } };
    await (await space.host({ plugins: [use, 'rollout.cloud-local'], bindings })).get(SecretStore);
    expect(space.log).toEqual(['false,true']);
  });

  test('one that takes too long is ended, its signal aborted, and its late result disposed', async () => {
    const host = await vaultHost(
      `ctx.signal.addEventListener('abort', () => log('aborted ' + ctx.signal.reason.code));
       ctx.own('file', () => log('released'));
       await new Promise((resolve) => setTimeout(resolve, 60));
       return { ${SECRETS}, close: () => log('closed late') };`,
      { timeouts: { activateMs: 10 } },
    );
    await expect(host.get(SecretStore)).rejects.toMatchObject({
      kind: 'Transient',
      code: 'RC1302',
      message:
        'RC1302 activation of SecretStore#default (adapter acme.vault) did not finish within 10 ms; demanded by the application. Its signal was aborted.',
    });
    expect(space.log).toEqual(['aborted RC1302']);
    while (space.log.length < 3) await new Promise((resolve) => setTimeout(resolve, 5));
    expect(space.log).toEqual(['aborted RC1302', 'closed late', 'released']);
  });

  test('dependencies come first, and only what is required may be asked for', async () => {
    const use = chain(
      { id: 'x.queue', provides: 'Queue@1', requires: ['Storage', 'SecretStore?', 'GpuEnumerator*'] },
      { id: 'x.storage', provides: 'Storage@1' },
    );
    const host = await space.host({ plugins: [use] });
    await host.get(Queue);
    expect(space.log).toEqual([
      'made x.storage#default',
      expect.stringContaining('nothing provides SecretStore'),
      'made x.queue#default',
    ]);

    const greedy = await vaultHost('await ctx.get(Queue); return naming(ctx);');
    await expect(greedy.get(SecretStore)).rejects.toMatchObject({
      code: 'RC1304',
      message: expect.stringContaining(
        'asked for Queue, which its manifest does not require; add "Queue" to "requires"',
      ),
    });
  });

  test('getAll leaves out what cannot be activated, and says why', async () => {
    const use = space.plugin({
      id: 'acme.gpus',
      adapters: [
        { id: 'good', provides: 'GpuEnumerator@1' },
        { id: 'bad', provides: 'GpuEnumerator@1' },
        { id: 'unset', provides: 'GpuEnumerator@1', config: { required: ['lib'], properties: { lib: {} } } },
        { id: 'hint', provides: 'ComputeHint@1', requires: ['GpuEnumerator*'] },
      ],
      code: `export default definePlugin({ adapters: {
        good: () => ({ enumerate: async () => ({ gpus: [], source: 'good', reason: 'none', driverVersion: null }) }),
        bad: () => { throw new Error('no driver'); },
        hint: async (ctx) => {
          const all = await ctx.getAll(GpuEnumerator);
          for (const { name, error } of all.failed) log(name + ': ' + error.message);
          log(all.length);
          return { inventory: async () => ({}), preemptionSignal: async () => null };
        },
      } });`,
    });
    const host = await space.host({ plugins: [use] });
    await host.get(ComputeHint);
    expect(space.log).toEqual([
      'unset: RC1105 bindings.GpuEnumerator.config.lib is missing (adapter unset)',
      'bad: RC1303 activation of GpuEnumerator#bad (adapter bad) failed: no driver',
      1,
    ]);
    expect(host.warnings).toEqual([
      expect.stringContaining('"unset" is left out: bindings.GpuEnumerator.config.lib is missing'),
    ]);
  });
});

describe('getAll within a time', () => {
  const GPUS: TestPlugin = {
    id: 'acme.gpus',
    adapters: [
      { id: 'hangs', provides: 'GpuEnumerator@1', timeouts: { activateMs: 60_000 } },
      { id: 'good', provides: 'GpuEnumerator@1' },
      { id: 'hint', provides: 'ComputeHint@1', requires: ['GpuEnumerator*'] },
    ],
    code: `export default definePlugin({ adapters: {
      hangs: ({ signal }) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
      good: () => ({ enumerate: async () => ({
        gpus: [{ vendor: 'x', model: 'X1', memoryMib: 1, source: 'good' }], source: 'good', reason: null, driverVersion: null,
      }) }),
      hint: (ctx) => ({
        inventory: async ({ gpuMaxAgeMs }) => {
          const all = await ctx.getAll(GpuEnumerator, { withinMs: gpuMaxAgeMs });
          return { names: all.names, failed: all.failed.map(({ name, error }) => [name, error.code, error.message]) };
        },
        preemptionSignal: async () => null,
      }),
    } });`,
  };

  test('gives those that are there in time, and says of the others that they were not', async () => {
    const host = await space.host({ plugins: [space.plugin(GPUS)] });
    const hint = await host.get(ComputeHint);
    const late = 'RC1302 GpuEnumerator#hangs was not activated within 50 ms';
    expect(await hint.inventory({ gpuMaxAgeMs: 50 })).toEqual({ names: ['good'], failed: [['hangs', 'RC1302', late]] });
    // The first activation is still under way, and is not given up for this.
    expect(host.report().instances.find(({ instance }) => instance.endsWith('#hangs'))).toMatchObject({
      state: 'activating',
      attempts: 0,
    });
    await expect(hint.inventory({ gpuMaxAgeMs: 0 })).rejects.toThrow('withinMs must be an integer from 1');
  });

  (process.platform === 'linux' ? test : test.skip)(
    'so an enumerator whose activation hangs costs its own GPUs and no others (skipped where GPUs are not enumerated)',
    async () => {
      const host = await space.host({
        plugins: ['rollout.cloud-local', space.plugin(GPUS)],
        bindings: { ComputeHint: { adapter: 'local.compute', config: { gpuTimeoutMs: 200 } } },
      });
      const { gpus, gpuReason, gpuSources } = await (await host.get(ComputeHint)).inventory();
      expect(gpus.map(({ model }) => model)).toEqual(['X1']);
      expect(gpuReason).toBeNull();
      expect(gpuSources).toMatchObject([
        { instance: 'good', gpus: 1, reason: null },
        { instance: 'hangs', source: null, gpus: 0, reason: expect.stringContaining('not activated within 200 ms') },
      ]);
    },
  );
});

describe('the plan', () => {
  test('a requirement that nothing meets is told at once, where the adapter was named', async () => {
    const use = chain({ id: 'x.queue', provides: 'Queue@1', requires: ['Storage', 'SecretStore#db'] });
    await expect(space.host({ plugins: [use], bindings: { Queue: { adapter: 'x.queue' } } })).rejects.toThrow(
      new RegExp(
        `RC1121 ${space.folder}/plugins.json:7:18 Queue#default \\(adapter x.queue\\) requires Storage: nothing provides Storage.*\n` +
          `RC1121 ${space.folder}/plugins.json:7:18 Queue#default \\(adapter x.queue\\) requires SecretStore#db: nothing provides SecretStore`,
      ),
    );
  });

  test('a requirement of another major, or of a capability that is none, is told', async () => {
    const bindings = { Queue: { adapter: 'x.queue' } };
    const old = chain(
      { id: 'x.queue', provides: 'Queue@1', requires: ['Storage@9'] },
      { id: 'x.storage', provides: 'Storage@1' },
    );
    await expect(space.host({ plugins: [old], bindings })).rejects.toThrow(
      /RC1111 .*requires Storage@9: Storage#default is Storage@1; use versions that agree/,
    );
    const slip = chain({ id: 'x.queue', provides: 'Queue@1', requires: ['Storag'] });
    await expect(space.host({ plugins: [slip], bindings })).rejects.toThrow(
      /there is no capability Storag\. Did you mean "Storage"\?/,
    );
  });

  test('a binding that is at fault is told once, not again for who requires it', async () => {
    const bindings = { Storage: { adapter: 'local.sqlit' }, Queue: { adapter: 'local.in-mem' } };
    await expect(space.host({ bindings })).rejects.toMatchObject({
      code: 'RC1102',
      message: expect.not.stringContaining('\n'),
    });
  });

  test('a circle is told with its path and places, before anything runs', async () => {
    const use = chain(
      { id: 'x.secrets', provides: 'SecretStore@1', requires: ['ObjectStore'] },
      { id: 'x.objects', provides: 'ObjectStore@1', requires: ['Storage', 'SecretStore'] },
      { id: 'x.storage', provides: 'Storage@1' },
    );
    const bindings = { SecretStore: { adapter: 'x.secrets' }, ObjectStore: { adapter: 'x.objects' } };
    await expect(space.host({ plugins: [use], bindings })).rejects.toMatchObject({
      code: 'RC1201',
      message: `RC1201 ${space.folder}/plugins.json:7:18 dependency cycle: SecretStore#default -> ObjectStore#default -> SecretStore#default (${space.folder}/plugins.json:7:18, ${space.folder}/plugins.json:10:18)`,
    });
    expect(space.imported).toEqual([]);
  });

  test('bindings() shows what is planned, on what, and in which state', async () => {
    const host = await vaultHost('return naming(ctx);', { config: { properties: { n: { default: 1 } } } });
    const info = {
      capability: 'SecretStore',
      provides: 'SecretStore@1',
      name: 'default',
      isDefault: true,
      adapter: 'acme.vault',
      plugin: 'acme.vault',
      pluginVersion: '1.0.0',
      config: { n: 1 },
      middleware: [],
      place: { source: space.path('plugins.json'), line: 7, column: 18 },
    };
    expect(host.bindings()).toEqual([{ ...info, state: 'planned' }]);
    await host.get(SecretStore);
    expect(host.bindings()).toEqual([{ ...info, state: 'active' }]);
    await host.stop();
    expect(host.bindings()).toEqual([{ ...info, state: 'stopped' }]);
  });
});

describe('stopping', () => {
  test('disposes each instance after those that need it, whatever the order of activation', async () => {
    const use = chain(
      { id: 'x.storage', provides: 'Storage@1' },
      { id: 'x.queue', provides: 'Queue@1', requires: ['Storage'] },
      { id: 'x.objects', provides: 'ObjectStore@1', requires: ['Queue'] },
      { id: 'x.secrets', provides: 'SecretStore@1' },
    );
    const host = await space.host({ plugins: [use] });
    await host.get(Queue);
    await host.get(Storage);
    await host.get(ObjectStore);
    space.log.length = 0;
    const report = await host.stop();
    expect(space.log).toEqual(['disposed x.objects#default', 'disposed x.queue#default', 'disposed x.storage#default']);
    expect(report).toMatchObject({ stopped: ['ObjectStore#default', 'Queue#default', 'Storage#default'], errors: [] });
    expect(Object.keys(report.tookMs.instances)).toEqual(report.stopped);
    expect(await host.stop()).toBe(report);
  });

  test('one that fails or hangs does not keep the others, and the report names it', async () => {
    const use = space.plugin({
      id: 'acme.vault',
      adapters: ['fails', 'odd', 'hangs', 'works'].map((id) => ({ ...ADAPTER, id, timeouts: { disposeMs: 20 } })),
      code: `const store = (close) => () => ({ ${SECRETS}, close });
        export default definePlugin({ adapters: {
          fails: store(() => { throw new Error('disk gone'); }),
          odd: store(() => { throw Object.create(null); }),
          hangs: store(() => new Promise(() => {})),
          works: store(() => log('closed')),
        } });`,
    });
    const instances = Object.fromEntries(['works', 'fails', 'odd', 'hangs'].map((id) => [id, { adapter: id }]));
    const host = await space.host({ plugins: [use], bindings: { SecretStore: { instances } } });
    await host.getAll(SecretStore);
    const { errors } = await host.stop();
    expect(errors.map(({ instance, error }) => `${instance}: ${(error as Error).message}`).sort()).toEqual([
      'SecretStore#fails: disk gone',
      'SecretStore#hangs: RC1305 disposing SecretStore#hangs (adapter hangs) did not finish within 20 ms; it may still hold what it held',
      'SecretStore#odd: undefined',
    ]);
    expect(space.log).toEqual(['closed']);
    await expect(host.close()).rejects.toThrow(/SecretStore#fails: disk gone/);
  });

  test.each(['activate', 'deactivate'])('a plugin whose %s hangs does not keep it, and is named', async (hook) => {
    const use = space.plugin({
      id: 'acme.vault',
      adapters: [{ ...ADAPTER, timeouts: { activateMs: 20 } }],
      code: `export default definePlugin({ ${hook}: () => new Promise(() => {}), adapters: { 'acme.vault': () => ({ ${SECRETS} }) } });`,
    });
    const host = await space.host({ plugins: [use], bindings: { SecretStore: { adapter: 'acme.vault' } } });
    await host.get(SecretStore).catch(({ code }) => expect(code).toBe('RC1302'));
    jest.useFakeTimers();
    try {
      const stopping = host.stop();
      await jest.advanceTimersByTimeAsync(5_000);
      expect((await stopping).errors.map(({ instance, error }) => [instance, (error as Error).message])).toEqual([
        [
          'plugin acme.vault',
          expect.stringContaining('RC1305 deactivating plugin acme.vault did not finish within 5000 ms'),
        ],
      ]);
    } finally {
      jest.useRealTimers();
    }
  });

  test('aborts an activation under way', async () => {
    const host = await vaultHost(
      `await new Promise((_, reject) => ctx.signal.addEventListener('abort', () => reject(ctx.signal.reason)));`,
    );
    const asked = host.get(SecretStore);
    asked.catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 10));
    await host.stop();
    await expect(asked).rejects.toMatchObject({ code: 'CLOSED' });
  });

  test('any call afterwards is refused with CLOSED', async () => {
    const host = await vaultHost('return naming(ctx);');
    await host[Symbol.asyncDispose]();
    for (const call of [() => host.get(SecretStore), () => host.getAll(SecretStore), () => host.make(class {})]) {
      await expect(call()).rejects.toMatchObject({ severity: 'fatal', kind: 'Internal', code: 'CLOSED' });
    }
  });
});

describe('constructor injection', () => {
  class Clock {}
  class App {
    constructor(
      @inject(SecretStore.key) readonly secrets: SecretStore,
      @inject(SecretStore.key) @named('other') readonly other: SecretStore,
      @inject(BlockStore.key) @optional() readonly blocks: BlockStore | undefined,
      @inject(Clock) readonly clock: Clock,
    ) {}
  }
  const TWO = {
    SecretStore: { default: 'main', instances: { main: { adapter: 'acme.vault' }, other: { adapter: 'acme.vault' } } },
  };

  test('make constructs a class on the bound instances; named and optional ones too', async () => {
    const host = await vaultHost('return naming(ctx);', {}, TWO);
    const app = await host.make(App);
    expect(app).toBeInstanceOf(App);
    expect(app.secrets).toBe(await host.get(SecretStore));
    expect(app.other).toBe(await host.get(SecretStore, 'other'));
    expect(app.blocks).toBeUndefined();
    expect(app.clock).toBeInstanceOf(Clock);
    expect(await host.make(App)).not.toBe(app);
  });

  test('bindings of the application, in the same container', async () => {
    const host = await vaultHost('return naming(ctx);', {}, TWO);
    const clock = new Clock();
    host.container.bind(Clock).toConstantValue(clock);
    expect((await host.make(App)).clock).toBe(clock);
  });

  test('a capability that nothing provides is named, with what to bind', async () => {
    class Needs {
      constructor(@inject(BlockStore.key) readonly blocks: BlockStore) {}
    }
    const host = await vaultHost('return naming(ctx);');
    await expect(host.make(Needs)).rejects.toMatchObject({
      kind: 'ConfigInvalid',
      message: expect.stringMatching(
        /^RC1121 cannot construct Needs: nothing provides BlockStore; .*bindings.BlockStore.adapter/,
      ),
    });
  });

  test('an instance of a wrong name is told as such, the default notwithstanding', async () => {
    class Wrong {
      constructor(@inject(SecretStore.key) @named('othr') readonly secrets: SecretStore) {}
    }
    const host = await vaultHost('return naming(ctx);', {}, TWO);
    await expect(host.make(Wrong)).rejects.toMatchObject({
      code: 'RC1122',
      message:
        'RC1122 cannot construct Wrong: SecretStore has no instance "othr". Did you mean "other"? Known: main, other.',
    });
  });

  test('a token where its key belongs is told', async () => {
    class Token {
      constructor(readonly secrets: SecretStore) {}
    }
    inject(SecretStore as never)(Token, undefined, 0);
    const host = await vaultHost('return naming(ctx);');
    await expect(host.make(Token)).rejects.toMatchObject({
      code: 'RC1306',
      message:
        'RC1306 cannot construct Token: a parameter is marked with a capability; write its key: @inject(Queue.key)',
    });
  });

  test('a parameter without @inject is named', async () => {
    class Plain {
      constructor(readonly secrets: SecretStore) {}
    }
    const host = await vaultHost('return naming(ctx);');
    await expect(host.make(Plain)).rejects.toMatchObject({
      kind: 'ConfigInvalid',
      message:
        'RC1306 cannot construct Plain: the constructor of Plain has a parameter without @inject; write the key of what it is to be: @inject(Queue.key)',
    });
    class Unbound {
      constructor(readonly other: object) {}
    }
    inject('other')(Unbound, undefined, 0);
    await expect(host.make(Unbound)).rejects.toMatchObject({
      code: 'RC1306',
      message: 'RC1306 cannot construct Unbound: nothing is bound for other; bind it in host.container',
    });
    await host.stop();
    await expect(host.make(class {})).rejects.toThrow('a class was asked for after the host was stopped');
  });

  test('what the factory throws reaches whoever asked, as it is; and the container keeps nothing of it', async () => {
    const host = await vaultHost(
      `if (calls === 1) throw new contracts.FatalError('ConfigInvalid', 'no token'); return naming(ctx);`,
      {},
      TWO,
    );
    await expect(host.make(App)).rejects.toThrow(new FatalError('ConfigInvalid', 'no token'));
    expect(await host.make(App)).toBeInstanceOf(App);
  });

  test('what the constructor itself throws is passed on', async () => {
    class Throws {
      constructor() {
        throw new TypeError('mine');
      }
    }
    const host = await vaultHost('return naming(ctx);');
    await expect(host.make(Throws)).rejects.toThrow(new TypeError('mine'));
  });
});
