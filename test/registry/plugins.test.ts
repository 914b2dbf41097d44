import { mkdirSync, renameSync, symlinkSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { SecretStore, Storage } from '../../src/contracts/index.js';
import { loadConfig } from '../../src/registry/config.js';
import { discover } from '../../src/registry/discovery.js';
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

async function problem(config: string | object): Promise<string> {
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

test.each(['fs', 'path/posix'])('a module of Node, %s, is no plugin, and not to be installed', async (use) => {
  expect(await problem({ plugins: [use] })).toBe(
    `RC1106 <space>/plugins.json:3:5 plugin "${use}": modules of Node are not loaded; name a folder or a package.`,
  );
});

describe('manifests', () => {
  test.each([
    ['not JSON', '{', /not a JSON file/],
    [
      'an id with capitals',
      { id: 'Acme' },
      /RC1107 .*plugin.json:2:9 plugin "..plugins.acme.vault": id must match pattern/,
    ],
    [
      'an unknown key',
      { activatoin: 'onStartup' },
      /plugin.json:\S+ plugin ".*": activatoin: unknown key. Did you mean "activation"/,
    ],
    [
      'an activation that is none',
      { activation: 'always' },
      /plugin.json:\S+ plugin ".*": activation must be one of "onDemand", "onStartup"/,
    ],
    [
      'a permission that is none',
      { permissions: { fs: { reed: [] } } },
      /permissions.fs.reed: unknown key. Did you mean "read"/,
    ],
    [
      'a middleware that wraps nothing',
      { contributes: { middleware: [{ id: 'm', wraps: [] }] } },
      /wraps must have at least 1 item, found/,
    ],
    ['no main', { main: undefined }, /plugin.json:\S+ plugin ".*": main is missing/],
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
      /:2:9 .*: id must match pattern .*\n.*:3:14 .*: version must be of type string, found 1/,
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
    [
      'ranges that are none',
      {
        engines: { node: 'twenty' },
        dependsOn: ['acme.base@^one'],
        contributes: { adapters: [{ ...VAULT.adapters[0], packages: { '@acme/sdk': 'lates' } }] },
      },
      /RC1107 .*adapters.0.packages.@acme\/sdk: "lates" is no range of versions; write one as .*\n.*engines.node: "twenty" is no .*\n.*dependsOn.0: "\^one" is no range/,
    ],
    ['a main that is its own folder', { main: './' }, /RC1107 .*main ".\/" is not a file; name the module to import/],
    [
      'a version that is none',
      { version: 'one' },
      /RC1107 .*plugin.json:3:14 .*: version must match pattern .*, found "one": A semantic version, e\.g\. 1\.2\.0/,
    ],
    ['a version of two numbers', { version: '1.0' }, /version must match pattern .*, found "1\.0"/],
    [
      'a default that its own schema refuses',
      {
        contributes: {
          adapters: [
            {
              ...VAULT.adapters[0],
              config: {
                properties: {
                  db: { type: 'object', default: {}, properties: { port: { type: 'number', default: 'x' } } },
                },
              },
            },
          ],
        },
      },
      /^RC1107 <space>\/plugins\/acme\.vault\/plugin\.json:18:30 adapter acme\.vault: a default in the manifest's config does not hold: db\.port must be of type number/,
    ],
    ['a main that is a folder', { main: './lib' }, /RC1107 .*main ".\/lib" is not a file; name the module/],
    ['another Node', { engines: { node: '<18' } }, /RC1111 .* needs node <18, this is /],
    [
      'a config that is no schema',
      { contributes: { adapters: [{ ...VAULT.adapters[0], config: { type: 'nonsense' } }] } },
      /RC1107 \S+plugin.json:10:19 adapter acme.vault: the manifest's config is not a valid JSON Schema/,
    ],
  ])('%s is refused', async (_, manifest, expected) => {
    const use = space.plugin({ ...VAULT, manifest: typeof manifest === 'string' ? {} : manifest });
    if (typeof manifest === 'string') space.write('plugins/acme.vault/plugin.json', manifest);
    mkdirSync(space.path('plugins/acme.vault/lib'));
    expect(await problem({ plugins: [use], bindings: BOUND })).toMatch(expected);
  });

  test.each(['1.0.0', '0.0.1-rc.1', '10.20.30+build.5', '1.0.0-a-b.0+x'])('the version %s is one', async (version) => {
    const use = space.plugin({ ...VAULT, manifest: { version } });
    const host = await space.host({ plugins: [use], bindings: BOUND });
    expect(host.bindings()[0]?.pluginVersion).toBe(version);
  });

  test('what is given and refused is told where it was given, beside defaults that hold', async () => {
    const config = {
      properties: { a: { type: 'number', default: 1 }, list: { type: 'array', uniqueItems: true, maxItems: 3 } },
    };
    const use = space.plugin({ ...VAULT, adapters: [{ ...VAULT.adapters[0], config }] });
    const told = await problem({
      plugins: [use],
      bindings: { SecretStore: { adapter: 'acme.vault', config: { a: 'x', list: [1, 2, 1, 4] } } },
    });
    expect(told.split('\n').map((line) => line.replace(/plugins\.json:\S+/, 'at'))).toEqual([
      'RC1105 <space>/at bindings.SecretStore.config.a must be of type number, found a text of 1 characters (adapter acme.vault)',
      'RC1105 <space>/at bindings.SecretStore.config.list must have at most 3 items, found an array (adapter acme.vault)',
      'RC1105 <space>/at bindings.SecretStore.config.list must not have the same item twice: 0 and 2 are (adapter acme.vault)',
    ]);
  });

  test('a main that is a link out of the folder is refused', async () => {
    const use = space.plugin({ ...VAULT, manifest: { main: './link.mjs' } });
    symlinkSync(space.write('outside.mjs', ''), space.path('plugins/acme.vault/link.mjs'));
    expect(await problem({ plugins: [use] })).toContain('main "./link.mjs" lies outside');
  });

  test('a capability that it contributes can be bound, though no adapter is there', async () => {
    const use = space.plugin({ ...VAULT, manifest: { contributes: { capabilities: [{ id: 'acme.vault/Notes@1' }] } } });
    const bindings = { 'acme.vault/Notes': { adapter: 'acme.notes' } };
    expect(await problem({ plugins: [use], bindings })).toContain(
      'no adapter "acme.notes" for acme.vault/Notes. No plugin that is listed serves acme.vault/Notes',
    );
  });

  test('an adapter id that two plugins have', async () => {
    const [use, other] = [space.plugin(VAULT), space.plugin({ ...VAULT, id: 'other.vault' })];
    expect(await problem({ plugins: [use, other] })).toContain(
      'RC1113 <space>/plugins/other.vault/plugin.json:8:15 plugins "acme.vault" and "other.vault" both have an adapter "acme.vault"',
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

  test.each([
    ['ERR_UNKNOWN_FILE_EXTENSION', 'Unknown file extension ".ts" for /x/index.ts', true],
    ['ERR_UNKNOWN_FILE_EXTENSION', 'Unknown file extension ".css" for /x/index.css', false],
    ['ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX', 'TypeScript enum is not supported in strip-only mode', true],
    ['ERR_UNSUPPORTED_NODE_MODULES_TYPE_STRIPPING', 'Stripping types is currently unsupported', true],
  ])('that Node does not run, being TypeScript, is to be compiled: %s %s', async (code, message, isTypeScript) => {
    const use = space.plugin({ ...VAULT, code: '' });
    const importModule = () => Promise.reject(Object.assign(new Error(message), { code }));
    const host = await space.host({ plugins: [use], bindings: BOUND }, { importModule });
    const advice = `; Node ${process.versions.node} does not run this TypeScript: compile it, and name the JavaScript as "main" in the manifest`;
    await expect(host.get(SecretStore)).rejects.toMatchObject({
      code: 'RC1301',
      message: `RC1301 plugin acme.vault: importing ./index.mjs failed: ${message}${isTypeScript ? advice : ''}`,
    });
  });

  test('that never ends is not waited for by a stop, nor is what depends on it', async () => {
    const base = space.plugin({ id: 'acme.base', adapters: [], code: '' });
    const adapters = VAULT.adapters.map((adapter) => ({ ...adapter, timeouts: { activateMs: 50 } }));
    const use = space.plugin({
      ...{ id: 'acme.vault', adapters, code: '' },
      manifest: { dependsOn: ['acme.base'], contributes: { adapters } },
    });
    const host = await space.host(
      { plugins: [base, use], bindings: BOUND },
      { importModule: () => new Promise(() => {}) },
    );
    await expect(host.get(SecretStore)).rejects.toMatchObject({ code: 'RC1302' });
    expect((await host.stop()).errors).toEqual([]);
    expect(host.report().plugins.map(({ state }) => state)).not.toContain('loading');
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

describe('plugins that are not listed', () => {
  const infos = (config: object) => {
    const loaded = loadConfig({ config: space.write('plugins.json', config), env: {} });
    return discover(loaded).infos.map(
      ({ id, use, source, state }) => `${id} ${use.replace(`${space.folder}/`, '')} ${source} ${state}`,
    );
  };
  const dependency = () => {
    space.plugin({
      ...VAULT,
      id: 'dep.vault',
      adapters: [{ id: 'dep.vault', provides: 'SecretStore@1' }],
      folder: 'node_modules/dep',
    });
    space.write('node_modules/dep/package.json', { name: 'dep' });
    space.write('node_modules/plain/package.json', { name: 'plain' });
    space.write('package.json', { dependencies: { dep: '1', plain: '1', absent: '1' } });
  };

  test('are those in ./plugins, dependencies where they are asked for, and the built-in ones, which wait', () => {
    space.plugin(VAULT);
    space.plugin({ ...VAULT, id: 'b.vault', adapters: [] });
    space.write('plugins/plain/readme.md', '');
    space.write('plugins/other/package.json', { name: 'other' });
    dependency();
    const found = ['acme.vault plugins/acme.vault folder ready', 'b.vault plugins/b.vault folder ready'];
    const builtIn = 'rollout.cloud-local rollout.cloud-local built-in discovered';
    expect(infos({ plugins: [] })).toEqual(expect.arrayContaining([...found, builtIn]));
    expect(infos({ plugins: [], discover: [] }).filter((line) => line.endsWith('ready'))).toEqual([]);
    expect(infos({ plugins: ['./plugins/b.vault'], discover: ['folder', 'dependency'] }).slice(0, 3)).toEqual([
      'b.vault ./plugins/b.vault listed ready',
      'acme.vault plugins/acme.vault folder ready',
      'dep.vault node_modules/dep dependency ready',
    ]);
  });

  test('a file named plugins is no place for them, and no fault', () => {
    space.write('plugins', 'x');
    expect(infos({ plugins: [] }).filter((line) => !line.includes(' built-in '))).toEqual([]);
  });

  test('serve as those that are listed do', async () => {
    space.plugin(VAULT);
    expect(await asks({ plugins: [], bindings: BOUND })).toBe('acme.vault#default:x');
  });

  test('one that is not sound and that nothing needs is a warning, with what to do', async () => {
    space.plugin({ ...VAULT, manifest: { main: './dist/index.js' } });
    space.write('plugins/acme.vault/package.json', { name: 'vault', scripts: { build: 'tsc -p .' } });
    const memory = { Storage: { adapter: 'local.memory' } };
    const host = await space.host({ bindings: memory });
    expect(host.warnings.map((line) => line.replaceAll(space.folder, '<space>'))).toEqual([
      'plugin "<space>/plugins/acme.vault" is left out: RC1107 <space>/plugins/acme.vault/plugin.json:4:11 ' +
        'main "./dist/index.js" is not there; build the plugin first: "npm run build" in its folder; ' +
        'to leave it out without a warning, ' +
        'write "plugins": ["rollout.cloud-local", { "use": "<space>/plugins/acme.vault", "enabled": false }]',
    ]);
    expect(host.plugins().find(({ id }) => id === 'acme.vault')).toMatchObject({
      state: 'invalid',
      reason: 'main "./dist/index.js" is not there; build the plugin first: "npm run build" in its folder',
    });
    await host.get(Storage);
    const list = JSON.parse(/write "plugins": (.*)$/.exec(host.warnings[0] ?? '')?.[1] ?? '');
    const disabled = await space.host({ plugins: list, bindings: memory });
    expect(disabled.warnings).toEqual([]);
    await disabled.get(Storage);
    const listed = await space.host({ plugins: ['rollout.cloud-local'], bindings: memory });
    const entry = JSON.parse(/add (.*) to "plugins"$/.exec(listed.warnings[0] ?? '')?.[1] ?? '');
    const added = await space.host({ plugins: ['rollout.cloud-local', entry], bindings: memory });
    expect(added.warnings).toEqual([]);
  });

  test.each([
    ['no JSON', '{'],
    ['another version', { engines: { node: '<18' } }],
    ['what it depends on', { dependsOn: ['acme.gone'] }],
    ['a built-in plugin’s id', { id: 'rollout.middleware' }],
  ])('one that nothing needs takes nobody down, for %s', async (_, manifest) => {
    space.plugin({ ...VAULT, manifest: typeof manifest === 'string' ? {} : manifest });
    if (typeof manifest === 'string') space.write('plugins/acme.vault/plugin.json', manifest);
    const host = await space.host({ bindings: { Storage: { adapter: 'local.memory', middleware: ['retry'] } } });
    expect(host.warnings).toEqual([expect.stringMatching(/^plugin ".*acme.vault" is left out: RC1/)]);
    await host.get(Storage);
  });

  test('one that is not sound is an error where a binding, a middleware, a requirement or a demand needs it', async () => {
    const contributes = { adapters: VAULT.adapters, middleware: [{ id: 'acme.wrap', wraps: ['*'] }] };
    const why = 'plugin "<space>/plugins/acme.vault", which has it, is not available: main "./none.mjs" is not there';
    space.plugin({ ...VAULT, manifest: { main: './none.mjs', contributes } });
    expect(await problem({ bindings: BOUND })).toContain(
      `RC1102 <space>/plugins.json:4:18 no adapter "acme.vault" for SecretStore: ${why}`,
    );
    const wrapped = { Storage: { adapter: 'local.memory', middleware: ['acme.wrap'] } };
    expect(await problem({ bindings: wrapped })).toContain(`no middleware "acme.wrap" for Storage@1: ${why}`);
    const listed = space.plugin({
      ...VAULT,
      id: 'needs.it',
      manifest: { contributes: { adapters: [{ id: 'needs.it', provides: 'Queue@1', requires: ['SecretStore'] }] } },
    });
    expect(await problem({ plugins: [listed], bindings: { Queue: { adapter: 'needs.it' } } })).toContain(
      `requires SecretStore: nothing provides SecretStore: ${why}`,
    );
    const host = await space.host({ plugins: [] });
    await expect(host.get(SecretStore)).rejects.toThrow('RC1121 nothing provides SecretStore: plugin "');
    await expect(space.host({ bindings: { 'acme.vault/Notes': { adapter: 'x' } } })).rejects.toThrow('RC1003');
  });

  test('of one id the first is taken, the next reported as shadowed', async () => {
    const [first, second] = [space.plugin(VAULT), space.plugin({ ...VAULT, folder: 'elsewhere' })];
    const host = await space.host({ plugins: [second, first], bindings: BOUND });
    expect(host.warnings).toEqual([
      'plugin "acme.vault" of "./plugins/acme.vault" is shadowed: that of "./elsewhere" comes first',
    ]);
    expect(infos({ plugins: [second] })).toEqual(
      expect.arrayContaining(['acme.vault ./elsewhere listed ready', 'acme.vault plugins/acme.vault folder shadowed']),
    );
  });

  test('the id of a built-in one is taken only by who says that he means it', async () => {
    const use = space.plugin({ ...VAULT, id: 'rollout.cloud-local' });
    expect(await problem({ plugins: [use] })).toMatch(
      /^RC1113 <space>.plugins.json:3:5 .*"rollout.cloud-local" is the id of a built-in plugin; .*"replace": true/,
    );
    const replacing = { plugins: [{ use, replace: true }], bindings: BOUND };
    expect(await asks(replacing)).toBe('acme.vault#default:x');
    expect(infos(replacing)).toContain('rollout.cloud-local rollout.cloud-local built-in shadowed');
  });

  test('an adapter of a built-in one says what to list', async () => {
    expect(await problem({ plugins: [], bindings: { Storage: { adapter: 'local.memory' } } })).toContain(
      'plugin "rollout.cloud-local", which has it, is built in and not listed; list it under "plugins"',
    );
  });
});

describe('conditions and dependencies', () => {
  const VAULT_ON = (manifest: object): TestPlugin => ({
    ...VAULT,
    manifest: { ...manifest } as Record<string, unknown>,
  });

  test.each([
    ['platform', { platform: ['plan9'] }, `it works on plan9, this is ${process.platform}`],
    ['architecture', { arch: ['pdp11'] }, `it works on pdp11, this is ${process.arch}`],
    ['environment', { env: ['ACME_UNSET', 'PATH'] }, 'environment variable ACME_UNSET is not set'],
  ])('a plugin for another %s is unavailable, and who wants it is told why', async (_name, when, reason) => {
    const use = space.plugin(VAULT_ON({ when }));
    const host = await space.host({ plugins: [use] });
    expect(host.warnings).toEqual([]);
    expect(host.report().missing).toEqual([{ use, reason }]);
    expect(await problem({ plugins: [use], bindings: BOUND })).toContain(`which has it, is not available: ${reason}`);
  });

  test('one whose conditions hold is there', async () => {
    const when = { platform: [process.platform], arch: [process.arch], env: ['PATH'] };
    expect(await asks({ plugins: [space.plugin(VAULT_ON({ when }))], bindings: BOUND })).toBe('acme.vault#default:x');
  });

  const named = (id: string, manifest: object = {}) =>
    space.plugin({
      id,
      adapters: [],
      code: `log('${id}'); export default definePlugin({ adapters: {}, deactivate() { log('end ' + '${id}') } });`,
      manifest: manifest as Record<string, unknown>,
    });

  test('a plugin is activated after those that it depends on, and deactivated before', async () => {
    named('c.base');
    named('b.base', { dependsOn: ['c.base@^1.0.0'] });
    const use = space.plugin(VAULT_ON({ dependsOn: ['b.base'], optionalDependsOn: ['none.such', 'c.base'] }));
    const host = await space.host({ plugins: [use], bindings: BOUND });
    await host.get(SecretStore);
    expect(space.log).toEqual(['c.base', 'b.base', 'imported']);
    await host.stop();
    expect(space.log.slice(3)).toEqual(['end b.base', 'end c.base']);
  });

  test('one that depends on what is not there, or on another version, is told; optional, it is left out', async () => {
    const use = space.plugin(VAULT_ON({ dependsOn: ['b.base'] }));
    expect(await problem({ plugins: [use], bindings: BOUND })).toMatch(
      /^RC1114 <space>.plugins.json:3:5 plugin ".*" depends on plugin "b.base", which is not there; list it under "plugins"/,
    );
    expect((await space.host({ plugins: [{ use, optional: true }] })).warnings[0]).toContain('RC1114');
    const base = named('b.base', { version: '2.0.0' });
    space.plugin(VAULT_ON({ dependsOn: ['b.base@^1.0.0'] }));
    expect(await problem({ plugins: [use] })).toContain('depends on plugin "b.base" ^1.0.0, found 2.0.0');
    expect(await problem({ plugins: [use, { use: base, enabled: false }] })).toContain(
      'which is disabled: it is disabled',
    );
  });

  test('a circle of plugins is told with its path', async () => {
    named('a.one', { dependsOn: ['b.two'] });
    named('b.two', { dependsOn: ['a.one'] });
    expect(await problem({ plugins: [] })).toMatch(/^RC1201 .*in a circle: a.one -> b.two -> a.one/);
  });
});

describe('a key that stands twice', () => {
  const text = (permissions: string) => `{
  "id": "acme.vault", "version": "1.0.0", "main": "./index.mjs",
  "contributes": { "adapters": [{ "id": "acme.vault", "provides": "SecretStore@1" }] },
  "description": "a \\"colon\\": and {a: 1}",
  ${permissions}
}`;

  test('is told with both places, however deep, in a plugin.json', async () => {
    const use = space.plugin(VAULT);
    space.write('plugins/acme.vault/plugin.json', text('"permissions": { "env": ["A"],\n    "env": ["B"] }'));
    expect(await problem({ plugins: [use], bindings: BOUND })).toBe(
      'RC1107 <space>/plugins/acme.vault/plugin.json:6:5 plugin "./plugins/acme.vault": the key "env" stands here again, it stands at <space>/plugins/acme.vault/plugin.json:5:20 already; keep one.',
    );
    space.write('plugins/acme.vault/plugin.json', text('"permissions": { "env": ["A"] }'));
    expect(await asks({ plugins: [use], bindings: BOUND })).toBe('acme.vault#default:x');
  });

  test('of a package.json is ours in the manifest alone', async () => {
    const use = space.plugin({ ...VAULT, folder: 'vault' });
    renameSync(space.path('vault/plugin.json'), space.path('moved.json'));
    const shared = (manifest: string) =>
      space.write('vault/package.json', `{ "name": "a", "name": "b",\n "rollout-cloud": ${manifest} }`);
    shared(text('"run": "inprocess"'));
    expect(await asks({ plugins: [use], bindings: BOUND })).toBe('acme.vault#default:x');
    shared(text('"run": "inprocess", "run": "process"'));
    expect(await problem({ plugins: [use], bindings: BOUND })).toContain(
      'vault/package.json:6:23 plugin "./vault": the key "run"',
    );
    shared(`{},\n "rollout-cloud": ${text('"run": "inprocess"')}`);
    expect(await problem({ plugins: [use], bindings: BOUND })).toContain(
      'vault/package.json:3:2 plugin "./vault": the key "rollout-cloud"',
    );
  });

  test('is told in plugins.json and plugins.local.json, all at once', async () => {
    space.write('plugins.local.json', '{ "bindings": {\n "Storage": null,\n "Storage": null } }');
    expect((await problem('{ "plugins": [],\n "plugins": [] }')).split('\n')).toEqual([
      'RC1003 <space>/plugins.json:2:2 the key "plugins" stands here again, it stands at <space>/plugins.json:1:3 already; keep one',
      'RC1003 <space>/plugins.local.json:3:2 the key "Storage" stands here again, it stands at <space>/plugins.local.json:2:2 already; keep one',
    ]);
  });
});

describe('a variable in the paths of permissions', () => {
  const config = {
    properties: { root: { type: 'string', format: 'path' }, logs: { type: 'array' }, size: { type: 'integer' } },
  };
  const withPath = (path: string, own: object = config) =>
    problem({
      plugins: [
        space.plugin({
          ...VAULT,
          adapters: [{ id: 'acme.vault', provides: 'SecretStore@1', config: own }],
          manifest: { permissions: { fs: { write: ['./x', path] } } },
        }),
      ],
      bindings: BOUND,
    });

  test.each([
    [
      '${config.rot}',
      /"\$\{config\.rot\}": none of the plugin's adapters has an option "rot"\. Did you mean "root"\? Known: logs, root, size\./,
    ],
    [
      '${confg.root}/in',
      /"\$\{confg\.root\}": in a path "\$\{config\.<option>\}" is an option of the plugin's adapters\. Did you mean "config\.root"\?/,
    ],
    ['${env:HOME}/x', /"\$\{env:HOME\}": in a path "\$\{config\.<option>\}" is an option/],
    ['./data/${config.root}', /"\$\{config\.root\}" can stand at the start of a path only/],
    ['${config.root}/${config.logs}', /"\$\{config\.logs\}" can stand at the start/],
    ['${config.root', /"\$\{config\.root" can stand at the start|"\$\{config\.root": in a path/],
    ['${config.size}', /"\$\{config\.size\}": the option is neither a text nor a list of texts/],
  ])('%s is a fault of the manifest, at its place', async (path, message) => {
    const told = await withPath(path);
    expect(told).toMatch(
      /^RC1107 <space>\/plugins\/acme\.vault\/plugin\.json:\d+:\d+ plugin "\.\/plugins\/acme\.vault": permissions\.fs\.write\.1: /,
    );
    expect(told).toMatch(message);
  });

  test('of a plugin without options says that there are none', async () => {
    expect(await withPath('${config.root}', {})).toContain('has an option "root". It has no options.');
  });

  test.each(['${config.root}', '${config.root}/in', '${config.logs}', '*', './plain'])('%s is none', async (path) => {
    await expect(withPath(path)).rejects.toThrow('this configuration was accepted');
  });

  test('that only a configuration can show to be right is no fault of the manifest', async () => {
    await expect(withPath('${config.any}', { additionalProperties: true })).rejects.toThrow('was accepted');
    await expect(withPath('${config.any}', { anyOf: [{}] })).rejects.toThrow('was accepted');
  });
});

describe('files that are no manifest', () => {
  test.each([
    ['nested 100,000 deep', '['.repeat(100_000), /plugin.json:1:101 .*nested deeper than 100 levels/],
    ['a comment', '{ // no\n}', /plugin.json:1:3 .*not a JSON file/],
    ['an array', '[]', /plugin.json:1:1 .*must be of type object, found an array/],
    ['null', 'null', /plugin.json:1:1 .*must be of type object, found null/],
    ['5 MiB', `"${'x'.repeat(5 * 2 ** 20)}"`, /plugin.json .*more than 4194304 bytes/],
    [
      'an id that is another plugin’s capability',
      JSON.stringify({
        id: 'a',
        version: '1.0.0',
        main: './index.mjs',
        contributes: { capabilities: [{ id: 'b/Notes@1' }] },
      }),
      /plugin.json:1:87 .*capabilities.0.id: a capability of this plugin begins with "a\/"/,
    ],
  ])('%s is refused with its place', async (_name, text, expected) => {
    const use = space.plugin(VAULT);
    space.write('plugins/acme.vault/plugin.json', text);
    expect(await problem({ plugins: [use] })).toMatch(
      new RegExp(`RC1107 <space>/plugins/acme.vault/${expected.source}`),
    );
  });

  test('a folder in its place, and a package.json whose key is at fault', async () => {
    mkdirSync(space.path('a/plugin.json'), { recursive: true });
    expect(await problem({ plugins: ['./a'] })).toContain(
      'RC1107 <space>/a/plugin.json plugin "./a": it is not a file.',
    );
    space.write('b/package.json', '{\n "name": "b",\n "rollout-cloud": { "id": 3 } }');
    expect(await problem({ plugins: ['./b'] })).toContain(
      'RC1107 <space>/b/package.json:3:27 plugin "./b": id must be of type string',
    );
  });
});
