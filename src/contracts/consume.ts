/**
 * Comforts over {@link Queue}: work items off with a handler, or one by one in a loop. No adapter implements them.
 *
 * All three take items with a lease, renew it for as long as the item is held, and take no more than they can start:
 * what another consumer could work on is not hoarded. What they hold when they end, they give back.
 *
 * A handler that fails costs its item a delivery; a queue that fails ends the call. Handlers may see an item twice.
 */
import * as check from './arguments.js';
import { type Held, Holdings, isLeaseLost } from './holdings.js';
import { onAbort } from './on-abort.js';
import { ITEMS_PER_CALL_MAX, type Queue, type QueueItem, WAIT_MS_MAX } from './queue.js';

/**
 * Works on one item. Returning acks it, throwing gives it back.
 * @param signal aborts when the item is not this handler's any more: its lease was lost, or the consumer stops and the
 * time of grace is over. What the handler does after that is not looked at.
 */
export type Handler = (item: QueueItem, signal: AbortSignal) => void | Promise<void>;

export interface LeaseOptions {
  /** Items held at once, 1 to 10,000. Default 1. */
  readonly concurrency?: number;
  /**
   * Length of a lease, ms. It is renewed three times in that span, so it bounds how long the items of a consumer that
   * died stay away, not how long a handler may take. A handler that blocks the event loop for longer loses its item.
   * Default 30,000.
   */
  readonly leaseMs?: number;
  /** Ends the work in an orderly way. */
  readonly signal?: AbortSignal;
}

export interface ConsumeOptions extends LeaseOptions {
  /** How long running handlers may take to finish once `signal` has aborted, ms. Default 30,000. */
  readonly graceMs?: number;
  /**
   * Pause before a failed item is given back, ms: this long after its first attempt, twice as long after each further
   * one, up to `retryMaxMs`. The item stays leased and takes no place of the `concurrency`. Default 100.
   */
  readonly retryBaseMs?: number;
  /** Default 10,000. */
  readonly retryMaxMs?: number;
  /** Told of each handler that threw; what it throws itself ends the work. Left out, such failures are told nobody. */
  readonly onError?: (error: unknown, item: QueueItem) => void;
}

/**
 * Failed items that a consumer holds at once. So many failures are no matter of single items, and each one's lease has to
 * be renewed: `drain` ends there, `consume` waits until some have been given back.
 */
export const CONSUMER_FAILED_MAX = 1_000;

/** How the items taken have ended. */
export interface ConsumeReport {
  readonly acked: number;
  /** Given back: the handler failed, or had not finished, or had not begun when the work ended. */
  readonly nacked: number;
  /** Items whose lease ended while they were held: somebody else has them, or will. */
  readonly lost: number;
}

/**
 * Works items off until `signal` aborts; then lets the running handlers finish and resolves. Handlers that take longer
 * than `graceMs` for that are aborted and their items given back.
 * @throws what the queue threw, after the running handlers had their time to finish
 */
export async function consume(queue: Queue, handler: Handler, options: ConsumeOptions = {}): Promise<ConsumeReport> {
  return new Consumer(queue, handler, options, 'until aborted').run();
}

/**
 * Works items off until nothing is pending and nothing taken here is left; delayed items, and those that others hold,
 * are not waited for. An item that failed is held until the end and then given back, so each is tried once. After 1,000
 * failures it takes no more, and ends.
 * @throws what the queue threw, after the running handlers had their time to finish
 */
export async function drain(queue: Queue, handler: Handler, options: ConsumeOptions = {}): Promise<ConsumeReport> {
  return new Consumer(queue, handler, options, 'until empty').run();
}

/** One item of {@link deliveries}. */
export interface Delivery {
  readonly item: QueueItem;
  /** As a handler's: aborts when the item is not this loop's any more. */
  readonly signal: AbortSignal;
  /** @throws as the queue's `ack`: RecoverableError Transient, code `LEASE_LOST`. A second call does nothing. */
  ack(): Promise<void>;
  /** Gives the item back, first in line. @throws as `ack` */
  nack(): Promise<void>;
}

/**
 * Items one by one, until `signal` aborts. Each is to be acked or nacked; asking for the next one waits while
 * `concurrency` of them are neither. Leaving the loop gives back, and aborts, all that are neither.
 * @throws what the queue threw
 */
export async function* deliveries(queue: Queue, options: LeaseOptions = {}): AsyncGenerator<Delivery, void, void> {
  const { concurrency, leaseMs, signal } = leaseOptions(options);
  const holdings = new Holdings(queue, leaseMs);
  try {
    while (!signal?.aborted) {
      if (holdings.size >= concurrency) {
        await holdings.change(signal);
        continue;
      }
      const items = await receive(queue, { leaseMs, max: concurrency - holdings.size, waitMs: WAIT_MS, signal });
      const taken = items.map((item) => holdings.add(item));
      for (const held of taken) {
        if (signal?.aborted) break;
        if (held.ended) continue; // its lease was lost while the loop was at the items before it
        yield {
          item: held.item,
          signal: held.signal,
          ack: () => holdings.settle(held, 'ack'),
          nack: () => holdings.settle(held, 'nack'),
        };
      }
    }
  } finally {
    await holdings.giveBack();
  }
}

/** How long one `receive` waits: long enough to cost nothing, short enough for servers that cut idle requests. */
const WAIT_MS = 20_000;

/** The pause doubles this often at most: past it, any base is over any maximum, and powers stay exact. */
const DOUBLINGS_MAX = 31;

class Consumer {
  readonly #queue: Queue;
  readonly #handler: Handler;
  readonly #options: ReturnType<typeof consumeOptions>;
  readonly #mode: 'until aborted' | 'until empty';
  readonly #holdings: Holdings;
  readonly #running = new Set<Held>();
  /** Items whose handler failed, each with the timer that ends its pause; in a drain, the end does. */
  readonly #failed = new Map<Held, NodeJS.Timeout | undefined>();
  /** Acks and nacks that the queue has not answered; none of them rejects. */
  readonly #settling = new Set<Promise<void>>();
  /** Aborts when no more items are to be taken. */
  readonly #stop = new AbortController();
  /** Handlers that have ended. */
  #ended = 0;
  #failure: { readonly error: unknown } | null = null;

  constructor(queue: Queue, handler: Handler, options: ConsumeOptions, mode: 'until aborted' | 'until empty') {
    if (typeof handler !== 'function') throw check.invalid('handler', 'a function', handler);
    this.#queue = queue;
    this.#handler = handler;
    this.#options = consumeOptions(options);
    this.#mode = mode;
    this.#holdings = new Holdings(queue, this.#options.leaseMs);
  }

  async run(): Promise<ConsumeReport> {
    const { signal } = this.#options;
    const stop = () => this.#stop.abort();
    const leave = onAbort(signal, stop);
    try {
      await this.#takeAll();
    } catch (error) {
      this.#fail(error);
    } finally {
      leave();
    }
    stop();
    await this.#finish();
    if (this.#failure !== null) throw this.#failure.error;
    return { ...this.#holdings.report };
  }

  async #takeAll(): Promise<void> {
    const { concurrency, leaseMs } = this.#options;
    const { signal } = this.#stop;
    const waitMs = this.#mode === 'until empty' ? 0 : WAIT_MS;
    while (!signal.aborted) {
      if (this.#failed.size >= CONSUMER_FAILED_MAX) {
        if (this.#mode === 'until empty') return;
        await this.#holdings.change(signal);
        continue;
      }
      const free = concurrency - this.#running.size;
      if (free === 0) {
        await this.#holdings.change(signal);
        continue;
      }
      const ended = this.#ended;
      const items = await receive(this.#queue, { leaseMs, max: free, waitMs, signal });
      // Held all the same when the work has ended meanwhile: finishing gives them back.
      for (const item of items) {
        const held = this.#holdings.add(item);
        if (!signal.aborted) this.#start(held);
      }
      // A handler that runs, or ran while the queue was asked, may have enqueued something: look again after it.
      if (items.length > 0 || this.#mode === 'until aborted' || ended !== this.#ended) continue;
      if (this.#running.size === 0) return;
      await this.#holdings.change(signal);
    }
  }

  #start(held: Held): void {
    this.#running.add(held);
    this.#handle(held)
      .catch((error) => this.#fail(error))
      .finally(() => {
        this.#running.delete(held);
        this.#ended += 1;
        this.#holdings.changed();
      });
  }

  async #handle(held: Held): Promise<void> {
    try {
      await this.#handler(held.item, held.signal);
    } catch (error) {
      if (held.ended) return;
      this.#pause(held);
      const { item } = held;
      held.dropPayload();
      this.#options.onError?.(error, item);
      return;
    }
    if (!held.ended) await this.#settle(held, 'ack');
  }

  #pause(held: Held): void {
    const { retryBaseMs, retryMaxMs } = this.#options;
    if (this.#mode === 'until empty') {
      this.#failed.set(held, undefined);
      return;
    }
    const pauseMs = Math.min(retryMaxMs, retryBaseMs * 2 ** Math.min(held.item.attempts - 1, DOUBLINGS_MAX));
    const giveBack = () => {
      this.#failed.delete(held);
      void this.#settle(held, 'nack');
    };
    this.#failed.set(held, setTimeout(giveBack, pauseMs));
  }

  /** Never rejects. A lease that was lost is counted by the holdings, and is nobody's failure. */
  #settle(held: Held, how: 'ack' | 'nack'): Promise<void> {
    const settling = this.#holdings
      .settle(held, how)
      .catch((error) => {
        if (!isLeaseLost(error)) this.#fail(error);
      })
      .finally(() => this.#settling.delete(settling));
    this.#settling.add(settling);
    return settling;
  }

  /** The first failure is the one that the caller is told of. */
  #fail(error: unknown): void {
    this.#failure ??= { error };
    this.#stop.abort();
  }

  async #finish(): Promise<void> {
    const grace = new AbortController();
    const timer = setTimeout(() => grace.abort(), this.#options.graceMs);
    while (this.#running.size > 0 && !grace.signal.aborted) await this.#holdings.change(grace.signal);
    clearTimeout(timer);
    for (const pause of this.#failed.values()) clearTimeout(pause);
    try {
      await this.#holdings.giveBack();
    } catch (error) {
      this.#fail(error);
    }
    // What was being settled before is not held any more, so it was not given back.
    await Promise.all(this.#settling);
  }
}

/** As the queue's own, but an abort ends it with no items. */
async function receive(queue: Queue, options: Parameters<Queue['receive']>[0]): Promise<QueueItem[]> {
  try {
    return await queue.receive(options);
  } catch (error) {
    if (options.signal?.aborted) return [];
    throw error;
  }
}

const LEASE_OPTIONS = ['concurrency', 'leaseMs', 'signal'] as const;
const CONSUME_OPTIONS = [...LEASE_OPTIONS, 'graceMs', 'retryBaseMs', 'retryMaxMs', 'onError'] as const;

function leaseOptions(given: LeaseOptions, known: readonly (keyof ConsumeOptions)[] = LEASE_OPTIONS) {
  const {
    concurrency = 1,
    leaseMs = 30_000,
    signal,
  }: LeaseOptions = check.known<ConsumeOptions>('options', given, known);
  check.integer('options.concurrency', concurrency, 1, ITEMS_PER_CALL_MAX);
  check.integer('options.leaseMs', leaseMs, 1, WAIT_MS_MAX);
  return { concurrency, leaseMs, signal: check.signal('options.signal', signal) };
}

function consumeOptions(given: ConsumeOptions) {
  const leases = leaseOptions(given, CONSUME_OPTIONS);
  const { graceMs = 30_000, retryBaseMs = 100, retryMaxMs = 10_000, onError } = given;
  check.integer('options.graceMs', graceMs, 0, WAIT_MS_MAX);
  check.integer('options.retryBaseMs', retryBaseMs, 0, WAIT_MS_MAX);
  check.integer('options.retryMaxMs', retryMaxMs, 0, WAIT_MS_MAX);
  if (onError !== undefined && typeof onError !== 'function') {
    throw check.invalid('options.onError', 'a function', onError);
  }
  return { ...leases, graceMs, retryBaseMs, retryMaxMs, onError };
}
