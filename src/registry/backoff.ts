/** When an instance that failed is tried again, and how a demand before that is refused. */
import { isCoreError, RecoverableError } from '../contracts/errors.js';
import { shown } from './activation.js';
import { messageOf } from './ending.js';
import type { PlannedInstance } from './plan.js';
import { showProblem } from './problems.js';

/** When a failed instance is tried again: see {@link retryDelayMs}. */
export interface RetryPolicy {
  readonly baseMs: number;
  readonly maxMs: number;
}

/**
 * How long after its `attempts`-th failure in a row an instance may be tried again: at once after the first, which may
 * have been a moment's, then `baseMs`, doubled with each failure, at most `maxMs`. A hint of the error to wait longer is
 * followed. There is no jitter: demands come when callers make them, not by a clock.
 */
export function retryDelayMs(attempts: number, { baseMs, maxMs }: RetryPolicy, error: unknown): number {
  const backoffMs = attempts < 2 ? 0 : Math.min(maxMs, baseMs * 2 ** (attempts - 2));
  const hint = isCoreError(error) && error.severity === 'recoverable' ? error.retry : null;
  return hint?.kind === 'after' ? Math.max(backoffMs, hint.delayMs) : backoffMs;
}

export interface Failure {
  /** Failures in a row. */
  readonly attempts: number;
  readonly error: unknown;
  /** Milliseconds since 1970; `null` where no demand tries it again. */
  readonly retryAtMs: number | null;
}

/** Of one instance. It goes by `performance.now()`: the machine's time may be set back while a try is waited for. */
export class Backoff {
  readonly #policy: RetryPolicy;
  /** Failures with no long life between them. */
  #streak = 0;
  #retryAt = 0;
  #succeededAt = 0;
  /** The last one, where nothing went well since. */
  failure: (Failure & { readonly retryAtMs: number }) | null = null;

  constructor(policy: RetryPolicy) {
    this.#policy = policy;
  }

  succeeded(): void {
    this.failure = null;
    this.#succeededAt = performance.now();
  }

  /** Lost again and again, right after it was made, it is left alone for longer and longer; after a long life it is not. */
  lost(error: unknown): void {
    if (performance.now() - this.#succeededAt > this.#policy.maxMs) this.#streak = 0;
    this.failed(error);
  }

  failed(error: unknown): void {
    // That something it needs is not due for another try says nothing of this one.
    const waits = isCoreError(error) && error.code === 'RC1307' ? Number(error.context.retryAtMs) : null;
    if (waits === null) this.#streak++;
    const now = Date.now();
    const retryAtMs = waits ?? now + retryDelayMs(this.#streak, this.#policy, error);
    this.#retryAt = performance.now() + retryAtMs - now;
    this.failure = { attempts: Math.max(1, this.#streak), error, retryAtMs };
  }

  /** @throws RecoverableError Transient `RC1307` as long as the next try is not due */
  refuseEarly(planned: PlannedInstance): void {
    if (this.failure === null) return;
    const { attempts, error, retryAtMs } = this.failure;
    const delayMs = Math.round(this.#retryAt - performance.now());
    if (delayMs <= 0) return;
    const times = attempts === 1 ? 'once' : `${attempts} times in a row`;
    const message = `${shown(planned)} failed ${times} and is tried again on a demand after ${new Date(retryAtMs).toISOString()}, in ${delayMs} ms. The last cause: ${messageOf(error)}`;
    throw new RecoverableError('Transient', showProblem({ code: 'RC1307', place: null, message }), {
      code: 'RC1307',
      retry: { kind: 'after', delayMs },
      context: { instance: planned.key, attempts, retryAtMs },
      cause: error,
    });
  }
}
