/** One signal for many calls, as the stop signal of a service is: at its eleventh listener Node would warn of a leak. */
import { getEventListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from '@jest/globals';
import { FsObjectStore, InMemQueue, MemoryStorage } from '../../../src/adapters/cloud-local/index.js';
import { consume, type ObjectStore, type Queue, type Storage } from '../../../src/contracts/index.js';
import { newRoot } from './object-store-kit.js';
import { LONG_MS } from './queue/support.js';

const CALLS = 30;

interface Ground {
  readonly queue: Queue;
  readonly storage: Storage;
  readonly store: ObjectStore;
  /** Resolves once the signal has been aborted. */
  readonly stopped: Promise<void>;
}

const CALLING: Record<string, (ground: Ground, signal: AbortSignal) => Promise<unknown>> = {
  receive: ({ queue }, signal) => queue.receive({ leaseMs: LONG_MS, waitMs: LONG_MS, signal }),
  consume: ({ queue }, signal) => consume(queue, async () => {}, { leaseMs: LONG_MS, concurrency: 1, signal }),
  watch: async ({ storage }, signal) => {
    for await (const _ of storage.watch({ namespace: 'n', path: [] }, { signal }));
  },
  getStream: async ({ store, stopped }, signal) => {
    const stream = await store.getStream(await store.putBytes(Buffer.from('a')), { signal });
    await stopped;
    return stream.getReader().read();
  },
  putStream: ({ store }, signal) => {
    const endless = async function* () {
      for (;;) {
        yield Buffer.from('a');
        await sleep(5);
      }
    };
    return store.putStream(endless(), { signal });
  },
};

test.each(Object.entries(CALLING))('%s leaves one listener, however many calls', async (name, call) => {
  const storage = new MemoryStorage();
  const [queue, store] = [await InMemQueue.open(storage), await FsObjectStore.open(newRoot(), { durability: 'none' })];
  const aborter = new AbortController();
  const { signal } = aborter;
  let stop = () => {};
  const stopped = new Promise<void>((resolve) => {
    stop = resolve;
  });
  const calls = Array.from({ length: CALLS }, () => call({ queue, storage, store, stopped }, signal));
  const settled = Promise.allSettled(calls);
  await sleep(50);
  expect(getEventListeners(signal, 'abort')).toHaveLength(1);
  aborter.abort(new Error('stopped'));
  stop();
  for (const outcome of await settled) {
    if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ message: 'stopped' });
    else expect(['consume', 'watch']).toContain(name);
  }
  expect(getEventListeners(signal, 'abort')).toEqual([]);
  await queue.close();
  await storage.close();
});
