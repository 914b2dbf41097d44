import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { dirname, join } from 'node:path';
import { beforeAll, describe, expect, test } from '@jest/globals';
import { FsObjectStore } from '../../../src/adapters/cloud-local/object-store.js';
import { bundle } from '../../support/bundle.js';
import { blobPath, newRoot, recordedFiles } from './object-store-kit.js';

const LEVELS = ['none', 'data', 'full'] as const;

function manifest(root: string): unknown {
  return JSON.parse(fs.readFileSync(join(root, 'store.json'), 'utf8'));
}

/** The folder and those above it, up to the file system's root. */
function withParents(folder: string): string[] {
  return folder === dirname(folder) ? [folder] : [folder, ...withParents(dirname(folder))];
}

describe('The level belongs to the store (`store.json`)', () => {
  test.each(LEVELS)('one made at %s says so, and keeps it when it is opened so again', async (durability) => {
    const root = newRoot();
    await FsObjectStore.open(root, { durability });
    expect(manifest(root)).toEqual({ format: 1, hash: 'blake3', durability });
    const { ino } = fs.statSync(join(root, 'store.json'));
    const { files, log } = recordedFiles();
    expect((await FsObjectStore.open(root, { durability }, { files })).durability).toBe(durability);
    expect(fs.statSync(join(root, 'store.json')).ino).toBe(ino);
    expect(log.filter((entry) => entry.includes('sync'))).toEqual([]);
  });

  test.each([
    ['data', 'none'],
    ['full', 'none'],
    ['full', 'data'],
  ] as const)(
    'opening one of %s with a lower one, %s, is refused, naming both and what to do',
    async (level, lower) => {
      const root = newRoot();
      await FsObjectStore.open(root, { durability: level });
      const refusal = await FsObjectStore.open(root, { durability: lower }).catch((error: unknown) => error);
      expect(refusal).toMatchObject({ severity: 'fatal', kind: 'ConfigInvalid', code: 'DURABILITY_LOWER' });
      for (const part of [root, `"${level}"`, `"${lower}"`, 'configure', 'store.json']) {
        expect((refusal as Error).message).toContain(part);
      }
      expect(manifest(root)).toMatchObject({ durability: level });
    },
  );

  test.each([
    ['none', 'data'],
    ['data', 'full'],
    ['none', undefined],
  ] as const)('a higher one raises it: %s, opened with %s', async (level, higher) => {
    const root = newRoot();
    await FsObjectStore.open(root, { durability: level });
    expect((await FsObjectStore.open(root, { durability: higher })).durability).toBe(higher ?? 'full');
    expect(manifest(root)).toMatchObject({ durability: higher ?? 'full' });
    await expect(FsObjectStore.open(root, { durability: level })).rejects.toMatchObject({ code: 'DURABILITY_LOWER' });
  });

  test('raised to full, the root and the folders above it are synced before store.json says so', async () => {
    const root = newRoot();
    await FsObjectStore.open(root, { durability: 'none' });
    const { files, log } = recordedFiles();
    await FsObjectStore.open(root, {}, { files });
    const renamed = log.indexOf(`>rename ${root}/store.json`);
    expect(log.slice(0, renamed)).toEqual(expect.arrayContaining(withParents(root).map((path) => `<fsync ${path}`)));
    const failing = newRoot();
    await FsObjectStore.open(failing, { durability: 'none' });
    const { files: broken } = recordedFiles((call) => (call === 'fsync' ? 'EIO' : undefined));
    await expect(FsObjectStore.open(failing, {}, { files: broken })).rejects.toMatchObject({ kind: 'Transient' });
    expect(manifest(failing)).toMatchObject({ durability: 'none' });
  });

  test('a store that names none, or has no store.json, takes the level it is opened with', async () => {
    const root = newRoot();
    await FsObjectStore.open(root);
    for (const [durability, text] of [
      ['data', '{"format":1,"hash":"blake3"}'],
      ['none', null],
    ] as const) {
      if (text === null) fs.rmSync(join(root, 'store.json'));
      else fs.writeFileSync(join(root, 'store.json'), text);
      expect((await FsObjectStore.open(root, { durability })).durability).toBe(durability);
      expect(manifest(root)).toMatchObject({ durability });
    }
  });

  test('a level that this version does not know is refused and left as it is', async () => {
    const root = newRoot();
    await FsObjectStore.open(root);
    const text = '{"format":1,"hash":"blake3","durability":"ultra"}';
    fs.writeFileSync(join(root, 'store.json'), text);
    const fault = { code: 'STORAGE_FORMAT', message: expect.stringContaining('names durability "ultra"') };
    await expect(FsObjectStore.open(root)).rejects.toMatchObject(fault);
    expect(fs.readFileSync(join(root, 'store.json'), 'utf8')).toBe(text);
  });

  test('a store of a lower level that may only be read is opened, and read', async () => {
    const root = newRoot();
    const id = await (await FsObjectStore.open(root, { durability: 'none' })).putBytes(Buffer.from('a'));
    const { files } = recordedFiles((call, path) =>
      call === 'open' && path.startsWith(`${root}/tmp/`) ? 'EROFS' : undefined,
    );
    const store = await FsObjectStore.open(root, {}, { files });
    expect(Buffer.from(await store.getBytes(id)).toString()).toBe('a');
    await expect(store.putBytes(Buffer.from('b'))).rejects.toMatchObject({ code: 'IO_DENIED' });
  });
});

describe('as the system sees it', () => {
  const strace = spawnSync('strace', ['-V']).status === 0;
  let program = '';
  beforeAll(async () => {
    if (strace) program = await bundle('src/adapters/cloud-local/object-store.ts');
  });

  /** The paths that a process syncs which opens the store. */
  function synced(root: string, durability: string): string[] {
    const trace = join(dirname(root), 'trace');
    const script = `
      import { FsObjectStore } from ${JSON.stringify(program)};
      await FsObjectStore.open(${JSON.stringify(root)}, { durability: ${JSON.stringify(durability)} });`;
    const node = [process.execPath, '--input-type=module', '-e', script];
    execFileSync('strace', ['-f', '-y', '-e', 'trace=fsync,fdatasync', '-o', trace, ...node]);
    return [...fs.readFileSync(trace, 'utf8').matchAll(/sync\(\d+<([^>]*)>/g)].map(([, path = '']) => path);
  }

  (strace ? test : test.skip)(
    'an open at full after one at none syncs the root and its parents, the next one nothing (needs strace)',
    () => {
      const root = newRoot();
      expect(synced(root, 'none')).not.toContain(dirname(root));
      expect(synced(root, 'full')).toEqual(expect.arrayContaining(withParents(root)));
      expect(synced(root, 'full')).toEqual([]);
    },
  );
});

test('a blob that another process put in place of ours right after its rename is not taken for synced', async () => {
  const root = newRoot();
  let isReplaced = false;
  const { files, log } = recordedFiles((call, path) => {
    if (call !== 'stat' || isReplaced || !fs.existsSync(path) || !/[0-9a-f]{64}$/.test(path)) return undefined;
    isReplaced = true;
    fs.copyFileSync(path, join(root, 'tmp/other'));
    fs.renameSync(join(root, 'tmp/other'), path);
    return undefined;
  });
  const store = await FsObjectStore.open(root, { durability: 'data' }, { files });
  const id = await store.putBytes(Buffer.from('a'));
  expect(isReplaced).toBe(true);
  const putAgain = async () => {
    log.length = 0;
    await store.putBytes(Buffer.from('a'));
    return log.filter((entry) => entry.startsWith('<fdatasync'));
  };
  expect(await putAgain()).toEqual([`<fdatasync ${blobPath(root, id)}`]);
  expect(await putAgain()).toEqual([]);
});
