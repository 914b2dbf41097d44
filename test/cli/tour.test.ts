/** `tour`, in this process: what it stores, checks, counts, passes over and remembers. */
import { chmodSync, existsSync, rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { encodeJob, Ledger } from '../../src/cli/tour/ledger.js';
import { ContentId, ObjectStore, Queue, Storage } from '../../src/contracts/index.js';
import { createHost } from '../../src/registry/index.js';
import { importModule } from '../support/import-module.js';
import { LOCAL, Place, type Result } from './support.js';

let place: Place;
beforeEach(() => {
  place = new Place();
});
afterEach(() => Place.removeAll());

const TOUR_QUEUE = { default: 'default', instances: { default: { adapter: 'local.in-mem' }, tour: tourQueue('tour') } };

function tourQueue(name: string) {
  return { adapter: 'local.in-mem', config: { name } };
}

/** What the tour works with, between two tours. */
async function between<T>(
  work: (stores: {
    storage: Storage;
    queue: Queue;
    tourQueue: Queue;
    store: ObjectStore;
    ledger: Ledger;
  }) => Promise<T>,
): Promise<T> {
  const host = await createHost({
    config: place.path('plugins.json'),
    set: { 'bindings.Queue': TOUR_QUEUE },
    importModule,
  });
  try {
    const storage = await host.get(Storage);
    return await work({
      storage,
      queue: await host.get(Queue, 'default'),
      tourQueue: await host.get(Queue, 'tour'),
      store: await host.get(ObjectStore),
      ledger: new Ledger(storage),
    });
  } finally {
    await host.stop();
  }
}

/** A file as the tour would find it, with the blob given. */
function fileWith(name: string, id: ContentId) {
  const { size, mtimeNs } = statSync(place.path(name), { bigint: true });
  return { path: Buffer.from(place.path(name)), size: Number(size), mtimeNs, id };
}

async function tour(...args: string[]) {
  const result = await place.run(['--json', 'tour', ...args]);
  return { ...result, report: JSON.parse(result.stdout) };
}

function clean({ stdout, stderr }: Result): void {
  expect(stdout + stderr).not.toMatch(/[\x00-\x09\x0b-\x1f\x7f]/);
}

describe('a first tour', () => {
  test('stores every file under dir, queues one job per file and works them all off', async () => {
    place.fill('files', 150);
    place.write('files/empty', '');
    place.write('files/large', Buffer.alloc(3 * 1024 * 1024 + 17, 'large'));
    const { code, report, stderr } = await tour('files');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(report.files).toMatchObject({ found: 152, stored: 152, unchanged: 0, unreadable: 0 });
    expect(report.jobs).toMatchObject({ resumed: 0, queued: 152, done: 152, changed: 0, gone: 0, failed: 0 });
    expect(report.blobs).toEqual({ new: 152, existing: 0, dedupeRatio: 1 });
    expect(report.interrupted).toBe(false);
    await between(async ({ tourQueue, ledger, store }) => {
      expect(await tourQueue.stats()).toMatchObject({ pending: 0, inFlight: 0 });
      const [record] = await ledger.read([Buffer.from(place.path('files/0/7.txt'))]);
      expect(record?.state).toBe('done');
      expect(Buffer.from(await store.getBytes(record?.id as ContentId)).toString()).toBe('file 7 of files');
    });
  });

  test('tells adapters, inventory, secrets (never their values) and where the data lies', async () => {
    place.write('files/a', 'a');
    process.env.ROLLOUT_SECRET_TOUR_TEST_SET = 'a-secret-value';
    try {
      const { report, stdout } = await tour('files');
      expect(report.adapters).toContainEqual({
        capability: 'Queue',
        name: 'tour',
        adapter: 'local.in-mem',
        plugin: 'rollout.cloud-local',
        pluginVersion: expect.any(String),
      });
      expect(report.inventory).toMatchObject({ cpuCount: expect.any(Number), memoryMib: expect.any(Number), gpus: [] });
      expect(report.inventory.gpuReason).toEqual(expect.any(String));
      expect(report.secrets).toEqual([
        { name: 'TOUR_TEST_SET', state: 'set' },
        { name: 'TOUR_TEST_UNSET', state: 'not set' },
      ]);
      expect(report.data).toEqual(
        expect.arrayContaining([
          { instance: 'Storage#default', path: place.path('data/rollout.db') },
          { instance: 'ObjectStore#default', path: place.path('data/object-store') },
        ]),
      );
      expect(stdout).not.toContain('a-secret-value');
      const text = await place.run(['tour', 'files']);
      expect(text.stdout).toMatch(/TOUR_TEST_SET set, TOUR_TEST_UNSET not set/);
      expect(text.stdout).not.toContain('a-secret-value');
    } finally {
      delete process.env.ROLLOUT_SECRET_TOUR_TEST_SET;
    }
  });

  test('counts files of the same bytes once, in blobs', async () => {
    for (const name of ['a', 'b', 'c']) place.write(`files/${name}`, 'x'.repeat(1000));
    place.write('files/d', 'y'.repeat(1000));
    const { report } = await tour('files');
    expect(report.blobs).toEqual({ new: 2, existing: 2, dedupeRatio: 2 });
  });

  test('tours src of the current folder by default, and the folder itself where there is no src', async () => {
    place.write('a', 'a');
    expect((await tour()).report).toMatchObject({ dir: place.folder, files: { stored: 2 } }); // a, plugins.json
    place.write('src/b', 'b');
    expect((await tour()).report).toMatchObject({ dir: place.path('src'), files: { stored: 1 } });
  });
});

describe('a second tour', () => {
  test('does nothing new', async () => {
    place.fill('files', 120);
    await tour('files');
    const { code, report } = await tour('files');
    expect(code).toBe(0);
    expect(report.files).toMatchObject({ found: 120, stored: 0, unchanged: 120 });
    expect(report.jobs).toMatchObject({ resumed: 0, queued: 0, done: 0 });
    expect(report.blobs).toEqual({ new: 0, existing: 0, dedupeRatio: 1 });
  });

  test('stores what is new or has another size or time, and finds its blob there before', async () => {
    place.write('files/same', 'same');
    place.write('files/touched', 'touched');
    await tour('files');
    place.write('files/new', 'new');
    utimesSync(place.path('files/touched'), 1, 1);
    const { report } = await tour('files');
    expect(report.files).toMatchObject({ found: 3, stored: 2, unchanged: 1 });
    expect(report.blobs).toMatchObject({ new: 1, existing: 1 });
  });

  test('stores a file anew whose blob was deleted', async () => {
    place.write('files/a', 'a');
    await tour('files');
    await between(async ({ store }) => {
      for await (const id of store.list()) await store.delete(id);
    });
    expect((await tour('files')).report).toMatchObject({ files: { stored: 1, unchanged: 0 }, blobs: { new: 1 } });
  });
});

describe('what an earlier tour left', () => {
  test('in the queue is resumed, said so, and not queued again', async () => {
    for (const name of ['a', 'b']) place.write(`files/${name}`, name);
    await between(async ({ store, ledger, tourQueue }) => {
      for (const name of ['a', 'b']) {
        const file = fileWith(`files/${name}`, await store.putBytes(Buffer.from(name)));
        await ledger.write('queued', [file]);
        await tourQueue.enqueue(encodeJob(file));
      }
    });
    const { code, report, stderr } = await tour('files');
    expect(code).toBe(0);
    expect(report.jobs).toMatchObject({ resumed: 2, queued: 0, done: 2 });
    expect(report.files).toMatchObject({ stored: 0, unchanged: 2 });
    expect(stderr).toBe('rollout-cloud: resumed 2 jobs of an earlier tour\n');
  });

  test('as queued, without a job, is queued', async () => {
    place.write('files/a', 'a');
    await between(async ({ store, ledger }) => {
      await ledger.write('queued', [fileWith('files/a', await store.putBytes(Buffer.from('a')))]);
    });
    expect((await tour('files')).report.jobs).toMatchObject({ resumed: 0, queued: 1, done: 1 });
  });

  test('of a file that has changed since, or is gone, ends there; the file is stored anew', async () => {
    place.write('files/changed', 'before');
    place.write('files/gone', 'gone');
    place.write('files/replaced', 'file');
    await between(async ({ store, tourQueue }) => {
      for (const name of ['changed', 'gone', 'replaced']) {
        await tourQueue.enqueue(encodeJob(fileWith(`files/${name}`, await store.putBytes(Buffer.from('before')))));
      }
    });
    place.write('files/changed', 'afterwards');
    rmSync(place.path('files/gone'));
    rmSync(place.path('files/replaced'));
    symlinkSync('changed', place.path('files/replaced'));
    const { code, report } = await tour('files');
    expect(code).toBe(0);
    expect(report.jobs).toMatchObject({ resumed: 3, changed: 2, gone: 1, queued: 1, done: 1, failed: 0 });
  });

  test('with a blob of other bytes, or none, is a failure: exit 1, named, and over', async () => {
    place.write('files/a', 'file');
    place.write('files/b', 'file');
    const missing = ContentId.parse('0'.repeat(64));
    await between(async ({ store, tourQueue }) => {
      await tourQueue.enqueue(encodeJob(fileWith('files/a', await store.putBytes(Buffer.from('blob')))));
      await tourQueue.enqueue(encodeJob(fileWith('files/b', missing)));
    });
    const { code, report, stderr } = await tour('files');
    expect(code).toBe(1);
    expect(report.jobs).toMatchObject({ resumed: 2, failed: 2, queued: 2, done: 2 });
    expect(stderr).toMatch(/files\/a: its blob [0-9a-f]{64} has other bytes than the file/);
    expect(stderr).toContain(`files/b: object not found: ${missing}`);
    expect((await tour('files')).code).toBe(0);
  });

  test('that no tour wrote is refused: somebody else uses the queue', async () => {
    place.write('files/a', 'a');
    await between(({ tourQueue }) => tourQueue.enqueue(Buffer.from('hello')));
    const { code, stderr, stdout } = await place.run(['tour', 'files', '--json']);
    expect(code).toBe(2);
    expect(stderr).toContain('is not a job of this program; bind Queue#tour to a queue that nobody else uses');
    expect(JSON.parse(stdout).error.kind).toBe('ConfigInvalid');
    await between(async ({ tourQueue }) => expect((await tourQueue.stats()).pending).toBe(1));
  });
});

describe('other items and other data', () => {
  test('it touches nobody else’s items', async () => {
    place.write('files/a', 'a');
    await between(({ queue }) => queue.enqueue(Buffer.from('mine')));
    await tour('files');
    await between(async ({ queue }) =>
      expect((await queue.dequeue())?.payload).toEqual(new Uint8Array(Buffer.from('mine'))),
    );
  });

  test('it does not tour its own data', async () => {
    place.write('a', 'a');
    const first = await tour('.');
    expect(first.report.files).toMatchObject({ found: 2, stored: 2 });
    const second = await tour('.');
    expect(second.report.files).toMatchObject({ found: 2, unchanged: 2 });
    expect(second.report.files.ownDataSkipped).toBeGreaterThanOrEqual(2);
  });

  test('a folder inside its own data is refused', async () => {
    place.write('data/object-store/ab/x', 'x');
    const { code, stderr } = await place.run(['tour', 'data/object-store/ab']);
    expect(code).toBe(2);
    expect(stderr).toContain(`it lies in ${place.path('data/object-store')}, where ObjectStore#default keeps its data`);
  });

  test('a Queue instance named tour in the configuration is the one used', async () => {
    const instances = { default: { adapter: 'local.in-mem' }, tour: tourQueue('mine') };
    place.write('plugins.json', JSON.stringify({ bindings: { ...LOCAL.bindings, Queue: { instances } } }));
    place.write('files/a', 'a');
    const { code, report } = await tour('files');
    expect(code).toBe(0);
    expect(report.adapters.filter(({ capability }: { capability: string }) => capability === 'Queue')).toHaveLength(2);
  });

  test('a Queue that --set describes is the model of its own', async () => {
    place.write('files/a', 'a');
    const set = ['--set=bindings.Queue={"adapter":"local.in-mem"}', '--set=bindings.Queue.config.name=theirs'];
    const { code, report, stderr } = await tour('files', ...set);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(report.jobs.done).toBe(1);
  });

  test('an adapter whose queue cannot be named: exit 2, and what to bind', async () => {
    const adapters = [{ id: 'plain.queue', provides: 'Queue@1' }];
    place.write(
      'plain/plugin.json',
      JSON.stringify({ id: 'plain', version: '1.0.0', main: './index.js', contributes: { adapters } }),
    );
    place.write('plain/index.js', 'export default null');
    const plugins = ['rollout.cloud-local', './plain'];
    const bindings = { ...LOCAL.bindings, Queue: { adapter: 'plain.queue' } };
    place.write('plugins.json', JSON.stringify({ plugins, bindings }));
    place.write('files/a', 'a');
    const { code, stderr } = await place.run(['tour', 'files']);
    expect(code).toBe(2);
    expect(stderr).toContain('bind one yourself: bindings.Queue.instances.tour');
    expect(stderr).toContain('"name"');
  });

  test('without a Queue: exit 2, and what to bind', async () => {
    place.write('plugins.json', JSON.stringify({ plugins: [], bindings: {} }));
    place.write('files/a', 'a');
    const { code, stderr } = await place.run(['tour', 'files']);
    expect(code).toBe(2);
    expect(stderr).toMatch(/RC1121 nothing provides (Storage|Queue)/);
  });
});

describe('beside its own work', () => {
  test('a machine or secrets that nothing is known of make it no failure', async () => {
    const adapters = [
      { id: 'odd.compute', provides: 'ComputeHint@1' },
      { id: 'odd.secrets', provides: 'SecretStore@1' },
      { id: 'odd.vault', provides: 'SecretStore@1' },
    ];
    place.write(
      'odd/plugin.json',
      JSON.stringify({ id: 'odd', version: '1.0.0', main: './index.mjs', contributes: { adapters } }),
    );
    place.write(
      'odd/index.mjs',
      `const failing = (what) => () => { throw new Error(what); };
       const vault = { get: failing('sealed'), put: failing('sealed'), names: async () => ['KEY'] };
       export default { [Symbol.for('rollout-cloud/plugin')]: true,
         adapters: { 'odd.compute': failing('no machine'), 'odd.secrets': failing('no secrets'), 'odd.vault': () => vault } };`,
    );
    place.write('files/a', 'a');
    const bind = (secrets: string) => {
      const bindings = {
        ...LOCAL.bindings,
        ComputeHint: { adapter: 'odd.compute' },
        SecretStore: { adapter: secrets },
      };
      place.write('plugins.json', JSON.stringify({ plugins: ['rollout.cloud-local', './odd'], bindings }));
    };
    bind('odd.secrets');
    const first = await tour('files');
    expect(first.code).toBe(0);
    expect(first.report.inventory).toEqual({ reason: expect.stringContaining('no machine') });
    expect(first.report.secrets).toEqual({ reason: expect.stringContaining('no secrets') });
    expect((await place.run(['tour', 'files'])).stdout).toMatch(
      /machine +unknown: .*no machine\nsecrets +unknown: .*no secrets/,
    );
    bind('odd.vault');
    expect((await tour('files')).report.secrets).toEqual([{ name: 'KEY', state: 'unknown', reason: 'sealed' }]);
  });

  test('when it is stopped before it begins it does nothing, reports so, and exits 1', async () => {
    place.write('files/a', 'a');
    const stop = new AbortController();
    stop.abort(new Error('enough'));
    const { code, stdout, stderr } = await place.run(['tour', 'files'], { signal: stop.signal });
    expect({ code, stderr }).toEqual({ code: 1, stderr: '' });
    expect(stdout).toContain('(stopped early: run it again to finish)');
    expect((await tour('files')).report.files).toMatchObject({ stored: 1 });
  });

  test('for people it is aligned text, coloured on a terminal only', async () => {
    place.write('files/a', 'a');
    const plain = await place.run(['tour', 'files']);
    expect(plain.stdout).toMatch(
      /^tour of .*files\n\nadapters +Storage#default +local\.sqlite +rollout\.cloud-local [\d.]+\n/,
    );
    expect(plain.stdout).toMatch(/^jobs +0 resumed, 1 queued, 1 done, 0 changed, 0 gone, 0 failed$/m);
    clean(plain);
    const colourful = await place.run(['tour', 'files'], { tty: true });
    expect(colourful.stdout).toContain('\x1b[1mtour\x1b[22m');
    expect(colourful.stderr).toContain('storing');
  });
});

describe('files that are out of the ordinary', () => {
  test.each([
    ['nowhere', 'there is no such folder'],
    ['plugins.json', 'it is not a folder'],
    ['plugins.json/below', 'ENOTDIR'],
  ])('dir %s: exit 2, %s', async (dir, reason) => {
    const { code, stdout, stderr } = await place.run(['tour', dir]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toBe(`rollout-cloud: cannot tour "${dir}": ${reason}\n`);
    expect(existsSync(place.path('data'))).toBe(false);
  });

  test('symbolic links are counted and not followed', async () => {
    place.write('files/a', 'a');
    symlinkSync('a', place.path('files/link'));
    expect((await tour('files')).report.files).toMatchObject({ found: 1, stored: 1, symlinksSkipped: 1 });
  });

  (process.platform === 'linux' ? test : test.skip)(
    'names with newlines and bytes that are not UTF-8 are toured, kept and printed clean (Linux only)',
    async () => {
      place.write('files/a', 'a');
      const odd = Buffer.concat([Buffer.from(place.path('files/')), Buffer.from([0x0a, 0x1b, 0xff])]);
      writeFileSync(odd, 'odd');
      expect((await tour('files')).report).toMatchObject({ files: { stored: 2 }, jobs: { done: 2 } });
      expect((await tour('files')).report.files).toMatchObject({ unchanged: 2 });
      await between(async ({ tourQueue }) => {
        const { size, mtimeNs } = statSync(odd, { bigint: true });
        const id = ContentId.parse('0'.repeat(64));
        await tourQueue.enqueue(encodeJob({ path: odd, size: Number(size), mtimeNs, id }));
      });
      const result = await place.run(['tour', 'files']);
      expect(result.stderr).toContain('/\\x0a\\x1b\\xff: object not found');
      clean(result);
    },
  );

  (process.platform === 'linux' ? test : test.skip)(
    'a file that even root cannot read is named with its errno, the rest goes on, exit 1 (needs /proc)',
    async () => {
      const { code, report, stderr } = await tour('/proc/sys/net/ipv4/route');
      expect(code).toBe(1);
      expect(report.files.unreadable).toBeGreaterThanOrEqual(1);
      expect(report.files.stored).toBeGreaterThanOrEqual(1);
      expect(stderr).toContain('/proc/sys/net/ipv4/route/flush: could not be read: EACCES');
    },
  );

  (process.getuid?.() === 0 ? test.skip : test)('a folder that cannot be listed (root can list any)', async () => {
    place.write('files/closed/a', 'a');
    place.write('files/b', 'b');
    chmodSync(place.path('files/closed'), 0);
    const { code, report, stderr } = await tour('files');
    chmodSync(place.path('files/closed'), 0o700);
    expect({ code, stored: report.files.stored }).toEqual({ code: 1, stored: 1 });
    expect(stderr).toContain('closed: could not be listed: EACCES');
  });
});
