/** What the cases of the queue's suite share. */
import assert from 'node:assert/strict';
import { isCoreError } from '../../contracts/errors.js';
import { LeaseToken, QueueItemId } from '../../contracts/ids.js';
import type { Queue, QueueItem } from '../../contracts/queue.js';
import type { Suite } from '../conformance.js';

export type Cases = ReturnType<Suite<Queue>>;

/** A lease or wait that no test outlasts, and one that is waited for. */
export const LONG_MS = 60_000;
export const SHORT_MS = 30;
/** A delay that is waited for, and not over before a slow machine has looked. */
export const HELD_MS = 500;

export const UNKNOWN_ID = QueueItemId.parse('01HZZZZZZZ0000000000000000');
export const STRANGE_TOKEN = LeaseToken.parse('not-a-token-of-this-queue');

export async function listed(queue: Queue): Promise<QueueItem[]> {
  const letters: QueueItem[] = [];
  for await (const letter of queue.deadLetters()) letters.push(letter);
  return letters;
}

export function bytes(name: string): Uint8Array {
  return new Uint8Array(Buffer.from(name));
}

export function text({ payload }: QueueItem): string {
  return Buffer.from(payload).toString();
}

export function send(queue: Queue, name: string): Promise<QueueItemId> {
  return queue.enqueue(bytes(name));
}

export async function take(queue: Queue): Promise<QueueItem> {
  const item = await queue.dequeue();
  assert.ok(item !== null, 'an item was expected to be pending');
  return item;
}

export async function takeLeased(queue: Queue, leaseMs: number): Promise<QueueItem> {
  const item = await queue.dequeueWithLease(leaseMs);
  assert.ok(item !== null, 'an item was expected to be pending');
  return item;
}

export async function refused(call: Promise<unknown>, code: string, kind: string): Promise<void> {
  await assert.rejects(call, (error: unknown) => {
    assert.ok(isCoreError(error), `expected an error of the contracts' family, found ${String(error)}`);
    assert.deepEqual([error.code, error.kind], [code, kind]);
    if (code === 'LEASE_LOST') assert.deepEqual('retry' in error && error.retry, { kind: 'never' });
    return true;
  });
}

/** The very reason: `assert.rejects(call, reason)` compares by likeness, and fails between realms. */
export async function aborted(call: Promise<unknown>, reason: Error): Promise<void> {
  await assert.rejects(call, (error: unknown) => error === reason);
}

export async function unsupported(call: Promise<unknown>): Promise<void> {
  await refused(call, 'FEATURE_UNSUPPORTED', 'ConfigInvalid');
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Waits for a condition, asked every few ms, for at most 10 s. */
export async function until(condition: () => Promise<boolean>): Promise<void> {
  const limitMs = performance.now() + 10_000;
  while (!(await condition())) {
    assert.ok(performance.now() < limitMs, 'waited for 10 s in vain');
    await pause(5);
  }
}
