/** Features `replay`, `delay`, `key` and `dead-letters`, and how an adapter without them refuses. */
import assert from 'node:assert/strict';
import type { LeaseToken, QueueItemId } from '../../contracts/ids.js';
import type { Queue, QueueItem } from '../../contracts/queue.js';
import {
  bytes,
  type Cases,
  HELD_MS,
  LONG_MS,
  listed,
  refused,
  SHORT_MS,
  STRANGE_TOKEN,
  send,
  take,
  text,
  UNKNOWN_ID,
  unsupported,
  until,
} from './helpers.js';

export const replay: Cases = {
  'what was not acked is pending again after a reopen, in the order of the ids': async ({ open, reopen }) => {
    const queue = await open();
    await queue.enqueueMany(['a', 'b', 'c', 'd'].map(bytes));
    const [a, b, c] = [await take(queue), await take(queue), await take(queue)];
    await queue.ack(b.id);
    await queue.nack(a.id);
    await queue.nack(c.id);
    await queue.close();
    const again = await reopen();
    assert.equal((await again.stats()).pending, 3);
    assert.deepEqual([text(await take(again)), text(await take(again)), text(await take(again))], ['a', 'c', 'd']);
    assert.equal(await again.dequeue(), null);
  },

  'ids go on rising after a reopen': async ({ open, reopen }) => {
    const queue = await open();
    const before = await queue.enqueueMany(['a', 'b'].map(bytes));
    await queue.close();
    const after = await send(await reopen(), 'c');
    assert.ok(before.every((id) => id < after));
  },

  'ids go on rising after reopens of an emptied queue, though the clock is set back': async ({ open, reopen }) => {
    const ids: QueueItemId[] = [];
    const now = Date.now;
    try {
      for (const hoursBack of [0, 1, 2]) {
        // What runs in this process takes the time from here, unless it was given a clock of its own.
        Date.now = () => now() - hoursBack * 3_600_000;
        const queue = await (hoursBack === 0 ? open() : reopen());
        ids.push(await send(queue, 'a'), await send(queue, 'b'));
        const a = await take(queue);
        await queue.ack(a.id, a.token);
        assert.equal(await queue.purge('pending'), 1);
        await queue.close();
      }
    } finally {
      Date.now = now;
    }
    assert.deepEqual(ids.toSorted(), ids);
  },

  'tokens of an earlier opening are stale': async ({ open, reopen }) => {
    const queue = await open();
    await queue.enqueue(bytes('a'));
    const [old] = (await queue.receive({ leaseMs: LONG_MS, waitMs: 0 }).catch(() => [])) as QueueItem[];
    await queue.close();
    const again = await reopen();
    if (old?.token) await refused(again.ack(old.id, old.token), 'LEASE_LOST', 'Transient');
    assert.equal((await again.stats()).pending, 1);
  },
};

export const replayedAttempts: Cases = {
  'attempts go on counting after a close and a reopen, of what was given back and of what was held': async ({
    open,
    reopen,
  }) => {
    const queue = await open();
    await queue.enqueueMany(['held', 'once', 'twice', 'never'].map(bytes));
    const held = await take(queue);
    await queue.nack((await take(queue)).id);
    const once = await take(queue);
    const twice = await take(queue);
    await queue.nack(twice.id);
    await queue.nack((await take(queue)).id);
    await queue.nack(once.id);
    assert.deepEqual([held.attempts, once.attempts, twice.attempts], [1, 2, 1]);
    await queue.close();
    const again = await reopen();
    const items: QueueItem[] = [];
    for (let item = await again.dequeue(); item !== null; item = await again.dequeue()) items.push(item);
    assert.deepEqual(
      items.map((item) => [text(item), item.attempts]),
      [
        ['held', 2],
        ['once', 3],
        ['twice', 3],
        ['never', 1],
      ],
    );
  },
};

export const replayedDelay: Cases = {
  'a reopen cuts no delay short, neither an enqueue’s nor a nack’s': async ({ open, reopen }) => {
    const queue = await open();
    await queue.enqueue(bytes('back'));
    await queue.nack((await take(queue)).id, null, { delayMs: LONG_MS });
    await queue.enqueue(bytes('late'), { delayMs: LONG_MS });
    await queue.close();
    const again = await reopen();
    assert.equal(await again.dequeue(), null);
    const { pending, delayed } = await again.stats();
    assert.deepEqual([pending, delayed], [0, 2]);
  },
};

export const replayedKey: Cases = {
  'a key stands for its item after a reopen, too': async ({ open, reopen }) => {
    const queue = await open();
    const id = await queue.enqueue(bytes('a'), { key: 'k' });
    await queue.close();
    const again = await reopen();
    assert.equal(await again.enqueue(bytes('a'), { key: 'k' }), id);
    await refused(again.enqueue(bytes('b'), { key: 'k' }), 'KEY_REUSED', 'SchemaViolation');
    assert.equal((await again.stats()).pending, 1);
  },
};

export const replayedDeadLetters: Cases = {
  'a dead letter is one after a reopen, too, and can be requeued': async ({ open, reopen }) => {
    const queue = await open();
    const id = await send(queue, 'poison');
    const attempts = await failUntilDead(queue, id);
    await queue.close();
    const again = await reopen();
    assert.equal(await again.dequeue(), null);
    const letters = await listed(again);
    assert.deepEqual(
      letters.map((letter) => [letter.id, text(letter), letter.attempts]),
      [[id, 'poison', attempts]],
    );
    await again.requeue(id);
    assert.equal(text(await take(again)), 'poison');
  },
};

export const delay: Cases = {
  'a delayed item is held back, then joins at the back': async ({ open }) => {
    const queue = await open();
    await queue.enqueue(bytes('late'), { delayMs: HELD_MS });
    await send(queue, 'now');
    assert.equal((await queue.stats()).delayed, 1);
    assert.equal(text(await take(queue)), 'now');
    await until(async () => (await queue.stats()).delayed === 0);
    await send(queue, 'later');
    assert.deepEqual([text(await take(queue)), text(await take(queue))], ['late', 'later']);
  },

  'an item given back with a delay is held back, then goes first': async ({ open }) => {
    const queue = await open();
    await queue.enqueueMany(['a', 'b'].map(bytes));
    const a = await take(queue);
    await queue.nack(a.id, a.token, { delayMs: HELD_MS });
    assert.equal((await queue.stats()).delayed, 1);
    await until(async () => (await queue.stats()).delayed === 0);
    assert.deepEqual([text(await take(queue)), text(await take(queue))], ['a', 'b']);
  },

  'purge deletes delayed items, too': async ({ open }) => {
    const queue = await open();
    await queue.enqueue(bytes('a'), { delayMs: LONG_MS });
    assert.equal(await queue.purge('pending'), 1);
    assert.equal((await queue.stats()).delayed, 0);
  },
};

export const withoutDelay: Cases = {
  'delays are refused by an adapter without them': async ({ open }) => {
    const queue = await open();
    await unsupported(queue.enqueue(bytes('a'), { delayMs: 1 }));
    await unsupported(queue.nack(UNKNOWN_ID, null, { delayMs: 1 }));
  },
};

export const key: Cases = {
  'the same key with the same bytes answers the first id': async ({ open }) => {
    const queue = await open();
    const overlapping = await Promise.all([1, 2, 3].map(() => queue.enqueue(bytes('a'), { key: 'k' })));
    const later = await queue.enqueue(bytes('a'), { key: 'k' });
    assert.equal(new Set([...overlapping, later]).size, 1);
    assert.equal((await queue.stats()).pending, 1);
    assert.notEqual(await queue.enqueue(bytes('a'), { key: 'other' }), later);
  },

  'the same key with other bytes is refused': async ({ open }) => {
    const queue = await open();
    await queue.enqueue(bytes('a'), { key: 'k' });
    await refused(queue.enqueue(bytes('b'), { key: 'k' }), 'KEY_REUSED', 'SchemaViolation');
    assert.equal((await queue.stats()).pending, 1);
  },
};

export const withoutKey: Cases = {
  'keys are refused by an adapter without them': async ({ open }) => {
    await unsupported((await open()).enqueue(bytes('a'), { key: 'k' }));
  },
};

export const deadLetters: Cases = {
  'an item that fails too often becomes a dead letter, and can be requeued or purged': async ({ open }) => {
    const queue = await open();
    const id = await send(queue, 'poison');
    await send(queue, 'good');
    const attempts = await failUntilDead(queue, id);
    const letters = await listed(queue);
    assert.deepEqual(
      letters.map((letter) => [letter.id, text(letter), letter.attempts, letter.token]),
      [[id, 'poison', attempts, null]],
    );
    assert.equal((await queue.stats()).deadLetters, 1);

    await queue.requeue(id);
    assert.equal((await queue.stats()).deadLetters, 0);
    await refused(queue.requeue(id), 'ITEM_UNKNOWN', 'Internal');
    const again = await take(queue);
    assert.deepEqual([again.id, again.attempts], [id, 1]);
    await queue.nack(id);

    await failUntilDead(queue, id);
    assert.equal(await queue.purge('dead'), 1);
    assert.deepEqual(await listed(queue), []);
  },

  'requeued items go first in line, the oldest of them first, in whatever order they are requeued': async ({
    open,
  }) => {
    const queue = await open();
    const ids = await queue.enqueueMany(['0', '1', '2', '3', '4', '5', '6', '7'].map(bytes));
    for (let failures = 0; failures < 20 && (await queue.stats()).deadLetters < 8; failures += 1) {
      const items: QueueItem[] = [];
      for (let item = await queue.dequeue(); item !== null; item = await queue.dequeue()) items.push(item);
      for (const item of items) await queue.nack(item.id);
    }
    await queue.enqueueMany(['given back', 'new'].map(bytes));
    await queue.nack((await take(queue)).id);
    const requeue = async (n: number) => queue.requeue(ids[n] as QueueItemId);
    for (const n of [3, 5, 1, 4, 2]) await requeue(n);
    assert.deepEqual([text(await take(queue)), text(await take(queue))], ['1', '2']);
    for (const n of [6, 0]) await requeue(n);
    const line: string[] = [];
    for (let item = await queue.dequeue(); item !== null; item = await queue.dequeue()) line.push(text(item));
    assert.deepEqual(line, ['0', '3', '4', '5', '6', 'given back', 'new']);
  },

  'a dead letter is held by nobody: ack and nack of it are refused, and it stays': async ({ open }) => {
    const queue = await open();
    const id = await send(queue, 'poison');
    await failUntilDead(queue, id);
    for (const settle of [queue.ack, queue.nack]) {
      await refused(settle(id), 'ITEM_NOT_LEASED', 'Internal');
      await refused(settle(id, STRANGE_TOKEN), 'LEASE_LOST', 'Transient');
    }
    await queue.requeue(id);
    assert.equal(text(await take(queue)), 'poison');
  },
};

export const leasedDeadLetters: Cases = {
  'several are taken at once, though some have no attempts left': async ({ open }) => {
    const queue = await open();
    const id = await send(queue, 'poison');
    const attempts = await failUntilDead(queue, id);
    await queue.requeue(id);
    for (let n = 0; n < attempts; n += 1) await queue.nack((await take(queue)).id);
    await queue.enqueueMany(['a', 'b', 'c', 'd'].map(bytes));
    assert.deepEqual((await queue.dequeueMany(3, LONG_MS)).map(text), ['a', 'b', 'c']);
    assert.equal((await queue.stats()).deadLetters, 1);
  },

  'a token is stale once its item is a dead letter, and after that was requeued': async ({ open }) => {
    const queue = await open();
    const id = await send(queue, 'slow');
    const tokens: LeaseToken[] = [];
    for (let item = await queue.dequeueWithLease(SHORT_MS); item !== null; ) {
      assert.ok(item.token !== null && tokens.push(item.token) <= 10, 'open it with at most 10 attempts per item');
      await until(async () => (await queue.stats()).pending === 1);
      item = await queue.dequeueWithLease(SHORT_MS);
    }
    const stale = async () => {
      for (const token of tokens) await refused(queue.ack(id, token), 'LEASE_LOST', 'Transient');
      for (const token of tokens) await refused(queue.nack(id, token), 'LEASE_LOST', 'Transient');
    };
    assert.equal((await queue.stats()).deadLetters, 1);
    await stale();
    await queue.requeue(id);
    await stale();
    assert.equal(text(await take(queue)), 'slow');
  },
};

export const withoutDeadLetters: Cases = {
  'dead letters are refused by an adapter without them': async ({ open }) => {
    const queue = await open();
    await unsupported(listed(queue));
    await unsupported(queue.requeue(UNKNOWN_ID));
    await unsupported(queue.purge('dead'));
  },
};

/** Takes and gives back the item until another one (or none) comes first; resolves to how often it was handed over. */
async function failUntilDead(queue: Queue, id: QueueItemId): Promise<number> {
  for (let attempts = 0; attempts <= 10; attempts += 1) {
    const item = await queue.dequeue();
    if (item !== null) await queue.nack(item.id);
    if (item?.id !== id) return attempts;
  }
  assert.fail('open the adapter with at most 10 attempts per item');
}
