/** What the queue's tests share: text payloads, and storages whose commits can be failed or held. */

import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { InMemQueue } from '../../../../src/adapters/cloud-local/in-mem-queue.js';
import type { QueueItem, Storage } from '../../../../src/contracts/index.js';
import { isCoreError } from '../../../../src/contracts/index.js';

export const LONG_MS = 60_000;

export function bytes(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text));
}

export function text(item: QueueItem | null | undefined): string | null {
  return item ? Buffer.from(item.payload).toString() : null;
}

/** The texts of everything pending, in order; the items stay in flight. */
export async function takeAll(queue: InMemQueue): Promise<(string | null)[]> {
  const texts: (string | null)[] = [];
  for (let item = await queue.dequeue(); item !== null; item = await queue.dequeue()) texts.push(text(item));
  return texts;
}

export async function codeOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
    return 'resolved';
  } catch (error) {
    return isCoreError(error) ? error.code : `not of the family: ${String(error)}`;
  }
}

/** What is in use of the heap, and of memory outside of it, after what is unused has been collected. */
export function heapBytes(): number {
  setFlagsFromString('--expose-gc');
  const collect: () => void = runInNewContext('gc');
  collect();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

/** What stored keys there are under a namespace: the first segment of each. */
export async function storedIds(storage: Storage, namespace: string): Promise<string[]> {
  const ids: string[] = [];
  for await (const { key } of storage.scan({ prefix: { namespace, path: [] } })) ids.push(key.path.join('/'));
  return ids;
}

export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  for (const limitMs = performance.now() + 10_000; !(await condition()); await turn(2)) {
    if (performance.now() > limitMs) throw new Error('waited for 10 s in vain');
  }
}

export function turn(ms = 0): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

type Commit = () => Promise<boolean>;

/** A storage whose commits go through `hook`, which may reject instead of committing, or commit later. */
export function hooked(storage: Storage): { storage: Storage; hook: (commit: Commit) => Promise<boolean> } {
  const hooks = { storage, hook: (commit: Commit) => commit() };
  hooks.storage = new Proxy(storage, {
    get(target, property) {
      if (property === 'begin') {
        return () => {
          const txn = target.begin();
          return { ...txn, commit: (options?: object) => hooks.hook(() => txn.commit(options)) };
        };
      }
      const value: unknown = Reflect.get(target, property, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  return hooks;
}
