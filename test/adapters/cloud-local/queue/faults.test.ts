/**
 * The queue on a Storage that fails (fault model: src/testing/faulty-storage.ts), beside a ledger of what it was asked
 * and what it answered, over reopens. The counterexample that is printed is the seed: it repeats the run.
 *
 * After each closing, what is stored has to agree with the ledger:
 * - an item whose enqueue resolved is there, pending or dead, unless somebody tried to ack or purge it;
 * - an item whose ack resolved, or that a purge deleted, is gone for good;
 * - an ack by a token that was given back never resolves, unless the item is gone anyway;
 * - no payload is there twice, neither after retries under its key nor as both pending and dead;
 * - and each hand-over counts at least what the last one did, unless a requeue was tried in between.
 */
import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { InMemQueue } from '../../../../src/adapters/cloud-local/in-mem-queue.js';
import { MemoryStorage } from '../../../../src/adapters/cloud-local/memory-storage.js';
import type { QueueItem, QueueItemId, Storage } from '../../../../src/contracts/index.js';
import { faultyStorage } from '../../../../src/testing/faulty-storage.js';
import { bytes, codeOf, LONG_MS, turn } from './support.js';

const OPENINGS = 4;
const STEPS_PER_OPENING = 12;
const CALLS_PER_STEP = 5;

interface Entry {
  readonly text: string;
  /** Left out: there is no second try when its enqueue fails. */
  readonly key: string | undefined;
  /** Set once an enqueue resolved. */
  id?: QueueItemId;
  sending: boolean;
  /** An ack or purge of it was tried: it may be gone. */
  mayBeGone: boolean;
  /** An ack of it, or a purge, resolved: it is gone. */
  gone: boolean;
  attempts: number;
}

class Run {
  readonly #stored = MemoryStorage.open();
  readonly #random: () => number;
  readonly #entries = new Map<string, Entry>();
  readonly #faulty: (storage: Storage) => Storage;
  #held: QueueItem[] = [];
  readonly #givenBack: QueueItem[] = [];

  constructor(seed: number) {
    let drawn = 0;
    // A pure function of seed and count: what is drawn does not depend on what the storage draws.
    this.#random = () => {
      drawn += 1;
      const x = Math.sin(seed * 12.9898 + drawn * 78.233) * 43_758.5453;
      return x - Math.floor(x);
    };
    this.#faulty = (storage) => faultyStorage(storage, { seed, refusedShare: 0.15, unansweredShare: 0.15 });
  }

  async run(): Promise<void> {
    const stored = await this.#stored;
    const storage = this.#faulty(stored);
    for (let opening = 0; opening < OPENINGS; opening += 1) {
      const queue = await this.#open(storage);
      for (let step = 0; step < STEPS_PER_OPENING; step += 1) {
        await Promise.all(Array.from({ length: CALLS_PER_STEP }, () => this.#call(queue)));
        if (this.#random() < 0.05) await this.#purge(queue, this.#random() < 0.5 ? 'pending' : 'dead');
      }
      // Some calls are under way when it closes.
      const late = Promise.all(Array.from({ length: CALLS_PER_STEP }, () => this.#call(queue)));
      await queue.close();
      await late;
      this.#held = [];
      await this.#check(stored);
    }
    await stored.close();
  }

  /** An opening that a fault failed is tried again: the faults of a run are drawn on. */
  async #open(storage: Storage): Promise<InMemQueue> {
    for (;;) {
      try {
        return await InMemQueue.open(storage, {
          maxAttempts: 3,
          keyRetentionMs: this.#random() < 0.5 ? 0 : LONG_MS,
          memoryBytesMax: this.#random() < 0.5 ? 0 : 2 ** 28,
        });
      } catch (error) {
        expect(error).toMatchObject({ code: 'IO_ERROR' });
      }
    }
  }

  async #call(queue: InMemQueue): Promise<void> {
    const draw = this.#random();
    if (draw < 0.2) return this.#enqueue(queue, this.#newEntry(this.#random() < 0.7));
    if (draw < 0.35) return this.#retry(queue);
    if (draw < 0.4) return this.#enqueueMany(queue);
    if (draw < 0.65) return this.#take(queue);
    if (draw < 0.75) return this.#ack(queue);
    if (draw < 0.93) return this.#nack(queue);
    if (draw < 0.96) return this.#requeue(queue);
    return this.#ackStale(queue);
  }

  #newEntry(isKeyed: boolean): Entry {
    const text = `item ${this.#entries.size}`;
    const key = isKeyed ? `key of ${text}` : undefined;
    const entry: Entry = { text, key, sending: false, mayBeGone: false, gone: false, attempts: 0 };
    this.#entries.set(text, entry);
    return entry;
  }

  async #enqueue(queue: InMemQueue, entry: Entry): Promise<void> {
    entry.sending = true;
    const id = await answer(queue.enqueue(bytes(entry.text), { key: entry.key }));
    if (id !== undefined) entry.id = id;
    entry.sending = false;
  }

  async #retry(queue: InMemQueue): Promise<void> {
    const failed = [...this.#entries.values()].filter(
      ({ key, id, sending, mayBeGone }) => key !== undefined && id === undefined && !sending && !mayBeGone,
    );
    const entry = this.#pick(failed);
    if (entry !== undefined) await this.#enqueue(queue, entry);
  }

  async #enqueueMany(queue: InMemQueue): Promise<void> {
    const entries = [this.#newEntry(false), this.#newEntry(false), this.#newEntry(false)];
    const ids = await answer(queue.enqueueMany(entries.map(({ text }) => bytes(text))));
    for (const [i, id] of (ids ?? []).entries()) (entries[i] as Entry).id = id;
  }

  async #take(queue: InMemQueue): Promise<void> {
    const leased = this.#random() < 0.7;
    const items = await answer(
      leased ? queue.dequeueMany(3, LONG_MS) : queue.dequeue().then((item) => (item ? [item] : [])),
    );
    for (const item of items ?? []) {
      const entry = this.#entryOf(item.payload);
      expect([entry.text, entry.gone, item.attempts >= entry.attempts]).toEqual([entry.text, false, true]);
      entry.attempts = item.attempts;
      this.#held.push(item);
    }
  }

  async #ack(queue: InMemQueue): Promise<void> {
    const item = this.#letGo();
    if (item === undefined) return;
    const entry = this.#entryOf(item.payload);
    entry.mayBeGone = true;
    if (await done(queue.ack(item.id, item.token))) entry.gone = true;
    else this.#held.push(item);
  }

  async #nack(queue: InMemQueue): Promise<void> {
    const item = this.#letGo();
    if (item === undefined) return;
    const delayMs = this.#random() < 0.3 ? 1 : 0;
    if (await done(queue.nack(item.id, item.token, { delayMs }))) this.#givenBack.push(item);
    else this.#held.push(item);
  }

  /** By a token that a nack has ended. */
  async #ackStale(queue: InMemQueue): Promise<void> {
    const item = this.#pick(this.#givenBack.filter(({ token }) => token !== null));
    if (item === undefined) return;
    const code = await codeOf(queue.ack(item.id, item.token));
    const { mayBeGone } = this.#entryOf(item.payload);
    expect(['LEASE_LOST', 'CLOSED', ...(mayBeGone ? ['resolved'] : [])]).toContain(code);
  }

  async #requeue(queue: InMemQueue): Promise<void> {
    const letters: QueueItem[] = [];
    await answer(collect(queue.deadLetters(), letters));
    const letter = this.#pick(letters);
    if (letter === undefined) return;
    this.#entryOf(letter.payload).attempts = 0;
    await answer(queue.requeue(letter.id));
  }

  /** While no other call is under way, so the ledger knows what it deletes. */
  async #purge(queue: InMemQueue, which: 'pending' | 'dead'): Promise<void> {
    const held = new Set(this.#held.map(({ payload }) => this.#entryOf(payload)));
    const dead: QueueItem[] = [];
    await answer(collect(queue.deadLetters(), dead));
    const letters = new Set(dead.map(({ payload }) => this.#entryOf(payload)));
    const doomed = [...this.#entries.values()].filter(
      (entry) => letters.has(entry) === (which === 'dead') && !held.has(entry),
    );
    for (const entry of doomed) entry.mayBeGone = true;
    if ((await answer(queue.purge(which))) === undefined) return;
    // One whose enqueue failed may be in storage alone, where a purge does not look.
    for (const entry of doomed) if (entry.id !== undefined) entry.gone = true;
  }

  #letGo(): QueueItem | undefined {
    const item = this.#pick(this.#held);
    this.#held = this.#held.filter((each) => each !== item);
    return item;
  }

  #pick<T>(from: readonly T[]): T | undefined {
    return from[Math.floor(this.#random() * from.length)];
  }

  #entryOf(payload: Uint8Array): Entry {
    const entry = this.#entries.get(Buffer.from(payload).toString());
    if (entry === undefined) throw new Error(`a payload that was never sent: ${Buffer.from(payload)}`);
    return entry;
  }

  async #check(stored: Storage): Promise<void> {
    const there = new Map<Entry, string>();
    for (const namespace of ['cloudlocal_queue', 'cloudlocal_queue_dead']) {
      for await (const { key, value } of stored.scan({ prefix: { namespace, path: [] } })) {
        const entry = this.#entryOf(value);
        expect([entry.text, there.get(entry)]).toEqual([entry.text, undefined]);
        there.set(entry, String(key.path[0]));
        if (entry.id !== undefined) expect(key.path).toEqual([entry.id]);
      }
    }
    for (const entry of this.#entries.values()) {
      if (entry.gone) expect([entry.text, there.has(entry)]).toEqual([entry.text, false]);
      else if (entry.id !== undefined && !entry.mayBeGone)
        expect([entry.text, there.get(entry)]).toEqual([entry.text, entry.id]);
    }
  }
}

/** What a call resolved to; `undefined` when a fault, or the closing, failed it. Nothing else may. */
async function answer<T>(call: Promise<T>): Promise<T | undefined> {
  try {
    return await call;
  } catch (error) {
    expect(['IO_ERROR', 'CLOSED', 'ITEM_UNKNOWN']).toContain(await codeOf(Promise.reject(error)));
    return undefined;
  }
}

function done(call: Promise<void>): Promise<boolean> {
  return answer(call.then(() => true)).then((isDone) => isDone === true);
}

async function collect<T>(from: AsyncIterable<T>, into: T[]): Promise<void> {
  for await (const each of from) into.push(each);
}

test('keeps what it promised on a storage that fails, over reopens', async () => {
  await fc.assert(
    fc.asyncProperty(fc.nat(2 ** 32 - 1), async (seed) => {
      await new Run(seed).run();
      await turn();
    }),
    { numRuns: 40, endOnFailure: true },
  );
});
