import fs from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import { FsObjectStore } from '../../../src/adapters/cloud-local/object-store.js';
import type { ContentId } from '../../../src/contracts/ids.js';
import { blobPath, newRoot } from './object-store-kit.js';

const MIB = 1_048_576;

const corruption = (id: ContentId) => ({
  severity: 'fatal',
  kind: 'Internal',
  code: 'OBJECT_CORRUPT',
  message: `object corrupt: ${id}`,
});

/** Ways for a blob to stop being what its name says. */
const damages: [string, (path: string, size: number) => void][] = [
  ['its first byte changed', (path) => overwrite(path, 0)],
  ['its last byte changed', (path, size) => overwrite(path, size - 1)],
  ['it was cut', (path, size) => fs.truncateSync(path, size - 1)],
  ['it was emptied', (path) => fs.truncateSync(path, 0)],
  ['it grew', (path) => fs.appendFileSync(path, 'more')],
];

describe.each([1, 5_000, 64 * 1_024 + 1, MIB, 3.5 * MIB])('a blob of %d bytes is object corrupt: <id> when', (size) => {
  test.each(damages)('%s: for getBytes and getStream, which withholds its last MiB', async (_, damage) => {
    const root = newRoot();
    const store = await FsObjectStore.open(root, { durability: 'none' });
    const id = await store.putBytes(Buffer.alloc(size, 3));
    damage(blobPath(root, id), size);
    const sizeNow = fs.statSync(blobPath(root, id)).size;
    await expect(store.getBytes(id)).rejects.toMatchObject(corruption(id));
    let received = 0;
    const reading = (async () => {
      for await (const chunk of await store.getStream(id)) received += chunk.byteLength;
    })();
    await expect(reading).rejects.toMatchObject(corruption(id));
    expect(received).toBe(Math.max(0, sizeNow - MIB));
    const reader = (await store.getStream(id)).getReader({ mode: 'byob' });
    received = 0;
    const readingInto = (async () => {
      for (;;) received += (await reader.read(new Uint8Array(100_000))).value?.byteLength ?? 0;
    })();
    await expect(readingInto).rejects.toMatchObject(corruption(id));
    expect(received).toBe(Math.max(0, sizeNow - MIB));
  });
});

describe('what is not verified', () => {
  test('verify: false and ranges give the bytes as they lie there', async () => {
    const root = newRoot();
    const store = await FsObjectStore.open(root, { durability: 'none' });
    const id = await store.putBytes(Buffer.alloc(10, 3));
    overwrite(blobPath(root, id), 0);
    expect(Buffer.from(await store.getBytes(id, { verify: false }))[0]).toBe(0x5a);
    expect(Buffer.from(await store.getBytes(id, { range: { start: 0, end: 1 } }))[0]).toBe(0x5a);
    for await (const chunk of await store.getStream(id, { verify: false })) expect(chunk[0]).toBe(0x5a);
  });
});

test('a blob that a power cut left too short is replaced by the next put of its bytes', async () => {
  const root = newRoot();
  const store = await FsObjectStore.open(root, { durability: 'none' });
  for (const size of [5_000, 3 * MIB]) {
    const bytes = Buffer.alloc(size, 9);
    const id = await store.putBytes(bytes);
    fs.truncateSync(blobPath(root, id), 0);
    await (size < MIB ? store.putBytes(bytes) : store.putStream(new Blob([bytes]).stream()));
    expect(Buffer.compare(await store.getBytes(id), bytes)).toBe(0);
  }
});

describe('a blob that a read found corrupt', () => {
  test.each([5_000, 3 * MIB])('is replaced by the next put of its %d bytes, once', async (size) => {
    const root = newRoot();
    const store = await FsObjectStore.open(root);
    const bytes = Buffer.alloc(size, 9);
    const reads = [
      (id: ContentId) => store.getBytes(id),
      async (id: ContentId) => new Response(await store.getStream(id)).arrayBuffer(),
    ];
    const puts = [() => store.putBytes(bytes), () => store.putStream(new Blob([bytes]).stream())];
    for (const read of reads) {
      for (const put of puts) {
        const id = await put();
        overwrite(blobPath(root, id), 7);
        await expect(read(id)).rejects.toMatchObject(corruption(id));
        await put();
        expect(Buffer.compare(await store.getBytes(id), bytes)).toBe(0);
        const { ino } = fs.statSync(blobPath(root, id));
        await put();
        expect(fs.statSync(blobPath(root, id)).ino).toBe(ino);
      }
    }
  });

  test('is gone for good once deleted: what is put then is adopted', async () => {
    const root = newRoot();
    const [store, other] = [await FsObjectStore.open(root), await FsObjectStore.open(root)];
    const bytes = Buffer.from('mended');
    const id = await store.putBytes(bytes);
    overwrite(blobPath(root, id), 0);
    await expect(store.getBytes(id)).rejects.toMatchObject(corruption(id));
    await store.delete(id);
    await other.putBytes(bytes);
    const { ino } = fs.statSync(blobPath(root, id));
    await store.putBytes(bytes);
    expect(fs.statSync(blobPath(root, id)).ino).toBe(ino);
  });
});

test('a blob that shrinks while it is read is corrupt, not short', async () => {
  const root = newRoot();
  const store = await FsObjectStore.open(root, { durability: 'none' });
  const id = await store.putBytes(Buffer.alloc(4 * MIB, 9));
  const reader = (await store.getStream(id, { verify: false })).getReader();
  fs.truncateSync(blobPath(root, id), 10);
  await expect(reader.read()).rejects.toMatchObject(corruption(id));
});

function overwrite(path: string, position: number): void {
  const fd = fs.openSync(path, 'r+');
  fs.writeSync(fd, Buffer.from([0x5a]), 0, 1, position);
  fs.closeSync(fd);
}
