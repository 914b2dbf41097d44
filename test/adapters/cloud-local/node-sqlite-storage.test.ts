/** The second engine. Where Node has no node:sqlite, its absence is what is tested. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { NodeSqliteStorage } from '../../../src/adapters/cloud-local/node-sqlite-storage.js';
import { SqliteStorage } from '../../../src/adapters/cloud-local/sqlite-storage.js';
import { Storage, type StorageKey } from '../../../src/contracts/index.js';
import { conformance } from '../../../src/testing/conformance.js';
import { bundle } from '../../support/bundle.js';
import { Workspace } from '../../support/workspace.js';
import '../../../src/testing/storage-suite.js';

const there = isBuiltin('node:sqlite');
const present = there ? test : test.skip;
const skipped = there ? '' : ` (skipped: Node ${process.versions.node} has no node:sqlite)`;

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'rollout-node-sqlite-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const file = (name = 'x.db'): string => join(folder, name);
const key = (path: string): StorageKey => ({ namespace: 'n', path: [path] });

function put(storage: Storage, path: string, value: Uint8Array = Uint8Array.of(1)): Promise<boolean> {
  const txn = storage.begin();
  txn.put(key(path), value);
  return txn.commit();
}

(there ? test.skip : test)(
  `is unavailable, with the reason, and nothing crashes${there ? ' (skipped: this Node has node:sqlite)' : ''}`,
  async () => {
    const unavailable = {
      severity: 'fatal',
      kind: 'ConfigInvalid',
      code: 'PLATFORM_UNSUPPORTED',
      message: expect.stringContaining(`which Node ${process.versions.node} does not have; run Node 22.13 or newer`),
    };
    await expect(NodeSqliteStorage.open(file())).rejects.toMatchObject(unavailable);
    expect(existsSync(file())).toBe(false);
    const space = new Workspace();
    const host = await space.host({ bindings: { Storage: { adapter: 'local.node-sqlite' } } });
    await expect(host.get(Storage)).rejects.toMatchObject({ kind: 'ConfigInvalid' });
    await space[Symbol.asyncDispose]();
  },
);

describe(`local.node-sqlite is a Storage${skipped}`, () => {
  let made = 0;
  for (const c of conformance(Storage, { features: ['persistent'] })) {
    present(c.name, () =>
      c.run({
        open: () => NodeSqliteStorage.open(file(`${++made}.db`)),
        reopen: () => NodeSqliteStorage.open(file(`${made}.db`)),
      }),
    );
  }
});

describe(`beside the other engine${skipped}`, () => {
  present('files are the same; in one process only one of the two has a file open', async () => {
    const other = await SqliteStorage.open(file());
    await put(other, 'a');
    const refusal = { kind: 'ConfigInvalid', message: expect.stringContaining('through local.sqlite') };
    await expect(NodeSqliteStorage.open(file())).rejects.toMatchObject(refusal);
    await other.close();
    const storage = await NodeSqliteStorage.open(file());
    await put(storage, 'b');
    await storage.close();
    const again = await SqliteStorage.open(file());
    expect((await again.getMany([key('a'), key('b')])).map((value) => value?.length)).toEqual([1, 1]);
    await again.close();
  });

  present('in another process it may write to the same file, and a lock is held against it', async () => {
    const script = `
      import { SqliteStorage } from ${JSON.stringify(await bundle('src/adapters/cloud-local/sqlite-storage.ts'))};
      const storage = await SqliteStorage.open(${JSON.stringify(file())});
      await storage.lock('queue', { holder: 'the child' });
      await Promise.all(Array.from({ length: 200 }, (_, i) => {
        const txn = storage.begin();
        txn.put({ namespace: 'n', path: ['child' + i] }, Uint8Array.of(1));
        return txn.commit();
      }));
      console.log('written');
      setInterval(() => {}, 1000);`;
    const storage = await NodeSqliteStorage.open(file());
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const own = Promise.all(Array.from({ length: 200 }, (_, i) => put(storage, `own${i}`)));
    await once(child.stdout, 'data');
    await own;
    await expect(storage.lock('queue', { holder: 'me' })).rejects.toMatchObject({
      code: 'LOCKED',
      message: expect.stringContaining(`held by the child (process ${child.pid})`),
    });
    const died = once(child, 'exit');
    child.kill('SIGKILL');
    await died;
    await storage.lock('queue', { holder: 'me' });
    let found = 0;
    for await (const _ of storage.scan({ prefix: { namespace: 'n', path: [] } })) found++;
    expect(found).toBe(400);
    await storage.close();
  });
});

describe(`the event loop${skipped}`, () => {
  present('gets its turns while one commit follows the other without a pause', async () => {
    const storage = await NodeSqliteStorage.open(file(), { durability: 'off' });
    let turns = 0;
    const timer = setInterval(() => {
      turns++;
    }, 1);
    for (let i = 0; turns < 5 && i < 100_000; i++) await put(storage, `${i % 100}`);
    clearInterval(timer);
    expect(turns).toBe(5);
    await storage.close();
  });

  present('does not stand still while another process has the database: the commit waits, or is refused', async () => {
    const storage = await NodeSqliteStorage.open(file(), { busyTimeoutMs: 300 });
    await put(storage, 'a');
    const child = spawn(
      process.execPath,
      [
        '--input-type=module',
        '-e',
        `import sqlite3 from 'sqlite3';
         const db = new sqlite3.Database(${JSON.stringify(file())});
         db.exec('BEGIN IMMEDIATE', () => console.log('held'));
         process.stdin.once('data', () => db.exec('ROLLBACK', () => { db.close(); process.exit(); }));`,
      ],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    );
    await once(child.stdout, 'data');
    let turns = 0;
    const timer = setInterval(() => {
      turns++;
    }, 5);
    await expect(put(storage, 'b')).rejects.toMatchObject({ kind: 'Transient', code: 'STORAGE_BUSY' });
    expect(turns).toBeGreaterThan(5);
    clearInterval(timer);
    const waiting = put(storage, 'c');
    child.stdin.write('go');
    expect(await waiting).toBe(true);
    await once(child, 'exit');
    await storage.close();
  });
});

describe(`the file${skipped}`, () => {
  present('that is no database is refused', async () => {
    writeFileSync(file(), 'not a database, but long enough to be looked at as one'.repeat(10));
    await expect(NodeSqliteStorage.open(file())).rejects.toMatchObject({
      kind: 'ConfigInvalid',
      code: 'STORAGE_FORMAT',
      message: expect.stringContaining('is not a database'),
    });
  });

  present('that is a folder is refused, and so is one in a folder that is a file', async () => {
    await expect(NodeSqliteStorage.open(folder)).rejects.toMatchObject({ kind: 'ConfigInvalid', code: 'IO_DENIED' });
    writeFileSync(file('plain'), '');
    await expect(NodeSqliteStorage.open(file('plain/x.db'))).rejects.toMatchObject({ code: 'IO_DENIED' });
  });
});
