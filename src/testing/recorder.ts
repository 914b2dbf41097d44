/**
 * Recording and faults, as a wrapper round any instance of any contract.
 *
 * Fault model. The next calls of one method, as many as was said, reject (an iterable's first `next()` does; a method
 * that answers at once throws) with the error given, and do not reach what is wrapped: nothing of them has happened.
 * Never: a call that takes effect and fails all the same, a late answer, a wrong one. For those on a Storage, see
 * `faultyStorage`.
 */
import * as check from '../contracts/arguments.js';
import { type Capability, facade, methodsOf } from '../contracts/capability.js';
import { type Call, decorate } from '../contracts/decorate.js';
import { FatalError } from '../contracts/errors.js';
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

export class Recorder {
  /** In the order in which they were made. */
  readonly calls: RecordedCall[] = [];
  readonly #faults = new Map<string, { error: unknown; left: number }[]>();

  /** Lets the next `times` calls of `method` fail. Said again, it counts from where the last one ends. */
  failNext(token: Capability<object>, method: string, error: unknown, times = 1): void {
    const known = [...methodsOf(token).keys(), ...(token.id === 'Storage@1' ? ['commit'] : [])];
    if (known.length > 0 && !known.includes(method)) {
      throw new FatalError('SchemaViolation', `${token.id} has no method "${method}"; it has ${known.join(', ')}`, {
        code: 'ARGUMENT_INVALID',
        context: { argument: 'method', capability: token.id },
      });
    }
    check.integer('times', times, 1);
    const faults = this.#faults.get(method) ?? [];
    faults.push({ error, left: times });
    this.#faults.set(method, faults);
  }

  /** `instance` with its calls recorded, as they are made on the outside, and with `controls`. */
  wrap<T extends object>(capability: string, instance: T, controls?: object): T {
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
    return controls === undefined ? recorded : facade(recorded, new Map(Object.entries(controls)));
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
    const faults = this.#faults.get(method);
    const fault = faults?.[0];
    if (faults === undefined || fault === undefined) return;
    fault.left -= 1;
    if (fault.left === 0) faults.shift();
    throw fault.error;
  }
}
