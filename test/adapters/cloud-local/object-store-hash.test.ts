import { describe, expect, test } from '@jest/globals';
import {
  blake3Engine,
  firstBlake3,
  loadBlake3,
  loadNativeBlake3,
  loadWasmBlake3,
} from '../../../src/adapters/cloud-local/object-store/blake3.js';
import { FsObjectStore } from '../../../src/adapters/cloud-local/object-store.js';
import { newRoot } from './object-store-kit.js';

/** BLAKE3's published test vectors (its repository's test_vectors.json): bytes 0, 1 … 250, 0 … cut at a length. */
const VECTORS: readonly (readonly [length: number, id: string])[] = [
  [0, 'af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262'],
  [1, '2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213'],
  [1_023, '10108970eeda3eb932baac1428c7a2163b0e924c9a9e25b35bba72b28f70bd11'],
  [1_024, '42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7'],
  [1_025, 'd00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444'],
  [102_400, 'bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085'],
];

// Every build of the native library is an optional dependency: where it is missing there is nothing to compare.
const native = await loadNativeBlake3().catch(() => null);
const engines = [native, await loadWasmBlake3()].filter((engine) => engine !== null);

describe.each(engines.map((engine) => [engine.engine, engine] as const))('%s', (_, engine) => {
  test.each(VECTORS)('gives the published hash of %d bytes, at once and in parts', async (length, id) => {
    const bytes = Uint8Array.from({ length }, (_, n) => n % 251);
    expect(engine.idOf(bytes)).toBe(id);
    const [one, other] = [await engine.createHasher(), await engine.createHasher()];
    for (let at = 0; at < length; at += 700) {
      one.update(bytes.subarray(at, at + 700));
      other.update(bytes.subarray(0, 1));
    }
    expect(engine.idOf(Buffer.from('abc'))).toBe('6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85');
    expect(one.id()).toBe(id);
  });

  test('is what a store says it uses, and its ids are found by a store of the other', async () => {
    const root = newRoot();
    const store = await FsObjectStore.open(root, {}, { blake3: engine });
    expect((await store.stats()).hash).toBe(engine.engine);
    const id = await store.putBytes(Buffer.alloc(3_000_000, 1));
    for (const blake3 of engines) {
      const other = await FsObjectStore.open(root, {}, { blake3 });
      expect((await other.getBytes(id)).byteLength).toBe(3_000_000);
      expect(await other.putBytes(Buffer.alloc(3_000_000, 1))).toBe(id);
    }
  });
});

describe('the choice', () => {
  const broken = async () => Promise.reject(new Error('no build for this platform'));

  test('falls on hash-wasm where the native library does not load', async () => {
    expect((await firstBlake3([broken, loadWasmBlake3])).engine).toBe('hash-wasm');
  });

  test('is made once, and can be asked for', async () => {
    expect(loadBlake3()).toBe(loadBlake3());
    expect(await blake3Engine()).toBe(native === null ? 'hash-wasm' : '@napi-rs/blake-hash');
  });

  test('says what to install where none loads', async () => {
    const none = firstBlake3([broken, broken]);
    await expect(none).rejects.toMatchObject({
      kind: 'Internal',
      message: expect.stringContaining('install hash-wasm'),
    });
    await expect(none).rejects.toHaveProperty('cause.message', 'no build for this platform');
  });
});
