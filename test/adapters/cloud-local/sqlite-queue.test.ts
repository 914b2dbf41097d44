import { mkdtempSync, rmSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from '@jest/globals';
import { SQLITE_QUEUE_FEATURES, SqliteQueue } from '../../../src/adapters/cloud-local/sqlite-queue.js';
import { Queue } from '../../../src/contracts/index.js';
import { conformance } from '../../../src/testing/conformance.js';
import '../../../src/testing/queue-suite.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'rollout-sqlite-queue-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const file = (name = 'x.db'): string => join(folder, name);

describe.each([
  ['sqlite3', true],
  ['node', isBuiltin('node:sqlite')],
] as const)('local.sqlite-queue on %s is a Queue', (engine, there) => {
  let made = 0;
  const options = { engine, maxAttempts: 3 };
  for (const c of conformance(Queue, { features: SQLITE_QUEUE_FEATURES })) {
    (there ? test : test.skip)(`${c.name}${there ? '' : ' (skipped: this Node has no node:sqlite)'}`, () =>
      c.run({
        open: () => SqliteQueue.open(file(`${++made}.db`), options),
        reopen: () => SqliteQueue.open(file(`${made}.db`), options),
      }),
    );
  }
});
