/**
 * What puts, reads and deletes do for a collection beside them: it moves a blob to `gc/`, looks at its time once more,
 * and moves it back or removes it. Here the collection is the test.
 */
import fs from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { TOUCH_AGE_MS } from '../../../src/adapters/cloud-local/object-store/layout.js';
import { FsObjectStore } from '../../../src/adapters/cloud-local/object-store.js';
import type { ContentId } from '../../../src/contracts/ids.js';
import { blobPath, newRoot, recordedFiles, sidecarPath } from './object-store-kit.js';

const BYTES = Buffer.from('kept');
const IO = ['sync', 'async'] as const;

function age(root: string, id: ContentId, ageMs: number): void {
  const then = new Date(Date.now() - ageMs);
  fs.utimesSync(blobPath(root, id), then, then);
}

function ageOf(root: string, id: ContentId): number {
  return Date.now() - fs.statSync(blobPath(root, id)).mtimeMs;
}

/** As a collection does first. */
function condemn(root: string, id: ContentId): string {
  const taken = join(root, 'gc', id);
  fs.mkdirSync(dirname(taken), { recursive: true });
  fs.renameSync(blobPath(root, id), taken);
  return taken;
}

describe.each(IO)('beside a collection (io %s)', (io) => {
  async function stored() {
    const root = newRoot();
    const store = await FsObjectStore.open(root, { io });
    return { root, store, id: await store.putBytes(BYTES) };
  }

  test('a put that finds an old blob touches it, and a young one not', async () => {
    const { root, store, id } = await stored();
    age(root, id, TOUCH_AGE_MS - 60_000);
    await store.putBytes(BYTES);
    expect(ageOf(root, id)).toBeGreaterThan(TOUCH_AGE_MS / 2);
    const { ino } = fs.statSync(blobPath(root, id));
    age(root, id, TOUCH_AGE_MS + 60_000);
    await store.putBytes(BYTES);
    expect(ageOf(root, id)).toBeLessThan(60_000);
    expect(fs.statSync(blobPath(root, id)).ino).toBe(ino);
  });

  test.each([
    ['getBytes', async (store: FsObjectStore, id: ContentId) => Buffer.from(await store.getBytes(id)).equals(BYTES)],
    ['getStream', async (store: FsObjectStore, id: ContentId) => (await store.getStream(id)) instanceof ReadableStream],
    ['exists', (store: FsObjectStore, id: ContentId) => store.exists(id)],
    ['stat', async (store: FsObjectStore, id: ContentId) => (await store.stat(id))?.size === BYTES.byteLength],
    ['putBytes', async (store: FsObjectStore, id: ContentId) => (await store.putBytes(BYTES)) === id],
  ])('%s finds a blob that is about to be removed, and brings it back', async (_, ask) => {
    const { root, store, id } = await stored();
    const taken = condemn(root, id);
    expect(await ask(store, id)).toBe(true);
    expect(fs.existsSync(taken)).toBe(false);
    expect(fs.readFileSync(blobPath(root, id))).toEqual(BYTES);
  });

  test('a put brings an old blob back touched, its shard made anew where that was removed with it', async () => {
    const { root, store, id } = await stored();
    age(root, id, TOUCH_AGE_MS * 2);
    condemn(root, id);
    fs.rmSync(sidecarPath(root, id));
    fs.rmdirSync(join(blobPath(root, id), '..'));
    fs.rmdirSync(join(blobPath(root, id), '../..'));
    await store.putBytes(BYTES);
    expect(ageOf(root, id)).toBeLessThan(60_000);
    expect(await store.stat(id)).toMatchObject({ size: BYTES.byteLength });
  });

  test('a blob taken away between being found and being touched is brought back', async () => {
    const { root, id } = await stored();
    age(root, id, TOUCH_AGE_MS * 2);
    let taken = '';
    const { files } = recordedFiles((call) => {
      if (call === 'utimes' && taken === '') taken = condemn(root, id);
      return undefined;
    });
    const store = await FsObjectStore.open(root, { io }, { files });
    const { ino } = fs.statSync(blobPath(root, id));
    await store.putBytes(BYTES);
    expect(taken).not.toBe('');
    expect(fs.existsSync(taken)).toBe(false);
    expect(fs.statSync(blobPath(root, id)).ino).toBe(ino);
    expect(ageOf(root, id)).toBeLessThan(60_000);
  });

  test('a blob removed between being found and being touched is put anew', async () => {
    const { root, id } = await stored();
    age(root, id, TOUCH_AGE_MS * 2);
    const { files } = recordedFiles((call) => {
      if (call === 'utimes') fs.rmSync(blobPath(root, id), { force: true });
      return undefined;
    });
    const store = await FsObjectStore.open(root, { io }, { files });
    await store.putBytes(BYTES);
    expect(fs.readFileSync(blobPath(root, id))).toEqual(BYTES);
  });

  test('a blob of another user, which may not be touched, is put anew; on a read-only file system it is taken as it is', async () => {
    const { root, id } = await stored();
    for (const [errno, isReplaced] of [
      ['EPERM', true],
      ['EROFS', false],
    ] as const) {
      age(root, id, TOUCH_AGE_MS * 2);
      const { ino } = fs.statSync(blobPath(root, id));
      const { files } = recordedFiles((call) => (call === 'utimes' ? errno : undefined));
      const store = await FsObjectStore.open(root, { io }, { files });
      await store.putBytes(BYTES);
      expect(fs.statSync(blobPath(root, id)).ino !== ino).toBe(isReplaced);
    }
  });

  test('a delete takes away what is about to be removed, and it does not come back', async () => {
    const { root, store, id } = await stored();
    const taken = condemn(root, id);
    expect(await store.delete(id)).toBe(true);
    expect(fs.existsSync(taken)).toBe(false);
    expect(await store.exists(id)).toBe(false);
    expect(await store.delete(id)).toBe(false);
  });
});
