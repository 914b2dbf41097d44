/** The plugin host. It knows the contracts, and adapters only by what plugins.json and their manifests say. */
import type { ConfigSources } from './config.js';
import type { Host, HostOptions } from './host.js';
import type { HostPlan } from './planning.js';

export type { Timings } from './activation.js';
export type { RetryPolicy } from './backoff.js';

export type {
  BindingEntry,
  ConfigSources,
  HostConfig,
  InstancesEntry,
  PluginEntry,
  UseEntry,
  ValueOrigin,
} from './config.js';
export type { Newable } from './container.js';
export type { FoundState, PluginInfo, PluginSource } from './discovery.js';
export type { HostEvents, HostState, InstanceEvent, PluginEvent, Unsubscribe } from './events.js';
export type { CandidateInfo, Explanation, SettingInfo } from './explain.js';
export type { GraphEdge, GraphNode, HostGraph } from './graph.js';
export type { Host, HostOptions, StartOptions } from './host.js';
export type { InstanceState } from './instance.js';
export type { PluginState } from './loading.js';
export { VERSION } from './own-package.js';
export type { HostPlan, PlannedInfo } from './planning.js';
export type { Place, Problem, ProblemCode } from './problems.js';
export type { ReconfigureReport } from './reconfiguring.js';
export type { BindingInfo, FoundPlugin, HostReport, InstanceReport, PluginReport, StartReport } from './reports.js';
export type { StopReport } from './shutdown.js';
export type { SignalOptions } from './signals.js';

/**
 * The plan of a configuration as plain data: what `createHost` would work by, with everything that is wrong beside it. It
 * reads files and the environment, and nothing else: no code of a plugin runs.
 * @throws FatalError ConfigInvalid when there is no configuration to plan: it cannot be read, or has not its shape
 */
export async function plan(sources: ConfigSources = {}): Promise<HostPlan> {
  const { planReport } = await import('./planning.js');
  return planReport(sources);
}

/**
 * Reads `plugins.json`, plans, and resolves to a host in which nothing is active yet.
 * @throws FatalError ConfigInvalid whose message has a line for each problem found: code, file:line:column, what to do
 */
export async function createHost(options: HostOptions = {}): Promise<Host> {
  // Only now: whoever imports the contracts alone does not wait for the container and the schema checks.
  const { openHost } = await import('./host.js');
  return openHost(options);
}
