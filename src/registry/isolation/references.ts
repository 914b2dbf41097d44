/**
 * Things with methods, on both sides: how one that stays here is called from afar, and what stands in for it there.
 *
 * A stand-in has the methods that the original had when it was sent, each of which answers a promise, and its other
 * properties as they were then. The promise can be iterated, too: whether the original answers a promise or an async
 * iterable is not known before it has answered.
 */
import { FatalError } from '../../contracts/errors.js';
import { type Batch, type Encode, iterable, iterating, quietly, readAhead, reading, stream } from './sources.js';
import { isPlain, type Reference } from './values.js';

/** Methods that go by a symbol. */
const SYMBOLS: ReadonlyMap<string, symbol> = new Map([
  ['@@asyncDispose', Symbol.asyncDispose],
  ['@@dispose', Symbol.dispose],
]);

/** Something to lend, where more is known of it than can be seen: a proxy does not tell its methods. */
export class Lend {
  /**
   * @param names methods and properties that it may have
   * @param extras more methods for the far side; each is given the value first
   * @param ahead methods that answer an iterable which may be read ahead of its reader
   */
  constructor(
    readonly value: object,
    readonly names: readonly string[] = [],
    readonly extras: Readonly<Record<string, (value: never, ...args: never[]) => unknown>> = {},
    readonly ahead: readonly string[] = [],
  ) {}
}

/** Something of this side, as it is called from afar. */
export interface Target {
  readonly kind: Reference['kind'];
  readonly methods: readonly string[];
  readonly data: Readonly<Record<string, unknown>>;
  invoke(method: string, args: readonly unknown[]): unknown;
  /** Of an iterable or stream, in place of `next`: its next items, as many as come at once and the credit covers. */
  take?(credit: readonly unknown[], encode: Encode): Promise<Batch>;
  /** Lets go of what it holds. Never rejects. */
  end?(): Promise<void>;
  /** Whether nothing more can come of it. */
  isOver?(): boolean;
}

export function describe(value: object, kind: Reference['kind'], lend = new Lend(value)): Target {
  if (kind === 'iterable') return iterating(value as AsyncIterable<unknown>);
  if (kind === 'stream') return reading(value as ReadableStream<unknown>);
  if (kind === 'function') {
    const call = value as (...args: readonly unknown[]) => unknown;
    return { kind, methods: [''], data: {}, invoke: (_method, args) => call(...args) };
  }
  const { methods, data } = surface(value, lend.names);
  const known = new Set(methods);
  return {
    kind,
    methods: [...methods, ...Object.keys(lend.extras)],
    data,
    invoke(method, args) {
      const extra = Object.hasOwn(lend.extras, method) ? lend.extras[method] : undefined;
      if (extra !== undefined) return (extra as (...all: unknown[]) => unknown)(value, ...args);
      const call: unknown = known.has(method) ? Reflect.get(value, SYMBOLS.get(method) ?? method) : undefined;
      if (typeof call === 'function') {
        const answer: unknown = Reflect.apply(call, value, args);
        return lend.ahead.includes(method) ? readAhead(answer) : answer;
      }
      throw new FatalError('PluginContract', `there is no method ${method}()`, { code: 'ANSWER_INVALID' });
    },
    async end() {
      const name = ['@@asyncDispose', '@@dispose'].find((each) => known.has(each));
      if (name !== undefined) await quietly(() => this.invoke(name, []));
    },
  };
}

/** Methods, inherited ones included, and plain properties. Of a class's instance only simple values are told. */
function surface(value: object, names: readonly string[]): Pick<Target, 'methods' | 'data'> {
  const found = new Set<string>();
  const wholly = isPlain(value);
  for (
    let from: object | null = value;
    from !== null && from !== Object.prototype;
    from = Object.getPrototypeOf(from)
  ) {
    if (Object.getPrototypeOf(from) === null && from !== value) break; // the Object of another realm
    for (const name of Object.getOwnPropertyNames(from)) if (name !== 'constructor') found.add(name);
  }
  for (const name of names) found.add(name);
  const methods: string[] = [];
  const data: Record<string, unknown> = {};
  for (const name of found) {
    let each: unknown;
    try {
      each = Reflect.get(value, name);
    } catch {
      continue; // A getter that cannot answer now has nothing to tell.
    }
    if (typeof each === 'function') methods.push(name);
    else if (each !== undefined && (wholly || isSimple(each))) data[name] = each;
  }
  for (const [name, symbol] of SYMBOLS) if (typeof Reflect.get(value, symbol) === 'function') methods.push(name);
  return { methods, data };
}

function isSimple(value: unknown): boolean {
  return value === null || ['string', 'number', 'boolean', 'bigint'].includes(typeof value);
}

/** Calls a method of the original. */
export type Call = (method: string, args: readonly unknown[], standIn: object) => Promise<unknown>;

/**
 * What stands in for something of the far side.
 * @param onOver called when an iterable or stream is read to its end or given up
 */
export function borrow({ kind, methods, data }: Reference, call: Call, onOver: () => void): object {
  if (kind === 'iterable') return iterable(call, onOver);
  if (kind === 'stream') return stream(call, onOver);
  if (kind === 'function') {
    const standIn = (...args: unknown[]) => answered(call('', args, standIn));
    return standIn;
  }
  const standIn: Record<string | symbol, unknown> = { ...data };
  for (const method of methods) {
    standIn[SYMBOLS.get(method) ?? method] = (...args: unknown[]) => answered(call(method, args, standIn));
  }
  return standIn;
}

type Answer = Promise<unknown> & { [Symbol.asyncIterator]?: () => AsyncIterator<unknown> };

/** Makes the promise one that can be iterated, too: then it is the iterable that it answers. */
export function answered(promise: Answer): Answer {
  promise[Symbol.asyncIterator] = iterateAnswer;
  return promise;
}

async function* iterateAnswer(this: Answer): AsyncGenerator<unknown, void, void> {
  yield* (await this) as AsyncIterable<unknown>;
}
