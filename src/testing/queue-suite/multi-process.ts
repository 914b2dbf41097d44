/** Feature `multi-process`: `reopen` gives the same queue a second time while it is open, as another process would have it. */
import assert from 'node:assert/strict';
import {
  bytes,
  type Cases,
  LONG_MS,
  pause,
  refused,
  SHORT_MS,
  send,
  take,
  takeLeased,
  text,
  until,
} from './helpers.js';

export const multiProcess: Cases = {
  'openings share the items: each is handed to one of them, in order': async ({ open, reopen }) => {
    const [one, other] = [await open(), await reopen()];
    await send(one, 'a');
    await send(other, 'b');
    await send(one, 'c');
    assert.equal((await other.stats()).pending, 3);
    assert.deepEqual([text(await take(other)), text(await take(one)), text(await take(other))], ['a', 'b', 'c']);
    assert.equal(await one.dequeue(), null);
    assert.equal((await one.stats()).inFlight, 3);
  },

  'consumers of several openings at once get each item once': async ({ open, reopen }) => {
    const openings = [await open(), await reopen(), await reopen()];
    const sent = (
      await Promise.all(
        openings.map((queue, i) => queue.enqueueMany(Array.from({ length: 40 }, (_, n) => bytes(`${i}.${n}`)))),
      )
    ).flat();
    assert.equal(new Set(sent).size, 120);
    const seen: string[] = [];
    await Promise.all(
      openings.map(async (queue) => {
        for (let items = await queue.dequeueMany(7, LONG_MS); items.length > 0; ) {
          for (const { id } of items) seen.push(id);
          await Promise.all(items.map(({ id, token }) => queue.ack(id, token)));
          items = await queue.dequeueMany(7, LONG_MS);
        }
      }),
    );
    assert.deepEqual(seen.sort(), [...sent].sort());
    const { pending, inFlight } = await (openings[0] as (typeof openings)[number]).stats();
    assert.deepEqual([pending, inFlight], [0, 0]);
  },

  'a receive that waits is woken by what another opening enqueues or gives back, and by the end of its lease': async ({
    open,
    reopen,
  }) => {
    const [one, other] = [await open(), await reopen()];
    const receive = () => one.receive({ leaseMs: LONG_MS, waitMs: LONG_MS });
    const first = receive();
    await pause(SHORT_MS);
    await send(other, 'a');
    const [item] = await first;
    assert.ok(item?.token);

    const second = receive();
    await pause(SHORT_MS);
    await other.nack(item.id, item.token);
    assert.equal((await second)[0]?.attempts, 2);
    await send(other, 'b');
    const b = await takeLeased(other, SHORT_MS);
    assert.equal((await receive())[0]?.id, b.id);
  },

  'tokens are of the item, not of the opening: a lease is settled, extended and lost through any': async ({
    open,
    reopen,
  }) => {
    const [one, other] = [await open(), await reopen()];
    await one.enqueueMany(['a', 'b'].map(bytes));
    const a = await takeLeased(one, LONG_MS);
    await refused(other.ack(a.id), 'LEASE_TOKEN_REQUIRED', 'SchemaViolation');
    await other.ack(a.id, a.token);
    const b = await takeLeased(one, LONG_MS);
    assert.ok(b.token);
    await other.extendLease(b.id, b.token, 1);
    await until(async () => (await other.stats()).pending === 1);
    const again = await takeLeased(other, LONG_MS);
    assert.deepEqual([again.id, again.attempts], [b.id, 2]);
    await refused(one.ack(b.id, b.token), 'LEASE_LOST', 'Transient');
    await other.ack(again.id, again.token);
  },

  'what an opening holds goes back when it closes, and its tokens are stale': async ({ open, reopen }) => {
    const [one, other] = [await open(), await reopen()];
    await one.enqueueMany(['a', 'b', 'c'].map(bytes));
    await take(one);
    const b = await takeLeased(one, LONG_MS);
    const waiting = (await other.receive({ leaseMs: LONG_MS, waitMs: 0 })).map(text);
    assert.deepEqual(waiting, ['c']);
    await one.close();
    assert.deepEqual([text(await take(other)), text(await take(other))], ['a', 'b']);
    await refused(other.ack(b.id, b.token), 'LEASE_LOST', 'Transient');
  },

  'closing one leaves the order of the others as it is': async ({ open, reopen }) => {
    const [one, other] = [await open(), await reopen()];
    await one.enqueueMany(['a', 'b', 'c'].map(bytes));
    const [a, b] = [await take(one), await take(one)];
    await one.nack(a.id);
    await one.nack(b.id);
    const third = await reopen();
    await third.close();
    assert.deepEqual([text(await take(other)), text(await take(other)), text(await take(other))], ['b', 'a', 'c']);
  },
};
