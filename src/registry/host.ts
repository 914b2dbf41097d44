/**
 * The host: reads the configuration, plans, and gives out instances, each made when it is first asked for.
 *
 * Inversify holds bindings; the host holds instances (see container.ts).
 */
import * as check from '../contracts/arguments.js';
import { type Capability, checked } from '../contracts/capability.js';
import { type Clock, systemClock } from '../contracts/clock.js';
import { FatalError, isCoreError } from '../contracts/errors.js';
import type { AdapterFactory, Instances, Logger, PluginContext, PluginModule } from '../contracts/plugin.js';
import { isPluginModule } from '../contracts/plugin.js';
import { type ConfigSources, loadConfig } from './config.js';
import {
  type Container,
  type ContainerBinding,
  construct,
  isTokenInjected,
  makeContainer,
  type Newable,
  resolveKey,
  unresolved,
} from './container.js';
import { boundDispose, closed, failure, Instance, type InstanceState, messageOf } from './instance.js';
import { discover, type Plugin } from './manifest.js';
import { edgesOf, KNOWN_CAPABILITIES, makePlan, nameOf, type Plan, type PlannedInstance } from './plan.js';
import { type Problem, problemsError, showProblem } from './problems.js';
import { redact } from './schema.js';
import { adapterSchema } from './schemas.js';

export interface HostOptions extends ConfigSources {
  /** Where plugins and the host write. Default: warnings and errors to the console. */
  readonly logger?: Logger;
  /** How a plugin's module is imported, by its URL. Default `import()`; a port for transpilers and test runners. */
  readonly importModule?: (url: string) => Promise<unknown>;
}

/** One planned instance, as plain data. */
export interface BindingInfo {
  readonly capability: string;
  readonly name: string;
  /** Whether it is the one meant where no name is given. */
  readonly isDefault: boolean;
  readonly adapter: string;
  readonly plugin: string;
  readonly pluginVersion: string;
  readonly state: InstanceState;
  /** As the adapter gets it: defaults filled in, paths absolute. */
  readonly config: Readonly<Record<string, unknown>>;
  /** What is put around it, outermost first. */
  readonly middleware: readonly { readonly id: string; readonly config: Readonly<Record<string, unknown>> }[];
}

export interface StopReport {
  /** Keys (`Queue#default`) of what was active, in the order in which it was disposed. */
  readonly stopped: readonly string[];
  readonly errors: readonly { readonly instance: string; readonly error: unknown }[];
}

export interface Host {
  /**
   * The instance that serves a capability; activated on first demand, the same one ever after.
   * @param name of the instance; default the default one
   * @throws FatalError ConfigInvalid `RC1121`: nothing provides it, and what to bind. `RC1122`: no instance of that name.
   * Whatever the adapter's factory throws; nothing is kept of a failure, and the next call tries again.
   */
  get<T extends object>(capability: Capability<T>, name?: string): Promise<T>;
  /** Every instance of a capability, none included. Rejects when one cannot be activated. */
  getAll<T extends object>(capability: Capability<T>): Promise<T[]>;
  /** Whether the capability has a default instance, or one of that name. Activates nothing. */
  has<T extends object>(capability: Capability<T>, name?: string): boolean;
  /**
   * Constructs a class of yours whose constructor parameters are marked `@inject(Queue.key)`, with `@named('x')` for an
   * instance other than the default and `@optional()` for one that may be missing. A new object at every call; yours.
   */
  make<T>(Class: Newable<T>): Promise<T>;
  /** Every instance planned, in the order of the configuration. */
  bindings(): BindingInfo[];
  /** About optional plugins that are not there. */
  readonly warnings: readonly string[];
  /** The Inversify container, for bindings of your own. It holds no instances of adapters. */
  readonly container: Container;
  /**
   * Disposes every active instance, each after those that need it, then lets plugins deactivate. One that fails or hangs
   * does not keep the others; the report says which. Calling it again gives the same report.
   */
  stop(): Promise<StopReport>;
  /** As {@link Host.stop}, but rejects with what failed. */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** What the test kit changes of a host; an application cannot. */
export interface HostPorts {
  /** What adapters' leases and delays run on. Default the machine's time. */
  readonly clock?: Clock;
  /** Plugins beside those that the configuration lists. */
  readonly plugins?: readonly Plugin[];
  /** Gives the factory of one instance, from the one that its plugin has. Default that one. */
  readonly factory?: (planned: PlannedInstance, load: () => Promise<AdapterFactory>) => Promise<AdapterFactory>;
}

/** What `createHost` does. */
export function openHost(options: HostOptions, ports: HostPorts = {}): Host {
  checkOptions(options);
  const logger = options.logger ?? CONSOLE;
  const config = loadConfig(options);
  const found = discover(config);
  const discovery = { ...found, plugins: [...found.plugins, ...(ports.plugins ?? [])] };
  // Before the plan: what is left out may be what its problems come from.
  for (const warning of discovery.warnings) logger.warn(warning);
  const plan = makePlan(config, discovery);
  for (const warning of plan.warnings) logger.warn(warning);
  return new PluginHost(plan, [...discovery.warnings, ...plan.warnings], options, ports);
}

/** @throws FatalError SchemaViolation: not an object, an unknown key, or one of the wrong type */
function checkOptions(options: HostOptions): void {
  if (typeof options === 'object' && options !== null && 'profile' in options) {
    throw problemsError([
      { code: 'RC1005', place: null, message: 'profile: not supported by this version; leave it out' },
    ]);
  }
  const { config, set, logger, importModule } = check.known('options', options, [
    'config',
    'set',
    'logger',
    'importModule',
  ]);
  if (config instanceof URL && config.protocol !== 'file:')
    throw check.invalid('options.config', 'a file', config.href);
  if (config === null || Array.isArray(config) || !['undefined', 'string', 'object'].includes(typeof config)) {
    throw check.invalid('options.config', 'a path or an object', config);
  }
  if (set !== undefined) check.options('options.set', set);
  for (const level of logger === undefined ? [] : (['debug', 'info', 'warn', 'error'] as const)) {
    if (typeof logger?.[level] !== 'function') throw check.invalid(`options.logger.${level}`, 'a function', logger);
  }
  if (importModule !== undefined && typeof importModule !== 'function') {
    throw check.invalid('options.importModule', 'a function', importModule);
  }
}

const CONSOLE: Logger = {
  debug() {},
  info() {},
  warn: (message, context) => console.warn(...(context === undefined ? [message] : [message, context])),
  error: (message, context) => console.error(...(context === undefined ? [message] : [message, context])),
};

class PluginHost implements Host {
  readonly logger: Logger;
  readonly warnings: readonly string[];
  readonly container: Container;
  readonly #plan: Plan;
  readonly #importModule: (url: string) => Promise<unknown>;
  readonly #instances = new Map<string, Instance>();
  readonly #modules = new Map<Plugin, Promise<PluginModule>>();
  readonly #faces = new WeakMap<object, object>();
  #stopping: Promise<StopReport> | null = null;

  constructor(plan: Plan, warnings: readonly string[], options: HostOptions, ports: HostPorts) {
    this.#plan = plan;
    this.warnings = warnings;
    this.logger = options.logger ?? CONSOLE;
    this.#importModule = options.importModule ?? ((url) => import(url));

    const modules = new Map<Plugin, ContainerBinding[]>();
    for (const [key, planned] of plan.instances) {
      const instance = new Instance(planned, {
        logger: this.logger,
        clock: ports.clock ?? systemClock,
        factory: (asked) => {
          const load = () => this.#factory(asked.adapter.plugin, asked.adapter.manifest.id);
          return ports.factory === undefined ? load() : ports.factory(asked, load);
        },
        links: (from) => this.#links(from),
      });
      this.#instances.set(key, instance);
      const { plugin, manifest } = planned.adapter;
      const bindings = modules.get(plugin) ?? [];
      modules.set(plugin, bindings);
      bindings.push({
        key: Symbol.for(`rollout-cloud/${manifest.provides}`),
        name: planned.name,
        isDefault: planned.isDefault,
        acquire: () => instance.acquire(),
      });
    }
    this.container = makeContainer(modules.values());
  }

  async get<T extends object>(capability: Capability<T>, name?: string): Promise<T> {
    this.#refuseStopped(checkToken(capability).name);
    if (name !== undefined) check.text('name', name, 1, 64);
    const found = await resolveKey(this.container, capability.key, name);
    if (found === null) throw problemsError([this.#plan.explainMissing(capability.name, name, capability.id)]);
    return this.#face(capability, found);
  }

  async getAll<T extends object>(capability: Capability<T>): Promise<T[]> {
    this.#refuseStopped(checkToken(capability).name);
    return Promise.all(this.#of(capability).map(async (instance) => this.#face(capability, await instance.acquire())));
  }

  has<T extends object>(capability: Capability<T>, name?: string): boolean {
    return this.#of(checkToken(capability)).some(({ planned }) =>
      name === undefined ? planned.isDefault : planned.name === name,
    );
  }

  async make<T>(Class: Newable<T>): Promise<T> {
    if (typeof Class !== 'function' || Class.prototype === undefined) throw check.invalid('Class', 'a class', Class);
    this.#refuseStopped(Class.name);
    try {
      return await construct(this.container, Class);
    } catch (error) {
      const missing = unresolved(error);
      if (missing === null && !isTokenInjected(error)) throw error;
      const problem: Pick<Problem, 'code' | 'message'> =
        missing?.id != null
          ? this.#plan.explainMissing(nameOf(missing.id), missing.name, missing.id)
          : {
              code: 'RC1306',
              message:
                missing === null
                  ? 'a parameter is marked with a capability; write its key: @inject(Queue.key)'
                  : messageOf(error),
            };
      const text = showProblem({ ...problem, place: null });
      throw new FatalError('ConfigInvalid', `cannot construct ${Class.name}: ${text}`, {
        code: problem.code,
        cause: error,
      });
    }
  }

  bindings(): BindingInfo[] {
    return [...this.#instances.values()].map(({ planned, state }) => ({
      capability: planned.capability,
      name: planned.name,
      isDefault: planned.isDefault,
      adapter: planned.adapter.manifest.id,
      plugin: planned.adapter.plugin.manifest.id,
      pluginVersion: planned.adapter.plugin.manifest.version,
      state,
      config: redact(adapterSchema(planned.adapter.manifest.config), planned.config),
      middleware: planned.middleware.map(({ manifest, config }) => ({
        id: manifest.id,
        config: redact(adapterSchema(manifest.config), config),
      })),
    }));
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

  async #stop(): Promise<StopReport> {
    const stopped: string[] = [];
    const errors: { instance: string; error: unknown }[] = [];
    const attempt = async (instance: string, stopIt: () => unknown) => {
      try {
        await stopIt();
      } catch (error) {
        errors.push({ instance, error });
        this.logger.error(`${instance} did not stop cleanly: ${messageOf(error)}`, { error });
      }
    };
    for (const instance of this.#dependentsFirst()) {
      if (instance.state === 'active' || instance.state === 'activating') stopped.push(instance.planned.key);
      await attempt(instance.planned.key, () => instance.stop());
    }
    for (const [plugin, loading] of [...this.#modules].reverse()) {
      const who = `plugin ${plugin.manifest.id}`;
      const deactivating = loading.catch(() => null).then((module) => module?.deactivate?.());
      await attempt(who, () => boundDispose(deactivating, `deactivating ${who}`));
    }
    return { stopped, errors };
  }

  /** Every instance after all that may ask for it: the graph has no cycles, so each is placed once. */
  #dependentsFirst(): Instance[] {
    const order = new Set<Instance>();
    const visit = (instance: Instance): void => {
      for (const key of edgesOf(instance.planned)) visit(this.#instances.get(key) as Instance);
      order.add(instance);
    };
    for (const instance of this.#instances.values()) visit(instance);
    return [...order].reverse();
  }

  #links(from: PlannedInstance): Pick<PluginContext, 'has' | 'get' | 'getAll'> {
    const who = `${from.key} (adapter ${from.adapter.manifest.id})`;
    const required = (capability: { readonly name: string }, kinds: readonly string[], name?: string) => {
      const found = from.requires.find(
        (entry) =>
          entry.capability === capability.name &&
          kinds.includes(entry.kind) &&
          (entry.kind === 'many' || (entry.name ?? undefined) === name),
      );
      if (found !== undefined) {
        return { failed: found.failed, instances: found.keys.map((key) => this.#instances.get(key) as Instance) };
      }
      const spelled = `${capability.name}${kinds.includes('many') ? '*' : name === undefined ? '' : `#${name}`}`;
      throw failure(
        'RC1304',
        `${who} asked for ${spelled}, which its manifest does not require; add "${spelled}" to "requires"`,
      );
    };
    return {
      has: (capability, name) => required(checkToken(capability), ['one', 'optional'], name).instances.length > 0,
      get: async <T extends object>(capability: Capability<T>, name?: string): Promise<T> => {
        this.#refuseStopped(checkToken(capability).name);
        const [instance] = required(capability, ['one', 'optional'], name).instances;
        if (instance === undefined) throw problemsError([this.#plan.explainMissing(capability.name, name)]);
        return this.#face(capability, await instance.acquire());
      },
      getAll: async <T extends object>(capability: Capability<T>): Promise<Instances<T>> => {
        this.#refuseStopped(checkToken(capability).name);
        const { instances, failed: unservable } = required(capability, ['many']);
        const settled = await Promise.allSettled(
          instances.map(async (instance) => this.#face(capability, await instance.acquire())),
        );
        const failed: { name: string; error: unknown }[] = [
          ...unservable.map(({ name, problem }) => ({ name, error: problemsError([problem]) })),
          ...settled.flatMap((result, i) =>
            result.status === 'fulfilled' ? [] : [{ name: instances[i]?.planned.name ?? '', error: result.reason }],
          ),
        ];
        const active = settled.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
        return Object.assign(active, { failed });
      },
    };
  }

  async #factory(plugin: Plugin, adapterId: string) {
    let loading = this.#modules.get(plugin);
    if (loading === undefined) {
      loading = this.#load(plugin);
      this.#modules.set(plugin, loading);
      // A failure is not kept. (The module system keeps a failed evaluation, though: mending it needs a new process.)
      loading.catch(() => this.#modules.delete(plugin));
    }
    const factory = (await loading).adapters[adapterId];
    if (typeof factory === 'function') return factory;
    throw failure(
      'RC1301',
      `plugin ${plugin.manifest.id}: its manifest has adapter "${adapterId}", its module has no factory for it`,
    );
  }

  async #load({ manifest, mainUrl }: Plugin): Promise<PluginModule> {
    let module: unknown;
    try {
      module = ((await this.#importModule(mainUrl)) as { default?: unknown }).default;
    } catch (error) {
      if (isCoreError(error)) throw error;
      throw failure('RC1301', `plugin ${manifest.id}: importing ${manifest.main} failed: ${messageOf(error)}`, error);
    }
    if (!isPluginModule(module)) {
      throw failure(
        'RC1301',
        `plugin ${manifest.id}: the default export of ${manifest.main} is not from definePlugin()`,
      );
    }
    try {
      await module.activate?.();
    } catch (error) {
      if (isCoreError(error)) throw error;
      throw failure('RC1301', `plugin ${manifest.id}: its activate() failed: ${messageOf(error)}`, error);
    }
    return module;
  }

  /** Behind the door of a capability that a plugin brought: only who asks has its token. */
  #face<T extends object>(capability: Capability<T>, instance: object): T {
    if (KNOWN_CAPABILITIES.some(({ key }) => key === capability.key)) return instance as T;
    let face = this.#faces.get(instance);
    if (face === undefined) {
      face = checked(capability, instance as T, { adapter: capability.name });
      this.#faces.set(instance, face);
    }
    return face as T;
  }

  #of({ id }: { readonly id: string }): Instance[] {
    return [...this.#instances.values()].filter(({ planned }) => planned.adapter.manifest.provides === id);
  }

  #refuseStopped(what: string): void {
    if (this.#stopping !== null) throw closed(what);
  }
}

/** @throws FatalError SchemaViolation for anything but a capability's token, e.g. its name or key */
function checkToken<T extends object>(capability: Capability<T>): Capability<T> {
  if (typeof capability?.key === 'symbol' && typeof capability.id === 'string') return capability;
  throw check.invalid('capability', 'a capability itself, as in host.get(Queue)', capability);
}
