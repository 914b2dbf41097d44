import { type Capability, checked } from '../../src/contracts/index.js';

/** What reached the implementation behind a door: the method's name, then its arguments. */
export type Call = [name: string, ...args: unknown[]];

/**
 * The door of a contract before an implementation that does nothing but keep what it is called with.
 * @param own methods that do something
 */
export function recorder<T extends object>(
  token: Capability<T>,
  features: readonly string[] = [],
  own: Partial<T> = {},
): { door: T; calls: Call[] } {
  const calls: Call[] = [];
  const impl = new Proxy(own as T, {
    get: (methods, name) => {
      if (name in methods || typeof name === 'symbol' || name === 'close') return Reflect.get(methods, name);
      return (...args: unknown[]) => {
        calls.push([name, ...args]);
      };
    },
  });
  return { door: checked(token, impl, { adapter: 'test.recorder', features }), calls };
}

/** One call that a door must refuse, and a part of what the refusal says. */
export type Refused = readonly [method: string, args: readonly unknown[], message: string];

/** The refusals in the order in which a test's title, `%s: %s`, names them. */
export function titled(refusals: readonly Refused[]): (readonly [string, string, readonly unknown[]])[] {
  return refusals.map(([method, args, message]) => [method, message, args]);
}

/** Calls a method by name with whatever arguments; a refusal comes back as the rejection it would be to a caller. */
export async function call(door: object, name: string, args: readonly unknown[]): Promise<unknown> {
  const answer = (door as Record<string, (...args: unknown[]) => unknown>)[name]?.(...args);
  const iterate = (answer as AsyncIterable<unknown> | undefined)?.[Symbol.asyncIterator];
  return iterate === undefined ? answer : iterate.call(answer).next();
}
