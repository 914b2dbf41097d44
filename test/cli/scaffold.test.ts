/** `plugins new`, followed as its user would: written, built, tested and loaded, on the built package. */
import { spawnSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { SCAFFOLD_CONTRACTS } from '../../src/cli/scaffold/contracts.js';
import { methodsOf } from '../../src/contracts/capability.js';
import { KNOWN_CAPABILITIES } from '../../src/contracts/known.js';
import { fake } from '../../src/testing/index.js';

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const NAMES = KNOWN_CAPABILITIES.map(({ name }) => name);

/** A project that has the package, TypeScript and the types of Node. */
let folder: string;

beforeAll(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), 'rollout-')));
  mkdirSync(join(folder, 'node_modules/@types'), { recursive: true });
  symlinkSync(ROOT, join(folder, 'node_modules/rollout-cloud'));
  for (const name of ['typescript', '@types/node']) {
    symlinkSync(join(ROOT, 'node_modules', name), join(folder, 'node_modules', name));
  }
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function node(cwd: string, ...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, args, {
    cwd,
    encoding: 'utf8',
    env: { ...process.env, NODE_OPTIONS: '', NODE_TEST_CONTEXT: undefined },
  });
  return { status, stdout, stderr };
}

const rolloutCloud = (...args: string[]) => node(folder, join(ROOT, 'dist/cli/main.js'), ...args);

describe('plugins new', () => {
  test.each(NAMES)('knows the methods of %s, and what its stand-in can do', (name) => {
    const token = KNOWN_CAPABILITIES.find((known) => known.name === name) as (typeof KNOWN_CAPABILITIES)[number];
    const { methods, features } = SCAFFOLD_CONTRACTS[name] ?? {};
    expect(
      Object.keys(methods ?? {})
        .filter((method) => method !== 'close')
        .sort(),
    ).toEqual([...methodsOf(token).keys()].sort());
    expect(features).toEqual(fake(token).features);
  });

  test('writes a plugin of each capability that compiles, strict, and passes its suite', () => {
    for (const name of NAMES) {
      const id = `acme.my-${name.toLowerCase()}`;
      expect(rolloutCloud('plugins', 'new', id, '--capability', name)).toMatchObject({ status: 0, stderr: '' });
      const plugin = join(folder, 'plugins', id);
      const { scripts } = JSON.parse(readFileSync(join(plugin, 'package.json'), 'utf8')) as { scripts: object };
      expect(scripts).toEqual({ build: 'tsc -p .', test: 'npm run -s build && node --test dist/index.test.js' });
      expect(node(plugin, join(ROOT, 'node_modules/typescript/bin/tsc'), '-p', '.')).toMatchObject({
        status: 0,
        stdout: '',
      });
      const { status, stdout } = node(plugin, '--test', 'dist/index.test.js');
      expect([name, status, /(?:pass) (\d+)/.exec(stdout)?.[1]]).toEqual([
        name,
        0,
        expect.stringMatching(/^([4-9]|\d\d)$/),
      ]);
      expect(stdout).toMatch(/fail 0/);
    }
  }, 120_000);

  test('they load at once, say that they are scaffolds, and answer doctor', () => {
    const plugins = readdirSync(join(folder, 'plugins')).map((name) => `./plugins/${name}`);
    expect(plugins).toHaveLength(NAMES.length);
    const bindings = Object.fromEntries(NAMES.map((name) => [name, { adapter: `acme.my-${name.toLowerCase()}` }]));
    writeFileSync(join(folder, 'plugins.json'), JSON.stringify({ plugins, bindings }));
    const { status, stdout, stderr } = rolloutCloud('--json', 'doctor');
    const { findings } = JSON.parse(stdout) as { findings: { capability: string; status: string }[] };
    const failed = findings.filter((finding) => finding.status === 'failed');
    expect(failed).toEqual([]);
    expect(findings.map(({ capability }) => capability)).toEqual(expect.arrayContaining(['SecretStore', 'Queue']));
    expect(status).toBe(0);
    expect(stderr).toContain('acme.my-queue is a scaffold: it keeps what it has in memory');
  });

  test('in JavaScript: runs without a build', () => {
    const made = rolloutCloud(
      '--json',
      'plugins',
      'new',
      'acme.vault',
      '--capability',
      'SecretStore',
      '--dir',
      'lib/vault',
      '--js',
    );
    expect(JSON.parse(made.stdout)).toEqual({
      id: 'acme.vault',
      capability: 'SecretStore',
      folder: join(folder, 'lib/vault'),
      files: ['plugin.json', 'package.json', 'index.js', 'index.test.js'],
      use: './lib/vault',
      bindings: { SecretStore: { adapter: 'acme.vault' } },
    });
    const { status, stdout } = node(join(folder, 'lib/vault'), '--test', 'index.test.js');
    expect([status, stdout]).toEqual([0, expect.stringContaining('fail 0')]);
    expect(readFileSync(join(folder, 'lib/vault/index.js'), 'utf8')).toContain('class VaultSecretStore {');
  });

  test('says what to do next', () => {
    const { stdout } = rolloutCloud('plugins', 'new', 'acme.s3', '--capability', 'ObjectStore');
    expect(stdout).toBe(`wrote plugin.json, package.json, tsconfig.json, index.ts, index.test.ts to plugins/acme.s3

Next:
  cd plugins/acme.s3 && npm test      # the suite of ObjectStore passes, on a stand-in in memory
  list it in plugins.json, "plugins": ["rollout.cloud-local", "./plugins/acme.s3"]
  and bind it, "bindings": { "ObjectStore": { "adapter": "acme.s3" } }
  then write its methods one by one, in index.ts; npm test says when one is wrong
`);
  });

  test('has npm install what the folder does not find, and nothing else', () => {
    const empty = realpathSync(mkdtempSync(join(tmpdir(), 'rollout-')));
    const make = (...args: string[]) =>
      node(empty, join(ROOT, 'dist/cli/main.js'), 'plugins', 'new', ...args, '--capability', 'Queue').stdout;
    expect(make('acme.one', '--js')).toContain('cd plugins/acme.one && npm install && npm test ');
    mkdirSync(join(empty, 'node_modules'));
    symlinkSync(ROOT, join(empty, 'node_modules/rollout-cloud'));
    expect(make('acme.two', '--js')).toContain('cd plugins/acme.two && npm test ');
    expect(make('acme.three')).toContain('cd plugins/acme.three && npm install && npm test ');
    rmSync(empty, { recursive: true });
  });

  test.each([
    [
      ['acme.vault', '--capability', 'SecretStore', '--dir', 'lib/vault'],
      'lib/vault is there already, and not empty: nothing was written',
    ],
    [['acme.vault', '--capability', 'SecretStore', '--dir', 'package.json'], 'package.json is there already'],
    [['Acme Vault', '--capability', 'SecretStore'], '"Acme Vault" is not an id of a plugin: write lower-case words'],
    [['../up', '--capability', 'SecretStore'], 'is not an id of a plugin'],
    [['acme.x', '--capability', 'Secrets'], 'Allowed choices are ObjectStore, Queue, SecretStore'],
    [['acme.x'], "required option '--capability <name>' not specified"],
  ])('refuses %j', (args, message) => {
    const before = readdirSync(folder, { recursive: true }).length;
    const { status, stderr } = rolloutCloud('plugins', 'new', ...args);
    expect([status, stderr]).toEqual([2, expect.stringContaining(message)]);
    expect(readdirSync(folder, { recursive: true })).toHaveLength(before);
  });
});
