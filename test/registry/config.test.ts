import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { Storage } from '../../src/contracts/index.js';
import { createHost } from '../../src/registry/index.js';
import { Workspace } from '../support/workspace.js';

let space: Workspace;
beforeEach(() => {
  space = new Workspace();
});
afterEach(() => space[Symbol.asyncDispose]());

/** The error's lines, with the workspace's folder cut out. */
async function problems(config: string | object, options = {}): Promise<string[]> {
  try {
    await space.host(config, options);
  } catch (error) {
    expect(error).toMatchObject({
      severity: 'fatal',
      kind: 'ConfigInvalid',
      code: expect.stringMatching(/^RC1\d{3}$/),
    });
    return (error as Error).message.replaceAll(`${space.folder}/`, '').split('\n');
  }
  throw new Error('this configuration was accepted');
}

describe('a plugins.json that is not right is refused with file, line and column', () => {
  test('a file that is not there', async () => {
    await expect(createHost({ config: space.path('none.json') })).rejects.toMatchObject({
      code: 'RC1001',
      message: expect.stringContaining('none.json there is no such file; create it, or name another'),
    });
  });

  test('a folder in its place', async () => {
    await expect(createHost({ config: space.folder })).rejects.toMatchObject({
      code: 'RC1001',
      message: expect.stringContaining('it is a folder; name the file in it'),
    });
  });

  test.each([
    ['empty', '', 'RC1002 plugins.json:1:1 the file is empty'],
    [
      'only a comment',
      '// nothing',
      'RC1002 plugins.json:1:11 this is not JSON (comments are allowed): a value was expected',
    ],
    [
      'cut off',
      '{\n  "bindings": {',
      'RC1002 plugins.json:2:16 this is not JSON (comments are allowed): a closing } was expected',
    ],
    ['not an object', '[1]', 'RC1004 plugins.json:1:1 the whole value must be of type object, found an array'],
    [
      'an unknown key',
      '{\n  "binding": {}\n}',
      'RC1003 plugins.json:2:3 binding: unknown key. Did you mean "bindings"?',
    ],
    [
      'a key twice',
      '{ "plugins": [],\n "plugins": [] }',
      'RC1003 plugins.json:2:2 the key "plugins" stands here again, it stands at plugins.json:1:3 already; keep one',
    ],
    ['a newer version', '{ "version": 2 }', 'RC1004 plugins.json:1:14 version must be 1, found 2'],
    [
      'plugins of the wrong type',
      '{ "plugins": "x" }',
      'RC1004 plugins.json:1:14 plugins must be of type array, found "x"',
    ],
    ['an entry without use', '{ "plugins": [{}] }', 'RC1004 plugins.json:1:15 plugins.0.use is missing'],
    [
      'an entry with a typo',
      '{ "plugins": [{ "use": "a", "enable": true }] }',
      'RC1003 plugins.json:1:29 plugins.0.enable: unknown key. Did you mean "enabled"?',
    ],
    [
      'a binding without adapter',
      '{ "bindings": { "Queue": {} } }',
      'RC1004 plugins.json:1:26 bindings.Queue.adapter is missing',
    ],
    [
      'a binding with a typo',
      '{ "bindings": { "Queue": { "adaptor": "x" } } }',
      'RC1003 plugins.json:1:28 bindings.Queue.adaptor: unknown key. Did you mean "adapter"?',
    ],
    [
      'instances without instances',
      '{ "bindings": { "Queue": { "default": "x" } } }',
      'RC1004 plugins.json:1:26 bindings.Queue.instances is missing',
    ],
    [
      'an instance name with a space',
      '{ "bindings": { "Queue": { "instances": { "a b": { "adapter": "x" } } } } }',
      'RC1004 plugins.json:1:41 bindings.Queue.instances.a b: the name has characters that are not allowed',
    ],
    [
      'a capability that is none',
      '{ "bindings": { "Queu": { "adapter": "local.in-mem" } } }',
      'RC1003 plugins.json:1:17 bindings.Queu: no such capability. Did you mean "Queue"?',
    ],
    ['the key __proto__', '{ "__proto__": {} }', 'RC1003 plugins.json:1:3 __proto__: unknown key'],
  ])('%s', async (_, text, expected) => {
    expect((await problems(text)).join('\n')).toContain(expected);
  });

  test('everything wrong is told at once, in the order of the file', async () => {
    const lines = await problems('{\n  "versoin": 1,\n  "plugins": [3],\n  "bindings": { "Queue": {} }\n}');
    expect(lines.map((line) => line.split(' ').slice(0, 2).join(' '))).toEqual([
      'RC1003 plugins.json:2:3',
      'RC1004 plugins.json:3:15',
      'RC1004 plugins.json:4:26',
    ]);
  });

  test('a byte order mark and trailing commas are no fault', async () => {
    await expect(space.host('\uFEFF{ "version": 1, /* none */ "plugins": [], }')).resolves.toBeDefined();
  });
});

describe('set puts single values on top', () => {
  const config = { bindings: { Storage: { adapter: 'local.memory' } } };

  test('and their place is their own name', async () => {
    const host = await space.host(config, { set: { 'bindings.Storage.adapter': 'local.sqlite' } });
    expect(host.bindings().find(({ capability }) => capability === 'Storage')?.adapter).toBe('local.sqlite');
    expect(await problems(config, { set: { 'bindings.Storage.adapter': 'local.sqlit' } })).toEqual([
      'RC1102 set bindings.Storage.adapter no adapter "local.sqlit" for Storage. Did you mean "local.sqlite"? Known: local.memory, local.node-sqlite, local.sqlite.',
    ]);
  });

  test('objects that are not there yet are made, null deletes, whole objects are taken', async () => {
    const host = await space.host(config, {
      set: {
        'bindings.SecretStore.adapter': 'local.env',
        'bindings.SecretStore.config': { allowlist: ['A'] },
        'bindings.Storage': null,
      },
    });
    expect(host.has(Storage)).toBe(false);
    expect(host.bindings().find(({ capability }) => capability === 'SecretStore')?.config).toEqual({
      allowlist: ['A'],
    });
  });

  test('what it was set into keeps its place in the file', async () => {
    const slip = '{\n "bindings": { "Storage": { "adaptr": "local.sqlite" } } }';
    expect(await problems(slip, { set: { 'bindings.Storage.config.path': 'x' } })).toEqual([
      expect.stringContaining('RC1004 plugins.json:2:27 bindings.Storage.adapter is missing'),
      expect.stringContaining('RC1003 plugins.json:2:29 bindings.Storage.adaptr: unknown key'),
    ]);
  });

  test('an instance may be named as something of a later version is', async () => {
    const instances = { require: { adapter: 'local.memory' }, replace: { adapter: 'local.memory' } };
    const host = await space.host({ bindings: { Storage: { instances } } });
    expect(host.has(Storage, 'require')).toBe(true);
  });

  test('no path reaches the prototype of all objects', async () => {
    await problems(config, { set: { '__proto__.polluted': 'yes' } }).catch(() => []);
    expect(({} as Record<string, unknown>).polluted).toBeUndefined();
  });
});

describe('the options of createHost', () => {
  test.each([
    ['a path instead of options', './nope.json', 'options must be an object, found "./nope.json"'],
    ['null', null, 'options must be an object, found null'],
    [
      'a slip',
      { confg: 'x' },
      'unknown option "confg" in options. Did you mean "config"? Known: config, env, healthEveryMs, importModule, logger, profile, retry, set, stopMs.',
    ],
    ['a profile of the wrong type', { profile: 3 }, 'options.profile must be well-formed text'],
    ['two files', { config: ['a.json', 'b.json'] }, 'options.config must be followed by objects'],
    ['a number as configuration', { config: 42 }, 'options.config must be a path or an object, found 42'],
    ['null as configuration', { config: null }, 'options.config must be a path or an object, found null'],
    ['a web address', { config: new URL('https://example.com/x') }, 'options.config must be a file'],
    ['a function inside', { config: { plugins: [() => {}] } }, 'RC1004 config the configuration has to be plain data'],
    ['set as text', { config: {}, set: 'a=b' }, 'options.set must be an object, found "a=b"'],
    ['half a logger', { config: {}, logger: { warn() {} } }, 'options.logger.debug must be a function'],
    ['an import that is none', { config: {}, importModule: 'x' }, 'options.importModule must be a function'],
  ])('%s is refused', async (_, options, message) => {
    await expect(createHost(options as never)).rejects.toThrow(message);
  });
});

describe('a configuration given as an object', () => {
  test('is used without touching it, and its problems name the value', async () => {
    const config = { plugins: [], bindings: { Queue: { adapter: 'x' } } } as const;
    const before = JSON.stringify(config);
    await expect(createHost({ config })).rejects.toMatchObject({
      code: 'RC1102',
      message:
        'RC1102 config.bindings.Queue.adapter no adapter "x" for Queue. No plugin that is listed serves Queue; list one under "plugins".',
    });
    expect(JSON.stringify(config)).toBe(before);
  });
});
