/**
 * `rollout-cloud/testing`: what the authors of adapters and applications test with. No test runner is assumed.
 *
 * Importing it defines the suites of all contracts of this package, for `conformance` to find.
 */
import './compute-hint-suite.js';
import './gpu-enumerator-suite.js';
import './object-store-suite.js';
import './queue-suite.js';
import './storage-suite.js';

export * from './conformance.js';
export * from './faulty-storage.js';
export { memoryObjectStore } from './memory-object-store.js';
export { CONFORMANCE_SECRETS } from './secret-store-suite.js';
