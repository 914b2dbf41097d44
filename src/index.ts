/** `rollout-cloud`: the contracts, and the host that resolves each to the adapter that plugins.json names. */
export * from './contracts/index.js';
export * from './registry/index.js';
