/** What starting loads: the time it takes is measured by bench/startup.ts, and is the number of modules first of all. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { createHost } from '../../src/registry/index.js';
import { LOCAL_JSON, NOTES, PLUGINS_JSON, VAULT } from './apps.js';
import { InstalledPackage, PACKAGE, ROOT } from './installed.js';
import { reach } from './modules.js';

const MAIN = 'dist/index.js';
const PROGRAM = PACKAGE.bin['rollout-cloud'] ?? '';
const INVERSIFY = '// node_modules/@inversifyjs/';

let app: InstalledPackage;

beforeAll(() => {
  app = new InstalledPackage();
  // Without those of its ./plugins.
  app.write('local.json', { ...LOCAL_JSON, discover: [] });
  app.write('plugins.json', PLUGINS_JSON);
  for (const [name, content] of Object.entries({ ...VAULT, ...NOTES })) app.write(name, content);
  app.write(
    'preload.cjs',
    `process.on('exit', () => require('fs').writeFileSync('loaded.json', JSON.stringify(Object.keys(require.cache))));`,
  );
});

afterAll(() => app.remove());

/** The packages in CommonJS that Node has loaded when it ends, as all but hash-wasm are. */
async function loadedBy(...args: string[]): Promise<string[]> {
  const { code, stderr } = await app.node('--require', './preload.cjs', ...args);
  if (code !== 0) throw new Error(stderr);
  const files = JSON.parse(readFileSync(join(app.folder, 'loaded.json'), 'utf8')) as string[];
  const names = files.flatMap((file) => /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(file)?.[1] ?? []);
  return [...new Set(names)].sort();
}

const loadedByScript = (code: string) => loadedBy('--input-type=module', '-e', code);

describe('importing the package', () => {
  test('loads no other, and not the host', async () => {
    expect(await loadedByScript(`import 'rollout-cloud';`)).toEqual([]);
    expect(reach(app.root, [MAIN], 'static').packages).toEqual([]);
    expect(reach(app.root, [MAIN], 'static').text).not.toContain(INVERSIFY);
    expect(reach(app.root, [MAIN], 'all').text).toContain(INVERSIFY);
  });
});

describe('--version', () => {
  test('loads the parser of options, not the commands nor the host', async () => {
    expect(await loadedBy(join(app.root, PROGRAM), '--version')).toEqual(['commander', 'picocolors']);
    const [early, all] = [reach(app.root, [PROGRAM], 'static'), reach(app.root, [PROGRAM], 'all')];
    expect(early.packages).toEqual(['commander', 'picocolors']);
    const table = readFileSync(join(ROOT, 'src/cli/program.ts'), 'utf8');
    const commands = [...table.matchAll(/import\('\.\/(.+)\.js'\)/g)].map(([, file]) => `// src/cli/${file}.ts`);
    expect(commands).toContain('// src/cli/doctor.ts');
    for (const late of [INVERSIFY, ...commands]) {
      expect(all.text).toContain(late);
      expect(early.text).not.toContain(late);
    }
  });
});

describe('a command', () => {
  const hashes = (packages: string[]) => packages.filter((name) => /hash/.test(name));

  test('that hashes nothing loads no library that does', async () => {
    const objects = async (...args: string[]) =>
      hashes(await loadedBy(join(app.root, PROGRAM), '--config', 'local.json', 'objects', ...args));
    expect(await objects('ls')).toEqual([]);
    expect(await objects('put', 'local.json')).toContain('@napi-rs/blake-hash');
  });

  test('loads ulid as part of ours: every queue has it', () => {
    const { packages, text } = reach(app.root, ['dist/adapters/cloud-local/index.js'], 'static');
    expect(packages).not.toContain('ulid');
    expect(text).toContain('// node_modules/ulid/');
  });
});

describe('a host', () => {
  const start = (config: string, then = '') => `
    import { createHost, Storage } from 'rollout-cloud';
    const host = await createHost({ config: '${config}' });
    if (host.bindings().length < 5) throw new Error('not all are bound');
    ${then}`;

  test('on the local adapters loads none of them, and no Ajv: their schemas are compiled ahead', async () => {
    expect(await loadedByScript(start('local.json'))).toEqual(['jsonc-parser']);
  });

  test('loads nothing of what runs plugins in processes of their own before a plugin wants it', () => {
    const isolation = '// src/registry/isolation/isolate.ts';
    const hosts = readdirSync(join(app.root, 'dist/chunks')).filter((file) => file.startsWith('host-'));
    expect(hosts).toHaveLength(1);
    const entries = hosts.map((file) => `dist/chunks/${file}`);
    expect(reach(app.root, entries, 'static').text).not.toContain(isolation);
    expect(reach(app.root, entries, 'all').text).toContain(isolation);
  });

  test('loads what an adapter needs when it is first asked for', async () => {
    const loaded = await loadedByScript(start('local.json', 'await host.get(Storage); await host.stop();'));
    expect(loaded).toContain('sqlite3');
    expect(loaded).not.toContain('systeminformation');
  });

  test('loads Ajv for a schema that the build has not seen, and semver for a manifest that names engines', async () => {
    expect(await loadedByScript(start('plugins.json'))).toEqual(expect.arrayContaining(['ajv', 'semver']));
  });
});

describe('schemas that are compiled ahead', () => {
  const { Storage, ObjectStore, Queue } = LOCAL_JSON.bindings;
  test.each([
    [
      'of plugins.json',
      {
        version: 2,
        plugins: ['', { use: 'x', optionel: true }, {}, 7],
        bindings: {
          Storage: { adaptor: 'local.sqlite' },
          Queue: { adapter: '', config: [] },
          ObjectStore: { default: 1, instances: { 'a b': ObjectStore } },
          ComputeHint: { instances: {} },
        },
        bindigns: {},
      },
    ],
    ['of plugin.json', { plugins: ['./broken'] }],
    [
      'of the local adapters',
      {
        bindings: {
          Storage: { ...Storage, config: { path: '', durability: 'ful', busyTimeoutMs: -1 } },
          ObjectStore: { ...ObjectStore, config: { root: 7, roott: 'x' } },
          Queue: { ...Queue, config: { name: 'a b', payloadBytesMax: 2 ** 40, maxAttempts: 1.5 } },
          SecretStore: { adapter: 'local.env', config: { allowlist: ['A', 'A', ''] } },
        },
      },
    ],
  ])('%s: faults are told as Ajv tells them', async (_, config) => {
    app.write('broken/plugin.json', {
      id: 'A',
      main: '',
      contributes: { adapters: [{ provides: 'x' }] },
      x: 1,
    });
    const file = app.write('broken.json', { discover: [], ...config });
    const told = await createHost({ config: file }).then(
      () => '',
      ({ message }: Error) => message,
    );
    expect(told).toContain('RC1');
    const telling = `import { createHost } from 'rollout-cloud';
      await createHost({ config: ${JSON.stringify(file)} }).catch(({ message }) => console.log(message));`;
    const ahead = await app.module('telling.js', telling);
    expect(ahead.replaceAll(/(^|\s)broken\.json/gm, `$1${file}`)).toBe(`${told}\n`);
    expect(await loadedBy('telling.js')).not.toContain('ajv');
  });
});
