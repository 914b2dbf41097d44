/** What a plugin's process may do: the flags and the environment that its manifest comes to. */
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { environment, permissionFlags } from '../../src/registry/isolation/permissions.js';

const NODE_20 = new Set(['--experimental-permission', '--allow-addons', '--allow-child-process', '--allow-worker']);
const NODE_26 = new Set([...NODE_20, '--permission', '--allow-net']);

let folder: string;

beforeAll(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), 'rollout-permissions-')));
  for (const name of ['plugin', 'node_modules', 'data/inner']) mkdirSync(join(folder, name), { recursive: true });
  writeFileSync(join(folder, 'one.txt'), '');
  symlinkSync(join(folder, 'data'), join(folder, 'link'));
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

const flags = (
  permissions: Parameters<typeof permissionFlags>[0],
  known: ReadonlySet<string> = NODE_26,
  configs: readonly Record<string, unknown>[] = [],
) =>
  permissionFlags(permissions, { base: folder, code: [join(folder, 'plugin')], configs, known }).map((flag) =>
    flag.replaceAll(folder, ''),
  );

describe('flags', () => {
  test('without permissions: its own code and the packages that it may import can be read, nothing else is allowed', () => {
    expect(flags({})).toEqual(['--permission', '--allow-fs-read=/plugin/*', '--allow-fs-read=/node_modules/*']);
  });

  test('a package that is a link to elsewhere can be read there, with the packages that it finds', () => {
    for (const name of ['lib/node_modules/x', 'node_modules/@acme', 'node_modules/real']) {
      mkdirSync(join(folder, 'space', name), { recursive: true });
    }
    mkdirSync(join(folder, 'space/plugin'));
    symlinkSync(join(folder, 'space/lib'), join(folder, 'space/node_modules/@acme/lib'));
    symlinkSync(join(folder, 'space/node_modules/real'), join(folder, 'space/node_modules/alias'));
    symlinkSync(join(folder, 'nowhere'), join(folder, 'space/node_modules/broken'));
    const granted = permissionFlags({}, { base: folder, code: [join(folder, 'space/plugin')], known: NODE_26 });
    expect(granted.map((flag) => flag.replaceAll(folder, ''))).toEqual([
      '--permission',
      ...['space/plugin', 'space/node_modules', 'node_modules', 'space/lib'].map(
        (name) => `--allow-fs-read=/${name}/*`,
      ),
    ]);
  });

  test('each permission has its flag', () => {
    const all = { addons: true, childProcess: true, workers: true, network: true };
    const granted = ['--allow-addons', '--allow-child-process', '--allow-worker', '--allow-net'];
    expect(flags(all)).toEqual(expect.arrayContaining(granted));
    for (const flag of granted) {
      expect(flags({ addons: false, childProcess: false, workers: false, network: false })).not.toContain(flag);
    }
  });

  test('Node 20 has another name for it, and cannot withhold the network', () => {
    expect(flags({ network: true }, NODE_20)[0]).toBe('--experimental-permission');
    expect(flags({ network: true }, NODE_20)).not.toContain('--allow-net');
  });

  test('paths are of the configuration: a folder with what is in it, a file, what is not there yet', () => {
    const granted = flags({ fs: { read: ['./one.txt', 'data'], write: ['./out', '/elsewhere/x'] } });
    expect(granted).toEqual(
      expect.arrayContaining([
        '--allow-fs-read=/one.txt',
        '--allow-fs-read=/data/*',
        '--allow-fs-write=/out/*',
        '--allow-fs-write=/elsewhere/x/*',
      ]),
    );
  });

  test('a link is granted with what it leads to; what lies in another, or is named twice, is named once', () => {
    const granted = flags({ fs: { write: ['link', './data', 'data/inner', 'data'] } });
    expect(granted.filter((flag) => flag.includes('write'))).toEqual([
      '--allow-fs-write=/link/*',
      '--allow-fs-write=/data/*',
    ]);
  });

  test('a path can be an option of the instances’ configurations', () => {
    const permissions = { fs: { read: ['${config.roots}/in', 'data'], write: ['${config.root}', '${config.other}'] } };
    const configs = [{ root: join(folder, 'a') }, { root: '/b', roots: ['/c', '/d'], other: 7 }, {}];
    expect(flags(permissions, NODE_26, configs).slice(3)).toEqual([
      ...['/c/in', '/d/in', '/data'].map((path) => `--allow-fs-read=${path}/*`),
      ...['/a', '/b'].map((path) => `--allow-fs-write=${path}/*`),
    ]);
  });

  test('"*" is everything', () => {
    expect(flags({ fs: { read: ['*', 'data'] } }).filter((flag) => flag.includes('read'))).toEqual([
      '--allow-fs-read=*',
    ]);
  });
});

test('the environment is what is listed and set, and nothing else', () => {
  const from = { A: '1', B: '', SECRET: 'x' };
  const { SystemRoot: _, ...env } = environment({ env: ['A', 'B', 'C'] }, from);
  expect(env).toEqual({ A: '1', B: '' });
  expect(Object.keys(environment({}, from)).filter((name) => name !== 'SystemRoot')).toEqual([]);
});
