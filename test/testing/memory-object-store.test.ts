import { describe, test } from '@jest/globals';
import { ObjectStore } from '../../src/contracts/object-store.js';
import { conformance } from '../../src/testing/conformance.js';
import { memoryObjectStore } from '../../src/testing/memory-object-store.js';
import '../../src/testing/object-store-suite.js';

describe.each([[['range']], [[]]])('the memory store with features %j keeps the contract', (features: string[]) => {
  for (const c of conformance(ObjectStore, { features })) {
    test(c.name, () => c.run(async () => memoryObjectStore(features)));
  }
});
