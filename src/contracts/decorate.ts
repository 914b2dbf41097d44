/**
 * Decorating: something that happens around every call of an instance, whatever its contract. What middleware is made of.
 *
 * The result passes for what it decorates: it is an `instanceof` the same class, has the same properties and symbols, and
 * what is not a call of the contract (`close`, `health`, `drain`, methods beyond the contract) goes to it untouched.
 */
import { facade, failing, type MethodKind, methodsOf, NO_CALLS, toldKind } from './capability.js';
import { KNOWN_CAPABILITIES } from './known.js';

/** One call of a contract's method. */
export interface Call {
  /** E.g. `enqueue`; `commit` for that of a Storage's transaction. */
  readonly method: string;
  readonly args: readonly unknown[];
}

/** Makes the call, with other arguments where they are given. May be called more than once, or not at all. */
export type Proceed<R> = (args?: readonly unknown[]) => R;

/** What happens around calls, by how they answer. What is left out lets them pass. */
export interface Around {
  /** Around a method that answers with a promise. What it throws, the promise is rejected with. */
  call?(call: Call, proceed: Proceed<Promise<unknown>>): Promise<unknown>;
  /**
   * Around a method that answers with an async iterable. Call `proceed` at once, not when the first item is asked for:
   * some begin with the call, as `Storage.watch` does.
   */
  iterate?(call: Call, proceed: Proceed<AsyncIterable<unknown>>): AsyncIterable<unknown>;
  /** Around a method that answers at once, as `Storage.begin`. */
  answer?(call: Call, proceed: Proceed<unknown>): unknown;
}

/** The contracts of this package, by id. Of others, how a method answers is told by the method, or by its answer. */
const METHODS: ReadonlyMap<string, () => ReadonlyMap<string, MethodKind>> = new Map(
  KNOWN_CAPABILITIES.map((token) => [token.id, () => methodsOf(token)]),
);

/** Calls that are made on what a method answers, and belong to the contract all the same. */
const CALLS_ON_ANSWERS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'Storage@1': { begin: 'commit' },
};

type Method = (...args: unknown[]) => unknown;

/**
 * `inner` with `around` around the calls of its contract.
 * @param capability `<name>@<major>`, as a middleware's context has it
 */
export function decorate<T extends object>(capability: string, inner: T, around: Around): T {
  const methods = METHODS.get(capability)?.() ?? null;
  const own = new Map<string | symbol, unknown>();
  if (methods !== null) {
    for (const [name, kind] of methods) {
      // The contract's door, or the caller, tells of a method that is missing.
      if (typeof (inner as Record<string, unknown>)[name] !== 'function') continue;
      const nested = CALLS_ON_ANSWERS[capability]?.[name];
      own.set(name, nested === undefined ? wrap(inner, name, kind, around) : nest(inner, name, nested, around));
    }
    return noted(facade(inner, own));
  }
  const byName = new Map<string, unknown>();
  const plain = facade(inner, own);
  const byAnswer = new Proxy(plain, {
    get(target, property) {
      const value: unknown = Reflect.get(target, property);
      if (typeof value !== 'function' || typeof property !== 'string' || NO_CALLS.has(property)) return value;
      if (!byName.has(property)) {
        const kind = toldKind((inner as Record<string, unknown>)[property]);
        byName.set(property, kind ? wrap(inner, property, kind, around) : wrapByAnswer(inner, property, around));
      }
      return byName.get(property);
    },
  });
  return noted(byAnswer);
}

const REGISTRY = Symbol.for('rollout-cloud/decorations');

/** All that were made, by any copy of this package. */
const DECORATIONS = ((): WeakSet<object> => {
  const shared = globalThis as { [REGISTRY]?: WeakSet<object> };
  shared[REGISTRY] ??= new WeakSet();
  return shared[REGISTRY];
})();

function noted<T extends object>(decoration: T): T {
  DECORATIONS.add(decoration);
  return decoration;
}

/** Whether closing `value` is closing what it decorates, and nothing else. */
export function isDecoration(value: object): boolean {
  return DECORATIONS.has(value);
}

function wrap(inner: object, name: string, kind: MethodKind, { call, iterate, answer }: Around): Method {
  const forward = (args: readonly unknown[]) => (inner as Record<string, Method>)[name]?.(...args);
  const hooks = { async: call, iterable: iterate, synchronous: answer };
  const hook = hooks[kind] as ((call: Call, proceed: Proceed<unknown>) => unknown) | undefined;
  if (hook === undefined) return (...args) => forward(args);
  const run: Method = (...args) => hook({ method: name, args }, (other = args) => forward(other));
  // `async`, so that a decoration around this one can tell how it answers.
  if (kind === 'async') return async (...args) => run(...args);
  if (kind === 'synchronous') return run;
  return (...args) => {
    try {
      return run(...args);
    } catch (error) {
      return failing(error);
    }
  };
}

/** For a method that does not tell how it answers: it is called first, and `around` sees the answer under way. */
function wrapByAnswer(inner: object, name: string, around: Around): Method {
  return (...args) => {
    const forward = (given: readonly unknown[]) => (inner as Record<string, Method>)[name]?.(...given);
    const first = forward(args);
    const kind: MethodKind =
      typeof (first as PromiseLike<unknown> | null)?.then === 'function'
        ? 'async'
        : typeof (first as AsyncIterable<unknown> | null)?.[Symbol.asyncIterator] === 'function' &&
            !(first instanceof ReadableStream)
          ? 'iterable'
          : 'synchronous';
    // `around` may never look at it.
    if (kind === 'async') Promise.resolve(first).catch(() => {});
    let isFirst = true;
    const proceeding = {
      [name]: (...given: unknown[]) => {
        if (!isFirst) return forward(given);
        isFirst = false;
        return first;
      },
    };
    return wrap(proceeding, name, kind, around)(...args);
  };
}

/** A method that answers at once with an object, one of whose methods is a call of the contract. */
function nest(inner: object, name: string, nested: string, around: Around): Method {
  const open = wrap(inner, name, 'synchronous', around);
  return (...args) => {
    const answer = open(...args) as object;
    return facade(answer, new Map([[nested, wrap(answer, nested, 'async', around)]]));
  };
}
