/** What a host tells of itself while it runs: one event for every change of a state. */
import type { Logger } from '../contracts/plugin.js';
import { messageOf } from './ending.js';
import type { InstanceState } from './instance.js';
import type { PluginState } from './loading.js';

/**
 * ```
 * created ──> planned ──> starting ──> running ──> stopping ──> stopped
 *                └─────────────────────^ first demand, without start()   (stopping: also from planned and starting)
 * ```
 */
export type HostState = 'created' | 'planned' | 'starting' | 'running' | 'stopping' | 'stopped';

interface Changed<State> {
  readonly from: State;
  readonly to: State;
  /** Milliseconds since 1970. */
  readonly atMs: number;
}

export interface InstanceEvent extends Changed<InstanceState> {
  /** `Queue#default`. */
  readonly instance: string;
  readonly adapter: string;
  readonly plugin: string;
  /** Why, where something is wrong: the cause of `failed`, the reason of `degraded`. */
  readonly error?: unknown;
  readonly reason?: string;
}

export interface PluginEvent extends Changed<PluginState> {
  readonly plugin: string;
  readonly error?: unknown;
}

export interface HostEvents {
  instance: InstanceEvent;
  plugin: PluginEvent;
  host: Changed<HostState>;
}

/** Ends a subscription, as a call or as a `Disposable`. */
export interface Unsubscribe extends Disposable {
  (): void;
}

const KINDS: readonly (keyof HostEvents)[] = ['instance', 'plugin', 'host'];

/** Listeners are called at once, in the order of their subscription; one that throws or rejects is logged and keeps nobody. */
export class Emitter {
  readonly #listeners = new Map<keyof HostEvents, Set<(event: never) => void>>(KINDS.map((kind) => [kind, new Set()]));
  readonly #logger: Logger;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** Nothing where there is no such event. */
  on<K extends keyof HostEvents>(kind: K, listener: (event: HostEvents[K]) => unknown): Unsubscribe | null {
    const listeners = this.#listeners.get(kind);
    if (listeners === undefined) return null;
    // A function of its own, so that one that subscribes twice is called twice and leaves once.
    const call = (event: HostEvents[K]) => listener(event);
    listeners.add(call);
    const off = () => void listeners.delete(call);
    return Object.assign(off, { [Symbol.dispose]: off });
  }

  emit<K extends keyof HostEvents>(kind: K, event: Omit<HostEvents[K], 'atMs'>): void {
    const listeners = this.#listeners.get(kind);
    if (listeners === undefined || listeners.size === 0) return;
    const told = Object.freeze({ ...event, atMs: Date.now() });
    for (const listener of [...listeners]) {
      try {
        const answer: unknown = listener(told as never);
        // Not waited for, but an async one that fails is not to end the process.
        if (typeof (answer as Partial<PromiseLike<unknown>> | undefined)?.then === 'function') {
          Promise.resolve(answer).catch((error) => this.#failed(kind, error));
        }
      } catch (error) {
        this.#failed(kind, error);
      }
    }
  }

  #failed(kind: keyof HostEvents, error: unknown): void {
    this.#logger.error(`a listener of "${kind}" events threw: ${messageOf(error)}`, { error });
  }
}

export const EVENT_KINDS: readonly string[] = KINDS;
