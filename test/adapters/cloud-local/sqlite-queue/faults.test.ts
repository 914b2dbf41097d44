/** What may go wrong round a SqliteQueue: files, options, clocks, bounds, and closing in the middle. */
import { spawnSync } from 'node:child_process';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { describe, expect, jest, test } from '@jest/globals';
import sqlite3 from 'sqlite3';
import { SqliteQueue } from '../../../../src/adapters/cloud-local/sqlite-queue.js';
import { SqliteStorage } from '../../../../src/adapters/cloud-local/sqlite-storage.js';
import { SQLITE3 } from '../../../../src/adapters/cloud-local/storage/sqlite3-engine.js';
import { type Clock, type LeaseToken, systemClock } from '../../../../src/contracts/index.js';
import { bundle } from '../../../support/bundle.js';
import { until } from '../queue/support.js';
import { child, file, open, sql } from './support.js';

const LONG_MS = 60_000;
const openEngine = SQLITE3.open.bind(SQLITE3);
const bytes = (text: string) => new Uint8Array(Buffer.from(text));

describe('the file', () => {
  test("a Storage's database is refused and left as it is, and a queue's is no Storage", async () => {
    await (await SqliteStorage.open(file())).close();
    const refusal = {
      kind: 'ConfigInvalid',
      code: 'STORAGE_FORMAT',
      message: expect.stringContaining('another program'),
    };
    await expect(SqliteQueue.open(file())).rejects.toMatchObject(refusal);
    await (await SqliteQueue.open(file('queue.db'))).close();
    await expect(SqliteStorage.open(file('queue.db'))).rejects.toMatchObject(refusal);
    await (await SqliteStorage.open(file())).close();
  });

  test('that is no database is refused, and nothing is left open', async () => {
    writeFileSync(file(), 'not a database, but long enough to be looked at as one'.repeat(10));
    await expect(SqliteQueue.open(file())).rejects.toMatchObject({ code: 'STORAGE_FORMAT' });
    rmSync(file());
    await (await SqliteQueue.open(file())).close();
  });

  test('deleted while it is open: calls are told, and none is called done', async () => {
    const queue = await SqliteQueue.open(file());
    await queue.enqueue(bytes('before'));
    rmSync(file());
    const replaced = { kind: 'Internal', code: 'STORAGE_REPLACED' };
    await expect(queue.enqueue(bytes('after'))).rejects.toMatchObject(replaced);
    await expect(queue.dequeue()).rejects.toMatchObject(replaced);
    await expect(queue.close()).rejects.toMatchObject(replaced);
  });

  test('held by another process for longer than busyTimeoutMs is STORAGE_BUSY, for every call that waited, and mends', async () => {
    const queue = await open({ busyTimeoutMs: 50 });
    await queue.enqueue(bytes('a'));
    const holder = await child(
      `const { default: sqlite3 } = await import(${JSON.stringify(import.meta.resolve?.('sqlite3') ?? 'sqlite3')});
       const db = new sqlite3.Database(${JSON.stringify(file())});
       db.exec('BEGIN IMMEDIATE', () => console.log('held'));
       await line();
       db.exec('ROLLBACK', () => db.close(() => process.exit()));`,
    );
    expect(await holder.line()).toBe('held');
    const busy = { kind: 'Transient', code: 'STORAGE_BUSY' };
    const outcomes = await Promise.allSettled([queue.enqueue(bytes('b')), queue.dequeue(), queue.stats()]);
    expect(outcomes).toEqual(Array(3).fill({ status: 'rejected', reason: expect.objectContaining(busy) }));
    holder.say('go');
    await holder.ended;
    expect((await queue.stats()).pending).toBe(1);
  });
});

describe('what is synced', () => {
  test('is what a power cut must not undo: enqueues, acks and delays, not hand-overs, extensions and plain nacks', async () => {
    const levels: string[] = [];
    const opening = jest.spyOn(SQLITE3, 'open').mockImplementation(async (...args) => {
      const connection = await openEngine(...args);
      let level = '';
      const { exec, prepare } = connection;
      connection.exec = (text) => {
        level = /^PRAGMA synchronous = (\w+)/.exec(text)?.[1] ?? level;
        return exec.call(connection, text);
      };
      connection.prepare = async (text) => {
        const statement = await prepare.call(connection, text);
        const { run } = statement;
        statement.run = (...values) => {
          if (text === 'COMMIT') levels.push(level);
          return run.apply(statement, values);
        };
        return statement;
      };
      return connection;
    });
    const queue = await open();
    opening.mockRestore();
    const levelOf = async (call: Promise<unknown>) => {
      await call;
      return levels.at(-1);
    };
    expect(await levelOf(queue.enqueueMany(['a', 'b', 'c'].map(bytes)))).toBe('FULL');
    const taking = queue.dequeueMany(3, LONG_MS);
    expect(await levelOf(taking)).toBe('NORMAL');
    const [a, b, c] = (await taking).map(({ id, token }) => [id, token as LeaseToken] as const);
    if (a === undefined || b === undefined || c === undefined) throw new Error('nothing pending');
    expect(await levelOf(queue.extendLease(...a, LONG_MS))).toBe('NORMAL');
    expect(await levelOf(queue.ack(...a))).toBe('FULL');
    expect(await levelOf(queue.nack(...b))).toBe('NORMAL');
    expect(await levelOf(queue.nack(...c, { delayMs: LONG_MS }))).toBe('FULL');
  });
});

describe('damage', () => {
  test('that takes an item out of the line is told, once nothing else is in it', async () => {
    const queue = await open();
    await queue.enqueueMany(['a', 'b'].map(bytes));
    await queue.close();
    // As when a bit of the index has changed: the table has the item, and the line does not.
    const schema = (change: string) => `PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = ${change}`;
    for (const text of [
      schema("replace(sql, 'state = 0', 'state = 0 AND seq > 1') WHERE name = 'ready'"),
      'REINDEX ready',
      schema("replace(sql, ' AND seq > 1', '') WHERE name = 'ready'"),
    ]) {
      await new Promise<void>((resolve, reject) => {
        const database = new sqlite3.Database(file());
        database.exec(text, (error) => database.close(() => (error ? reject(error) : resolve())));
      });
    }
    const damaged = await open();
    expect((await damaged.stats()).pending).toBe(2);
    await damaged.ack((await damaged.dequeue())?.id as never);
    await expect(damaged.dequeue()).rejects.toMatchObject({ kind: 'Internal', code: 'STORAGE_CORRUPT' });
    await damaged.enqueue(bytes('c'));
    expect((await damaged.stats()).pending).toBe(2);
  });
});

describe('open files', () => {
  test('that have run out are Transient with the errno', async () => {
    const script = `
      import { closeSync, openSync } from 'node:fs';
      import { SqliteQueue } from ${JSON.stringify(await bundle('src/adapters/cloud-local/sqlite-queue.ts'))};
      // Loads all that is loaded late.
      await (await SqliteQueue.open(${JSON.stringify(file('first.db'))})).close();
      const fill = [];
      try { for (;;) fill.push(openSync('/dev/null')); } catch {}
      const seen = [];
      for (let queue = null; queue === null; closeSync(fill.pop())) {
        try {
          queue = await SqliteQueue.open(${JSON.stringify(file())});
          await queue.close();
        } catch ({ kind, context }) {
          seen.push(kind + ' ' + context?.errno);
        }
      }
      console.log(JSON.stringify([...new Set(seen)]));`;
    const shell = 'ulimit -n 128 && exec "$0" --input-type=module -e "$1"';
    const run = spawnSync('sh', ['-c', shell, process.execPath, script], { encoding: 'utf8' });
    expect(run).toMatchObject({ stderr: '', stdout: '["Transient EMFILE"]\n' });
  });
});

describe('options', () => {
  test.each([
    [{ engine: 'mysql' }, 'options.engine must be "sqlite3" or "node", found "mysql"'],
    [{ durability: 'ful' }, 'options.durability must be'],
    [{ name: 'a b' }, 'options.name must be'],
    [{ maxAttempts: 0 }, 'options.maxAttempts must be an integer of at least 1'],
    [{ payloadBytesMax: 2 ** 31 }, 'options.payloadBytesMax must be'],
    [{ leaseMs: 5 }, 'unknown option "leaseMs"'],
  ])('%j are refused, and nothing is made', async (options, message) => {
    await expect(SqliteQueue.open(file(), options as never)).rejects.toMatchObject({
      kind: 'SchemaViolation',
      code: 'ARGUMENT_INVALID',
      message: expect.stringContaining(message),
    });
    expect(existsSync(file())).toBe(false);
  });

  test.each([':memory:', 'file:x.db'])('so is the path %j, which is none', async (path) => {
    await expect(SqliteQueue.open(path)).rejects.toMatchObject({ code: 'ARGUMENT_INVALID' });
    expect(existsSync(path)).toBe(false);
  });

  test('maxPendingBytes bounds the backlog, in flight included, over all openings; refusing one call costs the others nothing', async () => {
    const [one, other] = [await open({ maxPendingBytes: 10 }), await open({ maxPendingBytes: 10 })];
    const sent = await Promise.allSettled([
      one.enqueue(new Uint8Array(6)),
      one.enqueue(new Uint8Array(6)),
      one.enqueue(new Uint8Array(4)),
    ]);
    expect(sent.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    await expect(other.enqueue(new Uint8Array(1))).rejects.toMatchObject({ kind: 'Throttled', code: 'BACKLOG_FULL' });
    await expect(other.enqueueMany([new Uint8Array(9), new Uint8Array(9)])).rejects.toMatchObject({
      code: 'PAYLOAD_TOO_LARGE',
    });
    const item = await other.dequeue();
    await expect(one.enqueue(new Uint8Array(1))).rejects.toMatchObject({ code: 'BACKLOG_FULL' });
    await other.ack(item?.id as never);
    await one.enqueue(new Uint8Array(1));
  });

  test('keyRetentionMs keeps a key taken after its item was acked, and no longer', async () => {
    let wallMs = 1_000_000;
    const clock: Clock = { ...systemClock, wallMs: () => wallMs };
    const queue = await open({ keyRetentionMs: 5_000, clock });
    const id = await queue.enqueue(bytes('a'), { key: 'k' });
    await queue.dequeue();
    await queue.ack(id);
    expect(await queue.enqueue(bytes('a'), { key: 'k' })).toBe(id);
    await expect(queue.enqueue(bytes('b'), { key: 'k' })).rejects.toMatchObject({ code: 'KEY_REUSED' });
    expect((await queue.stats()).pending).toBe(0);
    wallMs += 5_001;
    expect(await queue.enqueue(bytes('b'), { key: 'k' })).not.toBe(id);
    for (let n = 0; n < 3; n++) await queue.enqueue(bytes('c'));
    expect(await sql('SELECT key FROM key')).toEqual([{ key: 'k' }]);
  });
});

describe('the clock', () => {
  test('set back an hour changes no order and no lease, and ids go on rising', async () => {
    let stepMs = 0;
    const clock: Clock = { ...systemClock, wallMs: () => Date.now() + stepMs };
    const queue = await open({ clock });
    const ids = [await queue.enqueue(bytes('a'))];
    const item = await queue.dequeueWithLease(LONG_MS);
    stepMs = -3_600_000;
    ids.push(...(await queue.enqueueMany(['b', 'c'].map(bytes))), await queue.enqueue(bytes('d')));
    expect([...ids].sort()).toEqual(ids);
    await queue.ack(item?.id as never, item?.token);
    stepMs = 3_600_000;
    ids.push(await queue.enqueue(bytes('e')));
    const taken = await queue.dequeueMany(10, LONG_MS);
    expect(taken.map(({ id }) => id)).toEqual(ids.slice(1));
    expect((await queue.stats()).expiredTotal).toBe(0);
  });
});

describe('a call that waits for another process', () => {
  let monotonicMs = 1_000;
  const clock: Clock = { ...systemClock, monotonicMs: () => monotonicMs };

  /** Makes a call while another connection writes, for ten seconds of that clock. */
  async function late<T>(call: () => Promise<T>): Promise<T> {
    const writer = await SQLITE3.open(file(), 0);
    await writer.exec('BEGIN IMMEDIATE');
    const called = call();
    await new Promise((resolve) => setTimeout(resolve, 50));
    monotonicMs += 10_000;
    await writer.exec('ROLLBACK');
    await writer.close();
    return called;
  }

  test('begins a lease when it hands the item over', async () => {
    const queue = await open({ clock });
    await queue.enqueue(bytes('a'));
    const item = await late(() => queue.dequeueWithLease(5_000));
    await queue.ack(item?.id as never, item?.token);
    expect((await queue.stats()).expiredTotal).toBe(0);
  });

  test('settles an item whose lease it was made under, and no other', async () => {
    const queue = await open({ clock });
    await queue.enqueueMany(['a', 'b', 'c', 'd'].map(bytes));
    const items = await queue.dequeueMany(3, 5_000);
    const [a, b, c] = items.map(({ id, token }) => [id, token] as const) as [never, never, never];
    await late(() => Promise.all([queue.extendLease(...(a as [never, never]), 20_000), queue.ack(...(b as [never]))]));
    await expect(queue.nack(...(c as [never]))).rejects.toMatchObject({ code: 'LEASE_LOST' });
    await queue.ack(...(a as [never]));
    const d = await queue.dequeueMany(2, 5_000);
    monotonicMs += 5_000;
    for (const { id, token } of d) await expect(queue.ack(id, token)).rejects.toMatchObject({ code: 'LEASE_LOST' });
    expect(await queue.stats()).toMatchObject({ pending: 2, inFlight: 0, ackedTotal: 2, expiredTotal: 3 });
  });

  test('settles an item by the lease that a call before it has renewed', async () => {
    const queue = await open({ clock });
    await queue.enqueue(bytes('a'));
    const item = await queue.dequeueWithLease(5_000);
    if (item === null) throw new Error('nothing pending');
    await late(async () => {
      const renewed = queue.extendLease(item.id, item.token as LeaseToken, 20_000);
      monotonicMs += 6_000;
      await Promise.all([renewed, queue.ack(item.id, item.token)]);
    });
    expect(await queue.stats()).toMatchObject({ pending: 0, inFlight: 0, ackedTotal: 1 });
  });

  test('tries again all the time: between two transactions of the other one there may be no more than a moment', async () => {
    const queue = await open();
    const run = jest.spyOn(sqlite3.Statement.prototype, 'run');
    const writer = await SQLITE3.open(file(), 0);
    await writer.exec('BEGIN IMMEDIATE');
    const enqueued = queue.enqueue(bytes('a'));
    await until(() => run.mock.calls.length >= 50);
    run.mockRestore();
    await writer.close();
    await enqueued;
    expect((await queue.stats()).pending).toBe(1);
  });
});

describe('under load', () => {
  test('20,000 enqueues at once are stored once each, in order; large payloads between small ones are kept whole', async () => {
    const queue = await open({ durability: 'off' });
    const sizes = [0, 1, 65_536, 65_537, 5_000_000];
    const large = await Promise.all(sizes.map((size, i) => queue.enqueue(new Uint8Array(size).fill(i + 1))));
    const ids = await Promise.all(Array.from({ length: 20_000 }, (_, i) => queue.enqueue(bytes(`${i}`))));
    const taken = [];
    for (
      let page = await queue.dequeueMany(10_000, LONG_MS);
      page.length > 0;
      page = await queue.dequeueMany(10_000, LONG_MS)
    )
      taken.push(...page);
    expect(taken.map(({ id }) => id)).toEqual([...large, ...ids]);
    for (const [i, size] of sizes.entries()) {
      const payload = taken[i]?.payload as Uint8Array;
      expect(Buffer.compare(payload, new Uint8Array(size).fill(i + 1))).toBe(0);
    }
    expect(Buffer.from(taken.at(-1)?.payload as Uint8Array).toString()).toBe('19999');
  });

  test('close in the middle of everything settles every call, and what was answered is there afterwards', async () => {
    const queue = await SqliteQueue.open(file());
    await queue.enqueueMany(Array.from({ length: 50 }, (_, i) => bytes(`${i}`)));
    const items = await queue.dequeueMany(20, LONG_MS);
    const calls = [
      ...Array.from({ length: 50 }, () => queue.enqueue(bytes('x'))),
      ...items.map(({ id, token }, i) => (i % 2 === 0 ? queue.ack(id, token) : queue.nack(id, token))),
      queue.receive({ leaseMs: LONG_MS, max: 5, waitMs: LONG_MS }),
      queue.purge('dead'),
      queue.stats(),
    ];
    const closing = queue.close();
    const outcomes = await Promise.allSettled(calls);
    await closing;
    const failed = outcomes.filter((outcome) => outcome.status === 'rejected');
    expect(failed.map(({ reason }) => reason.code).filter((code) => code !== 'CLOSED')).toEqual([]);
    const again = await open();
    expect((await again.stats()).pending).toBe(90);
  });
});
