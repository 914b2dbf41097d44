/** What a middleware's configuration may say of single methods, and where the contracts have their signals. */
import { suggest } from '../../contracts/arguments.js';
import { methodsOf } from '../../contracts/capability.js';
import type { Call } from '../../contracts/decorate.js';
import { FatalError } from '../../contracts/errors.js';
import { KNOWN_CAPABILITIES } from '../../contracts/known.js';
import type { MiddlewareContext } from '../../contracts/plugin.js';

/**
 * Looks for slips in `config.methods`. The methods of a contract that a plugin brought are not known here.
 * @throws FatalError ConfigInvalid, code `CONFIG_INVALID`, naming the method, and those that there are
 */
export function checkMethods({ id, capability, name }: MiddlewareContext<unknown>, methods: readonly string[]): void {
  const token = KNOWN_CAPABILITIES.find((known) => known.id === capability);
  if (token === undefined) return;
  const known = [...methodsOf(token).keys(), ...(capability === 'Storage@1' ? ['commit'] : [])];
  const stranger = methods.find((method) => !known.includes(method));
  if (stranger === undefined) return;
  const message = `middleware ${id} of ${token.name}#${name}: config.methods: ${token.name} has no method "${stranger}".${suggest(stranger, known)}`;
  throw new FatalError('ConfigInvalid', message, { context: { capability, method: stranger } });
}

/** The place of the options that have a `signal`, by method; no two contracts have a method of one name in two places. */
const OPTIONS_AT: ReadonlyMap<string, number> = new Map([
  ['putBytes', 1],
  ['putStream', 1],
  ['getBytes', 1],
  ['getStream', 1],
  ['list', 0],
  ['enqueue', 1],
  ['enqueueMany', 1],
  ['receive', 0],
  ['watch', 1],
  ['attach', 1],
]);

const CONTRACTS = new Set(['ObjectStore@1', 'Queue@1', 'Storage@1', 'BlockStore@1']);

/** The signal that a call was given: in its options, which are an object with nothing but plain keys. */
export function signalOf({ args }: Call): AbortSignal | undefined {
  for (const arg of args) {
    const { signal } = (arg ?? {}) as { signal?: unknown };
    if (signal instanceof AbortSignal) return signal;
  }
  return undefined;
}

/** Whether a method takes options with a `signal`. */
export function takesSignal(capability: string, method: string): boolean {
  return CONTRACTS.has(capability) && OPTIONS_AT.has(method);
}

/** The arguments of a call, which takes one, with `signal` in its options besides. */
export function withSignal({ method, args }: Call, signal: AbortSignal): readonly unknown[] {
  const at = OPTIONS_AT.get(method) ?? 0;
  const all = [...args];
  const options = (all[at] ?? {}) as { signal?: AbortSignal };
  const both = options.signal === undefined ? signal : AbortSignal.any([options.signal, signal]);
  all[at] = { ...options, signal: both };
  return all;
}
