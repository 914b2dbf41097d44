/** What is refused at the door, and what an abort leaves behind. */
import assert from 'node:assert/strict';
import type { ContentId } from '../../contracts/ids.js';
import { assertFails, assertSame, type Cases, chunked, collect, MIB, noise, REFUSED, readAll } from './fixtures.js';

export const refusing: Cases = {
  'an id that is none is refused before anything is touched': async ({ open }) => {
    const store = await open();
    const id = await store.putBytes(noise(1));
    const wrong = [
      '../../etc/passwd',
      '',
      'abc',
      id.toUpperCase(),
      `${id}0`,
      `${id}\n`,
      `${id.slice(0, 62)}/.`,
      7,
      null,
    ];
    for (const value of wrong as ContentId[]) {
      await assertFails(store.getBytes(value), REFUSED);
      await assertFails(store.getStream(value), REFUSED);
      await assertFails(store.exists(value), REFUSED);
      await assertFails(store.stat(value), REFUSED);
      await assertFails(store.delete(value), REFUSED);
    }
  },

  'bytes, sources, chunks and hints that are none are refused': async ({ open }) => {
    const store = await open();
    for (const value of ['text', [1, 2], new ArrayBuffer(2), undefined] as unknown[]) {
      await assertFails(store.putBytes(value as Uint8Array), REFUSED);
      await assertFails(store.putStream(oneChunk(value)), REFUSED);
      await assertFails(store.putStream(value as AsyncIterable<Uint8Array>), REFUSED);
    }
    for (const contentType of ['', 'a\nb', 'x'.repeat(256), 5] as string[]) {
      await assertFails(store.putBytes(noise(1), { contentType }), REFUSED);
    }
    await assertFails(store.putBytes(noise(1), { expectedSize: -1 }), REFUSED);
    await assertFails(store.putBytes(noise(1), { signal: {} as AbortSignal }), REFUSED);
    assert.deepEqual(await collect(store.list()), []);
  },

  'options of unknown names are refused with the nearest, and nothing is stored': async ({ open }) => {
    const store = await open();
    const wrong = { contentTyp: 'text/plain' } as object;
    await assertFails(store.putBytes(noise(1), wrong), REFUSED);
    await assertFails(store.putStream(chunked(noise(1), 1), wrong), REFUSED);
    assert.deepEqual(await collect(store.list()), []);
    const id = await store.putBytes(noise(1));
    await assertFails(store.getBytes(id, { verfy: false } as object), {
      ...REFUSED,
      message: 'unknown option "verfy" in options. Did you mean "verify"? Known: onProgress, range, signal, verify.',
    });
    await assertFails(store.getStream(id, { verfy: false } as object), REFUSED);
    await assertFails(collect(store.list({ prefx: '' } as object)), REFUSED);
  },

  'progress is told in bytes, ascending, up to the whole': async ({ open }) => {
    const store = await open();
    const bytes = noise(3 * MIB);
    const all: number[][] = [];
    const onProgress = () => {
      const told: number[] = [];
      all.push(told);
      return (done: number) => void told.push(done);
    };
    const id = await store.putStream(chunked(bytes, 700_000), { onProgress: onProgress() });
    await store.putBytes(bytes, { onProgress: onProgress() });
    assertSame(await store.getBytes(id, { onProgress: onProgress() }), bytes);
    assertSame(await readAll(store, id, { onProgress: onProgress() }), bytes);
    for (const told of all) {
      assert.equal(told.at(-1), bytes.byteLength);
      assert.deepEqual(
        told,
        [...told].sort((a, b) => a - b),
      );
    }
    assert.equal(all[0]?.length, Math.ceil(bytes.byteLength / 700_000));
    const enough = new Error('enough');
    const stop = () => {
      throw enough;
    };
    await assert.rejects(store.putStream(chunked(noise(9), 1), { onProgress: stop }), (error) => error === enough);
    assert.deepEqual(await collect(store.list()), [id]);
    await assertFails(store.getBytes(id, { onProgress: 5 as never }), REFUSED);
  },

  'a prefix that no id can have is refused': async ({ open }) => {
    const store = await open();
    for (const prefix of ['AB', 'xyz', '../', '0'.repeat(65), 5] as string[]) {
      await assertFails(collect(store.list({ prefix })), REFUSED);
    }
  },

  'an aborted signal rejects with its reason, and nothing is visible': async ({ open }) => {
    const store = await open();
    const id = await store.putBytes(noise(2 * MIB));
    const reason = new Error('enough');
    const signal = AbortSignal.abort(reason);
    const isReason = (error: unknown) => error === reason;
    await assert.rejects(store.putBytes(noise(9), { signal }), isReason);
    await assert.rejects(store.putStream(chunked(noise(9), 1), { signal }), isReason);
    await assert.rejects(store.getBytes(id, { signal }), isReason);
    await assert.rejects(store.getStream(id, { signal }), isReason);
    await assert.rejects(collect(store.list({ signal })), isReason);
    assert.deepEqual(await collect(store.list()), [id]);
  },

  'an abort ends a put whose source is stuck, and nothing is visible': async ({ open }) => {
    const store = await open();
    for (const sizeBefore of [10, 3 * MIB]) {
      const aborting = new AbortController();
      async function* source() {
        yield* chunked(noise(sizeBefore), 100_000);
        queueMicrotask(() => aborting.abort());
        await new Promise(() => {});
      }
      const put = store.putStream(source(), { signal: aborting.signal });
      await assert.rejects(put, (error) => error === aborting.signal.reason);
    }
    assert.deepEqual(await collect(store.list()), []);
  },

  'an abort ends a stream that is being read, and a list': async ({ open }) => {
    const store = await open();
    const ids = await Promise.all([1, 2].map((n) => store.putBytes(noise(8 * MIB, `abort ${n}`))));
    const aborting = new AbortController();
    const { signal } = aborting;
    const isReason = (error: unknown) => error === signal.reason;
    const stream = (await store.getStream(ids[0] as ContentId, { signal })).getReader();
    const listed = store.list({ signal })[Symbol.asyncIterator]();
    assert.equal((await stream.read()).done, false);
    assert.equal((await listed.next()).done, false);
    aborting.abort();
    await assert.rejects(async () => {
      while (!(await stream.read()).done);
    }, isReason);
    await assert.rejects(async () => {
      while (!(await listed.next()).done);
    }, isReason);
  },
};

async function* oneChunk(value: unknown): AsyncGenerator<Uint8Array, void, void> {
  yield value as Uint8Array;
}
