import fs from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { FsObjectStore } from '../../../src/adapters/cloud-local/object-store.js';
import { blobPath, drafts, newRoot, recordedFiles } from './object-store-kit.js';

const MIB = 1_048_576;
const SIZES = [0, 5, MIB, 3 * MIB + 7];

/** Bytes of which no block equals another. */
function bytesOf(size: number): Buffer {
  const bytes = Buffer.alloc(size);
  for (let at = 0; at < size; at += 1_000) bytes[at] = (at / 1_000) % 251;
  return bytes;
}

/** File calls of a file system that clones, played by a copy: what is seen is the same. */
function cloning(during: () => void = () => {}) {
  const { files, log } = recordedFiles();
  let clones = 0;
  const copyFile = (from: string, to: string, _mode: number, done: (error: Error | null) => void) => {
    clones += 1;
    fs.copyFileSync(from, to, fs.constants.COPYFILE_EXCL);
    during();
    setImmediate(done, null);
  };
  const faked = new Proxy(files, {
    get: (target, name, receiver) => (name === 'copyFile' ? copyFile : Reflect.get(target, name, receiver)),
  });
  return { files: faked, log, clones: () => clones };
}

async function opened(files = recordedFiles().files) {
  const root = newRoot();
  const store = await FsObjectStore.open(root, {}, { files });
  const folder = dirname(root);
  return { root, store, source: join(folder, 'source'), target: join(folder, 'target'), folder };
}

describe.each([
  ['copied', () => recordedFiles().files],
  ['cloned', () => cloning().files],
])('files in and out, %s', (_, files) => {
  test.each(SIZES)('a file of %d bytes comes out as it went in, under the id of its bytes', async (size) => {
    const { root, store, source, target } = await opened(files());
    const bytes = bytesOf(size);
    fs.writeFileSync(source, bytes);
    const told: number[] = [];
    const id = await store.putFile(source, { contentType: 'a/b', onProgress: (done) => told.push(done) });
    expect(id).toBe(await (await FsObjectStore.open(newRoot())).putBytes(bytes));
    expect(await store.stat(id)).toMatchObject({ size, contentType: 'a/b' });
    fs.writeFileSync(target, 'what was there before');
    await store.getToFile(id, target, { onProgress: (done) => told.push(done) });
    expect(fs.readFileSync(target).equals(bytes)).toBe(true);
    if (size > 0) expect(told.filter((done) => done === size)).toHaveLength(2);
    expect(drafts(root)).toEqual([]);
    expect(await store.putFile(source)).toBe(id);
    expect(drafts(root)).toEqual([]);
  });

  test('a corrupt object leaves the file as it was, and nothing beside it', async () => {
    const { root, store, target, folder } = await opened(files());
    const id = await store.putBytes(bytesOf(2 * MIB));
    fs.truncateSync(blobPath(root, id), MIB);
    fs.writeFileSync(target, 'before');
    await expect(store.getToFile(id, target)).rejects.toMatchObject({ code: 'OBJECT_CORRUPT' });
    expect(fs.readFileSync(target, 'utf8')).toBe('before');
    expect(fs.readdirSync(folder).sort()).toEqual(['store', 'target']);
  });

  test('an abort leaves nothing', async () => {
    const { root, store, source, target, folder } = await opened(files());
    fs.writeFileSync(source, bytesOf(4 * MIB));
    const reason = new Error('enough');
    for (const into of [true, false]) {
      const aborting = new AbortController();
      const options = { signal: aborting.signal, onProgress: () => aborting.abort(reason) };
      const id = into ? null : await store.putFile(source);
      await expect(id === null ? store.putFile(source, options) : store.getToFile(id, target, options)).rejects.toBe(
        reason,
      );
      expect(drafts(root)).toEqual([]);
      expect(fs.readdirSync(folder).sort()).toEqual(['source', 'store']);
      if (into) expect((await store.stats()).puts).toBe(0);
    }
  });
});

test('a file that changes while it is stored gets the id of what was stored', async () => {
  let source = '';
  const { files, clones } = cloning(() => fs.appendFileSync(source, 'more'));
  const at = await opened(files);
  source = at.source;
  const bytes = bytesOf(2 * MIB);
  fs.writeFileSync(source, bytes);
  const id = await at.store.putFile(source);
  expect(clones()).toBe(1);
  expect(Buffer.from(await at.store.getBytes(id)).equals(bytes)).toBe(true);
});

test.each([
  ['copied', () => recordedFiles().files],
  ['cloned', () => cloning().files],
])('a file that does not fit into the store is refused, %s, and leaves nothing', async (_, files) => {
  const root = newRoot();
  const store = await FsObjectStore.open(root, { maxStoreBytes: 3 * MIB }, { files: files() });
  const file = join(dirname(root), 'file');
  fs.writeFileSync(file, bytesOf(2 * MIB));
  const id = await store.putFile(file);
  fs.writeFileSync(file, Buffer.alloc(2 * MIB, 9));
  await expect(store.putFile(file)).rejects.toMatchObject({ code: 'STORE_FULL' });
  expect(drafts(root)).toEqual([]);
  expect((await store.stats()).usedBytes).toBe(2 * MIB);
  await store.delete(id);
  await store.putFile(file);
});

test('what is no file is refused, naming it; so are unknown options', async () => {
  const { store, folder, source } = await opened();
  for (const path of [join(folder, 'nothing'), folder]) {
    await expect(store.putFile(path)).rejects.toMatchObject({
      code: 'ARGUMENT_INVALID',
      message: expect.stringContaining(path),
    });
  }
  fs.writeFileSync(source, 'x');
  await expect(store.putFile(source, { contentTyp: 'a' } as object)).rejects.toMatchObject({
    message: expect.stringContaining('Did you mean "contentType"?'),
  });
  const id = await store.putFile(source);
  await expect(store.getToFile(id, join(folder, 'no/where'))).rejects.toMatchObject({
    ...{ kind: 'SchemaViolation', context: { errno: 'ENOENT' } },
    message: expect.stringContaining(`there is no ${join(folder, 'no')}`),
  });
  await expect(store.getToFile('0'.repeat(64) as never, source)).rejects.toMatchObject({ code: 'OBJECT_NOT_FOUND' });
});
