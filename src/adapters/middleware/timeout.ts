/**
 * `timeout`: rejects a call that does not answer in time, and aborts its signal where the contract has one.
 *
 * An adapter without a signal to listen to goes on all the same, and may answer late. Nothing is lost by that: a late
 * stream is cancelled, a late lock freed, late items of a queue are given back.
 *
 * Of an iterable, each item has the time, and so has its end (`return()`); a `watch` waits by its nature, and has none. Of
 * `getStream` it is the opening; of `receive` it is what comes on top of its `waitMs`.
 */
import { type Call, decorate } from '../../contracts/decorate.js';
import { RecoverableError } from '../../contracts/errors.js';
import type { MiddlewareContext } from '../../contracts/plugin.js';
import type { Queue, QueueItem, ReceiveOptions } from '../../contracts/queue.js';
import { CallSignal, checkMethods, takesSignal } from './methods.js';

export interface TimeoutConfig {
  readonly timeoutMs: number;
  /** By method; 0 for none. */
  readonly methods: Readonly<Record<string, number>>;
}

export function timeout<T extends object>(inner: T, context: MiddlewareContext<TimeoutConfig>): T {
  const { capability, config, clock, adapter, logger } = context;
  checkMethods(context, Object.keys(config.methods));
  const limitOf = ({ method, args }: Call): number => {
    const ms = config.methods[method] ?? config.timeoutMs;
    const isReceive = capability === 'Queue@1' && method === 'receive' && ms > 0;
    return isReceive ? ms + ((args[0] as ReceiveOptions).waitMs ?? 0) : ms;
  };

  /** What `start` comes to, unless that takes longer; `late` is handed what it comes to after that. */
  const within = <R>(
    method: string,
    limitMs: number,
    start: () => Promise<R>,
    expire: (error: Error) => void,
    late: (answer: R) => unknown,
  ): Promise<R> =>
    new Promise((resolve, reject) => {
      let expired = false;
      const timer = clock.schedule(limitMs, () => {
        expired = true;
        const error = new RecoverableError(
          'Transient',
          `${capability} ${method} (adapter ${adapter}) did not answer within ${limitMs} ms`,
          { code: 'TIMEOUT', context: { capability, method, adapter, timeoutMs: limitMs } },
        );
        // First: an adapter that rejects with the signal's reason is not to be quicker.
        reject(error);
        expire(error);
      });
      start().then(
        (answer) => {
          timer.cancel();
          if (!expired) return resolve(answer);
          Promise.resolve(late(answer)).catch((error: unknown) => {
            logger.warn(`a late answer of ${capability} ${method} (adapter ${adapter}) could not be let go of`, {
              error,
            });
          });
        },
        (error) => {
          timer.cancel();
          reject(error);
        },
      );
    });

  return decorate(capability, inner, {
    async call(call, proceed) {
      const limitMs = limitOf(call);
      if (limitMs === 0) return proceed();
      // Only where it is heard: a controller costs more than all the rest (bench/host.ts: 13 µs a call with it, 5 without).
      const signal = takesSignal(capability, call.method) ? new CallSignal(call) : null;
      const unlink = signal?.link();
      try {
        return await within(
          call.method,
          limitMs,
          () => proceed(signal?.args),
          (error) => signal?.abort(error),
          (answer) => letGo(capability, inner, call.method, answer),
        );
      } finally {
        unlink?.();
      }
    },

    iterate(call, proceed) {
      const limitMs = limitOf(call);
      if (limitMs === 0 || (capability === 'Storage@1' && call.method === 'watch')) return proceed();
      const signal = takesSignal(capability, call.method) ? new CallSignal(call) : null;
      const source = proceed(signal?.args);
      return {
        [Symbol.asyncIterator]() {
          const items = source[Symbol.asyncIterator]();
          const unlink = signal?.link();
          return {
            async next() {
              try {
                const step = await within(
                  call.method,
                  limitMs,
                  async () => items.next(),
                  (error) => {
                    signal?.abort(error);
                    // Nobody will: it ends as soon as it gets unstuck.
                    void Promise.resolve(items.return?.()).catch(() => {});
                  },
                  () => {},
                );
                if (step.done) unlink?.();
                return step;
              } catch (error) {
                unlink?.();
                throw error;
              }
            },
            async return() {
              try {
                // One whose next item hangs may not come to its end before that does.
                const ending = async () => items.return?.();
                const expire = (error: Error) => signal?.abort(error);
                const end = await within(call.method, limitMs, ending, expire, () => {});
                return end ?? { done: true, value: undefined };
              } finally {
                unlink?.();
              }
            },
          };
        },
      };
    },
  });
}

/** The answer of a call that nobody waits for any more. */
async function letGo(capability: string, inner: object, method: string, answer: unknown): Promise<void> {
  if (capability === 'Queue@1' && TAKING.has(method)) {
    const items = [answer ?? []].flat() as QueueItem[];
    // The newest first, as each goes first in line: the oldest is then the first.
    for (const { id, token } of items.reverse()) await (inner as Queue).nack(id, token);
  } else if (answer instanceof ReadableStream) await answer.cancel();
  else await (answer as Partial<AsyncDisposable> | null | undefined)?.[Symbol.asyncDispose]?.();
}

const TAKING = new Set(['dequeue', 'dequeueWithLease', 'dequeueMany', 'receive']);
