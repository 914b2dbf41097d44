/** Every contract, behind all of the middleware at once, is what it was. */
import { describe, test } from '@jest/globals';
import plugin from '../../../src/adapters/middleware/index.js';
import { KNOWN_CAPABILITIES } from '../../../src/contracts/known.js';
import { CONFORMANCE_SECRETS, CONFORMANCE_VOLUMES, conformance, fake } from '../../../src/testing/index.js';
import { contextOf } from './kit.js';

const { set, empty, unset, forbidden } = CONFORMANCE_SECRETS;
const OPTIONS = {
  secrets: { [set.name]: set.value, [empty.name]: empty.value, [forbidden.name]: forbidden.value },
  allowlist: [set.name, empty.name, unset.name],
  maxAttempts: 3,
  volumes: CONFORMANCE_VOLUMES.there,
};

const CONFIGS: Readonly<Record<string, object>> = {
  retry: { maxAttempts: 3, maxElapsedMs: 1_000, methods: [] },
  timeout: { timeoutMs: 30_000, methods: {} },
  otel: { spans: true, metrics: true, attributes: {} },
  cache: { ttlMs: 60_000, maxEntries: 10 },
};

describe.each(KNOWN_CAPABILITIES.map((token) => [token.name, token] as const))(
  '%s behind middleware',
  (name, token) => {
    const layers = Object.keys(CONFIGS).filter((id) => id !== 'cache' || name === 'SecretStore');
    const open = async () => {
      let inner: object = fake(token, OPTIONS);
      for (const id of layers)
        inner = (await plugin.middleware?.[id]?.(inner, contextOf(token.id, CONFIGS[id]))) as object;
      return inner;
    };
    for (const c of conformance(token, { features: fake(token).features })) {
      test(`${layers.join(', ')}: ${c.name}`, () => c.run(open));
    }
  },
);
