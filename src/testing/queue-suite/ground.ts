/** What every queue does, whatever its features. */
import assert from 'node:assert/strict';
import { aborted, bytes, type Cases, refused, STRANGE_TOKEN, send, take, text, UNKNOWN_ID } from './helpers.js';

export const ground: Cases = {
  'hands items over first in, first out': async ({ open }) => {
    const queue = await open();
    const ids = [await send(queue, 'a'), await send(queue, 'b'), await send(queue, 'c')];
    const items = [await take(queue), await take(queue), await take(queue)];
    assert.deepEqual(items.map(text), ['a', 'b', 'c']);
    assert.deepEqual(
      items.map(({ id }) => id),
      ids,
    );
  },

  'keeps the order of overlapping enqueues, which is the order of their ids': async ({ open }) => {
    const queue = await open();
    const names = Array.from({ length: 200 }, (_, i) => String(i));
    const ids = await Promise.all(names.map((name) => send(queue, name)));
    assert.deepEqual([...ids].sort(), ids);
    assert.equal(new Set(ids).size, ids.length);
    for (const name of names) assert.equal(text(await take(queue)), name);
  },

  'appends several items in their order': async ({ open }) => {
    const queue = await open();
    const ids = await queue.enqueueMany(['a', 'b', 'c'].map(bytes));
    assert.deepEqual([...ids].sort(), ids);
    assert.deepEqual([text(await take(queue)), text(await take(queue)), text(await take(queue))], ['a', 'b', 'c']);
    assert.deepEqual(await queue.enqueueMany([]), []);
  },

  'keeps payloads byte for byte: empty ones, every byte value': async ({ open }) => {
    const queue = await open();
    const all = Uint8Array.from({ length: 256 }, (_, i) => i);
    await queue.enqueueMany([new Uint8Array(), all]);
    await queue.enqueue(new Uint8Array());
    await queue.enqueueMany([new Uint8Array(), new Uint8Array()]);
    assert.deepEqual(new Uint8Array((await take(queue)).payload), new Uint8Array());
    assert.deepEqual(new Uint8Array((await take(queue)).payload), all);
    for (let i = 0; i < 3; i++) assert.deepEqual(new Uint8Array((await take(queue)).payload), new Uint8Array());
  },

  'copies the payload in before enqueue returns, and hands out a copy': async ({ open }) => {
    const queue = await open();
    const buffer = bytes('mine');
    const sent = queue.enqueue(buffer);
    buffer.fill(0);
    await sent;
    const first = await take(queue);
    assert.equal(text(first), 'mine');
    first.payload.fill(0);
    await queue.nack(first.id, first.token);
    assert.equal(text(await take(queue)), 'mine');
  },

  'answers null when nothing is pending': async ({ open }) => {
    const queue = await open();
    assert.equal(await queue.dequeue(), null);
    await send(queue, 'a');
    await take(queue);
    assert.equal(await queue.dequeue(), null);
  },

  'an item taken without a lease has no token and stays in flight until it is acked': async ({ open }) => {
    const queue = await open();
    await send(queue, 'a');
    const item = await take(queue);
    assert.equal(item.token, null);
    assert.equal(item.leaseMs, null);
    assert.equal((await queue.stats()).inFlight, 1);
    await queue.ack(item.id);
    assert.equal((await queue.stats()).inFlight, 0);
  },

  'ack removes the item, and repeating it is safe': async ({ open }) => {
    const queue = await open();
    await send(queue, 'a');
    const { id } = await take(queue);
    await Promise.all([queue.ack(id), queue.ack(id)]);
    await queue.ack(id);
    assert.equal(await queue.dequeue(), null);
    assert.equal((await queue.stats()).ackedTotal, 1);
  },

  'ack of an id that the queue does not hold resolves; nack refuses it': async ({ open }) => {
    const queue = await open();
    await queue.ack(UNKNOWN_ID);
    await queue.ack(UNKNOWN_ID, STRANGE_TOKEN);
    await refused(queue.nack(UNKNOWN_ID), 'ITEM_UNKNOWN', 'Internal');
  },

  'nack puts the item first in line, and its attempts count up': async ({ open }) => {
    const queue = await open();
    await send(queue, 'a');
    await send(queue, 'b');
    for (const attempt of [1, 2, 3]) {
      const item = await take(queue);
      assert.equal(text(item), 'a');
      assert.equal(item.attempts, attempt);
      await queue.nack(item.id);
    }
  },

  'several items given back: the last one given back is the first': async ({ open }) => {
    const queue = await open();
    await queue.enqueueMany(['a', 'b', 'c'].map(bytes));
    const [a, b] = [await take(queue), await take(queue)];
    await queue.nack(a.id);
    await queue.nack(b.id);
    assert.deepEqual([text(await take(queue)), text(await take(queue)), text(await take(queue))], ['b', 'a', 'c']);
  },

  'ack and nack of a pending item are refused, and it stays': async ({ open }) => {
    const queue = await open();
    const id = await send(queue, 'a');
    await refused(queue.ack(id), 'ITEM_NOT_LEASED', 'Internal');
    await refused(queue.nack(id), 'ITEM_NOT_LEASED', 'Internal');
    assert.equal(text(await take(queue)), 'a');
  },

  'many consumers at once get each item once': async ({ open }) => {
    const queue = await open();
    const sent = await queue.enqueueMany(Array.from({ length: 100 }, (_, i) => bytes(String(i))));
    const seen: string[] = [];
    const work = async () => {
      for (let item = await queue.dequeue(); item !== null; item = await queue.dequeue()) {
        seen.push(item.id);
        await queue.ack(item.id);
      }
    };
    await Promise.all([work(), work(), work(), work()]);
    assert.deepEqual(seen.sort(), [...sent].sort());
  },

  'refuses a payload over its bound, and says so': async ({ open }) => {
    const queue = await open();
    const { payloadBytesMax } = await queue.stats();
    assert.ok(payloadBytesMax >= 1);
    // What no test machine could hold is not tried.
    if (payloadBytesMax > 256 * 2 ** 20) return;
    await refused(queue.enqueue(new Uint8Array(payloadBytesMax + 1)), 'PAYLOAD_TOO_LARGE', 'SchemaViolation');
    assert.equal((await queue.stats()).pending, 0);
  },

  'purge deletes what is pending, and leaves what is in flight': async ({ open }) => {
    const queue = await open();
    await queue.enqueueMany(['a', 'b', 'c'].map(bytes));
    const a = await take(queue);
    assert.equal(await queue.purge('pending'), 2);
    assert.equal(await queue.dequeue(), null);
    await queue.nack(a.id);
    assert.equal(text(await take(queue)), 'a');
    assert.equal(await queue.purge('pending'), 0);
  },

  'stats tell the truth': async ({ open }) => {
    const queue = await open();
    assert.equal((await queue.stats()).oldestPendingAgeMs, null);
    await queue.enqueueMany(['1234', '12', '1'].map(bytes));
    const [first, second] = [await take(queue), await take(queue)];
    await queue.ack(first.id);
    await queue.nack(second.id);
    await take(queue);
    const stats = await queue.stats();
    const { pending, delayed, inFlight, deadLetters, enqueuedTotal, ackedTotal, nackedTotal, expiredTotal } = stats;
    assert.deepEqual(
      { pending, delayed, inFlight, deadLetters },
      { pending: 1, delayed: 0, inFlight: 1, deadLetters: 0 },
    );
    assert.deepEqual(
      { enqueuedTotal, ackedTotal, nackedTotal, expiredTotal },
      { enqueuedTotal: 3, ackedTotal: 1, nackedTotal: 1, expiredTotal: 0 },
    );
    const { oldestPendingAgeMs, durability, bytesInStorage, bytesInMemory } = stats;
    assert.ok(oldestPendingAgeMs !== null && oldestPendingAgeMs >= 0);
    assert.ok(['full', 'normal', 'off'].includes(durability));
    assert.ok(bytesInStorage >= 3 || bytesInMemory >= 3);
  },

  'refuses arguments that the contract does not allow': async ({ open }) => {
    const queue = await open();
    await refused(queue.enqueue('text' as never), 'ARGUMENT_INVALID', 'SchemaViolation');
    await refused(queue.enqueueMany([bytes('a'), 1] as never), 'ARGUMENT_INVALID', 'SchemaViolation');
    await refused(queue.ack('no-ulid' as never), 'ARGUMENT_INVALID', 'SchemaViolation');
    await refused(queue.purge('all' as never), 'ARGUMENT_INVALID', 'SchemaViolation');
    assert.equal((await queue.stats()).pending, 0);
  },

  'an aborted signal stops an enqueue before it begins': async ({ open }) => {
    const queue = await open();
    const reason = new Error('changed my mind');
    await aborted(queue.enqueue(bytes('a'), { signal: AbortSignal.abort(reason) }), reason);
    assert.equal((await queue.stats()).pending, 0);
  },

  'close waits for calls under way; later calls are refused; closing twice is closing once': async ({ open }) => {
    const queue = await open();
    const sent = send(queue, 'a');
    await queue.close();
    await sent;
    await queue.close();
    await refused(send(queue, 'b'), 'CLOSED', 'Internal');
    await refused(queue.dequeue(), 'CLOSED', 'Internal');
    await refused(queue.stats(), 'CLOSED', 'Internal');
  },
};
