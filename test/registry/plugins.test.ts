import { mkdirSync, renameSync, symlinkSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { SecretStore } from '../../src/contracts/index.js';
import { VERSION } from '../../src/registry/index.js';
import { NAMING_STORE, type TestPlugin, Workspace } from '../support/workspace.js';

let space: Workspace;
beforeEach(() => {
  space = new Workspace();
});
afterEach(() => space[Symbol.asyncDispose]());

const VAULT: TestPlugin = {
  id: 'acme.vault',
  adapters: [{ id: 'acme.vault', provides: 'SecretStore@1' }],
  code: `${NAMING_STORE} log('imported'); export default definePlugin({ adapters: { 'acme.vault': naming } });`,
};
const BOUND = { SecretStore: { adapter: 'acme.vault' } };

async function problem(config: object): Promise<string> {
  try {
    await space.host(config);
  } catch (error) {
    return (error as Error).message.replaceAll(space.folder, '<space>');
  }
  throw new Error('this configuration was accepted');
}

async function asks(config: object): Promise<string> {
  const store = await (await space.host(config)).get(SecretStore);
  return (await store.get('x')).reveal();
}

describe('where plugins are found', () => {
  test('in a folder, relative to plugins.json', async () => {
    expect(await asks({ plugins: [space.plugin(VAULT)], bindings: BOUND })).toBe('acme.vault#default:x');
  });

  test('in a package, from plugins.json upwards, through its plugin.json', async () => {
    space.plugin({ ...VAULT, folder: 'node_modules/@acme/vault' });
    space.write('node_modules/@acme/vault/package.json', {
      name: '@acme/vault',
      type: 'module',
      exports: { import: './index.mjs' },
    });
    expect(await asks({ plugins: ['@acme/vault'], bindings: BOUND })).toBe('acme.vault#default:x');
  });

  test('in a package that keeps its manifest in package.json, linked as pnpm does', async () => {
    space.plugin({ ...VAULT, folder: 'node_modules/.pnpm/vault@1/node_modules/vault' });
    const folder = space.path('node_modules/.pnpm/vault@1/node_modules/vault');
    renameSync(`${folder}/plugin.json`, space.path('moved.json'));
    space.write('node_modules/.pnpm/vault@1/node_modules/vault/package.json', {
      name: 'vault',
      'rollout-cloud': {
        id: 'acme.vault',
        version: '2.0.0',
        main: './index.mjs',
        contributes: { adapters: VAULT.adapters },
      },
    });
    symlinkSync(folder, space.path('node_modules/vault'));
    expect(await asks({ plugins: ['vault'], bindings: BOUND })).toBe('acme.vault#default:x');
  });

  test('a package that is not installed is named, with what to run', async () => {
    expect(await problem({ plugins: ['@acme/rollout-aws'] })).toMatch(
      /^RC1106 <space>\/plugins.json:3:5 plugin "@acme\/rollout-aws" is not installed \(looked from <space>\). Run: npm i @acme\/rollout-aws. Built in: rollout.cloud-local, .*. Mark it "optional": true/,
    );
    const slip = await problem({ plugins: ['rollout.cloud-locl'] });
    expect(slip).toContain('Did you mean "rollout.cloud-local"?');
    expect(slip).not.toContain('npm i');
  });

  test('a folder that is not there, and one without a manifest', async () => {
    expect(await problem({ plugins: ['./plugins/none'] })).toContain(
      'RC1106 <space>/plugins.json:3:5 plugin "./plugins/none": there is no folder <space>/plugins/none.',
    );
    mkdirSync(space.path('bare'));
    expect(await problem({ plugins: ['./bare'] })).toContain(
      'RC1107 <space>/plugins.json:3:5 plugin "./bare": <space>/bare: there is no plugin.json here.',
    );
    space.write('plain/package.json', {});
    expect(await problem({ plugins: ['./plain'] })).toContain('package.json has no "rollout-cloud"');
  });

  test.each(['https://example.com/x.js', 'data:text/javascript,0', 'node:fs', 'file:///tmp'])(
    '%s is refused: no URLs',
    async (use) => {
      expect(await problem({ plugins: [use] })).toContain(
        `RC1106 <space>/plugins.json:3:5 plugin "${use}": URLs are not loaded`,
      );
    },
  );
});

describe('manifests', () => {
  test.each([
    ['not JSON', '{', /not a JSON file/],
    ['an id with capitals', { id: 'Acme' }, /RC1107 .*plugin.json: id must match pattern/],
    ['an unknown key', { activatoin: 'onStartup' }, /plugin.json: activatoin: unknown key. Did you mean "activation"/],
    [
      'an activation that is none',
      { activation: 'always' },
      /plugin.json: activation must be one of "onDemand", "onStartup"/,
    ],
    [
      'a permission that is none',
      { permissions: { fs: { reed: [] } } },
      /permissions.fs.reed: unknown key. Did you mean "read"/,
    ],
    [
      'a middleware that wraps nothing',
      { contributes: { middleware: [{ id: 'm', wraps: [] }] } },
      /wraps must NOT have fewer than 1 items/,
    ],
    ['no main', { main: undefined }, /plugin.json: main is missing/],
    [
      'a capability without its major',
      { contributes: { adapters: [{ id: 'a', provides: 'Queue' }] } },
      /contributes.adapters.0.provides must match/,
    ],
    [
      'a main that is not there',
      { main: './none.mjs' },
      /RC1107 .*main ".\/none.mjs" is not there; build the plugin first/,
    ],
    [
      'several faults, all told',
      { id: 'Acme', version: 1 },
      /plugin.json: id must match pattern .*; version must be of type string, found 1/,
    ],
    [
      'a format that nobody knows',
      {
        contributes: {
          adapters: [{ ...VAULT.adapters[0], config: { properties: { a: { type: 'string', format: 'uri' } } } }],
        },
      },
      /RC1107 .*unknown format "uri"/,
    ],
    [
      'a main outside the folder',
      { main: '../outside.mjs' },
      /main "..\/outside.mjs" lies outside the plugin's folder/,
    ],
    [
      'another host version',
      { engines: { 'rollout-cloud': '^99.0.0' } },
      new RegExp(`RC1111 .* needs rollout-cloud \\^99.0.0, this is ${VERSION}`),
    ],
    ['another Node', { engines: { node: '<18' } }, /RC1111 .* needs node <18, this is /],
    [
      'a config that is no schema',
      { contributes: { adapters: [{ ...VAULT.adapters[0], config: { type: 'nonsense' } }] } },
      /RC1107 adapter acme.vault: the manifest's config is not a valid JSON Schema/,
    ],
  ])('%s is refused', async (_, manifest, expected) => {
    const use = space.plugin({ ...VAULT, manifest: typeof manifest === 'string' ? {} : manifest });
    if (typeof manifest === 'string') space.write('plugins/acme.vault/plugin.json', manifest);
    expect(await problem({ plugins: [use], bindings: BOUND })).toMatch(expected);
  });

  test('a main that is a link out of the folder is refused', async () => {
    const use = space.plugin({ ...VAULT, manifest: { main: './link.mjs' } });
    symlinkSync(space.write('outside.mjs', ''), space.path('plugins/acme.vault/link.mjs'));
    expect(await problem({ plugins: [use] })).toContain('main "./link.mjs" lies outside');
  });

  test('a plugin listed twice, and an adapter id that two plugins have', async () => {
    const use = space.plugin(VAULT);
    expect(await problem({ plugins: [use, use] })).toContain(
      'RC1113 <space>/plugins.json:4:5 plugin "acme.vault" is listed already',
    );
    const other = space.plugin({ ...VAULT, id: 'other.vault' });
    expect(await problem({ plugins: [use, other] })).toContain(
      'RC1113 plugins "acme.vault" and "other.vault" both have an adapter "acme.vault"',
    );
  });
});

describe('what a missing plugin is the cause of is not told as more', () => {
  test('bindings that a plugin would have served, which could not be read', async () => {
    expect((await problem({ plugins: ['./none'], bindings: BOUND })).split('\n')).toEqual([
      expect.stringContaining('RC1106'),
    ]);
    const misspelled = {
      plugins: ['rollout.cloud-local', './none'],
      bindings: { SecretStore: { adapter: 'local.enf' } },
    };
    expect((await problem(misspelled)).split('\n')).toEqual([
      expect.stringContaining('RC1106'),
      expect.stringContaining('RC1102'),
    ]);
  });

  test('a folder without ./ is told how to write it, and nobody is sent to install it', async () => {
    space.plugin(VAULT);
    const message = await problem({ plugins: ['plugins/acme.vault'] });
    expect(message).toContain('A folder is written "./plugins/acme.vault".');
    expect(message).not.toContain('npm i');
    expect(await problem({ plugins: ['some/thing'] })).not.toContain('npm i');
  });

  test('an optional one that is left out is named where a binding needs it, and warned of', async () => {
    expect(await problem({ plugins: [{ use: './gone', optional: true }], bindings: BOUND })).toMatch(
      /no adapter "acme.vault" for SecretStore\..* Plugin ".\/gone" is not available: .*there is no folder/,
    );
    expect(space.logged).toEqual([expect.stringContaining('warn optional plugin "./gone" is left out')]);
  });
});

describe('optional and disabled plugins', () => {
  test('an optional plugin that is missing is one warning with its reason', async () => {
    const host = await space.host({ plugins: [{ use: './none', optional: true }] });
    expect(host.warnings).toHaveLength(1);
    expect(host.warnings[0]).toMatch(/^optional plugin ".\/none" is left out: RC1106 .* there is no folder/);
    expect(space.logged).toEqual([`warn ${host.warnings[0]}`]);
  });

  test('a binding to an adapter of an optional plugin that is not fit says why', async () => {
    const use = space.plugin({ ...VAULT, manifest: { engines: { node: '<18' } } });
    expect(await problem({ plugins: [{ use, optional: true }], bindings: BOUND })).toMatch(
      /RC1102 .* no adapter "acme.vault" for SecretStore: plugin ".\/plugins\/acme.vault", which has it, is not available: plugin acme.vault 1.0.0 needs node/,
    );
  });

  test('a disabled plugin is as if it were not listed, and a binding to it says so', async () => {
    const use = space.plugin(VAULT);
    const host = await space.host({ plugins: [{ use, enabled: false }] });
    expect(host.bindings()).toEqual([]);
    expect(await problem({ plugins: [{ use, enabled: false }], bindings: BOUND })).toContain(
      'no adapter "acme.vault" for SecretStore: plugin "./plugins/acme.vault", which has it, is disabled',
    );
    expect(space.imported).toEqual([]);
  });
});

describe('loading', () => {
  test('no code of a plugin runs before one of its adapters is asked for', async () => {
    const host = await space.host({ plugins: ['rollout.cloud-local', space.plugin(VAULT)], bindings: BOUND });
    expect(space.imported).toEqual([]);
    await host.get(SecretStore);
    await host.get(SecretStore);
    expect(space.imported.map((url) => url.replace(/.*\//, ''))).toEqual(['index.mjs']);
    expect(space.log).toEqual(['imported']);
  });

  test.each([
    ['throws on import', `throw new Error('broken')`, 'importing ./index.mjs failed: broken'],
    ['has a syntax error', 'export default {', 'importing ./index.mjs failed:'],
    ['is no plugin', 'export default {}', 'the default export of ./index.mjs is not from definePlugin()'],
    [
      'lacks the adapter',
      'export default definePlugin({ adapters: {} })',
      'its manifest has adapter "acme.vault", its module has no factory for it',
    ],
  ])('a module that %s is told by RC1301', async (_, code, expected) => {
    const host = await space.host({ plugins: [space.plugin({ ...VAULT, code })], bindings: BOUND });
    await expect(host.get(SecretStore)).rejects.toMatchObject({
      kind: 'PluginContract',
      code: 'RC1301',
      message: expect.stringContaining(`RC1301 plugin acme.vault: ${expected}`),
    });
  });

  test('an activate that fails is told by RC1301, and tried again', async () => {
    const code = `${NAMING_STORE} let calls = 0; export default definePlugin({
      activate: () => { if (calls++ === 0) throw new TypeError('boom'); }, adapters: { 'acme.vault': naming } });`;
    const host = await space.host({ plugins: [space.plugin({ ...VAULT, code })], bindings: BOUND });
    await expect(host.get(SecretStore)).rejects.toMatchObject({
      kind: 'PluginContract',
      code: 'RC1301',
      message: 'RC1301 plugin acme.vault: its activate() failed: boom',
    });
    await expect(host.get(SecretStore)).resolves.toBeDefined();
  });

  test('activate runs once before the first factory, deactivate once after the last instance is disposed', async () => {
    const use = space.plugin({
      ...VAULT,
      code: `export default definePlugin({
        activate: () => log('activate'),
        deactivate: () => log('deactivate'),
        adapters: { 'acme.vault': (ctx) => ({ get() {}, put() {}, names() {}, close: () => log('close ' + ctx.name) }) },
      });`,
    });
    const instances = { a: { adapter: 'acme.vault' }, b: { adapter: 'acme.vault' } };
    const host = await space.host({ plugins: [use], bindings: { SecretStore: { instances } } });
    await Promise.all([host.get(SecretStore, 'a'), host.get(SecretStore, 'b')]);
    await host.stop();
    expect(space.log).toEqual(['activate', 'close b', 'close a', 'deactivate']);
  });
});
