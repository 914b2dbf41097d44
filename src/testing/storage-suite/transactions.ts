/** Transactions: all or nothing, in order, checks judged each after the ones before it. */
import assert from 'node:assert/strict';
import type { StorageKey } from '../../contracts/storage.js';
import { bytes, type Cases, collect, fatal, key, paths, put, text, under } from './helpers.js';

export const transactions: Cases = {
  'a transaction writes nothing before its commit, and nothing when it is aborted': async ({ open }) => {
    const storage = await open();
    const txn = storage.begin();
    txn.put(key('a'), bytes('1'));
    assert.equal(await storage.get(key('a')), null);
    txn.abort();
    await assert.rejects(txn.commit(), fatal('TXN_ENDED'));
    assert.equal(await storage.get(key('a')), null);
  },

  'a transaction is used once': async ({ open }) => {
    const storage = await open();
    const txn = storage.begin();
    txn.put(key('a'), bytes('1'));
    assert.equal(await txn.commit(), true);
    txn.abort();
    assert.throws(() => txn.put(key('b'), bytes('2')), fatal('TXN_ENDED'));
    await assert.rejects(txn.commit(), fatal('TXN_ENDED'));
    assert.equal(text(await storage.get(key('a'))), '1');
  },

  'the last of several writes to one key counts, deletes included': async ({ open }) => {
    const storage = await open();
    await put(storage, { gone: 'x', back: 'x' });
    const txn = storage.begin();
    txn.put(key('a'), bytes('1'));
    txn.put(key('a'), bytes('2'));
    txn.put(key('gone'), bytes('y'));
    txn.delete(key('gone'));
    txn.delete(key('back'));
    txn.put(key('back'), bytes('z'));
    txn.delete(key('never there'));
    assert.equal(await txn.commit(), true);
    assert.deepEqual((await storage.getMany([key('a'), key('gone'), key('back')])).map(text), ['2', null, 'z']);
  },

  'an empty transaction commits': async ({ open }) => {
    assert.equal(await (await open()).begin().commit(), true);
  },

  'commits take effect in the order of their calls': async ({ open }) => {
    const storage = await open();
    const commits = Array.from({ length: 200 }, (_, i) => {
      const txn = storage.begin();
      txn.put(key('last'), bytes(`${i}`));
      if (i % 3 === 0) txn.delete(key('odd'));
      else txn.put(key('odd'), bytes(`${i}`));
      return txn.commit();
    });
    assert.deepEqual(new Set(await Promise.all(commits)), new Set([true]));
    assert.deepEqual((await storage.getMany([key('last'), key('odd')])).map(text), ['199', '199']);
  },

  'a check that does not hold drops its own transaction, whole, and no other': async ({ open }) => {
    const storage = await open();
    await put(storage, { a: '1' });
    const attempt = (expected: Uint8Array | null, path: string) => {
      const txn = storage.begin();
      txn.check(key('a'), expected);
      txn.put(key(path), bytes('written'));
      txn.put(key(`${path}2`), bytes('written'));
      return txn.commit();
    };
    const plain = storage.begin();
    plain.put(key('plain'), bytes('written'));
    const outcomes = await Promise.all([
      attempt(bytes('1'), 'x'),
      attempt(null, 'y'),
      attempt(bytes('2'), 'z'),
      plain.commit(),
    ]);
    assert.deepEqual(outcomes, [true, false, false, true]);
    assert.deepEqual(paths(await collect(storage.scan(under()))), ['a', 'plain', 'x', 'x2']);
  },

  'checks see the transactions committed before them, in flight or not': async ({ open }) => {
    const storage = await open();
    const step = (from: string | null, to: string | null) => {
      const txn = storage.begin();
      txn.check(key('turn'), from === null ? null : bytes(from));
      if (to === null) txn.delete(key('turn'));
      else txn.put(key('turn'), bytes(to));
      return txn.commit();
    };
    const outcomes = await Promise.all([
      step(null, 'a'),
      step('a', 'b'),
      step('a', 'c'),
      step('b', null),
      step(null, 'd'),
    ]);
    assert.deepEqual(outcomes, [true, true, false, true, true]);
    assert.equal(text(await storage.get(key('turn'))), 'd');
  },

  'racing increments by compare and set lose none': async ({ open }) => {
    const storage = await open();
    const increment = async () => {
      for (;;) {
        const before = await storage.get(key('counter'));
        const txn = storage.begin();
        txn.check(key('counter'), before);
        txn.put(key('counter'), bytes(`${Number(text(before)) + 1}`));
        if (await txn.commit()) return;
      }
    };
    await Promise.all(Array.from({ length: 40 }, increment));
    assert.equal(text(await storage.get(key('counter'))), '40');
  },

  'checks that race: of many who move between two keys, nobody loses or makes anything': async ({ open }) => {
    const storage = await open();
    await put(storage, { a: '50', b: '50' });
    const move = async (from: StorageKey, to: StorageKey) => {
      for (;;) {
        const [before, there] = await storage.getMany([from, to]);
        const txn = storage.begin();
        txn.check(from, before ?? null);
        txn.check(to, there ?? null);
        txn.put(from, bytes(`${Number(text(before ?? null)) - 1}`));
        txn.put(to, bytes(`${Number(text(there ?? null)) + 1}`));
        if (await txn.commit()) return;
      }
    };
    const moves = Array.from({ length: 30 }, (_, i) =>
      i % 3 === 0 ? move(key('b'), key('a')) : move(key('a'), key('b')),
    );
    const looks = Array.from({ length: 30 }, async () => {
      const [a = null, b = null] = await storage.getMany([key('a'), key('b')]);
      assert.equal(Number(text(a)) + Number(text(b)), 100);
    });
    await Promise.all([...moves, ...looks]);
    assert.deepEqual((await storage.getMany([key('a'), key('b')])).map(text), ['40', '60']);
  },

  'overlapping transactions are each seen whole or not at all, whatever they are committed with': async ({ open }) => {
    const storage = await open();
    const commits = Array.from({ length: 60 }, (_, i) => {
      const txn = storage.begin();
      for (const half of ['x', 'y']) txn.put(key(`${i}`, half), bytes(`${i}`));
      if (i % 4 === 0) txn.check(key('never there'), i % 8 === 0 ? null : bytes('something'));
      return txn.commit({ durability: (['full', 'normal', 'off'] as const)[i % 3] });
    });
    let settled = false;
    const all = Promise.all(commits).finally(() => {
      settled = true;
    });
    while (!settled) {
      const pairs = Array.from({ length: 60 }, (_, i) => [key(`${i}`, 'x'), key(`${i}`, 'y')]).flat();
      const found = await storage.getMany(pairs);
      for (let i = 0; i < 60; i++) assert.equal(found[2 * i] === null, found[2 * i + 1] === null, `half of ${i}`);
      // A store whose reads answer in the same turn of the loop would else keep commits that take a turn from ending.
      await new Promise((resolve) => setImmediate(resolve));
    }
    const outcomes = await all;
    const found = await storage.getMany(outcomes.map((_, i) => key(`${i}`, 'y')));
    for (const [i, committed] of outcomes.entries()) {
      assert.equal(committed, i % 8 !== 4);
      assert.equal(found[i] !== null, committed);
    }
  },
};
