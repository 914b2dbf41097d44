import { describe, expect, test } from '@jest/globals';
import { deliveries } from '../../src/contracts/index.js';
import { openQueueForEach, queue, send, stop, text, turn, until, withCalls } from './consume-support.js';

openQueueForEach();

describe('deliveries', () => {
  test('yields items one by one, until the signal aborts', async () => {
    await send('a', 'b');
    const seen: string[] = [];
    for await (const delivery of deliveries(queue, { signal: stop.signal })) {
      seen.push(text(delivery.item));
      await delivery.ack();
      if (seen.length === 2) stop.abort();
    }
    expect(seen).toEqual(['a', 'b']);
    expect(await queue.stats()).toMatchObject({ ackedTotal: 2, pending: 0 });
  });

  test('an abort ends a loop that waits for an item, and one that waits for a delivery to be settled', async () => {
    const waiting = deliveries(queue, { signal: stop.signal }).next();
    await turn();
    stop.abort();
    expect(await waiting).toEqual({ done: true, value: undefined });

    await send('a', 'b');
    const other = new AbortController();
    const loop = deliveries(queue, { signal: other.signal });
    await loop.next();
    const next = loop.next();
    await turn(5);
    other.abort();
    expect(await next).toEqual({ done: true, value: undefined });
    expect((await queue.stats()).pending).toBe(2);
  });

  test('breaking out of the loop gives back what is unhandled, and aborts it', async () => {
    await send('a', 'b', 'c');
    const signals: AbortSignal[] = [];
    for await (const delivery of deliveries(queue, { concurrency: 2 })) {
      signals.push(delivery.signal);
      expect((await queue.stats()).inFlight).toBe(2);
      break;
    }
    expect(signals[0]?.aborted).toBe(true);
    expect(await queue.stats()).toMatchObject({ inFlight: 0, pending: 3 });
    expect((await queue.dequeueMany(3, 60_000)).map(text)).toEqual(['a', 'b', 'c']);
  });

  test('holds no more than `concurrency`, and goes on when one is settled', async () => {
    await send('a', 'b', 'c');
    const loop = deliveries(queue, { concurrency: 2 });
    const first = await loop.next();
    const second = await loop.next();
    if (first.done || second.done) throw new Error('ended early');
    let third: string | null = null;
    const asking = loop.next().then(({ value }) => {
      if (value) third = text(value.item);
    });
    await turn(5);
    expect([third, (await queue.stats()).pending]).toEqual([null, 1]);
    await second.value.nack();
    await asking;
    expect(third).toBe('b');
    await first.value.ack();
    await first.value.ack();
    await loop.return();
    expect(await queue.stats()).toMatchObject({ ackedTotal: 1, inFlight: 0, pending: 2 });
  });

  test('a delivery never acked keeps its lease for as long as the loop lives', async () => {
    await send('a');
    const loop = deliveries(queue, { leaseMs: 400 });
    const { value } = await loop.next();
    await turn(700);
    expect((await queue.stats()).expiredTotal).toBe(0);
    await value?.ack();
    await loop.return();
  });

  test('a delivery whose lease was lost says so when it is acked, and frees its place', async () => {
    await send('a', 'b');
    const losing = withCalls({
      extendLease: async (id, token) => {
        await queue.extendLease(id, token, 1);
        await turn(10);
      },
    });
    const loop = deliveries(losing, { leaseMs: 300 });
    const { value } = await loop.next();
    await until(() => value?.signal.aborted === true);
    await expect(value?.ack()).rejects.toMatchObject({ code: 'LEASE_LOST' });
    const next = await loop.next();
    expect(next.value?.item.attempts).toBe(2);
    await loop.return();
  });

  test('an item whose lease was lost before the loop came to it is left out', async () => {
    await send('a', 'b');
    let renewals = 0;
    const losing = withCalls({
      extendLease: async (id, token, byMs) => {
        renewals += 1;
        const isFirst = id === firstId;
        await queue.extendLease(id, token, isFirst ? byMs : 1);
        if (!isFirst) await turn(10);
      },
    });
    const loop = deliveries(losing, { leaseMs: 300, concurrency: 2 });
    const first = await loop.next();
    const firstId = first.value?.item.id;
    await until(async () => renewals > 0 && (await queue.stats()).pending === 1);
    await until(async () => (await queue.stats()).inFlight === 1 && renewals > 3);
    const second = await loop.next();
    expect([second.value && text(second.value.item), second.value?.item.attempts]).toEqual(['b', 2]);
    await loop.return();
  });
});
