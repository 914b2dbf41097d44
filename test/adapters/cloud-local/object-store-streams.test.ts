import fs from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { Disk } from '../../../src/adapters/cloud-local/object-store/disk.js';
import { FsObjectStore } from '../../../src/adapters/cloud-local/object-store.js';
import type { ContentId } from '../../../src/contracts/ids.js';
import { blobPath, drafts, newRoot, recordedFiles } from './object-store-kit.js';

const MIB = 1_048_576;

describe('bounds', () => {
  test('a stream is read a block ahead of its reader, and nothing before it is asked for', async () => {
    const { files, log } = recordedFiles();
    const store = await FsObjectStore.open(newRoot(), { durability: 'none' }, { files });
    const id = await store.putBytes(Buffer.alloc(20 * MIB));
    log.length = 0;
    const reads = () => log.filter((entry) => entry.startsWith('>read ')).length;
    const reader = (await store.getStream(id)).getReader();
    await turns(20);
    expect(reads()).toBe(0);
    for (let n = 1; n <= 3; n++) {
      const { value } = await reader.read();
      expect(value?.byteLength).toBe(MIB);
      await turns(20);
      expect(reads()).toBe(n + 1);
    }
    await reader.cancel();
  });

  test.each([300_000, MIB, 3 * MIB])(
    'for a reader’s own buffer of %d bytes, the memory of two blocks takes turns',
    async (size) => {
      const memory = new Set<ArrayBufferLike>();
      const { files } = recordedFiles();
      const watched = new Proxy(files, {
        get: (of, name) =>
          name !== 'read'
            ? Reflect.get(of, name)
            : (...args: Parameters<typeof fs.read>) => {
                memory.add((args[1] as unknown as Uint8Array).buffer);
                return of.read(...args);
              },
      });
      const store = await FsObjectStore.open(newRoot(), { durability: 'none' }, { files: watched });
      const id = await store.putBytes(Buffer.alloc(12 * MIB + 7, 5));
      const reader = (await store.getStream(id)).getReader({ mode: 'byob' });
      let received = 0;
      for (let buffer = new Uint8Array(size); ; ) {
        const { done, value } = await reader.read(buffer);
        if (done) break;
        received += value.byteLength;
        buffer = new Uint8Array(value.buffer);
      }
      expect(received).toBe(12 * MIB + 7);
      // The first block, of 7 bytes, is read in place.
      expect(memory.size).toBe(2);
    },
  );

  test('a source is not pulled further while a write is stuck', async () => {
    let release = () => {};
    const stuck = new Promise<void>((resolve) => {
      release = resolve;
    });
    let isArmed = false;
    const { files } = recordedFiles((call) => (isArmed && call === 'write' ? stuck : undefined));
    const store = await FsObjectStore.open(newRoot(), { durability: 'none' }, { files });
    isArmed = true;
    let pulled = 0;
    async function* source() {
      for (; pulled < 40; pulled++) yield new Uint8Array(MIB / 2);
    }
    const put = store.putStream(source());
    await turns(50);
    expect(pulled).toBeLessThanOrEqual(4);
    release();
    expect((await store.getBytes(await put)).byteLength).toBe(20 * MIB);
  });

  test('hundreds of puts and gets at once hold a bounded number of files open', async () => {
    const { files, openMax } = recordedFiles();
    const store = await FsObjectStore.open(newRoot(), { durability: 'data', io: 'async' }, { files });
    const all = Array.from({ length: 400 }, (_, n) => Buffer.from(`blob ${n}`));
    const ids = await Promise.all(all.map((bytes) => store.putBytes(bytes)));
    await Promise.all(ids.map((id) => store.getBytes(id)));
    expect(openMax()).toBeGreaterThan(10);
    expect(openMax()).toBeLessThanOrEqual(64 * 3);
  });

  test('an object that fits in no buffer is refused by getBytes, and streamed', async () => {
    const root = newRoot();
    const store = await FsObjectStore.open(root, { durability: 'none' });
    const id = await store.putBytes(Buffer.from('a'));
    // A sparse file of 8 TiB: no disk holds it, no memory either.
    fs.truncateSync(blobPath(root, id), 2 ** 43);
    const refused = {
      kind: 'SchemaViolation',
      code: 'PAYLOAD_TOO_LARGE',
      message: expect.stringContaining('getStream'),
    };
    await expect(store.getBytes(id)).rejects.toMatchObject(refused);
    const reader = (await store.getStream(id)).getReader();
    expect((await reader.read()).value?.byteLength).toBe(MIB);
    await reader.cancel();
  });

  test('what is put small is written without a draft being kept: a stream that fits a block is hashed first', async () => {
    const { files, log } = recordedFiles();
    const store = await FsObjectStore.open(newRoot(), { durability: 'none' }, { files });
    const id = await store.putBytes(Buffer.alloc(1_000));
    log.length = 0;
    expect(await store.putStream(new Blob([Buffer.alloc(1_000)]).stream())).toBe(id);
    expect(log.filter((entry) => entry.startsWith('>open') && entry.includes('rollout-draft-'))).toEqual([]);
    // A stream that fits no block is not known before its end.
    expect(await store.putStream(new Blob([Buffer.alloc(2 * MIB)]).stream())).not.toBe(id);
    expect(log.some((entry) => entry.startsWith('>open') && entry.includes('rollout-draft-'))).toBe(true);
  });
});

describe('files are closed', () => {
  const linux = process.platform === 'linux' ? test : test.skip;
  const openFiles = (root: string) =>
    fs.readdirSync('/proc/self/fd').filter((fd) => {
      try {
        return fs.readlinkSync(`/proc/self/fd/${fd}`).startsWith(root);
      } catch {
        return false;
      }
    }).length;

  linux('after reads, cancels, aborts, failures and puts of every kind (Linux: counts /proc/self/fd)', async () => {
    const root = newRoot();
    const store = await FsObjectStore.open(root);
    const id = await store.putStream(new Blob([Buffer.alloc(5 * MIB, 1)]).stream());
    const corrupt = await store.putBytes(Buffer.alloc(5 * MIB, 2));
    fs.truncateSync(blobPath(root, corrupt), 4 * MIB);
    const aborting = new AbortController();

    for await (const _ of await store.getStream(id));
    for await (const _ of await store.getStream(id, { range: { start: 5, end: 3 * MIB } }));
    for await (const _ of await store.getStream(id)) break;
    await (await store.getStream(id)).cancel();
    const cancelled = (await store.getStream(id)).getReader();
    const pending = cancelled.read();
    await cancelled.cancel();
    await pending;
    const aborted = (await store.getStream(id, { signal: aborting.signal })).getReader();
    const untouched = await store.getStream(id, { signal: aborting.signal });
    await aborted.read();
    aborting.abort();
    await expect(aborted.read()).rejects.toBe(aborting.signal.reason);
    await expect(untouched.getReader().read()).rejects.toBe(aborting.signal.reason);
    for (const end of ['cancel', 'abort'] as const) {
      const ending = new AbortController();
      const into = (await store.getStream(id, { signal: ending.signal })).getReader({ mode: 'byob' });
      await into.read(new Uint8Array(MIB));
      const underWay = into.read(new Uint8Array(MIB));
      if (end === 'abort') ending.abort();
      else await into.cancel();
      if (end === 'abort') await expect(underWay).rejects.toBe(ending.signal.reason);
      else expect(await underWay).toMatchObject({ done: true });
    }
    await expect(store.getBytes(corrupt)).rejects.toThrow('object corrupt');
    await expect((await store.getStream(corrupt, { range: { start: 0 } })).pipeTo(new WritableStream())).resolves.toBe(
      undefined,
    );
    await expect((await store.getStream(corrupt)).pipeTo(new WritableStream())).rejects.toThrow('object corrupt');
    await expect(store.getBytes(id, { range: { start: 6 * MIB } })).rejects.toThrow('options.range.start');
    await expect(store.getStream(id, { range: { start: 6 * MIB } })).rejects.toThrow('options.range.start');
    async function* breaking() {
      yield Buffer.alloc(3 * MIB, 3);
      throw new Error('broke');
    }
    await expect(store.putStream(breaking())).rejects.toThrow('broke');
    await until(() => openFiles(root) === 0);
    expect(drafts(root)).toEqual([]);
  });
});

describe('calls in place', () => {
  let nowMs = 0;
  /** The real calls, counted; those in place take `slowMs` by a clock of their own. */
  const counted = (slowMs: number) => {
    jest.spyOn(performance, 'now').mockImplementation(() => nowMs);
    const counts = { stat: 0, statSync: 0 };
    const files = {
      ...fs,
      statSync: ((path: string, options: object) => {
        counts.statSync += 1;
        nowMs += slowMs;
        return fs.statSync(path, options);
      }) as typeof fs.statSync,
      stat: ((path: string, done: () => void) => {
        counts.stat += 1;
        fs.stat(path, done);
      }) as typeof fs.stat,
    };
    return { files, counts };
  };
  afterEach(() => {
    jest.restoreAllMocks();
  });
  const path = newRoot();
  beforeAll(() => fs.writeFileSync(path, ''));
  afterAll(() => fs.rmSync(path));

  test('auto: a caller that never lets the event loop turn is made to', async () => {
    const disk = new Disk('auto');
    let turned = false;
    setImmediate(() => {
      turned = true;
    });
    // Without a bound this loop would run to its end within one turn: every await finds its value there.
    for (let n = 0; n < 200_000 && !turned; n++) await disk.stat(path);
    expect(turned).toBe(true);
  });

  test('auto: once a turn’s time is spent the rest is made in later turns, in order', async () => {
    const { files, counts } = counted(1);
    const disk = new Disk('auto', files);
    const done: number[] = [];
    const calls = Array.from({ length: 5 }, async (_, n) => {
      await disk.stat(path);
      done.push(n);
    });
    const inTurns = [counts.statSync];
    while (done.length < calls.length) {
      await new Promise((resolve) => setImmediate(resolve));
      inTurns.push(counts.statSync);
    }
    expect(inTurns).toEqual([2, 4, 5]);
    expect(done).toEqual([0, 1, 2, 3, 4]);
    expect(counts.stat).toBe(0);
  });

  test('auto: what waits for a turn fails as it should', async () => {
    const disk = new Disk('auto', counted(3).files);
    const [, missing] = await Promise.allSettled([disk.stat(path), disk.stat('\0')]);
    expect(missing).toMatchObject({ status: 'rejected', reason: { kind: 'Internal' } });
  });

  test('auto: the pool has the calls for a while once they are slow on average, not after a few stalls', async () => {
    const { files, counts } = counted(9);
    const disk = new Disk('auto', files);
    for (let n = 0; n < 14; n++) {
      await disk.stat(path);
      await turns(1);
    }
    expect(counts).toEqual({ statSync: 10, stat: 4 });
    nowMs += 1_000;
    await disk.stat(path);
    expect(counts).toEqual({ statSync: 11, stat: 4 });
  });

  test('sync: every small call, however long they take; async: none', async () => {
    const sync = counted(6);
    const disk = new Disk('sync', sync.files);
    for (let n = 0; n < 3; n++) await disk.stat(path);
    expect(sync.counts).toEqual({ statSync: 3, stat: 0 });
    const pooled = counted(0);
    const pooledDisk = new Disk('async', pooled.files);
    for (let n = 0; n < 3; n++) await pooledDisk.stat(path);
    expect(pooled.counts).toEqual({ statSync: 0, stat: 3 });
  });

  test.each(['sync', 'async'] as const)('short writes and reads are gone on with (io %s)', async (io) => {
    const cut = (length: number) => Math.max(1, Math.floor(length / 3));
    const files = {
      ...fs,
      writeSync: ((fd: number, bytes: Uint8Array, from: number, length: number, at: number) =>
        fs.writeSync(fd, bytes, from, cut(length), at)) as typeof fs.writeSync,
      write: ((fd: number, bytes: Uint8Array, from: number, length: number, at: number, done: () => void) =>
        fs.write(fd, bytes, from, cut(length), at, done)) as typeof fs.write,
      readSync: ((fd: number, bytes: Uint8Array, from: number, length: number, at: number) =>
        fs.readSync(fd, bytes, from, cut(length), at)) as typeof fs.readSync,
      read: ((fd: number, bytes: Uint8Array, from: number, length: number, at: number, done: () => void) =>
        fs.read(fd, bytes, from, cut(length), at, done)) as typeof fs.read,
    };
    const store = await FsObjectStore.open(newRoot(), { io, durability: 'none' }, { files });
    for (const size of [10, 50_000, 2 * MIB + 9]) {
      const bytes = Buffer.alloc(size, 5);
      const id: ContentId = await store.putBytes(bytes);
      expect(Buffer.compare(await store.getBytes(id), bytes)).toBe(0);
      const chunks: Uint8Array[] = [];
      for await (const chunk of await store.getStream(id)) chunks.push(chunk);
      expect(Buffer.compare(Buffer.concat(chunks), bytes)).toBe(0);
    }
  });
});

/** Lets the event loop turn, so that whatever can go on has gone on. */
async function turns(count: number): Promise<void> {
  for (let n = 0; n < count; n++) await new Promise((resolve) => setTimeout(resolve, 2));
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await turns(1);
}
