/** How things end: failures of plugins in the family's words, waits with a bound, resources let go of in order. */
import { inspect } from 'node:util';
import { FatalError, RecoverableError } from '../contracts/errors.js';
import type { Lifecycle } from '../contracts/plugin.js';
import { type ProblemCode, showProblem } from './problems.js';

/** How long disposing one instance may take, unless its manifest says otherwise. */
export const DISPOSE_MS = 5_000;

/** The refusal of a call after the host was stopped. */
export function closed(what: string): FatalError {
  return new FatalError('Internal', `${what} was asked for after the host was stopped`, { code: 'CLOSED' });
}

/** Failures that may pass by themselves; all others are a defect of the plugin. */
const PASSING: readonly ProblemCode[] = ['RC1302', 'RC1305', 'RC1308'];

/** A failure of a plugin, by its code. */
export function failure(code: ProblemCode, message: string, cause?: unknown): RecoverableError | FatalError {
  const text = showProblem({ code, place: null, message });
  return PASSING.includes(code)
    ? new RecoverableError('Transient', text, { code, cause })
    : new FatalError('PluginContract', text, { code, cause });
}

/** Of whatever a plugin throws, which may be anything; it never throws itself. */
export function messageOf(error: unknown): string {
  if (typeof error === 'object' && error !== null) {
    const { message } = error as { readonly message?: unknown };
    return typeof message === 'string' ? message : inspect(error, { depth: 0, breakLength: Number.POSITIVE_INFINITY });
  }
  return String(error);
}

/** Something to let go of. */
export interface Owned {
  dispose(): void | Promise<void>;
}

export async function disposeInstance(instance: object): Promise<void> {
  const it = instance as Lifecycle & Partial<Disposable>;
  if (typeof it[Symbol.asyncDispose] === 'function') await it[Symbol.asyncDispose]?.();
  else if (typeof it.close === 'function') await it.close();
  else if (typeof it[Symbol.dispose] === 'function') it[Symbol.dispose]?.();
}

/** Last first; one that fails does not keep the others. */
export async function disposeAll(owned: Owned[]): Promise<void> {
  const errors: unknown[] = [];
  for (const resource of owned.splice(0).reverse()) {
    try {
      await resource.dispose();
    } catch (error) {
      errors.push(error);
    }
  }
  if (errors.length === 1) throw errors[0];
  if (errors.length > 1) throw new AggregateError(errors, errors.map(messageOf).join('; '));
}

/** Waits for something to be let go of, for so long. */
export function boundDispose<T>(work: Promise<T>, doing: string, timeoutMs = DISPOSE_MS): Promise<T> {
  return withTimeout(work, timeoutMs, () =>
    failure('RC1305', `${doing} did not finish within ${timeoutMs} ms; it may still hold what it held`),
  );
}

/** Settles as `work` does, unless `signal` aborts first. */
export function abortable<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}

/** The longest that a timer of Node can wait. */
export const TIMER_MS_MAX = 2 ** 31 - 1;

/** Settles as `work` does, unless it takes longer. */
export async function withTimeout<T>(work: Promise<T>, ms: number, late: () => Error): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(late()), ms);
  });
  try {
    return await Promise.race([work, timeout]);
  } finally {
    clearTimeout(timer);
  }
}
