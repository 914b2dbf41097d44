/** Watches: what is told, when, and how a watch ends. */
import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import type { StorageChange } from '../../contracts/storage.js';
import { bytes, type Cases, key, put, text } from './helpers.js';

export const watches: Cases = {
  'a watch gives the changes under its prefix, in commit order, after the commit': async ({ open }) => {
    const storage = await open();
    const stop = new AbortController();
    const changes = storage.watch({ namespace: 'suite', path: ['a'] }, { signal: stop.signal })[Symbol.asyncIterator]();
    const waiting = changes.next();
    const aborted = storage.begin();
    aborted.put(key('a', '0'), bytes(''));
    aborted.abort();
    await put(storage, { 'a/1': '', b: '', ab: '' });
    await put(storage, { 'a/2': '' }, 'other');
    const last = storage.begin();
    last.delete(key('a', '1'));
    last.put(key('a'), bytes(''));
    await last.commit();
    const seen = [await waiting, await changes.next(), await changes.next()].map(({ value }) => value as StorageChange);
    assert.deepEqual(seen, [
      { kind: 'put', key: key('a', '1') },
      { kind: 'delete', key: key('a', '1') },
      { kind: 'put', key: key('a') },
    ]);
    const end = changes.next();
    stop.abort();
    assert.deepEqual(await end, { done: true, value: undefined });
  },

  'what a watch tells of can be read': async ({ open }) => {
    const storage = await open();
    const changes = storage.watch({ namespace: 'suite', path: [] })[Symbol.asyncIterator]();
    const seen = changes.next().then(async ({ value }) => text(await storage.get((value as StorageChange).key)));
    await put(storage, { a: 'there' });
    assert.equal(await seen, 'there');
    await changes.return?.();
    assert.equal((await changes.next()).done, true);
  },

  'watches that have ended leave nothing on a signal that lives on': async ({ open }) => {
    const storage = await open();
    const { signal } = new AbortController();
    const watch = () => storage.watch({ namespace: 'suite', path: [] }, { signal })[Symbol.asyncIterator]();
    const unread = watch();
    for (let i = 0; i < 1_000; i++) await watch().return?.();
    assert.equal(getEventListeners(signal, 'abort').length, 1);
    await storage.close();
    assert.equal(getEventListeners(signal, 'abort').length, 0);
    // Held until here: an adapter may let go of a watch that nobody has any more.
    await unread.return?.();
  },

  'a watch that nobody reads ends with Throttled, and costs the store nothing': async ({ open }) => {
    const storage = await open();
    const changes = storage.watch({ namespace: 'suite', path: [] })[Symbol.asyncIterator]();
    const txn = storage.begin();
    for (let i = 0; i <= 10_000; i++) txn.put(key(`${i}`), bytes(''));
    assert.equal(await txn.commit(), true);
    await assert.rejects(changes.next(), { kind: 'Throttled', code: 'WATCH_OVERFLOW' });
    assert.equal((await changes.next()).done, true);
  },

  'a watch across batches that are committed together: in commit order, without those whose checks fail, to each who watches':
    async ({ open }) => {
      const storage = await open();
      const watching = [[], ['a']].map((path) => storage.watch({ namespace: 'suite', path })[Symbol.asyncIterator]());
      const commits = Array.from({ length: 90 }, (_, i) => {
        const txn = storage.begin();
        txn.put(key(i % 2 === 0 ? 'a' : 'b', `${i}`), bytes(''));
        if (i > 0) txn.delete(key(i % 2 === 0 ? 'b' : 'a', `${i - 1}`));
        if (i % 5 === 0) txn.check(key('b', 'none'), bytes('x'));
        return txn.commit();
      });
      const outcomes = await Promise.all(commits);
      const expected = outcomes.flatMap((committed, i) => {
        const [own, other] = i % 2 === 0 ? ['a', 'b'] : ['b', 'a'];
        if (!committed) return [];
        return [`put ${own}/${i}`, ...(i > 0 ? [`delete ${other}/${i - 1}`] : [])];
      });
      for (const [at, changes] of watching.entries()) {
        const wanted = at === 0 ? expected : expected.filter((line) => line.includes(' a/'));
        const seen: string[] = [];
        while (seen.length < wanted.length) {
          const { value } = (await changes.next()) as { value: StorageChange };
          seen.push(`${value.kind} ${value.key.path.join('/')}`);
        }
        assert.deepEqual(seen, wanted);
        await changes.return?.();
      }
    },
};
