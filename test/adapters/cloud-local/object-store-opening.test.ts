/** What an open finds: stores of other versions, of read-only media, and what crashed opens and puts left. */
import fs from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from '@jest/globals';
import { FsObjectStore } from '../../../src/adapters/cloud-local/object-store.js';
import { drafts, newRoot, recordedFiles } from './object-store-kit.js';

const ORIGINAL = join(dirname(fileURLToPath(import.meta.url)), '../../fixtures/original-store');

test('drafts of earlier versions are swept by their names, and no file of another', async () => {
  const root = newRoot();
  await FsObjectStore.open(root);
  const old = ['4711-0123456789abcdef-a', 'rollout-draft-4711-0123456789abcdef-0'];
  const others = ['4711-0123456789abcdef', '4711-0123456789ABCDEF-a', 'x-4711-0123456789abcdef-a', 'mine.tmp'];
  for (const name of [...old, ...others]) {
    fs.writeFileSync(join(root, 'tmp', name), '');
    fs.utimesSync(join(root, 'tmp', name), 0, 0);
  }
  await FsObjectStore.open(root);
  expect(drafts(root).sort()).toEqual([...others].sort());
});

test('a store of a newer format is left as it is', async () => {
  const root = newRoot();
  fs.mkdirSync(root);
  fs.writeFileSync(join(root, 'store.json'), '{"format":2,"hash":"blake3"}');
  await expect(FsObjectStore.open(root)).rejects.toMatchObject({ code: 'STORAGE_FORMAT' });
  expect(fs.readdirSync(root)).toEqual(['store.json']);
});

test.each(['EROFS', 'EACCES'])(
  'a store of the original system is read where nothing can be written (%s)',
  async (errno) => {
    const root = newRoot();
    fs.cpSync(ORIGINAL, root, { recursive: true });
    const { files } = recordedFiles((call) =>
      /^(mkdir|rename|write|unlink|rmdir|utimes)$/.test(call) ? errno : undefined,
    );
    const store = await FsObjectStore.open(root, {}, { files });
    let read = 0;
    for await (const id of store.list()) read += (await store.getBytes(id)).byteLength;
    expect(read).toBeGreaterThan(0);
    await expect(store.putBytes(Buffer.from('new'))).rejects.toMatchObject({ code: 'IO_DENIED' });
    expect(fs.existsSync(join(root, 'store.json'))).toBe(false);
  },
);

test('a folder that is no store and cannot be written is refused', async () => {
  const root = newRoot();
  fs.mkdirSync(join(root, 'documents'), { recursive: true });
  const { files } = recordedFiles((call) => (call === 'mkdir' ? 'EROFS' : undefined));
  await expect(FsObjectStore.open(root, {}, { files })).rejects.toMatchObject({ code: 'IO_DENIED' });
});

test('an open that crashed before the clock was set back is not waited for until the clock gets there', async () => {
  const root = newRoot();
  const lock = join(root, 'tmp/opening');
  fs.mkdirSync(lock, { recursive: true });
  const inAnHour = new Date(Date.now() + 3_600_000);
  fs.utimesSync(lock, inAnHour, inAnHour);
  await FsObjectStore.open(root);
  expect(fs.existsSync(lock)).toBe(false);
});

test('a shard on another file system is refused with what to do', async () => {
  const { files } = recordedFiles((call, path) =>
    call === 'rename' && path.endsWith('.json') && !path.endsWith('store.json') ? 'EXDEV' : undefined,
  );
  const store = await FsObjectStore.open(newRoot(), {}, { files });
  const refusal = await store.putBytes(Buffer.from('x')).catch((error: unknown) => error);
  expect(refusal).toMatchObject({ kind: 'ConfigInvalid', code: 'IO_DENIED', context: { errno: 'EXDEV' } });
  expect((refusal as Error).message).toMatch(/different file systems: move them to one/);
});
