/**
 * `rollout-cloud/testing`: what the authors of adapters and applications test with. No test runner is assumed.
 *
 * Importing it defines the suites of all contracts of this package, for `conformance` to find.
 */
import './block-store-suite.js';
import './compute-hint-suite.js';
import './gpu-enumerator-suite.js';
import './object-store-suite.js';
import './queue-suite.js';
import './storage-suite.js';

export { CONFORMANCE_VOLUMES } from './block-store-suite.js';
export * from './conformance.js';
export { defineFake, type Fake, type FakeControls, type FakeOptions, fake } from './fakes.js';
export * from './faulty-storage.js';
export { memoryObjectStore } from './memory-object-store.js';
export type { MethodOf, RecordedCall } from './recorder.js';
export { CONFORMANCE_SECRETS } from './secret-store-suite.js';
export { TestClock } from './test-clock.js';
export { createTestHost, type TestHost, type TestHostOptions } from './test-host.js';
