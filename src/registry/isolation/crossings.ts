/**
 * What is known of each contract when it crosses to another process: what its methods have to answer, which of them
 * answer an iterable at once, and how those that are not asynchronous are done.
 *
 * A plugin in a process of its own is written elsewhere and runs elsewhere: what it answers is checked here, once, so that
 * a wrong answer is told with the method's name and not found later, somewhere else, as an odd value. Contracts that a
 * plugin brings are not known, and their answers pass unchecked.
 */
import { types } from 'node:util';
import { FatalError } from '../../contracts/errors.js';
import { ContentId, LeaseToken, QueueItemId, show } from '../../contracts/ids.js';
import { isSecretValue } from '../../contracts/secret-store.js';
import type { CommitOptions, Storage, StorageKey, StorageTxn } from '../../contracts/storage.js';
import { answered } from './references.js';
import type { Reference } from './values.js';

/** What an answer has to be; `asked` reads after "the contract asks for". */
export interface Shape {
  readonly asked: string;
  fits(value: unknown): boolean;
  /** For an iterable or stream: what each of its items has to be. */
  readonly items?: Shape;
}

export interface Crossing {
  readonly answers: Readonly<Record<string, Shape>>;
  /** Methods that answer an async iterable, not a promise of one. */
  readonly iterables?: readonly string[];
  /** Those of them whose items are there, and not waited for: they may be read ahead of their reader. */
  readonly ahead?: readonly string[];
  /** Properties that are not methods. */
  readonly properties?: readonly string[];
  /** More methods that the side that has the original offers to the other. */
  readonly extras?: Readonly<Record<string, (value: never, ...args: never[]) => unknown>>;
  /** Methods that answer at once, made of calls that do not. */
  readonly locals?: (call: (method: string, args: readonly unknown[]) => Promise<unknown>) => Record<string, unknown>;
}

const shape = (asked: string, fits: (value: unknown) => boolean): Shape => ({ asked, fits });

const nothing = shape('nothing in particular', () => true);
const text = shape('text', (value) => typeof value === 'string');
const yesOrNo = shape('true or false', (value) => typeof value === 'boolean');
const count = shape('a whole number of at least 0', (value) => Number.isSafeInteger(value) && (value as number) >= 0);
const finite = shape('a number', (value) => typeof value === 'number' && Number.isFinite(value));
const bytes = shape('a Uint8Array', (value) => types.isUint8Array(value));
const contentId = shape('a ContentId', ContentId.is);
const itemId = shape('a QueueItemId', QueueItemId.is);
const token = shape('a LeaseToken', LeaseToken.is);
const secret = shape('a SecretValue', isSecretValue);

const orNull = (of: Shape): Shape => shape(`${of.asked}, or null`, (value) => value === null || of.fits(value));
const listOf = (of: Shape): Shape =>
  shape(`an array, each ${of.asked}`, (value) => Array.isArray(value) && value.every((each) => of.fits(each)));
const record = (fields: Readonly<Record<string, Shape>>): Shape => {
  const asked = Object.entries(fields).map(([name, of]) => `${name}: ${of.asked}`);
  return shape(`{ ${asked.join('; ')} }`, (value) => {
    if (typeof value !== 'object' || value === null) return false;
    return Object.entries(fields).every(([name, of]) => of.fits((value as Record<string, unknown>)[name]));
  });
};
const iterableOf = (items: Shape): Shape => ({
  asked: `an async iterable, each ${items.asked}`,
  fits: (value) => typeof (value as Partial<AsyncIterable<unknown>> | null)?.[Symbol.asyncIterator] === 'function',
  items,
});
const streamOf = (items: Shape): Shape => ({
  asked: `a ReadableStream, each chunk ${items.asked}`,
  fits: (value) => typeof (value as Partial<ReadableStream> | null)?.getReader === 'function',
  items,
});

const item = record({ id: itemId, payload: bytes, attempts: count, token: orNull(token), leaseMs: orNull(finite) });
const key = record({ namespace: text, path: listOf(text) });
const disposable = shape(
  'an AsyncDisposable',
  (value) => typeof (value as Partial<AsyncDisposable> | null)?.[Symbol.asyncDispose] === 'function',
);

const closing = { close: nothing } as const;

/** By capability, `<name>@<major>`. */
export const CROSSINGS: Readonly<Record<string, Crossing>> = {
  'ObjectStore@1': {
    iterables: ['list'],
    ahead: ['list'],
    answers: {
      putBytes: contentId,
      putStream: contentId,
      getBytes: bytes,
      getStream: streamOf(bytes),
      exists: yesOrNo,
      stat: orNull(record({ id: contentId, size: count, contentType: orNull(text), createdAtMs: finite })),
      delete: yesOrNo,
      list: iterableOf(contentId),
    },
  },
  'Queue@1': {
    iterables: ['deadLetters'],
    ahead: ['deadLetters'],
    answers: {
      ...closing,
      enqueue: itemId,
      enqueueMany: listOf(itemId),
      dequeue: orNull(item),
      dequeueWithLease: orNull(item),
      dequeueMany: listOf(item),
      receive: listOf(item),
      extendLease: nothing,
      ack: nothing,
      nack: nothing,
      deadLetters: iterableOf(item),
      requeue: nothing,
      purge: count,
      stats: record({ pending: count, inFlight: count, payloadBytesMax: count, durability: text }),
    },
  },
  'SecretStore@1': { answers: { get: secret, put: nothing, names: listOf(text) } },
  'ComputeHint@1': {
    answers: {
      inventory: record({ cpuCount: count, memoryMib: finite, gpus: listOf(record({ vendor: text, model: text })) }),
      preemptionSignal: orNull(finite),
    },
  },
  'GpuEnumerator@1': {
    answers: {
      enumerate: record({ gpus: listOf(record({ vendor: text, model: text })), source: text, reason: orNull(text) }),
    },
  },
  'BlockStore@1': {
    answers: { attach: record({ volumeId: text, device: text }), detach: nothing, snapshot: text },
  },
  'Storage@1': {
    iterables: ['scan', 'watch'],
    ahead: ['scan'],
    properties: ['durability'],
    answers: {
      ...closing,
      get: orNull(bytes),
      getMany: listOf(orNull(bytes)),
      scan: iterableOf(record({ key, value: bytes })),
      begin: nothing,
      watch: iterableOf(record({ kind: text, key })),
      lock: disposable,
      ping: nothing,
      '@@commit': yesOrNo,
    },
    extras: { '@@commit': commit },
    locals: (call) => ({ begin: () => new Batch(call) }),
  },
};

type Write =
  | readonly ['put', StorageKey, Uint8Array]
  | readonly ['delete', StorageKey]
  | readonly ['check', StorageKey, Uint8Array | null];

/** A transaction's writes, gathered where they are made: the commit takes them over in one message. */
class Batch implements StorageTxn {
  #writes: Write[] | null = [];

  constructor(private readonly call: (method: string, args: readonly unknown[]) => Promise<unknown>) {}

  put(key: StorageKey, value: Uint8Array): void {
    this.#open().push(['put', key, value]);
  }

  delete(key: StorageKey): void {
    this.#open().push(['delete', key]);
  }

  check(key: StorageKey, expected: Uint8Array | null): void {
    this.#open().push(['check', key, expected]);
  }

  async commit(options?: CommitOptions): Promise<boolean> {
    const writes = this.#open();
    this.#writes = null;
    return (await this.call('@@commit', [writes, options])) as boolean;
  }

  abort(): void {
    this.#writes = null;
  }

  #open(): Write[] {
    if (this.#writes !== null) return this.#writes;
    throw new FatalError('Internal', 'the transaction has ended already', { code: 'TXN_ENDED' });
  }
}

function commit(storage: Storage, writes: readonly Write[], options?: CommitOptions): Promise<boolean> {
  const txn = storage.begin();
  for (const write of writes) {
    if (write[0] === 'put') txn.put(write[1], write[2]);
    else if (write[0] === 'delete') txn.delete(write[1]);
    else txn.check(write[1], write[2]);
  }
  return txn.commit(options);
}

/** Calls a method of the original; rejects when it is gone. */
export type Invoke = (method: string, args: readonly unknown[]) => Promise<unknown>;

/**
 * The contract's methods over calls, for who knows which contract it is.
 * @param methods that the original has
 * @param data its other properties
 */
export function methodsOver(
  capabilityId: string,
  { methods, data }: Pick<Reference, 'methods' | 'data'>,
  invoke: Invoke,
): Record<string, unknown> {
  const { iterables = [], extras = {}, locals } = CROSSINGS[capabilityId] ?? {};
  const isKnown = capabilityId in CROSSINGS;
  const face: Record<string, unknown> = { ...data };
  for (const method of methods) {
    if (method.startsWith('@@') || method in extras) continue;
    if (iterables.includes(method)) face[method] = (...args: unknown[]) => later(invoke(method, args));
    else if (isKnown) face[method] = (...args: unknown[]) => invoke(method, args);
    else face[method] = (...args: unknown[]) => answered(invoke(method, args));
  }
  return Object.assign(face, locals?.(invoke));
}

/** The items of an iterable that is on its way. That it does not come is told to whoever reads it. */
function later(coming: Promise<unknown>): AsyncIterable<unknown> {
  coming.catch(() => {});
  return over(coming as Promise<AsyncIterable<unknown>>, { each: (value) => value, told: (error) => error });
}

/** What is done to what comes of an iterable or stream. */
interface Passing {
  /** Each item, checked. */
  each(value: unknown): unknown;
  /** What its reader is told of an error. */
  told(error: unknown): unknown;
}

/** Not a generator, as one that is ended before its first item would not end what is beneath it. */
function over(
  source: AsyncIterable<unknown> | Promise<AsyncIterable<unknown>>,
  { each, told }: Passing,
): AsyncIterable<unknown> {
  return {
    [Symbol.asyncIterator]() {
      let opened: AsyncIterator<unknown> | null = null;
      const open = async () => {
        opened ??= (await source)[Symbol.asyncIterator]();
        return opened;
      };
      const end = async () => {
        await (await open()).return?.();
        return { done: true as const, value: undefined };
      };
      return {
        async next() {
          const step = (await open()).next();
          const { done, value } = await step.catch((error) => Promise.reject(told(error)));
          if (done) return { done, value: undefined };
          try {
            return { done: false, value: each(value) };
          } catch (error) {
            await end();
            throw error;
          }
        },
        return: end,
      };
    },
  };
}

/**
 * An answer, checked; of an iterable or stream, each item when it comes.
 * @param who the instance and method, for the message
 * @param told what its reader is told when an iterable or stream fails
 * @throws FatalError PluginContract, code `ANSWER_INVALID`
 */
export function checkAnswer(
  asked: Shape | undefined,
  value: unknown,
  who: string,
  told: (error: unknown) => unknown = (error) => error,
): unknown {
  if (asked === undefined) return value;
  if (!asked.fits(value)) throw wrong(who, asked, value);
  if (asked.items === undefined) return value;
  const { items } = asked;
  const passing: Passing = {
    each(found) {
      if (items.fits(found)) return found;
      throw wrong(`an item of ${who}`, items, found);
    },
    told,
  };
  const { getReader } = value as Partial<ReadableStream>;
  return getReader === undefined
    ? over(value as AsyncIterable<unknown>, passing)
    : checkedStream(value as ReadableStream<unknown>, passing);
}

function wrong(who: string, { asked }: Shape, found: unknown): FatalError {
  return new FatalError('PluginContract', `${who} answered ${kindOf(found)}; the contract asks for ${asked}`, {
    code: 'ANSWER_INVALID',
    context: { method: who },
  });
}

/** What it is, not what it says: an answer of the wrong form may be a secret all the same. */
function kindOf(value: unknown): string {
  if (typeof value === 'string') return 'text';
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return show(value);
  const keys = Object.keys(value);
  return keys.length === 0 ? 'an object' : `an object with ${keys.slice(0, 8).join(', ')}`;
}

function checkedStream(source: ReadableStream<unknown>, { each, told }: Passing): ReadableStream<unknown> {
  const reader = source.getReader();
  return new ReadableStream(
    {
      async pull(controller) {
        const { done, value } = await reader.read().catch((error) => Promise.reject(told(error)));
        if (done) return controller.close();
        try {
          controller.enqueue(each(value));
        } catch (error) {
          await reader.cancel(error);
          throw error;
        }
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
}
