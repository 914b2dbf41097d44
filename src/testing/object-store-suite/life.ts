/** What is kept, deleted and listed, and what holds while calls overlap. */
import assert from 'node:assert/strict';
import type { ContentId } from '../../contracts/ids.js';
import { existsMany, statMany } from '../../contracts/object-store.js';
import {
  ABSENT,
  assertAllSame,
  assertFails,
  assertIs,
  assertSame,
  type Cases,
  chunked,
  collect,
  drain,
  MIB,
  noise,
  readAll,
} from './fixtures.js';

export const keeping: Cases = {
  'the content type is the first put’s, and null when it gave none': async ({ open }) => {
    const store = await open();
    const typed = await store.putBytes(noise(100), { contentType: 'text/plain; charset="ü"' });
    await store.putBytes(noise(100), { contentType: 'text/html' });
    await store.putBytes(noise(100));
    assert.equal((await store.stat(typed))?.contentType, 'text/plain; charset="ü"');
    const plain = await store.putStream(chunked(noise(101), 50));
    await store.putStream(chunked(noise(101), 50), { contentType: 'text/html' });
    assert.equal((await store.stat(plain))?.contentType, null);
  },

  'a stream’s content type is kept': async ({ open }) => {
    const store = await open();
    for (const size of [10, 2 * MIB]) {
      const id = await store.putStream(chunked(noise(size), 90_000), { contentType: 'x'.repeat(255) });
      assert.equal((await store.stat(id))?.contentType, 'x'.repeat(255));
    }
  },

  'delete is true once, then false, and the object is gone': async ({ open }) => {
    const store = await open();
    const id = await store.putBytes(noise(50), { contentType: 'a/b' });
    assert.equal(await store.delete(id), true);
    assert.equal(await store.delete(id), false);
    assert.equal(await store.delete(ABSENT), false);
    assert.equal(await store.exists(id), false);
    assert.equal(await store.stat(id), null);
    assert.deepEqual(await collect(store.list()), []);
    await assertFails(store.getBytes(id), { code: 'OBJECT_NOT_FOUND' });
    assert.equal(await store.putBytes(noise(50), { contentType: 'c/d' }), id);
    assert.equal((await store.stat(id))?.contentType, 'c/d');
  },

  'a stream being read when its object is deleted ends well or with object not found': async ({ open }) => {
    const store = await open();
    const bytes = noise(4 * MIB);
    const id = await store.putBytes(bytes);
    const stream = await store.getStream(id);
    await store.delete(id);
    try {
      assertSame(await drain(stream), bytes);
    } catch (error) {
      assertIs(error, { code: 'OBJECT_NOT_FOUND' });
    }
  },

  'list gives every id once, ascending, and those of a prefix': async ({ open }) => {
    const store = await open();
    const ids = await Promise.all(Array.from({ length: 80 }, (_, n) => store.putBytes(noise(20, `list ${n}`))));
    const sorted = [...ids].sort();
    assert.deepEqual(await collect(store.list()), sorted);
    assert.deepEqual(await collect(store.list({ prefix: '' })), sorted);
    const one = sorted[40] as ContentId;
    for (const length of [1, 2, 3, 4, 5, 63, 64]) {
      const prefix = one.slice(0, length);
      const expected = sorted.filter((id) => id.startsWith(prefix));
      assert.deepEqual(await collect(store.list({ prefix })), expected, `prefix ${prefix}`);
    }
  },

  'list of an empty store, or of a prefix that nothing has, ends at once': async ({ open }) => {
    const store = await open();
    assert.deepEqual(await collect(store.list()), []);
    const id = await store.putBytes(noise(1));
    const other = id.startsWith('a') ? 'b' : 'a';
    for (const prefix of [other, `${id.slice(0, 1)}${id[1] === '0' ? 1 : 0}`, `${id.slice(0, 4)}${'0'.repeat(60)}`]) {
      assert.deepEqual(await collect(store.list({ prefix })), []);
    }
  },

  'a list goes on after an id, which need not be there': async ({ open }) => {
    const store = await open();
    const ids = await Promise.all(Array.from({ length: 40 }, (_, n) => store.putBytes(noise(20, `after ${n}`))));
    const sorted = [...ids].sort();
    const resumed: ContentId[] = [];
    for (let after: ContentId | undefined; ; after = resumed.at(-1)) {
      const before = resumed.length;
      for await (const id of store.list({ after })) if (resumed.push(id) === before + 7) break;
      if (resumed.length === before) break;
    }
    assert.deepEqual(resumed, sorted);
    for (const after of ['0'.repeat(64), 'f'.repeat(64), ABSENT, sorted[20]] as ContentId[]) {
      assert.deepEqual(
        await collect(store.list({ after })),
        sorted.filter((id) => id > after),
      );
      const prefix = (sorted[20] as ContentId).slice(0, 1);
      assert.deepEqual(
        await collect(store.list({ after, prefix })),
        sorted.filter((id) => id > after && id.startsWith(prefix)),
      );
    }
  },

  'many ids are asked for at once, and answered in their order': async ({ open }) => {
    const store = await open();
    const ids = await Promise.all(Array.from({ length: 100 }, (_, n) => store.putBytes(noise(n, `ask ${n}`))));
    const asked = [ABSENT, ...ids, ABSENT, ids[0] as ContentId];
    const there = asked.map((id) => id !== ABSENT);
    assert.deepEqual(await existsMany(store, asked), there);
    const sizes = (await statMany(store, asked)).map((stat) => stat?.size ?? null);
    assert.deepEqual(sizes, [null, ...ids.map((_, n) => n), null, 0]);
    assert.deepEqual(await statMany(store, []), []);
    await assertFails(existsMany(store, [ABSENT, 'x' as ContentId]), { code: 'ARGUMENT_INVALID' });
    const signal = AbortSignal.abort(new Error('enough'));
    await assert.rejects(statMany(store, ids, { signal }), (error) => error === signal.reason);
  },

  'a list may be left early': async ({ open }) => {
    const store = await open();
    await Promise.all(Array.from({ length: 10 }, (_, n) => store.putBytes(noise(20, `early ${n}`))));
    for await (const id of store.list()) {
      assert.equal(await store.exists(id), true);
      break;
    }
  },
};

export const overlapping: Cases = {
  'puts of the same bytes at once give one object': async ({ open }) => {
    const store = await open();
    const puts = Array.from({ length: 32 }, (_, n) =>
      n % 2 === 0 ? store.putBytes(noise(70_000)) : store.putStream(chunked(noise(70_000), 20_000)),
    );
    const ids = new Set(await Promise.all(puts));
    assert.equal(ids.size, 1);
    assert.deepEqual(await collect(store.list()), [...ids]);
    assertSame(await store.getBytes([...ids][0] as ContentId), noise(70_000));
  },

  'one put of the same bytes that is aborted does not take the others with it': async ({ open }) => {
    const store = await open();
    const aborting = new AbortController();
    const bytes = noise(3 * MIB);
    const puts = [store.putBytes(bytes, { signal: aborting.signal }), store.putBytes(bytes), store.putBytes(bytes)];
    aborting.abort();
    const [, second, third] = await Promise.allSettled(puts);
    assert.equal(second?.status, 'fulfilled');
    assert.deepEqual(second, third);
  },

  'puts of different bytes at once are all there': async ({ open }) => {
    const store = await open();
    const all = Array.from({ length: 100 }, (_, n) => noise(n * 700, `many ${n}`));
    const ids = await Promise.all(all.map((bytes) => store.putBytes(bytes)));
    const read = await Promise.all(ids.map((id) => store.getBytes(id)));
    assertAllSame(read, all);
  },

  'what is deleted while others read it is gone when the delete resolves, and stays so': async ({ open }) => {
    const store = await open();
    for (const size of [100, 2 * MIB]) {
      const id = await store.putBytes(noise(size));
      const reads = [store.getBytes(id), store.getBytes(id), readAll(store, id), store.getBytes(id)];
      assert.equal(await store.delete(id), true);
      await assertFails(store.getBytes(id), { code: 'OBJECT_NOT_FOUND' });
      for (const read of await Promise.allSettled(reads)) {
        if (read.status === 'fulfilled') assertSame(read.value, noise(size));
        else assertIs(read.reason, { code: 'OBJECT_NOT_FOUND' });
      }
      await assertFails(store.getBytes(id), { code: 'OBJECT_NOT_FOUND' });
      assert.equal(await store.exists(id), false);
    }
  },

  'under puts and deletes a read gives the whole bytes or object not found': async ({ open }) => {
    const store = await open();
    const bytes = noise(80_000);
    const id = await store.putBytes(bytes);
    const churn = async () => {
      for (let n = 0; n < 20; n++) {
        await store.delete(id);
        await store.putBytes(bytes);
      }
    };
    const read = async () => {
      for (let n = 0; n < 60; n++) {
        try {
          assertSame(n % 2 === 0 ? await store.getBytes(id) : await readAll(store, id), bytes);
        } catch (error) {
          assertIs(error, { code: 'OBJECT_NOT_FOUND' });
        }
      }
    };
    await Promise.all([churn(), churn(), read(), read()]);
    assertSame(await store.getBytes(id), bytes);
  },
};
