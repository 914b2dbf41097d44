/** What a middleware's configuration may say of single methods, and where the contracts have their signals. */
import { suggest } from '../../contracts/arguments.js';
import { methodsOf } from '../../contracts/capability.js';
import type { Call } from '../../contracts/decorate.js';
import { FatalError } from '../../contracts/errors.js';
import { KNOWN_CAPABILITIES } from '../../contracts/known.js';
import { onAbort } from '../../contracts/on-abort.js';
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

/**
 * The signal of a call that takes one: it aborts when told, and as that of the caller does, as long as it is linked.
 *
 * Not `AbortSignal.any`, where that can be helped: a service gives one signal to all the calls of its life, and on Node
 * 20 and 22 each combination with it stays in memory (measured: 60 and 200 bytes a call).
 */
export class CallSignal {
  readonly #call: Call;
  readonly #own = new AbortController();
  readonly #callers: AbortSignal | undefined;

  constructor(call: Call) {
    this.#call = call;
    this.#callers = this.#options.signal;
  }

  /** The arguments of the call, with this signal in its options. */
  get args(): readonly unknown[] {
    // A stream is read after the call that opened it, and the caller's signal is for that, too.
    const outlives = this.#call.method === 'getStream' && this.#callers !== undefined;
    const signal = outlives ? AbortSignal.any([this.#callers as AbortSignal, this.#own.signal]) : this.#own.signal;
    const all = [...this.#call.args];
    all[this.#at] = { ...this.#options, signal };
    return all;
  }

  abort(reason: unknown): void {
    this.#own.abort(reason);
  }

  /** @returns what ends it, to be called once the call, or the iteration, is over */
  link(): () => void {
    const callers = this.#callers;
    return onAbort(callers, () => this.#own.abort(callers?.reason));
  }

  get #at(): number {
    return OPTIONS_AT.get(this.#call.method) ?? 0;
  }

  get #options(): { readonly signal?: AbortSignal } {
    return (this.#call.args[this.#at] ?? {}) as { readonly signal?: AbortSignal };
  }
}
