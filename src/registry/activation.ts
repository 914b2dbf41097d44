/** How one instance is made: its plugin's factory, the contract's door, the binding's middleware, its first health. */
import { capability, checked, guarded, onShut, shut } from '../contracts/capability.js';
import type { Clock } from '../contracts/clock.js';
import { isCoreError } from '../contracts/errors.js';
import { KNOWN_CAPABILITIES } from '../contracts/known.js';
import type { AdapterFactory, Health, Lifecycle, Logger, PluginContext } from '../contracts/plugin.js';
import { Storage } from '../contracts/storage.js';
import { blame } from './blame.js';
import { disposeAll, disposeInstance, failure, messageOf, type Owned } from './ending.js';
import type { PlannedInstance } from './plan.js';
import { Redactor } from './redaction.js';
import type { Waiter } from './waits.js';

/** What an activation needs of the host. */
export interface ActivationHost {
  readonly logger: Logger;
  readonly clock: Clock;
  /** Imports the plugin if that has not happened, and gives the adapter's factory. */
  factory(planned: PlannedInstance, by: Waiter): Promise<AdapterFactory>;
  /**
   * The configuration with the text of its secrets, whose stores are activated first.
   * @param learn is told each text that is not to be shown
   */
  settings(planned: PlannedInstance, by: Waiter, learn: (secret: string) => void): Promise<Record<string, unknown>>;
  /** The context's ways to other instances. */
  links(planned: PlannedInstance, by: Waiter): Pick<PluginContext, 'has' | 'get' | 'getAll'>;
  /**
   * Puts the binding's middleware round an instance that stands behind its contract's door; the result is what callers
   * get. What a wrapper has to be rid of it hands to `context.own`: that is released before the instance is disposed.
   */
  wrap(
    instance: object,
    planned: PlannedInstance,
    context: PluginContext,
    by: Waiter,
    learn: (secret: string) => void,
  ): Promise<object>;
}

/** Milliseconds that the parts of the last activation took. */
export interface Timings {
  /** Waiting for the plugin's code, which is loaded by the first to need it. */
  readonly loadMs: number;
  /** The factory, and with it the instances it asked for, where they were not active. */
  readonly factoryMs: number;
  readonly healthMs: number;
}

/** What an activation has made so far, in the order in which it was made. */
export class Made {
  /** By the factory's context: released after the instance is disposed. */
  readonly owned: Owned[] = [];
  /** Behind its contract's door once it has one, without middleware. */
  instance: object | null = null;
  /** By middleware: released before the instance is disposed. */
  readonly outer: Owned[] = [];
  /** What callers get: the instance, with its middleware. */
  active: object | null = null;
  /** Knows the secrets that it was given, its middleware's among them. */
  readonly redactor = new Redactor();

  /** Whoever still has it is refused from now on. */
  async dispose(): Promise<void> {
    const { active, instance } = this;
    if (active !== null) shut(active);
    this.active = null;
    this.instance = null;
    const own = instance === null ? [] : [{ dispose: () => end(instance) }];
    try {
      await disposeAll([...this.owned.splice(0), ...own, ...this.outer.splice(0)]);
    } catch (error) {
      throw this.redactor.clear(error);
    }
  }
}

function end(instance: object): Promise<void> {
  shut(instance);
  return disposeInstance(instance);
}

/**
 * @param made is filled on the way, so that what there is can be let go of when the way ends early
 * @param signal ends it; a factory that answers after that has done so in vain
 */
export async function activate(
  planned: PlannedInstance,
  host: ActivationHost,
  made: Made,
  { signal, by, report }: { signal: AbortSignal; by: Waiter; report: PluginContext['report'] },
): Promise<{ active: object; health: Health | undefined; timings: Timings }> {
  const startedAt = performance.now();
  const factory = await host.factory(planned, by);
  const loadedAt = performance.now();
  const { redactor } = made;
  const context: PluginContext = {
    id: planned.adapter.manifest.id,
    name: planned.name,
    config: await host.settings(planned, by, redactor.learn),
    signal,
    logger: redactor.logger(host.logger),
    clock: host.clock,
    ...host.links(planned, by),
    own: ownInto(made.owned),
    report: (health) => report(redactor.clear(health)),
  };
  signal.throwIfAborted();
  try {
    return await makeIn(context, factory, planned, host, made, { by, startedAt, loadedAt });
  } catch (thrown) {
    const error = redactor.clear(thrown);
    blame(error, planned);
    throw error;
  }
}

async function makeIn(
  context: PluginContext,
  factory: AdapterFactory,
  planned: PlannedInstance,
  host: ActivationHost,
  made: Made,
  { by, startedAt, loadedAt }: { by: Waiter; startedAt: number; loadedAt: number },
): Promise<{ active: object; health: Health | undefined; timings: Timings }> {
  const { signal } = context;
  made.instance = await ask(planned, factory, context);
  signal.throwIfAborted();
  made.instance = behindDoor(planned, made.instance);
  const active = await host.wrap(
    made.instance,
    planned,
    { ...context, own: ownInto(made.outer) },
    by,
    made.redactor.learn,
  );
  made.active = active;
  const madeAt = performance.now();
  const health = await healthOf(planned, made.instance, signal);
  return {
    active,
    health,
    timings: { loadMs: loadedAt - startedAt, factoryMs: madeAt - loadedAt, healthMs: performance.now() - madeAt },
  };
}

async function ask(planned: PlannedInstance, factory: AdapterFactory, context: PluginContext): Promise<object> {
  let answer: unknown;
  try {
    answer = await factory(context);
  } catch (error) {
    if (isCoreError(error)) throw error;
    throw failure('RC1303', `activation of ${shown(planned)} failed: ${messageOf(error)}`, error);
  }
  if (typeof answer === 'object' && answer !== null) return answer;
  const found = answer === null ? 'null' : typeof answer;
  throw failure('RC1303', `the factory of ${shown(planned)} answered ${found}, not an object`);
}

function ownInto(list: Owned[]): PluginContext['own'] {
  return (resource, dispose) => {
    list.push({ dispose: () => dispose(resource) });
    return resource;
  };
}

/** A contract without a door: all that `checked` does for it is that an instance is closed once. */
const ANY = capability('any', { major: 1 });

export function closedOnce({ adapter }: PlannedInstance, instance: object): object {
  return checked(ANY, instance, { adapter: adapter.manifest.id });
}

/** The door of a capability that a plugin brought is put up by whoever asks: only they have its token. */
export function behindDoor(planned: PlannedInstance, instance: object): object {
  const { id, provides, features } = planned.adapter.manifest;
  const token = KNOWN_CAPABILITIES.find((known) => known.id === provides);
  if (token !== undefined) {
    const traits = { adapter: id, ...(features !== undefined && { features }) };
    const door = checked(token, instance, traits);
    return door === instance ? guarded<object, object>(token, instance, traits) : door;
  }
  if (planned.middleware.length > 0 || BARE.has(instance)) return closedOnce(planned, instance);
  BARE.add(instance);
  onShut(instance, () => BARE.delete(instance));
  return instance;
}

/** Handed out as they are. One that a factory answers again is another object each time: they end one by one. */
const BARE = new WeakSet<object>();

/** As the instance says itself; nothing where it has no `health()`, or nothing to say. */
export async function healthOf(
  planned: PlannedInstance,
  instance: object,
  signal: AbortSignal,
): Promise<Health | undefined> {
  const { health } = instance as Lifecycle;
  if (typeof health !== 'function') return undefined;
  const answer: unknown = await health.call(instance, signal);
  if (answer === undefined) return undefined;
  if (isHealth(answer)) return answer;
  throw failure('RC1303', `health() of ${shown(planned)} answered neither { status: 'ok' } nor 'degraded'`);
}

export function isHealth(answer: unknown): answer is Health {
  const { status, reason } = (answer ?? {}) as Partial<Health>;
  return (status === 'ok' || status === 'degraded') && (reason === undefined || typeof reason === 'string');
}

/** As {@link healthOf}; one that says nothing itself is asked for a sign of life, where its contract has one. */
export async function lifeOf(
  planned: PlannedInstance,
  instance: object,
  signal: AbortSignal,
): Promise<Health | undefined> {
  const health = await healthOf(planned, instance, signal);
  if (health !== undefined || planned.adapter.manifest.provides !== Storage.id) return health;
  await (instance as Storage).ping();
  return { status: 'ok' };
}

/** `Queue#default (adapter local.in-mem)` */
export function shown({ key, adapter }: PlannedInstance): string {
  return `${key} (adapter ${adapter.manifest.id})`;
}
