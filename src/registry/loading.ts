/**
 * One plugin's code: loaded when the first of its adapters is asked for, deactivated when the host stops.
 *
 * ```
 * ready ──> loading ──> loaded ──> stopped   (also from ready, when it was never needed)
 *   ^          │           │ ^
 *   └──────────┘           v │ reloaded
 *    did not load:        failed ──> stopped   (what runs it gave it up)
 *    nothing is kept, the next demand loads anew
 * ```
 * What a plugin is before that (disabled, not installed, for another version) the plan says.
 */
import { isCoreError } from '../contracts/errors.js';
import type { Logger, PluginModule } from '../contracts/plugin.js';
import { isPluginModule } from '../contracts/plugin.js';
import { abortable, boundDispose, closed, DISPOSE_MS, failure, messageOf } from './ending.js';
import type { Emitter } from './events.js';
import type { Plugin } from './manifest.js';
import { Waiter, type WaitGraph } from './waits.js';

export type PluginState = 'ready' | 'loading' | 'loaded' | 'failed' | 'stopped';

const NEXT: Readonly<Record<PluginState, readonly PluginState[]>> = {
  ready: ['loading', 'stopped'],
  loading: ['ready', 'loaded', 'stopped'],
  loaded: ['failed', 'stopped'],
  failed: ['loaded', 'stopped'],
  stopped: [],
};

/** What a loader is given beside the plugin. */
export interface LoadContext {
  readonly logger: Logger;
  /** Aborted when the plugin is stopped: a load under way ends, and so does whatever it started. */
  readonly signal: AbortSignal;
  readonly importModule: (url: string) => Promise<unknown>;
  /** The configurations of the instances that are planned of it: paths in them may be granted to it. */
  readonly configs: readonly Readonly<Record<string, unknown>>[];
  /** Tells that the plugin serves nobody any more, and why; with `null`, that it does again. */
  failed(error: Error | null): void;
}

/**
 * Brings a plugin's code up, wherever it is to run, and answers its module: factories by adapter id, and the hooks
 * `activate` and `deactivate`. {@link importPlugin} answers the plugin's own; a loader that runs the plugin elsewhere
 * answers one whose factories return stand-ins, ends what it started in `deactivate`, and tells of an instance that is
 * gone through its context's `report({ status: 'lost', … })`, after which the next demand calls the factory again.
 */
export type LoadPlugin = (plugin: Plugin, context: LoadContext) => Promise<PluginModule>;

/** Imports the plugin into this process. */
export const importPlugin: LoadPlugin = async ({ manifest, mainUrl }, { importModule, signal }) => {
  let module: unknown;
  try {
    // An import that never ends cannot be ended either: nobody waits for it once the plugin is stopped.
    module = ((await abortable(importModule(mainUrl), signal)) as { default?: unknown }).default;
  } catch (error) {
    if (isCoreError(error)) throw error;
    throw failure('RC1301', `plugin ${manifest.id}: importing ${manifest.main} failed: ${whyNotLoaded(error)}`, error);
  }
  if (isPluginModule(module)) return module;
  const message = `plugin ${manifest.id}: the default export of ${manifest.main} is not from definePlugin()`;
  throw failure('RC1301', message);
};

/** What the loader says, and what to do where it met TypeScript that this version of Node does not run. */
export function whyNotLoaded(error: unknown): string {
  const message = messageOf(error);
  const { code } = Object(error) as { readonly code?: unknown };
  const isUnknown = code === 'ERR_UNKNOWN_FILE_EXTENSION' && /"\.[cm]?tsx?"/.test(message);
  if (!isUnknown && !TYPESCRIPT_REFUSALS.has(code)) return message;
  const what = `Node ${process.versions.node} does not run this TypeScript`;
  return `${message}; ${what}: compile it, and name the JavaScript as "main" in the manifest`;
}

/** Enums and the like, which have to be compiled; any TypeScript in node_modules. */
const TYPESCRIPT_REFUSALS: ReadonlySet<unknown> = new Set([
  'ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX',
  'ERR_UNSUPPORTED_NODE_MODULES_TYPE_STRIPPING',
]);

/** Wherever its manifest says that it runs. Of other processes nothing is imported before a plugin wants one. */
export const bringUp: LoadPlugin = async (plugin, context) => {
  if (plugin.manifest.run !== 'process') return importPlugin(plugin, context);
  const { isolatePlugin } = await import('./isolation/isolate.js');
  return isolatePlugin(plugin, context);
};

/** What a plugin's run needs of its host. */
export interface LoadingHost {
  readonly logger: Logger;
  readonly events: Emitter;
  readonly waits: WaitGraph;
  readonly importModule: (url: string) => Promise<unknown>;
  readonly load: LoadPlugin;
  /** The plugins that `plugin` depends on and that are there: they are loaded before it. */
  dependencies(plugin: Plugin): readonly PluginRun[];
  /** See {@link LoadContext.configs}. */
  configs(plugin: Plugin): readonly Readonly<Record<string, unknown>>[];
  /** Called when a plugin that was loaded serves nobody any more, and with `null` when it does again. */
  failed(plugin: string, error: Error | null): void;
}

export class PluginRun {
  plugin: Plugin;
  readonly #host: LoadingHost;
  readonly #life = new AbortController();
  #state: PluginState = 'ready';
  #loading: { readonly promise: Promise<PluginModule>; readonly waiter: Waiter } | null = null;
  /** How long the import and the plugin's `activate()` took, in milliseconds. */
  loadMs: number | null = null;
  /** Why it serves nobody, though it was loaded. */
  failure: Error | null = null;

  constructor(plugin: Plugin, host: LoadingHost) {
    this.plugin = plugin;
    this.#host = host;
  }

  get state(): PluginState {
    return this.#state;
  }

  /** The module; loaded once, whoever asks. */
  load(by: Waiter | null): Promise<PluginModule> {
    if (this.#state === 'stopped') return Promise.reject(closed(`plugin ${this.plugin.manifest.id}`));
    this.#loading ??= this.#begin(by);
    try {
      this.#host.waits.wait(by, this.#loading.waiter);
    } catch (error) {
      return Promise.reject(error);
    }
    return this.#loading.promise;
  }

  /**
   * Lets the plugin deactivate, if it was loaded; rejects when that fails or takes too long.
   * @param limitMs the most that it may take, if that is less than what everything has to be disposed of in
   */
  async stop(limitMs = DISPOSE_MS): Promise<void> {
    if (this.#state === 'stopped') return;
    const who = `plugin ${this.plugin.manifest.id}`;
    this.#life.abort(closed(who));
    const loading = this.#loading?.promise.catch(() => null);
    const deactivating = loading?.then((module) => module?.deactivate?.());
    try {
      if (deactivating !== undefined)
        await boundDispose(deactivating, `deactivating ${who}`, Math.min(limitMs, DISPOSE_MS));
    } finally {
      this.#moveTo('stopped');
    }
  }

  #begin(by: Waiter | null) {
    const { waits } = this.#host;
    const waiter = new Waiter(`plugin ${this.plugin.manifest.id}`, by);
    this.#moveTo('loading');
    const promise = waits.run(waiter, () => this.#load(waiter)).finally(() => waits.settle(waiter));
    promise.then(
      () => this.#state === 'loading' && this.#moveTo('loaded'),
      (error) => {
        // A failure is not kept. (The module system keeps a failed evaluation, though: mending it needs a new process.)
        if (this.#state !== 'loading') return;
        this.#loading = null;
        this.#moveTo('ready', error);
      },
    );
    return { promise, waiter };
  }

  async #load(waiter: Waiter): Promise<PluginModule> {
    const { load, logger, importModule } = this.#host;
    for (const dependency of this.#host.dependencies(this.plugin))
      await abortable(dependency.load(waiter), this.#life.signal);
    const startedAt = performance.now();
    const configs = this.#host.configs(this.plugin);
    const failed = (error: Error | null) => this.#failed(error);
    const module = await load(this.plugin, { logger, importModule, configs, signal: this.#life.signal, failed });
    try {
      await module.activate?.();
    } catch (error) {
      if (isCoreError(error)) throw error;
      const { id } = this.plugin.manifest;
      throw failure('RC1301', `plugin ${id}: its activate() failed: ${messageOf(error)}`, error);
    }
    this.loadMs = performance.now() - startedAt;
    return module;
  }

  #failed(error: Error | null): void {
    if (this.#state !== (error === null ? 'failed' : 'loaded')) return;
    this.failure = error;
    this.#moveTo(error === null ? 'loaded' : 'failed', error ?? undefined);
    this.#host.failed(this.plugin.manifest.id, error);
  }

  /** The only place the state changes. */
  #moveTo(to: PluginState, error?: unknown): void {
    const from = this.#state;
    if (!NEXT[from].includes(to)) throw new Error(`plugin ${this.plugin.manifest.id} cannot go from ${from} to ${to}`);
    this.#state = to;
    this.#host.events.emit('plugin', {
      plugin: this.plugin.manifest.id,
      from,
      to,
      ...(error !== undefined && { error }),
    });
  }
}
