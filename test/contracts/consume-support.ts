/** What the tests of `consume`, `drain` and `deliveries` share: a queue in memory, and ways to make its calls fail. */
import { afterEach, beforeEach } from '@jest/globals';
import { InMemQueue } from '../../src/adapters/cloud-local/in-mem-queue.js';
import { MemoryStorage } from '../../src/adapters/cloud-local/memory-storage.js';
import { type Queue, type QueueItem, RecoverableError, type Storage } from '../../src/contracts/index.js';

let storage: Storage;
export let queue: InMemQueue;
export let stop: AbortController;

/** Opens a queue before each test of the file, and closes it after. */
export function openQueueForEach(): void {
  beforeEach(async () => {
    storage = await MemoryStorage.open();
    queue = await InMemQueue.open(storage);
    stop = new AbortController();
  });
  afterEach(async () => {
    await queue.close();
    await storage.close();
  });
}

export const busy = () => new RecoverableError('Transient', 'the storage is busy', { code: 'IO_ERROR' });

export function send(...texts: string[]): Promise<unknown> {
  return queue.enqueueMany(texts.map((text) => Buffer.from(text)));
}

export function text({ payload }: QueueItem): string {
  return Buffer.from(payload).toString();
}

export function turn(ms = 0): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  for (const limitMs = performance.now() + 10_000; !(await condition()); await turn(2)) {
    if (performance.now() > limitMs) throw new Error('waited for 10 s in vain');
  }
}

/** Ends only by its signal, as a handler that hangs. */
export function hang(_item: QueueItem, signal: AbortSignal): Promise<void> {
  return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
}

/** The queue with some calls replaced. */
export function withCalls(calls: Partial<Queue>): Queue {
  return new Proxy<Queue>(queue, {
    get(target, property) {
      const value: unknown = Reflect.get(calls, property) ?? Reflect.get(target, property);
      return value;
    },
  });
}
