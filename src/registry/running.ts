/** The host at work: demands, start and stop, and what it says of itself. */
import * as check from '../contracts/arguments.js';
import type { Capability } from '../contracts/capability.js';
import { systemClock } from '../contracts/clock.js';
import { FatalError } from '../contracts/errors.js';
import type { Logger } from '../contracts/plugin.js';
import { Assembly, type AssemblyHost, type Outline } from './assembly.js';
import type { ConfigSources } from './config.js';
import {
  type Container,
  type ContainerBinding,
  construct,
  HostContainer,
  type Newable,
  notConstructed,
  resolveKey,
  shownClass,
} from './container.js';
import { closed, messageOf } from './ending.js';
import { Emitter, EVENT_KINDS, type HostEvents, type HostState, type Unsubscribe } from './events.js';
import { type Explanation, explain } from './explain.js';
import { graphOf, type HostGraph } from './graph.js';
import { HealthWatch } from './health-watch.js';
import type { Host, HostOptions, HostPorts, StartOptions } from './host.js';
import type { Instance } from './instance.js';
import { checkToken, Faces } from './links.js';
import { bringUp } from './loading.js';
import { problemsError } from './problems.js';
import { type Changes, changesBetween, notReplaced, type ReconfigureReport, replaced } from './reconfiguring.js';
import { readAgain } from './reloading.js';
import {
  type BindingInfo,
  bindingInfo,
  type FoundPlugin,
  foundPlugins,
  type HostReport,
  hostReport,
  instanceReport,
  type StartReport,
} from './reports.js';
import { StopCollector, type StopReport, stopInOrder } from './shutdown.js';
import { handleSignals, type SignalOptions } from './signals.js';
import { activateAll, activateInPlace, startFailed } from './starting.js';
import { Waiter, WaitGraph } from './waits.js';

/** The most that stopping everything may take: as long as Kubernetes waits before it kills. */
const STOP_MS = 30_000;
const RETRY = { baseMs: 100, maxMs: 30_000 } as const;

const NEXT: Readonly<Record<HostState, readonly HostState[]>> = {
  created: ['planned'],
  planned: ['starting', 'running', 'stopping'],
  starting: ['running', 'stopping'],
  running: ['stopping'],
  stopping: ['stopped'],
  stopped: [],
};

export class PluginHost implements Host {
  readonly #logger: Logger;
  readonly #options: HostOptions;
  readonly #events: Emitter;
  readonly #waits = new WaitGraph();
  readonly #faces = new Faces();
  readonly #host: AssemblyHost;
  readonly #outline: (sources: ConfigSources) => Outline;
  readonly #bindings: HostContainer;
  #assembly: Assembly;
  /** Of the configuration in effect. */
  #sources: ConfigSources;
  /** A configuration that is being put into effect: what is made anew, and for whom. */
  #candidate: { readonly assembly: Assembly; readonly made: readonly Instance[]; readonly waiter: Waiter } | null =
    null;
  /** Settles, and never rejects, when no configuration is being put into effect any more. */
  #reconfiguring: Promise<unknown> = Promise.resolve();
  #state: HostState = 'created';
  #starting: Promise<StartReport> | null = null;
  /** Whether the first start has done its work. */
  #isStarted = false;
  readonly #health: HealthWatch | null;
  #stopping: Promise<StopReport> | null = null;

  constructor(
    outline: (sources: ConfigSources) => Outline,
    options: HostOptions & { readonly logger: Logger },
    ports: HostPorts,
  ) {
    this.#outline = outline;
    this.#logger = options.logger;
    this.#options = options;
    this.#sources = options;
    this.#events = new Emitter(options.logger);
    this.#host = {
      logger: options.logger,
      clock: ports.clock ?? systemClock,
      events: this.#events,
      waits: this.#waits,
      faces: this.#faces,
      retry: { ...RETRY, ...options.retry },
      importModule: options.importModule ?? ((url) => import(url)),
      load: ports.load ?? bringUp,
      factory: ports.factory ?? ((_, load) => load()),
      isStopped: () => this.#stopping !== null,
      lost: (instance, reason) => this.#each((it) => it.tellDependents(instance, reason)),
      regained: (instance) => this.#each((it) => it.tellRegained(instance)),
      failed: (plugin, error) => this.#each((it) => it.pluginFailed(plugin, error)),
    };
    this.#assembly = new Assembly(outline(options), this.#host);
    this.#bindings = new HostContainer(this.#containerModules());
    this.#moveTo('planned');
    const { healthEveryMs } = options;
    this.#health =
      healthEveryMs === undefined ? null : new HealthWatch(this.#host.clock, healthEveryMs, () => this.#askAll());
  }

  get container(): Container {
    return this.#bindings.container;
  }

  get warnings(): readonly string[] {
    return this.#assembly.outline.warnings;
  }

  // Not an async function: each promise on the way asks the instance for a `then`, and a warm demand has only these two.
  get<T extends object>(capability: Capability<T>, name?: string): Promise<T> {
    try {
      this.#demanded(checkToken(capability).name);
      if (name !== undefined) check.text('name', name, 1, 64);
      const place = this.#inPlace();
      if (place !== this.#assembly) return this.#getIn(place, capability, name);
      return resolveKey(this.container, capability.key, name).then((found) => {
        if (found !== undefined) return this.#faces.of(capability, found);
        throw problemsError([this.#assembly.outline.plan.explainMissing(capability.name, name, capability.id)]);
      });
    } catch (error) {
      return Promise.reject(error);
    }
  }

  async getAll<T extends object>(capability: Capability<T>): Promise<T[]> {
    this.#demanded(checkToken(capability).name);
    const found = this.#of(capability, this.#inPlace());
    return Promise.all(found.map(async (it) => this.#faces.of(capability, await it.acquire())));
  }

  has<T extends object>(capability: Capability<T>, name?: string): boolean {
    return this.#of(checkToken(capability)).some(isMeant(name));
  }

  async make<T>(Class: Newable<T>): Promise<T> {
    if (typeof Class !== 'function' || Class.prototype === undefined) throw check.invalid('Class', 'a class', Class);
    const name = shownClass(Class);
    this.#demanded(name);
    const { current } = this.#waits;
    const waiter = new Waiter(name, current);
    this.#waits.wait(current, waiter);
    try {
      return await this.#waits.run(waiter, () => construct(this.container, Class));
    } catch (error) {
      throw notConstructed(Class, error, this.#assembly.outline.plan);
    } finally {
      this.#waits.settle(waiter);
    }
  }

  bindings(): BindingInfo[] {
    return [...this.#assembly.instances.values()].map(bindingInfo);
  }

  plugins(): FoundPlugin[] {
    return foundPlugins(this.#assembly);
  }

  explain(capability: Omit<Capability<object>, 'door'> | string, name?: string): Explanation {
    const { plan } = this.#assembly.outline;
    const [wanted, id] =
      typeof capability === 'string' ? [capability, undefined] : [checkToken(capability).name, capability.id];
    const found = [...this.#assembly.instances.values()].filter(isMeant(name)).find(({ planned }) => {
      return id === undefined ? planned.capability === wanted : planned.adapter.manifest.provides === id;
    });
    if (found === undefined) throw problemsError([plan.explainMissing(wanted, name, id)]);
    return explain(plan, found.planned, instanceReport(found));
  }

  graph(): HostGraph {
    return graphOf(this.#assembly.outline.plan.instances);
  }

  report(): HostReport {
    // Without a start it is its first demand that brings the host up: who waits for it to be ready makes none.
    const isReady = this.#stopping === null && (this.#starting === null || this.#isStarted);
    return hostReport(this.#state, isReady, this.#assembly);
  }

  async checkHealth(): Promise<HostReport> {
    await this.#askAll();
    return this.report();
  }

  async #askAll(): Promise<void> {
    await Promise.all([...this.#assembly.instances.values()].map((instance) => instance.checkHealth()));
  }

  on<K extends keyof HostEvents>(event: K, listener: (event: HostEvents[K]) => void): Unsubscribe {
    if (typeof listener !== 'function') throw check.invalid('listener', 'a function', listener);
    const off = this.#events.on(event, listener);
    if (off === null) throw check.invalid('event', `one of ${EVENT_KINDS.join(', ')}`, event);
    return off;
  }

  async start(options: StartOptions = {}): Promise<StartReport> {
    const { activate } = check.known('options', options, ['activate']);
    if (this.#starting !== null && activate === undefined) return this.#starting;
    // What is asked for in a wrong way is no start: it is not what a later call is answered.
    const wanted = this.#wanted(activate ?? 'onStartup');
    const starting = this.#start(wanted);
    this.#starting ??= starting;
    return starting;
  }

  reconfigure(changed: ConfigSources = {}): Promise<ReconfigureReport> {
    const turn = this.#reconfiguring.then(async () => {
      if (this.#stopping !== null) throw closed('reconfigure');
      const given = check.known('changed', changed, ['config', 'profile', 'set', 'env']);
      const isGiven = ([, value]: [string, unknown]) => value !== undefined;
      const sources = { ...this.#sources, ...Object.fromEntries(Object.entries(given).filter(isGiven)) };
      const report = await this.#replace(this.#outline(sources));
      this.#sources = sources;
      return report;
    });
    this.#reconfiguring = turn.catch(() => {});
    return turn;
  }

  handleSignals(options?: SignalOptions): Unsubscribe {
    return handleSignals(() => this.stop(), this.#logger, options);
  }

  stop(): Promise<StopReport> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async close(): Promise<void> {
    const { errors } = await this.stop();
    if (errors.length > 0) {
      const message = errors.map(({ instance, error }) => `${instance}: ${messageOf(error)}`).join('; ');
      throw new AggregateError(
        errors.map(({ error }) => error),
        message,
      );
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #start(wanted: readonly Instance[]): Promise<StartReport> {
    const startedAt = performance.now();
    if (this.#stopping !== null) throw closed('start');
    if (this.#state === 'planned') this.#moveTo('starting');
    const onStartup = [...this.#assembly.runs.values()].filter(
      ({ plugin }) => plugin.manifest.activation === 'onStartup',
    );
    const inPlace = (key: string) => (this.#stopping === null ? this.#assembly.instances.get(key) : undefined);
    const { asked, failures } = await activateInPlace(wanted, onStartup, new Waiter('host.start()', null), inPlace);
    if (this.#stopping !== null) throw closed('start');
    const fatal = failures.filter(({ policy }) => policy === 'abort');
    if (fatal.length > 0) {
      await this.stop();
      throw startFailed(fatal);
    }
    this.#isStarted = true;
    if (this.#state === 'starting') this.#moveTo('running');
    for (const { instance, error } of failures) {
      this.#logger.warn(`going on without ${instance}: ${messageOf(error)}`, { error });
    }
    return {
      started: asked.filter(({ isUp }) => isUp).map(instanceReport),
      failed: failures.map(({ instance, error }) => ({ instance, error })),
      tookMs: performance.now() - startedAt,
    };
  }

  #wanted(activate: NonNullable<StartOptions['activate']>): Instance[] {
    const all = [...this.#assembly.instances.values()];
    if (activate === 'all') return all;
    if (activate === 'onStartup') {
      return all.filter(({ planned }) => planned.adapter.plugin.manifest.activation === 'onStartup');
    }
    if (!Array.isArray(activate))
      throw check.invalid('options.activate', `'onStartup', 'all' or capabilities`, activate);
    return activate.flatMap((capability) => {
      const found = this.#of(checkToken(capability));
      if (found.length > 0) return found;
      throw problemsError([this.#assembly.outline.plan.explainMissing(capability.name, undefined, capability.id)]);
    });
  }

  async #stop(): Promise<StopReport> {
    this.#moveTo('stopping');
    this.#health?.end();
    const stopping = new StopCollector(this.#options.stopMs ?? STOP_MS, this.#logger);
    // What was to take the place of others goes first, and whoever wanted to put it there tells what fails; then the rest.
    await stopInOrder(this.#candidate?.made ?? [], stopping.limitMs);
    await this.#reconfiguring;
    await stopping.all(this.#assembly.instances.values(), this.#assembly.runs.values());
    this.#moveTo('stopped');
    return stopping.report();
  }

  async reload(pluginId: string): Promise<void> {
    if (this.#stopping !== null) throw closed('reload');
    const run = this.#assembly.runs.get(pluginId);
    const known = [...this.#assembly.runs.keys()];
    if (run === undefined) throw check.invalid('pluginId', `the id of a plugin: ${known.join(', ')}`, pluginId);
    const { run: where = 'inprocess' } = run.plugin.manifest;
    if (where !== 'process') {
      const message = `plugin ${pluginId} runs in this process, where code that is imported stays; give its manifest "run": "process" to reload it, or start the host again`;
      throw new FatalError('ConfigInvalid', message, { code: 'RELOAD_UNSUPPORTED', context: { plugin: pluginId } });
    }
    const plugin = readAgain(run.plugin, this.#assembly.outline.plan.config.env);
    if (run.state !== 'ready') {
      const { reloadIsolated } = await import('./isolation/isolate.js');
      await reloadIsolated(await run.load(null), plugin);
    }
    // A new configuration that came meanwhile has read it, too.
    if (this.#assembly.runs.get(pluginId) === run) this.#assembly.renew(plugin);
  }

  /**
   * Puts another assembly in the place of the present one: activates what it makes anew of what is active, switches,
   * then lets the old go.
   */
  async #replace(outline: Outline): Promise<ReconfigureReport> {
    const startedAt = performance.now();
    const old = this.#assembly;
    const { changes, next, wanted } = await this.#prepare(outline);
    const letGo = this.#letGo();
    this.#assembly = next;
    next.adopt(changes);
    this.#bindings.change(this.#containerModules().flat());
    const gone = old.ownBy(changes);
    await letGo.all(gone.instances, gone.runs, (key) => replaced(key));
    return {
      kept: [...changes.kept],
      replaced: [...changes.replaced],
      added: [...changes.added],
      removed: [...changes.removed],
      activated: wanted.map(instanceReport),
      stopped: letGo.report(),
      tookMs: performance.now() - startedAt,
    };
  }

  /** Activates, beside the present assembly, what another one makes anew of what is active. */
  async #prepare(outline: Outline): Promise<{ changes: Changes; next: Assembly; wanted: readonly Instance[] }> {
    const old = this.#assembly;
    const given = (key: string) => old.instances.get(key)?.given ?? [];
    const compared = () =>
      changesBetween(old.outline, outline, given, (plugin) => old.runs.get(plugin)?.state === 'failed');
    const changes = compared();
    const next = new Assembly(outline, this.#host, old, changes);
    const made = next.ownBy(changes);
    const wanted = made.instances.filter(({ planned }) => {
      const onStartup = planned.adapter.plugin.manifest.activation === 'onStartup' && this.#starting !== null;
      return onStartup || old.instances.get(planned.key)?.isUp === true;
    });
    const waiter = new Waiter('host.reconfigure()', null);
    this.#candidate = { assembly: next, made: made.instances, waiter };
    const failed = await activateAll(wanted, [], waiter);
    this.#candidate = null;
    // What is kept and came up meanwhile may hold, beside the plan, what was to be replaced: then it is not kept.
    const holds = compared().kept.size === changes.kept.size;
    if (failed.length === 0 && holds && this.#stopping === null) return { changes, next, wanted };
    await this.#letGo().all(made.instances, made.runs);
    if (this.#stopping !== null) throw closed('reconfigure');
    if (failed.length > 0) throw notReplaced(failed);
    return this.#prepare(outline);
  }

  #letGo(): StopCollector {
    return new StopCollector(this.#options.stopMs ?? STOP_MS, this.#logger);
  }

  /** The assembly in place, and the one that is to take it. */
  #each(tell: (assembly: Assembly) => void): void {
    tell(this.#assembly);
    if (this.#candidate !== null) tell(this.#candidate.assembly);
  }

  /** For whoever asks: what is made anew holds what is made anew with it, and not what goes with the old. */
  #inPlace(): Assembly {
    if (this.#candidate !== null) {
      const { assembly, waiter } = this.#candidate;
      for (let it = this.#waits.current; it !== null; it = it.by) if (it === waiter) return assembly;
    }
    return this.#assembly;
  }

  /** What is made anew may be called otherwise than what the container knows, and there may be none any more. */
  async #getIn<T extends object>(place: Assembly, capability: Capability<T>, name?: string): Promise<T> {
    const found = this.#of(capability, place).find(isMeant(name));
    if (found !== undefined) return this.#faces.of(capability, await found.acquire());
    throw problemsError([place.outline.plan.explainMissing(capability.name, name, capability.id)]);
  }

  #of({ id }: { readonly id: string }, { instances } = this.#assembly): Instance[] {
    return [...instances.values()].filter(({ planned }) => planned.adapter.manifest.provides === id);
  }

  /** A host that is not started starts with its first demand, without what wants to be there on start-up. */
  #demanded(what: string): void {
    if (this.#stopping !== null) throw closed(what);
    if (this.#state === 'planned') this.#moveTo('running');
  }

  /** The only place the state changes. */
  #moveTo(to: HostState): void {
    const from = this.#state;
    if (!NEXT[from].includes(to)) throw new FatalError('Internal', `the host cannot go from ${from} to ${to}`);
    this.#state = to;
    this.#events.emit('host', { from, to });
  }

  /** The bindings of each plugin. They name instances, so that another may take the place of one. */
  #containerModules(): ContainerBinding[][] {
    const modules = new Map<string, ContainerBinding[]>();
    for (const [id, { planned }] of this.#assembly.instances) {
      const { adapter, name, isDefault } = planned;
      const plugin = adapter.plugin.manifest.id;
      const bindings = modules.get(plugin) ?? [];
      modules.set(plugin, bindings);
      const key = Symbol.for(`rollout-cloud/${adapter.manifest.provides}`);
      bindings.push({
        id,
        key,
        name,
        isDefault,
        acquire: () => (this.#inPlace().instances.get(id) ?? (this.#assembly.instances.get(id) as Instance)).acquire(),
      });
    }
    return [...modules.values()];
  }
}

/** Of the instances of a capability: the one of that name, or the default. */
function isMeant(name: string | undefined): (instance: Instance) => boolean {
  return ({ planned }) => (name === undefined ? planned.isDefault : planned.name === name);
}
