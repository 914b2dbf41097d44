/** The queue beside a model that fits on a page, over random operations and restarts. fast-check prints the seed. */
import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { InMemQueue } from '../../../../src/adapters/cloud-local/in-mem-queue.js';
import { MemoryStorage } from '../../../../src/adapters/cloud-local/memory-storage.js';
import type { QueueItemId, Storage } from '../../../../src/contracts/index.js';
import * as steps from './model-steps.js';
import { storedIds } from './support.js';

interface ModelItem extends steps.ModelItem {
  /** What a restart would know of the attempts. */
  stored: number;
  replayed: boolean;
  requeued: boolean;
}

/** What the queue should hold: pending in order, taken in the order of the takings, and dead. */
class Model {
  pending: ModelItem[] = [];
  taken: steps.Taken<ModelItem>[] = [];
  dead: ModelItem[] = [];

  add(id: QueueItemId, payload: string): void {
    this.pending.push({ id, text: payload, attempts: 0, stored: 0, replayed: false, requeued: false });
  }

  /** The next ones to be handed over; those without attempts left die first. */
  take(max: number): ModelItem[] {
    const alive = steps.takeOf(max, this);
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
    this.pending = [...this.pending, ...this.taken.map(({ item }) => item)].sort(steps.byId);
    this.taken = [];
    for (const item of this.pending) {
      item.stored = item.attempts;
      item.replayed = true;
      item.requeued = false;
    }
  }
}

const operation = fc.oneof(
  { weight: 4, arbitrary: steps.OPERATION.enqueue },
  { weight: 2, arbitrary: steps.OPERATION.enqueueMany },
  { weight: 5, arbitrary: steps.OPERATION.take },
  { weight: 4, arbitrary: steps.OPERATION.settle },
  { weight: 2, arbitrary: steps.OPERATION.lose },
  { weight: 1, arbitrary: steps.OPERATION.requeue },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom('purge' as const, 'restart' as const) }) },
);
/** All in memory, some of it, and none: then each payload is read back from storage. */
const memory = fc.constantFrom(2 ** 28, 200, 40, 0);
type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never;

class Run {
  readonly model = new Model();

  constructor(
    readonly storage: Storage,
    private queue: InMemQueue,
    readonly options: { readonly maxAttempts: number; readonly memoryBytesMax: number },
  ) {}

  async step(operation: Operation): Promise<void> {
    const { model, queue } = this;
    switch (operation.kind) {
      case 'enqueue':
      case 'enqueueMany':
        return steps.enqueue(queue, operation, (id, text) => model.add(id, text));
      case 'take':
        model.taken.push(...(await steps.take(queue, operation, (max) => model.take(max))));
        return;
      case 'requeue': {
        const letter = await steps.requeue(queue, operation.pick, model.dead);
        if (letter !== null) model.requeue(letter);
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
      default: {
        const back = await steps.settle(queue, operation.kind, operation.pick, model);
        if (back !== null) model.pending.unshift(back);
      }
    }
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
        const options = { maxAttempts: steps.MAX_ATTEMPTS, memoryBytesMax };
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
