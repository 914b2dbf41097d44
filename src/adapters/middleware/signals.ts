/** Where the contracts of this package have their signals. */
import type { Call } from '../../contracts/decorate.js';

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

/** The arguments of a call with `signal` in its options besides; as they are where the method takes none. */
export function withSignal(capability: string, { method, args }: Call, signal: AbortSignal): readonly unknown[] {
  const at = CONTRACTS.has(capability) ? OPTIONS_AT.get(method) : undefined;
  if (at === undefined) return args;
  const all = [...args];
  const options = (all[at] ?? {}) as { signal?: AbortSignal };
  const both = options.signal === undefined ? signal : AbortSignal.any([options.signal, signal]);
  all[at] = { ...options, signal: both };
  return all;
}
