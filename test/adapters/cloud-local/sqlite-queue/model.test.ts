/** The queue beside a model that fits on a page, over random operations of two openings and restarts. fast-check prints the seed. */
import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { SqliteQueue } from '../../../../src/adapters/cloud-local/sqlite-queue.js';
import * as steps from '../queue/model-steps.js';
import { file, sql } from './support.js';

const OPTIONS = { maxAttempts: steps.MAX_ATTEMPTS, durability: 'off' } as const;

interface ModelItem extends steps.ModelItem {
  /** Whether it was given back since it was last taken. */
  back: boolean;
}
interface Taken extends steps.Taken<ModelItem> {
  readonly by: number;
}

/** What the queue should hold: pending in order, taken, and dead. */
class Model {
  pending: ModelItem[] = [];
  taken: Taken[] = [];
  dead: ModelItem[] = [];

  take(max: number): ModelItem[] {
    const alive = steps.takeOf(max, this);
    for (const item of alive) {
      item.back = false;
      item.attempts += 1;
    }
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
        .sort(steps.byId),
    );
    this.taken = this.taken.filter((taken) => taken.by !== by);
  }

  /** Whoever opens it alone finds what was given back in the order of the ids. */
  openedAlone(): void {
    const back = this.pending.filter((item) => item.back).sort(steps.byId);
    this.pending = [...back, ...this.pending.filter((item) => !item.back)];
  }
}

const weighted = fc.oneof(
  { weight: 4, arbitrary: steps.OPERATION.enqueue },
  { weight: 5, arbitrary: steps.OPERATION.take },
  { weight: 5, arbitrary: steps.OPERATION.settle },
  { weight: 1, arbitrary: steps.OPERATION.lose },
  { weight: 1, arbitrary: steps.OPERATION.requeue },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constantFrom('purge' as const, 'reopen' as const, 'restart' as const) }),
  },
);
/** With which of the two openings is asked. */
const operation = fc.tuple(weighted, fc.nat(1)).map(([each, by]) => ({ ...each, by }));
type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never;

class Run {
  readonly model = new Model();
  readonly #path: string;
  readonly #openings: SqliteQueue[] = [];

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
      case 'enqueue':
        return steps.enqueue(queue, operation, (id, text) =>
          model.pending.push({ id, text, attempts: 0, back: false }),
        );
      case 'take': {
        const taken = await steps.take(queue, operation, (max) => model.take(max));
        model.taken.push(...taken.map((each) => ({ ...each, by: operation.by })));
        return;
      }
      case 'requeue': {
        const letter = await steps.requeue(queue, operation.pick, model.dead);
        if (letter !== null) model.requeue(letter);
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
      default: {
        // Any opening may settle what any other took.
        const back = await steps.settle(queue, operation.kind, operation.pick, model);
        if (back !== null) model.giveBack([back]);
      }
    }
  }

  async check(): Promise<void> {
    const { pending, taken, dead } = this.model;
    const stats = await (this.#openings[0] as SqliteQueue).stats();
    expect([stats.pending, stats.inFlight, stats.deadLetters]).toEqual([pending.length, taken.length, dead.length]);
    const alive = [...pending, ...taken.map(({ item }) => item)];
    expect(stats.bytesInStorage).toBe([...alive, ...dead].reduce((sum, item) => sum + item.text.length, 0));
    const rows = await sql('SELECT id, state, attempts FROM item ORDER BY state, seq, id', this.#path);
    const of = (state: number) => rows.filter((row) => row.state === state).map((row) => [row.id, row.attempts]);
    const sorted = (items: ModelItem[]) => [...items].sort(steps.byId).map(({ id, attempts }) => [id, attempts]);
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
