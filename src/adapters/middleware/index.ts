/**
 * The plugin `rollout.middleware`: what is put around adapters of any contract. It is always known, and imported by the
 * first binding that uses one; OpenTelemetry's API by the first instance with `otel`.
 */
import { definePlugin } from '../../contracts/plugin.js';
import { cacheSecrets } from './cache-secrets.js';
import { retry } from './retry.js';
import { timeout } from './timeout.js';

export default definePlugin({
  middleware: {
    retry,
    timeout,
    otel: async (inner, context) => (await import('./otel.js')).otel(inner, context),
    cache: cacheSecrets,
  },
});
