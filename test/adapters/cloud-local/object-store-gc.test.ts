/** Collection: what it removes and keeps, and what happens in the moments between its steps. */
import fs from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { GcReport } from '../../../src/adapters/cloud-local/object-store/gc.js';
import { IdSet } from '../../../src/adapters/cloud-local/object-store/id-set.js';
import { FsObjectStore } from '../../../src/adapters/cloud-local/object-store.js';
import type { ContentId } from '../../../src/contracts/ids.js';
import { blobPath, draftName, type Fault, newRoot, recordedFiles, sidecarPath } from './object-store-kit.js';

const HOUR_MS = 3_600_000;
const NOTHING: GcReport = {
  scanned: 0,
  kept: 0,
  young: 0,
  removed: 0,
  bytesRemoved: 0,
  broughtBack: 0,
  restored: 0,
  draftsRemoved: 0,
};

/** A store with the objects `0` to `count - 1`, put two hours ago. */
async function aged(count: number, fault?: Fault, io: 'sync' | 'async' = 'sync') {
  const root = newRoot();
  const { files } = recordedFiles(fault);
  const store = await FsObjectStore.open(root, { durability: 'none', io }, { files });
  const ids: ContentId[] = [];
  for (let i = 0; i < count; i++) {
    ids.push(await store.putBytes(Buffer.from(`${i}`), { contentType: 'text/plain' }));
    age(root, ids[i] as ContentId, 2 * HOUR_MS);
  }
  const gc = (keep: Iterable<ContentId>, more: object = {}) => store.gc({ keep, graceMs: HOUR_MS, ...more });
  return { root, store, ids, gc };
}

function age(root: string, id: ContentId, ageMs: number): void {
  const then = new Date(Date.now() - ageMs);
  for (const path of [blobPath(root, id), sidecarPath(root, id)]) fs.utimesSync(path, then, then);
}

function touch(path: string): void {
  fs.utimesSync(path, new Date(), new Date());
}

async function all(store: FsObjectStore): Promise<ContentId[]> {
  const ids: ContentId[] = [];
  for await (const id of store.list()) ids.push(id);
  return ids;
}

function left(root: string): string[] {
  return fs.readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((name) => /[0-9a-f]{64}/.test(name));
}

describe('a collection', () => {
  test('removes what is neither kept nor young, sidecars included, and reports it', async () => {
    const { root, store, ids, gc } = await aged(6);
    const [kept, young] = ids as [ContentId, ContentId];
    touch(blobPath(root, young));
    const expected = { ...NOTHING, scanned: 6, kept: 1, young: 1, removed: 4, bytesRemoved: 4 };
    expect(await gc([kept], { dryRun: true })).toEqual(expected);
    expect(await all(store)).toHaveLength(6);
    expect(await gc([kept])).toEqual(expected);
    expect(await all(store)).toEqual([kept, young].sort());
    expect(left(root)).toHaveLength(4);
    expect(await store.stat(kept)).toMatchObject({ contentType: 'text/plain' });
    await expect(store.getBytes(ids[5] as ContentId)).rejects.toMatchObject({ code: 'OBJECT_NOT_FOUND' });
  });

  test('with a grace of 0 removes what has just been put; the default grace is a day', async () => {
    const { store, ids } = await aged(2);
    const fresh = await store.putBytes(Buffer.from('fresh'));
    expect(await store.gc({ keep: [] })).toMatchObject({ removed: 0, young: 3 });
    expect(await store.gc({ keep: ids, graceMs: 0 })).toMatchObject({ removed: 1, kept: 2 });
    expect(await store.exists(fresh)).toBe(false);
  });

  test('takes the ids to keep from any iterable, and none twice', async () => {
    const { store, ids, gc } = await aged(3);
    async function* keep() {
      yield* ids;
      yield* ids;
    }
    expect(await store.gc({ keep: keep(), graceMs: HOUR_MS })).toMatchObject({ kept: 3, removed: 0 });
    expect(await gc(new Set(ids.slice(1)))).toMatchObject({ kept: 2, removed: 1 });
  });

  test.each<[string, (ids: ContentId[]) => unknown, object]>([
    ['an id that is none', (ids) => [...ids, 'ABC'], { code: 'ARGUMENT_INVALID' }],
    ['a text', (ids) => ids[0], { code: 'ARGUMENT_INVALID', message: expect.stringContaining('options.keep') }],
    ['nothing', () => undefined, { code: 'ARGUMENT_INVALID', message: expect.stringContaining('options.keep') }],
    [
      'an iterable that fails half-way',
      function* (ids) {
        yield ids[0];
        throw new Error('no more');
      },
      { message: 'no more' },
    ],
  ])('that is told to keep %s removes nothing', async (_, keep, error) => {
    const { store, ids } = await aged(3);
    await expect(store.gc({ keep: keep(ids) as ContentId[], graceMs: 0 })).rejects.toMatchObject(error);
    expect(await all(store)).toHaveLength(3);
  });

  test.each([
    [{ graceMs: -1 }, 'options.graceMs'],
    [{ removalsPerSMax: 0 }, 'options.removalsPerSMax'],
    [{ gracems: 5 }, 'Did you mean "graceMs"?'],
  ])('refuses %j', async (options, message) => {
    const { store } = await aged(0);
    await expect(store.gc({ keep: [], ...options })).rejects.toMatchObject({
      code: 'ARGUMENT_INVALID',
      message: expect.stringContaining(message),
    });
  });

  test('is interrupted between two objects; the next one finishes', async () => {
    const { store, gc } = await aged(1_100);
    const stop = new AbortController();
    const reason = new Error('enough');
    const seen: number[] = [];
    const onProgress = ({ scanned }: GcReport) => {
      seen.push(scanned);
      stop.abort(reason);
    };
    await expect(gc([], { signal: stop.signal, onProgress, removalsPerSMax: 1_000_000 })).rejects.toBe(reason);
    expect(seen).toEqual([1_000]);
    expect(await all(store)).toHaveLength(100);
    expect(await gc([])).toMatchObject({ removed: 100, restored: 0 });
  });

  test('waits where it would remove too fast, and an abort ends the wait', async () => {
    const { store, gc } = await aged(3);
    const reason = new Error('enough');
    const stop = new AbortController();
    setTimeout(() => stop.abort(reason), 50);
    // An hour for each.
    await expect(gc([], { signal: stop.signal, removalsPerSMax: 1 })).rejects.toBe(reason);
    expect((await all(store)).length).toBeGreaterThan(0);
  });

  test('removes sidecars without a blob, and no young one: a put may be about to rename its blob', async () => {
    const { root, ids, gc } = await aged(2);
    const [old, young] = ids as [ContentId, ContentId];
    for (const id of ids) fs.unlinkSync(blobPath(root, id));
    touch(sidecarPath(root, young));
    await gc([]);
    expect(fs.existsSync(sidecarPath(root, old))).toBe(false);
    expect(fs.existsSync(sidecarPath(root, young))).toBe(true);
  });

  test('sweeps drafts of crashed puts that are a day old', async () => {
    const { root, gc } = await aged(0);
    for (const name of ['old', 'new']) fs.writeFileSync(join(root, 'tmp', draftName(name)), '');
    fs.utimesSync(join(root, 'tmp', draftName('old')), 0, 0);
    expect(await gc([])).toMatchObject({ draftsRemoved: 1 });
    expect(fs.readdirSync(join(root, 'tmp'))).toEqual([draftName('new')]);
  });
});

describe('what an interrupted collection left in gc/', () => {
  test('is put back by the next one before it begins, and kept if it is to be kept', async () => {
    const { root, store, ids, gc } = await aged(3);
    const [kept, dropped] = ids as [ContentId, ContentId];
    fs.mkdirSync(join(root, 'gc'), { recursive: true });
    for (const id of [kept, dropped]) fs.renameSync(blobPath(root, id), join(root, 'gc', id));
    fs.renameSync(sidecarPath(root, kept), join(root, 'gc', `${kept}.meta.json`));
    expect(await gc([kept])).toMatchObject({ restored: 2, kept: 1, removed: 2 });
    expect(await store.stat(kept)).toMatchObject({ contentType: 'text/plain' });
    expect(fs.readdirSync(join(root, 'gc'))).toEqual([]);
    expect(await all(store)).toEqual([kept]);
  });

  test('is left alone by a dry run', async () => {
    const { root, ids, gc } = await aged(1);
    fs.mkdirSync(join(root, 'gc'), { recursive: true });
    fs.renameSync(blobPath(root, ids[0] as ContentId), join(root, 'gc', ids[0] as ContentId));
    expect(await gc([], { dryRun: true })).toMatchObject({ restored: 0 });
    expect(fs.readdirSync(join(root, 'gc'))).toEqual(ids);
  });
});

describe('beside a put of the same bytes', () => {
  const BYTES = Buffer.from('0');

  /** A collection that waits before the call that `at` picks, until what happens in between has happened. */
  async function between(
    at: (call: string, path: string) => boolean,
    happens: (s: FsObjectStore, id: ContentId) => Promise<unknown>,
  ) {
    let go = () => {};
    let arrived = () => {};
    const reached = new Promise<void>((resolve) => {
      arrived = resolve;
    });
    let armed = false;
    const { root, ids, gc } = await aged(
      1,
      (call, path) => {
        if (!armed || !at(call, path)) return undefined;
        armed = false;
        arrived();
        return new Promise((resolve) => {
          go = resolve;
        });
      },
      'async',
    );
    armed = true;
    const other = await FsObjectStore.open(root, { durability: 'none' });
    const collecting = gc([]);
    await reached;
    await happens(other, ids[0] as ContentId);
    go();
    const report = await collecting;
    const id = ids[0] as ContentId;
    expect(Buffer.from(await other.getBytes(id))).toEqual(BYTES);
    expect(await other.stat(id)).toMatchObject({ contentType: 'text/plain' });
    expect(left(root)).toHaveLength(2);
    return report;
  }
  const put = (store: FsObjectStore) => store.putBytes(BYTES, { contentType: 'text/plain' });
  const gcPath = (path: string) => dirname(path).endsWith('/gc');

  test('before the blob is taken: the put touches it, and it comes back', async () => {
    const report = await between((call, path) => call === 'rename' && gcPath(path), put);
    expect(report).toMatchObject({ removed: 0, broughtBack: 1 });
  });

  test('after it is taken: the put brings it back', async () => {
    const report = await between((call, path) => call === 'stat' && gcPath(path), put);
    expect(report).toMatchObject({ removed: 0, broughtBack: 1 });
  });

  test('before it is removed: the put brings it back', async () => {
    const report = await between((call, path) => call === 'unlink' && gcPath(path), put);
    expect(report).toMatchObject({ removed: 0, broughtBack: 1 });
  });

  test('after it is removed: the put writes it anew, and its sidecar stays', async () => {
    const isSidecar = (path: string) => path.endsWith('.meta.json');
    const report = await between((call, path) => call === 'rename' && gcPath(path) && isSidecar(path), put);
    expect(report).toMatchObject({ removed: 1, broughtBack: 0 });
  });

  test('a read before it is removed brings it back, for the next collection', async () => {
    const report = await between(
      (call, path) => call === 'unlink' && gcPath(path),
      (store, id) => store.getBytes(id),
    );
    expect(report).toMatchObject({ removed: 0, broughtBack: 1 });
  });

  test('a delete meanwhile is a delete', async () => {
    const { store, ids, gc } = await aged(1);
    await store.delete(ids[0] as ContentId);
    expect(await gc([])).toEqual(NOTHING);
  });
});

test('a set of ids holds what a Set holds', () => {
  const id = fc.integer({ min: 0, max: 5_000 }).map((n) => {
    // Alike in their first bytes, so that they collide.
    const [head, tail] = [n % 7, n];
    return `${head.toString(16).padStart(8, '0')}${tail.toString(16).padStart(56, '0')}` as ContentId;
  });
  fc.assert(
    fc.property(fc.array(id, { maxLength: 3_000 }), fc.array(id, { maxLength: 200 }), (added, asked) => {
      const [ours, model] = [new IdSet(), new Set(added)];
      for (const each of added) ours.add(each);
      expect(ours.size).toBe(model.size);
      for (const each of [...added, ...asked]) expect(ours.has(each)).toBe(model.has(each));
    }),
    { numRuns: 50 },
  );
});
