/** Values: found again byte for byte, several as of one moment. */
import assert from 'node:assert/strict';
import { bytes, type Cases, key, put, text, under } from './helpers.js';

export const values: Cases = {
  'a value is found again, byte for byte, whatever the bytes': async ({ open }) => {
    const storage = await open();
    const values = [
      new Uint8Array(),
      Uint8Array.of(0),
      Uint8Array.from({ length: 256 }, (_, i) => i),
      new Uint8Array(1 << 20).fill(7),
    ];
    const txn = storage.begin();
    for (const [i, value] of values.entries()) txn.put(key(`${i}`), value);
    assert.equal(await txn.commit(), true);
    for (const [i, value] of values.entries())
      assert.equal(Buffer.compare((await storage.get(key(`${i}`))) ?? Buffer.from('missing'), value), 0);
    assert.equal(await storage.get(key('none')), null);
    assert.equal(await storage.get({ namespace: 'never written', path: ['0'] }), null);
  },

  'namespaces and paths are told apart': async ({ open }) => {
    const storage = await open();
    await put(storage, { a: '1', 'a/b': '2', 'a/': '3', '/a': '4', '': '5' });
    await put(storage, { a: 'other' }, 'suite2');
    const found = await storage.getMany([
      key('a'),
      key('a', 'b'),
      key('a', ''),
      key('', 'a'),
      key(''),
      { namespace: 'suite2', path: ['a'] },
    ]);
    assert.deepEqual(found.map(text), ['1', '2', '3', '4', '5', 'other']);
  },

  'getMany is of one moment, over namespaces too': async ({ open }) => {
    const storage = await open();
    const places = ['one', 'two', 'three'].map((namespace) => ({ namespace, path: ['n'] }));
    let writing = true;
    const writer = (async () => {
      for (let n = 0; writing; n++) {
        const txn = storage.begin();
        for (const place of places) txn.put(place, bytes(`${n}`));
        await txn.commit();
      }
    })();
    for (let i = 0; i < 200; i++) {
      const seen = new Set((await storage.getMany(places)).map(text));
      assert.equal(seen.size, 1, `one getMany saw ${[...seen].join(' and ')}`);
    }
    writing = false;
    await writer;
  },

  'getMany answers in the order asked, null for what is not there, 10,000 keys at once': async ({ open }) => {
    const storage = await open();
    const txn = storage.begin();
    for (let i = 0; i < 5_000; i++) txn.put(key(`k${i}`), bytes(`v${i}`));
    await txn.commit();
    const keys = Array.from({ length: 10_000 }, (_, i) => key(`k${9_999 - i}`));
    const found = await storage.getMany(keys);
    assert.deepEqual(new Set(found.slice(0, 5_000)), new Set([null]));
    assert.equal(text(found[5_000] ?? null), 'v4999');
    assert.equal(text(found[9_999] ?? null), 'v0');
    assert.deepEqual((await storage.getMany([key('k1'), key('k1')])).map(text), ['v1', 'v1']);
    assert.deepEqual(await storage.getMany([]), []);
  },

  'the key of one empty segment is found like any other: asked for twice, at once, and deleted': async ({ open }) => {
    const storage = await open();
    await put(storage, { '': 'empty', a: 'a' });
    assert.deepEqual((await storage.getMany([key(''), key('')])).map(text), ['empty', 'empty']);
    assert.deepEqual((await Promise.all([storage.get(key('')), storage.get(key(''))])).map(text), ['empty', 'empty']);
    const txn = storage.begin();
    txn.check(key(''), bytes('empty'));
    txn.delete(key(''));
    txn.delete(key('a'));
    assert.equal(await txn.commit(), true);
    assert.deepEqual(await storage.getMany([key(''), key(''), key('a')]), [null, null, null]);
  },

  'values are copied on the way in and out': async ({ open }) => {
    const storage = await open();
    const mine = bytes('before');
    const txn = storage.begin();
    txn.put(key('a'), mine);
    mine.fill(0);
    assert.equal(await txn.commit(), true);
    const expected = bytes('before');
    const checking = storage.begin();
    checking.check(key('a'), expected);
    expected.fill(0);
    assert.equal(await checking.commit(), true);
    for (const read of [
      storage.get(key('a')),
      storage.getMany([key('a'), key('a')]).then(([first]) => first ?? null),
    ]) {
      const value = await read;
      assert.equal(text(value), 'before');
      value?.fill(0);
    }
    for await (const { value } of storage.scan(under())) value.fill(0);
    assert.equal(text(await storage.get(key('a'))), 'before');
  },
};
