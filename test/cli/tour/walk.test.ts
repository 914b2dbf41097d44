/** The walk over a folder, and what it passes over. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { dataPlaces, OwnData } from '../../../src/cli/tour/own-data.js';
import { walk } from '../../../src/cli/tour/walk.js';

let folder: string;
beforeEach(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), 'rollout-walk-')));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function write(name: string | Buffer, content = 'x'): void {
  const path = typeof name === 'string' ? join(folder, name) : Buffer.concat([Buffer.from(`${folder}/`), name]);
  if (typeof path === 'string') mkdirSync(join(path, '..'), { recursive: true });
  writeFileSync(path, content);
}

async function walked(root = folder, own: readonly string[] = []) {
  const met = { symlinks: 0, specials: 0, ownData: 0, unreadable: [] as unknown[] };
  const data = await OwnData.find(own.map((path) => ({ instance: 'Storage#default', path })));
  const files: string[] = [];
  const listener = {
    symlink: () => met.symlinks++,
    special: () => met.specials++,
    ownData: () => met.ownData++,
    unreadable: (path: Buffer, error: unknown) =>
      met.unreadable.push([path.toString(), (error as NodeJS.ErrnoException).code]),
  };
  for await (const path of walk(Buffer.from(root), data, listener)) {
    files.push(path.toString('latin1').slice(root.length + 1));
  }
  return { files: files.sort(), ...met };
}

describe('walk', () => {
  test('finds regular files at every depth, empty ones and hidden ones too', async () => {
    write('a');
    write('.hidden');
    write('empty', '');
    write('deep/er/b');
    mkdirSync(join(folder, 'no files'));
    expect(await walked()).toMatchObject({ files: ['.hidden', 'a', 'deep/er/b', 'empty'], unreadable: [] });
  });

  test('does not follow symbolic links, and counts them', async () => {
    write('a');
    symlinkSync('a', join(folder, 'to-a'));
    symlinkSync('.', join(folder, 'loop'));
    symlinkSync('nowhere', join(folder, 'dangling'));
    expect(await walked()).toMatchObject({ files: ['a'], symlinks: 3 });
  });

  (process.platform === 'win32' ? test.skip : test)('counts pipes as special (no mkfifo on Windows)', async () => {
    execFileSync('mkfifo', [join(folder, 'pipe')]);
    expect(await walked()).toMatchObject({ files: [], specials: 1 });
  });

  (process.platform === 'linux' ? test : test.skip)(
    'keeps names that are not UTF-8, or hold a newline (other systems refuse such names)',
    async () => {
      write(Buffer.from([0x61, 0x0a, 0xff]));
      expect((await walked()).files).toEqual(['a\n\xff']);
    },
  );

  test('tells of a folder that cannot be listed, and goes on', async () => {
    write('a');
    expect(await walked(join(folder, 'a'))).toMatchObject({ files: [], unreadable: [[join(folder, 'a'), 'ENOTDIR']] });
  });

  test('takes a folder that went away for none', async () => {
    expect(await walked(join(folder, 'gone'))).toMatchObject({ files: [], unreadable: [] });
  });
});

describe('own data', () => {
  test('is not visited: a folder, and a file with those that go with it', async () => {
    write('data/objects/ab/cd/blob');
    write('data/rollout.db');
    write('data/rollout.db-wal');
    write('data/rollout.db.queue.lock');
    write('data/rollout.dbx');
    write('data/objects2/mine');
    const own = [join(folder, 'data/objects'), join(folder, 'data/rollout.db')];
    expect(await walked(folder, own)).toMatchObject({ files: ['data/objects2/mine', 'data/rollout.dbx'], ownData: 4 });
  });

  test('is found behind a symbolic link', async () => {
    write('real/blob');
    symlinkSync('real', join(folder, 'data'));
    expect(await walked(folder, [join(folder, 'data')])).toMatchObject({ files: [], ownData: 1, symlinks: 1 });
  });

  test('names the place around a folder', async () => {
    const own = await OwnData.find([{ instance: 'ObjectStore#default', path: folder }]);
    expect(own.around(Buffer.from(folder))?.instance).toBe('ObjectStore#default');
    expect(own.around(Buffer.from(join(folder, 'ab')))?.instance).toBe('ObjectStore#default');
    expect(own.around(Buffer.from(`${folder}2`))).toBeUndefined();
    expect(own.around(Buffer.from(tmpdir()))).toBeUndefined();
  });

  test('is every absolute path in the configuration of an instance, at any depth', () => {
    const config = { path: join(folder, 'x.db'), durability: 'full', deep: { folders: [folder, 'relative'] }, n: 1 };
    const binding = { capability: 'Storage', name: 'main', config };
    expect(dataPlaces([binding as never])).toEqual([
      { instance: 'Storage#main', path: join(folder, 'x.db') },
      { instance: 'Storage#main', path: folder },
    ]);
  });
});
