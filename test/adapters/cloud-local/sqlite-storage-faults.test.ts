import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import sqlite3 from 'sqlite3';
import { SqliteStorage } from '../../../src/adapters/cloud-local/sqlite-storage.js';
import { isSafeEngine, type SqlConnection } from '../../../src/adapters/cloud-local/storage/engine.js';
import { Flusher } from '../../../src/adapters/cloud-local/storage/flusher.js';
import { openSql } from '../../../src/adapters/cloud-local/storage/sql-storage.js';
import { sqliteError } from '../../../src/adapters/cloud-local/storage/sqlite-errors.js';
import { stillThere } from '../../../src/adapters/cloud-local/storage/still-there.js';
import { RecoverableError } from '../../../src/contracts/index.js';
import { file, key, moduleStart, open, put } from './sqlite-storage-kit.js';

function canMount(): boolean {
  const point = mkdtempSync(join(tmpdir(), 'rollout-'));
  const mounted = spawnSync('mount', ['-t', 'tmpfs', 'tmpfs', point]).status === 0;
  if (mounted) spawnSync('umount', [point]);
  rmSync(point, { recursive: true, force: true });
  return mounted;
}

describe('a disk', () => {
  const smallDisks = process.platform === 'linux' && process.getuid?.() === 0 && canMount();
  (smallDisks ? test : test.skip)(
    `a full disk is Transient, what was committed stays, and space mends it${smallDisks ? '' : ' (skipped: cannot mount a tmpfs here)'}`,
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
          code: 'STORAGE_FULL',
          context: { file: join(disk, 'x.db'), errno: 'ENOSPC' },
        });
        expect(await storage.get(key('before'))).toHaveLength(1000);
        expect(await storage.get(key('large'))).toBeNull();
        // Of one flush: what does not fit is told so, what fits is committed.
        const together = await Promise.allSettled([
          put(storage, 'one'),
          put(storage, 'large', new Uint8Array(900_000)),
          put(storage, 'two'),
        ]);
        expect(together.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
        expect((await storage.getMany([key('one'), key('large'), key('two')])).map((value) => value?.length)).toEqual([
          1,
          undefined,
          1,
        ]);
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

  (smallDisks ? test : test.skip).each([0, 4, 8, 12, 16, 20, 24, 32])(
    `with %d KiB free: what does not fit is STORAGE_FULL, from making the database on${smallDisks ? '' : ' (skipped: cannot mount a tmpfs here)'}`,
    async (freeKiB) => {
      const disk = file('disk');
      mkdirSync(disk);
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', disk]);
      try {
        const full = { severity: 'recoverable', kind: 'Transient', code: 'STORAGE_FULL', context: { errno: 'ENOSPC' } };
        writeFileSync(join(disk, 'ballast'), new Uint8Array((1024 - freeKiB) * 1024));
        const use = async () => {
          const storage = await SqliteStorage.open(join(disk, 'x.db'));
          try {
            return await put(storage, 'large', new Uint8Array(100_000));
          } finally {
            await storage.close();
          }
        };
        await expect(use()).rejects.toMatchObject(full);
        rmSync(join(disk, 'ballast'));
        expect(await use()).toBe(true);
      } finally {
        execFileSync('umount', [disk]);
      }
    },
  );
});

describe('the file while it is open', () => {
  const windows = process.platform === 'win32';
  (windows ? test.skip : test).each([
    ['deleted', '', (path: string) => rmSync(path)],
    ['replaced', '', (path: string) => renameSync(file('other.db'), path)],
    ['deleted', '-wal', (path: string) => rmSync(path)],
    ['replaced', '-wal', (path: string) => renameSync(file('other.db-wal'), path)],
  ])(
    `%s (database%s): a commit is told, and every later one; none is called done${windows ? ' (skipped: Windows keeps it)' : ''}`,
    async (_how, which, damage) => {
      const storage = await open();
      const other = await open(file('other.db'));
      await put(other, 'theirs');
      await put(storage, 'before');
      damage(file() + which);
      const replaced = { severity: 'fatal', kind: 'Internal', code: 'STORAGE_REPLACED' };
      await expect(put(storage, 'after')).rejects.toMatchObject(replaced);
      const later = await Promise.allSettled([put(storage, 'b'), put(storage, 'c')]);
      expect(later).toEqual(Array(2).fill({ status: 'rejected', reason: expect.objectContaining(replaced) }));
      await expect(storage.ping()).rejects.toMatchObject(replaced);
      await expect(storage.lock('x', { holder: 'x' })).rejects.toMatchObject(replaced);
    },
  );

  (windows ? test.skip : test)(
    `deleted or replaced long after its folder last changed, also the folder itself, or behind a link${windows ? ' (skipped: Windows keeps it)' : ''}`,
    async () => {
      const folder = file('folder');
      for (const damage of [
        () => rmSync(join(folder, 'x.db-wal')),
        () => renameSync(join(folder, 'other'), join(folder, 'x.db')),
        () => {
          renameSync(folder, file('moved'));
          cpSync(file('moved'), folder, { recursive: true, preserveTimestamps: true });
        },
      ]) {
        mkdirSync(folder);
        writeFileSync(join(folder, 'other'), '');
        for (const name of ['x.db', 'x.db-wal']) writeFileSync(join(folder, name), '');
        symlinkSync(join(folder, 'x.db'), file('link.db'));
        const checks = [stillThere(join(folder, 'x.db')), stillThere(file('link.db'))];
        for (let i = 0; i < 2; i++) {
          await new Promise((resolve) => setTimeout(resolve, 50));
          for (const check of checks) check();
        }
        damage();
        const replaced = expect.objectContaining({ code: 'STORAGE_REPLACED' });
        for (const check of checks) expect(check).toThrow(replaced);
        rmSync(folder, { recursive: true });
        rmSync(file('moved'), { recursive: true, force: true });
        rmSync(file('link.db'));
      }
    },
  );

  test('is open through one engine at a time, in one process', async () => {
    await open();
    const engine = { adapter: 'other', newer: '', open: () => Promise.reject(new Error('not to be opened')) };
    const parts = () => Promise.reject(new Error('not to be made')) as never;
    const refusal = { kind: 'ConfigInvalid', message: expect.stringContaining('through local.sqlite') };
    await expect(openSql(engine, file(), {}, parts)).rejects.toMatchObject(refusal);
    symlinkSync(file(), file('link.db'));
    await expect(openSql(engine, file('link.db'), {}, parts)).rejects.toMatchObject(refusal);
    await expect(openSql(engine, file('else.db'), {}, parts)).rejects.toThrow('not to be opened');
  });
});

describe('open files', () => {
  const windows = process.platform === 'win32';
  (windows ? test.skip : test)(
    `that have run out are Transient with the errno, for a database and for a lock${windows ? ' (skipped: no ulimit here)' : ''}`,
    async () => {
      const script = `${await moduleStart()}
        import { closeSync, openSync } from 'node:fs';
        // Loads all that is loaded late.
        await (await SqliteStorage.open(${JSON.stringify(file('first.db'))})).close();
        const fill = [];
        try { for (;;) fill.push(openSync('/dev/null')); } catch {}
        const seen = [];
        for (let done = false; !done; closeSync(fill.pop())) {
          try {
            const storage = await SqliteStorage.open(${JSON.stringify(file())});
            try {
              await storage.lock('x', { holder: 'x' });
              done = true;
            } catch ({ kind, context: { errno } }) {
              seen.push('lock ' + kind + ' ' + errno);
            }
            await storage.close();
          } catch ({ kind, context: { errno } }) {
            seen.push('open ' + kind + ' ' + errno);
          }
        }
        console.log(JSON.stringify([...new Set(seen)]));`;
      const shell = 'ulimit -n 128 && exec "$0" --input-type=module -e "$1"';
      const run = spawnSync('sh', ['-c', shell, process.execPath, script], { encoding: 'utf8' });
      expect(run.stderr).toBe('');
      expect(JSON.parse(run.stdout)).toEqual(['open Transient EMFILE', 'lock Transient EMFILE']);
    },
  );
});

describe('folders', () => {
  const root = process.platform === 'linux' && process.getuid?.() === 0;
  (root ? test : test.skip)(
    `that this user may not read need no sync${root ? '' : ' (skipped: needs root, to become somebody else)'}`,
    async () => {
      // Passable and not readable; nobody may write in the one below.
      chmodSync(dirname(file()), 0o711);
      mkdirSync(file('theirs'));
      chmodSync(file('theirs'), 0o777);
      const script = `${await moduleStart()}
        await import('sqlite3');
        process.seteuid(65534);
        const storage = await SqliteStorage.open(${JSON.stringify(file('theirs/deep/x.db'))});
        console.log(String(await put(storage, 'a')));
        await storage.close();`;
      const run = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
      expect(run).toMatchObject({ stderr: '', stdout: 'true\n' });
    },
  );
});

describe('the engine', () => {
  test.each([
    ['3.51.3', true],
    ['3.52.0', true],
    ['3.53.1', true],
    ['4.0.0', true],
    ['3.51.2', false],
    ['3.51.0', false],
    ['3.50.7', true],
    ['3.50.8', true],
    ['3.50.6', false],
    ['3.49.9', false],
    ['3.44.6', true],
    ['3.44.5', false],
    ['3.45.6', false],
    ['3.9.10', false],
    ['', false],
  ])('%s may be trusted with a log of several writers: %s', (version, safe) => {
    expect(isSafeEngine(version)).toBe(safe);
  });

  test('one that is too old is refused by open, both versions named', async () => {
    const { prototype } = sqlite3.Database;
    const { all } = prototype;
    prototype.all = function (this: sqlite3.Database, text: string, ...rest: unknown[]) {
      const older = text.replace('sqlite_version()', "'3.46.1'");
      return (all as (...args: unknown[]) => sqlite3.Database).call(this, older, ...rest);
    } as typeof all;
    try {
      await expect(open()).rejects.toMatchObject({
        kind: 'ConfigInvalid',
        message: expect.stringMatching(/SQLite 3\.46\.1 .* SQLite 3\.51\.3 or newer/),
      });
    } finally {
      prototype.all = all;
    }
  });
});

describe('a transaction that fails', () => {
  /** Fails as told: the next COMMIT, after which the transaction is over or not; and every ROLLBACK. */
  function failing(commitEnds: boolean): SqlConnection & { failCommit: boolean } {
    let active = false;
    const run = async (text: string) => {
      for (const part of text.split('; ')) {
        if (part.startsWith('BEGIN')) {
          if (active) throw new Error('cannot start a transaction within a transaction');
          active = true;
        } else if (part === 'COMMIT') {
          if (connection.failCommit) {
            connection.failCommit = false;
            active = !commitEnds;
            throw new Error('the commit failed');
          }
          active = false;
        } else if (part === 'ROLLBACK') {
          if (!active) throw new Error('cannot rollback - no transaction is active');
          if (!commitEnds) throw new Error('the rollback failed');
          active = false;
        }
      }
    };
    const connection = {
      threaded: true,
      failCommit: true,
      exec: run,
      all: async () => [{ id: 1 }],
      prepare: async (text: string) => ({ run: () => run(text), all: async () => [] }),
      close: async () => {},
    };
    return connection;
  }
  const batch = (checked: boolean) => ({
    writes: new Map([['n\0a', { key: key('a'), value: Uint8Array.of(1) }]]),
    checks: checked ? [{ key: key('a'), expected: null }] : [],
    durability: undefined,
  });
  const flusherOn = (connection: SqlConnection) =>
    new Flusher(connection, { durability: 'full', maxUnflushedBytes: 1_000, onCommitted() {}, confirm() {} });

  test('and cannot be rolled back refuses every later commit, rather than write inside it and call that committed', async () => {
    const flusher = flusherOn(failing(false));
    await expect(flusher.commit(batch(true))).rejects.toThrow('the commit failed');
    for (const checked of [false, true]) {
      await expect(flusher.commit(batch(checked))).rejects.toMatchObject({
        severity: 'fatal',
        kind: 'Internal',
        message: expect.stringContaining('open it again'),
      });
    }
  });

  test('once it was committed, as it cannot be told whether the file is still there, fails its commits and writes nothing twice', async () => {
    const gone = new RecoverableError('Transient', 'the disk does not answer', { code: 'IO_ERROR' });
    const connection = failing(true);
    connection.failCommit = false;
    const flusher = new Flusher(connection, {
      durability: 'full',
      maxUnflushedBytes: 1_000,
      onCommitted() {},
      confirm() {
        throw gone;
      },
    });
    const outcomes = await Promise.allSettled([flusher.commit(batch(true)), flusher.commit(batch(false))]);
    expect(outcomes).toEqual(Array(2).fill({ status: 'rejected', reason: gone }));
    expect(flusher.flushes).toBe(1);
    expect(() => flusher.requireUsable()).toThrow(gone);
  });

  test('and is over by itself leaves the next one to be committed', async () => {
    const flusher = flusherOn(failing(true));
    await expect(flusher.commit(batch(true))).rejects.toThrow('the commit failed');
    expect(await flusher.commit(batch(true))).toBe(true);
    expect(await flusher.commit(batch(false))).toBe(true);
  });
});

describe('the result codes of SQLite in the error family', () => {
  test.each([
    ['SQLITE_BUSY', 'recoverable', 'Transient', 'STORAGE_BUSY', undefined],
    ['SQLITE_FULL', 'recoverable', 'Transient', 'STORAGE_FULL', 'ENOSPC'],
    ['SQLITE_IOERR', 'recoverable', 'Transient', 'IO_ERROR', 'EIO'],
    ['SQLITE_NOMEM', 'recoverable', 'Transient', 'IO_ERROR', 'ENOMEM'],
    ['SQLITE_NOTADB', 'fatal', 'ConfigInvalid', 'STORAGE_FORMAT', undefined],
    ['SQLITE_CANTOPEN', 'fatal', 'ConfigInvalid', 'IO_DENIED', undefined],
    ['SQLITE_READONLY', 'fatal', 'ConfigInvalid', 'IO_DENIED', undefined],
    ['SQLITE_CORRUPT', 'fatal', 'Internal', 'STORAGE_CORRUPT', undefined],
    ['SQLITE_MISUSE', 'fatal', 'Internal', 'INTERNAL', undefined],
  ])('%s is %s %s %s, and names the file', (sqlite, severity, kind, code, errno) => {
    const error = sqliteError(Object.assign(new Error('x'), { code: sqlite }), '/data/x.db');
    expect(error).toMatchObject({ severity, kind, code, context: { file: '/data/x.db', sqlite } });
    expect(error.context.errno).toBe(errno);
    expect(error.message).toContain('/data/x.db');
  });
});
