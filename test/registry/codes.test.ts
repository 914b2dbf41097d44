/**
 * Every code of the host: produced from files on disk, as a user would have them, and held to what docs/errors.md shows.
 * A code without a case here, or a line there, fails.
 */
import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { inject } from 'inversify';
import { BlockStore, ObjectStore, SecretStore, Storage } from '../../src/contracts/index.js';
import { type Host, type HostOptions, VERSION } from '../../src/registry/index.js';
import { createTestHost } from '../../src/testing/index.js';
import { importModule } from '../support/import-module.js';
import { Workspace } from '../support/workspace.js';

let space: Workspace;
beforeEach(() => {
  space = new Workspace();
});
afterEach(() => space[Symbol.asyncDispose]());

interface Case {
  readonly code: string;
  /** plugins.json. */
  readonly config: string | object;
  /** Adapters of the plugin `acme.x` in ./plugins/x, and what the factory of all of them does. */
  readonly adapters?: readonly object[];
  readonly factory?: string;
  /** Module of the plugin, where it is not made of `factory`. */
  readonly module?: string;
  readonly manifest?: object;
  readonly options?: HostOptions;
  /** What goes wrong only at work. */
  readonly act?: (host: Host) => unknown;
}

const SECRETS = { id: 'x.secrets', provides: 'SecretStore@1' };
const STORAGE = { id: 'x.storage', provides: 'Storage@1' };
const X = { plugins: ['./plugins/x'] };
const BOUND = { ...X, bindings: { SecretStore: { adapter: 'x.secrets' } } };
const STORE = 'return { get: async () => {}, put: async () => {}, names: async () => [], close() {} };';
const sqlite = (config: object) => ({ bindings: { Storage: { adapter: 'local.sqlite', config } } });
const getSecrets = (host: Host) => host.get(SecretStore);

class Parameter {
  constructor(readonly secrets: SecretStore) {}
}
inject(SecretStore as never)(Parameter, undefined, 0);

const CASES: Case[] = [
  { code: 'RC1001', config: {}, options: { config: 'missing.json' } },
  { code: 'RC1002', config: '{ "bindings": {' },
  { code: 'RC1003', config: { binding: {} } },
  { code: 'RC1004', config: { plugins: 'acme.x' } },
  { code: 'RC1006', config: { profiles: { test: {} } }, options: { profile: 'tests' } },
  { code: 'RC1102', config: { bindings: { ObjectStore: { adapter: 'local.sf' } } } },
  { code: 'RC1103', config: sqlite({ path: '${env:DB_PATH}' }), options: { env: {} } },
  { code: 'RC1104', config: sqlite({ pth: 'x.db' }) },
  { code: 'RC1105', config: sqlite({ busyTimeoutMs: 'long' }) },
  { code: 'RC1106', config: { plugins: ['@acme/rollout-aws'] } },
  { code: 'RC1107', config: X, manifest: { main: './dist/index.js' } },
  { code: 'RC1108', config: BOUND, adapters: [{ ...SECRETS, packages: { '@acme/sdk': '^3.600.0' } }] },
  {
    code: 'RC1109',
    config: { bindings: { Storage: { adapter: 'local.memory', middleware: ['retri'] } } },
  },
  { code: 'RC1110', config: { bindings: { ObjectStore: { adapter: 'local.fs', require: ['rang'] } } } },
  { code: 'RC1111', config: X, manifest: { engines: { 'rollout-cloud': '^99.0.0' } } },
  { code: 'RC1113', config: X, manifest: { id: 'rollout.cloud-local' } },
  { code: 'RC1114', config: X, manifest: { dependsOn: ['acme.base'] } },
  {
    code: 'RC1120',
    config: X,
    adapters: [SECRETS, { ...SECRETS, id: 'x.others' }],
    act: getSecrets,
  },
  { code: 'RC1121', config: {}, act: (host) => host.get(BlockStore) },
  {
    code: 'RC1122',
    config: { bindings: { Storage: { adapter: 'local.memory' } } },
    act: (host) => host.get(Storage, 'jobs'),
  },
  {
    code: 'RC1201',
    config: { ...X, bindings: { SecretStore: { adapter: 'x.secrets' }, Storage: { adapter: 'x.storage' } } },
    adapters: [
      { ...SECRETS, requires: ['Storage'] },
      { ...STORAGE, requires: ['SecretStore'] },
    ],
  },
  {
    code: 'RC1202',
    config: BOUND,
    factory: 'await globalThis.rolloutCodes.get(SecretStore);',
    act: (host) => {
      (globalThis as Record<string, unknown>).rolloutCodes = host;
      return getSecrets(host);
    },
  },
  { code: 'RC1301', config: BOUND, module: 'export default {};', act: getSecrets },
  {
    code: 'RC1302',
    config: BOUND,
    adapters: [{ ...SECRETS, timeouts: { activateMs: 20 } }],
    factory: 'await new Promise(() => {});',
    act: getSecrets,
  },
  { code: 'RC1303', config: BOUND, factory: 'throw new Error("no route to host");', act: getSecrets },
  { code: 'RC1304', config: BOUND, factory: 'await ctx.get(Storage);', act: getSecrets },
  {
    code: 'RC1305',
    config: BOUND,
    adapters: [{ ...SECRETS, timeouts: { disposeMs: 20 } }],
    factory: STORE.replace('close() {}', 'close: () => new Promise(() => {})'),
    act: async (host) => {
      await getSecrets(host);
      throw (await host.stop()).errors[0]?.error;
    },
  },
  { code: 'RC1306', config: BOUND, act: (host) => host.make(Parameter) },
  {
    code: 'RC1307',
    config: BOUND,
    factory: 'throw new Error("no route to host");',
    act: async (host) => {
      for (let i = 0; i < 2; i++) await getSecrets(host).catch(() => {});
      await getSecrets(host);
    },
  },
  {
    code: 'RC1308',
    config: BOUND,
    factory: `setTimeout(() => ctx.report({ status: 'lost', reason: 'its process ended' })); ${STORE}`,
    act: async (host) => {
      const lost = new Promise((resolve) => host.on('instance', ({ error }) => error !== undefined && resolve(error)));
      await getSecrets(host);
      throw await lost;
    },
  },
  {
    code: 'RC1309',
    config: BOUND,
    factory: 'throw new Error("no route to host");',
    act: (host) => host.start({ activate: 'all' }),
  },
  {
    code: 'RC1310',
    config: { ...BOUND, profiles: { b: { bindings: { SecretStore: { config: { url: 'b' } } } } } },
    adapters: [{ ...SECRETS, config: { properties: { url: { type: 'string' } } } }],
    factory: `if (ctx.config.url === 'b') throw new Error('no route to host'); ${STORE}`,
    act: async (host) => {
      await getSecrets(host);
      await host.reconfigure({ config: space.path('plugins.json'), profile: 'b' });
    },
  },
];

async function textOf({
  config,
  adapters = [SECRETS],
  factory = STORE,
  module,
  manifest,
  options,
  act,
}: Case): Promise<string> {
  if (JSON.stringify(config).includes('./plugins/x')) {
    const ids = adapters.map((adapter) => (adapter as { id: string }).id);
    const code = `export default definePlugin({ adapters: Object.fromEntries(${JSON.stringify(ids)}.map((id) => [id, async (ctx) => { ${factory} }])) });`;
    space.plugin({
      id: 'acme.x',
      folder: 'plugins/x',
      adapters: adapters as never,
      code: module ?? code,
      ...(manifest && { manifest: manifest as never }),
    });
  }
  try {
    const host = await space.host(config, {
      ...options,
      ...(typeof options?.config === 'string' && { config: space.path(options.config) }),
    });
    await act?.(host);
  } catch (error) {
    const { code, message } = error as { code: string; message: string };
    expect(message).toContain(code);
    return shown(message);
  }
  throw new Error('nothing was wrong');
}

/** As in the folder of the configuration, and without what changes from run to run. */
function shown(message: string): string {
  return message
    .replaceAll(`${space.folder}/`, '')
    .replaceAll(space.folder, '.')
    .replaceAll('\n', '\n  ')
    .replaceAll(VERSION, '0.1.0')
    .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/, '2026-01-31T12:00:00.000Z')
    .replace(/in \d+ ms\./, 'in 100 ms.');
}

const page = readFileSync(new URL('../../docs/errors.md', import.meta.url), 'utf8');
const documented = [...page.matchAll(/^\| `(RC\d{4})` \|/gm)].map(([, code]) => code);
const [, block = ''] = /```text\n([\s\S]*?)\n```/.exec(page) ?? [];
const examples = block.split(/\n(?! )/);

describe('every code of the host', () => {
  test('has a case here, a line and an example in docs/errors.md', () => {
    const codes = [...CASES.map(({ code }) => code), 'RC1401'];
    expect(codes).toEqual(documented);
    expect(examples.map((text) => /RC\d{4}/.exec(text)?.[0])).toEqual(documented);
  });

  test.each(CASES.map((each): [string, Case] => [each.code, each]))('%s', async (code, each) => {
    const text = await textOf(each);
    expect(text).toContain(code);
    expect(examples).toContain(text);
  });

  test('RC1401', async () => {
    const config = space.write('plugins.json', { bindings: { ObjectStore: { adapter: 'local.fs' } } });
    const t = await createTestHost({ config, importModule });
    try {
      await t.get(ObjectStore);
      expect(() => t.override(ObjectStore, {} as never)).toThrow(expect.objectContaining({ code: 'RC1401' }));
      const text = (() => {
        try {
          t.override(ObjectStore, {} as never);
        } catch (error) {
          return shown((error as Error).message);
        }
        return '';
      })();
      expect(examples).toContain(text);
    } finally {
      await t.stop();
    }
  });
});
