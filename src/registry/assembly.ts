/**
 * A plan brought to life: an instance for each one planned and a run for each plugin. Nothing is loaded or activated
 * here. A host has one assembly; while a new configuration is put into effect there is a second one, which shares what
 * has not changed.
 */
import type { Clock } from '../contracts/clock.js';
import type { AdapterFactory, MiddlewareFactory } from '../contracts/plugin.js';
import type { RetryPolicy } from './backoff.js';
import type { Discovery, PluginInfo } from './discovery.js';
import { failure } from './ending.js';
import { Instance, type InstanceHost } from './instance.js';
import { type LinkedHost, linksOf } from './links.js';
import { type LoadingHost, PluginRun } from './loading.js';
import type { Plugin } from './manifest.js';
import { type Plan, type PlannedInstance, type PlannedMiddleware, wrappersIn } from './plan.js';
import type { Changes } from './reconfiguring.js';
import type { JsonSchema } from './schemas.js';
import { type PlannedSecret, reveal } from './secrets.js';
import type { Waiter } from './waits.js';
import { wrapInstance } from './wrapping.js';

/** A plan, and what it was made from. */
export interface Outline {
  readonly plan: Plan;
  readonly plugins: readonly Plugin[];
  /** Those that are listed or were found and are not ready, and why. */
  readonly missing: readonly PluginInfo[];
  readonly warnings: readonly string[];
}

export function outlineOf(plan: Plan, { plugins, wrappers, infos, warnings }: Discovery): Outline {
  const missing = infos.filter(({ state }) => state !== 'ready' && state !== 'discovered');
  // Of built-in plugins that are not listed, those whose middleware is put round anything.
  const used = wrappersIn(plan);
  return {
    plan,
    plugins: [...plugins, ...wrappers.filter((plugin) => used.has(plugin))],
    missing,
    warnings: [...warnings, ...plan.warnings],
  };
}

/** What an assembly needs of its host. */
export interface AssemblyHost extends Omit<LoadingHost, 'dependencies' | 'configs'>, LinkedHost {
  readonly clock: Clock;
  readonly retry: RetryPolicy;
  /** Called after an instance was lost: those that hold it, of whichever assembly is in place, should be told. */
  lost(instance: Instance, reason: string): void;
  regained(instance: Instance): void;
  /** Gives the factory of one instance, from the one that its plugin has. */
  factory(planned: PlannedInstance, load: () => Promise<AdapterFactory>): Promise<AdapterFactory>;
}

export class Assembly {
  #outline: Outline;
  readonly instances = new Map<string, Instance>();
  /** By the plugin's id. */
  readonly runs = new Map<string, PluginRun>();

  /**
   * @param previous of which what has not changed is taken over
   */
  constructor(outline: Outline, host: AssemblyHost, previous?: Assembly, changes?: Changes) {
    this.#outline = outline;
    const loading: LoadingHost = {
      ...host,
      dependencies: (plugin) => this.#dependencies(plugin),
      configs: ({ manifest: { id } }) =>
        [...outline.plan.instances.values()]
          .flatMap(({ adapter: { plugin }, config, middleware }) => [{ plugin, config }, ...middleware])
          .flatMap(({ plugin, config }) => (plugin.manifest.id === id ? [config] : [])),
    };
    for (const plugin of outline.plugins) {
      const { id } = plugin.manifest;
      const kept = changes?.keptPlugins.has(id) ? previous?.runs.get(id) : undefined;
      this.runs.set(id, kept ?? new PluginRun(plugin, loading));
    }
    const forInstances: InstanceHost = {
      ...host,
      factory: (planned, by) => host.factory(planned, () => this.#factory(planned, by)),
      settings: (planned, by, learn) => this.#settings(planned, by, learn),
      links: (from, by) => linksOf(from, from.requires, outline.plan, this.instances, by, host),
      wrap: (instance, planned, context, by, learn) =>
        wrapInstance(instance, planned, context, {
          settings: ({ manifest, config, secrets }) =>
            this.#reveal(`${planned.key}, middleware ${manifest.id}`, config, secrets, manifest.config, by, learn),
          factory: (layer) => this.#middleware(layer, by),
          links: ({ requires }) => linksOf(planned, requires, outline.plan, this.instances, by, host),
        }),
    };
    for (const [key, planned] of outline.plan.instances) {
      const kept = changes?.kept.has(key) ? previous?.instances.get(key) : undefined;
      this.instances.set(key, kept ?? new Instance(planned, forInstances));
    }
  }

  get outline(): Outline {
    return this.#outline;
  }

  /** Another manifest of a plugin, which changes nothing of the plan. */
  renew(plugin: Plugin): void {
    const { id } = plugin.manifest;
    (this.runs.get(id) as PluginRun).plugin = plugin;
    const plugins = this.#outline.plugins.map((each) => (each.manifest.id === id ? plugin : each));
    this.#outline = { ...this.#outline, plugins };
  }

  /** What it does not share with the other one of the two that `changes` compares. */
  ownBy({ kept, keptPlugins }: Changes): { instances: Instance[]; runs: PluginRun[] } {
    return {
      instances: [...this.instances.values()].filter(({ planned }) => !kept.has(planned.key)),
      runs: [...this.runs].filter(([id]) => !keptPlugins.has(id)).map(([, run]) => run),
    };
  }

  /** Once it has taken the previous one's place: what was taken over is known by what the new plan says of it. */
  adopt({ kept, keptPlugins }: Changes): void {
    for (const key of kept) {
      const planned = this.outline.plan.instances.get(key);
      if (planned !== undefined) (this.instances.get(key) as Instance).planned = planned;
    }
    for (const plugin of this.outline.plugins) {
      const { id } = plugin.manifest;
      if (keptPlugins.has(id)) (this.runs.get(id) as PluginRun).plugin = plugin;
    }
  }

  #dependencies({ manifest: { dependsOn = [], optionalDependsOn = [] } }: Plugin): PluginRun[] {
    return [...dependsOn, ...optionalDependsOn].flatMap((text) => this.runs.get(text.replace(/@.*$/, '')) ?? []);
  }

  #settings({ key, config, secrets, adapter }: PlannedInstance, by: Waiter, learn: (secret: string) => void) {
    return this.#reveal(key, config, secrets, adapter.manifest.config, by, learn);
  }

  #reveal(
    who: string,
    config: Readonly<Record<string, unknown>>,
    secrets: readonly PlannedSecret[],
    schema: JsonSchema | undefined,
    by: Waiter,
    learn: (secret: string) => void,
  ): Promise<Record<string, unknown>> {
    const acquire = (store: string) => {
      by.given.add(store);
      return (this.instances.get(store) as Instance).acquire(by);
    };
    return reveal(who, config, secrets, schema, acquire, learn);
  }

  async #factory({ adapter: { plugin, manifest } }: PlannedInstance, by: Waiter): Promise<AdapterFactory> {
    const run = this.runs.get(plugin.manifest.id) as PluginRun;
    const factory = (await run.load(by)).adapters[manifest.id];
    if (typeof factory === 'function') return factory;
    throw failure(
      'RC1301',
      `plugin ${plugin.manifest.id}: its manifest has adapter "${manifest.id}", its module has no factory for it`,
    );
  }

  async #middleware({ plugin, manifest }: PlannedMiddleware, by: Waiter): Promise<MiddlewareFactory> {
    const run = this.runs.get(plugin.manifest.id) as PluginRun;
    const factory = (await run.load(by)).middleware?.[manifest.id];
    if (typeof factory === 'function') return factory;
    throw failure(
      'RC1301',
      `plugin ${plugin.manifest.id}: its manifest has middleware "${manifest.id}", its module has no factory for it`,
    );
  }

  /** What a plugin that was given up serves, or stands round, is nobody's until it serves again. */
  pluginFailed(id: string, error: Error | null): void {
    for (const instance of this.instances.values()) {
      const { adapter, middleware } = instance.planned;
      if ([adapter, ...middleware].some(({ plugin }) => plugin.manifest.id === id)) instance.pluginFailed(error);
    }
  }

  tellRegained(instance: Instance): void {
    const { key } = instance.planned;
    if (this.instances.get(key) !== instance) return;
    for (const other of this.instances.values()) other.regained(key);
  }

  /**
   * Who holds an instance that is gone goes on with it until it asks again: that it serves worse is to be seen. Where another
   * has taken its place already, those here hold that one.
   */
  tellDependents(instance: Instance, reason: string): void {
    const { key } = instance.planned;
    if (this.instances.get(key) !== instance) return;
    for (const other of this.instances.values()) {
      if (other.isUp && other.given.has(key)) other.lacks(key, `${key}, which it holds, is gone: ${reason}`);
    }
  }
}
