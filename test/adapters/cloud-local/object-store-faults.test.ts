import fs from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { loadBlake3 } from '../../../src/adapters/cloud-local/object-store/blake3.js';
import { DURABILITIES } from '../../../src/adapters/cloud-local/object-store/layout.js';
import { FsObjectStore, type FsObjectStoreOptions } from '../../../src/adapters/cloud-local/object-store.js';
import type { ContentId } from '../../../src/contracts/ids.js';
import { blobPath, draftName, drafts, type Fault, newRoot, recordedFiles, sidecarPath } from './object-store-kit.js';

const MIB = 1_048_576;
const IO = ['sync', 'async'] as const;

/** A store whose file calls are recorded, and fail as `fault` says once `arm()` was called. */
async function recorded(options: FsObjectStoreOptions, fault: Fault = () => undefined, root = newRoot()) {
  let isArmed = false;
  const { files, log, openMax } = recordedFiles((call, path) => (isArmed ? fault(call, path) : undefined));
  const store = await FsObjectStore.open(root, options, { files });
  log.length = 0;
  return {
    root,
    store,
    log,
    openMax,
    arm: () => {
      isArmed = true;
    },
    disarm: () => {
      isArmed = false;
    },
  };
}

/** The calls that make things durable or visible, drafts by what they become. */
function milestones(log: readonly string[], root: string, id: ContentId): string[] {
  const seen: string[] = [];
  const named = new Map([
    [blobPath(root, id), 'blob'],
    [sidecarPath(root, id), 'sidecar'],
    [join(blobPath(root, id), '..'), 'shard'],
    [join(blobPath(root, id), '../..'), 'outer'],
    [root, 'root'],
  ]);
  for (const entry of log) {
    const [call = '', path = ''] = entry.split(' ');
    const isMilestone = call === '<fdatasync' || call === '<fsync' || call === '>rename';
    if (isMilestone) seen.push(`${call.slice(1)} ${named.get(path) ?? 'draft'}`);
  }
  return seen;
}

describe.each(IO)('what is synced before a put resolves (io %s)', (io) => {
  /** The drafts, and the names of folders just made, are synced at the same time. */
  const firstSynced = ['fdatasync draft', 'fdatasync draft', 'fsync outer', 'fsync root'];

  test('full: both drafts and the folders above, then sidecar before blob are renamed, then the folder is synced', async () => {
    const { store, root, log } = await recorded({ io, durability: 'full' });
    const id = await store.putBytes(Buffer.from('a'));
    const seen = milestones(log, root, id);
    expect(seen.slice(0, 4).sort()).toEqual(firstSynced);
    expect(seen.slice(4)).toEqual(['rename sidecar', 'rename blob', 'fsync shard']);
  });

  test('full: a stream’s draft too', async () => {
    const { store, root, log } = await recorded({ io, durability: 'full' });
    const id = await store.putStream(new Blob([Buffer.alloc(3 * MIB)]).stream());
    const seen = milestones(log, root, id);
    expect(seen.slice(0, 4).sort()).toEqual(firstSynced);
    expect(seen.slice(4)).toEqual(['rename sidecar', 'rename blob', 'fsync shard']);
  });

  test('full: folders known to be durable are not synced again', async () => {
    const { store, root, log } = await recorded({ io, durability: 'full' });
    const [first, sameOuter, sameShard] = await neighbours();
    await store.putBytes(first);
    log.length = 0;
    const second = await store.putBytes(sameOuter);
    const folders = (id: ContentId) => milestones(log, root, id).filter((call) => call.startsWith('fsync'));
    expect(folders(second)).toEqual(['fsync outer', 'fsync shard']);
    log.length = 0;
    const third = await store.putBytes(sameShard);
    expect(folders(third)).toEqual(['fsync shard']);
  });

  test('data: the blob’s draft alone; none: nothing', async () => {
    const data = await recorded({ io, durability: 'data' });
    const id = await data.store.putBytes(Buffer.from('a'));
    expect(milestones(data.log, data.root, id)).toEqual(['fdatasync draft', 'rename sidecar', 'rename blob']);
    const none = await recorded({ io, durability: 'none' });
    await none.store.putBytes(Buffer.from('a'));
    expect(milestones(none.log, none.root, id)).toEqual(['rename sidecar', 'rename blob']);
  });

  test('a blob that another process stored is synced when found, once; one of our own is not', async () => {
    const other = await recorded({ io, durability: 'none' });
    const id = await other.store.putBytes(Buffer.from('a'));
    const { store, root, log } = await recorded({ io, durability: 'full' }, undefined, other.root);
    const putAgain = async () => {
      log.length = 0;
      await store.putBytes(Buffer.from('a'));
      return milestones(log, root, id).sort();
    };
    const everything = ['fdatasync blob', 'fdatasync sidecar', 'fsync outer', 'fsync root', 'fsync shard'];
    expect(await putAgain()).toEqual(everything);
    expect(await putAgain()).toEqual([]);
    fs.copyFileSync(blobPath(root, id), join(root, 'tmp/other'));
    fs.renameSync(join(root, 'tmp/other'), blobPath(root, id));
    expect(await putAgain()).toEqual(['fdatasync blob', 'fdatasync sidecar', 'fsync shard']);
    await store.putBytes(Buffer.from('b'));
    log.length = 0;
    await store.putBytes(Buffer.from('b'));
    expect(milestones(log, root, id)).toEqual([]);
    const unsynced = await recorded({ io, durability: 'none' });
    await unsynced.store.putBytes(Buffer.from('a'));
    const data = await recorded({ io, durability: 'data' }, undefined, unsynced.root);
    await data.store.putBytes(Buffer.from('a'));
    expect(milestones(data.log, data.root, id)).toEqual(['fdatasync blob']);
  });

  test.each(DURABILITIES)(
    'a put of what was just put asks one thing: whether the blob is that one still (%s)',
    async (durability) => {
      const { store, root, log } = await recorded({ io, durability });
      const id = await store.putBytes(Buffer.from('a'));
      // At `none` nothing is known of a blob before it is met again.
      await store.putBytes(Buffer.from('a'));
      log.length = 0;
      await store.putBytes(Buffer.from('a'));
      expect(log).toEqual([`>stat ${blobPath(root, id)}`, `<stat ${blobPath(root, id)}`]);
    },
  );

  test('full: the root’s own parents when they are made, and the name taken away by delete', async () => {
    const parent = newRoot();
    const root = join(parent, 'a/b');
    const { files, log } = recordedFiles();
    const store = await FsObjectStore.open(root, { io }, { files });
    for (const folder of [root, join(parent, 'a'), parent, join(parent, '..')]) {
      expect(log).toContain(`<fsync ${folder}`);
    }
    const id = await store.putBytes(Buffer.from('a'));
    log.length = 0;
    await store.delete(id);
    const calls = log.filter((entry) => /^<(unlink|fsync)/.test(entry));
    const [blob, sidecar] = [blobPath(root, id), sidecarPath(root, id)];
    expect(calls).toEqual([`<unlink ${blob}`, `<unlink ${sidecar}`, `<fsync ${join(blob, '..')}`]);
  });

  test('syncs of puts at the same time overlap, and those of one folder are shared', async () => {
    let open = () => {};
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    let held = 0;
    const { store, arm, log, root } = await recorded({ io, durability: 'full' }, (call) => {
      if (call !== 'fdatasync') return undefined;
      // Two drafts of each of eight puts: all are being synced before the first one is done.
      if (++held === 16) open();
      return gate;
    });
    arm();
    await Promise.all(Array.from({ length: 8 }, (_, n) => store.putBytes(Buffer.from([n]))));
    expect(log.filter((entry) => entry === `<fsync ${root}`).length).toBeLessThan(8);
  });

  test('folders are synced in rounds: one asked for meanwhile waits for the next, and is then synced', async () => {
    let open = () => {};
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    const [first, sameOuter] = await neighbours();
    const { store, log, root, arm } = await recorded({ io, durability: 'full' }, (call, path) =>
      call === 'fsync' && path === join(blobPath(root, one), '..') ? gate : undefined,
    );
    const [one, other] = [await store.putBytes(first), await store.putBytes(sameOuter)];
    for (const id of [one, other]) await store.delete(id);
    const logged = async (entry: string) => {
      while (!log.includes(entry)) await new Promise((resolve) => setTimeout(resolve, 5));
    };
    log.length = 0;
    arm();
    const putting = [store.putBytes(first)];
    await logged(`>fsync ${join(blobPath(root, one), '..')}`);
    putting.push(store.putBytes(sameOuter));
    await logged(`<rename ${blobPath(root, other)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(log).not.toContain(`>fsync ${join(blobPath(root, other), '..')}`);
    open();
    await Promise.all(putting);
    expect(log).toContain(`<fsync ${join(blobPath(root, other), '..')}`);
  });

  test('a folder’s sync that fails fails the puts into it, and no other of its round', async () => {
    const [a, b] = [Buffer.from('a'), Buffer.from('b')];
    const broken = await (await recorded({ io }, undefined)).store.putBytes(a);
    const { store, arm } = await recorded({ io, durability: 'full' }, (call, path) =>
      call === 'fsync' && path.endsWith(`/${broken.slice(0, 2)}/${broken.slice(2, 4)}`) ? 'EIO' : undefined,
    );
    arm();
    const [first, second] = await Promise.allSettled([store.putBytes(a), store.putBytes(b)]);
    expect(first).toMatchObject({ status: 'rejected', reason: { kind: 'Transient', context: { errno: 'EIO' } } });
    expect(second).toMatchObject({ status: 'fulfilled' });
  });
});

const faults: [call: string, errno: string, kind: string, what: string][] = [
  ['write', 'ENOSPC', 'Transient', 'the disk is full'],
  ['write', 'EIO', 'Transient', 'EIO'],
  ['fdatasync', 'EIO', 'Transient', 'sync'],
  ['fdatasync', 'ENOSPC', 'Transient', 'the disk is full'],
  ['close', 'EIO', 'Transient', 'close'],
  ['mkdir', 'EACCES', 'ConfigInvalid', 'this user may not access it'],
  ['mkdir', 'ENOSPC', 'Transient', 'the disk is full'],
  ['open', 'EMFILE', 'Transient', 'ulimit'],
  ['open', 'EROFS', 'ConfigInvalid', 'read-only'],
  ['rename', 'EIO', 'Transient', 'rename'],
  ['rename', 'ENOENT', 'Internal', 'rename'],
  ['stat', 'EACCES', 'ConfigInvalid', 'look at'],
];

describe.each(IO)('a failing call leaves nothing visible and is named (io %s)', (io) => {
  test.each(faults)('%s: %s is %s', async (call, errno, kind, what) => {
    const { store, root, arm, disarm } = await recorded({ io, durability: 'full' }, (made) =>
      made === call ? errno : undefined,
    );
    const sizes = [100, 100_000, 3 * MIB];
    for (const size of sizes) {
      const puts = [
        () => store.putBytes(Buffer.alloc(size, 1)),
        () => store.putStream(new Blob([Buffer.alloc(size, 1)]).stream()),
      ];
      for (const put of puts) {
        arm();
        await expect(put()).rejects.toMatchObject({ kind, context: { errno }, message: expect.stringContaining(what) });
        disarm();
        expect(await listed(store)).toEqual([]);
        expect(drafts(root)).toEqual([]);
      }
    }
    for (const size of sizes) await store.putBytes(Buffer.alloc(size, 1));
    expect(await listed(store)).toHaveLength(sizes.length);
  });

  test('the sidecar’s draft failing leaves no blob', async () => {
    let writes = 0;
    const { store, root, arm } = await recorded({ io }, (call) =>
      call === 'write' && ++writes === 2 ? 'EIO' : undefined,
    );
    arm();
    await expect(store.putBytes(Buffer.from('a'))).rejects.toMatchObject({ kind: 'Transient' });
    expect(await listed(store)).toEqual([]);
    expect(drafts(root)).toEqual([]);
  });

  test('the folder’s sync failing fails the put, keeps the blob for whoever found it, and is tried again', async () => {
    const { store, root, log, arm, disarm } = await recorded({ io }, (call, path) =>
      call === 'fsync' && /\/[0-9a-f]{2}\/[0-9a-f]{2}$/.test(path) ? 'EIO' : undefined,
    );
    arm();
    await expect(store.putBytes(Buffer.from('a'))).rejects.toMatchObject({ kind: 'Transient', code: 'IO_ERROR' });
    await expect(store.putBytes(Buffer.from('a'))).rejects.toMatchObject({ kind: 'Transient', code: 'IO_ERROR' });
    disarm();
    log.length = 0;
    const id = await store.putBytes(Buffer.from('a'));
    expect(milestones(log, root, id).sort()).toEqual(['fdatasync blob', 'fdatasync sidecar', 'fsync shard']);
    expect(Buffer.from(await store.getBytes(id)).toString()).toBe('a');
  });

  test('a file system that cannot sync folders is taken as it is', async () => {
    const { files } = recordedFiles((call) => (call === 'fsync' ? 'EINVAL' : undefined));
    const store = await FsObjectStore.open(newRoot(), { io }, { files });
    expect(await store.exists(await store.putBytes(Buffer.from('a')))).toBe(true);
  });

  test('folders above the root that may not be read are passed over, those that fail to sync are not', async () => {
    const parent = newRoot();
    const above = (errno: string) =>
      recordedFiles((call, path) => (call === 'open' && path === '/' ? errno : undefined));
    await FsObjectStore.open(join(parent, 'a'), { io }, { files: above('EACCES').files });
    const failing = FsObjectStore.open(join(parent, 'b'), { io }, { files: above('EIO').files });
    await expect(failing).rejects.toMatchObject({ kind: 'Transient' });
  });

  test('a found blob that cannot be made durable fails the put, and is found again', async () => {
    const other = await recorded({ io, durability: 'none' });
    await other.store.putBytes(Buffer.from('a'));
    const { store, arm, disarm } = await recorded(
      { io },
      (call) => (call === 'fdatasync' ? 'EIO' : undefined),
      other.root,
    );
    arm();
    await expect(store.putBytes(Buffer.from('a'))).rejects.toMatchObject({ kind: 'Transient', code: 'IO_ERROR' });
    disarm();
    await store.putBytes(Buffer.from('a'));
  });

  test('the first failure is the one reported, though the draft cannot be removed either', async () => {
    const { store, root, arm } = await recorded({ io }, (call) => {
      if (call === 'write') return 'ENOSPC';
      return call === 'unlink' ? 'EPERM' : undefined;
    });
    arm();
    await expect(store.putBytes(Buffer.from('a'))).rejects.toMatchObject({ context: { errno: 'ENOSPC' } });
    expect(await listed(store)).toEqual([]);
    expect(drafts(root)).toHaveLength(1);
  });

  test('a read that fails is named, for getBytes and getStream; stat does without the sidecar', async () => {
    const { store, arm } = await recorded({ io }, (call) => (call === 'read' ? 'EIO' : undefined));
    const id = await store.putBytes(Buffer.alloc(3 * MIB));
    arm();
    const fault = { kind: 'Transient', message: expect.stringMatching(/could not read .*: EIO/) };
    await expect(store.getBytes(id)).rejects.toMatchObject(fault);
    await expect((await store.getStream(id)).getReader().read()).rejects.toMatchObject(fault);
    // A sidecar that cannot be read costs the content type alone.
    expect(await store.stat(id)).toMatchObject({ size: 3 * MIB, contentType: null });
  });

  test('a file that cannot be looked at once open is closed again', async () => {
    const { store, log, arm } = await recorded({ io }, (call) => (call === 'fstat' ? 'EIO' : undefined));
    const id = await store.putBytes(Buffer.alloc(100_000));
    arm();
    log.length = 0;
    await expect(store.getBytes(id)).rejects.toMatchObject({ kind: 'Transient' });
    await expect(store.getStream(id)).rejects.toMatchObject({ kind: 'Transient' });
    expect(log.filter((entry) => entry.startsWith('<open'))).toHaveLength(2);
    expect(log.filter((entry) => entry.startsWith('<close'))).toHaveLength(2);
  });

  test('a folder that is taken away between mkdir and rename is made again, once', async () => {
    const root = newRoot();
    let taken = 0;
    const { store, arm } = await recorded(
      { io, durability: 'none' },
      (call, path) => {
        if (call === 'rename' && taken++ === 0) fs.rmSync(join(path, '../..'), { recursive: true });
        return undefined;
      },
      root,
    );
    arm();
    const id = await store.putBytes(Buffer.from('a'));
    expect(await store.exists(id)).toBe(true);
    expect(taken).toBe(3);
  });

  test('a blob that is deleted between being found and being synced is put anew', async () => {
    const root = newRoot();
    const id = await (await FsObjectStore.open(root)).putBytes(Buffer.from('a'));
    const { store, arm } = await recorded(
      { io },
      (call, path) => {
        if (call === 'open' && path === blobPath(root, id)) fs.rmSync(path, { force: true });
        return undefined;
      },
      root,
    );
    arm();
    await store.putBytes(Buffer.from('a'));
    expect(fs.readFileSync(blobPath(root, id), 'utf8')).toBe('a');
  });

  test('an open that fails names the folder, and one whose drafts cannot be swept goes on', async () => {
    const failing = recordedFiles((call) => (call === 'mkdir' ? 'EACCES' : undefined));
    const root = newRoot();
    await expect(FsObjectStore.open(root, { io }, { files: failing.files })).rejects.toMatchObject({
      kind: 'ConfigInvalid',
      code: 'IO_DENIED',
      message: expect.stringContaining(`could not make the folder ${root}/tmp: EACCES`),
    });
    const full = recordedFiles((call) => (call === 'write' ? 'ENOSPC' : undefined));
    await expect(FsObjectStore.open(root, { io }, { files: full.files })).rejects.toMatchObject({ kind: 'Transient' });
    expect(fs.readdirSync(root)).toEqual(['tmp']);
    expect(drafts(root)).toEqual([]);
    fs.writeFileSync(join(root, 'tmp', draftName('old')), '');
    fs.utimesSync(join(root, 'tmp', draftName('old')), 0, 0);
    const unsweepable = recordedFiles((call) => (call === 'unlink' ? 'EPERM' : undefined));
    await FsObjectStore.open(root, { io }, { files: unsweepable.files });
    expect(drafts(root)).toEqual([draftName('old')]);
  });
});

describe('an abort on the way', () => {
  const reason = new Error('enough');

  test('before the commit point leaves nothing visible, and no draft', async () => {
    const aborting = new AbortController();
    const { store, root, arm } = await recorded({ io: 'async' }, (call) => {
      if (call === 'fdatasync') aborting.abort(reason);
      return undefined;
    });
    arm();
    const put = store.putBytes(Buffer.alloc(100_000), { signal: aborting.signal });
    await expect(put).rejects.toBe(reason);
    expect(await listed(store)).toEqual([]);
    expect(drafts(root)).toEqual([]);
  });

  test('ends the writing, reading and hashing of large buffers', async () => {
    for (const during of ['write', 'read'] as const) {
      const aborting = new AbortController();
      const { store, root, log, arm } = await recorded({ io: 'async', durability: 'none' }, (call) => {
        if (call === during) aborting.abort(reason);
        return undefined;
      });
      const bytes = Buffer.alloc(8 * MIB);
      const id = during === 'read' ? await store.putBytes(bytes) : null;
      arm();
      log.length = 0;
      const { signal } = aborting;
      const call = id === null ? store.putBytes(bytes, { signal }) : store.getBytes(id, { signal });
      await expect(call).rejects.toBe(reason);
      expect(log.filter((entry) => entry.startsWith(`>${during}`))).toHaveLength(1);
      expect(drafts(root)).toEqual([]);
    }
    const store = await FsObjectStore.open(newRoot());
    const aborting = new AbortController();
    const put = store.putBytes(Buffer.alloc(64 * MIB), { signal: aborting.signal });
    setImmediate(() => aborting.abort(reason));
    await expect(put).rejects.toBe(reason);
    expect(await listed(store)).toEqual([]);
  });
});

async function listed(store: FsObjectStore): Promise<string[]> {
  const ids: string[] = [];
  for await (const id of store.list()) ids.push(id);
  return ids;
}

/** Three contents: the second in the outer folder of the first, the third in its shard. */
async function neighbours(): Promise<[Buffer, Buffer, Buffer]> {
  const { idOf } = await loadBlake3();
  const first = Buffer.from('0');
  const like = (length: number, from: number) => {
    for (let n = from; ; n++) {
      const bytes = Buffer.from(String(n));
      if (idOf(bytes).slice(0, length) === idOf(first).slice(0, length)) return bytes;
    }
  };
  const sameShard = like(4, 1);
  for (let n = 1; ; n++) {
    const sameOuter = like(2, n);
    if (idOf(sameOuter).slice(0, 4) !== idOf(first).slice(0, 4)) return [first, sameOuter, sameShard];
    n = Number(sameOuter.toString());
  }
}
