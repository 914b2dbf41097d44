/** Several processes on one queue, and what becomes of what they held when they die. */
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { Bell } from '../../../../src/adapters/cloud-local/sqlite-queue/bell.js';
import { until } from '../queue/support.js';
import { child, file, open, sql } from './support.js';

const LONG_MS = 60_000;
const text = (payload: Uint8Array | undefined) => payload && Buffer.from(payload).toString();

describe('several processes', () => {
  test('work one line off: each item is handed to one of them', async () => {
    const queue = await open();
    const script = `
      await line();
      for (let n = 0; n < 60; n++) await queue.enqueue(Buffer.from(process.pid + '.' + n));
      const seen = [];
      for (;;) {
        const items = await queue.receive({ leaseMs: 60000, max: 5, waitMs: 1000 });
        if (items.length === 0) break;
        seen.push(...items.map(({ id }) => id));
        await Promise.all(items.map(({ id, token }) => queue.ack(id, token)));
      }
      console.log(JSON.stringify(seen));
      await queue.close();`;
    const workers = await Promise.all([1, 2, 3].map(() => child(script)));
    for (const worker of workers) worker.say('go');
    const seen = (await Promise.all(workers.map((worker) => worker.line()))).flatMap((each) => JSON.parse(each));
    expect(seen).toHaveLength(180);
    expect(new Set(seen).size).toBe(180);
    expect(await queue.stats()).toMatchObject({ pending: 0, inFlight: 0, bytesInStorage: 0 });
  });

  test('a receive that waits is woken by the bell of another process', async () => {
    const queue = await open();
    const sender = await child(`await line(); await queue.enqueue(Buffer.from('x')); await line();`);
    const waiting = queue.receive({ leaseMs: LONG_MS, waitMs: LONG_MS });
    sender.say('go');
    expect(text((await waiting)[0]?.payload)).toBe('x');
  });

  test('what a killed process held stays its own until a lease ends, and goes back at once when a queue of the file is opened', async () => {
    const queue = await open({ maxAttempts: 10 });
    await queue.enqueueMany(['leased', 'short', 'unleased', 'pending'].map((name) => Buffer.from(name)));
    const holder = await child(
      `await queue.dequeueWithLease(60000); await queue.dequeueWithLease(3000); await queue.dequeue(); console.log('held'); await line();`,
    );
    expect(await holder.line()).toBe('held');
    // While it lives, nobody gets what it has: an opening sees that it does.
    await (await open({ name: 'other' })).stats();
    expect(await queue.stats()).toMatchObject({ pending: 1, inFlight: 3 });
    await holder.kill();
    expect(text((await queue.receive({ leaseMs: LONG_MS, waitMs: LONG_MS }))[0]?.payload)).toMatch(/short|pending/);
    await until(async () => (await queue.stats()).inFlight <= 3 && (await queue.stats()).pending >= 1);
    await open({ name: 'third' });
    const left = await queue.dequeueMany(10, LONG_MS);
    expect(left.map(({ payload }) => text(payload))).toEqual(expect.arrayContaining(['leased', 'unleased']));
    expect(left.find(({ payload }) => text(payload) === 'leased')?.attempts).toBe(2);
    expect((await queue.stats()).pending).toBe(0);
  });

  test('an item that kills whoever takes it ends among the dead letters', async () => {
    const queue = await open({ maxAttempts: 2 });
    const id = await queue.enqueue(Buffer.from('killer'));
    for (let life = 0; life < 2; life++) {
      const victim = await child(`await queue.dequeue(); process.kill(process.pid, 'SIGKILL');`, { maxAttempts: 2 });
      await victim.ended;
    }
    await open({ name: 'other' });
    expect(await queue.dequeue()).toBeNull();
    const letters = [];
    for await (const letter of queue.deadLetters()) letters.push(letter);
    expect(letters.map((letter) => [letter.id, letter.attempts])).toEqual([[id, 2]]);
  });
});

describe('another boot', () => {
  test('ends every lease; a delay goes on by the wall clock', async () => {
    const queue = await open();
    await queue.enqueueMany(['a', 'b'].map((name) => Buffer.from(name)));
    await queue.enqueue(Buffer.from('later'), { delayMs: LONG_MS });
    await queue.enqueue(Buffer.from('soon'), { delayMs: LONG_MS });
    const a = await queue.dequeueWithLease(LONG_MS);
    await queue.dequeue();
    // As the file would be found after a reboot: another boot's id, deadlines of a clock that is gone, nobody alive.
    await sql(`UPDATE boot SET id = 'another'`);
    await sql('UPDATE item SET due = due + 1000000000000 WHERE due IS NOT NULL');
    await sql(`UPDATE item SET wall = 1 WHERE payload = CAST('soon' AS BLOB)`);
    const again = await open();
    expect(await again.stats()).toMatchObject({ pending: 3, delayed: 1, inFlight: 0 });
    expect(text((await again.dequeue())?.payload)).toBe('a');
    await expect(queue.ack(a?.id as never, a?.token)).rejects.toMatchObject({ code: 'LEASE_LOST' });
  });
});

describe('the bell', () => {
  test('is heard by others, and hung again when somebody takes it away', async () => {
    let heard = 0;
    const one = new Bell(file('bell'), () => {});
    const other = new Bell(file('bell'), () => {
      heard++;
    });
    const ring = async () => {
      const before = heard;
      await until(() => {
        one.ring();
        return heard > before;
      });
    };
    await ring();
    rmSync(file('bell'));
    await ring();
    one.close();
    other.close();
    one.ring();
  });

  test('bears that its folder goes away while it hangs there, and is heard again once the folder is back', async () => {
    const folder = file('folder');
    mkdirSync(folder);
    let heard = 0;
    const bell = new Bell(join(folder, 'bell'), () => {
      heard++;
    });
    const ring = async () => {
      const before = heard;
      await until(() => {
        bell.ring();
        return heard > before;
      });
    };
    await ring();
    // Its own name goes last, so that it finds nowhere to hang again.
    renameSync(folder, file('moved'));
    renameSync(file('moved/bell'), file('moved/other'));
    const told = heard;
    await until(() => heard > told);
    bell.ring();
    mkdirSync(folder);
    await ring();
    bell.close();
  });

  const full = existsSync('/dev/full');
  (full ? test : test.skip)(`on a full disk fails nothing${full ? '' : ' (skipped: no /dev/full here)'}`, () => {
    const bell = new Bell('/dev/full', () => {});
    bell.ring();
    bell.close();
  });

  test('that cannot be made is told in the error family', () => {
    expect(() => new Bell(file('no/such/folder/bell'), () => {})).toThrow(
      expect.objectContaining({ severity: 'fatal', message: expect.stringContaining("open the queue's bell") }),
    );
  });
});
