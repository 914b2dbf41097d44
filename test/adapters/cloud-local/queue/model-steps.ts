/** The steps that the model tests of both queues have in common: what may be asked, and what is held against the model. */
import { expect } from '@jest/globals';
import fc from 'fast-check';
import { LeaseToken, type Queue, type QueueItem, type QueueItemId } from '../../../../src/contracts/index.js';
import { bytes, codeOf, LONG_MS, text, until } from './support.js';

export const MAX_ATTEMPTS = 3;

export interface ModelItem {
  readonly id: QueueItemId;
  readonly text: string;
  attempts: number;
}

export interface Taken<T extends ModelItem> {
  readonly item: T;
  readonly handedOver: QueueItem;
}

export const byId = (one: ModelItem, other: ModelItem) => (one.id < other.id ? -1 : 1);

const pick = fc.nat(1_000);
const count = fc.integer({ min: 1, max: 5 });
const max = fc.integer({ min: 1, max: 4 });

/** What may be asked of any queue; which of its openings is asked is for those to know that have several. */
export const OPERATION = {
  enqueue: fc.record({ kind: fc.constant('enqueue' as const), count }),
  enqueueMany: fc.record({ kind: fc.constant('enqueueMany' as const), count }),
  take: fc.record({ kind: fc.constant('take' as const), max, lease: fc.boolean() }),
  settle: fc.record({ kind: fc.constantFrom('ack' as const, 'nack' as const), pick }),
  lose: fc.record({ kind: fc.constantFrom('expire' as const, 'stale' as const), pick }),
  requeue: fc.record({ kind: fc.constant('requeue' as const), pick }),
};
export type Settling = 'ack' | 'nack' | 'expire' | 'stale';

/** Enqueues items, in one call or in one each, and tells of each. */
export async function enqueue(
  queue: Queue,
  { kind, count }: { kind: 'enqueue' | 'enqueueMany'; count: number },
  add: (id: QueueItemId, text: string) => void,
): Promise<void> {
  const texts = Array.from({ length: count }, () => String(fresh++));
  const payloads = texts.map(bytes);
  const ids =
    kind === 'enqueueMany'
      ? await queue.enqueueMany(payloads)
      : await Promise.all(payloads.map((payload) => queue.enqueue(payload)));
  for (const [i, id] of ids.entries()) add(id, texts[i] ?? '');
}
let fresh = 0;

/** What a model hands over next; those without attempts left die first. */
export function takeOf<T extends ModelItem>(max: number, { pending, dead }: { pending: T[]; dead: T[] }): T[] {
  const alive: T[] = [];
  while (alive.length < max) {
    const item = pending.shift();
    if (item === undefined) break;
    if (item.attempts >= MAX_ATTEMPTS) dead.push(item);
    else alive.push(item);
  }
  return alive;
}

/** Takes what the model expects to be handed over. */
export async function take<T extends ModelItem>(
  queue: Queue,
  { max, lease }: { max: number; lease: boolean },
  expecting: (max: number) => T[],
): Promise<Taken<T>[]> {
  const one = lease ? null : await queue.dequeue();
  const items = lease ? await queue.dequeueMany(max, LONG_MS) : one === null ? [] : [one];
  const expected = expecting(lease ? max : 1);
  expect(items.map((item) => [item.id, text(item), item.attempts])).toEqual(
    expected.map((item) => [item.id, item.text, item.attempts]),
  );
  return items.map((handedOver, i) => ({ item: expected[i] as T, handedOver }));
}

/** Settles one of what is taken, or lets its lease end; answers the item that is pending again. */
export async function settle<T extends Taken<ModelItem>>(
  queue: Queue,
  how: Settling,
  at: number,
  { taken, pending }: { readonly taken: T[]; readonly pending: readonly unknown[] },
): Promise<T['item'] | null> {
  const index = at % (taken.length || 1);
  const held = taken[index];
  if (held === undefined) return null;
  const { id, token } = held.handedOver;
  if (how === 'stale') {
    expect(await codeOf(queue.ack(id, LeaseToken.parse('stale')))).toBe('LEASE_LOST');
    return null;
  }
  if (how === 'expire' && token === null) return null;
  if (how === 'ack') await queue.ack(id, token);
  else if (how === 'nack' || token === null) await queue.nack(id, token);
  else {
    await queue.extendLease(id, token, 1);
    await until(async () => (await queue.stats()).pending === pending.length + 1);
  }
  taken.splice(index, 1);
  return how === 'ack' ? null : held.item;
}

/** Requeues one of the dead letters, which it takes out of the list. */
export async function requeue<T extends ModelItem>(queue: Queue, at: number, dead: T[]): Promise<T | null> {
  const [letter] = dead.splice(at % (dead.length || 1), 1);
  if (letter === undefined) return null;
  await queue.requeue(letter.id);
  return letter;
}
