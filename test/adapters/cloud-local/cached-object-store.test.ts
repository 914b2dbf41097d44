/** The cache in front of another store: the contract holds whatever becomes of the cache, and its copies are right. */
import fs from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  CachedObjectStore,
  type CachedObjectStoreOptions,
} from '../../../src/adapters/cloud-local/cached-object-store.js';
import { FsObjectStore } from '../../../src/adapters/cloud-local/object-store.js';
import type { ContentId } from '../../../src/contracts/ids.js';
import { ObjectStore } from '../../../src/contracts/object-store.js';
import '../../../src/testing/object-store-suite.js';
import { conformance } from '../../../src/testing/conformance.js';
import { memoryObjectStore } from '../../../src/testing/memory-object-store.js';
import { blobPath, newRoot } from './object-store-kit.js';

type Calls = { [K in keyof ObjectStore]?: number };

/** A store that counts what it is asked. */
function counted(behind: ObjectStore = memoryObjectStore()): { behind: ObjectStore; calls: Calls } {
  const calls: Calls = {};
  const proxy = new Proxy(behind, {
    get(target, name: keyof ObjectStore) {
      const method = target[name] as unknown;
      if (typeof method !== 'function') return method;
      return (...args: unknown[]) => {
        calls[name] = (calls[name] ?? 0) + 1;
        return method.apply(target, args);
      };
    },
  });
  return { behind: proxy, calls };
}

async function opened(options: Partial<CachedObjectStoreOptions> = {}, inner?: ObjectStore) {
  const { behind, calls } = counted(inner);
  const root = options.root ?? newRoot();
  const warnings: string[] = [];
  const cache = await CachedObjectStore.open(
    behind,
    { root, ...options },
    { logger: { warn: (text) => warnings.push(text) } },
  );
  return { cache, behind, calls, root, warnings };
}

async function read(stream: ReadableStream<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function* pieces(...texts: string[]) {
  for (const text of texts) yield Buffer.from(text);
}

/** Takes the folder away, and puts a file in its place: every call on it fails. */
function breakFolder(root: string): void {
  fs.rmSync(root, { recursive: true });
  fs.writeFileSync(root, '');
}

describe.each<[string, () => Promise<ObjectStore>]>([
  ['a cache with room', async () => (await opened()).cache],
  ['a cache without room: everything passes by', async () => (await opened({ maxBytes: 1 })).cache],
  ['a small cache: most is evicted', async () => (await opened({ maxBytes: 100_000, maxObjectBytes: 70_000 })).cache],
  ['before a store of files', async () => (await opened({}, await FsObjectStore.open(newRoot()))).cache],
  [
    'a cache whose folder is gone',
    async () => {
      const { cache, root } = await opened();
      breakFolder(root);
      return cache;
    },
  ],
])('%s', (_, open) => {
  for (const c of conformance(ObjectStore, { features: ['range'] })) test(c.name, () => c.run(open));
});

describe('what is read', () => {
  test('is fetched once, then answered from the folder, by a later process too', async () => {
    const { cache, behind, calls, root } = await opened();
    const id = await behind.putBytes(Buffer.from('hello'));
    for (let i = 0; i < 3; i++) expect(Buffer.from(await cache.getBytes(id)).toString()).toBe('hello');
    expect((await read(await cache.getStream(id))).toString()).toBe('hello');
    expect(Buffer.from(await cache.getBytes(id, { range: { start: 1, end: 3 } })).toString()).toBe('el');
    expect(calls.getBytes).toBe(1);
    expect(calls.getStream).toBeUndefined();
    expect(cache.stats()).toMatchObject({ hits: 4, misses: 1, objects: 1, bytes: 5 });

    const later = await opened({ root }, behind);
    expect(Buffer.from(await later.cache.getBytes(id)).toString()).toBe('hello');
    await later.cache.settled();
    expect(later.cache.stats()).toMatchObject({ hits: 1, misses: 0, objects: 1, bytes: 5 });
  });

  test('as a stream is kept when it was read to its end, and not when it was left', async () => {
    const { cache, behind, calls } = await opened();
    const [whole, part] = [
      await behind.putBytes(Buffer.alloc(3_000_000, 1)),
      await behind.putBytes(Buffer.alloc(2_000_000, 2)),
    ];
    expect((await read(await cache.getStream(whole))).length).toBe(3_000_000);
    const reader = (await cache.getStream(part)).getReader();
    await reader.read();
    await reader.cancel();
    await cache.settled();
    expect(cache.stats()).toMatchObject({ objects: 1, bytes: 3_000_000 });
    await cache.getBytes(whole);
    await cache.getBytes(part);
    expect(calls).toMatchObject({ getStream: 2, getBytes: 1 });
  });

  test('by many at once is fetched once, and each has a buffer of its own', async () => {
    const { cache, behind, calls } = await opened();
    const id = await behind.putBytes(Buffer.from('hello'));
    const [first, ...others] = await Promise.all(Array.from({ length: 8 }, () => cache.getBytes(id)));
    first?.fill(0);
    for (const other of others) expect(Buffer.from(other).toString()).toBe('hello');
    expect(calls.getBytes).toBe(1);
  });

  test('by one who leaves is still read by the others', async () => {
    const { cache, behind } = await opened();
    const id = await behind.putBytes(Buffer.from('hello'));
    const stop = new AbortController();
    const leaving = cache.getBytes(id, { signal: stop.signal });
    const staying = cache.getBytes(id);
    const reason = new Error('enough');
    stop.abort(reason);
    await expect(leaving).rejects.toBe(reason);
    expect(Buffer.from(await staying).toString()).toBe('hello');
  });

  test('is never kept when the store behind hands out other bytes: that is told', async () => {
    const lying = memoryObjectStore();
    const id = await lying.putBytes(Buffer.from('right'));
    const { cache } = await opened({}, { ...lying, getBytes: async () => Buffer.from('wrong') } as ObjectStore);
    await expect(cache.getBytes(id)).rejects.toMatchObject({ code: 'OBJECT_CORRUPT' });
    expect(cache.stats()).toMatchObject({ objects: 0 });
  });
});

describe('a copy that is damaged', () => {
  async function damaged(size: number) {
    const made = await opened();
    const id = await made.cache.putBytes(Buffer.alloc(size, 'x'));
    fs.writeFileSync(blobPath(made.root, id), Buffer.alloc(size, 'y'));
    return { ...made, id };
  }

  test('is replaced from the store behind', async () => {
    const { cache, id, calls } = await damaged(10);
    for (let i = 0; i < 2; i++) expect(Buffer.from(await cache.getBytes(id)).toString()).toBe('x'.repeat(10));
    expect(calls.getBytes).toBe(1);
    expect(cache.stats()).toMatchObject({ corrupt: 1 });
  });

  test('ends a stream with an error that says to read again, and the next read is right', async () => {
    const { cache, id } = await damaged(3_000_000);
    await expect(read(await cache.getStream(id))).rejects.toMatchObject({ kind: 'Transient', code: 'CACHE_CORRUPT' });
    expect((await read(await cache.getStream(id))).equals(Buffer.alloc(3_000_000, 'x'))).toBe(true);
  });
});

describe('what is put', () => {
  test('is in the store behind when the put resolves, and read without asking it', async () => {
    const { cache, behind, calls } = await opened();
    const id = await cache.putBytes(Buffer.from('bytes'), { contentType: 'text/plain' });
    const streamed = await cache.putStream(pieces('a ', 'stream'), { contentType: 'text/csv' });
    expect(await behind.stat(id)).toMatchObject({ contentType: 'text/plain' });
    expect(await cache.stat(streamed)).toMatchObject({ contentType: 'text/csv' });
    expect(Buffer.from(await cache.getBytes(id)).toString()).toBe('bytes');
    expect(Buffer.from(await cache.getBytes(streamed)).toString()).toBe('a stream');
    expect(calls.getBytes).toBeUndefined();
  });

  test('as a stream that fails is nowhere', async () => {
    const { cache, behind } = await opened();
    const failing = async function* () {
      yield Buffer.from('a');
      throw new Error('no more');
    };
    await expect(cache.putStream(failing())).rejects.toThrow('no more');
    await cache.settled();
    for await (const id of behind.list()) throw new Error(`${id} is there`);
    expect(cache.stats()).toMatchObject({ objects: 0, failures: 0 });
  });

  test('from a source that uses its chunk again is stored right on both sides', async () => {
    const { cache, behind } = await opened();
    const reusing = async function* () {
      const chunk = Buffer.alloc(700_000);
      for (let i = 1; i <= 5; i++) yield chunk.fill(i);
    };
    const id = await cache.putStream(reusing());
    const expected = Buffer.concat([1, 2, 3, 4, 5].map((i) => Buffer.alloc(700_000, i)));
    expect(Buffer.from(await cache.getBytes(id)).equals(expected)).toBe(true);
    expect(Buffer.from(await behind.getBytes(id)).equals(expected)).toBe(true);
  });

  test('and deleted is gone from both', async () => {
    const { cache } = await opened();
    const id = await cache.putBytes(Buffer.from('bytes'));
    expect(await cache.delete(id)).toBe(true);
    await expect(cache.getBytes(id)).rejects.toMatchObject({ code: 'OBJECT_NOT_FOUND' });
    expect(cache.stats()).toMatchObject({ objects: 0, bytes: 0 });
  });
});

describe('the bound', () => {
  test('evicts what was used least recently', async () => {
    const { cache } = await opened({ maxBytes: 30, maxObjectBytes: 10 });
    const ids: ContentId[] = [];
    for (const text of ['a', 'b', 'c']) ids.push(await cache.putBytes(Buffer.from(text.repeat(10))));
    await cache.getBytes(ids[0] as ContentId);
    await cache.putBytes(Buffer.from('d'.repeat(10)));
    await cache.settled();
    const before = cache.stats();
    expect(before).toMatchObject({ objects: 3, bytes: 30, evictions: 1 });
    await cache.getBytes(ids[0] as ContentId);
    expect(cache.stats().hits).toBe(before.hits + 1);
    await cache.getBytes(ids[1] as ContentId);
    expect(cache.stats().misses).toBe(before.misses + 1);
  });

  test('holds for what an earlier process left', async () => {
    const { root, behind } = await opened();
    const other = await FsObjectStore.open(root, { durability: 'none' });
    for (let i = 0; i < 20; i++) await other.putBytes(Buffer.alloc(10, i));
    const { cache } = await opened({ root, maxBytes: 100, maxObjectBytes: 10 }, behind);
    await cache.settled();
    expect(cache.stats()).toMatchObject({ objects: 10, bytes: 100, evictions: 10 });
    let held = 0;
    for await (const _ of other.list()) held += 1;
    expect(held).toBe(10);
  });

  test('lets larger objects pass by', async () => {
    const { cache, calls } = await opened({ maxBytes: 100, maxObjectBytes: 10 });
    const ids = [await cache.putBytes(Buffer.alloc(11)), await cache.putStream(pieces('123456', '789012'))];
    for (const id of ids) await read(await cache.getStream(id));
    for (const id of ids) await cache.getBytes(id);
    await cache.settled();
    expect(cache.stats()).toMatchObject({ objects: 0, hits: 0, failures: 0 });
    expect(calls).toMatchObject({ getBytes: 2, getStream: 2 });
  });

  test.each([[{ maxBytes: 0 }], [{ maxObjectBytes: 0 }], [{ maxBytes: 5, maxObjectBytes: 6 }], [{ maxByte: 5 }]])(
    '%j is refused',
    (options) => expect(opened(options as object)).rejects.toMatchObject({ code: 'ARGUMENT_INVALID' }),
  );
});

describe('Nothing is left under way', () => {
  test('by a stream that is cancelled before it is read: the one behind is cancelled too', async () => {
    const inner = memoryObjectStore();
    const id = await inner.putBytes(Buffer.from('abc'));
    let isCancelled = false;
    const stream = () =>
      new ReadableStream<Uint8Array>(
        {
          cancel() {
            isCancelled = true;
          },
        },
        { highWaterMark: 0 },
      );
    const behind = new Proxy(inner, {
      get: (target, name) => (name === 'getStream' ? async () => stream() : Reflect.get(target, name)),
    });
    const { cache } = await opened({}, behind);
    await (await cache.getStream(id)).cancel();
    await cache.settled();
    expect(isCancelled).toBe(true);
  });

  test('by a stream from the folder that is cancelled before it is read: its file is closed', async () => {
    const { cache } = await opened();
    const id = await cache.putBytes(Buffer.alloc(100_000, 1));
    const openFiles = () => (process.platform === 'linux' ? fs.readdirSync('/proc/self/fd').length : 0);
    const before = openFiles();
    for (let n = 0; n < 20; n++) await (await cache.getStream(id)).cancel();
    expect(openFiles()).toBeLessThan(before + 10);
  });

  test('by a put that the store behind refuses before it reads the source', async () => {
    const { cache } = await opened({}, await FsObjectStore.open(newRoot(), { maxBlobBytes: 10 }));
    const put = cache.putStream(pieces('a'.repeat(100)), { expectedSize: 100 });
    await expect(put).rejects.toMatchObject({ code: 'PAYLOAD_TOO_LARGE' });
    await cache.settled();
  });
});

test('a folder that fails is told once, and fails nothing', async () => {
  const { cache, root, warnings, behind } = await opened();
  const id = await behind.putBytes(Buffer.from('hello'));
  breakFolder(root);
  for (let i = 0; i < 3; i++) expect(Buffer.from(await cache.getBytes(id)).toString()).toBe('hello');
  expect(cache.stats().failures).toBeGreaterThan(2);
  expect(warnings).toEqual([expect.stringMatching(/^the object cache in .* could not read: .*; going on without it$/)]);
});

test('random calls on it answer as the store behind does', async () => {
  const key = fc.integer({ min: 0, max: 9 });
  const step = fc.record({ call: fc.constantFrom('put', 'putStream', 'get', 'getStream', 'delete', 'damage'), key });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
      const { cache, root } = await opened({ maxBytes: 5_000, maxObjectBytes: 1_000 });
      const bytesOf = (n: number) => Buffer.alloc(n * 150, n);
      const ids = await Promise.all(Array.from({ length: 10 }, (_, n) => memoryObjectStore().putBytes(bytesOf(n))));
      const model = new Set<number>();
      for (const { call, key: n } of steps) {
        const id = ids[n] as ContentId;
        if (call === 'put') model.add(n) && expect(await cache.putBytes(bytesOf(n))).toBe(id);
        else if (call === 'putStream')
          model.add(n) && expect(await cache.putStream(pieces(bytesOf(n).toString('latin1')))).toBeDefined();
        else if (call === 'delete') expect(await cache.delete(id)).toBe(model.delete(n));
        else if (call === 'damage') {
          if (n > 0 && fs.existsSync(blobPath(root, id)))
            fs.writeFileSync(blobPath(root, id), Buffer.alloc(n * 150, 99));
        } else {
          const reading = call === 'get' ? cache.getBytes(id) : cache.getStream(id).then(read);
          const answer = await reading.then(
            (bytes) => (bytesOf(n).equals(bytes) ? 'right' : 'wrong'),
            ({ code }) => code,
          );
          if (model.has(n)) expect(['right', 'CACHE_CORRUPT']).toContain(answer);
          else expect(answer).toBe('OBJECT_NOT_FOUND');
        }
      }
      await cache.settled();
      expect(cache.stats().bytes).toBeLessThanOrEqual(5_000);
    }),
    { numRuns: 40 },
  );
}, 60_000);

describe('the folder of the cache', () => {
  const CACHE_ROOT = { kind: 'ConfigInvalid', code: 'CACHE_ROOT' };
  const count = async (store: FsObjectStore) => {
    let n = 0;
    for await (const _ of store.list()) n += 1;
    return n;
  };

  test('has to be named: there is none that it falls back to', async () => {
    const open = (options: unknown) => CachedObjectStore.open(memoryObjectStore(), options as CachedObjectStoreOptions);
    for (const options of [{}, { maxBytes: 10 }, { root: '' }, { root: undefined }]) {
      await expect(open(options)).rejects.toMatchObject({ kind: 'SchemaViolation', code: 'ARGUMENT_INVALID' });
    }
  });

  test('is never a store that is no cache, be it empty, the one behind, or of the original system: nothing is removed', async () => {
    const root = newRoot();
    const store = await FsObjectStore.open(root, { durability: 'none' });
    const far = memoryObjectStore();
    for (const behind of [far, store]) {
      await expect(CachedObjectStore.open(behind, { root, maxBytes: 100 })).rejects.toMatchObject(CACHE_ROOT);
    }
    for (let n = 0; n < 20; n++) await store.putBytes(Buffer.alloc(100, n));
    for (const behind of [far, store]) {
      await expect(CachedObjectStore.open(behind, { root, maxBytes: 100 })).rejects.toMatchObject(CACHE_ROOT);
    }
    fs.rmSync(`${root}/store.json`);
    await expect(CachedObjectStore.open(far, { root, maxBytes: 100 })).rejects.toMatchObject(CACHE_ROOT);
    expect(await count(store)).toBe(20);
    expect(fs.existsSync(`${root}/cache.json`)).toBe(false);
  });

  test('is not the root of the store behind, though that was opened on a cache', async () => {
    const { cache, root } = await opened();
    await cache.putBytes(Buffer.from('copy'));
    const store = await FsObjectStore.open(root, { durability: 'none' });
    await expect(CachedObjectStore.open(store, { root: `${root}/.` })).rejects.toMatchObject(CACHE_ROOT);
  });

  test('is a cache again when it was one, for several that open it at once too', async () => {
    const root = newRoot();
    const { cache, behind } = await opened({ root });
    const id = await cache.putBytes(Buffer.from('copy'));
    const more = await Promise.all([1, 2, 3].map(() => CachedObjectStore.open(behind, { root })));
    for (const each of more) await each.getBytes(id);
    expect(more.map((each) => each.stats().hits)).toEqual([1, 1, 1]);
    const fresh = newRoot();
    await Promise.all([1, 2, 3].map(() => CachedObjectStore.open(behind, { root: fresh })));
  });
});

test.each(['bytes', 'stream'] as const)('what is deleted while it is fetched as %s is not kept', async (how) => {
  const far = memoryObjectStore();
  const id = await far.putBytes(Buffer.from('deleted soon'));
  let release = () => {};
  const gate = new Promise<void>((resolve) => {
    release = resolve;
  });
  const slow = new Proxy(far, {
    get(target, name: keyof ObjectStore) {
      if (name === 'getBytes') {
        return async (of: ContentId) => {
          const bytes = await target.getBytes(of);
          await gate;
          return bytes;
        };
      }
      const method = target[name] as unknown;
      return typeof method === 'function' ? method.bind(target) : method;
    },
  });
  const { cache } = await opened({}, slow);
  const begun = how === 'bytes' ? cache.getBytes(id) : read(await cache.getStream(id));
  if (how === 'bytes') await new Promise((resolve) => setImmediate(resolve));
  expect(await cache.delete(id)).toBe(true);
  const after = cache.getBytes(id);
  after.catch(() => {});
  release();
  expect(Buffer.from(await begun).toString()).toBe('deleted soon');
  await expect(after).rejects.toMatchObject({ code: 'OBJECT_NOT_FOUND' });
  await cache.settled();
  await expect(cache.getBytes(id)).rejects.toMatchObject({ code: 'OBJECT_NOT_FOUND' });
  expect(cache.stats().objects).toBe(0);
});
