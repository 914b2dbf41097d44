/** The queue beside a model that fits on a page, over random operations of two openings and restarts. fast-check prints the seed. */
import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { SqliteQueue } from '../../../../src/adapters/cloud-local/sqlite-queue.js';
import { LeaseToken, type QueueItem, type QueueItemId } from '../../../../src/contracts/index.js';
import { bytes, codeOf, LONG_MS, text, until } from '../queue/support.js';
import { file, sql } from './support.js';

const MAX_ATTEMPTS = 3;
const OPTIONS = { maxAttempts: MAX_ATTEMPTS, durability: 'off' } as const;

interface ModelItem {
  readonly id: QueueItemId;
  readonly text: string;
  attempts: number;
  /** Whether it was given back since it was last taken. */
  back: boolean;
}
interface Taken {
  readonly item: ModelItem;
  readonly handedOver: QueueItem;
  readonly by: number;
}

const byId = (one: ModelItem, other: ModelItem) => (one.id < other.id ? -1 : 1);

/** What the queue should hold: pending in order, taken, and dead. */
class Model {
  pending: ModelItem[] = [];
  taken: Taken[] = [];
  dead: ModelItem[] = [];

  take(max: number): ModelItem[] {
    const alive: ModelItem[] = [];
    while (alive.length < max) {
      const item = this.pending.shift();
      if (item === undefined) break;
      item.back = false;
      if (item.attempts >= MAX_ATTEMPTS) this.dead.push(item);
      else alive.push(item);
    }
    for (const item of alive) item.attempts += 1;
    return alive;
  }

  giveBack(items: ModelItem[]): void {
    for (const item of items) item.back = true;
    this.pending.unshift(...items);
  }

  /** First in line, but for older ones that were requeued before it. */
  requeue(letter: ModelItem): void {
    const isOlder = ({ attempts, back, id }: ModelItem) => attempts === 0 && back && id < letter.id;
    const newer = this.pending.findIndex((item) => !isOlder(item));
    const place = newer === -1 ? this.pending.length : newer;
    this.pending.splice(place, 0, { ...letter, attempts: 0, back: true });
  }

  /** What an opening held goes to the front, the oldest first. */
  close(by: number): void {
    this.giveBack(
      this.taken
        .filter((taken) => taken.by === by)
        .map(({ item }) => item)
        .sort(byId),
    );
    this.taken = this.taken.filter((taken) => taken.by !== by);
  }

  /** Whoever opens it alone finds what was given back in the order of the ids. */
  openedAlone(): void {
    const back = this.pending.filter((item) => item.back).sort(byId);
    this.pending = [...back, ...this.pending.filter((item) => !item.back)];
  }
}

const pick = fc.nat(1_000);
const by = fc.nat(1);
const operation = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant('enqueue' as const), by, count: fc.integer({ min: 1, max: 5 }) }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('take' as const),
      by,
      max: fc.integer({ min: 1, max: 4 }),
      lease: fc.boolean(),
    }),
  },
  { weight: 5, arbitrary: fc.record({ kind: fc.constantFrom('ack' as const, 'nack' as const), by, pick }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constantFrom('expire' as const, 'stale' as const, 'requeue' as const), by, pick }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constantFrom('purge' as const, 'reopen' as const, 'restart' as const), by }),
  },
);
type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never;

class Run {
  readonly model = new Model();
  readonly #path: string;
  readonly #openings: SqliteQueue[] = [];
  #sent = 0;

  constructor(path: string) {
    this.#path = path;
  }

  async open(): Promise<void> {
    for (const i of [0, 1]) this.#openings[i] = await SqliteQueue.open(this.#path, OPTIONS);
  }

  async close(): Promise<void> {
    for (const queue of this.#openings) await queue.close();
  }

  async step(operation: Operation): Promise<void> {
    const { model } = this;
    const queue = this.#openings[operation.by] as SqliteQueue;
    switch (operation.kind) {
      case 'enqueue': {
        const texts = Array.from({ length: operation.count }, () => String(this.#sent++));
        const ids = await Promise.all(texts.map((each) => queue.enqueue(bytes(each))));
        for (const [i, id] of ids.entries()) model.pending.push({ id, text: texts[i] ?? '', attempts: 0, back: false });
        return;
      }
      case 'take': {
        const one = operation.lease ? null : await queue.dequeue();
        const items = operation.lease ? await queue.dequeueMany(operation.max, LONG_MS) : one === null ? [] : [one];
        const expected = model.take(operation.lease ? operation.max : 1);
        expect(items.map((item) => [item.id, text(item), item.attempts])).toEqual(
          expected.map((item) => [item.id, item.text, item.attempts]),
        );
        for (const [i, handedOver] of items.entries())
          model.taken.push({ item: expected[i] as ModelItem, handedOver, by: operation.by });
        return;
      }
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
      case 'reopen':
        await queue.close();
        model.close(operation.by);
        this.#openings[operation.by] = await SqliteQueue.open(this.#path, OPTIONS);
        return;
      case 'restart':
        for (const i of [0, 1]) {
          await this.#openings[i]?.close();
          model.close(i);
        }
        model.openedAlone();
        return this.open();
      default:
        return this.#settle(queue, operation.kind, operation.pick);
    }
  }

  /** Any opening may settle what any other took. */
  async #settle(queue: SqliteQueue, how: 'ack' | 'nack' | 'expire' | 'stale', at: number): Promise<void> {
    const { model } = this;
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
    if (how !== 'ack') model.giveBack([held.item]);
  }

  async check(): Promise<void> {
    const { pending, taken, dead } = this.model;
    const stats = await (this.#openings[0] as SqliteQueue).stats();
    expect([stats.pending, stats.inFlight, stats.deadLetters]).toEqual([pending.length, taken.length, dead.length]);
    const alive = [...pending, ...taken.map(({ item }) => item)];
    expect(stats.bytesInStorage).toBe([...alive, ...dead].reduce((sum, item) => sum + item.text.length, 0));
    const rows = await sql('SELECT id, state, attempts FROM item ORDER BY state, seq, id', this.#path);
    const of = (state: number) => rows.filter((row) => row.state === state).map((row) => [row.id, row.attempts]);
    const sorted = (items: ModelItem[]) => [...items].sort(byId).map(({ id, attempts }) => [id, attempts]);
    expect(of(0)).toEqual(pending.map(({ id, attempts }) => [id, attempts]));
    expect(of(2)).toEqual(sorted(taken.map(({ item }) => item)));
    expect(of(3)).toEqual(sorted(dead));
  }
}

test('behaves as its model does, through two openings and over restarts', async () => {
  let runs = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(operation, { minLength: 10, maxLength: 40 }), async (operations) => {
      const run = new Run(file(`${++runs}.db`));
      await run.open();
      try {
        for (const each of operations) {
          await run.step(each);
          await run.check();
        }
      } finally {
        await run.close();
      }
    }),
    { numRuns: 25 },
  );
}, 120_000);
