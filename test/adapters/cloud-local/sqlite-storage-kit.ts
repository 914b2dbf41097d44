/** What the tests of SqliteStorage share: a folder that goes with each test, and other ways at a database in it. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach } from '@jest/globals';
import sqlite3 from 'sqlite3';
import { SqliteStorage, type SqliteStorageOptions } from '../../../src/adapters/cloud-local/sqlite-storage.js';
import type { Storage, StorageKey } from '../../../src/contracts/index.js';
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

export const file = (name = 'x.db'): string => join(folder, name);
export const key = (...path: string[]): StorageKey => ({ namespace: 'n', path });

/** Opens a storage that is closed when the test ends. */
export async function open(path = file(), options?: SqliteStorageOptions): Promise<SqliteStorage> {
  const storage = await SqliteStorage.open(path, options);
  opened.push(storage);
  return storage;
}

export function put(storage: Storage, path: string, value: Uint8Array = Uint8Array.of(1)): Promise<boolean> {
  const txn = storage.begin();
  txn.put(key(path), value);
  return txn.commit();
}

/** Runs SQL on a file by other means. */
export function sql(path: string, text: string): Promise<Record<string, unknown>[]> {
  return new Promise((resolve, reject) => {
    const database = new sqlite3.Database(path);
    database.all(text, (error, rows) => database.close(() => (error ? reject(error) : resolve(rows as never))));
  });
}

/** The start of a module for a process of its own: SqliteStorage, and `put(storage, ...paths)`. */
export async function moduleStart(): Promise<string> {
  return `
    import { SqliteStorage } from ${JSON.stringify(await bundle('src/adapters/cloud-local/sqlite-storage.ts'))};
    const put = (storage, ...paths) => {
      const txn = storage.begin();
      for (const path of paths) txn.put({ namespace: 'n', path: [path] }, Uint8Array.of(1));
      return txn.commit();
    };`;
}

/** Whether a command is installed that answers `-V`. */
export const has = (command: string): boolean => spawnSync(command, ['-V']).error === undefined;
