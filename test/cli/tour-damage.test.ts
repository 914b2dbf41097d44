/** `tour` where blobs are damaged, and where its own files lie under other names. */
import { closeSync, linkSync, openSync, readFileSync, rmSync, statSync, writeSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { FsObjectStore } from '../../src/adapters/cloud-local/index.js';
import { encodeJob, Ledger } from '../../src/cli/tour/ledger.js';
import { OwnData } from '../../src/cli/tour/own-data.js';
import { type ContentId, Queue, Storage } from '../../src/contracts/index.js';
import { createHost } from '../../src/registry/index.js';
import { importModule } from '../support/import-module.js';
import { Place } from './support.js';

const MIB = 1_048_576;

let place: Place;
beforeEach(() => {
  place = new Place();
});
afterEach(() => Place.removeAll());

async function tour() {
  const { code, stdout, stderr } = await place.run(['--json', 'tour', 'files']);
  return { code, stderr, report: JSON.parse(stdout) };
}

/** Storage and the tour's queue, between two tours. */
async function between<T>(work: (storage: Storage, queue: Queue) => Promise<T>): Promise<T> {
  const queue = { adapter: 'local.in-mem', config: { name: 'tour' } };
  const set = { 'bindings.Queue': { instances: { default: queue } } };
  const host = await createHost({ config: place.path('plugins.json'), set, importModule });
  try {
    return await work(await host.get(Storage), await host.get(Queue));
  } finally {
    await host.stop();
  }
}

/** A file's path, size and time, with the blob given. */
function fileWith(name: string, id: ContentId) {
  const { size, mtimeNs } = statSync(place.path(name), { bigint: true });
  return { path: Buffer.from(place.path(name)), size: Number(size), mtimeNs, id };
}

/** Changes the first byte of a blob. */
function damage(id: ContentId): void {
  const fd = openSync(place.path('data/object-store', id.slice(0, 2), id.slice(2, 4), id), 'r+');
  writeSync(fd, Buffer.from([0x5a]), 0, 1, 0);
  closeSync(fd);
}

describe.each([
  ['small', Buffer.from('small')],
  ['large', Buffer.alloc(3 * MIB + 5, 'large')],
])('a corrupt blob of the right size, of a %s file', (_, bytes) => {
  let id: ContentId;
  const openStore = () => FsObjectStore.open(place.path('data/object-store'));
  beforeEach(async () => {
    place.write('files/a', bytes);
    id = await (await openStore()).putBytes(bytes);
    damage(id);
  });

  test('that a tour finds there fails the first tour, and the next one stores it anew', async () => {
    const first = await tour();
    expect(first).toMatchObject({
      code: 1,
      report: { blobs: { existing: 1 }, jobs: { queued: 1, done: 0, failed: 1 } },
    });
    expect(first.stderr).toContain(`object corrupt: ${id}`);
    const next = await tour();
    expect(next).toMatchObject({ code: 0, report: { blobs: { new: 1 }, jobs: { queued: 1, done: 1, failed: 0 } } });
    expect(Buffer.compare(await (await openStore()).getBytes(id), bytes)).toBe(0);
    expect((await tour()).report.files).toMatchObject({ unchanged: 1 });
  });

  test('of a job that an earlier tour left is stored anew by the same tour', async () => {
    await between(async (storage, queue) => {
      await new Ledger(storage).write('queued', [fileWith('files/a', id)]);
      await queue.enqueue(encodeJob(fileWith('files/a', id)));
    });
    const { code, report } = await tour();
    expect(code).toBe(1);
    expect(report.jobs).toMatchObject({ resumed: 1, failed: 1, queued: 1, done: 1 });
    expect(Buffer.compare(await (await openStore()).getBytes(id), bytes)).toBe(0);
  });
});

test('a file that is done is not read back: its blob’s damage is left to objects verify', async () => {
  place.write('files/a', 'a');
  await tour();
  damage(await (await FsObjectStore.open(place.path('data/object-store'))).putBytes(Buffer.from('a')));
  expect(await tour()).toMatchObject({ code: 0, report: { files: { unchanged: 1 } } });
});

describe('its own files under other names', () => {
  test('are passed over, stored or worked off', async () => {
    place.write('files/a', 'a');
    await tour();
    linkSync(place.path('data/rollout.db'), place.path('files/copy'));
    expect((await tour()).report).toMatchObject({
      files: { found: 1, stored: 0, unchanged: 1, ownDataSkipped: 1 },
      jobs: { queued: 0 },
    });
    const id = await (await FsObjectStore.open(place.path('data/object-store'))).putBytes(Buffer.from('a'));
    await between((_, queue) => queue.enqueue(encodeJob(fileWith('files/copy', id))));
    expect(await tour()).toMatchObject({
      code: 0,
      report: { files: { found: 1, ownDataSkipped: 2 }, jobs: { resumed: 1, done: 0, changed: 0, gone: 0, failed: 0 } },
    });
    rmSync(place.path('data/rollout.db'));
    expect((await tour()).report.files).toMatchObject({ found: 2, stored: 2 });
    expect(readFileSync(place.path('files/copy'), 'latin1')).toMatch(/^SQLite format 3/);
  });

  test('include those that are made once the database is open', async () => {
    await between(async (storage) => {
      const lock = await storage.lock('rollout_tour', { holder: 'test' });
      const path = place.path('data/rollout.db');
      const own = await OwnData.find([{ instance: 'Storage#default', path }]);
      const isOwn = (name: string) => own.isOneOf(statSync(place.path(name), { bigint: true }));
      for (const end of ['', '-wal', '-shm', '.rollout_tour.lock', '.queue.tour.lock']) {
        linkSync(`${path}${end}`, place.path(`copy${end}`));
        expect({ end, isOwn: isOwn(`copy${end}`) }).toEqual({ end, isOwn: true });
      }
      place.write('data/rollout.dbx', '');
      expect(isOwn('data/rollout.dbx')).toBe(false);
      expect(isOwn('plugins.json')).toBe(false);
      await lock[Symbol.asyncDispose]();
    });
  });
});
