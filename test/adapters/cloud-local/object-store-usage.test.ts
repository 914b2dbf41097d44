/** How full a store is: exact over instances and processes that end as they like, and corrected where it went wrong. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, jest, test } from '@jest/globals';
import { FsObjectStore, type FsObjectStoreOptions } from '../../../src/adapters/cloud-local/object-store.js';
import type { ContentId } from '../../../src/contracts/ids.js';
import { bundle } from '../../support/bundle.js';
import { blobPath, newRoot, recordedFiles } from './object-store-kit.js';

const MIB = 1_048_576;
const FULL = { kind: 'Throttled', code: 'STORE_FULL' };
const QUICK: FsObjectStoreOptions = { durability: 'none' };

afterEach(() => void jest.restoreAllMocks());

const blob = (size: number, seed: number) => Buffer.alloc(size, `seed ${seed} `);
const tallies = (root: string) => fs.readdirSync(join(root, 'usage')).filter((name) => name !== 'base');
const used = async (root: string) => (await (await FsObjectStore.open(root, QUICK)).stats()).usedBytes;

/** A tally that was not written to for a long time. */
function age(root: string): void {
  for (const name of tallies(root)) fs.utimesSync(join(root, 'usage', name), 0, 0);
}

test('the limit holds over processes that put little and are killed at once', async () => {
  const root = newRoot();
  const program = await bundle('src/adapters/cloud-local/object-store.ts');
  const run = (n: number) =>
    spawnSync(process.execPath, [
      '--input-type=module',
      '-e',
      `import { FsObjectStore } from ${JSON.stringify(program)};
       const store = await FsObjectStore.open(${JSON.stringify(root)}, { durability: 'none', maxStoreBytes: ${2 * MIB} });
       await store.putBytes(Buffer.alloc(1_000_000, ${n})).then(
         () => process.kill(process.pid, 'SIGKILL'),
         (error) => process.stdout.write(error.code));`,
    ]);
  const ends = [1, 2, 3, 4].map((n) => run(n)).map(({ signal, stdout }) => signal ?? String(stdout));
  expect(ends).toEqual(['SIGKILL', 'SIGKILL', 'STORE_FULL', 'STORE_FULL']);
  expect(await used(root)).toBe(2_000_000);
}, 60_000);

test('what one puts and many others take away, or the other way round, sums up to what is there', async () => {
  const root = newRoot();
  const open = () => FsObjectStore.open(root, { ...QUICK, maxStoreBytes: 2 * MIB });
  const one = await open();
  const ids: ContentId[] = [];
  for (let n = 0; n < 21; n++) ids.push(await one.putBytes(blob(99_000, n)));
  await expect(one.putBytes(blob(99_000, 21))).rejects.toMatchObject(FULL);
  for (const id of ids) await (await open()).delete(id);
  expect(await used(root)).toBe(0);
  for (let n = 0; n < 21; n++) await (await open()).putBytes(blob(99_000, n));
  await expect(one.putBytes(blob(99_000, 21))).rejects.toMatchObject(FULL);
  for (const id of ids) await one.delete(id);
  expect(await used(root)).toBe(0);
});

test.each(['sync', 'async'] as const)('puts and deletes in flight together are all told (io %s)', async (io) => {
  const root = newRoot();
  const store = await FsObjectStore.open(root, { ...QUICK, io });
  const ids = await Promise.all(Array.from({ length: 200 }, (_, n) => store.putBytes(blob(1_000 + n, n))));
  await Promise.all(ids.slice(0, 100).map((id) => store.delete(id)));
  const expected = Array.from({ length: 100 }, (_, n) => 1_100 + n).reduce((sum, size) => sum + size);
  expect(await used(root)).toBe(expected);
});

test('one after the other ends and leaves its tally to the next', async () => {
  const root = newRoot();
  for (let n = 0; n < 10; n++) {
    const store = await FsObjectStore.open(root, QUICK);
    await store.putBytes(blob(100, n));
    await store[Symbol.asyncDispose]();
    expect(tallies(root)).toEqual([expect.stringMatching(/^[0-9a-f]{16}\.free$/)]);
    await expect(store.putBytes(blob(100, n))).rejects.toMatchObject({ code: 'CLOSED' });
  }
  expect(await used(root)).toBe(1_000);
});

test('a tally that was left behind is taken over once it is idle, and by one alone', async () => {
  const root = newRoot();
  for (let n = 0; n < 3; n++) await (await FsObjectStore.open(root, QUICK)).putBytes(blob(100, n));
  expect(tallies(root)).toHaveLength(3);
  age(root);
  const stores = await Promise.all(
    Array.from({ length: 5 }, () => FsObjectStore.open(root, { ...QUICK, io: 'async' })),
  );
  await Promise.all(stores.map((store, n) => store.putBytes(blob(100, 10 + n))));
  expect(tallies(root)).toHaveLength(5);
  expect(await used(root)).toBe(800);
});

test('an instance that was idle for long finds out that its tally is another’s, and takes one of its own', async () => {
  const root = newRoot();
  const idle = await FsObjectStore.open(root, QUICK);
  await idle.putBytes(blob(100, 1));
  age(root);
  const other = await FsObjectStore.open(root, QUICK);
  await other.putBytes(blob(100, 2));
  expect(tallies(root)).toHaveLength(1);
  for (const store of [idle, other]) expect((await store.stats()).usedBytes).toBe(200);
  const now = Date.now();
  jest.spyOn(Date, 'now').mockImplementation(() => now + 60_000);
  await idle.putBytes(blob(100, 3));
  await other.putBytes(blob(100, 4));
  for (const store of [idle, other]) expect((await store.stats()).usedBytes).toBe(400);
  expect(await used(root)).toBe(400);
});

test('no file stays open, though nobody closes the store', async () => {
  const root = newRoot();
  const { files, log } = recordedFiles();
  const store = await FsObjectStore.open(root, QUICK, { files });
  await store.putBytes(blob(100, 1));
  const isClosed = () => {
    const own = log.filter((entry) => entry.includes(`/usage/${tallies(root)[0]}`));
    return (
      own.filter((entry) => entry.startsWith('<open')).length ===
      own.filter((entry) => entry.startsWith('<close')).length
    );
  };
  expect(isClosed()).toBe(false);
  while (!isClosed()) await new Promise((resolve) => setTimeout(resolve, 20));
});

test.each(['verify', 'gc'] as const)('%s corrects a sum that is wrong, to the byte', async (how) => {
  const root = newRoot();
  const store = await FsObjectStore.open(root, QUICK);
  const ids: ContentId[] = [];
  for (let n = 0; n < 4; n++) ids.push(await store.putBytes(blob(1_000, n)));
  fs.utimesSync(blobPath(root, ids[3] as ContentId), 0, 0);
  const walk = async () => {
    if (how === 'verify') await store.verify();
    else await store.gc({ keep: ids.slice(0, 2) });
    return (await store.stats()).usedBytes;
  };
  for (const wrong of [1, -1, 5_000_000, -5_000_000]) {
    const bytes = Buffer.alloc(16);
    bytes.writeDoubleLE(Math.max(0, wrong), 0);
    bytes.writeDoubleLE(Math.max(0, -wrong), 8);
    fs.writeFileSync(join(root, 'usage/base'), bytes);
    expect(await walk()).toBe(how === 'verify' ? 4_000 : 3_000);
    fs.writeFileSync(join(root, 'usage/base'), '');
    expect(await walk()).toBe(how === 'verify' ? 4_000 : 3_000);
  }
});

test('a put that comes during the walk is no fault of the sum', async () => {
  const root = newRoot();
  const store = await FsObjectStore.open(root, QUICK);
  for (let n = 0; n < 20; n++) await store.putBytes(blob(1_000, n));
  const other = await FsObjectStore.open(root, QUICK);
  let n = 100;
  await store.verify({ onProgress: () => void other.putBytes(blob(1_000, n++)) });
  let there = 0;
  for await (const _ of store.list()) there += 1;
  expect(there).toBeGreaterThan(20);
  expect((await store.stats()).usedBytes).toBe(there * 1_000);
});

test('what verify puts aside is no longer used', async () => {
  const root = newRoot();
  const store = await FsObjectStore.open(root, QUICK);
  const ids = [await store.putBytes(blob(1_000, 1)), await store.putBytes(blob(500, 2))];
  fs.writeFileSync(blobPath(root, ids[1] as ContentId), blob(500, 3));
  expect(await store.verify({ quarantine: true })).toMatchObject({ quarantined: 1 });
  expect((await store.stats()).usedBytes).toBe(1_000);
});
