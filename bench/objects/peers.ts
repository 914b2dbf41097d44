/** What the object store is measured beside, each behind the same few calls, used as its own documentation says. */
import { mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';

/** A store under measurement. `n` names a blob: what was put under it is what `get` is asked for. */
export interface Contender {
  readonly name: string;
  put(n: number, bytes: Buffer): unknown;
  get(n: number): unknown;
  putStream(n: number, chunks: () => Iterable<Buffer>): Promise<unknown>;
  /** Reads all of it, and resolves to its size. */
  getStream(n: number): Promise<number>;
  /** The same by way of one buffer of the reader's own, where that can be asked for. */
  getStreamInto?(n: number): Promise<number>;
}

/** Peers by name; one that is not installed, or does not load on this version of Node, is left out and says why. */
export const PEERS: Readonly<Record<string, (folder: string) => Promise<Contender>>> = {
  cacache: openCacache,
  unstorage: openUnstorage,
  flydrive: openFlydrive,
  opendal: openOpendal,
};

const require = createRequire(import.meta.url);

export function versionOf(peer: string): string {
  const manifest = require.resolve.paths(peer)?.map((folder) => join(folder, peer, 'package.json')) ?? [];
  for (const path of manifest) {
    try {
      return (require(path) as { version: string }).version;
    } catch {
      // Not in this folder.
    }
  }
  return 'unknown';
}

/** Resolved when it runs: type checks must pass where the peers are not installed. */
function load<T>(name: string): Promise<T> {
  return import(name) as Promise<T>;
}

interface Cacache {
  put: {
    (cache: string, key: string, data: Buffer): Promise<unknown>;
    stream(cache: string, key: string): NodeJS.WritableStream;
  };
  get: {
    (cache: string, key: string): Promise<unknown>;
    stream(cache: string, key: string): AsyncIterable<Buffer>;
  };
}

/** Verifies what it reads, and knows what it has: the peer that does most of what we do. */
async function openCacache(folder: string): Promise<Contender> {
  const { default: cacache } = await load<{ default: Cacache }>('cacache');
  return {
    name: 'cacache',
    put: (n, bytes) => cacache.put(folder, `blob-${n}`, bytes),
    get: (n) => cacache.get(folder, `blob-${n}`),
    putStream: (n, chunks) => pipeline(Readable.from(chunks()), cacache.put.stream(folder, `blob-${n}`)),
    getStream: (n) => sizeOf(cacache.get.stream(folder, `blob-${n}`)),
  };
}

interface Unstorage {
  createStorage(options: { driver: unknown }): {
    setItemRaw(key: string, value: Buffer): Promise<void>;
    getItemRaw(key: string): Promise<Buffer>;
  };
}

/** Has no streams: whole buffers stand in for them. */
async function openUnstorage(folder: string): Promise<Contender> {
  const { createStorage } = await load<Unstorage>('unstorage');
  const { default: driver } = await load<{ default: (options: { base: string }) => unknown }>('unstorage/drivers/fs');
  const storage = createStorage({ driver: driver({ base: folder }) });
  return {
    name: 'unstorage',
    put: (n, bytes) => storage.setItemRaw(`blob-${n}`, bytes),
    get: (n) => storage.getItemRaw(`blob-${n}`),
    putStream: (n, chunks) => storage.setItemRaw(`blob-${n}`, Buffer.concat([...chunks()])),
    getStream: async (n) => (await storage.getItemRaw(`blob-${n}`)).byteLength,
  };
}

interface Flydrive {
  Disk: new (
    driver: unknown,
  ) => {
    put(key: string, bytes: Buffer): Promise<void>;
    getBytes(key: string): Promise<Uint8Array>;
    putStream(key: string, stream: Readable): Promise<void>;
    getStream(key: string): Promise<Readable>;
  };
}

async function openFlydrive(folder: string): Promise<Contender> {
  const { Disk } = await load<Flydrive>('flydrive');
  const { FSDriver } = await load<{ FSDriver: new (options: object) => unknown }>('flydrive/drivers/fs');
  const disk = new Disk(new FSDriver({ location: folder, visibility: 'private' }));
  return {
    name: 'flydrive',
    put: (n, bytes) => disk.put(`blob-${n}`, bytes),
    get: (n) => disk.getBytes(`blob-${n}`),
    putStream: (n, chunks) => disk.putStream(`blob-${n}`, Readable.from(chunks())),
    getStream: async (n) => sizeOf(await disk.getStream(`blob-${n}`)),
  };
}

interface Opendal {
  Operator: new (
    scheme: string,
    options: { root: string },
  ) => {
    write(path: string, bytes: Buffer): Promise<unknown>;
    read(path: string): Promise<Buffer>;
    writer(path: string): Promise<{ createWriteStream(): NodeJS.WritableStream }>;
    reader(path: string): Promise<{ createReadStream(): Readable }>;
  };
}

async function openOpendal(folder: string): Promise<Contender> {
  const { Operator } = await load<Opendal>('opendal');
  mkdirSync(folder, { recursive: true });
  const operator = new Operator('fs', { root: folder });
  return {
    name: 'opendal',
    put: (n, bytes) => operator.write(`blob-${n}`, bytes),
    get: (n) => operator.read(`blob-${n}`),
    putStream: async (n, chunks) =>
      pipeline(Readable.from(chunks()), (await operator.writer(`blob-${n}`)).createWriteStream()),
    getStream: async (n) => sizeOf((await operator.reader(`blob-${n}`)).createReadStream()),
  };
}

export async function sizeOf(chunks: AsyncIterable<Uint8Array>): Promise<number> {
  let size = 0;
  for await (const chunk of chunks) size += chunk.byteLength;
  return size;
}
