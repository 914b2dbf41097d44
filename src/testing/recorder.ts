/**
 * Recording and faults, as a wrapper round any instance of any contract.
 *
 * Fault model. The next calls of one method, as many as was said, reject (an iterable's first `next()` does; a method
 * that answers at once throws) with the error given, and do not reach what is wrapped: nothing of them has happened.
 * Never: a call that takes effect and fails all the same, a late answer, a wrong one. For those on a Storage, see
 * `faultyStorage`.
 *
 * A method of a plugin's contract whose token has no door, and that is no `async` function, does not tell how it will
 * answer: its fault is a rejected promise that is an iterable as well.
 */
import * as check from '../contracts/arguments.js';
import { type Capability, facade, failing, type MethodKind, methodsOf } from '../contracts/capability.js';
import { type Call, decorate } from '../contracts/decorate.js';
import { FatalError } from '../contracts/errors.js';
import { KNOWN_CAPABILITIES } from '../contracts/known.js';
import type { Storage } from '../contracts/storage.js';

/** One call, as it was made; `answer` or `error` once it has settled. */
export interface RecordedCall extends Call {
  /** What it resolved to; for an iterable, the iterable itself. */
  readonly answer?: unknown;
  readonly error?: unknown;
}

/** A method of a contract, as calls name it; `commit` is that of a Storage's transactions. */
export type MethodOf<T extends object> = (keyof T & string) | (T extends Storage ? 'commit' : never);

/** Calls that are kept; the oldest are forgotten first. */
const CALLS_MAX = 10_000;

interface Fault {
  readonly error: unknown;
  /** How the method answers, where its contract says so. */
  readonly kind: MethodKind | undefined;
  left: number;
}

export class Recorder {
  /** In the order in which they were made. */
  readonly calls: RecordedCall[] = [];
  readonly #faults = new Map<string, Fault[]>();

  /** Lets the next `times` calls of `method` fail. Said again, it counts from where the last one ends. */
  failNext(token: Capability<object>, method: string, error: unknown, times = 1): void {
    const methods = methodsOf(token);
    const known = [...methods.keys(), ...(token.id === 'Storage@1' ? ['commit'] : [])];
    if (known.length > 0 && !known.includes(method)) {
      throw new FatalError('SchemaViolation', `${token.id} has no method "${method}"; it has ${known.join(', ')}`, {
        code: 'ARGUMENT_INVALID',
        context: { argument: 'method', capability: token.id },
      });
    }
    if (error === undefined) throw check.invalid('error', 'what the call is to reject with', error);
    check.integer('times', times, 1);
    const faults = this.#faults.get(method) ?? [];
    faults.push({ error, kind: methods.get(method), left: times });
    this.#faults.set(method, faults);
  }

  /** `instance` with its calls recorded, as they are made on the outside, and with `controls`. */
  wrap<T extends object>(capability: string, instance: T, controls?: object): T {
    const isKnown = KNOWN_CAPABILITIES.some(({ id }) => id === capability);
    const recorded = decorate(capability, instance, {
      call: async (call, proceed) => {
        const record = this.#record(call);
        try {
          this.#fail(call.method);
          const answer = await proceed();
          Object.assign(record, { answer });
          return answer;
        } catch (error) {
          Object.assign(record, { error });
          throw error;
        }
      },
      iterate: (call, proceed) => this.#atOnce(call, proceed) as AsyncIterable<unknown>,
      answer: (call, proceed) => this.#atOnce(call, proceed),
    });
    const faulty = isKnown ? recorded : this.#failingFirst(instance, recorded);
    return controls === undefined ? faulty : facade(faulty, new Map(Object.entries(controls)));
  }

  #atOnce(call: Call, proceed: () => unknown): unknown {
    const record = this.#record(call);
    try {
      this.#fail(call.method);
      const answer = proceed();
      Object.assign(record, { answer });
      return answer;
    } catch (error) {
      Object.assign(record, { error });
      throw error;
    }
  }

  #record({ method, args }: Call): RecordedCall {
    const record: RecordedCall = { method, args };
    this.calls.push(record);
    if (this.calls.length > CALLS_MAX) this.calls.shift();
    return record;
  }

  #fail(method: string): void {
    const fault = this.#next(method);
    if (fault !== null) throw fault.error;
  }

  #next(method: string): Fault | null {
    const faults = this.#faults.get(method);
    const fault = faults?.[0];
    if (faults === undefined || fault === undefined) return null;
    fault.left -= 1;
    if (fault.left === 0) faults.shift();
    return fault;
  }

  /**
   * Of a contract that is not known here, a method that does not tell how it answers is called to find that out: one that
   * is to fail has to do so before.
   */
  #failingFirst<T extends object>(instance: T, recorded: T): T {
    return new Proxy(recorded, {
      get: (target, property) => {
        const method = (instance as Record<string | symbol, unknown>)[property];
        const isPlain = typeof method === 'function' && !TELLING.has(Object.prototype.toString.call(method));
        if (typeof property !== 'string' || !isPlain || !this.#faults.get(property)?.length) {
          return Reflect.get(target, property);
        }
        return (...args: unknown[]) => {
          const fault = this.#next(property);
          if (fault === null) return (target as Record<string, (...args: unknown[]) => unknown>)[property]?.(...args);
          Object.assign(this.#record({ method: property, args }), { error: fault.error });
          return answering(fault);
        };
      },
    });
  }
}

/** Methods that tell how they answer. */
const TELLING = new Set(['[object AsyncFunction]', '[object AsyncGeneratorFunction]']);

function answering({ error, kind }: Fault): unknown {
  if (kind === 'synchronous') throw error;
  if (kind === 'iterable') return failing(error);
  const rejected = Promise.reject(error);
  if (kind === 'async') return rejected;
  // Whoever iterates it never looks at the promise.
  rejected.catch(() => {});
  return Object.assign(rejected, failing(error));
}
