/** Why an instance is what it is: its adapter, those that lost, and where each setting came from. Plain data. */
import type { ConfigPath, LoadedConfig, ValueOrigin } from './config.js';
import { edgesOf } from './graph.js';
import type { InstanceState } from './instance.js';
import type { Plan, PlannedInstance, PlannedMiddleware } from './plan.js';
import type { Place } from './problems.js';
import { showPlace } from './problems.js';
import type { InstanceReport } from './reports.js';
import { redact } from './schema.js';
import { adapterSchema, isSchema, type JsonSchema } from './schemas.js';

/** One setting of an adapter or a middleware. */
export interface SettingInfo {
  /** Within its `config`, by dots. */
  readonly path: string;
  /** A secret is its reference, and what is sensitive `[redacted]`. */
  readonly value: unknown;
  readonly origin: ValueOrigin;
}

/** An adapter that could serve, and why it does or does not. */
export interface CandidateInfo {
  readonly adapter: string;
  /** `null` where no plugin that is there has it. */
  readonly plugin: string | null;
  readonly isChosen: boolean;
  readonly reason: string;
}

export interface Explanation {
  /** `ObjectStore#artifacts` */
  readonly instance: string;
  readonly isDefault: boolean;
  readonly adapter: string;
  readonly plugin: string;
  readonly pluginVersion: string;
  readonly state: InstanceState;
  /** Where the adapter was named; `null` where it serves because nothing else could. */
  readonly place: Place | null;
  readonly candidates: readonly CandidateInfo[];
  readonly settings: readonly SettingInfo[];
  /** Outermost first. */
  readonly middleware: readonly {
    readonly id: string;
    readonly plugin: string;
    readonly settings: readonly SettingInfo[];
  }[];
  /** Keys of the instances that it needs, and of those that need it. */
  readonly needs: readonly string[];
  readonly neededBy: readonly string[];
  /** As `host.report()` has it: who demanded it first, the timings, the last failure. */
  readonly report: InstanceReport;
}

export function explain(plan: Plan, planned: PlannedInstance, report: InstanceReport): Explanation {
  const { adapter } = planned;
  const others = [...plan.instances.values()];
  return {
    instance: planned.key,
    isDefault: planned.isDefault,
    adapter: adapter.manifest.id,
    plugin: adapter.plugin.manifest.id,
    pluginVersion: adapter.plugin.manifest.version,
    state: report.state,
    place: planned.place,
    candidates: candidatesFor(plan, planned),
    settings: settingsOf(adapter.manifest.config, planned, plan.config),
    middleware: planned.middleware.map((layer) => ({
      id: layer.manifest.id,
      plugin: layer.plugin.manifest.id,
      settings: settingsOf(layer.manifest.config, layer, plan.config),
    })),
    needs: edgesOf(planned),
    neededBy: others.filter((other) => edgesOf(other).includes(planned.key)).map(({ key }) => key),
    report,
  };
}

/** The chosen one, then those that were preferred, then the others that serve the capability. */
function candidatesFor(
  { catalog }: Plan,
  { adapter, capability, place, passedOver }: PlannedInstance,
): CandidateInfo[] {
  const chosen = place === null ? `it is the only one that serves ${capability}` : `it is named at ${showPlace(place)}`;
  const info = (id: string, isChosen: boolean, reason: string): CandidateInfo => {
    const plugin = catalog.adapters.get(id)?.plugin.manifest.id ?? null;
    return { adapter: id, plugin, isChosen, reason };
  };
  const named = new Set([adapter.manifest.id, ...passedOver.map((each) => each.adapter)]);
  const rest = catalog.serving(capability).filter(({ manifest }) => !named.has(manifest.id));
  return [
    info(adapter.manifest.id, true, passedOver.length === 0 ? chosen : `${chosen}, the first that is available`),
    ...passedOver.map(({ adapter: id, reason }) => info(id, false, reason)),
    ...rest.map(({ manifest: { id } }) => info(id, false, 'the binding does not name it')),
  ];
}

function settingsOf(
  schema: JsonSchema | undefined,
  { config, configPaths }: Pick<PlannedInstance | PlannedMiddleware, 'config' | 'configPaths'>,
  source: LoadedConfig,
): SettingInfo[] {
  const settings: SettingInfo[] = [];
  const visit = (value: unknown, path: readonly string[]): void => {
    if (isSchema(value) && !('$secret' in value) && Object.keys(value).length > 0) {
      for (const [key, each] of Object.entries(value)) visit(each, [...path, key]);
    } else if (path.length > 0) {
      settings.push({ path: path.join('.'), value, origin: originOf(source, configPaths, path) });
    }
  };
  visit(redact(adapterSchema(schema), config), []);
  return settings;
}

function originOf(source: LoadedConfig, paths: readonly ConfigPath[], path: readonly string[]): ValueOrigin {
  for (const each of paths) {
    const origin = source.origin([...each, ...path]);
    if (origin !== null) return origin;
  }
  return { layer: 'default', place: null, variables: [] };
}

/** `plugins.json:12:9`, `plugins.json:12:9 with env BUCKET`, `env ROLLOUT_CLOUD__…`, `default`. */
export function showOrigin({ place, variables }: ValueOrigin): string {
  if (place === null) return 'default';
  const filled = variables.map((name) => `env ${name}`).join(', ');
  return filled === '' ? showPlace(place) : `${showPlace(place)} with ${filled}`;
}
