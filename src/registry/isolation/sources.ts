/**
 * Iterables and streams, on both sides: how one that stays here is read from afar, and what stands in for it there.
 *
 * A reader grants credit with each call, so many items, and the source answers what comes at once within it and within
 * {@link BATCH_BYTES_MAX}: at most a batch is on its way, and a second one for a stream, which is asked for one ahead. The
 * credit begins with one item and doubles: who looks at the first of an iterable alone has the source make no more.
 * Nothing that is late is waited for once there is something to send. What fails is told after the items before it.
 *
 * An iterable is read ahead only where that is known to do no harm ({@link readAhead}): one that waits for what may never
 * come could not be ended while it does. A stream can be cancelled at any time.
 */
import { types } from 'node:util';
import type { Call, Target } from './references.js';

/** Past this a batch gains nothing: its cost is then that of its items. */
const BATCH_ITEMS_MAX = 256;
/** A batch that has so many bytes is sent; and the most of a chunk that goes in one piece. */
const BATCH_BYTES_MAX = 1024 * 1024;

const AHEAD = new WeakSet<object>();

/** Lets an iterable be read ahead of its reader. */
export function readAhead(iterable: unknown): unknown {
  if (typeof iterable === 'object' && iterable !== null) AHEAD.add(iterable);
  return iterable;
}

interface Step {
  readonly done: boolean;
  readonly value?: unknown;
}

/** What is read, opened with the first call: what nobody reads is left as it is. */
interface Opened {
  next(): Promise<Step>;
  end(reason?: unknown): unknown;
}

/** An item as it is sent, and the bytes that it has. */
export type Encode = (item: unknown) => { readonly encoded: unknown; readonly bytes: number };

export interface Batch {
  readonly items: readonly unknown[];
  readonly done: boolean;
}

export function iterating(source: AsyncIterable<unknown>): Target {
  const open = (): Opened => {
    const iterator = source[Symbol.asyncIterator]();
    return {
      async next() {
        const { done = false, value } = await iterator.next();
        return { done, value };
      },
      end: () => iterator.return?.(),
    };
  };
  return new Source('iterable', open, AHEAD.has(source) ? BATCH_ITEMS_MAX : 1);
}

export function reading(source: ReadableStream<unknown>): Target {
  const open = (): Opened => {
    const reader = source.getReader();
    let rest: Uint8Array | null = null;
    return {
      async next() {
        const { done, value } = rest === null ? await reader.read() : { done: false, value: rest };
        rest = null;
        if (done || !types.isUint8Array(value) || value.byteLength <= BATCH_BYTES_MAX) return { done, value };
        rest = value.subarray(BATCH_BYTES_MAX);
        return { done, value: value.subarray(0, BATCH_BYTES_MAX) };
      },
      end: (reason) => reader.cancel(reason),
    };
  };
  return new Source('stream', open, BATCH_ITEMS_MAX);
}

class Source implements Target {
  readonly kind: 'iterable' | 'stream';
  readonly methods = ['next', 'return'];
  readonly data = {};
  readonly #open: () => Opened;
  readonly #itemsMax: number;
  #opened: Opened | null = null;
  /** Asked for, and not there in time for its batch. */
  #late: Promise<Step> | null = null;
  /** What came after the items of the last batch. */
  #failure: { readonly error: unknown } | null = null;
  #isOver = false;

  constructor(kind: Source['kind'], open: () => Opened, itemsMax: number) {
    this.kind = kind;
    this.#open = open;
    this.#itemsMax = itemsMax;
  }

  async invoke(_method: string, [reason]: readonly unknown[]): Promise<void> {
    this.#isOver = true;
    this.#failure = null;
    // One that was never read may hold something all the same.
    this.#opened ??= this.#open();
    await this.#opened.end(reason);
  }

  async take([items = 1]: readonly unknown[], encode: Encode): Promise<Batch> {
    const taken: unknown[] = [];
    if (this.#failure !== null) {
      const { error } = this.#failure;
      this.#failure = null;
      throw error;
    }
    if (this.#isOver) return { items: taken, done: true };
    const itemsMax = Math.min(Number(items) || 1, this.#itemsMax);
    let turn: Promise<null> | null = null;
    let bytesTaken = 0;
    try {
      // It may be given up while an item is waited for: then no other is asked for.
      while (!this.#isOver && taken.length < itemsMax && bytesTaken < BATCH_BYTES_MAX) {
        this.#opened ??= this.#open();
        const step = this.#late ?? this.#opened.next();
        this.#late = null;
        if (taken.length > 0) {
          // Told to whoever reads that far.
          step.catch(() => {});
          turn ??= new Promise((resolve) => setImmediate(resolve, null));
        }
        const found = await (turn === null ? step : Promise.race([step, turn]));
        if (found === null) {
          this.#late = step;
          break;
        }
        if (found.done) {
          this.#isOver = true;
          break;
        }
        bytesTaken += this.#add(taken, found.value, encode);
      }
    } catch (error) {
      this.#isOver = true;
      if (taken.length === 0) throw error;
      this.#failure = { error };
      return { items: taken, done: false };
    }
    return { items: taken, done: this.#isOver };
  }

  /** Answers the bytes that it has. What cannot be sent is the end: nothing after it is asked for. */
  #add(taken: unknown[], item: unknown, encode: Encode): number {
    try {
      const { encoded, bytes } = encode(item);
      taken.push(encoded);
      return bytes;
    } catch (error) {
      void this.end();
      throw error;
    }
  }

  async end(): Promise<void> {
    await quietly(() => this.invoke('return', []));
  }

  isOver(): boolean {
    return this.#isOver && this.#failure === null;
  }
}

/** For what is let go of when nobody is there any more who could be told. */
export async function quietly(end: () => unknown): Promise<void> {
  try {
    await end();
  } catch {
    // Whoever made it has its own error; the one who used it is gone.
  }
}

/** Asks for batches, each of twice as many items as the one before. */
class Batches {
  readonly #ask: (credit: readonly unknown[]) => Promise<unknown>;
  #credit = 1;

  constructor(ask: (credit: readonly unknown[]) => Promise<unknown>) {
    this.#ask = ask;
  }

  next(): Promise<Batch> {
    const credit = this.#credit;
    this.#credit = Math.min(credit * 2, BATCH_ITEMS_MAX);
    return this.#ask([credit]) as Promise<Batch>;
  }
}

/** Its own iterator, so that it is there for as long as somebody reads. */
export function iterable(call: Call, onOver: () => void): AsyncIterableIterator<unknown> {
  const batches = new Batches((credit) => call('next', credit, standIn));
  let batch: Batch = { items: [], done: false };
  let at = 0;
  let isOver = false;
  /** Whoever asks for several at once gets them in order. */
  let last: Promise<unknown> = Promise.resolve();
  const end = () => {
    isOver = true;
    batch = { items: [], done: true };
    onOver();
  };
  const next = async (): Promise<IteratorResult<unknown>> => {
    try {
      while (!isOver && at >= batch.items.length && !batch.done) {
        batch = await batches.next();
        at = 0;
      }
    } catch (error) {
      end();
      throw error;
    }
    if (!isOver && at < batch.items.length) return { done: false, value: batch.items[at++] };
    if (!isOver) end();
    return { done: true, value: undefined };
  };
  const standIn: AsyncIterableIterator<unknown> = {
    [Symbol.asyncIterator]: () => standIn,
    next() {
      const step = last.then(next);
      last = step.catch(() => {});
      return step;
    },
    async return() {
      const isNeeded = !isOver && !batch.done;
      end();
      if (isNeeded) await call('return', [], standIn);
      return { done: true, value: undefined };
    },
  };
  return standIn;
}

/** Asked for nothing before somebody reads, so that one that is only passed on goes home as it came; then one batch ahead. */
export function stream(call: Call, onOver: () => void): ReadableStream<unknown> {
  const batches = new Batches((credit) => call('next', credit, standIn));
  let ahead: Promise<Batch> | null = null;
  const standIn: ReadableStream<unknown> = new ReadableStream(
    {
      async pull(controller) {
        try {
          const { items, done } = await (ahead ?? batches.next());
          if (!done) {
            ahead = batches.next();
            // Told to whoever reads that far.
            ahead.catch(() => {});
          }
          for (const item of items) controller.enqueue(item);
          if (!done) return;
          onOver();
          controller.close();
        } catch (error) {
          onOver();
          throw error;
        }
      },
      async cancel(reason) {
        onOver();
        await call('return', [reason], standIn);
      },
    },
    { highWaterMark: 0 },
  );
  return standIn;
}
