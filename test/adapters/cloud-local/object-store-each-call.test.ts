/**
 * Every file call of every operation made to fail, one at a time: the operation says so, or does without, and leaves the
 * store whole. And what stands where the store's files should.
 */
import fs from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { FsObjectStore } from '../../../src/adapters/cloud-local/object-store.js';
import { isCoreError } from '../../../src/contracts/errors.js';
import type { ContentId } from '../../../src/contracts/ids.js';
import { blobPath, drafts, newRoot, recordedFiles } from './object-store-kit.js';

const MIB = 1_048_576;
const small = Buffer.from('a small one');
const large = Buffer.alloc(MIB + 7, 3);
const other = Buffer.from('stored before');

interface At {
  readonly store: FsObjectStore;
  readonly file: string;
  readonly otherId: ContentId;
}

/** Each resolves to what shows that it did what it should. */
const OPERATIONS: Record<string, (at: At) => Promise<unknown>> = {
  'putBytes of a small blob': ({ store }) => store.putBytes(small),
  'putBytes of a large blob': ({ store }) => store.putBytes(large),
  putStream: ({ store }) => store.putStream(new Blob([large]).stream()),
  putFile: ({ store, file }) => store.putFile(file),
  'a put of what is there': ({ store }) => store.putBytes(other),
  getBytes: async ({ store, otherId }) => Buffer.from(await store.getBytes(otherId)).toString(),
  getToFile: async ({ store, file, otherId }) => {
    await store.getToFile(otherId, `${file}.out`);
    return fs.readFileSync(`${file}.out`, 'utf8');
  },
  stat: async ({ store, otherId }) => (await store.stat(otherId))?.size,
  verify: async ({ store }) => (await store.verify()).faultCount,
};

/** Calls that one operation makes at most; past that the loop below does not end by itself. */
const CALLS_MAX = 80;

describe.each(['sync', 'async'] as const)('one call fails (io %s)', (io) => {
  for (const [name, operation] of Object.entries(OPERATIONS)) {
    test.each(io === 'sync' ? ['ENOSPC', 'EMFILE', 'EACCES', 'EIO'] : ['EIO'])(
      `${name}: each in turn with %s`,
      async (errno) => {
        const root = newRoot();
        const file = join(dirname(root), 'file');
        fs.writeFileSync(file, large);
        const first = await FsObjectStore.open(root, { durability: 'none' });
        const otherId = await first.putBytes(other);
        await first[Symbol.asyncDispose]();
        let hits = 0;
        let failures = 0;
        for (let n = 0; n < CALLS_MAX; n++) {
          let made = 0;
          let isArmed = false;
          const { files, log } = recordedFiles(() => (isArmed && made++ === n ? errno : undefined));
          const failing = await FsObjectStore.open(root, { io }, { files });
          log.length = 0;
          isArmed = true;
          const result = await operation({ store: failing, file, otherId }).catch((error: unknown) => error);
          isArmed = false;
          await failing[Symbol.asyncDispose]();
          if (made <= n) break;
          hits += 1;
          if (isCoreError(result)) {
            failures += 1;
            expect(result.context.errno ?? (result.cause as NodeJS.ErrnoException)?.code).toBe(errno);
          } else expect(result).not.toBeInstanceOf(Error);
          const opened = log.filter((entry) => entry.startsWith('<open')).length;
          expect(log.filter((entry) => entry.startsWith('>close'))).toHaveLength(opened);
          const store = await FsObjectStore.open(root, { io });
          expect(await store.verify()).toMatchObject({ faultCount: 0 });
          // Where removing the draft was what failed, and what the draft's own end made of it.
          expect(drafts(root).length).toBeLessThanOrEqual(1);
          for (const left of drafts(root)) fs.rmSync(join(root, 'tmp', left));
          expect(Buffer.from(await store.getBytes(otherId))).toEqual(other);
          const again = await operation({ store, file, otherId });
          expect(isCoreError(again)).toBe(false);
          for await (const id of store.list()) if (id !== otherId) await store.delete(id);
          await store[Symbol.asyncDispose]();
          fs.rmSync(`${file}.out`, { force: true });
        }
        expect(hits).toBeGreaterThan(1);
        expect(hits).toBeLessThan(CALLS_MAX);
        expect(failures).toBeGreaterThan(0);
        fs.rmSync(`${file}.out`, { force: true });
        expect(fs.readdirSync(dirname(root)).sort()).toEqual(['file', 'store']);
      },
    );
  }
});

describe('what stands where the store’s files should', () => {
  test.each([
    ['a file', (root: string) => fs.writeFileSync(root, '')],
    ['nothing', () => {}],
  ])('%s in place of the root: calls fail and name it, none says that the store is empty', async (_, replace) => {
    const root = newRoot();
    const store = await FsObjectStore.open(root);
    const id = await store.putBytes(small);
    fs.renameSync(root, `${root}.away`);
    replace(root);
    const listed = (async () => {
      for await (const found of store.list()) return found;
      return 'empty';
    })();
    await expect(listed).rejects.toMatchObject({ message: expect.stringContaining(root) });
    await expect(store.verify()).rejects.toMatchObject({ message: expect.stringContaining(root) });
    if (fs.existsSync(root)) {
      await expect(store.putBytes(large)).rejects.toMatchObject({ code: 'IO_DENIED' });
      await expect(store.getBytes(id)).rejects.toMatchObject({ code: 'IO_DENIED' });
      fs.rmSync(root);
    }
    fs.renameSync(`${root}.away`, root);
    expect(Buffer.from(await store.getBytes(id))).toEqual(small);
  });

  test('a shard that is a symbolic link is gone through by every call', async () => {
    const root = newRoot();
    const store = await FsObjectStore.open(root);
    const id = await store.putBytes(small, { contentType: 'a/b' });
    const outer = dirname(dirname(blobPath(root, id)));
    fs.renameSync(outer, `${root}.moved`);
    fs.symlinkSync(`${root}.moved`, outer);
    const linked = await FsObjectStore.open(root);
    expect(Buffer.from(await linked.getBytes(id))).toEqual(small);
    expect(await linked.stat(id)).toMatchObject({ contentType: 'a/b' });
    expect(await linked.verify()).toMatchObject({ checked: 1, faultCount: 0 });
    expect(await linked.delete(id)).toBe(true);
    expect(await linked.putBytes(small)).toBe(id);
    expect(fs.existsSync(join(`${root}.moved`, id.slice(2, 4), id))).toBe(true);
  });

  test('a shard that is a link to nowhere, or a file, fails the puts into it and no others', async () => {
    for (const stand of [
      (path: string) => fs.symlinkSync('/nowhere/at/all', path),
      (path: string) => fs.writeFileSync(path, ''),
    ]) {
      const root = newRoot();
      const store = await FsObjectStore.open(root);
      const id = await store.putBytes(small);
      await store.delete(id);
      const outer = dirname(dirname(blobPath(root, id)));
      fs.rmSync(outer, { recursive: true });
      stand(outer);
      const blocked = await FsObjectStore.open(root);
      await expect(blocked.putBytes(small)).rejects.toMatchObject({ message: expect.stringContaining(outer) });
      expect(drafts(root)).toEqual([]);
      expect(await blocked.exists(await blocked.putBytes(large))).toBe(true);
    }
  });
});
