/** A test host whose one binding under test has middleware, on fakes or the real local adapters. */
import type { MiddlewareContext } from '../../../src/contracts/index.js';
import { RecoverableError, type RetryHint, systemClock } from '../../../src/contracts/index.js';
import { createTestHost, type TestHost } from '../../../src/testing/index.js';
import { importModule } from '../../support/import-module.js';

const LOCAL = {
  Storage: { adapter: 'local.memory' },
  Queue: { adapter: 'local.in-mem' },
  SecretStore: { adapter: 'local.env', config: { allowlist: ['A', 'B'] } },
};

/** The clock stands: what waits, waits until it is moved. */
export async function hostWith(
  capability: keyof typeof LOCAL,
  middleware: readonly unknown[],
  logged: string[] = [],
): Promise<TestHost> {
  const bindings = { ...LOCAL, [capability]: { ...LOCAL[capability], middleware: middleware as string[] } };
  const note = (text: string, more?: object) => logged.push(`${text} ${JSON.stringify(more ?? {})}`);
  const logger = { debug: note, info: note, warn: note, error: note };
  const t = await createTestHost({ importModule, config: { bindings }, logger });
  t.clock.freeze();
  return t;
}

export function transient(
  retry: RetryHint = { kind: 'after', delayMs: 1_000 },
  kind: 'Transient' | 'Throttled' = 'Transient',
) {
  return new RecoverableError(kind, 'the disk had a moment', { code: 'IO_ERROR', retry });
}

/** A context for a middleware without a host. */
export function contextOf<C>(capability: string, config: C): MiddlewareContext<C> {
  const nothing = () => {};
  return {
    id: 'under test',
    name: 'default',
    adapter: 'test.fake',
    capability,
    config,
    signal: new AbortController().signal,
    logger: { debug: nothing, info: nothing, warn: nothing, error: nothing },
    clock: systemClock,
    has: () => false,
    get: () => Promise.reject(new Error('nothing is required')),
    getAll: () => Promise.reject(new Error('nothing is required')),
    own: (resource) => resource,
    report: nothing,
  };
}

/** Whether it has settled once what is in memory has. */
export async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  const settle = () => {
    settled = true;
  };
  promise.then(settle, settle);
  for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  return settled;
}
