/** The queue beside a model that fits on a page, over random operations and restarts. fast-check prints the seed. */
import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { InMemQueue } from '../../../../src/adapters/cloud-local/in-mem-queue.js';
import { MemoryStorage } from '../../../../src/adapters/cloud-local/memory-storage.js';
import { LeaseToken, type QueueItem, type QueueItemId, type Storage } from '../../../../src/contracts/index.js';
import { bytes, codeOf, LONG_MS, storedIds, text, until } from './support.js';

const MAX_ATTEMPTS = 3;

interface ModelItem {
  readonly id: QueueItemId;
  readonly text: string;
  attempts: number;
  /** What the storage knows of the attempts. */
  stored: number;
  replayed: boolean;
  /** Whether it was requeued, and not taken since. */
  requeued?: boolean;
}

/** What the queue should hold: pending in order, taken in the order of the takings, and dead. */
class Model {
  pending: ModelItem[] = [];
  taken: { readonly item: ModelItem; readonly handedOver: QueueItem }[] = [];
  dead: ModelItem[] = [];

  add(id: QueueItemId, payload: string): void {
    this.pending.push({ id, text: payload, attempts: 0, stored: 0, replayed: false });
  }

  /** The next ones to be handed over; those without attempts left die first. */
  take(max: number): ModelItem[] {
    const alive: ModelItem[] = [];
    while (alive.length < max) {
      const item = this.pending.shift();
      if (item === undefined) break;
      if (item.attempts >= MAX_ATTEMPTS) this.dead.push(item);
      else alive.push(item);
    }
    for (const item of alive) {
      if (item.attempts > 0 || item.replayed) item.stored = item.attempts + 1;
      item.attempts += 1;
      item.requeued = false;
    }
    return alive;
  }

  /** First in line, but for older ones that were requeued before it. */
  requeue(letter: ModelItem): void {
    const newer = this.pending.findIndex(({ requeued, id }) => !requeued || id > letter.id);
    const place = newer === -1 ? this.pending.length : newer;
    this.pending.splice(place, 0, { ...letter, attempts: 0, stored: 0, replayed: false, requeued: true });
  }

  restart(): void {
    this.pending = [...this.pending, ...this.taken.map(({ item }) => item)].sort((a, b) => (a.id < b.id ? -1 : 1));
    this.taken = [];
    for (const item of this.pending) {
      item.stored = item.attempts;
      item.replayed = true;
      item.requeued = false;
    }
  }
}

const pick = fc.nat(1_000);
const operation = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('enqueue' as const), count: fc.integer({ min: 1, max: 5 }) }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant('enqueueMany' as const), count: fc.integer({ min: 1, max: 5 }) }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('take' as const),
      max: fc.integer({ min: 1, max: 4 }),
      lease: fc.boolean(),
    }),
  },
  { weight: 4, arbitrary: fc.record({ kind: fc.constantFrom('ack' as const, 'nack' as const), pick }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('expire' as const), pick }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('stale' as const), pick }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('requeue' as const), pick }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom('purge' as const, 'restart' as const) }) },
);
/** All in memory, some of it, and none: then each payload is read back from storage. */
const memory = fc.constantFrom(2 ** 28, 200, 40, 0);
type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never;

class Run {
  readonly model = new Model();
  #sent = 0;

  constructor(
    readonly storage: Storage,
    private queue: InMemQueue,
    readonly options: { readonly maxAttempts: number; readonly memoryBytesMax: number },
  ) {}

  async step(operation: Operation): Promise<void> {
    const { model, queue } = this;
    switch (operation.kind) {
      case 'enqueue': {
        const texts = this.#texts(operation.count);
        const ids = await Promise.all(texts.map((each) => queue.enqueue(bytes(each))));
        for (const [i, id] of ids.entries()) model.add(id, texts[i] ?? '');
        return;
      }
      case 'enqueueMany': {
        const texts = this.#texts(operation.count);
        for (const [i, id] of (await queue.enqueueMany(texts.map(bytes))).entries()) model.add(id, texts[i] ?? '');
        return;
      }
      case 'take':
        return this.#take(operation.max, operation.lease);
      case 'requeue': {
        const [letter] = model.dead.splice(operation.pick % (model.dead.length || 1), 1);
        if (letter === undefined) return;
        await queue.requeue(letter.id);
        model.requeue(letter);
        return;
      }
      case 'purge':
        expect(await queue.purge('pending')).toBe(model.pending.length);
        model.pending = [];
        return;
      case 'restart':
        await queue.close();
        this.queue = await InMemQueue.open(this.storage, this.options);
        model.restart();
        return;
      default:
        return this.#settle(operation.kind, operation.pick);
    }
  }

  #texts(count: number): string[] {
    return Array.from({ length: count }, () => String(this.#sent++));
  }

  async #take(max: number, lease: boolean): Promise<void> {
    const single = lease ? null : await this.queue.dequeue();
    const items = lease ? await this.queue.dequeueMany(max, LONG_MS) : single === null ? [] : [single];
    const expected = this.model.take(lease ? max : 1);
    expect(items.map((item) => [item.id, text(item), item.attempts])).toEqual(
      expected.map((item) => [item.id, item.text, item.attempts]),
    );
    for (const [i, handedOver] of items.entries())
      this.model.taken.push({ item: expected[i] as ModelItem, handedOver });
  }

  async #settle(how: 'ack' | 'nack' | 'expire' | 'stale', at: number): Promise<void> {
    const { model, queue } = this;
    const index = at % (model.taken.length || 1);
    const held = model.taken[index];
    if (held === undefined) return;
    const { id, token } = held.handedOver;
    if (how === 'stale') {
      expect(await codeOf(queue.ack(id, LeaseToken.parse('stale')))).toBe('LEASE_LOST');
      return;
    }
    if (how === 'expire' && token === null) return;
    if (how === 'ack') await queue.ack(id, token);
    else if (how === 'nack' || token === null) await queue.nack(id, token);
    else {
      await queue.extendLease(id, token, 1);
      await until(async () => (await queue.stats()).pending === model.pending.length + 1);
    }
    model.taken.splice(index, 1);
    if (how !== 'ack') model.pending.unshift(held.item);
  }

  async check(): Promise<void> {
    const { model } = this;
    const { pending, inFlight, deadLetters, bytesInMemory, bytesInStorage } = await this.queue.stats();
    expect({ pending, inFlight, deadLetters }).toEqual({
      pending: model.pending.length,
      inFlight: model.taken.length,
      deadLetters: model.dead.length,
    });
    const held = [...model.pending, ...model.taken.map(({ item }) => item)];
    const heldBytes = held.reduce((sum, item) => sum + item.text.length, 0);
    expect(bytesInStorage - model.dead.reduce((sum, item) => sum + item.text.length, 0)).toBe(heldBytes);
    if (this.options.memoryBytesMax === 2 ** 28) expect(bytesInMemory).toBe(heldBytes);
    else expect(bytesInMemory).toBeLessThanOrEqual(heldBytes);
    expect(await storedIds(this.storage, 'cloudlocal_queue')).toEqual(held.map(({ id }) => id).sort());
    expect(await storedIds(this.storage, 'cloudlocal_queue_dead')).toEqual(model.dead.map(({ id }) => id).sort());
    const counted = [...held.filter(({ stored }) => stored > 0), ...model.dead];
    expect(await storedIds(this.storage, 'cloudlocal_queue_meta')).toEqual(counted.map(({ id }) => id).sort());
  }

  async end(): Promise<void> {
    await this.queue.close();
    await this.storage.close();
  }
}

test('behaves as its model does, across restarts', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(operation, { minLength: 10, maxLength: 60 }),
      memory,
      async (operations, memoryBytesMax) => {
        const storage = await MemoryStorage.open();
        const options = { maxAttempts: MAX_ATTEMPTS, memoryBytesMax };
        const run = new Run(storage, await InMemQueue.open(storage, options), options);
        try {
          for (const each of operations) {
            await run.step(each);
            await run.check();
          }
        } finally {
          await run.end();
        }
      },
    ),
    { numRuns: 150 },
  );
});
