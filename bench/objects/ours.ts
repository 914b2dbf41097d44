/** Our own store as the peers are driven, and the floor: the same system calls from a plain synchronous loop. */
import fs from 'node:fs';
import { promisify } from 'node:util';
import { loadBlake3 } from '../../src/adapters/cloud-local/object-store/blake3.js';
import type { IoMode } from '../../src/adapters/cloud-local/object-store/in-place.js';
import type { Durability } from '../../src/adapters/cloud-local/object-store/layout.js';
import { FsObjectStore } from '../../src/adapters/cloud-local/object-store.js';
import type { ContentId } from '../../src/contracts/ids.js';
import { type Contender, sizeOf } from './peers.js';

const MIB = 1_048_576;

export async function openOurs(
  folder: string,
  durability: Durability,
  io: IoMode = 'auto',
): Promise<Contender & { store: FsObjectStore }> {
  const store = await FsObjectStore.open(folder, { durability, io });
  const ids: ContentId[] = [];
  const id = (n: number) => ids[n] as ContentId;
  return {
    name: `rollout-cloud, ${durability}`,
    store,
    put: async (n, bytes) => {
      ids[n] = await store.putBytes(bytes);
    },
    get: (n) => store.getBytes(id(n)),
    putStream: async (n, chunks) => {
      ids[n] = await store.putStream(async(chunks()));
    },
    getStream: async (n) => sizeOf(await store.getStream(id(n))),
    getStreamInto: async (n) => {
      const reader = (await store.getStream(id(n))).getReader({ mode: 'byob' });
      let size = 0;
      for (let buffer = new Uint8Array(MIB); ; ) {
        const { done, value } = await reader.read(buffer);
        if (done) return size;
        size += value.byteLength;
        buffer = new Uint8Array(value.buffer);
      }
    },
  };
}

async function* async<T>(items: Iterable<T>): AsyncGenerator<T, void, void> {
  yield* items;
}

const once = { throwIfNoEntry: false } as const;

interface Drafted {
  readonly path: string;
  readonly fd: number;
}

/**
 * What a put and a verified get ask of the system, and the hash, with nothing around them: what is left to be gained by
 * better code. At `full` with the syncs, in the order that they are promised in, each wave of them at once. Streams have
 * none.
 */
export async function openFloor(
  folder: string,
  durability: 'none' | 'full' = 'none',
): Promise<Pick<Contender, 'name' | 'put' | 'get'>> {
  const { idOf } = await loadBlake3();
  fs.mkdirSync(`${folder}/tmp`, { recursive: true });
  const shards = new Set<string>();
  const ids: string[] = [];
  let drafts = 0;
  const write = (bytes: Buffer): Drafted => {
    const path = `${folder}/tmp/floor-${drafts++}`;
    const fd = fs.openSync(path, 'wx');
    fs.writeSync(fd, bytes, 0, bytes.byteLength, 0);
    return { path, fd };
  };
  /** Begins a put, and returns what ends it. */
  const begin = (n: number, bytes: Buffer) => {
    const id = idOf(bytes);
    const outer = `${folder}/${id.slice(0, 2)}`;
    const shard = `${outer}/${id.slice(2, 4)}`;
    const path = `${shard}/${id}`;
    if (fs.statSync(path, once) || fs.statSync(`${folder}/gc/${id}`, once)) throw new Error('the blobs are not fresh');
    const sidecar = JSON.stringify({ size: bytes.byteLength, contentType: null, createdAtMs: Date.now() });
    const drafted = [write(Buffer.from(sidecar)), write(bytes)] as const;
    const isNew = !shards.has(shard);
    if (isNew) {
      fs.mkdirSync(shard, { recursive: true });
      shards.add(shard);
    }
    const end = () => {
      for (const { fd } of drafted) fs.closeSync(fd);
      fs.renameSync(drafted[0].path, `${path}.meta.json`);
      fs.renameSync(drafted[1].path, path);
      ids[n] = id;
    };
    return { fds: drafted.map(({ fd }) => fd), folders: isNew ? [shard, outer] : [shard], end };
  };
  return {
    name: durability === 'none' ? 'floor' : 'floor, full',
    put(n, bytes) {
      const { fds, folders, end } = begin(n, bytes);
      if (durability === 'none') return end();
      return (async () => {
        await Promise.all(fds.map((fd) => datasync(fd)));
        end();
        await Promise.all(folders.map(syncFolder));
      })();
    },
    get(n) {
      const id = ids[n] as string;
      const fd = fs.openSync(`${folder}/${id.slice(0, 2)}/${id.slice(2, 4)}/${id}`, 'r');
      const bytes = Buffer.allocUnsafeSlow(fs.fstatSync(fd).size);
      fs.readSync(fd, bytes, 0, bytes.byteLength, 0);
      fs.closeSync(fd);
      if (idOf(bytes) !== id) throw new Error('read back other bytes');
      return bytes;
    },
  };
}

const datasync = promisify(fs.fdatasync);
const sync = promisify(fs.fsync);

async function syncFolder(path: string): Promise<void> {
  const fd = fs.openSync(path, 'r');
  await sync(fd);
  fs.closeSync(fd);
}
