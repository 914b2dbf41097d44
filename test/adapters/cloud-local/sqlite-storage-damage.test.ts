/** What others do to the files, on disk: read-only, cut short, without their log. Each is told, and mends where it can. */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { InMemQueue } from '../../../src/adapters/cloud-local/in-mem-queue.js';
import { SqliteQueue } from '../../../src/adapters/cloud-local/sqlite-queue.js';
import { SqliteStorage } from '../../../src/adapters/cloud-local/sqlite-storage.js';
import { encodePath } from '../../../src/adapters/cloud-local/storage/keys.js';
import { type Clock, systemClock } from '../../../src/contracts/index.js';
import { file, key, moduleStart, open, put } from './sqlite-storage-kit.js';

function canMount(): boolean {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return false;
  const point = mkdtempSync(join(tmpdir(), 'rollout-'));
  const mounted = spawnSync('mount', ['-t', 'tmpfs', 'tmpfs', point]).status === 0;
  if (mounted) spawnSync('umount', [point]);
  rmSync(point, { recursive: true, force: true });
  return mounted;
}

/** An ext4 of its own: another file system cannot be made to fail. */
function mountImage(point: string): void {
  mkdirSync(point, { recursive: true });
  writeFileSync(`${point}.img`, '');
  truncateSync(`${point}.img`, 16 * 2 ** 20);
  execFileSync('mkfs.ext4', ['-q', '-F', `${point}.img`], { stdio: 'ignore' });
  execFileSync('mount', ['-o', 'loop', `${point}.img`, point], { stdio: 'ignore' });
}

function canLoop(): boolean {
  if (!canMount()) return false;
  const point = mkdtempSync(join(tmpdir(), 'rollout-'));
  try {
    mountImage(point);
    return spawnSync('umount', [point]).status === 0;
  } catch {
    return false;
  } finally {
    rmSync(point, { recursive: true, force: true });
    rmSync(`${point}.img`, { force: true });
  }
}

describe('a damaged key', () => {
  const corrupt = { kind: 'Internal', code: 'STORAGE_CORRUPT' };

  /** Three entries under `prefix`, the second of which has got another key. */
  async function damaged(prefix: string[], to: string[]): Promise<SqliteStorage> {
    const storage = await SqliteStorage.open(file());
    const txn = storage.begin();
    for (const name of ['first', 'second', 'third']) txn.put(key(...prefix, name), Uint8Array.of(1));
    await txn.commit();
    await storage.close();
    const content = readFileSync(file());
    const at = content.indexOf(encodePath([...prefix, 'second']));
    expect(at).toBeGreaterThan(0);
    encodePath(to).copy(content, at);
    writeFileSync(file(), content);
    return open();
  }

  test('that is out of order is told by a scan that meets it', async () => {
    const storage = await damaged([], ['zecond']);
    const seen: string[] = [];
    const scan = async () => {
      for await (const entry of storage.scan({ prefix: { namespace: 'n', path: [] } }))
        seen.push(entry.key.path.join());
    };
    await expect(scan()).rejects.toMatchObject(corrupt);
    expect(seen).toEqual([]);
  });

  test('that ends a scan early is told at its end', async () => {
    const storage = await damaged(['a'], ['b', 'second']);
    const seen: string[] = [];
    const scan = async () => {
      for await (const entry of storage.scan({ prefix: key('a') })) seen.push(entry.key.path.join());
    };
    await expect(scan()).rejects.toMatchObject(corrupt);
    expect(seen).toEqual(['a,first']);
  });
});

describe('a read-only file system', () => {
  const able = canMount();
  (able ? test : test.skip)(
    `is told when a database is opened or made; what was committed is there once it can be written again${able ? '' : ' (skipped: cannot mount a tmpfs here)'}`,
    async () => {
      const disk = file('disk');
      const path = join(disk, 'x.db');
      const denied = { severity: 'fatal', kind: 'ConfigInvalid', code: 'IO_DENIED' };
      mkdirSync(disk);
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', disk]);
      try {
        const storage = await SqliteStorage.open(path);
        await put(storage, 'kept');
        await storage.close();
        execFileSync('mount', ['-o', 'remount,ro', disk]);
        await expect(SqliteStorage.open(path)).rejects.toMatchObject(denied);
        await expect(SqliteStorage.open(join(disk, 'new.db'))).rejects.toMatchObject(denied);
        execFileSync('mount', ['-o', 'remount,rw', disk]);
        const again = await SqliteStorage.open(path);
        expect(await again.get(key('kept'))).toHaveLength(1);
        await again.close();
      } finally {
        execFileSync('umount', [disk]);
      }
    },
  );

  const loops = canLoop();
  (loops ? test : test.skip)(
    `that turned read-only while it was open, as one does whose disk fails, is told by each call, and nothing is called done${loops ? '' : ' (skipped: cannot mount an ext4 image here)'}`,
    async () => {
      const disk = file('disk');
      const denied = { severity: 'fatal', kind: 'ConfigInvalid', code: 'IO_DENIED', context: { errno: 'EROFS' } };
      mountImage(disk);
      try {
        const storage = await SqliteStorage.open(join(disk, 'x.db'));
        const queue = await SqliteQueue.open(join(disk, 'queue.db'));
        await put(storage, 'kept');
        await queue.enqueue(Buffer.from('kept'));
        execFileSync('mount', ['-o', 'remount,abort', disk]);
        const calls = [put(storage, 'a'), put(storage, 'b'), queue.enqueue(Buffer.from('a')), queue.dequeue()];
        for (const outcome of await Promise.allSettled(calls)) {
          expect(outcome).toMatchObject({ status: 'rejected', reason: denied });
        }
        await storage.close();
        await expect(queue.close()).rejects.toMatchObject(denied);
        execFileSync('umount', [disk]);
        execFileSync('mount', ['-o', 'loop', `${disk}.img`, disk]);
        const again = await SqliteStorage.open(join(disk, 'x.db'));
        expect(
          (await again.getMany(['kept', 'a', 'b'].map((path) => key(path)))).map((value) => value?.length),
        ).toEqual([1, undefined, undefined]);
        await again.close();
        const line = await SqliteQueue.open(join(disk, 'queue.db'));
        expect(await line.stats()).toMatchObject({ pending: 1, inFlight: 0 });
        await line.close();
      } finally {
        // Also while a call that failed still has it open: what failed is to be seen, and not this.
        execFileSync('umount', ['--lazy', disk]);
      }
    },
  );
});

describe('between two openings', () => {
  /** A database whose last commits are in its log alone, as a killed process leaves it. */
  async function killed(): Promise<void> {
    const script = `${await moduleStart()}
      const storage = await SqliteStorage.open(${JSON.stringify(file())});
      for (let i = 0; i < 300; i++) await put(storage, String(i));
      console.log('written');
      setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(child.stdout, 'data');
    const died = once(child, 'exit');
    child.kill('SIGKILL');
    await died;
  }
  const count = async (storage: SqliteStorage): Promise<number> => {
    let found = 0;
    for await (const _ of storage.scan({ prefix: { namespace: 'n', path: [] } })) found++;
    return found;
  };

  test('a log that was left behind is read: nothing is lost', async () => {
    await killed();
    expect(await count(await open())).toBe(300);
  });

  test('a log cut short gives a prefix of the commits, never a half of one', async () => {
    await killed();
    truncateSync(`${file()}-wal`, Math.floor(readFileSync(`${file()}-wal`).length / 2) + 7);
    const storage = await open();
    const found = await count(storage);
    expect(found).toBeGreaterThan(0);
    expect(found).toBeLessThan(300);
    for (let i = 0; i < found; i++) expect(await storage.get(key(`${i}`))).not.toBeNull();
    expect(await put(storage, 'goes on')).toBe(true);
  });

  test('a log that is missing takes what only it held; the database opens, empty or older, and goes on', async () => {
    await (await SqliteStorage.open(file())).close();
    await killed();
    rmSync(`${file()}-wal`);
    const storage = await open();
    expect(await count(storage)).toBeLessThan(300);
    expect(await put(storage, 'goes on')).toBe(true);
  });

  test('a database cut short is told, and left as it is', async () => {
    const storage = await SqliteStorage.open(file());
    for (let i = 0; i < 50; i++) await put(storage, `${i}`, new Uint8Array(1_000).fill(i));
    await storage.close();
    truncateSync(file(), 4_096 * 3);
    const corrupt = { severity: 'fatal', kind: 'Internal', code: 'STORAGE_CORRUPT' };
    const outcome = SqliteStorage.open(file()).then(async (again) => {
      try {
        await count(again);
      } finally {
        await again.close();
      }
    });
    await expect(outcome).rejects.toMatchObject(corrupt);
    expect(readFileSync(file()).length).toBe(4_096 * 3);
  });

  test('a damaged page fails those who need it: commits and reads elsewhere go on', async () => {
    const storage = await SqliteStorage.open(file());
    for (let i = 0; i < 60; i++) await put(storage, `${i}`.padStart(3, '0'), new Uint8Array(1_000).fill(i));
    await storage.close();
    const pages = readFileSync(file());
    // The leaf that holds the first keys, found by one of them.
    const at = Math.floor(pages.indexOf('001') / 4_096) * 4_096;
    copyFileSync(file(), file('good.db'));
    pages.fill(0x55, at, at + 4_096);
    writeFileSync(file(), pages);
    const again = await open();
    const [bad, good] = await Promise.allSettled([again.get(key('001')), again.get(key('059'))]);
    expect(bad).toMatchObject({ status: 'rejected', reason: { code: 'STORAGE_CORRUPT' } });
    expect(good).toMatchObject({ status: 'fulfilled', value: expect.objectContaining({ length: 1_000 }) });
    const [failed, done] = await Promise.allSettled([
      put(again, '001', new Uint8Array(1_000)),
      put(again, '059', new Uint8Array(1_000)),
    ]);
    expect(failed).toMatchObject({ status: 'rejected', reason: { code: 'STORAGE_CORRUPT' } });
    expect(done).toMatchObject({ status: 'fulfilled', value: true });
  });
});

describe('a queue on it', () => {
  test('100,000 enqueues at once are each stored once, in order, and survive reopening', async () => {
    const storage = await open(file(), { durability: 'normal' });
    const queue = await InMemQueue.open(storage);
    const ids = await Promise.all(Array.from({ length: 100_000 }, (_, i) => queue.enqueue(Buffer.from(`${i}`))));
    expect(new Set(ids).size).toBe(100_000);
    await queue.close();
    const again = await InMemQueue.open(storage);
    expect((await again.stats()).pending).toBe(100_000);
    await again.close();
    let at = 0;
    for await (const { key: stored, value } of storage.scan({ prefix: { namespace: 'cloudlocal_queue', path: [] } })) {
      if (stored.path[0] !== ids[at] || Buffer.from(value).toString() !== `${at}`)
        throw new Error(`out of order at ${at}`);
      at++;
    }
    expect(at).toBe(100_000);
  }, 120_000);

  test('bears a clock that is set back an hour: order, leases and ids hold, over a restart, too', async () => {
    let stepMs = 0;
    const clock: Clock = { ...systemClock, wallMs: () => Date.now() + stepMs };
    const storage = await open();
    const queue = await InMemQueue.open(storage, { clock });
    const ids = [await queue.enqueue(Buffer.from('a'))];
    const leased = await queue.dequeueWithLease(60_000);
    stepMs = -3_600_000;
    ids.push(await queue.enqueue(Buffer.from('b')), ...(await queue.enqueueMany([Buffer.from('c'), Buffer.from('d')])));
    expect((await queue.stats()).expiredTotal).toBe(0);
    await queue.nack(leased?.id as never, leased?.token);
    await queue.close();
    const again = await InMemQueue.open(storage, { clock });
    ids.push(await again.enqueue(Buffer.from('e')));
    expect([...ids].sort()).toEqual(ids);
    expect((await again.dequeueMany(10, 60_000)).map(({ id }) => id)).toEqual(ids);
    await again.close();
  });
});
