/** The suite itself: it passes a queue without features, and each of these broken queues fails it. */
import { afterEach, describe, expect, test } from '@jest/globals';
import { IN_MEM_QUEUE_FEATURES, InMemQueue } from '../../src/adapters/cloud-local/in-mem-queue.js';
import { MemoryStorage } from '../../src/adapters/cloud-local/memory-storage.js';
import { checked, Queue, type QueueItem } from '../../src/contracts/index.js';
import { conformance } from '../../src/testing/conformance.js';
import '../../src/testing/queue-suite.js';

type Fault = (inner: InMemQueue) => Partial<Queue>;

let storages: MemoryStorage[] = [];

afterEach(async () => {
  for (const storage of storages) await storage.close();
  storages = [];
});

/** What a queue that forgets does to its storage before it is opened again. */
type Forget = (storage: MemoryStorage) => Promise<void>;

/** A queue with some calls replaced, declaring `features`. */
function target(features: readonly string[], fault: Fault = () => ({}), forget: Forget = async () => {}) {
  const openOn = async (storage: MemoryStorage): Promise<Queue> => {
    const inner = await InMemQueue.open(storage, { maxAttempts: 3 });
    const calls = fault(inner);
    const broken = new Proxy({} as Queue, {
      get: (_, name) => {
        // Symbols are the door's: it is to take this for a bare implementation, and check it anew.
        if (typeof name === 'symbol') return undefined;
        return Reflect.get(calls, name) ?? Reflect.get(inner, name);
      },
    });
    return checked(Queue, broken, { adapter: 'test.broken', features });
  };
  return {
    async open() {
      storages.push(await MemoryStorage.open());
      return openOn(storages.at(-1) as MemoryStorage);
    },
    async reopen() {
      const storage = storages.at(-1) as MemoryStorage;
      await forget(storage);
      return openOn(storage);
    },
  };
}

describe('a queue without features conforms', () => {
  for (const c of conformance(Queue, { features: [] })) test(c.name, () => c.run(target([])));
});

const FAULTS: Record<string, Fault> = {
  'dequeues last in, first out': (inner) => ({
    dequeue: async () => {
      const items: QueueItem[] = [];
      for (let item = await inner.dequeue(); item !== null; item = await inner.dequeue()) items.push(item);
      for (const item of items.slice(0, -1).reverse()) await inner.nack(item.id);
      return items.at(-1) ?? null;
    },
  }),
  'acks without deleting': () => ({ ack: async () => {} }),
  'keeps the caller’s payload for itself': (inner) => {
    let last: Uint8Array | undefined;
    return {
      dequeue: async () => {
        const item = await inner.dequeue();
        last ??= item?.payload;
        return item && { ...item, payload: item.attempts > 1 && last ? last : item.payload };
      },
    };
  },
  'counts no attempts': (inner) => ({
    dequeue: async () => {
      const item = await inner.dequeue();
      return item && { ...item, attempts: 1 };
    },
  }),
  'acks whatever the token': (inner) => ({ ack: (id, token) => inner.ack(id, token).catch(() => {}) }),
  'nacks unknown items': (inner) => ({ nack: (id, token) => inner.nack(id, token).catch(() => {}) }),
  'extends any lease': (inner) => ({ extendLease: (...args) => inner.extendLease(...args).catch(() => {}) }),
  'hands out one token for all': (inner) => ({
    dequeueMany: async (max, leaseMs) => {
      const items = await inner.dequeueMany(max, leaseMs);
      return items.map((item) => ({ ...item, token: items[0]?.token ?? null }));
    },
  }),
  'does not wait in receive': (inner) => ({ receive: (options) => inner.receive({ ...options, waitMs: 0 }) }),
  'ignores the signal of receive': (inner) => ({
    receive: ({ signal: _, ...options }) => inner.receive({ ...options, waitMs: Math.min(options.waitMs, 200) }),
  }),
  'purges nothing': () => ({ purge: async () => 0 }),
  'takes payloads of any size': (inner) => ({
    stats: async () => ({ ...(await inner.stats()), payloadBytesMax: 10 }),
  }),
  'ignores delays': (inner) => ({ enqueue: (payload) => inner.enqueue(payload) }),
  'ignores keys': (inner) => ({ enqueue: (payload, { delayMs } = {}) => inner.enqueue(payload, { delayMs }) }),
  'lists no dead letters': () => ({ deadLetters: async function* () {} }),
  'requeues nothing': () => ({ requeue: async () => {} }),
};

describe('a broken queue fails', () => {
  test.each(Object.entries(FAULTS))('one that %s', async (_, fault) => {
    const failed: string[] = [];
    for (const c of conformance(Queue, { features: IN_MEM_QUEUE_FEATURES })) {
      await c.run(target(IN_MEM_QUEUE_FEATURES, fault)).catch(() => failed.push(c.name));
      if (failed.length > 0) break;
    }
    expect(failed).toHaveLength(1);
  });
});

/** Puts what `change` makes of each row of a namespace in its place; `null` deletes it. */
function rewriting(namespace: string, change: (record: Record<string, unknown>) => object | null): Forget {
  return async (storage) => {
    const txn = storage.begin();
    for await (const { key, value } of storage.scan({ prefix: { namespace, path: [] } })) {
      const changed = change(namespace.endsWith('_meta') ? JSON.parse(Buffer.from(value).toString()) : {});
      if (changed === null) txn.delete(key);
      else txn.put(key, Buffer.from(JSON.stringify(changed)));
    }
    await txn.commit();
  };
}

const without = (field: string) => rewriting('cloudlocal_queue_meta', (record) => ({ ...record, [field]: undefined }));

const FORGETS: Record<string, readonly [Forget, string]> = {
  attempts: [
    without('attempts'),
    'attempts go on counting after a close and a reopen, of what was given back and of what was held',
  ],
  delays: [without('notBeforeMs'), 'a reopen cuts no delay short, neither an enqueue’s nor a nack’s'],
  keys: [without('key'), 'a key stands for its item after a reopen, too'],
  'dead letters': [
    rewriting('cloudlocal_queue_dead', () => null),
    'a dead letter is one after a reopen, too, and can be requeued',
  ],
};

describe('a queue that forgets over a reopen fails', () => {
  test.each(Object.entries(FORGETS))('one that forgets %s', async (_, [forget, name]) => {
    const failed: string[] = [];
    const cases = conformance(Queue, { features: IN_MEM_QUEUE_FEATURES });
    for (const c of cases.filter((each) => each.name.includes('reopen'))) {
      await c.run(target(IN_MEM_QUEUE_FEATURES, undefined, forget)).catch(() => failed.push(c.name));
    }
    expect(failed).toContain(name);
  });
});
