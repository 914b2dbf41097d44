/** Everything that an adapter author or an application needs to write against, and nothing that runs a host. */
export * from './block-store.js';
export {
  type AdapterTraits,
  type Capability,
  capability,
  checked,
  type Door,
  type DoorContext,
  iterable,
  synchronous,
} from './capability.js';
export * from './clock.js';
export * from './compute-hint.js';
export * from './consume.js';
export { type Around, type Call, decorate, type Proceed } from './decorate.js';
export * from './errors.js';
export { ContentId, LeaseToken, QueueItemId } from './ids.js';
export * from './object-store.js';
export * from './plugin.js';
export * from './queue.js';
export * from './secret-store.js';
export * from './storage.js';
