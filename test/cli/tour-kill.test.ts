/** `tour` as the program that users start: killed, interrupted, started twice. */
import type { ChildProcess } from 'node:child_process';
import { existsSync, linkSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { Ledger } from '../../src/cli/tour/ledger.js';
import { Queue, Storage } from '../../src/contracts/index.js';
import { createHost } from '../../src/registry/index.js';
import { importModule } from '../support/import-module.js';
import { ended, LOCAL, Place } from './support.js';

const FILES = 1_500;

let place: Place;
beforeEach(() => {
  place = new Place();
});
afterEach(() => Place.removeAll());

/** The files' records, and the paths of the jobs that wait, as they are on disk. */
async function ledgerOnDisk(): Promise<{ states: Record<string, number>; jobs: string[] }> {
  const host = await createHost({ config: place.path('plugins.json'), importModule });
  try {
    const storage = await host.get(Storage);
    const states: Record<string, number> = {};
    for (let i = 0; i < FILES; i += 500) {
      const names = Array.from({ length: 500 }, (_, n) =>
        place.path('files', String(Math.floor((i + n) / 100)), `${i + n}.txt`),
      );
      for (const record of await new Ledger(storage).read(names.map((name) => Buffer.from(name)))) {
        const state = record?.state ?? 'unknown';
        states[state] = (states[state] ?? 0) + 1;
      }
    }
    const jobs: string[] = [];
    for await (const { value } of storage.scan({ prefix: { namespace: 'cloudlocal_queue.tour', path: [] } })) {
      jobs.push(JSON.parse(Buffer.from(value).toString()).path);
    }
    return { states, jobs };
  } finally {
    await host.stop();
  }
}

/** Resolves once the tour has stored `count` blobs: it then holds its lock and is under way. */
async function underWay(child: ChildProcess, count = 1): Promise<void> {
  const folder = place.path('data/object-store');
  const stored = () =>
    readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => /[0-9a-f]{64}$/.test(name));
  while ((!existsSync(folder) || stored().length < count) && child.exitCode === null) await sleep(5);
}

/**
 * An object store that takes its time, and a machine that says nothing of itself until there is a file `go`: asked for
 * when all files are done, it leaves `go.asked`.
 */
const SLOW_PLUGIN = `
  import { createHash } from 'node:crypto';
  import { existsSync, mkdirSync } from 'node:fs';
  import { readFile, stat, writeFile } from 'node:fs/promises';
  import { setTimeout as sleep } from 'node:timers/promises';
  const slowly = ({ config: { root, putMs } }) => {
    mkdirSync(root, { recursive: true });
    const file = (id) => root + '/' + id;
    let turn = Promise.resolve();
    return {
      putBytes: (bytes, { signal }) => (turn = turn.catch(() => {}).then(async () => {
        await sleep(putMs);
        signal.throwIfAborted();
        const id = createHash('sha256').update(bytes).digest('hex');
        await writeFile(file(id), bytes);
        return id;
      })),
      getBytes: (id) => readFile(file(id)),
      exists: async (id) => existsSync(file(id)),
      stat: async (id) => ({ id, size: 0, contentType: null, createdAtMs: (await stat(file(id))).birthtimeMs }),
      putStream() {}, getStream() {}, delete() {}, list() {},
    };
  };
  const waiting = ({ config: { go } }) => ({
    inventory: async () => {
      await writeFile(go + '.asked', '');
      while (!existsSync(go)) await sleep(5);
      throw new Error('no machine');
    },
    preemptionSignal: async () => null,
  });
  export default { [Symbol.for('rollout-cloud/plugin')]: true, adapters: { 'slow.store': slowly, 'slow.machine': waiting } };`;

/** Binds what is slow: 10 ms a put, one at a time. */
function bindSlow(): void {
  const path = { type: 'string', format: 'path' };
  const adapters = [
    { id: 'slow.store', provides: 'ObjectStore@1', config: { properties: { root: path, putMs: { type: 'number' } } } },
    { id: 'slow.machine', provides: 'ComputeHint@1', config: { properties: { go: path } } },
  ];
  place.write('slow/index.mjs', SLOW_PLUGIN);
  place.write(
    'slow/plugin.json',
    JSON.stringify({ id: 'slow', version: '1.0.0', main: './index.mjs', contributes: { adapters } }),
  );
  const bindings = {
    ...LOCAL.bindings,
    ObjectStore: { adapter: 'slow.store', config: { root: './data/object-store', putMs: 10 } },
    ComputeHint: { adapter: 'slow.machine', config: { go: './go' } },
  };
  place.write('plugins.json', JSON.stringify({ plugins: ['rollout.cloud-local', './slow'], bindings }));
}

describe('SIGKILL', () => {
  test('at any point and run again: it finishes what was left, says how many jobs it resumed, and queues nothing twice', async () => {
    place.fill('files', FILES);
    for (let round = 0; round < 6; round++) {
      const child = place.start(['tour', 'files', '--json']);
      const result = ended(child);
      // The first is killed while it stores; the later ones anywhere from the start to the check of the last blob.
      if (round === 0) await underWay(child);
      else await sleep(Math.random() * 1_200);
      child.kill('SIGKILL');
      await result;
      const { jobs } = await ledgerOnDisk();
      expect(new Set(jobs).size).toBe(jobs.length);
    }
    const left = await ledgerOnDisk();
    const { code, stdout, stderr } = await place.program(['tour', 'files', '--json']);
    const report = JSON.parse(stdout);
    expect(code).toBe(0);
    const { resumed } = report.jobs;
    expect(resumed).toBe(left.jobs.length);
    if (resumed > 0) expect(stderr).toContain(`resumed ${resumed.toLocaleString('en-US')} job`);
    expect(report.files.stored + report.files.unchanged).toBe(FILES);
    expect(report.jobs.done).toBe(resumed + report.jobs.queued);
    expect(await ledgerOnDisk()).toEqual({ states: { done: FILES }, jobs: [] });
  }, 120_000);
});

describe('Ctrl-C', () => {
  const files = 400;
  const fast = '--set=bindings.ObjectStore.config.putMs=0';
  beforeEach(() => {
    bindSlow();
    place.fill('files', files);
  });

  test('half-way: it says so, stops by itself with 130, and the next tour finishes', async () => {
    place.write('go', '');
    const child = place.start(['tour', 'files', '--json']);
    const result = ended(child);
    await underWay(child, 100);
    child.kill('SIGINT');
    const { code, stdout, stderr } = await result;
    expect(code).toBe(130);
    expect(stderr).toContain('rollout-cloud: SIGINT: finishing what is under way');
    const first = JSON.parse(stdout);
    expect(first.interrupted).toBe(true);
    expect(first.files.stored).toBeGreaterThan(0);
    expect(first.files.stored).toBeLessThan(files);
    const next = JSON.parse((await place.program(['tour', 'files', '--json', fast])).stdout);
    expect(next.interrupted).toBe(false);
    expect(next.jobs.resumed).toBe(first.jobs.queued);
    expect(next.jobs.resumed + next.jobs.queued).toBe(files);
    expect(await ledgerOnDisk()).toEqual({ states: { done: files, unknown: FILES - files }, jobs: [] });
  }, 60_000);

  test('SIGTERM: 143', async () => {
    place.write('go', '');
    const child = place.start(['tour', 'files']);
    const result = ended(child);
    await underWay(child);
    child.kill('SIGTERM');
    const { code, stdout } = await result;
    expect(code).toBe(143);
    expect(stdout).toContain('stopped early');
  }, 60_000);

  test('the second one ends it at once, with the same code', async () => {
    const child = place.start(['tour', 'files']);
    const result = ended(child);
    await underWay(child);
    child.stderr?.once('data', () => child.kill('SIGINT'));
    child.kill('SIGINT');
    const { code, stdout } = await result;
    expect({ code, stdout }).toEqual({ code: 130, stdout: '' });
  }, 60_000);
});

test('a second tour at the same time is refused, naming the process of the first', async () => {
  bindSlow();
  place.fill('files', 3);
  const first = place.start(['tour', 'files']);
  const result = ended(first);
  await underWay(first);
  const second = await place.program(['tour', 'files']);
  expect(second).toMatchObject({ code: 2, stdout: '' });
  expect(second.stderr).toContain(`${first.pid}`);
  expect(second.stderr).toContain('rollout-cloud tour');
  place.write('go', '');
  expect((await result).code).toBe(0);
}, 60_000);

test('hard links of its own files are passed over: opened and closed, they would cost a running Storage its locks', async () => {
  bindSlow();
  place.write('go', '');
  place.write('files/a', 'a');
  expect((await place.program(['tour', 'files'])).code).toBe(0);
  const own = readdirSync(place.path('data')).filter((name) => name.startsWith('rollout.db'));
  expect(own.filter((name) => name.endsWith('.lock')).length).toBeGreaterThanOrEqual(2);
  for (const name of own) linkSync(place.path('data', name), place.path('files', name));
  for (const name of ['go', 'go.asked']) rmSync(place.path(name));

  const child = place.start(['tour', 'files', '--json']);
  const result = ended(child);
  while (!existsSync(place.path('go.asked')) && child.exitCode === null) await sleep(5);
  const tourQueue = { adapter: 'local.in-mem', config: { name: 'tour' } };
  const host = await createHost({
    config: place.path('plugins.json'),
    set: { 'bindings.Queue': { instances: { default: tourQueue } } },
    importModule,
  });
  try {
    const locked = { code: 'LOCKED', message: expect.stringContaining(String(child.pid)) };
    await expect(host.get(Queue)).rejects.toMatchObject(locked);
    const storage = await host.get(Storage);
    await expect(storage.lock('rollout_tour', { holder: 'another' })).rejects.toMatchObject(locked);
  } finally {
    place.write('go', '');
    await result;
    await host.stop();
  }
  const { code, stdout } = await result;
  expect(code).toBe(0);
  expect(JSON.parse(stdout).files).toMatchObject({ found: 1, unchanged: 1, ownDataSkipped: own.length });
}, 60_000);

test('a reader that stops reading is no failure', async () => {
  place.write('files/a', 'a');
  const child = place.start(['tour', 'files']);
  child.stdout?.destroy();
  const { code, stderr } = await ended(child);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
});

test('--version loads nothing of a command, a host or an adapter', async () => {
  const coverage = place.path('coverage');
  const { code, stdout } = await place.program(['--version'], { NODE_V8_COVERAGE: coverage });
  expect(code).toBe(0);
  expect(stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  const loaded = readdirSync(coverage).flatMap((file) => {
    const { result } = JSON.parse(readFileSync(join(coverage, file), 'utf8')) as { result: { url: string }[] };
    return result.map(({ url }) => url).filter((url) => url.startsWith('file:'));
  });
  const packages = loaded.map((url) => /.*node_modules\/([^/]+)/.exec(url)?.[1]).filter((name) => name !== undefined);
  expect([...new Set(packages)].sort()).toEqual(['commander', 'picocolors']);
  const own = loaded
    .filter((url) => !url.includes('node_modules'))
    .map((url) => readFileSync(fileURLToPath(url), 'utf8'));
  expect(own.length).toBeGreaterThan(0);
  for (const text of own) expect(text).not.toMatch(/InversifyCoreError|storeFiles|probeStorage/);
});
