/** An adapter's ways to other instances: what its manifest requires, as the plan resolved it, and nothing else. */
import * as check from '../contracts/arguments.js';
import { type Capability, checked, onShut, shut } from '../contracts/capability.js';
import { KNOWN_CAPABILITIES } from '../contracts/known.js';
import type { GetAllOptions, Instances, PluginContext } from '../contracts/plugin.js';
import { closed, failure, TIMER_MS_MAX, withTimeout } from './ending.js';
import type { Instance } from './instance.js';
import type { Plan, PlannedInstance, Requirement } from './plan.js';
import { problemsError } from './problems.js';
import { Waiter, type WaitGraph } from './waits.js';

/** What links need of the host that made them. */
export interface LinkedHost {
  readonly waits: WaitGraph;
  readonly faces: Faces;
  /** Whether the host has been stopped. */
  isStopped(): boolean;
}

/**
 * @param requires what may be asked for: what `from` requires, or a middleware that is put around it
 * @param plan the one that `from` is an instance of
 * @param instances of that plan, by key
 * @param activation of `from`, as whose demands they count while it is under way
 */
export function linksOf(
  from: PlannedInstance,
  requires: readonly Requirement[],
  plan: Plan,
  instances: ReadonlyMap<string, Instance>,
  activation: Waiter,
  host: LinkedHost,
): Pick<PluginContext, 'has' | 'get' | 'getAll'> {
  const who = `${from.key} (adapter ${from.adapter.manifest.id})`;
  const by = () => (activation.settled ? new Waiter(from.key, host.waits.current) : activation);
  const acquire = async (instance: Instance, withinMs?: number) => {
    const { key } = instance.planned;
    const late = () => failure('RC1302', `${key} was not activated within ${withinMs} ms`);
    const activating = Promise.resolve(instance.acquire(by()));
    const active = await (withinMs === undefined ? activating : withTimeout(activating, withinMs, late));
    activation.given.add(instance.planned.key);
    instances.get(from.key)?.regained(instance.planned.key);
    return active;
  };
  const required = (capability: { readonly name: string }, kinds: readonly string[], name?: string) => {
    const found = requires.find(
      (entry) =>
        entry.capability === capability.name &&
        kinds.includes(entry.kind) &&
        (entry.kind === 'many' || (entry.name ?? undefined) === name),
    );
    if (found !== undefined) {
      return { failed: found.failed, instances: found.keys.map((key) => instances.get(key) as Instance) };
    }
    const spelled = `${capability.name}${kinds.includes('many') ? '*' : name === undefined ? '' : `#${name}`}`;
    throw failure(
      'RC1304',
      `${who} asked for ${spelled}, which its manifest does not require; add "${spelled}" to "requires"`,
    );
  };
  const refuseStopped = (what: string) => {
    if (host.isStopped()) throw closed(what);
  };
  return {
    has: (capability, name) => required(checkToken(capability), ['one', 'optional'], name).instances.length > 0,
    get: async <T extends object>(capability: Capability<T>, name?: string): Promise<T> => {
      refuseStopped(checkToken(capability).name);
      const [instance] = required(capability, ['one', 'optional'], name).instances;
      if (instance === undefined) throw problemsError([plan.explainMissing(capability.name, name)]);
      return host.faces.of(capability, await acquire(instance));
    },
    getAll: async <T extends object>(capability: Capability<T>, options?: GetAllOptions): Promise<Instances<T>> => {
      refuseStopped(checkToken(capability).name);
      const { withinMs } = check.known('options', options, ['withinMs']);
      if (withinMs !== undefined) check.integer('withinMs', withinMs, 1, TIMER_MS_MAX);
      const { instances: all, failed: unservable } = required(capability, ['many']);
      const settled = await Promise.allSettled(
        all.map(async (instance) => host.faces.of(capability, await acquire(instance, withinMs))),
      );
      const failed: { name: string; error: unknown }[] = [
        ...unservable.map(({ name, problem }) => ({ name, error: problemsError([problem]) })),
        ...settled.flatMap((result, i) =>
          result.status === 'fulfilled' ? [] : [{ name: all[i]?.planned.name ?? '', error: result.reason }],
        ),
      ];
      const active = settled.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
      const names = all.filter((_, i) => settled[i]?.status === 'fulfilled').map(({ planned }) => planned.name);
      const isNone = all.length === 0 && unservable.length === 0;
      return Object.assign(active, { names, failed, absent: isNone ? plan.whyAbsent(capability.name) : null });
    },
  };
}

/** Instances behind the door of a capability that a plugin brought: only who asks has its token. */
export class Faces {
  readonly #faces = new WeakMap<object, object>();

  of<T extends object>(capability: Capability<T>, instance: object): T {
    if (KNOWN_KEYS.has(capability.key) || capability.door === DOORLESS) return instance as T;
    let face = this.#faces.get(instance);
    if (face === undefined) {
      face = checked(capability, instance as T, { adapter: capability.name });
      this.#faces.set(instance, face);
      const made = face;
      onShut(instance, () => {
        this.#faces.delete(instance);
        shut(made);
      });
    }
    return face as T;
  }
}

/** Of a token that stands for one in another process, where the door itself is put before what arrives. */
export const DOORLESS = () => ({});

const KNOWN_KEYS: ReadonlySet<symbol> = new Set(KNOWN_CAPABILITIES.map(({ key }) => key));

/** @throws FatalError SchemaViolation for anything but a capability's token, e.g. its name or key */
export function checkToken<C extends Omit<Capability<object>, 'door'>>(capability: C): C {
  if (typeof capability?.key === 'symbol' && typeof capability.id === 'string') return capability;
  throw check.invalid('capability', 'a capability itself, as in host.get(Queue)', capability);
}
