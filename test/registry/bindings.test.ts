/** What a binding can say of its instance besides the adapter and its configuration. */
import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { SecretStore, Storage } from '../../src/contracts/index.js';
import { loadConfig } from '../../src/registry/config.js';
import { discover } from '../../src/registry/discovery.js';
import { plan } from '../../src/registry/index.js';
import { makePlan, type Plan, type PlannedInstance } from '../../src/registry/plan.js';
import { Workspace } from '../support/workspace.js';

let space: Workspace;
beforeEach(() => {
  space = new Workspace();
});
afterEach(() => space[Symbol.asyncDispose]());

/** A plugin with a SecretStore `acme.vault` that can `list`, and middleware; its code is never asked for. */
function vault(middleware: readonly object[] = [], id = 'acme.vault'): string {
  const adapters = [{ id, provides: 'SecretStore@1', features: ['list'] }];
  return space.plugin({ id, adapters, code: '', manifest: { contributes: { adapters, middleware } } });
}

function planOf(config: object): Plan {
  const loaded = loadConfig({ config: space.write('plugins.json', config) });
  return makePlan(loaded, discover(loaded));
}

function problems(config: object): string[] {
  try {
    planOf(config);
  } catch (error) {
    return (error as Error).message.replaceAll(`${space.folder}/`, '').split('\n');
  }
  throw new Error('this configuration was accepted');
}

const bound = (more: object) => ({ SecretStore: { adapter: 'acme.vault', ...more } });

describe('middleware', () => {
  const COUNT = {
    id: 'count',
    wraps: ['SecretStore@1'],
    requires: ['Storage'],
    config: { properties: { max: { type: 'integer', default: 3 }, key: { type: 'string', sensitive: true } } },
  };
  const ANY = { id: 'any', wraps: ['*'] };
  const plugins = (...middleware: object[]) => ['rollout.cloud-local', vault(middleware)];
  const Memory = { Storage: { adapter: 'local.memory' } };

  test('is planned outermost first, its configuration checked and defaulted, what it requires an edge', () => {
    const wanted = ['any', { use: 'count', config: { max: 5 } }, { use: 'any', enabled: false }, 'count'];
    const plan = planOf({ plugins: plugins(COUNT, ANY), bindings: { ...bound({ middleware: wanted }), ...Memory } });
    const instance = plan.instances.get('SecretStore#default');
    expect(instance?.middleware.map(({ manifest, config }) => [manifest.id, config])).toEqual([
      ['any', {}],
      ['count', { max: 5 }],
      ['count', { max: 3 }],
    ]);
    expect(instance?.middleware[1]?.requires).toMatchObject([{ capability: 'Storage', keys: ['Storage#default'] }]);
  });

  test('of one id is taken for the capability that it wraps, before one for any', () => {
    const plan = planOf({
      plugins: plugins(
        { id: 'x', wraps: ['Queue@1'] },
        { id: 'x', wraps: ['*'] },
        { id: 'x', wraps: ['SecretStore@1'] },
      ),
      bindings: bound({ middleware: ['x'] }),
    });
    expect(plan.instances.get('SecretStore#default')?.middleware[0]?.manifest.wraps).toEqual(['SecretStore@1']);
  });

  test('is shown by the host, without what is sensitive', async () => {
    const middleware = [{ use: 'count', config: { key: 'hunter2' } }];
    const config = { plugins: plugins(COUNT), bindings: { ...bound({ middleware }), ...Memory } };
    expect((await space.host(config)).bindings()[0]?.middleware).toEqual([
      { id: 'count', config: { max: 3, key: '[redacted]' } },
    ]);
  });

  test('that a plugin has for other capabilities is told by what it wraps; one that is not there is named where it would help', () => {
    const told = (given: object) => problems(given).map((line) => line.replace(/plugins.json:\S+/, 'at'));
    const queue = { Queue: { adapter: 'local.in-mem', middleware: ['cache'] }, ...Memory };
    expect(told({ bindings: queue })).toEqual([
      'RC1109 at no middleware "cache" for Queue@1: it wraps ObjectStore@1, SecretStore@1. Known: otel, retry, timeout.',
    ]);
    const off = { use: vault([COUNT]), enabled: false };
    const plugins = ['rollout.cloud-local', off];
    const secrets = { SecretStore: { adapter: 'local.env', middleware: ['count'] } };
    expect(told({ plugins, bindings: secrets })).toEqual([
      'RC1109 at no middleware "count" for SecretStore@1: plugin "./plugins/acme.vault", which has it, is disabled',
    ]);
    const wrong = { ...queue, Queue: { adapter: 'local.in-mem', middleware: ['count'] } };
    expect(told({ plugins, bindings: wrong })).toEqual([
      'RC1109 at no middleware "count" for Queue@1. Known: otel, retry, timeout.',
    ]);
  });

  test('that is not there, wraps something else, or is configured wrongly is told with its place', () => {
    const middleware = ['cuont', 'queues', { use: 'count', config: { max: 'x', min: 1 } }];
    const given = {
      plugins: plugins(COUNT, { id: 'queues', wraps: ['Queue@1'] }),
      bindings: { ...bound({ middleware }), ...Memory },
    };
    expect(problems(given).map((line) => line.replace(/plugins.json:\S+/, 'at'))).toEqual([
      'RC1109 at no middleware "cuont" for SecretStore@1. Known: cache, count, otel, retry, timeout.',
      'RC1109 at no middleware "queues" for SecretStore@1: it wraps Queue@1. Known: cache, count, otel, retry, timeout.',
      'RC1105 at bindings.SecretStore.middleware.2.config.max must be of type integer, found a text of 1 characters (middleware count)',
      'RC1104 at bindings.SecretStore.middleware.2.config.min: unknown key. Known: key, max. (middleware count)',
    ]);
  });

  test('that requires what nothing provides is told, and one that leads back to its instance is a cycle', () => {
    const store = { ...COUNT, requires: ['BlockStore'] };
    expect(problems({ plugins: plugins(store), bindings: bound({ middleware: ['count'] }) })[0]).toMatch(
      /RC1121 .*SecretStore#default \(middleware count\) requires BlockStore: nothing provides/,
    );
    const own = { ...COUNT, requires: ['SecretStore'] };
    expect(problems({ plugins: plugins(own), bindings: bound({ middleware: ['count'] }) })[0]).toMatch(
      /RC1201 .*SecretStore#default -> SecretStore#default/,
    );
  });

  test('of two plugins for the same capability has to be told apart', () => {
    const both = ['rollout.cloud-local', vault([ANY]), vault([ANY], 'other.vault')];
    expect(problems({ plugins: both, bindings: {} })[0]).toContain(
      'RC1113 plugins/other.vault/plugin.json:17:15 plugins "acme.vault" and "other.vault" both have a middleware "any"',
    );
  });
});

describe('require', () => {
  test('is met by a feature that the adapter declares, and told where it is not', () => {
    const plugins = [vault()];
    expect(planOf({ plugins, bindings: bound({ require: ['list'] }) }).instances.size).toBe(1);
    expect(problems({ plugins, bindings: bound({ require: ['list', 'lst'] }) })).toEqual([
      expect.stringMatching(
        /^RC1110 plugins.json:\S+ adapter acme.vault does not declare the feature "lst". Did you mean "list"\?/,
      ),
    ]);
  });
});

describe('optional, enabled and onFailure', () => {
  test('an optional binding whose adapter is not there is one warning', async () => {
    const host = await space.host({ plugins: [], bindings: bound({ optional: true }) });
    expect(host.has(SecretStore)).toBe(false);
    expect(host.warnings).toEqual([
      expect.stringMatching(
        /^optional binding bindings.SecretStore is left out: no adapter "acme.vault" for SecretStore/,
      ),
    ]);
  });

  test('a disabled one is not there, nor is another chosen in its place', async () => {
    const host = await space.host({
      bindings: {
        SecretStore: { adapter: 'local.env', enabled: false },
        Storage: { instances: { a: { adapter: 'local.memory' }, b: { adapter: 'local.memory', enabled: false } } },
      },
    });
    expect(host.has(SecretStore)).toBe(false);
    expect([host.has(Storage, 'a'), host.has(Storage, 'b')]).toEqual([true, false]);
    await expect(host.get(SecretStore)).rejects.toThrow(
      'RC1121 SecretStore is not served: bindings.SecretStore says "enabled": false.',
    );
    await expect(host.get(Storage, 'b')).rejects.toThrow(
      'RC1121 instance "b" of Storage is not served: bindings.Storage.instances.b says "enabled": false. Others are there: a.',
    );
    await expect(host.get(Storage)).rejects.toThrow(
      'RC1122 Storage has no default instance; set bindings.Storage.default',
    );
  });

  test('who requires what is left out is told why it is not there', async () => {
    const problem = async (more: object) => {
      const storage = { adapter: 'acme.gone', ...more };
      const bindings = { Storage: storage, Queue: { adapter: 'local.in-mem' } };
      const { problems } = await plan({ config: { bindings }, env: {} });
      return problems.map(({ message }) => message);
    };
    const required = 'Queue#default (adapter local.in-mem) requires Storage: Storage is not served: bindings.Storage';
    expect(await problem({ enabled: false })).toEqual([`${required} says "enabled": false.`]);
    expect(await problem({ optional: true })).toEqual([
      expect.stringContaining(`${required} is optional and left out: no adapter "acme.gone" for Storage`),
    ]);
  });

  test('thousands that require one another in a row are planned, and a circle of them is found', async () => {
    const COUNT = 3000;
    const adapters = Array.from({ length: COUNT }, (_, i) => ({
      id: `acme.a${i}`,
      provides: `acme/C${i}@1`,
      requires: [`acme/C${(i + 1) % COUNT}`],
    }));
    const bindings = Object.fromEntries(adapters.map(({ id }, i) => [`acme/C${i}`, { adapter: id }]));
    const plugins = [space.plugin({ id: 'acme', adapters, code: '' })];
    const { instances, problems } = await plan({ config: space.write('plugins.json', { plugins, bindings }) });
    expect(instances).toHaveLength(COUNT);
    expect(problems.map(({ code, message }) => [code, message.split(' -> ').length])).toEqual([['RC1201', COUNT + 1]]);
    // Without bindings each is found out for the one before it.
    expect((await plan({ config: space.write('plugins.json', { plugins }) })).problems).toEqual([]);
  });

  test('onFailure is planned as it is written, abort where nothing is', () => {
    const plan = planOf({
      plugins: [vault(), 'rollout.cloud-local'],
      bindings: { ...bound({ onFailure: 'continue' }), Storage: { adapter: 'local.memory' } },
    });
    expect(plan.instances.get('SecretStore#default')?.onFailure).toBe('continue');
    expect(plan.instances.get('Storage#default')?.onFailure).toBe('abort');
  });
});

describe('a list of adapters', () => {
  const away = { use: './none', optional: true };
  const secrets = (adapter: readonly unknown[], more: object = {}) => ({ SecretStore: { adapter, ...more } });
  const chosen = (config: object) => {
    const {
      adapter,
      config: settings,
      passedOver,
    } = planOf(config).instances.get('SecretStore#default') as PlannedInstance;
    return { adapter: adapter.manifest.id, settings, passedOver };
  };
  const LOCAL = 'rollout.cloud-local';

  test('the first that is available serves, and why the others do not is kept', () => {
    const plan = chosen({ plugins: [LOCAL, vault(), away], bindings: secrets(['gone', 'acme.vault', 'local.env']) });
    expect(plan).toMatchObject({ adapter: 'acme.vault', settings: {} });
    expect(plan.passedOver).toEqual([
      {
        adapter: 'gone',
        reason: expect.stringMatching(/^no adapter "gone" for SecretStore.* Plugin ".\/none" is not available/),
      },
    ]);
  });

  test('a feature, a package or a plugin that is switched off makes one unavailable', () => {
    const needs = { id: 'acme.needs', provides: 'SecretStore@1', packages: { 'no-such-package': '^1.0.0' } };
    const use = space.plugin({ id: 'acme.needs', adapters: [needs], code: '' });
    const off = space.plugin({ id: 'acme.off', adapters: [{ id: 'acme.off', provides: 'SecretStore@1' }], code: '' });
    const plugins = [LOCAL, vault(), use, { use: off, enabled: false }];
    const plan = chosen({
      plugins,
      bindings: secrets(['acme.off', 'acme.needs', 'local.env', 'acme.vault'], { require: ['list'] }),
    });
    expect(plan.adapter).toBe('acme.vault');
    expect(plan.passedOver.map(({ adapter, reason }) => `${adapter}: ${reason}`)).toEqual([
      'acme.off: no adapter "acme.off" for SecretStore: plugin "./plugins/acme.off", which has it, is disabled',
      'acme.needs: adapter acme.needs does not declare the feature "list". adapter acme.needs needs package no-such-package@^1.0.0, found none. Run: npm i no-such-package',
      'local.env: adapter local.env does not declare the feature "list".',
    ]);
  });

  test('each may have a configuration of its own; of the common one it gets what it knows', () => {
    const use = { use: 'local.env', config: { allowlist: ['A'] } };
    const bindings = secrets(['gone', use], { config: { bucket: 'b', allowlist: ['B'] } });
    expect(chosen({ plugins: [LOCAL, away], bindings })).toMatchObject({
      adapter: 'local.env',
      settings: { allowlist: ['A'] },
    });
    const slip = { use: 'local.env', config: { allowlst: [] } };
    expect(problems({ plugins: [LOCAL, away], bindings: secrets(['gone', slip]) })[0]).toMatch(
      /^RC1104 plugins.json:\d+:\d+ bindings.SecretStore.config.allowlst: unknown key/,
    );
    expect(
      problems({ plugins: [LOCAL, vault()], bindings: secrets(['local.env', 'acme.vault'], { config: { x: 1 } }) }),
    ).toEqual([expect.stringContaining('RC1104')]);
  });

  test('one that no plugin here has is passed over with a warning; alone, or with no other that is there, it is an error', () => {
    const nvml = { GpuEnumerator: { adapter: ['nvml', 'none.gpu', 'acme.gpu'] } };
    const gpu = space.plugin({ id: 'acme.gpu', adapters: [{ id: 'acme.gpu', provides: 'GpuEnumerator@1' }], code: '' });
    const plan = planOf({
      plugins: [LOCAL, gpu],
      bindings: { ...secrets(['none.s', 'local.env', 'also.none']), ...nvml },
    });
    expect(plan.instances.get('SecretStore#default')?.adapter.manifest.id).toBe('local.env');
    const told = plan.warnings.map((line) => line.replaceAll(`${space.folder}/`, '').replace(/:\d+:\d+/, ':at'));
    expect(told).toEqual([
      'RC1102 plugins.json:at this entry is passed over, and local.env serves: no adapter "none.s" for SecretStore. Known: local.env.',
      'RC1102 plugins.json:at this entry is passed over, and acme.gpu serves: no adapter "nvml" for GpuEnumerator: plugin "rollout.gpu-nvml", which has it, is built in and not listed; list it under "plugins"',
      'RC1102 plugins.json:at this entry is passed over, and acme.gpu serves: no adapter "none.gpu" for GpuEnumerator. Known: acme.gpu.',
    ]);
    expect(problems({ plugins: [LOCAL], bindings: secrets(['none.s', 'none.t']) })).toEqual([
      expect.stringMatching(/^RC1102 .*no adapter "none.s"/),
      expect.stringMatching(/^RC1102 .*no adapter "none.t"/),
    ]);
    // An adapter of another capability is there, and no list makes it serve this one.
    expect(problems({ plugins: [LOCAL], bindings: secrets(['local.fs', 'local.env']) })).toEqual([
      expect.stringContaining('it serves ObjectStore'),
    ]);
  });

  test('a name that is close to one that there is is a slip, wherever it stands; none available is told with every reason', () => {
    expect(problems({ plugins: [LOCAL], bindings: secrets(['local.evn', 'local.env']) })).toEqual([
      expect.stringMatching(
        /^RC1102 plugins.json:\d+:\d+ no adapter "local.evn" for SecretStore. Did you mean "local.env"/,
      ),
    ]);
    expect(problems({ plugins: [LOCAL, away], bindings: secrets(['gone', 'lost']) })).toEqual([
      expect.stringContaining('no adapter "gone"'),
      expect.stringContaining('no adapter "lost"'),
    ]);
    expect(problems({ bindings: secrets([]) })[0]).toContain('RC1004');
  });
});

describe('packages', () => {
  const needs = (range: string) => {
    const adapters = [{ id: 'acme.vault', provides: 'SecretStore@1', packages: { '@acme/sdk': range } }];
    return { plugins: [space.plugin({ id: 'acme.vault', adapters, code: '' })], bindings: bound({}) };
  };

  test('are looked for from the plugin, before its code is imported, for ESM-only packages, too', () => {
    expect(problems(needs('^2.0.0'))).toEqual([
      expect.stringMatching(
        /^RC1108 plugins.json:\d+:\d+ adapter acme.vault needs package @acme\/sdk@\^2.0.0, found none. Run: npm i @acme\/sdk$/,
      ),
    ]);
    space.write('node_modules/@acme/sdk/package.json', {
      name: '@acme/sdk',
      version: '1.9.0',
      exports: { import: './x.js' },
    });
    expect(problems(needs('^2.0.0'))[0]).toContain('found 1.9.0. Run: npm i @acme/sdk@"^2.0.0"');
    expect(planOf(needs('^1.2.0')).instances.size).toBe(1);
  });
});

describe('plan(), as plain data', () => {
  const given = {
    plugins: ['rollout.cloud-local', './plugins/acme.vault', { use: './none', optional: true }],
    bindings: {
      Storage: { instances: { z: { adapter: 'local.memory' }, default: { adapter: 'local.sqlite' } } },
      Queue: { adapter: 'local.in-mem', middleware: ['retry'] },
      SecretStore: { adapter: 'acme.vault', onFailure: 'continue' },
    },
  };

  test('survives JSON, is sorted, the same each time, and loads nothing', async () => {
    vault();
    const config = space.write('plugins.json', given);
    const made = await plan({ config, env: {} });
    expect(JSON.parse(JSON.stringify(made))).toEqual(made);
    expect(await plan({ config, env: {} })).toEqual(made);
    const keys = made.instances.map(({ instance }) => instance);
    expect(keys).toEqual([...keys].sort());
    expect(made.instances.find(({ instance }) => instance === 'Queue#default')).toMatchObject({
      adapter: 'local.in-mem',
      middleware: [{ id: 'retry' }],
      onFailure: 'abort',
    });
    expect(made.edges).toContainEqual({
      from: 'Queue#default',
      to: 'Storage#default',
      kind: 'requires',
      by: 'local.in-mem',
    });
    expect(made.plugins.map(({ use, state }) => `${use} ${state}`).slice(0, 3)).toEqual([
      'rollout.cloud-local ready',
      './plugins/acme.vault ready',
      './none missing',
    ]);
    expect(made.warnings).toEqual([expect.stringContaining('./none')]);
    expect(made.problems).toEqual([]);
  });

  test('has everything that is wrong, by place, beside what is not', async () => {
    vault();
    const text = `{
  "bindings": {
    "Queue": { "adapter": "local.inmem" },
    "Storage": { "adapter": "local.memory", "confg": {} },
    "ObjectStore": { "adapter": "local.fs", "config": { "io": "fast", "root": "\${env:ROOT}" } },
    "SecretStore": 3
  }
}`;
    const { problems: all, instances } = await plan({ config: space.write('plugins.json', text), env: {} });
    expect(all.map(({ code, place }) => `${code} ${place?.line}:${place?.column}`)).toEqual([
      'RC1102 3:27',
      'RC1003 4:45',
      'RC1105 5:63',
      'RC1103 5:79',
      'RC1004 6:20',
    ]);
    expect(instances.map(({ instance }) => instance)).toContain('Storage#default');
  });

  test('thousands of problems are told in a message of bounded length, and in full as data', async () => {
    const bindings = Object.fromEntries(Array.from({ length: 3_000 }, (_, i) => [`Nothing${i}`, { adapter: 'x' }]));
    const error = await space.host({ bindings }).catch((error: Error) => error as never);
    const { message, context } = error as unknown as { message: string; context: { problems: unknown[] } };
    expect(message.split('\n')).toHaveLength(101);
    expect(message).toMatch(/\nand 2900 more$/);
    expect(context.problems).toHaveLength(3_000);
  });
});

test('the example in docs/configuration.md is planned as the page says', async () => {
  const page = readFileSync(new URL('../../docs/configuration.md', import.meta.url), 'utf8');
  const [, example = ''] = /```jsonc\n([\s\S]*?)```/.exec(page) ?? [];
  const config = space.write('plugins.json', example);
  const made = await plan({ config, env: { DATA: '/srv/data' }, profile: 'test' });
  expect(made.problems).toEqual([]);
  expect(made.instances.map(({ instance, adapter }) => `${instance} ${adapter}`)).toEqual(
    expect.arrayContaining([
      'ObjectStore#scratch local.fs',
      'Queue#default local.in-mem',
      'Storage#default local.memory',
    ]),
  );
});
