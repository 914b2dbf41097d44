/**
 * `retry`: makes a call again that failed, when the error says that it may help and the call may be repeated.
 *
 * What the error says: only a `RecoverableError` is tried again, as its hint tells: `never`; `after` that many ms; with
 * `backoff`, after a random time up to `baseMs` doubled at each try, at most `maxMs` (so callers that failed together do
 * not come back together).
 *
 * What may be repeated: a call that fails may have taken effect all the same. `Throttled` says that it has not, and lets
 * every call be repeated but those that use something up (`putStream`'s source, a transaction). After other failures
 * only those of {@link REPEATABLE} are, and those that `methods` of the configuration adds.
 */
import type { Clock } from '../../contracts/clock.js';
import { type Call, decorate } from '../../contracts/decorate.js';
import { isCoreError, type RecoverableError, type RetryHint } from '../../contracts/errors.js';
import { onAbort } from '../../contracts/on-abort.js';
import type { MiddlewareContext } from '../../contracts/plugin.js';
import type { EnqueueOptions } from '../../contracts/queue.js';
import { checkMethods, signalOf } from './methods.js';

export interface RetryConfig {
  /** How often a call is made in all, the first time included. */
  readonly maxAttempts: number;
  /** No try begins later than this after the first. */
  readonly maxElapsedMs: number;
  /** Methods that are safe to repeat besides. */
  readonly methods: readonly string[];
}

type Repeatable = (args: readonly unknown[]) => boolean;
const always: Repeatable = () => true;

/**
 * Calls that may be repeated though an earlier try may have taken effect, and why. Of iterables, those that may be opened
 * again as long as no item has been read. Everything else is made once, or again after `Throttled` only:
 *
 * - Queue `enqueue` without a key, `enqueueMany`: there would be a second item. `nack`, `requeue`: the item may be
 *   somebody else's by then. `purge`: it would delete what came in between.
 * - SecretStore `put`: it could undo what another has put in between.
 * - Storage `commit`: its outcome is not known until the store is opened again. `lock`: this process may hold it.
 * - BlockStore `snapshot`: there would be two.
 */
const REPEATABLE: Readonly<Record<string, Readonly<Record<string, Repeatable>>>> = {
  'ObjectStore@1': {
    // The same bytes have the same id, and are stored once.
    putBytes: always,
    getBytes: always,
    // Opening it; a stream that fails later is its reader's to ask for again.
    getStream: always,
    exists: always,
    stat: always,
    // Gone is gone; `false` may then mean that an earlier try removed it.
    delete: always,
    list: always,
  },
  'Queue@1': {
    enqueue: ([, options]) => (options as EnqueueOptions | undefined)?.key !== undefined,
    // An item that an earlier try took comes back as after a consumer's death: at the end of its lease, or on reopening.
    dequeue: always,
    dequeueWithLease: always,
    dequeueMany: always,
    receive: always,
    // The lease's end counts from now.
    extendLease: always,
    // An id that is gone resolves.
    ack: always,
    stats: always,
    deadLetters: always,
  },
  'SecretStore@1': { get: always, names: always },
  'ComputeHint@1': { inventory: always, preemptionSignal: always },
  'GpuEnumerator@1': { enumerate: always },
  'Storage@1': { get: always, getMany: always, ping: always, scan: always },
  // Attaching what is attached answers the same; detaching what is not resolves.
  'BlockStore@1': { attach: always, detach: always },
};

/** Calls that use something up: a second try would find nothing, whatever the error. */
const USING_UP = new Set(['ObjectStore@1 putStream', 'Storage@1 commit']);

/** A pause of back-off doubles this often at most: past it, any base is over any maximum, and powers stay exact. */
const DOUBLINGS_MAX = 31;

export function retry<T extends object>(inner: T, context: MiddlewareContext<RetryConfig>): T {
  const { capability, config } = context;
  checkMethods(context, config.methods);
  const policy = REPEATABLE[capability] ?? {};
  const may = ({ method, args }: Call, { kind }: RecoverableError): boolean => {
    if (USING_UP.has(`${capability} ${method}`)) return false;
    return kind === 'Throttled' || config.methods.includes(method) || (policy[method]?.(args) ?? false);
  };

  return decorate(capability, inner, {
    async call(call, proceed) {
      const startMs = context.clock.monotonicMs();
      let trying: Attempts | undefined;
      for (;;) {
        try {
          return await proceed();
        } catch (error) {
          trying ??= new Attempts(call, context, may, startMs);
          await trying.again(error);
        }
      }
    },

    iterate(call, proceed) {
      if (policy[call.method] === undefined && !config.methods.includes(call.method)) return proceed();
      const first = proceed();
      return { [Symbol.asyncIterator]: () => new Reopening(first, proceed, new Attempts(call, context, may)) };
    },
  });
}

/** The tries of one call. */
class Attempts {
  readonly #call: Call;
  readonly #context: MiddlewareContext<RetryConfig>;
  readonly #may: (call: Call, error: RecoverableError) => boolean;
  readonly #startMs: number;
  #failed = 0;

  constructor(
    call: Call,
    context: MiddlewareContext<RetryConfig>,
    may: (call: Call, error: RecoverableError) => boolean,
    startMs = context.clock.monotonicMs(),
  ) {
    this.#call = call;
    this.#context = context;
    this.#may = may;
    this.#startMs = startMs;
  }

  /** Resolves when it is time for the next try. @throws `error` when there is to be none; the reason of an abort */
  async again(error: unknown): Promise<void> {
    this.#failed += 1;
    const { config, clock, logger, signal, adapter, capability } = this.#context;
    if (!isCoreError(error) || error.severity !== 'recoverable' || !this.#may(this.#call, error)) throw error;
    if (this.#failed >= config.maxAttempts) throw error;
    const delayMs = pauseMs(error.retry, this.#failed);
    if (delayMs === null || clock.monotonicMs() - this.#startMs + delayMs > config.maxElapsedMs) throw error;
    const { method } = this.#call;
    logger.debug(`${capability} ${method} (adapter ${adapter}) failed and is tried again in ${delayMs} ms`, {
      attempt: this.#failed,
      code: error.code,
    });
    const asked = signalOf(this.#call);
    await pause(delayMs, clock, [asked, signal]);
    asked?.throwIfAborted();
    // The host stops, and with it the waiting.
    if (signal.aborted) throw error;
  }
}

/** @param failed tries so far. `null`: no other */
function pauseMs(hint: RetryHint, failed: number): number | null {
  if (hint.kind === 'never') return null;
  if (hint.kind === 'after') return Math.ceil(hint.delayMs);
  const ceilingMs = Math.min(hint.maxMs, hint.baseMs * 2 ** Math.min(failed - 1, DOUBLINGS_MAX));
  return Math.ceil(Math.random() * ceilingMs);
}

/** Ends early when one of the signals aborts. */
async function pause(delayMs: number, clock: Clock, signals: readonly (AbortSignal | undefined)[]): Promise<void> {
  const leaving: (() => void)[] = [];
  await new Promise<void>((resolve) => {
    const timer = clock.schedule(delayMs, resolve);
    leaving.push(() => timer.cancel());
    for (const signal of signals) if (signal !== undefined) leaving.push(onAbort(signal, resolve));
  });
  for (const leave of leaving) leave();
}

/** An iterator that is opened again when it fails before its first item. */
class Reopening implements AsyncIterator<unknown> {
  readonly #open: () => AsyncIterable<unknown>;
  readonly #trying: Attempts;
  #items: AsyncIterator<unknown>;
  #begun = false;

  constructor(first: AsyncIterable<unknown>, open: () => AsyncIterable<unknown>, trying: Attempts) {
    this.#items = first[Symbol.asyncIterator]();
    this.#open = open;
    this.#trying = trying;
  }

  async next(): Promise<IteratorResult<unknown>> {
    for (;;) {
      try {
        const step = await this.#items.next();
        this.#begun = true;
        return step;
      } catch (error) {
        if (this.#begun) throw error;
        await this.#trying.again(error);
        this.#items = this.#open()[Symbol.asyncIterator]();
      }
    }
  }

  async return(): Promise<IteratorResult<unknown>> {
    await this.#items.return?.();
    return { done: true, value: undefined };
  }
}
