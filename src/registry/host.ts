/**
 * The host: reads the configuration, plans, and gives out instances, each made when it is first asked for.
 *
 * Inversify holds bindings; the host holds instances (see container.ts).
 */
import * as check from '../contracts/arguments.js';
import type { Capability } from '../contracts/capability.js';
import type { Clock } from '../contracts/clock.js';
import type { AdapterFactory, Logger } from '../contracts/plugin.js';
import { type Outline, outlineOf } from './assembly.js';
import type { RetryPolicy } from './backoff.js';
import { type ConfigSources, loadConfig } from './config.js';
import type { Container, Newable } from './container.js';
import { discover } from './discovery.js';
import { TIMER_MS_MAX } from './ending.js';
import type { HostEvents, Unsubscribe } from './events.js';
import type { Explanation } from './explain.js';
import type { HostGraph } from './graph.js';
import type { LoadPlugin } from './loading.js';
import type { Plugin } from './manifest.js';
import { makePlan, type PlannedInstance } from './plan.js';
import type { ReconfigureReport } from './reconfiguring.js';
import type { BindingInfo, FoundPlugin, HostReport, StartReport } from './reports.js';
import { PluginHost } from './running.js';
import type { StopReport } from './shutdown.js';
import type { SignalOptions } from './signals.js';

export interface HostOptions extends ConfigSources {
  /** Where plugins and the host write. Default: warnings and errors to the console. */
  readonly logger?: Logger;
  /** How a plugin's module is imported, by its URL. Default `import()`; a port for transpilers and test runners. */
  readonly importModule?: (url: string) => Promise<unknown>;
  /**
   * How long an instance that failed is left alone: a demand before that is refused at once, with the last cause. The
   * first retry may come at once, the second `baseMs` later, then twice that, and so on up to `maxMs`. Default 100 and
   * 30,000; a `baseMs` of 0 tries at every demand.
   */
  readonly retry?: Partial<RetryPolicy>;
  /**
   * The most that `stop()` gives to all instances and plugins together, in milliseconds; each has its manifest's
   * `disposeMs` within it. Default 30,000, as long as Kubernetes waits before it kills.
   */
  readonly stopMs?: number;
  /**
   * Asks each active instance how it is, as {@link Host.checkHealth} does, and again so many milliseconds after the last
   * answer: `host.on('instance', …)` then tells of `degraded` and `active` by itself. The timer keeps no process alive.
   * Default: never.
   */
  readonly healthEveryMs?: number;
}

export interface StartOptions {
  /**
   * What to activate beside what it requires: instances of plugins with `"activation": "onStartup"` (the default), every
   * one planned, or those of certain capabilities.
   */
  readonly activate?: 'onStartup' | 'all' | readonly Omit<Capability<object>, 'door'>[];
}

export interface Host {
  /**
   * The instance that serves a capability; activated on first demand, the same one ever after.
   * @param name of the instance; default the default one
   * @throws FatalError ConfigInvalid `RC1121`: nothing provides it, and what to bind. `RC1122`: no instance of that name.
   * Whatever the adapter's factory throws. A later call tries again; RecoverableError Transient `RC1307`, with the last
   * cause, as long as that is not due (see {@link HostOptions.retry}).
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
  /** Every plugin that is listed or was found, in order of precedence, and why it is not ready where it is not. */
  plugins(): FoundPlugin[];
  /**
   * Why an instance is what it is: its adapter, the candidates that lost, where each setting came from, who needs it, who
   * demanded it first, the timings. Activates nothing.
   * @param capability the token, or its name
   * @throws FatalError ConfigInvalid `RC1121`, `RC1122`, as {@link Host.get}
   */
  explain(capability: Omit<Capability<object>, 'door'> | string, name?: string): Explanation;
  /** Who needs whom. */
  graph(): HostGraph;
  /**
   * Activates what has to be there before the first demand. Idempotent: a second call gives the first one's report, or
   * activates what it asks for on top. A host works without it, and makes each instance when it is first asked for.
   * @throws FatalError ConfigInvalid `RC1309` when an instance fails whose binding does not say `"onFailure": "continue"`;
   * the host has been stopped by then
   */
  start(options?: StartOptions): Promise<StartReport>;
  /** States and timings of plugins and instances, as plain data. Activates nothing. */
  report(): HostReport;
  /**
   * Asks each active instance how it is, and moves it between `active` and `degraded`. Activates nothing.
   * @returns the report afterwards
   */
  checkHealth(): Promise<HostReport>;
  /**
   * Calls `listener` at each change of a state: of an `instance`, a `plugin`, or the `host`.
   * @returns what ends that, a function and a `Disposable`
   */
  on<K extends keyof HostEvents>(event: K, listener: (event: HostEvents[K]) => void): Unsubscribe;
  /**
   * For development: loads the code of a plugin with `"run": "process"` anew, in a second process, which may do what the
   * `permissions` of its manifest say now. Its instances are opened there, calls under way end in the old process, and
   * whoever holds an instance goes on with it. When anything of that fails, this rejects and the old process serves on.
   * What an instance kept in its memory is gone. A plugin that was not needed yet has no code to reload; one that crashed
   * too often gets another try.
   * @throws FatalError ConfigInvalid `RELOAD_UNSUPPORTED`: the plugin runs in this process. `RELOAD_REFUSED`: its manifest
   * says now what bindings are made of; {@link Host.reconfigure} puts that into effect. `RC1107`: the manifest is not
   * valid any more. Whatever loading it and opening its instances throws.
   */
  reload(pluginId: string): Promise<void>;
  /** About optional plugins that are not there. */
  readonly warnings: readonly string[];
  /** The Inversify container, for bindings of your own. It holds no instances of adapters. */
  readonly container: Container;
  /**
   * Puts another configuration into effect, or what is in the files of the first one now. Whatever it changes, with what
   * depends on that, is made anew: first the new instances of those that are active are activated, then demands go to
   * them, then the old ones are drained and disposed. Whoever holds one of those asks the host again; `host.on` tells.
   * Code of a plugin that runs in this process stays as it was imported. Calls take turns.
   * @param changed sources that are others than before; one that is not given stays as it is, and files are read again
   * @throws FatalError ConfigInvalid with every problem of the new configuration; RecoverableError Transient `RC1310`
   * when something could not be activated. The old configuration stays in effect, with its instances
   */
  reconfigure(changed?: ConfigSources): Promise<ReconfigureReport>;
  /**
   * From now on a SIGINT, SIGTERM or SIGHUP stops the host before it ends the process; a second one ends it at once.
   * @returns what takes that back, a function and a `Disposable`
   */
  handleSignals(options?: SignalOptions): Unsubscribe;
  /**
   * Refuses new demands, drains and disposes every active instance, each after those that need it, then lets plugins
   * deactivate. One that fails or hangs does not keep the others; the report says which. Calling it again gives the same
   * report.
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
  /** How a plugin's code is brought up. Default: imported into this process. */
  readonly load?: LoadPlugin;
  /** Gives the factory of one instance, from the one that its plugin has. Default that one. */
  readonly factory?: (planned: PlannedInstance, load: () => Promise<AdapterFactory>) => Promise<AdapterFactory>;
}

/** What `createHost` does. */
export function openHost(options: HostOptions, ports: HostPorts = {}): Host {
  checkOptions(options);
  const logger = options.logger ?? CONSOLE;
  const outlineOfSources = (sources: ConfigSources) => outline(sources, ports, logger);
  return new PluginHost(outlineOfSources, { ...options, logger }, ports);
}

function outline(sources: ConfigSources, ports: HostPorts, logger: Logger): Outline {
  const config = loadConfig(sources);
  const found = discover(config);
  const discovery = { ...found, plugins: [...found.plugins, ...(ports.plugins ?? [])] };
  // Before the plan: what is left out may be what its problems come from.
  for (const warning of discovery.warnings) logger.warn(warning);
  const plan = makePlan(config, discovery);
  for (const warning of plan.warnings) logger.warn(warning);
  return outlineOf(plan, discovery);
}

export const HOST_OPTIONS = [
  'config',
  'profile',
  'set',
  'env',
  'logger',
  'importModule',
  'retry',
  'stopMs',
  'healthEveryMs',
] as const;

/** @throws FatalError SchemaViolation: not an object, an unknown key, or one of the wrong type */
function checkOptions(options: HostOptions): void {
  const { logger, importModule, retry, stopMs, healthEveryMs } = check.known('options', options, HOST_OPTIONS);
  for (const level of logger === undefined ? [] : (['debug', 'info', 'warn', 'error'] as const)) {
    if (typeof logger?.[level] !== 'function') throw check.invalid(`options.logger.${level}`, 'a function', logger);
  }
  if (importModule !== undefined && typeof importModule !== 'function') {
    throw check.invalid('options.importModule', 'a function', importModule);
  }
  const { baseMs, maxMs } = check.known('options.retry', retry, ['baseMs', 'maxMs']);
  if (baseMs !== undefined) check.integer('options.retry.baseMs', baseMs, 0);
  if (maxMs !== undefined) check.integer('options.retry.maxMs', maxMs, 0);
  if (stopMs !== undefined) check.integer('options.stopMs', stopMs, 1, TIMER_MS_MAX);
  if (healthEveryMs !== undefined) check.integer('options.healthEveryMs', healthEveryMs, 1, TIMER_MS_MAX);
}

const CONSOLE: Logger = {
  debug() {},
  info() {},
  warn: (message, context) => console.warn(...(context === undefined ? [message] : [message, context])),
  error: (message, context) => console.error(...(context === undefined ? [message] : [message, context])),
};
