/** What a new plan changes of an old one: what can stay as it is, and what has to be made anew. */
import { isDeepStrictEqual } from 'node:util';
import { RecoverableError } from '../contracts/errors.js';
import type { Outline } from './assembly.js';
import { messageOf } from './ending.js';
import { edgesOf } from './graph.js';
import type { Plugin } from './manifest.js';
import type { PlannedInstance, Requirement } from './plan.js';
import { showProblem } from './problems.js';
import type { InstanceReport } from './reports.js';
import type { StopReport } from './shutdown.js';

export interface ReconfigureReport {
  /** Keys (`Queue#default`) of instances that stayed as they were. */
  readonly kept: readonly string[];
  /** Made anew: their configuration, adapter or middleware is another, or something that they require is. */
  readonly replaced: readonly string[];
  readonly added: readonly string[];
  readonly removed: readonly string[];
  /** What was activated before the switch, with its timings. */
  readonly activated: readonly InstanceReport[];
  /** How what is gone was drained and disposed; the new configuration holds all the same. */
  readonly stopped: StopReport;
  readonly tookMs: number;
}

export interface Changes {
  readonly kept: ReadonlySet<string>;
  readonly replaced: ReadonlySet<string>;
  readonly added: ReadonlySet<string>;
  readonly removed: ReadonlySet<string>;
  /** Ids of plugins whose code stays loaded. */
  readonly keptPlugins: ReadonlySet<string>;
}

/**
 * @param given keys of what an instance of the old plan was given, required or not
 * @param hasFailed whether a plugin was given up: a new configuration is a new start for it
 */
export function changesBetween(
  old: Outline,
  next: Outline,
  given: (key: string) => Iterable<string>,
  hasFailed: (plugin: string) => boolean,
): Changes {
  const keptPlugins = pluginsKept(old, next, hasFailed);
  const kept = new Set<string>();
  const seen = new Set<string>();
  // What is held is looked at first. Of a circle, which only what was given beside the plan can close, nothing is kept.
  const visit = (key: string): void => {
    if (seen.has(key)) return;
    seen.add(key);
    const [before, after] = [old.plan.instances.get(key), next.plan.instances.get(key)];
    if (after === undefined) return;
    const holds = [...edgesOf(after), ...given(key)];
    for (const needed of holds) visit(needed);
    if (before === undefined || !isSame(before, after)) return;
    const plugins = [after.adapter, ...after.middleware].map(({ plugin }) => plugin.manifest.id);
    if (plugins.every((id) => keptPlugins.has(id)) && holds.every((needed) => kept.has(needed))) kept.add(key);
  };
  for (const key of next.plan.instances.keys()) visit(key);
  const keys = [...next.plan.instances.keys()].filter((key) => !kept.has(key));
  return {
    kept,
    keptPlugins,
    replaced: new Set(keys.filter((key) => old.plan.instances.has(key))),
    added: new Set(keys.filter((key) => !old.plan.instances.has(key))),
    removed: new Set([...old.plan.instances.keys()].filter((key) => !next.plan.instances.has(key))),
  };
}

/**
 * Code in this process stays as long as it is imported from the same place: Node keeps what it has imported, and its
 * `activate()` is not to run twice. Code that runs elsewhere is started anew with a manifest that says something else, or
 * when it was given up.
 */
function pluginsKept(old: Outline, next: Outline, hasFailed: (plugin: string) => boolean): ReadonlySet<string> {
  const before = new Map(old.plugins.map((plugin) => [plugin.manifest.id, plugin]));
  const same = ({ manifest, mainUrl }: Plugin): boolean => {
    const was = before.get(manifest.id);
    if (was === undefined || was.mainUrl !== mainUrl || hasFailed(manifest.id)) return false;
    const inProcess = [was.manifest, manifest].every(({ run = 'inprocess' }) => run === 'inprocess');
    return inProcess || isDeepStrictEqual(was.manifest, manifest);
  };
  const kept = new Map(next.plugins.filter(same).map(({ manifest }) => [manifest.id, manifest]));
  const known = new Set(next.plugins.map(({ manifest }) => manifest.id));
  // One whose dependency is loaded anew is, too. Each round takes one away at least.
  for (let size = -1; size !== kept.size; ) {
    size = kept.size;
    for (const { id, dependsOn = [], optionalDependsOn = [] } of kept.values()) {
      const needed = [...dependsOn, ...optionalDependsOn].map((text) => text.replace(/@.*$/, ''));
      if (needed.some((other) => known.has(other) && !kept.has(other))) kept.delete(id);
    }
  }
  return new Set(kept.keys());
}

function isSame(a: PlannedInstance, b: PlannedInstance): boolean {
  return isDeepStrictEqual(essence(a), essence(b));
}

/** What an instance is made from. */
function essence({ adapter, config, secrets, requires, middleware }: PlannedInstance): unknown {
  const needs = (all: readonly Requirement[]) =>
    all.map(({ capability, kind, name, keys }) => [capability, kind, name, keys]);
  return [
    // A secret's configuration is its name; which store has it may be another.
    [adapter.plugin.mainUrl, adapter.manifest, config, secrets, needs(requires)],
    middleware.map((it) => [it.plugin.mainUrl, it.manifest, it.config, it.secrets, needs(it.requires)]),
  ];
}

/** What whoever waits for an instance is told when another has taken its place. */
export function replaced(key: string): RecoverableError {
  const message = `${key} was replaced by a new configuration; ask the host for it again`;
  return new RecoverableError('Transient', message, { code: 'CLOSED', retry: { kind: 'after', delayMs: 0 } });
}

export function notReplaced(
  failed: readonly { readonly instance: string; readonly error: unknown }[],
): RecoverableError {
  const lines = failed.map(({ instance, error }) => `${instance}: ${messageOf(error)}`).join('\n');
  const message = `the new configuration was not put into effect, the old one stays:\n${lines}`;
  return new RecoverableError('Transient', showProblem({ code: 'RC1310', place: null, message }), {
    code: 'RC1310',
    retry: { kind: 'never' },
    context: { failed: failed.map(({ instance }) => instance) },
    cause: failed.length === 1 ? failed[0]?.error : new AggregateError(failed.map(({ error }) => error)),
  });
}
