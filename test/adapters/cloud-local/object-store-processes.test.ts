import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { FsObjectStore } from '../../../src/adapters/cloud-local/object-store.js';
import type { ContentId } from '../../../src/contracts/ids.js';
import { drafts, newRoot } from './object-store-kit.js';

const here = dirname(fileURLToPath(import.meta.url));
const repository = join(here, '../../..');
/** Beside the packages, so that the child finds them. */
const program = join(repository, `node_modules/.cache/object-store-child-${process.pid}.mjs`);
const BLOBS_PER_CHILD = 90;

beforeAll(() => {
  const source = join(here, 'object-store-child.ts');
  const options = ['--bundle', '--platform=node', '--format=esm', '--packages=external', '--log-level=error'];
  execFileSync(join(repository, 'node_modules/.bin/esbuild'), [source, ...options, `--outfile=${program}`]);
});

afterAll(() => fs.rmSync(program, { force: true }));

test('processes share a root while some are killed: what was promised is there, and no blob mismatches its id', async () => {
  const root = newRoot();
  const promised = new Set<string>();
  const run = (seed: string, killAfter = Number.POSITIVE_INFINITY) => {
    // One that is to be killed goes on until it is: it cannot end before the signal comes.
    const count = Number.isFinite(killAfter) ? Number.POSITIVE_INFINITY : BLOBS_PER_CHILD;
    const child = spawn(process.execPath, [program, root, seed, String(count)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let printed = 0;
    createInterface({ input: child.stdout }).on('line', (id) => {
      promised.add(id);
      if (++printed === killAfter) child.kill('SIGKILL');
    });
    return ended(child);
  };
  const doomed = [5, 17, 32].map((killAfter, n) => run(`doomed ${n}`, killAfter));
  const living = [run('a'), run('b')];
  expect(await Promise.all(doomed)).toEqual(['SIGKILL', 'SIGKILL', 'SIGKILL']);
  expect(await Promise.all(living)).toEqual([0, 0]);

  const store = await FsObjectStore.open(root);
  const listed: ContentId[] = [];
  for await (const id of store.list()) {
    listed.push(id);
    await store.getBytes(id);
    expect(await store.stat(id)).toMatchObject({ contentType: null });
  }
  expect(listed).toEqual(expect.arrayContaining([...promised]));
  // Two whole runs share their even blobs; the killed ones may have added more than they could say.
  expect(listed.length).toBeGreaterThanOrEqual(BLOBS_PER_CHILD * 1.5);

  for (const name of drafts(root)) fs.utimesSync(join(root, 'tmp', name), 0, 0);
  await FsObjectStore.open(root);
  expect(drafts(root)).toEqual([]);
});

function ended(child: ChildProcess): Promise<number | string | null> {
  return new Promise((resolve) => child.on('close', (code, signal) => resolve(signal ?? code)));
}
