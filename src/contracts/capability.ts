/**
 * Capability tokens, and the door through which every call enters an adapter.
 *
 * A capability is a type and a value under one name: `Queue` the interface says what an adapter implements, `Queue` the
 * token is what an application asks the host for. Tokens agree across copies of this package because their key is a
 * registered symbol.
 */
import * as check from './arguments.js';
import { FatalError } from './errors.js';

/** A typed token for a contract. `T` is the contract's interface. */
export interface Capability<T> {
  /** The contract's name, e.g. `Queue`; `<plugin id>/<Name>` for one that a plugin contributes. */
  readonly name: string;
  /** Raised by a change that breaks adapters or callers. */
  readonly major: number;
  /** `<name>@<major>`, as manifests spell it in `provides` and `requires`. */
  readonly id: string;
  /** `Symbol.for('rollout-cloud/<name>@<major>')`: the service identifier to write in `@inject(Queue.key)`. */
  readonly key: symbol;
  /** Makes the checked methods of one implementation. See {@link checked}. */
  readonly door: Door<T>;
}

/**
 * Methods that stand before an implementation's own: they check and default arguments, copy what has to be copied, and
 * refuse features that the adapter does not declare, so that an adapter receives just what the contract's types say.
 */
export type Door<T> = (impl: T, adapter: DoorContext) => Partial<T>;

/** What the door knows of the adapter behind it. */
export interface DoorContext {
  /** The adapter's id, for messages. */
  readonly id: string;
  /** Rejects with `FatalError` `ConfigInvalid`, code `FEATURE_UNSUPPORTED`, unless the adapter declares `feature`. */
  need(feature: string, asked: string): void;
}

/**
 * Declares a capability.
 * @param options `major` of the contract; `door` is left out by contracts that need no argument checks
 * @throws FatalError SchemaViolation: a name or an option is not what it should be
 */
export function capability<T extends object>(
  name: string,
  options: { readonly major: number; readonly door?: Door<T> },
): Capability<T> {
  check.text('name', name, 1, 200);
  const { major, door = () => ({}) as Partial<T> } = check.known('options', options, [
    'major',
    'door',
  ]) as typeof options;
  check.integer('options.major', major, 0);
  if (typeof door !== 'function') throw check.invalid('options.door', 'a function', door);
  const id = `${name}@${major}`;
  return Object.freeze({ name, major, id, key: Symbol.for(`rollout-cloud/${id}`), door });
}

/** Which adapter an implementation is, and what it can do beyond the contract's ground. */
export interface AdapterTraits {
  /** The adapter's id, e.g. `local.fs`; used in messages. */
  readonly adapter: string;
  /** Features declared, as in the manifest's `features`. Default none. */
  readonly features?: readonly string[];
}

const REGISTRY = Symbol.for('rollout-cloud/checked');

/**
 * What has been checked already, and against which contract; one map for all copies of this package. By identity: an
 * object that is derived from a checked one (a decorator) is not checked itself.
 */
const CHECKED = ((): WeakMap<object, symbol> => {
  const shared = globalThis as { [REGISTRY]?: WeakMap<object, symbol> };
  shared[REGISTRY] ??= new WeakMap();
  return shared[REGISTRY];
})();

/**
 * Puts the contract's argument checks before an implementation. Adapters' own openers and the host both call it, so an
 * adapter behaves the same with and without a host; doing it twice is doing it once.
 *
 * The result is still an `instanceof` the implementation's class, and methods beyond the contract pass through. Where
 * the implementation has a `close()` or a `[Symbol.asyncDispose]()`, a second call returns the first one's promise, and
 * any other contract call after it is `FatalError` `Internal`, code `CLOSED`. So it is where a host has let go of it.
 * @param given left out, messages name the implementation's class and no feature is refused
 * @throws FatalError PluginContract when the implementation lacks a method of the contract
 */
export function checked<T extends object, I extends T>(token: Capability<T>, impl: I, given?: AdapterTraits): I {
  return CHECKED.get(impl) === token.key ? impl : doorBefore(token, impl, given);
}

function doorBefore<T extends object, I extends T>(token: Capability<T>, impl: I, given?: AdapterTraits): I {
  const traits = given ?? { adapter: impl.constructor?.name || 'of no name' };
  const features = new Set(traits.features ?? []);
  const context: DoorContext = {
    id: traits.adapter,
    need(feature, asked) {
      if (given === undefined || features.has(feature)) return;
      throw new FatalError(
        'ConfigInvalid',
        `adapter ${traits.adapter} does not support ${asked} (feature "${feature}"); bind an adapter of ${token.name} that declares it`,
        { code: 'FEATURE_UNSUPPORTED', context: { adapter: traits.adapter, feature, capability: token.id } },
      );
    },
  };

  /** After what it is used. */
  let end: string | null = null;
  let closing: Promise<void> | undefined;
  const own = new Map<string | symbol, unknown>();
  for (const [name, method] of Object.entries(token.door(impl, context))) {
    if (typeof (impl as Record<string, unknown>)[name] !== 'function') {
      throw new FatalError('PluginContract', `adapter ${traits.adapter} has no ${name}(), which ${token.id} asks for`, {
        context: { adapter: traits.adapter, capability: token.id, method: name },
      });
    }
    const call = method as (...args: unknown[]) => unknown;
    own.set(name, (...args: unknown[]) => (end === null ? call(...args) : refuse(token, traits, end, kindOf(call))));
  }
  const hasDoor = own.size > 0;
  const { close, [Symbol.asyncDispose]: dispose } = impl as { close?: () => Promise<void> } & Partial<AsyncDisposable>;
  const closes = close ?? dispose;
  if (closes !== undefined) {
    const closeOnce = () => {
      end ??= 'close()';
      closing ??= (async () => closes.call(impl))();
      return closing;
    };
    if (close !== undefined) own.set('close', closeOnce);
    own.set(Symbol.asyncDispose, closeOnce);
  }

  const door = passAsChecked(token, facade(impl, own));
  BEHIND.set(door, { impl, given });
  onShut(door, () => {
    end ??= LET_GO;
    if (!hasDoor)
      for (const [name, kind] of likelyMethods(impl)) own.set(name, () => refuse(token, traits, LET_GO, kind));
  });
  return door;
}

/** Of any object: not calls of a contract. */
export const NO_CALLS: ReadonlySet<string> = new Set(
  'constructor close drain health then toJSON toString valueOf'.split(' '),
);

/** What may be called on an instance whose contract has no door, and so does not say. Calls none of them. */
function* likelyMethods(impl: object): Iterable<[string, MethodKind]> {
  for (let it = impl; it !== null && Object.getPrototypeOf(it) !== null; it = Object.getPrototypeOf(it)) {
    for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(it))) {
      if (typeof value !== 'function' || NO_CALLS.has(name)) continue;
      yield [name, toldKind(value) ?? 'synchronous'];
    }
  }
}

/** How a function answers, where it says so itself. */
export function toldKind(method: unknown): MethodKind | undefined {
  return KINDS[Object.prototype.toString.call(method)];
}

const KINDS: Readonly<Record<string, MethodKind>> = {
  '[object AsyncFunction]': 'async',
  '[object AsyncGeneratorFunction]': 'iterable',
};

/** What each door stands before. */
const BEHIND = new WeakMap<object, { readonly impl: object; readonly given: AdapterTraits | undefined }>();

/** After what the host let go of it, in messages. */
const LET_GO = 'the host had let go of it';

const SHUT = new WeakMap<object, () => void>();

/** Has `action` called when `instance` is shut. */
export function onShut(instance: object, action: () => void): void {
  const before = SHUT.get(instance);
  SHUT.set(instance, () => {
    before?.();
    action();
  });
}

/** From now on every call of the contract is refused, whether or not there is anything to close. */
export function shut(instance: object): void {
  SHUT.get(instance)?.();
  SHUT.delete(instance);
}

/**
 * What can be {@link shut} without its like: an instance that its opener checked may be somebody else's, too. One with an
 * end of its own needs nothing: it is closed.
 */
export function guarded<T extends object, I extends T>(token: Capability<T>, impl: I, traits: AdapterTraits): I {
  if ('close' in impl || Symbol.asyncDispose in impl) return impl;
  // A second door in the place of the first, not before it: a call goes through one.
  const behind = BEHIND.get(impl);
  if (behind !== undefined) return doorBefore(token, behind.impl as I, behind.given);
  let isShut = false;
  const own = new Map<string | symbol, unknown>();
  for (const [name, kind] of methodsOf(token)) {
    const call = (...args: unknown[]) => (impl as Record<string, (...args: unknown[]) => unknown>)[name]?.(...args);
    own.set(name, (...args: unknown[]) => (isShut ? refuse(token, traits, LET_GO, kind) : call(...args)));
  }
  const guard = passAsChecked(token, facade(impl, own));
  onShut(guard, () => {
    isShut = true;
  });
  return guard;
}

function refuse(
  token: Pick<Capability<object>, 'name' | 'id'>,
  { adapter }: AdapterTraits,
  after: string,
  kind: MethodKind,
): unknown {
  const error = new FatalError('Internal', `${token.name} (adapter ${adapter}) was used after ${after}`, {
    code: 'CLOSED',
    context: { capability: token.id, adapter },
  });
  if (kind === 'synchronous') throw error;
  return kind === 'iterable' ? failing(error) : Promise.reject(error);
}

/** Marks what stands before a checked implementation and lets its checks stand, so that they are not made again outside. */
export function passAsChecked<T extends object, I extends T>(token: Capability<T>, before: I): I {
  CHECKED.set(before, token.key);
  return before;
}

/**
 * An object that stands before `impl`: what `own` has is taken from there, all else is the implementation's, bound to it.
 * It is an `instanceof` the implementation's class.
 */
export function facade<I extends object>(impl: I, own: ReadonlyMap<string | symbol, unknown>): I {
  // By the method, not its name: one that is replaced later, as spies do, is not called any more.
  const bound = new WeakMap<object, unknown>();
  // The proxy stands on an empty shell: one on the implementation itself could not replace a frozen object's methods.
  const proxy: I = new Proxy(Object.create(Object.getPrototypeOf(impl)) as I, {
    get(_shell, property) {
      const known = own.get(property);
      if (known !== undefined) return known;
      const value: unknown = Reflect.get(impl, property, impl);
      // Bound to the implementation itself: private fields are not reachable through a proxy.
      if (typeof value !== 'function' || property === 'constructor') return value;
      if (!bound.has(value)) bound.set(value, value.bind(impl));
      return bound.get(value);
    },
    has: (_shell, property) => own.has(property) || property in impl,
    // What the implementation has itself is seen as such: `{ ...it }` has it, and who lends it to another process.
    ownKeys: () => Reflect.ownKeys(impl),
    getOwnPropertyDescriptor: (_shell, property) => {
      const found = Reflect.getOwnPropertyDescriptor(impl, property);
      return (
        found && { value: proxy[property as keyof I], writable: true, enumerable: found.enumerable, configurable: true }
      );
    },
    set: (_shell, property, value, receiver): boolean =>
      // An object that has this one as its prototype is being written to: that is its own business.
      receiver === proxy
        ? Reflect.set(impl, property, value, impl)
        : Reflect.defineProperty(receiver, property, { value, writable: true, configurable: true, enumerable: true }),
  });
  return proxy;
}

/** How a method answers: with a promise, with an async iterable, or at once. */
export type MethodKind = 'async' | 'iterable' | 'synchronous';

/** The methods of a contract, by what its door has, each with how it answers. Calls none of them. */
export function methodsOf<T extends object>(token: Capability<T>): ReadonlyMap<string, MethodKind> {
  const nobody: DoorContext = { id: 'none', need() {} };
  return new Map(Object.entries(token.door({} as T, nobody)).map(([name, method]) => [name, kindOf(method as object)]));
}

function kindOf(method: object): MethodKind {
  return SYNCHRONOUS in method ? 'synchronous' : ITERABLE in method ? 'iterable' : 'async';
}

/** Marks door methods that return an async iterable, so that a refusal arrives where the caller waits for items. */
const ITERABLE = Symbol('returns an async iterable');

/** Wraps a door method that returns an async iterable. What `open` throws is thrown by the first `next()`. */
export function iterable<A extends unknown[], R>(
  open: (...args: A) => AsyncIterable<R>,
): (...args: A) => AsyncIterable<R> {
  const method = (...args: A): AsyncIterable<R> => {
    try {
      return open(...args);
    } catch (error) {
      return failing(error);
    }
  };
  return Object.assign(method, { [ITERABLE]: true });
}

/** Marks door methods that answer at once, so that a refusal is thrown. All others return a promise or an iterable. */
const SYNCHRONOUS = Symbol('answers at once');

/** Wraps a door method that is not asynchronous. */
export function synchronous<A extends unknown[], R>(method: (...args: A) => R): (...args: A) => R {
  return Object.assign((...args: A) => method(...args), { [SYNCHRONOUS]: true });
}

/** An iterable whose first `next()` rejects. */
export function failing(error: unknown): AsyncIterable<never> {
  return { [Symbol.asyncIterator]: () => ({ next: () => Promise.reject(error) }) };
}
