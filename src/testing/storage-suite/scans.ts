/** Scans: key order, prefixes, limits, pages. */
import assert from 'node:assert/strict';
import { bytes, type Cases, collect, key, paths, put, text, under } from './helpers.js';

export const scans: Cases = {
  'a scan is in key order: segment by segment, as UTF-8 bytes': async ({ open }) => {
    const storage = await open();
    // U+1F600 is one code point above U+FFFD, and below it by its UTF-16 surrogates.
    const sorted = ['', '/a', 'a', 'a/', 'a/b', 'a/b/c', 'a/\u{1F600}', 'a!', 'ab', 'b', 'ä', '\uFFFD', '\u{1F600}'];
    await put(storage, Object.fromEntries([...sorted].reverse().map((path) => [path, path])));
    const entries = await collect(storage.scan(under()));
    assert.deepEqual(paths(entries), sorted);
    assert.deepEqual(
      entries.map(({ value }) => text(value)),
      sorted,
    );
    assert.deepEqual(new Set(entries.map((entry) => entry.key.namespace)), new Set(['suite']));
  },

  'a prefix matches whole segments, and the key that it is': async ({ open }) => {
    const storage = await open();
    await put(storage, { a: '', 'a/b': '', 'a/b/c': '', ab: '', 'a!': '', b: '' });
    await put(storage, { a: '' }, 'suitf');
    assert.deepEqual(paths(await collect(storage.scan(under('a')))), ['a', 'a/b', 'a/b/c']);
    assert.deepEqual(paths(await collect(storage.scan(under('a', 'b')))), ['a/b', 'a/b/c']);
    assert.deepEqual(paths(await collect(storage.scan(under('c')))), []);
    assert.deepEqual(await collect(storage.scan({ prefix: { namespace: 'none', path: [] } })), []);
  },

  'a scan of 10,000 keys gives each once; limit and after resume it': async ({ open }) => {
    const storage = await open();
    const txn = storage.begin();
    for (let i = 0; i < 10_000; i++) txn.put(key(`${i}`.padStart(5, '0')), bytes(`${i}`));
    await txn.commit();
    const all = await collect(storage.scan(under()));
    assert.deepEqual(
      all.map(({ value }) => Number(text(value))),
      Array.from({ length: 10_000 }, (_, i) => i),
    );

    const first = await collect(storage.scan({ ...under(), limit: 777 }));
    const rest = await collect(storage.scan({ ...under(), after: first.at(-1)?.key }));
    assert.equal(first.length + rest.length, 10_000);
    assert.equal(text(rest[0]?.value ?? null), '777');
    assert.deepEqual(await collect(storage.scan({ ...under(), limit: 0 })), []);
    assert.equal((await collect(storage.scan({ ...under(), after: key('04999x') }))).length, 5_000);
    assert.deepEqual(await collect(storage.scan({ ...under(), after: key('9') })), []);
    assert.equal((await collect(storage.scan({ ...under('00005'), after: key('0') }))).length, 1);
  },

  'a scan bears that what it gives is deleted, and that the loop is left': async ({ open }) => {
    const storage = await open();
    const txn = storage.begin();
    for (let i = 0; i < 1_500; i++) txn.put(key(`${i}`.padStart(4, '0')), bytes(''));
    await txn.commit();
    let seen = 0;
    for await (const entry of storage.scan(under())) {
      seen++;
      const deletion = storage.begin();
      deletion.delete(entry.key);
      await deletion.commit();
    }
    assert.equal(seen, 1_500);
    assert.deepEqual(await collect(storage.scan(under())), []);
    await put(storage, { a: '', b: '' });
    for await (const _ of storage.scan(under())) break;
    assert.equal((await collect(storage.scan(under()))).length, 2);
  },

  'prefixes at the edges: what sorts right beside a branch is not in it': async ({ open }) => {
    const storage = await open();
    const beside = ['a\u0001', 'a\u0001/b', 'a ', '`/z', 'a\u{10FFFF}', 'b'];
    const within = ['a', 'a/', 'a//', 'a/\u0001', 'a/b', 'a/\u{10FFFF}', `a/${'x'.repeat(1_024)}`];
    await put(storage, Object.fromEntries([...beside, ...within].map((path) => [path, ''])));
    const found = paths(await collect(storage.scan(under('a'))));
    assert.deepEqual([...found].sort(), [...within].sort());
    assert.deepEqual(paths(await collect(storage.scan(under('a', '')))), ['a/', 'a//']);
    assert.deepEqual(paths(await collect(storage.scan({ ...under('a'), after: key('a', '\u0001'), limit: 1 }))), [
      'a/b',
    ]);
    assert.deepEqual(await collect(storage.scan({ ...under('a'), after: key('b') })), []);
    const deep = Array.from({ length: 32 }, (_, i) => `${i}`.repeat(20));
    await put(storage, { [deep.join('/')]: 'deep' });
    assert.equal(text(await storage.get(key(...deep))), 'deep');
    assert.equal((await collect(storage.scan(under(...deep.slice(0, 31))))).length, 1);
  },

  'a scan of values of very different sizes gives each, whole': async ({ open }) => {
    const storage = await open();
    const sizes = [0, 1, 5_000_000, 10, 3_000_000, 3_000_000, 100, 70_000];
    const txn = storage.begin();
    for (const [i, size] of sizes.entries()) txn.put(key(`${i}`), new Uint8Array(size).fill(i));
    await txn.commit();
    const found = await collect(storage.scan(under()));
    assert.deepEqual(
      found.map(({ value }) => value.length),
      sizes,
    );
    for (const [i, { value }] of found.entries()) assert.ok(value.every((byte) => byte === i));
  },
};
