import fs from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { blake3Engine } from '../../../src/adapters/cloud-local/object-store/blake3.js';
import { FsObjectStore } from '../../../src/adapters/cloud-local/object-store.js';
import { drafts, newRoot, recordedFiles } from './object-store-kit.js';

const MIB = 1_048_576;
const FULL = { kind: 'Throttled', code: 'STORE_FULL' };

const blob = (size: number, seed: number) => Buffer.alloc(size, seed);

async function listed(store: FsObjectStore): Promise<string[]> {
  const ids: string[] = [];
  for await (const id of store.list()) ids.push(id);
  return ids;
}

describe('maxBlobBytes', () => {
  test('a larger blob is refused before anything is written, as bytes, as a stream and as a file', async () => {
    const root = newRoot();
    const { files, log } = recordedFiles();
    const store = await FsObjectStore.open(root, { maxBlobBytes: 2 * MIB }, { files });
    const file = join(root, '../file');
    fs.writeFileSync(file, blob(2 * MIB + 1, 1));
    log.length = 0;
    const refused = { kind: 'SchemaViolation', code: 'PAYLOAD_TOO_LARGE' };
    await expect(store.putBytes(blob(2 * MIB + 1, 1))).rejects.toMatchObject(refused);
    await expect(store.putFile(file)).rejects.toMatchObject(refused);
    const whole = new Blob([blob(2 * MIB + 1, 1)]);
    await expect(store.putStream(whole.stream(), { expectedSize: whole.size })).rejects.toMatchObject(refused);
    expect(log.filter((entry) => entry.startsWith('>write'))).toEqual([]);
    await expect(store.putStream(whole.stream())).rejects.toMatchObject(refused);
    expect(drafts(root)).toEqual([]);
    expect(await listed(store)).toEqual([]);
    await store.putBytes(blob(2 * MIB, 1));
    await store.putStream(new Blob([blob(2 * MIB, 2)]).stream());
  });

  test('0 takes the empty blob alone', async () => {
    const store = await FsObjectStore.open(newRoot(), { maxBlobBytes: 0 });
    await store.putBytes(blob(0, 0));
    await expect(store.putBytes(blob(1, 0))).rejects.toMatchObject({ code: 'PAYLOAD_TOO_LARGE' });
  });
});

describe('maxStoreBytes', () => {
  test('a put beyond it is refused before it writes; putting again what is there is not; deleting makes room', async () => {
    const root = newRoot();
    const { files, log } = recordedFiles();
    const store = await FsObjectStore.open(root, { maxStoreBytes: 3 * MIB }, { files });
    const first = await store.putBytes(blob(2 * MIB, 1));
    expect((await store.stats()).usedBytes).toBe(2 * MIB);
    log.length = 0;
    const refusal = await store.putBytes(blob(2 * MIB, 2)).catch((error: unknown) => error);
    expect(refusal).toMatchObject({ ...FULL, context: { used: 2 * MIB, bytes: 2 * MIB, maxStoreBytes: 3 * MIB } });
    expect(log.filter((entry) => /^>(write|open .*\/store\/tmp\/)/.test(entry))).toEqual([]);
    await store.putBytes(blob(2 * MIB, 1));
    await store.putBytes(blob(MIB, 3));
    await store.delete(first);
    await store.putBytes(blob(2 * MIB, 2));
    expect((await store.stats()).usedBytes).toBe(3 * MIB);
  });

  test('a stream is refused at the block that does not fit, and leaves nothing', async () => {
    const root = newRoot();
    const store = await FsObjectStore.open(root, { maxStoreBytes: 3 * MIB });
    let taken = 0;
    async function* endless() {
      for (;;) {
        taken += MIB;
        yield blob(MIB, taken / MIB);
      }
    }
    await expect(store.putStream(endless())).rejects.toMatchObject(FULL);
    expect(taken).toBeLessThanOrEqual(6 * MIB);
    expect(drafts(root)).toEqual([]);
    // The room that it held is given back.
    await store.putBytes(blob(3 * MIB, 1));
  });

  test('puts at the same time do not go beyond it together', async () => {
    const store = await FsObjectStore.open(newRoot(), { maxStoreBytes: 10 * 1_000, io: 'async' });
    const puts = await Promise.allSettled(Array.from({ length: 30 }, (_, n) => store.putBytes(blob(1_000, n))));
    expect(puts.filter(({ status }) => status === 'fulfilled')).toHaveLength(10);
    expect(await listed(store)).toHaveLength(10);
  });

  test('what others put and delete counts at once, to the byte', async () => {
    const root = newRoot();
    const other = await FsObjectStore.open(root);
    const store = await FsObjectStore.open(root, { maxStoreBytes: 7_000_000 });
    for (let n = 0; n < 30; n++) {
      await other.putBytes(blob(200_000, n));
      expect((await store.stats()).usedBytes).toBe((n + 1) * 200_000);
    }
    await expect(store.putBytes(blob(1_000_001, 99))).rejects.toMatchObject(FULL);
    await store.putBytes(blob(1_000_000, 98));
    for await (const id of store.list()) await other.delete(id);
    expect((await store.stats()).usedBytes).toBe(0);
    expect((await other.stats()).usedBytes).toBe(0);
  });

  test('a store that was never counted is counted by the first put that has to know', async () => {
    const root = newRoot();
    const before = await FsObjectStore.open(root);
    for (let n = 0; n < 3; n++) await before.putBytes(blob(MIB, n));
    fs.rmSync(join(root, 'usage'), { recursive: true });
    const store = await FsObjectStore.open(root, { maxStoreBytes: 4 * MIB });
    expect((await store.stats()).usedBytes).toBeNull();
    const puts = await Promise.allSettled([store.putBytes(blob(2 * MIB, 7)), store.putBytes(blob(2 * MIB, 8))]);
    expect(puts.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    await store.putBytes(blob(MIB, 9));
    expect((await store.stats()).usedBytes).toBe(4 * MIB);
  });

  test('a sum that cannot be written is told later, and fails no put', async () => {
    const root = newRoot();
    let full = true;
    const { files } = recordedFiles((call, path) =>
      full && call === 'write' && path.includes('/usage/') ? 'ENOSPC' : undefined,
    );
    const store = await FsObjectStore.open(root, {}, { files });
    const other = await FsObjectStore.open(root);
    await store.putBytes(blob(2_000, 1));
    expect((await other.stats()).usedBytes).toBe(0);
    expect((await store.stats()).usedBytes).toBe(2_000);
    full = false;
    await store.putBytes(blob(1_000, 2));
    expect((await other.stats()).usedBytes).toBe(3_000);
  });
});

describe('opening', () => {
  test('a root where no folder can be made is an error that names it, not a hang', async () => {
    const path = '/proc/rollout-no-such/store';
    const refusal = await FsObjectStore.open(process.platform === 'linux' ? path : '/dev/null/store').catch(
      (error: unknown) => error,
    );
    expect(refusal).toMatchObject({ kind: 'ConfigInvalid', code: 'IO_DENIED' });
    expect((refusal as Error).message).toMatch(/could not make the folder .*configure another path/);
  });

  test('two at the same moment leave the higher of their levels', async () => {
    for (let n = 0; n < 10; n++) {
      const root = newRoot();
      await Promise.allSettled([
        FsObjectStore.open(root, { durability: 'none', io: n % 2 ? 'async' : 'auto' }),
        FsObjectStore.open(root, { durability: 'full', io: 'async' }),
        FsObjectStore.open(root, { durability: 'data', io: 'async' }),
      ]);
      expect(JSON.parse(fs.readFileSync(join(root, 'store.json'), 'utf8'))).toMatchObject({ durability: 'full' });
      expect(drafts(root)).toEqual([]);
    }
  });

  test('an open that waits while another writes the level goes on when that one has crashed over it', async () => {
    const root = newRoot();
    const lock = join(root, 'tmp/opening');
    fs.mkdirSync(lock, { recursive: true });
    fs.utimesSync(lock, 0, 0);
    await FsObjectStore.open(root);
    expect(fs.existsSync(lock)).toBe(false);
  });

  test('costs the same calls however much is stored', async () => {
    const root = newRoot();
    const store = await FsObjectStore.open(root, { durability: 'none' });
    const calls = async () => {
      const { files, log } = recordedFiles();
      await FsObjectStore.open(root, { durability: 'none' }, { files });
      return log.length;
    };
    const empty = await calls();
    for (let n = 0; n < 300; n++) await store.putBytes(blob(4, n).fill(n >> 8, 1));
    expect(await calls()).toBe(empty);
  });
});

test('stats() tells what the store is, and what was done with it', async () => {
  const root = newRoot();
  const store = await FsObjectStore.open(root, { durability: 'data', io: 'sync', maxStoreBytes: 5_000 });
  const id = await store.putBytes(blob(100, 1));
  await store.putBytes(blob(100, 1));
  await store.getBytes(id);
  expect(await store.stats()).toEqual({
    ...{ root, durability: 'data', hash: await blake3Engine(), io: 'sync', maxStoreBytes: 5_000 },
    ...{ usedBytes: 100, quarantined: 0, puts: 2, gets: 1, corrupt: 0 },
  });
});
