/** What the tests of SqliteQueue share: a folder that goes with each test, and other ways at a database in it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach } from '@jest/globals';
import sqlite3 from 'sqlite3';
import { SqliteQueue, type SqliteQueueOptions } from '../../../../src/adapters/cloud-local/sqlite-queue.js';
import { bundle } from '../../../support/bundle.js';

/** Made once: several children may be started together. */
let bundled: Promise<string> | null = null;

let folder: string;
const opened: SqliteQueue[] = [];
const children: ReturnType<typeof spawn>[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'rollout-sqlite-queue-'));
});
afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  for (const queue of opened.splice(0)) await queue.close();
  rmSync(folder, { recursive: true, force: true });
});

export const file = (name = 'x.db'): string => join(folder, name);

/** Opens a queue that is closed when the test ends. */
export async function open(options: SqliteQueueOptions = {}, path = file()): Promise<SqliteQueue> {
  const queue = await SqliteQueue.open(path, options);
  opened.push(queue);
  return queue;
}

/** Runs SQL on a file by other means. */
export function sql(text: string, path = file()): Promise<Record<string, unknown>[]> {
  return new Promise((resolve, reject) => {
    const database = new sqlite3.Database(path);
    database.all(text, (error, rows) => database.close(() => (error ? reject(error) : resolve(rows as never))));
  });
}

export interface Child {
  readonly pid: number;
  /** The next line that it prints. */
  line(): Promise<string>;
  say(text: string): void;
  ended: Promise<unknown>;
  kill(): Promise<void>;
}

/** A process of its own, with `queue` open. */
export async function child(script: string, options: SqliteQueueOptions = {}): Promise<Child> {
  bundled ??= bundle('src/adapters/cloud-local/sqlite-queue.ts');
  const code = `
    import { SqliteQueue } from ${JSON.stringify(await bundled)};
    const queue = await SqliteQueue.open(${JSON.stringify(file())}, ${JSON.stringify(options)});
    const line = () => new Promise((resolve) => process.stdin.once('data', (data) => resolve(String(data).trim())));
    ${script}`;
  const process_ = spawn(process.execPath, ['--input-type=module', '-e', code], { stdio: ['pipe', 'pipe', 'inherit'] });
  children.push(process_);
  const lines: string[] = [];
  const waiting: ((line: string) => void)[] = [];
  let rest = '';
  process_.stdout.on('data', (data) => {
    const parts = (rest + data).split('\n');
    rest = parts.pop() ?? '';
    for (const part of parts) {
      const reader = waiting.shift();
      if (reader === undefined) lines.push(part);
      else reader(part);
    }
  });
  const ended = once(process_, 'exit');
  return {
    pid: process_.pid as number,
    line: () =>
      new Promise((resolve) => {
        const next = lines.shift();
        if (next === undefined) waiting.push(resolve);
        else resolve(next);
      }),
    say: (text) => void process_.stdin.write(`${text}\n`),
    ended,
    kill: async () => {
      process_.kill('SIGKILL');
      await ended;
    },
  };
}
