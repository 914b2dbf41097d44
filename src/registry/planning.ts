/** A plan as plain data, sorted, with what is wrong beside it. */
import { type ConfigSources, loadConfig } from './config.js';
import { discover, type PluginInfo } from './discovery.js';
import { type GraphEdge, graphOf } from './graph.js';
import { type PlannedInstance, pluginsOf, tryPlan } from './plan.js';
import { type Place, type Problem, sortProblems } from './problems.js';
import { redact } from './schema.js';
import { adapterSchema } from './schemas.js';

/** One instance to be. */
export interface PlannedInfo {
  /** `<Capability>#<name>` */
  readonly instance: string;
  readonly isDefault: boolean;
  readonly adapter: string;
  readonly plugin: string;
  /** Defaults filled in, paths absolute; a secret is its reference, and what is sensitive `[redacted]`. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Outermost first. */
  readonly middleware: readonly { readonly id: string; readonly config: Readonly<Record<string, unknown>> }[];
  readonly onFailure: 'abort' | 'continue';
  /** Where the adapter was named; `null` where it serves because nothing else could. */
  readonly place: Place | null;
}

export interface HostPlan {
  /** In order of precedence. */
  readonly plugins: readonly PluginInfo[];
  /** By their keys. */
  readonly instances: readonly PlannedInfo[];
  /** Who needs whom. */
  readonly edges: readonly GraphEdge[];
  readonly warnings: readonly string[];
  /** By their places. With any, instances may be missing above, and `createHost` refuses the configuration. */
  readonly problems: readonly Problem[];
}

export function planReport(sources: ConfigSources): HostPlan {
  const config = loadConfig(sources);
  const discovery = discover(config);
  const { plan, problems } = tryPlan(config, discovery);
  const { instances, edges } = graphOf(plan.instances);
  return {
    plugins: pluginsOf(plan),
    instances: instances.map(({ instance }) => infoOf(plan.instances.get(instance) as PlannedInstance)),
    edges,
    warnings: [...discovery.warnings, ...plan.warnings],
    problems: sortProblems(problems),
  };
}

function infoOf({ key, isDefault, adapter, config, middleware, onFailure, place }: PlannedInstance): PlannedInfo {
  return {
    instance: key,
    isDefault,
    adapter: adapter.manifest.id,
    plugin: adapter.plugin.manifest.id,
    config: redact(adapterSchema(adapter.manifest.config), config),
    middleware: middleware.map((layer) => ({
      id: layer.manifest.id,
      config: redact(adapterSchema(layer.manifest.config), layer.config),
    })),
    onFailure,
    place,
  };
}
