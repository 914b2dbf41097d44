/** The plugin host. It knows the contracts, and adapters only by what plugins.json and their manifests say. */
export type { BindingEntry, HostConfig, InstancesEntry, PluginEntry } from './config.js';
export type { Newable } from './container.js';
export { type BindingInfo, createHost, type Host, type HostOptions, type StopReport } from './host.js';
export type { InstanceState } from './instance.js';
export { VERSION } from './manifest.js';
export type { Place, Problem, ProblemCode } from './problems.js';
