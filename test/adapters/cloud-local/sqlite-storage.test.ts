import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import sqlite3 from 'sqlite3';
import { InMemQueue } from '../../../src/adapters/cloud-local/in-mem-queue.js';
import { SqliteStorage } from '../../../src/adapters/cloud-local/sqlite-storage.js';
import { Storage } from '../../../src/contracts/index.js';
import { conformance } from '../../../src/testing/conformance.js';
import '../../../src/testing/storage-suite.js';
import { file, has, key, moduleStart, open, put, sql } from './sqlite-storage-kit.js';

describe('local.sqlite is a Storage', () => {
  let made = 0;
  for (const c of conformance(Storage, { features: ['persistent'] })) {
    test(c.name, () =>
      c.run({
        open: () => SqliteStorage.open(file(`${++made}.db`)),
        reopen: () => SqliteStorage.open(file(`${made}.db`)),
      }),
    );
  }
});

describe('a lock', () => {
  test('is held against whoever opened the database by a link, too', async () => {
    const storage = await open();
    await storage.lock('queue', { holder: 'the first' });
    symlinkSync(file(), file('link.db'));
    const other = await open(file('link.db'));
    await expect(other.lock('queue', { holder: 'the second' })).rejects.toMatchObject({ code: 'LOCKED' });
  });

  test('whose file is damaged says so, and how to mend it', async () => {
    const storage = await open();
    const lock = `${file()}.x.lock`;
    writeFileSync(lock, 'not a database, but long enough to be looked at as one'.repeat(10));
    await expect(storage.lock('x', { holder: 'the first' })).rejects.toMatchObject({
      kind: 'ConfigInvalid',
      code: 'STORAGE_FORMAT',
      message: expect.stringMatching(
        /x\.lock is no database any more; .* stop every process that uses .*, then delete it/,
      ),
    });
    rmSync(lock);
    await storage.lock('x', { holder: 'the second' });
  });

  test('that is being taken when the storage closes is refused, and free once it has closed', async () => {
    const storage = await open();
    let refusal: unknown = null;
    storage.lock('x', { holder: 'late' }).catch((error) => {
      refusal = error;
    });
    await storage.close();
    expect(refusal).toMatchObject({ code: 'CLOSED' });
    await (await open()).lock('x', { holder: 'next' });
  });
});

describe('the file', () => {
  test('that another process has not finished making is waited for, until busyTimeoutMs is over', async () => {
    await (await SqliteStorage.open(file())).close();
    await sql(file(), 'PRAGMA journal_mode = DELETE');
    // Who reads a file that has no write-ahead log yet keeps others from giving it one.
    const other = await new Promise<sqlite3.Database>((resolve) => {
      const database = new sqlite3.Database(file(), () =>
        database.exec('BEGIN; SELECT * FROM entry', () => resolve(database)),
      );
    });
    await expect(SqliteStorage.open(file(), { busyTimeoutMs: 50 })).rejects.toMatchObject({ code: 'STORAGE_BUSY' });
    const opening = open(file(), { busyTimeoutMs: 60_000 });
    await new Promise((resolve) => setTimeout(resolve, 100));
    await new Promise((resolve) => other.close(resolve));
    expect(await put(await opening, 'a')).toBe(true);
  });

  test('its folders are made, and it keeps a write-ahead log', async () => {
    const storage = await open(file('deep/er/x.db'));
    expect(storage.durability).toBe('full');
    expect(storage.path).toBe(file('deep/er/x.db'));
    await put(storage, 'a');
    expect(await sql(file('deep/er/x.db'), 'PRAGMA journal_mode')).toEqual([{ journal_mode: 'wal' }]);
  });

  test('one that is no database is refused and left as it is', async () => {
    writeFileSync(file(), 'not a database, but long enough to be looked at as one'.repeat(10));
    const before = readFileSync(file());
    await expect(open()).rejects.toMatchObject({
      kind: 'ConfigInvalid',
      code: 'STORAGE_FORMAT',
      message: expect.stringContaining('is not a database'),
    });
    expect(readFileSync(file())).toEqual(before);
  });

  test('one of another program is refused and left as it is', async () => {
    await sql(file(), 'CREATE TABLE theirs (x)');
    const before = readFileSync(file());
    await expect(open()).rejects.toMatchObject({
      kind: 'ConfigInvalid',
      code: 'STORAGE_FORMAT',
      message: expect.stringContaining('is a database of another program'),
    });
    expect(readFileSync(file())).toEqual(before);
  });

  test('one of a newer version is refused, both versions named, and left as it is', async () => {
    await (await SqliteStorage.open(file())).close();
    await sql(file(), 'PRAGMA user_version = 7');
    const before = readFileSync(file());
    await expect(open()).rejects.toMatchObject({
      code: 'STORAGE_FORMAT',
      message: expect.stringContaining('has format 7, this version reads up to 1'),
    });
    expect(readFileSync(file())).toEqual(before);
  });

  test('a folder in its place, and a file where its folder should be', async () => {
    await expect(open(dirname(file()))).rejects.toMatchObject({ kind: 'ConfigInvalid', code: 'IO_DENIED' });
    writeFileSync(file('plain'), '');
    await expect(open(file('plain/x.db'))).rejects.toMatchObject({ kind: 'ConfigInvalid', code: 'IO_DENIED' });
  });

  test('a damaged one tells so, and nothing is written over it', async () => {
    const storage = await SqliteStorage.open(file());
    for (let i = 0; i < 50; i++) await put(storage, `${i}`, new Uint8Array(1000).fill(i));
    await storage.close();
    const damaged = readFileSync(file());
    damaged.fill(0x55, 4096 * 2);
    writeFileSync(file(), damaged);
    const again = await open();
    const reading = (async () => {
      for await (const _ of again.scan({ prefix: { namespace: 'n', path: [] } }));
    })();
    await expect(reading).rejects.toMatchObject({ severity: 'fatal', kind: 'Internal', code: 'STORAGE_CORRUPT' });
  });
});

describe('group commit', () => {
  test('what is committed while a flush is under way shares the next one', async () => {
    const storage = await open();
    await Promise.all(Array.from({ length: 1_000 }, (_, i) => put(storage, `${i}`)));
    expect(storage.flushes).toBeLessThan(20);
    const before = storage.flushes;
    for (let i = 0; i < 10; i++) await put(storage, `one ${i}`);
    expect(storage.flushes - before).toBe(10);
  });

  test('a batch of more rows than one statement takes is still all or nothing, seen at once', async () => {
    const storage = await open();
    const txn = storage.begin();
    for (let i = 0; i < 1_365; i++) txn.put(key(`${i}`), Uint8Array.of(i & 255));
    const commit = txn.commit();
    const counts = new Set<number>();
    for (let done = false; !done; ) {
      done = await Promise.race([commit, storage.ping().then(() => false)]);
      counts.add((await storage.getMany(Array.from({ length: 1_365 }, (_, i) => key(`${i}`)))).filter(Boolean).length);
    }
    expect([...counts].filter((count) => count !== 0 && count !== 1_365)).toEqual([]);
    expect(counts).toContain(1_365);
  });

  test('values that travel together and values that do not, of every size: each is found as it was put', async () => {
    const storage = await open();
    const sizes = [0, 1, 255, 65_535, 65_536, 65_537, 2 ** 20, 2 ** 22, 2 ** 22 + 1];
    const txn = storage.begin();
    const values = new Map<string, Buffer>();
    for (let i = 0; i < 200; i++) {
      const path = i % 3 === 0 ? `${'long'.repeat(100)}${i}` : `${i}`;
      const value = Buffer.alloc(i < sizes.length ? (sizes[i] as number) : 50_000, i);
      values.set(path, value);
      txn.put(key(path), value);
    }
    expect(await txn.commit()).toBe(true);
    const found = await storage.getMany([...values.keys()].map((path) => key(path)));
    for (const [i, value] of [...values.values()].entries()) expect(Buffer.compare(found[i] as Buffer, value)).toBe(0);
    const gone = storage.begin();
    for (const path of values.keys()) gone.delete(key(path));
    await gone.commit();
    expect(await storage.getMany([...values.keys()].map((path) => key(path)))).toEqual(Array(200).fill(null));
  });

  test('keys, and what else a write takes, count as unflushed, too', async () => {
    const storage = await open(file(), { maxUnflushedBytes: 1_000 });
    const outcomes = await Promise.allSettled(
      Array.from({ length: 10 }, (_, i) => put(storage, `${i}`, new Uint8Array())),
    );
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(4);
  });

  test('what only deletes is not refused for the values of others, and has a bound of its own', async () => {
    const storage = await open(file(), { maxUnflushedBytes: 1_000 });
    await put(storage, 'a');
    const large = put(storage, 'large', new Uint8Array(5_000));
    const gone = storage.begin();
    gone.delete(key('a'));
    const many = storage.begin();
    for (let i = 0; i < 5; i++) many.delete(key(`${i}`));
    const [deleted, refused] = [gone.commit(), many.commit()];
    await expect(refused).rejects.toMatchObject({ kind: 'Throttled', code: 'BACKLOG_FULL' });
    expect(await Promise.all([large, deleted])).toEqual([true, true]);
    expect(await storage.get(key('a'))).toBeNull();
  });

  test('queues that share a storage wait for each other’s payloads', async () => {
    const storage = await open(file(), { maxUnflushedBytes: 100_000 });
    const queues = await Promise.all(['one', 'other'].map((name) => InMemQueue.open(storage, { name })));
    await Promise.all(queues.map((queue) => queue.enqueue(new Uint8Array(80_000))));
    for (const queue of queues) {
      expect((await queue.dequeue())?.payload).toHaveLength(80_000);
      await queue.close();
    }
  });

  test('so do keys by their length, and what is only checked', async () => {
    const storage = await open(file(), { maxUnflushedBytes: 2_000 });
    const long = ['a', 'b'].map((name) => put(storage, name.repeat(1_000), new Uint8Array()));
    expect((await Promise.allSettled(long)).map(({ status }) => status)).toEqual(['fulfilled', 'rejected']);
    const checked = ['a', 'b'].map((name) => {
      const txn = storage.begin();
      txn.check(key(name), new Uint8Array(1_500));
      return txn.commit();
    });
    expect((await Promise.allSettled(checked)).map(({ status }) => status)).toEqual(['fulfilled', 'rejected']);
  });

  test('commits beyond maxUnflushedBytes are Throttled, unless alone; what was taken is written', async () => {
    const storage = await open(file(), { maxUnflushedBytes: 1_000 });
    const outcomes = await Promise.allSettled([1, 2, 3].map((i) => put(storage, `${i}`, new Uint8Array(600))));
    const throttled = expect.objectContaining({ kind: 'Throttled', code: 'BACKLOG_FULL' });
    expect(outcomes).toEqual([
      { status: 'fulfilled', value: true },
      { status: 'rejected', reason: throttled },
      { status: 'rejected', reason: throttled },
    ]);
    expect(await put(storage, 'large', new Uint8Array(5_000))).toBe(true);
    expect((await storage.getMany([key('1'), key('2'), key('large')])).map((value) => value?.length ?? null)).toEqual([
      600,
      null,
      5_000,
    ]);
  });

  test('a flush that fails rejects its own commits alone, and the store goes on', async () => {
    const storage = await open(file(), { busyTimeoutMs: 50 });
    await put(storage, 'before');
    // Another process holds the database for longer than a flush waits.
    const other = new sqlite3.Database(file());
    const run = (text: string) =>
      new Promise<void>((resolve, reject) => other.exec(text, (error) => (error ? reject(error) : resolve())));
    await run('BEGIN IMMEDIATE');
    const failed = await Promise.allSettled([put(storage, 'a'), put(storage, 'b')]);
    expect(failed).toEqual([
      { status: 'rejected', reason: expect.objectContaining({ kind: 'Transient', code: 'STORAGE_BUSY' }) },
      { status: 'rejected', reason: expect.objectContaining({ kind: 'Transient', code: 'STORAGE_BUSY' }) },
    ]);
    await run('ROLLBACK');
    await new Promise((resolve) => other.close(resolve));
    expect(await put(storage, 'c')).toBe(true);
    expect(
      (await storage.getMany([key('before'), key('a'), key('b'), key('c')])).map((value) => value !== null),
    ).toEqual([true, false, false, true]);
  });
});

describe('a few rows that no single statement writes', () => {
  const calls = () => {
    const seen: string[] = [];
    const { exec } = sqlite3.Database.prototype;
    const { run } = sqlite3.Statement.prototype;
    const noting = <T>(name: string, method: T): T =>
      function (this: unknown, ...args: unknown[]) {
        seen.push(name);
        return (method as (...args: unknown[]) => unknown).apply(this, args);
      } as T;
    sqlite3.Database.prototype.exec = noting('exec', exec);
    sqlite3.Statement.prototype.run = noting('run', run);
    restore = () => {
      sqlite3.Database.prototype.exec = exec;
      sqlite3.Statement.prototype.run = run;
    };
    return seen;
  };
  let restore = () => {};
  afterEach(() => restore());

  test('are written by one call, the level of its sync with it', async () => {
    const storage = await open();
    const other = (...path: string[]) => ({ namespace: 'other', path });
    const every = Uint8Array.from({ length: 256 }, (_, i) => i);
    const first = storage.begin();
    for (const at of [key('a'), key("it's"), other('a')]) first.put(at, Uint8Array.of(1));
    await first.commit();
    const seen = calls();
    const second = storage.begin();
    second.delete(key('a'));
    second.put(key("it's"), every);
    second.put(other('a', ''), new Uint8Array(0));
    second.delete(other('a'));
    await second.commit({ durability: 'normal' });
    expect(seen).toEqual(['exec']);
    await put(storage, 'b');
    expect(seen).toEqual(['exec', 'exec']);
    const keys = [key('a'), key("it's"), other('a', ''), other('a'), key('b')];
    const found = (await storage.getMany(keys)).map((value) => value && [...value]);
    expect(found).toEqual([null, [...every], [], null, [1]]);
  });

  test('are all or none where one of them is refused, and the store goes on', async () => {
    const storage = await open();
    await put(storage, 'before');
    await sql(
      file(),
      "CREATE TRIGGER t BEFORE INSERT ON entry WHEN NEW.key = CAST('bad' AS BLOB) BEGIN SELECT RAISE(ABORT, 'no'); END",
    );
    const txn = storage.begin();
    txn.delete(key('before'));
    txn.put(key('bad'), Uint8Array.of(1));
    await expect(txn.commit({ durability: 'normal' })).rejects.toMatchObject({
      message: expect.stringContaining('no'),
    });
    expect(await storage.get(key('before'))).toEqual(Uint8Array.of(1));
    expect(await put(storage, 'after')).toBe(true);
    expect(await storage.get(key('after'))).toEqual(Uint8Array.of(1));
  });
});

describe('the durability of one commit', () => {
  const { prototype } = sqlite3.Database;
  const { exec } = prototype;
  afterEach(() => {
    prototype.exec = exec;
  });

  test('may be less than the store promises, never more; the most demanding commit of a flush decides', async () => {
    const storage = await open();
    const lax = await open(file('lax.db'), { durability: 'normal' });
    const set: string[] = [];
    prototype.exec = function (this: sqlite3.Database, text: string, ...rest: unknown[]) {
      const [, level] = /^PRAGMA synchronous = (\w+)/.exec(text) ?? [];
      if (level !== undefined) set.push(level);
      return (exec as (...args: unknown[]) => sqlite3.Database).call(this, text, ...rest);
    } as typeof exec;
    const commit = (on: SqliteStorage, path: string, durability?: 'full' | 'normal' | 'off') => {
      const txn = on.begin();
      txn.put(key(path), Uint8Array.of(1));
      return txn.commit({ durability });
    };
    await commit(storage, 'a');
    expect(set).toEqual([]);
    await commit(storage, 'b', 'normal');
    await commit(storage, 'c', 'off');
    expect(set).toEqual(['NORMAL']);
    await Promise.all([commit(storage, 'd', 'normal'), commit(storage, 'e', 'full'), commit(storage, 'f', 'off')]);
    expect(set).toEqual(['NORMAL', 'FULL']);
    await commit(lax, 'a', 'full');
    expect(set).toEqual(['NORMAL', 'FULL']);
  });
});

describe('gets that wait together', () => {
  test('are answered together, each with its own bytes, of several namespaces and of none', async () => {
    const storage = await open();
    const txn = storage.begin();
    const keys = ['one', 'two', 'none'].flatMap((namespace) =>
      ['a', 'b', '', 'x'.repeat(900)].map((path) => ({ namespace, path: [path] })),
    );
    for (const each of keys.filter(({ namespace }) => namespace !== 'none'))
      txn.put(each, Buffer.from(JSON.stringify(each)));
    await txn.commit();
    const asked = [...keys, ...keys];
    for (let round = 0; round < 2; round++) {
      const found = await Promise.all([storage.getMany(keys), ...asked.map((each) => storage.get(each))]);
      const texts = (found.flat() as (Uint8Array | null)[]).map((value) => value && Buffer.from(value).toString());
      expect(texts).toEqual(
        [...keys, ...asked].map((each) => (each.namespace === 'none' ? null : JSON.stringify(each))),
      );
    }
  });
});

describe('options', () => {
  test.each([
    [{ durability: 'ful' }, 'options.durability must be "full", "normal" or "off", found "ful"'],
    [{ durability: 'full; DELETE FROM entry' }, 'options.durability must be'],
    [{ durability: ['full'] }, 'options.durability must be'],
    [{ busyTimeoutMs: 'x' }, 'options.busyTimeoutMs must be an integer from 0 to 2147483647, found "x"'],
    [{ busyTimeoutMs: 2 ** 31 }, 'options.busyTimeoutMs must be'],
    [{ busyTimeoutMs: -1 }, 'options.busyTimeoutMs must be'],
    [
      { durabilty: 'off' },
      'unknown option "durabilty" in options. Did you mean "durability"? Known: busyTimeoutMs, durability, maxUnflushedBytes.',
    ],
    [{ maxUnflushedBytes: 0 }, 'options.maxUnflushedBytes must be an integer of at least 1, found 0'],
    [null, 'options must be an object'],
  ])('%j are refused, and nothing is made', async (options, message) => {
    await expect(open(file(), options as never)).rejects.toMatchObject({
      kind: 'SchemaViolation',
      code: 'ARGUMENT_INVALID',
      message: expect.stringContaining(message),
    });
    expect(existsSync(file())).toBe(false);
  });

  test.each([undefined, '', 7, 'a\0b', 'x'.repeat(4_097), ':memory:', 'file:x.db?mode=memory'])(
    'so is the path %j',
    async (path) => {
      await expect(SqliteStorage.open(path as never)).rejects.toMatchObject({
        kind: 'SchemaViolation',
        code: 'ARGUMENT_INVALID',
        message: expect.stringContaining('path must be'),
      });
    },
  );

  test('at their bounds are taken', async () => {
    await open(file('a.db'), { durability: 'normal', busyTimeoutMs: 0 });
    await open(file('b.db'), { durability: undefined, busyTimeoutMs: 2 ** 31 - 1 });
  });
});

describe('what is synced', () => {
  const strace = has('strace');
  const traced = strace ? test : test.skip;
  const skipped = strace ? '' : ' (skipped: strace is not installed)';

  /** The files and folders that a process of its own syncs while it puts 20 values, one by one, into `path`. */
  async function syncs(path: string, durability: string): Promise<string[]> {
    const script = `${await moduleStart()}
      const storage = await SqliteStorage.open(${JSON.stringify(path)}, { durability: ${JSON.stringify(durability)} });
      for (let i = 0; i < 20; i++) await put(storage, String(i));
      process.kill(process.pid, 'SIGKILL');`;
    const trace = file('trace');
    const node = [process.execPath, '--input-type=module', '-e', script];
    const run = spawn('strace', ['-f', '-y', '-e', 'trace=fdatasync,fsync', '-o', trace, ...node]);
    await new Promise((resolve) => run.once('exit', resolve));
    return [...readFileSync(trace, 'utf8').matchAll(/ f(?:data)?sync\(\d+<([^>]+)>/g)].map(([, synced = '']) => synced);
  }

  traced.each(['full', 'normal', 'off'] as const)(
    `by a flush at %s is what the level says${skipped}`,
    async (durability) => {
      await (await SqliteStorage.open(file())).close();
      const count = (await syncs(file(), durability)).length;
      if (durability === 'full') expect(count).toBeGreaterThanOrEqual(20);
      else if (durability === 'normal') expect(count).toBeLessThan(15);
      else expect(count).toBe(0);
    },
  );

  traced(
    `at full, when a database is made: the name of each of its folders, up to one that was there${skipped}`,
    async () => {
      const folder = realpathSync(dirname(file()));
      const folders = [folder, `${folder}/deep`, `${folder}/deep/er`];
      expect(await syncs(file('deep/er/x.db'), 'full')).toEqual(expect.arrayContaining(folders));
      // Made by another process, which may have died before it synced them.
      mkdirSync(file('other'));
      expect(await syncs(file('other/x.db'), 'full')).toEqual(expect.arrayContaining([folder, `${folder}/other`]));
      expect(await syncs(file('third/x.db'), 'normal')).not.toContain(folder);
    },
  );
});
