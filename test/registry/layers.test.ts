/** Layers of the configuration: what wins, what is deleted, and where each value is said to come from. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { type ConfigSources, type HostConfig, type LoadedConfig, loadConfig } from '../../src/registry/config.js';
import { plan } from '../../src/registry/index.js';
import { Workspace } from '../support/workspace.js';

let space: Workspace;
beforeEach(() => {
  space = new Workspace();
});
afterEach(() => space[Symbol.asyncDispose]());

function load(config: string | object, sources: ConfigSources = {}): LoadedConfig {
  return loadConfig({ config: space.write('plugins.json', config), env: {}, ...sources });
}

/** `value (where from)` of a setting. */
function at(config: LoadedConfig, ...path: (string | number)[]): string {
  const value = path.reduce<unknown>((value, step) => (value as Record<string, unknown>)[step], config.value);
  const origin = config.origin(path);
  const { source = '', line, column } = origin?.place ?? {};
  const shown = line === undefined ? source : `${source.replace(`${space.folder}/`, '')}:${line}:${column}`;
  return `${JSON.stringify(value)} (${shown}${origin?.variables.map((name) => `, env ${name}`).join('') ?? ''})`;
}

function problems(config: string | object, sources: ConfigSources = {}): string[] {
  let told: readonly {
    code: string;
    place: { source: string; line?: number; column?: number } | null;
    message: string;
  }[];
  try {
    told = load(config, sources).problems;
  } catch (error) {
    told = (error as { context: { problems: typeof told } }).context.problems;
  }
  return told.map(({ code, place, message }) => {
    const source = place?.source.replace(`${space.folder}/`, '');
    return `${code} ${source}${place?.line === undefined ? '' : `:${place.line}:${place.column}`} ${message}`;
  });
}

const SETTING = ['bindings', 'Queue', 'config', 'name'] as const;
const named = (name: unknown): HostConfig => ({
  bindings: { Queue: { adapter: 'local.in-mem', config: { name } } },
});

describe('of two layers the higher wins', () => {
  const all = {
    ...named('file'),
    profiles: { p: { bindings: { Queue: { config: { name: 'profile' } } } } },
  };
  const local = { bindings: { Queue: { config: { name: 'local' } } } };
  const env = { ROLLOUT_CLOUD__bindings__Queue__config__name: 'env' };
  const set = { 'bindings.Queue.config.name': 'set' };
  const overlay = { bindings: { Queue: { config: { name: 'object' } } } } as unknown as HostConfig;
  const writeLocal = () => {
    space.write('plugins.local.json', local);
    return {};
  };
  /** Lowest first, each on top of all before it. */
  const STEPS: [string, () => ConfigSources, string][] = [
    ['plugins.json', () => ({}), '"file" (plugins.json:6:17)'],
    ['its profile', () => ({ profile: 'p' }), '"profile" (plugins.json:15:21)'],
    ['plugins.local.json', () => writeLocal(), '"local" (plugins.local.json:5:17)'],
    ['the environment', () => ({ env }), '"env" (env ROLLOUT_CLOUD__bindings__Queue__config__name)'],
    ['set', () => ({ set }), '"set" (set bindings.Queue.config.name)'],
    [
      'an object after the file',
      () => ({ config: [space.path('plugins.json'), overlay] }),
      '"object" (config.1.bindings.Queue.config.name)',
    ],
  ];

  test.each(STEPS.map(([name], i): [string, number] => [name, i]))('%s', (_name, last) => {
    const sources = STEPS.slice(0, last + 1).map(([, more]) => more());
    expect(at(load(all, Object.assign({}, ...sources)), ...SETTING)).toBe(STEPS[last]?.[2]);
  });

  test('and what the higher ones do not say stays, with its place', () => {
    const config = load(all, { set: { 'bindings.Queue.config.maxAttempts': 3 } });
    expect(at(config, ...SETTING)).toBe('"file" (plugins.json:6:17)');
    expect(at(config, 'bindings', 'Queue', 'config', 'maxAttempts')).toBe('3 (set bindings.Queue.config.maxAttempts)');
    expect(config.origin(['bindings', 'Queue', 'config', 'none'])).toBeNull();
  });

  test('a profile of plugins.local.json goes on top of the one of plugins.json', () => {
    space.write('plugins.local.json', { profiles: { p: named('local profile') } });
    expect(at(load(all, { profile: 'p' }), ...SETTING)).toBe('"local profile" (plugins.local.json:8:21)');
  });

  test('what an object in the place of the file says, the surroundings do not change', () => {
    const config = loadConfig({ config: named('object'), env, set: { 'bindings.Queue.config.maxAttempts': 3 } });
    expect(config.value).toEqual(
      named('object').bindings && {
        bindings: { Queue: { adapter: 'local.in-mem', config: { name: 'object', maxAttempts: 3 } } },
      },
    );
  });

  test('and a variable that has no effect on an object is told', async () => {
    const warningsOf = async (sources: ConfigSources) => (await plan(sources)).warnings;
    expect(await warningsOf({ config: {}, env })).toEqual([
      expect.stringMatching(
        /on top of which the environment is not put: ROLLOUT_CLOUD__bindings__Queue__config__name has/,
      ),
    ]);
    expect(await warningsOf({ config: {}, env: {} })).toEqual([]);
    expect(await warningsOf({ config: space.write('plugins.json', named('file')), env })).toEqual([]);
  });
});

describe('merging', () => {
  const put = (below: object, above: object) => {
    const config = { ...below, profiles: { p: above } };
    const { value } = load(config, { profile: 'p' });
    return JSON.parse(JSON.stringify(value));
  };

  test('objects merge, arrays replace, null deletes', () => {
    const below = { plugins: ['a', 'b'], bindings: { X: { adapter: 'x', config: { a: { b: 1, c: 2 }, d: [1, 2] } } } };
    const above = { plugins: ['c'], bindings: { X: { config: { a: { b: null, e: 3 }, d: [3] } }, Y: null } };
    expect(put(below, above)).toEqual({
      plugins: ['c'],
      bindings: { X: { adapter: 'x', config: { a: { c: 2, e: 3 }, d: [3] } } },
    });
    expect(put({ bindings: { X: { adapter: 'x' } } }, { bindings: { X: null } })).toEqual({ bindings: {} });
  });

  test('a configuration belongs to its adapter: another one starts without it, the same keeps it', () => {
    const below = { bindings: { Storage: { adapter: 'local.sqlite', config: { path: 'x' }, require: ['r'] } } };
    expect(put(below, { bindings: { Storage: { adapter: 'local.memory' } } })).toEqual({
      bindings: { Storage: { adapter: 'local.memory', require: ['r'] } },
    });
    expect(put(below, { bindings: { Storage: { adapter: 'local.sqlite' } } })).toEqual(below);
    const instances = { bindings: { Storage: { instances: { a: below.bindings.Storage } } } };
    expect(put(instances, { bindings: { Storage: { instances: { a: { adapter: 'local.memory' } } } } })).toEqual({
      bindings: { Storage: { instances: { a: { adapter: 'local.memory', require: ['r'] } } } },
    });
  });

  test('an adapter keeps its configuration when it comes out of a list, or into one', () => {
    const storage = (adapter: unknown, config?: object) => ({
      bindings: { Storage: { adapter, ...(config && { config }) } },
    });
    const list = storage(['a', { use: 'b', config: { own: 1, x: 2 } }], { x: 1, y: 1 });
    expect(put(list, storage('a'))).toEqual(storage('a', { x: 1, y: 1 }));
    expect(put(list, storage('b', { y: 3 }))).toEqual(storage('b', { own: 1, x: 2, y: 3 }));
    expect(put(list, storage('c', { y: 3 }))).toEqual(storage('c', { y: 3 }));
    expect(put(list, storage(['c', 'a']))).toEqual(storage(['c', { use: 'a', config: { x: 1, y: 1 } }]));
    expect(put(storage('a', { x: 1, y: 1 }), storage(['b', 'a'], { y: 2 }))).toEqual(
      storage(['b', { use: 'a', config: { x: 1, y: 2 } }], { y: 2 }),
    );
    expect(put(storage('a', { x: 1 }), storage(['b', { use: 'a', config: { x: 5 } }]))).toEqual(
      storage(['b', { use: 'a', config: { x: 5 } }]),
    );
    expect(put(list, { bindings: { Storage: { adapter: 'a', config: null } } })).toEqual(storage('a'));
    expect(put(list, { bindings: { Storage: { adapter: ['a'], config: null } } })).toEqual(storage(['a']));
  });

  test('of what was for a list, an adapter takes what it knows, from where it stands', async () => {
    const texts = (...names: string[]) => ({
      properties: Object.fromEntries(names.map((name) => [name, { type: 'string' }])),
    });
    const adapter = (id: string, ...names: string[]) => ({ id, provides: 'SecretStore@1', config: texts(...names) });
    const use = space.plugin({
      id: 'x',
      adapters: [adapter('x.a', 'all', 'a'), adapter('x.b', 'all', 'b'), adapter('x.c', 'all')],
      code: '',
    });
    const binding = { adapter: ['x.a', 'x.b'], config: { all: '1', a: '2', b: '3' } };
    const explained = async (above: object, more: object = {}) => {
      const profiles = { p: { bindings: { SecretStore: above } } };
      const bindings = { SecretStore: { ...binding, ...more } };
      const host = await space.host({ plugins: [use], bindings, profiles }, { profile: 'p', env: {} });
      const { settings } = host.explain('SecretStore');
      return settings.map(({ path, value, origin }) => `${path} ${JSON.stringify(value)} ${origin.place?.line}`);
    };
    expect(await explained({ adapter: 'x.b' })).toEqual(['all "1" 12', 'b "3" 14']);
    expect(await explained({ adapter: 'x.b', config: { all: '4' } })).toEqual(['all "4" 24', 'b "3" 14']);
    expect(await explained({ adapter: ['x.b', 'x.c'] })).toEqual(['all "1" 12', 'b "3" 14']);
    expect(await explained({ adapter: ['x.c', 'x.b'] })).toEqual([]);
    // A slip is one all the same.
    await expect(explained({ adapter: 'x.b', config: { al: '4' } })).rejects.toThrow('al: unknown key');
  });

  test('the short form speaks of the default instance, in either layer', () => {
    const short = { bindings: { Q: { adapter: 'x', config: { a: 1 } } } };
    expect(put(short, { bindings: { Q: { instances: { other: { adapter: 'y' } } } } })).toEqual({
      bindings: { Q: { instances: { default: { adapter: 'x', config: { a: 1 } }, other: { adapter: 'y' } } } },
    });
    const long = { bindings: { Q: { default: 'b', instances: { a: { adapter: 'x' }, b: { adapter: 'y' } } } } };
    expect(put(long, { bindings: { Q: { config: { c: 1 } } } })).toEqual({
      bindings: { Q: { default: 'b', instances: { a: { adapter: 'x' }, b: { adapter: 'y', config: { c: 1 } } } } },
    });
    const only = { bindings: { Q: { instances: { one: { adapter: 'x' } } } } };
    expect(put(only, { bindings: { Q: { adapter: 'z' } } })).toEqual({
      bindings: { Q: { instances: { one: { adapter: 'z' } } } },
    });
  });
});

describe('single values by their path', () => {
  test('are JSON where they parse as such, else text; items of arrays go by index', () => {
    const env = {
      ROLLOUT_CLOUD__plugins__1: 'c',
      ROLLOUT_CLOUD__plugins__2: '{"use":"d","optional":true}',
      ROLLOUT_CLOUD__bindings__X__config__n: '3',
    };
    const config = load(
      { plugins: ['a', 'b'], bindings: { X: { adapter: 'x' } } },
      { env, set: { 'plugins.0': null } },
    );
    expect(JSON.parse(JSON.stringify(config.value))).toEqual({
      plugins: ['c', { use: 'd', optional: true }],
      bindings: { X: { adapter: 'x', config: { n: 3 } } },
    });
  });

  test('a setting is for the adapter that the same layer names, in whichever order', () => {
    const below = { bindings: { Queue: { adapter: 'local.in-mem', config: { name: 'file', maxAttempts: 2 } } } };
    const [name, adapter] = [{ 'bindings.Queue.config.name': 'set' }, { 'bindings.Queue.adapter': 'acme.sqs' }];
    for (const set of [
      { ...name, ...adapter },
      { ...adapter, ...name },
    ]) {
      expect(JSON.parse(JSON.stringify(load(below, { set }).value))).toEqual({
        bindings: { Queue: { adapter: 'acme.sqs', config: { name: 'set' } } },
      });
    }
  });

  test('a dot in a name is written with a backslash', () => {
    const config = load({}, { set: { 'bindings.acme\\.notes/Notes.adapter': 'x' } });
    expect(config.value.bindings).toEqual({ 'acme.notes/Notes': { adapter: 'x' } });
  });

  test.each([
    ['an empty step', { set: { 'bindings..x': 1 } }, 'RC1003 set bindings..x a step of the path is empty'],
    ['none at all', { env: { ROLLOUT_CLOUD__: 'x' } }, 'RC1003 env ROLLOUT_CLOUD__ a step of the path is empty'],
    ['what is no data', { set: { a: () => {} } }, 'RC1004 set a the value has to be plain data'],
    ['a profile', { set: { 'profiles.x': {} } }, 'RC1003 set profiles.x profiles: profiles stand in the configuration'],
    ['no index of an array', { set: { 'plugins.x': 'a' } }, 'RC1004 set plugins.x plugins must be of type array'],
  ])('%s is refused', (_name, sources, expected) => {
    expect(problems({ plugins: [] }, sources as ConfigSources).join('\n')).toContain(expected);
  });
});

describe('profiles', () => {
  test('one that nobody asked for changes nothing, and is checked all the same', () => {
    const given = { bindings: {}, profiles: { p: { bindings: { Queue: { adaptor: 'x' } }, version: 1 }, q: 3 } };
    expect(problems(given).sort()).toEqual([
      expect.stringMatching(/^RC1003 plugins.json:\S+ profiles.p.version: unknown key/),
      expect.stringMatching(
        /^RC1003 plugins.json:\S+ profiles.p.bindings.Queue.adaptor: unknown key. Did you mean "adapter"/,
      ),
      expect.stringMatching(/^RC1004 plugins.json:\S+ profiles.q must be of type object or null, found 3/),
    ]);
  });

  test('one that is not there is told, with those that are', () => {
    expect(problems({ profiles: { test: {}, prod: {} } }, { profile: 'tset' })).toEqual([
      'RC1006 plugins.json:2:3 there is no profile "tset". Known: prod, test.',
    ]);
    expect(problems({}, { profile: 'x' })).toEqual([
      'RC1006 plugins.json:1:1 there is no profile "x". The configuration has no profiles.',
    ]);
  });
});

describe('plugins.local.json', () => {
  test('is told of by its own name', () => {
    space.write('plugins.local.json', '{ "binding": {} }');
    expect(problems({})).toEqual([
      'RC1003 plugins.local.json:1:3 binding: unknown key. Did you mean "bindings"? Known: $schema, bindings, discover, plugins, profiles, version.',
    ]);
    space.write('plugins.local.json', '[]');
    expect(problems({})).toEqual(['RC1004 plugins.local.json:1:1 the whole value must be of type object']);
    space.write('plugins.local.json', '{');
    expect(problems({})[0]).toContain('RC1002 plugins.local.json:1:2');
  });
});

describe('environment variables in text', () => {
  const env = { NAME: 'n', EMPTY: '', PORT: '8080' };
  const value = (text: string, more = env) =>
    at(load(named(text), { env: more }), ...SETTING).replace(/plugins.*?,/, '');

  test('are filled in, :- where they are unset or empty; $$ stands for itself', () => {
    expect(value('a-${env:NAME}-${env:NONE:-x y}-${env:EMPTY:-z}')).toBe(
      '"a-n-x y-z" ( env NAME, env NONE, env EMPTY)',
    );
    expect(value('${env:EMPTY}')).toBe('"" ( env EMPTY)');
    expect(value('${env:NONE:-}')).toBe('"" ( env NONE)');
    expect(value('$${env:NAME}')).toBe('"${env:NAME}" (plugins.json:6:17)');
    expect(value('${env:NAME}', { ...env, NAME: '${env:PORT}' })).toBe('"${env:PORT}" ( env NAME)');
  });

  test('one that is not set is told with its place and what to write', () => {
    expect(problems(named('${env:BUCKET}'))).toEqual([
      'RC1103 plugins.json:6:17 environment variable BUCKET is not set and has no default; write ${env:BUCKET:-value} or set it.',
    ]);
    expect(problems(named('${env:a b}'))[0]).toContain(
      'RC1103 plugins.json:6:17 an environment variable is written ${env:NAME}',
    );
  });

  test('in a profile that nobody asked for, or a value that is replaced, nothing is missed', () => {
    const profiles = { aws: named('${env:BUCKET}') };
    expect(problems({ profiles })).toEqual([]);
    expect(problems(named('${env:BUCKET}'), { set: { 'bindings.Queue.config.name': 'x' } })).toEqual([]);
  });

  test('become the number or boolean that the adapter asks for', async () => {
    const config = (text: string) => ({
      bindings: { Storage: { adapter: 'local.sqlite', config: { path: 'x', busyTimeoutMs: text } } },
    });
    const host = await space.host(config('${env:PORT}'), { env });
    expect(host.bindings()[0]?.config).toMatchObject({ busyTimeoutMs: 8080 });
    await expect(space.host(config('${env:NAME}'), { env })).rejects.toThrow('must be of type integer, found a text');
    await expect(space.host(config('8080'), { env })).rejects.toThrow('must be of type integer, found a text');
  });
});

describe('bounds', () => {
  test.each([
    ['100,000 arrays', '['.repeat(100_000), 'RC1002 plugins.json:1:101 arrays and objects are nested deeper than 100'],
    ['100,000 objects', '{"a":'.repeat(100_000), 'RC1002 plugins.json:1:501 arrays and objects are nested deeper'],
    ['brackets in strings and comments', `// ${'['.repeat(200)}\n{ "${'{'.repeat(200)}": 1 }`, 'unknown key'],
    [
      'a file of 5 MiB',
      ' '.repeat(5 * 2 ** 20),
      'RC1001 plugins.json it has more than 4194304 bytes; make it shorter, or name another configuration file',
    ],
  ])('%s', (_name, text, expected) => {
    expect(problems(text)[0]).toContain(expected);
  });

  test('what stands in the place of a config is not repeated: it may be a secret', () => {
    const config = 'postgres://app:hunter2@db';
    const told = [
      ...problems({ bindings: { Queue: { adapter: 'local.in-mem', config } } }),
      ...problems({ bindings: { Queue: { adapter: [{ use: 'local.in-mem', config }] } } }),
      ...problems({ bindings: {}, profiles: { p: { bindings: { Queue: { config } } } } }),
    ];
    expect(told).toHaveLength(3);
    for (const line of told) expect(line).toMatch(/config must be of type object.*, found a text of 25 characters$/);
  });

  test('what is not plain data is refused, not taken for an empty object', () => {
    const bindings = new Map([['Queue', { adapter: 'local.in-mem' }]]) as unknown as HostConfig['bindings'];
    expect(() => loadConfig({ config: { bindings } as HostConfig })).toThrow(
      'RC1004 config the configuration has to be plain data: bindings is a Map',
    );
    expect(problems({}, { set: { 'bindings.Queue': new Date(0) } })).toEqual([
      'RC1004 set bindings.Queue the value has to be plain data: the whole value is a Date',
    ]);
  });

  test('a name in capitals, as variables have, is known again', () => {
    expect(problems({}, { env: { ROLLOUT_CLOUD__BINDINGS__QUEUE: '{}' } })[0]).toContain('Did you mean "bindings"?');
  });

  test('an object that holds itself, and one too deep', () => {
    const own: Record<string, unknown> = {};
    own.bindings = own;
    expect(() => loadConfig({ config: own as HostConfig })).toThrow(
      'RC1004 config the configuration has to be plain data: it is nested deeper than 100',
    );
  });
});
