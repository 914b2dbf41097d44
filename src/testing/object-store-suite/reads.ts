/** Bytes on their way out: whole, in ranges, and what is known of them. */
import assert from 'node:assert/strict';
import {
  ABSENT,
  assertFails,
  assertSame,
  type Cases,
  drain,
  MIB,
  NOT_FOUND,
  noise,
  ownBufferReader,
  REFUSED,
  readAll,
  readInto,
  SIZES,
} from './fixtures.js';

export const reading: Cases = {
  'a missing id is FatalError Internal, object not found: <id>, for bytes and stream': async ({ open }) => {
    const store = await open();
    await assertFails(store.getBytes(ABSENT), NOT_FOUND);
    await assertFails(store.getStream(ABSENT), NOT_FOUND);
    await assertFails(store.getBytes(ABSENT, { verify: false }), NOT_FOUND);
  },

  'the bytes that are read are the caller’s: changing them changes nothing stored': async ({ open }) => {
    const store = await open();
    for (const size of [100, 2 * MIB]) {
      const id = await store.putBytes(noise(size));
      (await store.getBytes(id)).fill(0);
      for await (const chunk of await store.getStream(id)) chunk.fill(0);
      assertSame(await store.getBytes(id), noise(size));
    }
  },

  'a reader that brings its own buffer gets the same bytes, and the end; or none may': async ({ open }) => {
    const store = await open();
    for (const size of SIZES) {
      const bytes = noise(size, `own buffer ${size}`);
      const id = await store.putBytes(bytes);
      for (const bufferBytes of [40_000, MIB, 5 * MIB]) {
        const stream = await store.getStream(id);
        const reader = ownBufferReader(stream);
        assertSame(reader === null ? await drain(stream) : await readInto(reader, bufferBytes), bytes);
      }
    }
  },

  'readers with and without a buffer of their own may take turns at a stream': async ({ open }) => {
    const store = await open();
    const bytes = noise(5 * MIB + 9, 'turns');
    const stream = await store.getStream(await store.putBytes(bytes));
    const parts: Uint8Array[] = [];
    for (let turn = 0; ; turn++) {
      const own = turn % 2 === 0 ? null : ownBufferReader(stream);
      const reader = own === null ? stream.getReader() : null;
      const { done, value } = await (own?.read(new Uint8Array(300_000)) ?? reader?.read() ?? assert.fail());
      (own ?? reader)?.releaseLock();
      if (done) break;
      parts.push(value as Uint8Array);
    }
    assertSame(Buffer.concat(parts), bytes);
  },

  'verify: false reads the same bytes': async ({ open }) => {
    const store = await open();
    const bytes = noise(MIB + 3);
    const id = await store.putBytes(bytes);
    assertSame(await store.getBytes(id, { verify: false }), bytes);
    assertSame(await readAll(store, id, { verify: false }), bytes);
  },

  'exists and stat tell what is there, and what is not': async ({ open }) => {
    const store = await open();
    assert.equal(await store.exists(ABSENT), false);
    assert.equal(await store.stat(ABSENT), null);
    const id = await store.putBytes(noise(1_234), { contentType: 'image/png' });
    assert.equal(await store.exists(id), true);
    const stat = await store.stat(id);
    assert.deepEqual({ ...stat, createdAtMs: 0 }, { id, size: 1_234, contentType: 'image/png', createdAtMs: 0 });
  },

  'createdAtMs is a whole number of milliseconds since 1970, of now': async ({ open }) => {
    const store = await open();
    const stat = await store.stat(await store.putBytes(noise(1)));
    assert.ok(stat !== null && Number.isInteger(stat.createdAtMs));
    const minuteMs = 60_000;
    assert.ok(Math.abs(stat.createdAtMs - Date.now()) < minuteMs, `createdAtMs is ${stat.createdAtMs}`);
  },
};

export const ranges: Cases = {
  'a range is half-open, its end defaults to the size and is cut to it': async ({ open }) => {
    const store = await open();
    const bytes = noise(3 * MIB + 5);
    const id = await store.putBytes(bytes);
    const size = bytes.byteLength;
    const asked = [
      { start: 0, end: 1 },
      { start: 5, end: 5 },
      { start: MIB - 1, end: 2 * MIB + 1 },
      { start: 1_000 },
      { start: size - 1, end: size + 1_000 },
      { start: size },
      { start: 0, end: Number.MAX_SAFE_INTEGER },
    ];
    for (const range of asked) {
      const expected = bytes.subarray(range.start, range.end);
      assertSame(await store.getBytes(id, { range }), expected);
      assertSame(await readAll(store, id, { range }), expected);
    }
  },

  'a range that starts beyond the size is refused': async ({ open }) => {
    const store = await open();
    const id = await store.putBytes(noise(10));
    await assertFails(store.getBytes(id, { range: { start: 11 } }), REFUSED);
    await assertFails(store.getStream(id, { range: { start: 11, end: 12 } }), REFUSED);
  },

  'a range that is none is refused': async ({ open }) => {
    const store = await open();
    const id = await store.putBytes(noise(10));
    for (const range of [{ start: -1 }, { start: 0.5 }, { start: 3, end: 2 }, { start: Number.NaN }, {}]) {
      await assertFails(store.getBytes(id, { range: range as { start: number } }), REFUSED);
    }
  },

  'a range of a missing id is not found': async ({ open }) => {
    const store = await open();
    await assertFails(store.getBytes(ABSENT, { range: { start: 0, end: 1 } }), NOT_FOUND);
    await assertFails(store.getStream(ABSENT, { range: { start: 0, end: 1 } }), NOT_FOUND);
  },
};

/** For an adapter that does not declare `range`. */
export const noRanges: Cases = {
  'a range is refused as a feature that the adapter does not declare': async ({ open }) => {
    const store = await open();
    const id = await store.putBytes(noise(10));
    const expected = { kind: 'ConfigInvalid', code: 'FEATURE_UNSUPPORTED' };
    await assertFails(store.getBytes(id, { range: { start: 0, end: 1 } }), expected);
    await assertFails(store.getStream(id, { range: { start: 0 } }), expected);
  },
};
