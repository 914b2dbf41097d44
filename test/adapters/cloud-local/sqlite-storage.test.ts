import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import sqlite3 from 'sqlite3';
import { SqliteStorage, type SqliteStorageOptions } from '../../../src/adapters/cloud-local/sqlite-storage.js';
import { sqliteError } from '../../../src/adapters/cloud-local/storage/sqlite-port.js';
import { Storage, type StorageKey } from '../../../src/contracts/index.js';
import { conformance } from '../../../src/testing/conformance.js';
import '../../../src/testing/storage-suite.js';
import { bundle } from '../../support/bundle.js';

let folder: string;
const opened: SqliteStorage[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'rollout-'));
});
afterEach(async () => {
  for (const storage of opened.splice(0)) await storage.close();
  rmSync(folder, { recursive: true, force: true });
});

const file = (name = 'x.db') => join(folder, name);
const key = (...path: string[]): StorageKey => ({ namespace: 'n', path });

async function open(path = file(), options?: SqliteStorageOptions): Promise<SqliteStorage> {
  const storage = await SqliteStorage.open(path, options);
  opened.push(storage);
  return storage;
}

function put(storage: Storage, path: string, value: Uint8Array = Uint8Array.of(1)): Promise<boolean> {
  const txn = storage.begin();
  txn.put(key(path), value);
  return txn.commit();
}

/** Runs SQL on a file by other means. */
function sql(path: string, text: string): Promise<Record<string, unknown>[]> {
  return new Promise((resolve, reject) => {
    const database = new sqlite3.Database(path);
    database.all(text, (error, rows) => database.close(() => (error ? reject(error) : resolve(rows as never))));
  });
}

const has = (command: string): boolean => spawnSync(command, ['-V']).error === undefined;

function canMount(): boolean {
  const point = mkdtempSync(join(tmpdir(), 'rollout-'));
  const mounted = spawnSync('mount', ['-t', 'tmpfs', 'tmpfs', point]).status === 0;
  if (mounted) spawnSync('umount', [point]);
  rmSync(point, { recursive: true, force: true });
  return mounted;
}

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

describe('the file', () => {
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
    await expect(open(folder)).rejects.toMatchObject({ kind: 'ConfigInvalid', code: 'IO_DENIED' });
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

  const tmpfs = process.platform === 'linux' && process.getuid?.() === 0 && canMount();
  (tmpfs ? test : test.skip)(
    `a full disk is Transient, what was committed stays, and space mends it${tmpfs ? '' : ' (skipped: cannot mount a tmpfs here)'}`,
    async () => {
      const disk = file('disk');
      mkdirSync(disk);
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', disk]);
      try {
        const storage = await SqliteStorage.open(join(disk, 'x.db'));
        await put(storage, 'before', new Uint8Array(1000));
        writeFileSync(join(disk, 'ballast'), new Uint8Array(500_000));
        await expect(put(storage, 'large', new Uint8Array(900_000))).rejects.toMatchObject({
          severity: 'recoverable',
          kind: 'Transient',
          context: { file: join(disk, 'x.db') },
        });
        expect(await storage.get(key('before'))).toHaveLength(1000);
        expect(await storage.get(key('large'))).toBeNull();
        rmSync(join(disk, 'ballast'));
        expect(await put(storage, 'large', new Uint8Array(300_000))).toBe(true);
        await storage.close();
        const again = await SqliteStorage.open(join(disk, 'x.db'));
        expect(await again.get(key('large'))).toHaveLength(300_000);
        await again.close();
      } finally {
        execFileSync('umount', [disk]);
      }
    },
  );

  const strace = has('strace');
  test.each(strace ? (['full', 'normal', 'off'] as const) : [])(
    'at %s, a flush syncs what the level says',
    async (durability) => {
      await (await SqliteStorage.open(file())).close();
      const trace = file('trace');
      const script = `
      import { SqliteStorage } from ${JSON.stringify(await bundle('src/adapters/cloud-local/sqlite-storage.ts'))};
      const storage = await SqliteStorage.open(${JSON.stringify(file())}, { durability: ${JSON.stringify(durability)} });
      for (let i = 0; i < 20; i++) {
        const txn = storage.begin();
        txn.put({ namespace: 'n', path: [String(i)] }, Uint8Array.of(1));
        await txn.commit();
      }
      process.kill(process.pid, 'SIGKILL');`;
      const run = spawn('strace', [
        '-f',
        '-e',
        'trace=fdatasync,fsync',
        '-o',
        trace,
        process.execPath,
        '--input-type=module',
        '-e',
        script,
      ]);
      await new Promise((resolve) => run.once('exit', resolve));
      const syncs = readFileSync(trace, 'utf8')
        .split('\n')
        .filter((line) => / f(data)?sync\(/.test(line)).length;
      if (durability === 'full') expect(syncs).toBeGreaterThanOrEqual(20);
      else if (durability === 'normal') expect(syncs).toBeLessThan(15);
      else expect(syncs).toBe(0);
    },
  );
  if (!strace) test.skip('at each level, a flush syncs what it says (skipped: strace is not installed)', () => {});
});

describe('the result codes of SQLite in the error family', () => {
  test.each([
    ['SQLITE_BUSY', 'recoverable', 'Transient', 'STORAGE_BUSY'],
    ['SQLITE_FULL', 'recoverable', 'Transient', 'STORAGE_FULL'],
    ['SQLITE_IOERR', 'recoverable', 'Transient', 'IO_ERROR'],
    ['SQLITE_NOTADB', 'fatal', 'ConfigInvalid', 'STORAGE_FORMAT'],
    ['SQLITE_CANTOPEN', 'fatal', 'ConfigInvalid', 'IO_DENIED'],
    ['SQLITE_READONLY', 'fatal', 'ConfigInvalid', 'IO_DENIED'],
    ['SQLITE_CORRUPT', 'fatal', 'Internal', 'STORAGE_CORRUPT'],
    ['SQLITE_MISUSE', 'fatal', 'Internal', 'INTERNAL'],
  ])('%s is %s %s %s, and names the file', (sqlite, severity, kind, code) => {
    const error = sqliteError(Object.assign(new Error('x'), { code: sqlite }), '/data/x.db');
    expect(error).toMatchObject({ severity, kind, code, context: { file: '/data/x.db', sqlite } });
    expect(error.message).toContain('/data/x.db');
  });
});

describe('several processes', () => {
  const child = (script: string) =>
    spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['pipe', 'pipe', 'inherit'] });
  const prelude = async () => `
    import { appendFileSync } from 'node:fs';
    import { SqliteStorage } from ${JSON.stringify(await bundle('src/adapters/cloud-local/sqlite-storage.ts'))};
    const storage = await SqliteStorage.open(${JSON.stringify(file())});
    const put = (...paths) => { const txn = storage.begin(); for (const p of paths) txn.put({ namespace: 'n', path: [p] }, Uint8Array.of(1)); return txn.commit(); };`;
  const line = (process: ReturnType<typeof child>) =>
    new Promise<string>((resolve) => process.stdout?.once('data', (data) => resolve(String(data).trim())));

  test('may write to one file at once, and lose nothing', async () => {
    const script = `${await prelude()}
      const name = process.argv[1];
      await Promise.all(Array.from({ length: 200 }, (_, i) => put(name + i)));
      await storage.close();`;
    const storage = await open();
    const runs = ['a', 'b'].map(
      (name) =>
        new Promise<number | null>((resolve) => {
          spawn(process.execPath, ['--input-type=module', '-e', script, name], { stdio: 'inherit' }).on(
            'exit',
            resolve,
          );
        }),
    );
    const own = Promise.all(Array.from({ length: 200 }, (_, i) => put(storage, `c${i}`)));
    expect(await Promise.all(runs)).toEqual([0, 0]);
    await own;
    let found = 0;
    for await (const _ of storage.scan({ prefix: { namespace: 'n', path: [] } })) found++;
    expect(found).toBe(600);
  });

  test('a lock is held against them, its holder named, and a SIGKILL frees it', async () => {
    const other = child(
      `${await prelude()} await storage.lock('queue', { holder: 'the child' }); console.log('held'); setInterval(() => {}, 1000);`,
    );
    expect(await line(other)).toBe('held');
    const storage = await open();
    await expect(storage.lock('queue', { holder: 'me' })).rejects.toMatchObject({
      code: 'LOCKED',
      message: expect.stringContaining(`is held by the child (process ${other.pid})`),
    });
    const gone = new Promise((resolve) => other.once('exit', resolve));
    other.kill('SIGKILL');
    await gone;
    await storage.lock('queue', { holder: 'me' });
  });

  test('one that is killed loses nothing that was resolved, and leaves no half of a batch', async () => {
    const ledger = file('ledger');
    const script = `${await prelude()}
      for (let i = Number(process.argv[1]); ; i++) {
        Promise.all([put(i + 'a', i + 'b'), put(i + 'c')]).then(() => appendFileSync(${JSON.stringify(ledger)}, i + '\\n'));
        if (i % 8 === 0) await put('turn');
      }`;
    for (let round = 0; round < 5; round++) {
      const size = () => (existsSync(ledger) ? statSync(ledger).size : 0);
      const before = size();
      const writer = spawn(process.execPath, ['--input-type=module', '-e', script, `${round * 1_000_000}`], {
        stdio: 'inherit',
      });
      const gone = new Promise((resolve) => writer.once('exit', resolve));
      while (size() < before + 100 + round * 50) await new Promise((resolve) => setTimeout(resolve, 2));
      writer.kill('SIGKILL');
      await gone;

      const storage = await SqliteStorage.open(file());
      const there = new Set<string>();
      for await (const entry of storage.scan({ prefix: { namespace: 'n', path: [] } }))
        there.add(entry.key.path.join());
      const promised = readFileSync(ledger, 'utf8').split('\n').slice(0, -1);
      expect(promised.flatMap((i) => [`${i}a`, `${i}b`, `${i}c`]).filter((path) => !there.has(path))).toEqual([]);
      expect([...there].filter((path) => path.endsWith('a') && !there.has(path.replace('a', 'b')))).toEqual([]);
      await storage.close();
    }
  });
});
