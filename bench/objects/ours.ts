/** Our own store as the peers are driven, and the floor: the same system calls from a plain synchronous loop. */
import fs from 'node:fs';
import { loadBlake3 } from '../../src/adapters/cloud-local/object-store/blake3.js';
import type { IoMode } from '../../src/adapters/cloud-local/object-store/in-place.js';
import type { Durability } from '../../src/adapters/cloud-local/object-store/layout.js';
import { FsObjectStore } from '../../src/adapters/cloud-local/object-store.js';
import type { ContentId } from '../../src/contracts/ids.js';
import { type Contender, sizeOf } from './peers.js';

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
  };
}

async function* async<T>(items: Iterable<T>): AsyncGenerator<T, void, void> {
  yield* items;
}

/**
 * What a put at `none` and a verified get ask of the system, and the hash, with nothing around them: what is left to be
 * gained by better code. Streams have none.
 */
export async function openFloor(folder: string): Promise<Pick<Contender, 'name' | 'put' | 'get'>> {
  const { idOf } = await loadBlake3();
  fs.mkdirSync(`${folder}/tmp`, { recursive: true });
  const shards = new Set<string>();
  const ids: string[] = [];
  let drafts = 0;
  const write = (bytes: Buffer): string => {
    const path = `${folder}/tmp/floor-${drafts++}`;
    const fd = fs.openSync(path, 'wx');
    fs.writeSync(fd, bytes, 0, bytes.byteLength, 0);
    fs.closeSync(fd);
    return path;
  };
  const once = { throwIfNoEntry: false } as const;
  return {
    name: 'floor',
    put(n, bytes) {
      const id = idOf(bytes);
      const shard = `${folder}/${id.slice(0, 2)}/${id.slice(2, 4)}`;
      const path = `${shard}/${id}`;
      if (fs.statSync(path, once) || fs.statSync(`${folder}/gc/${id}`, once))
        throw new Error('the blobs are not fresh');
      const sidecar = JSON.stringify({ size: bytes.byteLength, contentType: null, createdAtMs: Date.now() });
      const drafted = [write(Buffer.from(sidecar)), write(bytes)] as const;
      if (!shards.has(shard)) {
        fs.mkdirSync(shard, { recursive: true });
        shards.add(shard);
      }
      fs.renameSync(drafted[0], `${path}.meta.json`);
      fs.renameSync(drafted[1], path);
      ids[n] = id;
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
