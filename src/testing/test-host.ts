/**
 * `createTestHost`: the real host on the real configuration, in which a test may replace what serves a capability, see
 * every call, let calls fail, move the clock, and check at the end that everything was let go of.
 */
import assert from 'node:assert/strict';
import * as check from '../contracts/arguments.js';
import { type Capability, checked, facade, passAsChecked } from '../contracts/capability.js';
import { FatalError } from '../contracts/errors.js';
import { KNOWN_CAPABILITIES } from '../contracts/known.js';
import type { AdapterFactory } from '../contracts/plugin.js';
import type { HostEvents, Unsubscribe } from '../registry/events.js';
import type { HostPorts } from '../registry/host.js';
import type { Host, HostOptions } from '../registry/index.js';
import { checkToken } from '../registry/links.js';
import type { PlannedInstance } from '../registry/plan.js';
import { type Fake, type FakeOptions, fake } from './fakes.js';
import { type MethodOf, type RecordedCall, Recorder } from './recorder.js';
import { TestClock } from './test-clock.js';

export interface TestHostOptions extends HostOptions {
  /** Capabilities that are faked from the start: for a configuration that cannot be planned without them. */
  // biome-ignore lint/suspicious/noExplicitAny: of any contracts
  readonly fakes?: readonly Capability<any>[];
}

export interface TestHost extends Host {
  /** The clock of every adapter: leases and delays of the local queue run on it. */
  readonly clock: TestClock;
  /**
   * Lets `instance` serve a capability, the default one or that of a name; the host disposes it as any other. It stands
   * in for the adapter configured: the same features are declared. A capability that nothing serves, it serves as well.
   * @throws FatalError ConfigInvalid, code `RC1401`, when the instance has been used already
   */
  override<T extends object>(capability: Capability<T>, instance: T, name?: string): void;
  /** As {@link override}, with a fresh fake, which is returned. */
  fake<T extends object>(capability: Capability<T>, name?: string, options?: FakeOptions): Fake<T>;
  /**
   * Lets the next `times` calls (default 1) of a method reject with `error`, whatever serves the capability, a real
   * adapter included; they do not take effect. Before the middleware, which sees the error as the adapter's.
   */
  failNext<T extends object>(
    capability: Capability<T>,
    method: MethodOf<T>,
    error: unknown,
    times?: number,
    name?: string,
  ): void;
  /** The calls that an instance has had, oldest first; of an adapter with middleware, those that reached the adapter. */
  calls<T extends object>(capability: Capability<T>, name?: string): readonly RecordedCall[];
  /** @throws AssertionError naming every instance, and resource that one owns, that was not let go of */
  assertAllDisposed(): void;
}

/** As `createHost`, for tests. Nothing is active yet. */
export async function createTestHost(options: TestHostOptions = {}): Promise<TestHost> {
  const { HOST_OPTIONS, openHost } = await import('../registry/host.js');
  check.known('options', options, [...HOST_OPTIONS, 'fakes']);
  return new Kit(options, openHost).host;
}

type OpenHost = (options: HostOptions, ports: HostPorts) => Host;

/** What the kit knows of one instance, planned or not. */
interface Spied {
  readonly recorder: Recorder;
  override: object | null;
  used: boolean;
}

/** A subscription, which outlives the host that it was made on. */
interface Listener {
  readonly event: keyof HostEvents;
  readonly call: (event: HostEvents[keyof HostEvents]) => void;
  off: () => void;
}

/** What its user may have changed, or has set going: another host would know nothing of it. */
const KEPT_BY_ITS_USER: ReadonlySet<string | symbol> = new Set(['container', 'handleSignals', 'reconfigure']);

class Kit {
  readonly host: TestHost;
  readonly #clock = new TestClock();
  readonly #options: HostOptions;
  readonly #openHost: OpenHost;
  /** By the instance's key. */
  readonly #spied = new Map<string, Spied>();
  /** Capabilities that the configuration has no adapter for, and the test does. */
  readonly #added = new Map<string, { readonly token: Capability<object>; readonly features: readonly string[] }>();
  readonly #listeners = new Set<Listener>();
  /** What was taken off the host of the moment and would be lost with it. */
  #kept: string | null = null;
  /** What was made and not let go of, each with what to call it. */
  readonly #held = new Map<object, string>();
  #current: Host;

  constructor({ fakes = [], ...options }: TestHostOptions, openHost: OpenHost) {
    this.#options = options;
    this.#openHost = openHost;
    const made = (fakes as readonly Capability<object>[]).map((token) => {
      const instance = fake(token, { clock: this.#clock });
      this.#add(token, instance);
      return [token, instance] as const;
    });
    this.#current = this.#open();
    // By now it is known which instance is the default one, whatever its name.
    for (const [token, instance] of made) this.#spyOf(token).override = instance;
    const own: Omit<TestHost, keyof Host> & Pick<Host, 'on'> = {
      clock: this.#clock,
      on: (event, listener) => this.#on(event, listener),
      override: (capability, instance, name) => this.#override(capability, instance, name),
      fake: (capability, name, fakeOptions) => {
        const made = fake(capability, { clock: this.#clock, ...fakeOptions });
        this.#override(capability, made, name);
        return made;
      },
      failNext: (capability, method, error, times, name) =>
        this.#spyOf(capability, name).recorder.failNext(capability as never, method, error, times),
      calls: (capability, name) => this.#spyOf(capability, name).recorder.calls,
      assertAllDisposed: () => this.#assertAllDisposed(),
    };
    // The host of the moment: adding a capability makes another plan.
    this.host = new Proxy(own as TestHost, {
      get: (_own, property) => {
        if (Object.hasOwn(own, property)) return Reflect.get(own, property);
        if (KEPT_BY_ITS_USER.has(property)) this.#kept = String(property);
        const value: unknown = Reflect.get(this.#current, property);
        return typeof value === 'function' ? value.bind(this.#current) : value;
      },
      has: (_own, property) => property in own || property in this.#current,
    });
  }

  #open(): Host {
    const added = [...this.#added.values()];
    const adapters = added.map(({ token, features }) => ({ id: adapterOf(token), provides: token.id, features }));
    const bound = added.map(({ token }) => token).filter(({ name }) => !name.includes('.'));
    return this.#openHost(
      {
        ...this.#options,
        set: {
          ...this.#options.set,
          ...Object.fromEntries(bound.map((token) => [`bindings.${token.name}`, { adapter: adapterOf(token) }])),
        },
      },
      {
        clock: this.#clock,
        plugins: [
          {
            manifest: { id: 'rollout.testing', version: '0.0.0', main: './none.js', contributes: { adapters } },
            folder: '.',
            mainUrl: 'rollout-testing:none',
          },
        ],
        factory: (planned, load) => this.#factory(planned, load),
      },
    );
  }

  async #factory(planned: PlannedInstance, load: () => Promise<AdapterFactory>): Promise<AdapterFactory> {
    const spied = this.#spy(planned.key);
    spied.used = true;
    const { override } = spied;
    const factory = override === null ? await load() : () => override;
    const shown = `${planned.key} (adapter ${planned.adapter.manifest.id})`;
    return async (context) => {
      const made = await factory({
        ...context,
        own: (resource, dispose) => {
          const held = { resource };
          this.#held.set(held, `a resource that ${shown} owns`);
          return context.own(resource, async (it) => {
            await dispose(it);
            this.#held.delete(held);
          });
        },
      });
      // What is no object, the host refuses.
      if (typeof made !== 'object' || made === null) return made;
      const { id, provides, features } = planned.adapter.manifest;
      const token = KNOWN_CAPABILITIES.find((known) => known.id === provides);
      // The door of a capability that a plugin brought is put before it by whoever asks: only they have its token.
      const checkedOnce = token === undefined ? made : checked(token, made, { adapter: id, features });
      const spiedOn = spied.recorder.wrap(provides, this.#watchOver(checkedOnce, shown));
      return token === undefined ? spiedOn : passAsChecked(token, spiedOn);
    };
  }

  /** Notes when an instance is let go of, whichever way it has for that. One that has none holds nothing. */
  #watchOver(instance: object, shown: string): object {
    const own = new Map<string | symbol, unknown>();
    for (const way of ['close', Symbol.asyncDispose, Symbol.dispose]) {
      const end = (instance as Record<string | symbol, unknown>)[way] as (() => unknown) | undefined;
      if (typeof end !== 'function') continue;
      this.#held.set(instance, shown);
      own.set(way, (...args: []) => {
        const ended = end(...args);
        if (way === Symbol.dispose) this.#held.delete(instance);
        else
          void Promise.resolve(ended).then(
            () => this.#held.delete(instance),
            () => {},
          );
        return ended;
      });
    }
    return facade(instance, own);
  }

  #override<T extends object>(capability: Capability<T>, instance: T, name?: string): void {
    if (typeof instance !== 'object' || instance === null) throw check.invalid('instance', 'an object', instance);
    const shown = `${checkToken(capability).name}#${name ?? 'default'}`;
    const known = this.#keyOf(capability, name);
    if (known === null) {
      if (name !== undefined) {
        const names = this.#namesOf(capability).join(', ') || 'none';
        throw tooLate(`${shown}: there is no such instance; known are ${names}`);
      }
      const isUsed = this.#current.report().state !== 'planned';
      if (isUsed || this.#kept !== null) {
        const after = isUsed ? 'the host' : `its ${this.#kept}`;
        throw tooLate(
          `${shown}, which nothing serves in this configuration, came after ${after} was used`,
          `createTestHost({ fakes: [${capability.name}] }) has it from the start`,
        );
      }
      this.#add(capability as unknown as Capability<object>, instance);
      this.#current = this.#open();
      for (const listener of this.#listeners) listener.off = this.#current.on(listener.event, listener.call);
      this.#spyOf(capability).override = instance;
      return;
    }
    const spied = this.#spy(known);
    if (spied.used) throw tooLate(`${known} came after ${this.#whoUsed(known)} activated it`);
    spied.override = instance;
  }

  /** As the host's own, and goes on when another host takes its place. */
  #on<K extends keyof HostEvents>(event: K, call: (event: HostEvents[K]) => void): Unsubscribe {
    const listener: Listener = { event, call: call as Listener['call'], off: this.#current.on(event, call) };
    this.#listeners.add(listener);
    const off = () => {
      listener.off();
      this.#listeners.delete(listener);
    };
    return Object.assign(off, { [Symbol.dispose]: off });
  }

  #whoUsed(key: string): string {
    return this.#current.report().instances.find(({ instance }) => instance === key)?.demandedBy ?? 'somebody';
  }

  #add(token: Capability<object>, instance: object): void {
    const { features } = instance as Partial<Fake<object>>;
    this.#added.set(token.id, { token, features: Array.isArray(features) ? features : [] });
  }

  #spyOf<T extends object>(capability: Capability<T>, name?: string): Spied {
    const key = this.#keyOf(checkToken(capability), name);
    if (key !== null) return this.#spy(key);
    throw new FatalError(
      'ConfigInvalid',
      `nothing serves ${capability.name}${name === undefined ? '' : `#${name}`} in this host; known are ${
        this.#namesOf(capability).join(', ') || 'none'
      }`,
    );
  }

  #spy(key: string): Spied {
    let spied = this.#spied.get(key);
    if (spied === undefined) {
      spied = { recorder: new Recorder(), override: null, used: false };
      this.#spied.set(key, spied);
    }
    return spied;
  }

  #keyOf({ name: capability, id }: { readonly name: string; readonly id: string }, name?: string): string | null {
    const found = this.#current
      .bindings()
      .find((it) => it.provides === id && (name === undefined ? it.isDefault : it.name === name));
    return found === undefined ? null : `${capability}#${found.name}`;
  }

  #namesOf({ name: capability }: { readonly name: string }): string[] {
    return this.#current.bindings().flatMap((it) => (it.capability === capability ? [it.name] : []));
  }

  #assertAllDisposed(): void {
    assert.deepEqual([...this.#held.values()], [], `not let go of: ${[...this.#held.values()].join('; ')}`);
  }
}

function adapterOf({ name }: { readonly name: string }): string {
  const words = name.replace(/(?<=[a-z0-9])(?=[A-Z])/g, '-').toLowerCase();
  return `test.${words.replace(/[^a-z0-9]+/g, '-')}`;
}

function tooLate(what: string, besides?: string): FatalError {
  const advice = besides === undefined ? 'override before first use' : `override before first use, or ${besides}`;
  return new FatalError('ConfigInvalid', `RC1401 override for ${what}; ${advice}`, { code: 'RC1401' });
}
