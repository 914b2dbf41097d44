/** Feature `lease`: leases, tokens, and `receive`, which takes with a lease. */
import assert from 'node:assert/strict';
import { deliveries } from '../../contracts/consume.js';
import {
  aborted,
  bytes,
  type Cases,
  LONG_MS,
  pause,
  refused,
  SHORT_MS,
  STRANGE_TOKEN,
  send,
  take,
  takeLeased,
  text,
  UNKNOWN_ID,
  unsupported,
  until,
} from './helpers.js';

export const lease: Cases = {
  'a leased item is acked with its token only': async ({ open }) => {
    const queue = await open();
    await send(queue, 'a');
    const item = await takeLeased(queue, LONG_MS);
    assert.equal(item.leaseMs, LONG_MS);
    await refused(queue.ack(item.id), 'LEASE_TOKEN_REQUIRED', 'SchemaViolation');
    await refused(queue.nack(item.id), 'LEASE_TOKEN_REQUIRED', 'SchemaViolation');
    await refused(queue.ack(item.id, STRANGE_TOKEN), 'LEASE_LOST', 'Transient');
    await refused(queue.nack(item.id, STRANGE_TOKEN), 'LEASE_LOST', 'Transient');
    await queue.ack(item.id, item.token);
    assert.equal((await queue.stats()).inFlight, 0);
  },

  'a lease that ends gives the item back, first in line, with one more attempt': async ({ open }) => {
    const queue = await open();
    await queue.enqueueMany(['a', 'b'].map(bytes));
    const first = await takeLeased(queue, SHORT_MS);
    await until(async () => (await queue.stats()).pending === 2);
    const again = await takeLeased(queue, LONG_MS);
    assert.equal(again.id, first.id);
    assert.equal(again.attempts, 2);
    assert.notEqual(again.token, first.token);
    assert.equal((await queue.stats()).expiredTotal, 1);
  },

  'leases that end together give back the oldest item first': async ({ open }) => {
    const queue = await open();
    await queue.enqueueMany(['a', 'b', 'c', 'd'].map(bytes));
    await queue.dequeueMany(3, SHORT_MS);
    await until(async () => (await queue.stats()).pending === 4);
    assert.deepEqual((await queue.dequeueMany(4, LONG_MS)).map(text), ['a', 'b', 'c', 'd']);
  },

  'a token is stale once its lease has ended, also when somebody else holds the item': async ({ open }) => {
    const queue = await open();
    await send(queue, 'a');
    const { id, token } = await takeLeased(queue, SHORT_MS);
    assert.ok(token !== null);
    await until(async () => (await queue.stats()).pending === 1);
    const stale = async () => {
      await refused(queue.ack(id, token), 'LEASE_LOST', 'Transient');
      await refused(queue.nack(id, token), 'LEASE_LOST', 'Transient');
      await refused(queue.extendLease(id, token, LONG_MS), 'LEASE_LOST', 'Transient');
    };
    await stale();
    const again = await takeLeased(queue, LONG_MS);
    await stale();
    await queue.ack(id, again.token);
  },

  'extendLease moves the end of the lease': async ({ open }) => {
    const queue = await open();
    await send(queue, 'a');
    const { id, token } = await takeLeased(queue, 500);
    assert.ok(token !== null);
    await queue.extendLease(id, token, LONG_MS);
    await pause(700);
    await queue.ack(id, token);
    assert.equal((await queue.stats()).expiredTotal, 0);
  },

  'extendLease shortens it, too': async ({ open }) => {
    const queue = await open();
    await send(queue, 'a');
    const { id, token } = await takeLeased(queue, LONG_MS);
    assert.ok(token !== null);
    await queue.extendLease(id, token, 1);
    await until(async () => (await queue.stats()).pending === 1);
  },

  'extendLease of an item that is not in flight is a lost lease': async ({ open }) => {
    const queue = await open();
    const id = await send(queue, 'a');
    await refused(queue.extendLease(UNKNOWN_ID, STRANGE_TOKEN, 1_000), 'LEASE_LOST', 'Transient');
    await refused(queue.extendLease(id, STRANGE_TOKEN, 1_000), 'LEASE_LOST', 'Transient');
    await take(queue);
    await refused(queue.extendLease(id, STRANGE_TOKEN, 1_000), 'LEASE_LOST', 'Transient');
  },

  'takes several items at once, each with a token of its own': async ({ open }) => {
    const queue = await open();
    await queue.enqueueMany(['a', 'b', 'c'].map(bytes));
    const two = await queue.dequeueMany(2, LONG_MS);
    assert.deepEqual(two.map(text), ['a', 'b']);
    assert.equal(new Set(two.map(({ token }) => token)).size, 2);
    assert.deepEqual((await queue.dequeueMany(10, LONG_MS)).map(text), ['c']);
    assert.deepEqual(await queue.dequeueMany(10, LONG_MS), []);
  },

  'a worker whose item another one acked meanwhile has lost it, and goes on': async ({ open }) => {
    const queue = await open();
    await queue.enqueueMany(['a', 'b'].map(bytes));
    const loop = deliveries(queue, { leaseMs: LONG_MS });
    const { value: first } = await loop.next();
    assert.ok(first?.item.token);
    // As if this one had stalled for longer than its lease.
    await queue.extendLease(first.item.id, first.item.token, 1);
    await until(async () => (await queue.stats()).pending === 2);
    const { id, token } = await takeLeased(queue, LONG_MS);
    assert.equal(id, first.item.id);
    await queue.ack(id, token);
    await refused(first.nack(), 'LEASE_LOST', 'Transient');
    const { value: second } = await loop.next();
    assert.equal(second && text(second.item), 'b');
    await loop.return();
    assert.equal((await queue.stats()).pending, 1);
  },

  'receive answers at once with what is pending, and looks once without a wait': async ({ open }) => {
    const queue = await open();
    assert.deepEqual(await queue.receive({ leaseMs: LONG_MS, waitMs: 0 }), []);
    await queue.enqueueMany(['a', 'b'].map(bytes));
    assert.deepEqual((await queue.receive({ leaseMs: LONG_MS, waitMs: LONG_MS })).map(text), ['a']);
    assert.deepEqual((await queue.receive({ leaseMs: LONG_MS, max: 5, waitMs: 0 })).map(text), ['b']);
  },

  'receive is woken by an enqueue, by a nack, and by a lease that ends': async ({ open }) => {
    const queue = await open();
    const receive = () => queue.receive({ leaseMs: LONG_MS, waitMs: LONG_MS });
    const first = receive();
    await send(queue, 'a');
    const [item] = await first;
    assert.ok(item !== undefined);

    const second = receive();
    await queue.nack(item.id, item.token);
    const [again] = await second;
    assert.ok(again?.token);
    assert.equal(again.attempts, 2);

    const third = receive();
    await queue.extendLease(again.id, again.token, SHORT_MS);
    assert.equal((await third)[0]?.attempts, 3);
  },

  'receive ends empty after its wait': async ({ open }) => {
    const queue = await open();
    assert.deepEqual(await queue.receive({ leaseMs: LONG_MS, waitMs: SHORT_MS }), []);
  },

  'receives that wait share what comes: one item each': async ({ open }) => {
    const queue = await open();
    const waiting = Array.from({ length: 5 }, () => queue.receive({ leaseMs: LONG_MS, waitMs: LONG_MS }));
    await Promise.all(['a', 'b', 'c', 'd', 'e'].map((name) => send(queue, name)));
    const items = (await Promise.all(waiting)).flat();
    assert.deepEqual(items.map(text).sort(), ['a', 'b', 'c', 'd', 'e']);
  },

  'an abort ends a receive with its reason, and takes no item along': async ({ open }) => {
    const queue = await open();
    const stop = new AbortController();
    const waiting = queue.receive({ leaseMs: LONG_MS, waitMs: LONG_MS, signal: stop.signal });
    const reason = new Error('enough');
    stop.abort(reason);
    await aborted(waiting, reason);
    await aborted(queue.receive({ leaseMs: LONG_MS, waitMs: 0, signal: stop.signal }), reason);
    await send(queue, 'a');
    assert.equal((await queue.stats()).pending, 1);
  },

  'close ends a receive that waits, with no items': async ({ open }) => {
    const queue = await open();
    const waiting = queue.receive({ leaseMs: LONG_MS, waitMs: LONG_MS });
    await queue.close();
    assert.deepEqual(await waiting, []);
  },
};

export const withoutLease: Cases = {
  'leases are refused by an adapter without them': async ({ open }) => {
    const queue = await open();
    await unsupported(queue.dequeueWithLease(LONG_MS));
    await unsupported(queue.dequeueMany(1, LONG_MS));
    await unsupported(queue.receive({ leaseMs: LONG_MS, waitMs: 0 }));
    await unsupported(queue.extendLease(UNKNOWN_ID, STRANGE_TOKEN, 1));
  },
};
