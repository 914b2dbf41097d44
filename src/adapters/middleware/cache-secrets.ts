/**
 * `cache` for SecretStore: a secret is asked for once while it is fresh, however many ask.
 *
 * Only secrets that were found are kept: one that is not set, or not allowed, is asked for anew each time, so setting it
 * is seen at once. A `put` through this instance forgets the secret; one that is changed elsewhere is seen when `ttlMs`
 * have passed. Values are kept as the `SecretValue`s that they are, and appear nowhere.
 */
import type { Clock } from '../../contracts/clock.js';
import { decorate } from '../../contracts/decorate.js';
import type { MiddlewareContext } from '../../contracts/plugin.js';
import type { SecretStore, SecretValue } from '../../contracts/secret-store.js';

export interface SecretCacheConfig {
  readonly ttlMs: number;
  readonly maxEntries: number;
}

/** A read under way, which all share who ask meanwhile. */
interface Reading {
  readonly startedMs: number;
  value: Promise<SecretValue>;
}

interface Entry {
  readonly value: SecretValue;
  /** By the clock's `monotonicMs()`. */
  readonly untilMs: number;
}

export function cacheSecrets(inner: SecretStore, context: MiddlewareContext<SecretCacheConfig>): SecretStore {
  const cache = new SecretCache(context.config, context.clock);
  context.own(cache, () => cache.clear());
  return decorate(context.capability, inner, {
    async call({ method, args }, proceed) {
      const [name] = args as [string];
      if (method === 'get') return cache.get(name, proceed as () => Promise<SecretValue>);
      if (method !== 'put') return proceed();
      try {
        return await proceed();
      } finally {
        // After it, whatever came of it: a get that was under way meanwhile may have read either.
        cache.forget(name);
      }
    },
  });
}

class SecretCache {
  readonly #config: SecretCacheConfig;
  readonly #clock: Clock;
  /** The one read longest ago first. */
  readonly #entries = new Map<string, Entry>();
  readonly #reading = new Map<string, Reading>();

  constructor(config: SecretCacheConfig, clock: Clock) {
    this.#config = config;
    this.#clock = clock;
  }

  get(name: string, read: () => Promise<SecretValue>): Promise<SecretValue> {
    const entry = this.#entries.get(name);
    if (entry !== undefined && entry.untilMs > this.#clock.monotonicMs()) return Promise.resolve(entry.value);
    this.#entries.delete(name);
    const nowMs = this.#clock.monotonicMs();
    const shared = this.#reading.get(name);
    // One that takes longer than a secret is kept may never answer: who asks now is not to hang with it.
    if (shared !== undefined && nowMs - shared.startedMs < this.#config.ttlMs) return shared.value;
    const reading: Reading = { startedMs: nowMs, value: read() };
    reading.value = this.#await(name, reading);
    this.#reading.set(name, reading);
    return reading.value;
  }

  /** What is being read meanwhile is given to those who wait for it, and not kept. */
  forget(name: string): void {
    this.#entries.delete(name);
    this.#reading.delete(name);
  }

  clear(): void {
    this.#entries.clear();
    this.#reading.clear();
  }

  async #await(name: string, reading: Reading): Promise<SecretValue> {
    const { value: reads } = reading;
    const isCurrent = () => this.#reading.get(name) === reading;
    try {
      const value = await reads;
      if (isCurrent()) this.#keep(name, value);
      return value;
    } finally {
      if (isCurrent()) this.#reading.delete(name);
    }
  }

  #keep(name: string, value: SecretValue): void {
    if (this.#entries.size >= this.#config.maxEntries) {
      const [oldest] = this.#entries.keys();
      if (oldest !== undefined) this.#entries.delete(oldest);
    }
    this.#entries.set(name, { value, untilMs: this.#clock.monotonicMs() + this.#config.ttlMs });
  }
}
