/** What a host says of itself, as plain data. */

import type { Timings } from './activation.js';
import type { Assembly } from './assembly.js';
import type { FoundState, PluginInfo } from './discovery.js';
import { messageOf } from './ending.js';
import type { HostState } from './events.js';
import type { Instance, InstanceState } from './instance.js';
import type { PluginState } from './loading.js';
import { pluginsOf } from './plan.js';
import type { Place } from './problems.js';
import { redact } from './schema.js';
import { adapterSchema } from './schemas.js';

/** One planned instance, as plain data. */
export interface BindingInfo {
  readonly capability: string;
  /** The capability with its major version, `Queue@1`. */
  readonly provides: string;
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
  /** Where the adapter was named; `null` where it serves because nothing else could. */
  readonly place: Place | null;
}

/** A plugin that is listed or was found, as plain data. */
export interface FoundPlugin extends Omit<PluginInfo, 'state'> {
  /** What became of it; of one that is ready, how far its code is. */
  readonly state: FoundState | PluginState;
  /** How long its import and its `activate()` took, in milliseconds; `null` where it is not loaded. */
  readonly loadMs: number | null;
}

export interface InstanceReport {
  /** `Queue#default`. */
  readonly instance: string;
  readonly adapter: string;
  readonly plugin: string;
  readonly state: InstanceState;
  /** Why it is degraded, or why it failed last; `null` otherwise. */
  readonly reason: string | null;
  /**
   * Failures in a row, where it has failed; its next try is not before `retryAtMs`, in milliseconds since 1970. `null` for
   * a failed one: no demand tries it again, as its plugin was given up.
   */
  readonly attempts: number;
  readonly retryAtMs: number | null;
  /** Milliseconds since 1970; `null` where it was never active. */
  readonly activatedAtMs: number | null;
  /** Of the last activation. */
  readonly timings: Timings | null;
  /** Who demanded it first, and who that one: `ObjectStore#artifacts <- App`. `null` where nobody has. */
  readonly demandedBy: string | null;
}

export interface PluginReport {
  readonly plugin: string;
  readonly version: string;
  readonly state: PluginState;
  /** Why it has failed; `null` where it has not. */
  readonly reason: string | null;
  /** How long its import and its `activate()` took, in milliseconds; `null` where it is not loaded. */
  readonly loadMs: number | null;
}

export interface HostReport {
  readonly state: HostState;
  /** Whether work should come: it takes demands, and what `start()` was to activate, where it was called, is there. */
  readonly isReady: boolean;
  readonly plugins: readonly PluginReport[];
  /** Plugins that are listed and not there, and why. */
  readonly missing: readonly { readonly use: string; readonly reason: string }[];
  readonly instances: readonly InstanceReport[];
}

export interface StartReport {
  /** What is active now of what was asked, in the order of the configuration. */
  readonly started: readonly InstanceReport[];
  /** What failed, and why; each of them is one that the application said it can do without. */
  readonly failed: readonly { readonly instance: string; readonly error: unknown }[];
  readonly tookMs: number;
}

export function bindingInfo({ planned, state }: Instance): BindingInfo {
  return {
    capability: planned.capability,
    provides: planned.adapter.manifest.provides,
    name: planned.name,
    isDefault: planned.isDefault,
    adapter: planned.adapter.manifest.id,
    plugin: planned.adapter.plugin.manifest.id,
    pluginVersion: planned.adapter.plugin.manifest.version,
    state,
    place: planned.place,
    config: redact(adapterSchema(planned.adapter.manifest.config), planned.config),
    middleware: planned.middleware.map(({ manifest, config }) => ({
      id: manifest.id,
      config: redact(adapterSchema(manifest.config), config),
    })),
  };
}

export function foundPlugins({ outline, runs }: Assembly): FoundPlugin[] {
  return pluginsOf(outline.plan).map((info) => {
    const run = info.state === 'ready' && info.id !== null ? runs.get(info.id) : undefined;
    const reason = run?.failure == null ? info.reason : messageOf(run.failure);
    return { ...info, state: run?.state ?? info.state, reason, loadMs: run?.loadMs ?? null };
  });
}

export function instanceReport(instance: Instance): InstanceReport {
  const { planned, state, failure, reason, activatedAtMs, timings, demandedBy } = instance;
  return {
    instance: planned.key,
    adapter: planned.adapter.manifest.id,
    plugin: planned.adapter.plugin.manifest.id,
    state,
    reason: reason ?? (failure === null ? null : messageOf(failure.error)),
    attempts: failure?.attempts ?? 0,
    retryAtMs: failure?.retryAtMs ?? null,
    activatedAtMs,
    timings,
    demandedBy,
  };
}

export function hostReport(state: HostState, isReady: boolean, { outline, runs, instances }: Assembly): HostReport {
  return {
    state,
    isReady,
    plugins: [...runs.values()].map(({ plugin: { manifest }, state: of, failure, loadMs }) => ({
      plugin: manifest.id,
      version: manifest.version,
      state: of,
      reason: failure === null ? null : messageOf(failure),
      loadMs,
    })),
    missing: outline.missing.map(({ use, reason }) => ({ use, reason: reason ?? 'it is not ready' })),
    instances: [...instances.values()].map(instanceReport),
  };
}
