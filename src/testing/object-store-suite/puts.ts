/** Bytes and streams on their way in. */
import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import {
  assertAllSame,
  assertFails,
  assertSame,
  type Cases,
  chunked,
  collect,
  MIB,
  noise,
  REFUSED,
  readAll,
  SIZES,
} from './fixtures.js';

/** BLAKE3's published test vectors: the hash of 0, 1, 2 … 250, 0, 1 … cut at a length; and of `abc`. */
const VECTORS: readonly (readonly [bytes: Uint8Array, id: string])[] = [
  [new Uint8Array(0), 'af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262'],
  [Buffer.from('abc'), '6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85'],
  [counting(1), '2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213'],
  [counting(1_024), '42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7'],
  [counting(102_400), 'bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085'],
];

export const putting: Cases = {
  'bytes of any size come back as they were put': async ({ open }) => {
    const store = await open();
    for (const size of SIZES) {
      const bytes = noise(size);
      const id = await store.putBytes(bytes);
      assertSame(await store.getBytes(id), bytes);
      assertSame(await readAll(store, id), bytes);
      assert.equal((await store.stat(id))?.size, size);
    }
  },

  'an id is the BLAKE3-256 of the bytes, in lower-case hex': async ({ open }) => {
    const store = await open();
    for (const [bytes, id] of VECTORS) {
      assert.equal(await store.putBytes(bytes), id);
      assert.equal(await store.putStream(chunked(bytes, 1_000)), id);
    }
  },

  'a part of a larger buffer is stored as that part': async ({ open }) => {
    const store = await open();
    const whole = noise(1_000);
    assertSame(await store.getBytes(await store.putBytes(whole.subarray(10, 20))), whole.subarray(10, 20));
  },

  'putting the same bytes again gives the same id and one object': async ({ open }) => {
    const store = await open();
    const id = await store.putBytes(noise(5_000));
    assert.equal(await store.putBytes(noise(5_000)), id);
    assert.equal(await store.putStream(chunked(noise(5_000), 999)), id);
    assert.deepEqual(await collect(store.list()), [id]);
  },

  'the buffer is the caller’s again once the put resolves': async ({ open }) => {
    const store = await open();
    const bytes = noise(2_000);
    const id = await store.putBytes(bytes);
    bytes.fill(0);
    assertSame(await store.getBytes(id), noise(2_000));
  },

  'expectedSize that fits is accepted, another one is refused and nothing is stored': async ({ open }) => {
    const store = await open();
    const bytes = noise(3_000);
    for (const expectedSize of [0, 2_999, 3_001]) {
      await assertFails(store.putBytes(bytes, { expectedSize }), REFUSED);
      await assertFails(store.putStream(chunked(bytes, 1_000), { expectedSize }), REFUSED);
    }
    assert.deepEqual(await collect(store.list()), []);
    const id = await store.putBytes(bytes, { expectedSize: 3_000 });
    assert.equal(await store.putStream(chunked(bytes, 1_000), { expectedSize: 3_000 }), id);
  },
};

export const streaming: Cases = {
  'a Node stream, a web stream and an async generator are all sources': async ({ open }) => {
    const store = await open();
    const bytes = noise(2 * MIB + 77);
    const id = await store.putBytes(noise(10));
    const node = () => Readable.from(chunked(bytes, 70_000));
    for (const source of [node(), Readable.toWeb(node()), chunked(bytes, 1_009)] as AsyncIterable<Uint8Array>[]) {
      const stored = await store.putStream(source);
      assertSame(await store.getBytes(stored), bytes);
      assert.notEqual(stored, id);
      await store.delete(stored);
    }
  },

  'a stream of any size comes back as it was put': async ({ open }) => {
    const store = await open();
    for (const size of SIZES) {
      const bytes = noise(size, 'stream');
      const id = await store.putStream(chunked(bytes, 100_000));
      assertSame(await store.getBytes(id), bytes);
    }
  },

  'a chunk may be reused by the source once the next one is asked for': async ({ open }) => {
    const store = await open();
    const bytes = noise(2 * MIB + 500);
    const reused = new Uint8Array(30_011);
    async function* source() {
      for (let at = 0; at < bytes.byteLength; at += reused.byteLength) {
        const part = bytes.subarray(at, at + reused.byteLength);
        reused.fill(0xff);
        reused.set(part);
        yield reused.subarray(0, part.byteLength);
        reused.fill(0xee);
      }
    }
    assertSame(await store.getBytes(await store.putStream(source())), bytes);
  },

  'chunks may be empty, or larger than anything buffered': async ({ open }) => {
    const store = await open();
    const bytes = noise(5 * MIB + 1);
    async function* source() {
      yield new Uint8Array(0);
      yield bytes.subarray(0, 5 * MIB);
      yield new Uint8Array(0);
      yield bytes.subarray(5 * MIB);
    }
    assertSame(await store.getBytes(await store.putStream(source())), bytes);
  },

  'the error of a source that throws is passed on, and nothing is visible': async ({ open }) => {
    const store = await open();
    for (const sizeBefore of [0, 1_000, 3 * MIB]) {
      const fault = new Error('the source broke');
      async function* source() {
        yield* chunked(noise(sizeBefore), 100_000);
        throw fault;
      }
      await assert.rejects(store.putStream(source()), (error) => error === fault);
    }
    assert.deepEqual(await collect(store.list()), []);
  },

  'a source is closed when its stream is refused': async ({ open }) => {
    const store = await open();
    let isClosed = false;
    async function* source() {
      try {
        for (;;) yield noise(1_000);
      } finally {
        isClosed = true;
      }
    }
    await assertFails(store.putStream(source(), { expectedSize: 2_500 }), REFUSED);
    assert.ok(isClosed);
  },

  'a stream cancelled half-way leaves the store as it was': async ({ open }) => {
    const store = await open();
    const bytes = noise(4 * MIB);
    const id = await store.putBytes(bytes);
    const reader = (await store.getStream(id)).getReader();
    assert.equal((await reader.read()).done, false);
    await reader.cancel();
    assertSame(await readAll(store, id), bytes);
  },

  'many streams are read at once, each at its own pace': async ({ open }) => {
    const store = await open();
    const all = [1, 2, 3, 4].map((n) => noise(n * MIB, `pace ${n}`));
    const ids = await Promise.all(all.map((bytes) => store.putBytes(bytes)));
    const read = await Promise.all([...ids, ...ids].map((id) => readAll(store, id)));
    assertAllSame(read, [...all, ...all]);
  },
};

function counting(size: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, n) => n % 251);
}
