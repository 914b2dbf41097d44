/**
 * Things with methods, on both sides: how one that stays here is called from afar, and what stands in for it there.
 *
 * A stand-in has the methods that the original had when it was sent, each of which answers a promise, and its other
 * properties as they were then. The promise can be iterated, too: whether the original answers a promise or an async
 * iterable is not known before it has answered.
 */
import { types } from 'node:util';
import { FatalError } from '../../contracts/errors.js';
import { isPlain, type Reference } from './values.js';

/** The most bytes of a stream that go in one message; a larger chunk goes in parts. */
const CHUNK_BYTES_MAX = 1024 * 1024;

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
   */
  constructor(
    readonly value: object,
    readonly names: readonly string[] = [],
    readonly extras: Readonly<Record<string, (value: never, ...args: never[]) => unknown>> = {},
  ) {}
}

/** Something of this side, as it is called from afar. */
export interface Target {
  readonly kind: Reference['kind'];
  readonly methods: readonly string[];
  readonly data: Readonly<Record<string, unknown>>;
  invoke(method: string, args: readonly unknown[]): unknown;
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
      if (typeof call === 'function') return Reflect.apply(call, value, args);
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

/** Begins with the first call: an iterable that nobody reads is not opened. */
function iterating(source: AsyncIterable<unknown>): Target {
  let iterator: AsyncIterator<unknown> | null = null;
  let isOver = false;
  const target: Target = {
    kind: 'iterable',
    methods: ['next', 'return'],
    data: {},
    async invoke(method) {
      if (method === 'return') {
        isOver = true;
        // One that was never read may hold something all the same.
        iterator ??= source[Symbol.asyncIterator]();
        await iterator.return?.();
        return;
      }
      if (isOver) return { done: true };
      iterator ??= source[Symbol.asyncIterator]();
      try {
        const { done = false, value } = await iterator.next();
        isOver ||= done;
        return done ? { done } : { done, value };
      } catch (error) {
        isOver = true;
        throw error;
      }
    },
    end: () => quietly(() => target.invoke('return', [])),
    isOver: () => isOver,
  };
  return target;
}

function reading(source: ReadableStream<unknown>): Target {
  let reader: ReadableStreamDefaultReader<unknown> | null = null;
  let rest: Uint8Array | null = null;
  let isOver = false;
  const target: Target = {
    kind: 'stream',
    methods: ['next', 'return'],
    data: {},
    async invoke(method, [reason]) {
      if (method === 'return') {
        isOver = true;
        rest = null;
        await (reader ?? source).cancel(reason);
        return;
      }
      if (isOver) return { done: true };
      reader ??= source.getReader();
      try {
        const { done, value } = rest === null ? await reader.read() : { done: false, value: rest };
        rest = null;
        isOver ||= done;
        if (done) return { done };
        if (!types.isUint8Array(value) || value.byteLength <= CHUNK_BYTES_MAX) return { done, value };
        rest = value.subarray(CHUNK_BYTES_MAX);
        return { done, value: value.subarray(0, CHUNK_BYTES_MAX) };
      } catch (error) {
        isOver = true;
        throw error;
      }
    },
    end: () => quietly(() => target.invoke('return', [])),
    isOver: () => isOver,
  };
  return target;
}

/** For what is let go of when nobody is there any more who could be told. */
async function quietly(end: () => unknown): Promise<void> {
  try {
    await end();
  } catch {
    // Whoever made it has its own error; the one who used it is gone.
  }
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

/** Its own iterator, so that it is there for as long as somebody reads. */
function iterable(call: Call, onOver: () => void): AsyncIterableIterator<unknown> {
  let isOver = false;
  const end = () => {
    isOver = true;
    onOver();
  };
  const standIn: AsyncIterableIterator<unknown> = {
    [Symbol.asyncIterator]: () => standIn,
    async next() {
      if (isOver) return { done: true, value: undefined };
      try {
        const step = (await call('next', [], standIn)) as IteratorResult<unknown>;
        if (step.done) end();
        return step.done ? { done: true, value: undefined } : step;
      } catch (error) {
        end();
        throw error;
      }
    },
    async return() {
      const wasOver = isOver;
      end();
      if (!wasOver) await call('return', [], standIn);
      return { done: true, value: undefined };
    },
  };
  return standIn;
}

/** Asked for nothing before somebody reads, so that one that is only passed on goes home as it came; then one chunk ahead. */
function stream(call: Call, onOver: () => void): ReadableStream<unknown> {
  let ahead: Promise<unknown> | null = null;
  const standIn: ReadableStream<unknown> = new ReadableStream(
    {
      async pull(controller) {
        try {
          const { done, value } = (await (ahead ?? call('next', [], standIn))) as IteratorResult<unknown>;
          if (done) {
            onOver();
            return controller.close();
          }
          ahead = call('next', [], standIn);
          // Told to whoever reads that far.
          ahead.catch(() => {});
          controller.enqueue(value);
        } catch (error) {
          onOver();
          throw error;
        }
      },
      async cancel(reason) {
        onOver();
        await call('return', [reason], standIn);
      },
    },
    { highWaterMark: 0 },
  );
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
