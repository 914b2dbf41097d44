/**
 * What Storage means. `open()` gives an empty store; `reopen()`, where state outlives an instance (feature `persistent`),
 * the same one again. Assertions are node:assert's, so any test runner can show them.
 */
import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { Storage, type StorageChange, type StorageEntry, type StorageKey } from '../contracts/storage.js';
import { defineSuite, type Fixture } from './conformance.js';

const key = (...path: string[]): StorageKey => ({ namespace: 'suite', path });
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const text = (value: Uint8Array | null): string | null => (value === null ? null : new TextDecoder().decode(value));

async function put(storage: Storage, entries: Record<string, string>, namespace = 'suite'): Promise<void> {
  const txn = storage.begin();
  for (const [path, value] of Object.entries(entries)) txn.put({ namespace, path: path.split('/') }, bytes(value));
  assert.equal(await txn.commit(), true);
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

const paths = (entries: StorageEntry[]): string[] => entries.map((entry) => entry.key.path.join('/'));
const under = (...path: string[]) => ({ prefix: { namespace: 'suite', path } });
const fatal = (code: string) => ({ severity: 'fatal', code });

defineSuite(Storage, (features) => ({
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

  'values are copied on the way in and out': async ({ open }) => {
    const storage = await open();
    const mine = bytes('before');
    const txn = storage.begin();
    txn.put(key('a'), mine);
    mine.fill(0);
    await txn.commit();
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

  ...(features.has('persistent') && {
    'what was committed is there after reopening, and locks are free': async (fixture: Fixture<Storage>) => {
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
  }),
}));
