/** Locks, ping, closing, refusals, and what is there after reopening. */
import assert from 'node:assert/strict';
import { bytes, type Cases, collect, fatal, key, paths, put, text, under } from './helpers.js';

export const life = (features: ReadonlySet<string>): Cases => ({
  'a lock has one holder, whom the next one is told; disposing frees it': async ({ open }) => {
    const storage = await open();
    const lock = await storage.lock('queue', { holder: 'the first' });
    await assert.rejects(storage.lock('queue', { holder: 'the second' }), (error: Error & { code?: string }) => {
      assert.equal(error.code, 'LOCKED');
      assert.match(error.message, new RegExp(`"queue" of .* is held by the first \\(process ${process.pid}\\)`));
      return true;
    });
    const other = await storage.lock('other', { holder: 'the second' });
    await lock[Symbol.asyncDispose]();
    await lock[Symbol.asyncDispose]();
    const again = await storage.lock('queue', { holder: 'the third' });
    await assert.rejects(storage.lock('queue', { holder: 'x' }), /held by the third/);
    await again[Symbol.asyncDispose]();
    await other[Symbol.asyncDispose]();
  },

  'ping answers while the store is open': async ({ open }) => {
    await (await open()).ping();
  },

  'close settles everything in flight, and ends watches': async ({ open }) => {
    const storage = await open();
    const changes = storage.watch({ namespace: 'suite', path: ['none'] })[Symbol.asyncIterator]();
    const waiting = changes.next();
    const commits = Array.from({ length: 100 }, (_, i) => {
      const txn = storage.begin();
      txn.put(key(`${i}`), bytes('kept'));
      return txn.commit();
    });
    const closing = storage.close();
    assert.equal((await Promise.all(commits)).every(Boolean), true);
    await closing;
    assert.equal((await waiting).done, true);
  },

  'close settles locks in flight: one being disposed is freed once, one being taken is freed or refused': async (
    fixture,
  ) => {
    const storage = await fixture.open();
    const held = await storage.lock('held', { holder: 'before' });
    const asked = storage.lock('asked', { holder: 'before' }).catch((error) => assert.equal(error.code, 'CLOSED'));
    await Promise.all([storage.close(), held[Symbol.asyncDispose]()]);
    if (features.has('persistent')) {
      const again = await fixture.reopen();
      for (const name of ['held', 'asked']) await again.lock(name, { holder: 'after' });
    }
    await (await asked)?.[Symbol.asyncDispose]();
  },

  'close during everything: every call settles, what was answered holds after reopening, and nothing else is refused but CLOSED':
    async (fixture) => {
      const storage = await fixture.open();
      await put(storage, Object.fromEntries(Array.from({ length: 700 }, (_, i) => [`old/${i}`, 'x'])));
      const commits: Promise<boolean | 'refused'>[] = [];
      const others: Promise<unknown>[] = [];
      const refused = (error: unknown): 'refused' => {
        assert.equal((error as { code?: string }).code, 'CLOSED');
        return 'refused';
      };
      let closing: Promise<void> | null = null;
      for (let round = 0; round < 12; round++) {
        if (round === 6) closing = storage.close();
        for (let i = 0; i < 5; i++) {
          try {
            const txn = storage.begin();
            txn.put(key('new', `${round}`, `${i}`), bytes('x'));
            // Some are held against what is not there: those are answered false.
            if (i === 4) txn.check(key('never'), bytes('x'));
            commits.push(txn.commit().catch(refused));
          } catch (error) {
            commits.push(Promise.resolve(refused(error)));
          }
        }
        others.push(
          storage.get(key('old', `${round}`)).then((value) => assert.equal(text(value), 'x'), refused),
          collect(storage.scan(under('old'))).then((all) => assert.equal(all.length, 700), refused),
          collect(storage.watch({ namespace: 'suite', path: ['none'] })).catch(refused),
          storage.lock(`${round}`, { holder: 'before' }).catch(refused),
          storage.ping().catch(refused),
        );
        // Calls of another turn of the loop find another state of the one before.
        if (round % 2 === 0) await new Promise((resolve) => setImmediate(resolve));
      }
      const outcomes = await Promise.all(commits);
      await Promise.all([...others, closing]);
      assert.deepEqual(outcomes.slice(0, 5), [true, true, true, true, false]);
      assert.deepEqual(new Set(outcomes.slice(-5)), new Set(['refused']));
      if (!features.has('persistent')) return;
      const again = await fixture.reopen();
      for (const [i, outcome] of outcomes.entries()) {
        const found = text(await again.get(key('new', `${Math.floor(i / 5)}`, `${i % 5}`)));
        assert.equal(found, outcome === true ? 'x' : null);
      }
      for (let round = 0; round < 12; round++) await again.lock(`${round}`, { holder: 'after' });
    },

  'after close every call is refused with CLOSED': async ({ open }) => {
    const storage = await open();
    await put(storage, { a: '' });
    const begun = storage.begin();
    begun.put(key('b'), bytes(''));
    const scan = storage.scan(under())[Symbol.asyncIterator]();
    await storage.close();
    await storage.close();
    const closed = fatal('CLOSED');
    await assert.rejects(storage.get(key('a')), closed);
    await assert.rejects(storage.getMany([]), closed);
    await assert.rejects(collect(storage.scan(under())), closed);
    await assert.rejects(scan.next(), closed);
    await assert.rejects(collect(storage.watch({ namespace: 'suite', path: [] })), closed);
    await assert.rejects(storage.lock('x', { holder: 'x' }), closed);
    await assert.rejects(storage.ping(), closed);
    assert.throws(() => storage.begin(), closed);
    await assert.rejects(begun.commit(), closed);
  },

  'keys that no store can hold are refused': async ({ open }) => {
    const storage = await open();
    const bad = { severity: 'fatal', kind: 'SchemaViolation', code: 'ARGUMENT_INVALID' };
    for (const path of [[], ['a\0b'], ['\uD800'], ['x'.repeat(1025)], Array(33).fill('a')]) {
      await assert.rejects(storage.get({ namespace: 'suite', path }), bad);
      assert.throws(() => storage.begin().put({ namespace: 'suite', path }, bytes('')), bad);
    }
    await assert.rejects(storage.get({ namespace: '', path: ['a'] }), bad);
  },

  'what is no bytes is refused as a value, and as what is expected': async ({ open }) => {
    const txn = (await open()).begin();
    const bad = { severity: 'fatal', kind: 'SchemaViolation', code: 'ARGUMENT_INVALID' };
    for (const value of ['text', undefined, [1], new ArrayBuffer(1)] as never[]) {
      assert.throws(() => txn.put(key('a'), value), bad);
      assert.throws(() => txn.check(key('a'), value), bad);
    }
    assert.throws(() => txn.put(key('a'), null as never), bad);
    txn.abort();
  },

  'close with reads in flight: each is answered or refused with CLOSED, and none hangs': async ({ open }) => {
    const storage = await open();
    await put(storage, Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`${i}`, `${i}`])));
    const reads: Promise<unknown>[] = Array.from({ length: 50 }, (_, i) => storage.get(key(`${i}`)).then(text));
    reads.push(
      collect(storage.scan(under())).then(() => 'scanned'),
      storage.ping().then(() => 'pinged'),
    );
    const closing = storage.close();
    for (const [i, outcome] of (await Promise.allSettled(reads)).entries()) {
      if (outcome.status === 'rejected') assert.equal(outcome.reason.code, 'CLOSED');
      else assert.equal(outcome.value, ['scanned', 'pinged'][i - 50] ?? `${i}`);
    }
    await closing;
  },
});

export const persistent: Cases = {
  'what was committed is there after reopening, and locks are free': async (fixture) => {
    const storage = await fixture.open();
    await put(storage, { a: '1', 'b/c': '2' });
    await storage.lock('x', { holder: 'before' });
    const last = storage.begin();
    last.delete(key('a'));
    const commit = last.commit();
    await storage.close();
    assert.equal(await commit, true);
    const again = await fixture.reopen();
    assert.deepEqual(paths(await collect(again.scan(under()))), ['b/c']);
    await again.lock('x', { holder: 'after' });
  },
};
