/** Activating what has to be there before the first demand, and what becomes of what fails. */
import { FatalError } from '../contracts/errors.js';
import { failure, messageOf, withTimeout } from './ending.js';
import { ACTIVATE_MS, type Instance } from './instance.js';
import type { PluginRun } from './loading.js';
import type { PlannedInstance } from './plan.js';
import { showProblem } from './problems.js';
import type { Waiter } from './waits.js';

export interface StartFailure {
  /** `Queue#default`, or `plugin acme.vault`. */
  readonly instance: string;
  readonly error: unknown;
  readonly policy: 'abort' | 'continue';
}

/**
 * Activates instances and loads plugins, all at once; whoever needs another waits for it. Answers what failed.
 * @param waiter for whom
 */
export async function activateAll(
  instances: readonly Instance[],
  runs: readonly PluginRun[],
  waiter: Waiter,
): Promise<StartFailure[]> {
  const settled = await Promise.allSettled([
    ...instances.map(async (instance) => instance.acquire(waiter)),
    ...runs.map((run) => loadInTime(run, waiter)),
  ]);
  const names = [
    ...instances.map(({ planned }) => ({ instance: planned.key, policy: policyOf(planned) })),
    // Those of its instances that the application cannot do without fail with it.
    ...runs.map(({ plugin }) => ({ instance: `plugin ${plugin.manifest.id}`, policy: 'continue' as const })),
  ];
  return names.flatMap((name, i) => {
    const result = settled[i];
    return result?.status === 'rejected' ? [{ ...name, error: result.reason as unknown }] : [];
  });
}

/**
 * As {@link activateAll}; but what a new configuration replaces meanwhile has not failed: what takes its place is activated.
 * @param inPlace of a key; nothing where there is none any more
 */
export async function activateInPlace(
  instances: readonly Instance[],
  runs: readonly PluginRun[],
  waiter: Waiter,
  inPlace: (key: string) => Instance | undefined,
): Promise<{ asked: readonly Instance[]; failures: StartFailure[] }> {
  const failures = await activateAll(instances, runs, waiter);
  const replaced = instances.filter((instance) => inPlace(instance.planned.key) !== instance);
  if (replaced.length === 0) return { asked: instances, failures };
  const keys = new Set(replaced.map(({ planned }) => planned.key));
  const successors = [...keys].flatMap((key) => inPlace(key) ?? []);
  const next = await activateInPlace(successors, [], waiter, inPlace);
  return {
    asked: [...instances.filter(({ planned }) => !keys.has(planned.key)), ...next.asked],
    failures: [...failures.filter(({ instance }) => !keys.has(instance)), ...next.failures],
  };
}

/** As long as the slowest of its adapters may take, who wait for it, too. */
function loadInTime(run: PluginRun, by: Waiter): Promise<unknown> {
  const { id, contributes } = run.plugin.manifest;
  const ms = Math.max(ACTIVATE_MS, ...contributes.adapters.map(({ timeouts }) => timeouts?.activateMs ?? 0));
  const late = () => failure('RC1302', `loading plugin ${id} did not finish within ${ms} ms; demanded by ${by.chain}.`);
  return withTimeout(run.load(by), ms, late);
}

/** An instance that no binding asks for is one that the application can do without. */
function policyOf({ place, onFailure }: PlannedInstance): 'abort' | 'continue' {
  return place === null ? 'continue' : onFailure;
}

export function startFailed(fatal: readonly StartFailure[]): FatalError {
  const lines = fatal.map(({ instance, error }) => `${instance}: ${messageOf(error)}`).join('\n');
  const message = `start-up failed, and the host was stopped; what it can do without, give "onFailure": "continue":\n${lines}`;
  return new FatalError('ConfigInvalid', showProblem({ code: 'RC1309', place: null, message }), {
    code: 'RC1309',
    context: { failed: fatal.map(({ instance }) => instance) },
    cause: fatal.length === 1 ? fatal[0]?.error : new AggregateError(fatal.map(({ error }) => error)),
  });
}
