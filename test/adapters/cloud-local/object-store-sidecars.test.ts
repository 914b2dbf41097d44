/** A sidecar that is missing, torn, unreadable or cannot be written costs the content type, and nothing else. */
import fs from 'node:fs';
import { beforeEach, describe, expect, test } from '@jest/globals';
import { FsObjectStore } from '../../../src/adapters/cloud-local/object-store.js';
import type { ContentId } from '../../../src/contracts/ids.js';
import { blobPath, type Fault, newRoot, recordedFiles, sidecarPath } from './object-store-kit.js';

const BYTES = Buffer.from('the object');

let root: string;
let id: ContentId;
beforeEach(async () => {
  root = newRoot();
  id = await (await FsObjectStore.open(root)).putBytes(BYTES, { contentType: 'a/b' });
});

/** Another process: it knows nothing of what was put before. */
async function opened(fault?: Fault) {
  return FsObjectStore.open(root, {}, { files: recordedFiles(fault).files });
}

/** A full disk, or a read-only one: nothing new can be made. */
const unwritable = (errno: string): Fault => {
  let isArmed = false;
  // The open of the store is let be.
  setImmediate(() => {
    isArmed = true;
  });
  return (call, path) => (isArmed && call === 'open' && path.startsWith(`${root}/tmp/`) ? errno : undefined);
};

describe.each(['ENOSPC', 'EROFS', 'EACCES'])('where none can be written (%s)', (errno) => {
  test.each([
    ['missing', () => fs.unlinkSync(sidecarPath(root, id))],
    ['torn', () => fs.writeFileSync(sidecarPath(root, id), '{"size":10,"co')],
  ])('one that is %s is no fault, and fails no put of what is there', async (_, spoil) => {
    const store = await opened(unwritable(errno));
    await new Promise((resolve) => setImmediate(resolve));
    spoil();
    await expect(store.putBytes(Buffer.from('new'))).rejects.toMatchObject({ context: { errno } });
    expect(await store.putBytes(BYTES)).toBe(id);
    expect(await store.verify()).toMatchObject({ checked: 1, faultCount: 0, sidecarsHealed: 0, sidecarsLeft: 1 });
    expect(await store.stat(id)).toMatchObject({ size: BYTES.byteLength, contentType: null });
  });
});

test('one that cannot be read is as good as none', async () => {
  const store = await opened((call, path) =>
    call === 'open' && path.endsWith('.json') && path !== `${root}/store.json` ? 'EIO' : undefined,
  );
  expect(await store.stat(id)).toMatchObject({ size: BYTES.byteLength, contentType: null });
  expect(await store.verify()).toMatchObject({ checked: 1, faultCount: 0, sidecarsLeft: 1 });
  expect(await store.putBytes(BYTES)).toBe(id);
  expect(Buffer.from(await store.getBytes(id))).toEqual(BYTES);
  expect(await store.delete(id)).toBe(true);
});

test('a folder in its place stays there, and keeps no object from being read, put again, checked, deleted or collected', async () => {
  const path = sidecarPath(root, id);
  fs.unlinkSync(path);
  fs.mkdirSync(path);
  fs.utimesSync(path, 0, 0);
  const store = await opened();
  expect(await store.stat(id)).toMatchObject({ size: BYTES.byteLength, contentType: null });
  expect(await store.putBytes(BYTES)).toBe(id);
  expect(await store.verify()).toMatchObject({ checked: 1, faultCount: 0, sidecarsLeft: 1 });
  expect(await store.delete(id)).toBe(true);
  expect(await store.exists(id)).toBe(false);
  expect(await store.gc({ keep: [], graceMs: 0 })).toMatchObject({ removed: 0 });
  expect(fs.statSync(path).isDirectory()).toBe(true);
});

test.each(['', '{"size":10,"contentType":"a/b","crea', '{"size":3,"contentType":"a/b","createdAtMs":5}'])(
  'a put of what is there writes one anew that says %j',
  async (text) => {
    fs.writeFileSync(sidecarPath(root, id), text);
    await (await opened()).putBytes(BYTES);
    expect(JSON.parse(fs.readFileSync(sidecarPath(root, id), 'utf8'))).toMatchObject({ size: BYTES.byteLength });
  },
);

test('a folder of a blob’s name is passed over by verify', async () => {
  const other = 'ab'.repeat(32) as ContentId;
  fs.mkdirSync(blobPath(root, other), { recursive: true });
  expect(await (await opened()).verify({ quarantine: true })).toMatchObject({ checked: 1, faultCount: 0 });
  expect(fs.existsSync(blobPath(root, other))).toBe(true);
});
