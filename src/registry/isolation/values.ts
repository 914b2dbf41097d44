/**
 * How values cross between two processes.
 *
 * Plain data, dates, maps, sets and bytes go as they are. What has an identity or a secret goes as `{ $: kind, … }`: an
 * error of the family is one again on the far side, a SecretValue stays redacted, an AbortSignal is followed. What has
 * methods (functions, objects with functions, iterables, streams) stays where it is, and the far side gets a stand-in.
 */
import { types } from 'node:util';
import {
  FatalError,
  isCoreError,
  RecoverableError,
  type RecoverableKind,
  type RetryHint,
} from '../../contracts/errors.js';
import { show } from '../../contracts/ids.js';
import { isSecretValue, SecretValue } from '../../contracts/secret-store.js';

/** The most that one message may hold: strings and bytes, summed. Larger objects go through a stream. */
export const MESSAGE_BYTES_MAX = 256 * 1024 * 1024;
/** Nesting past this is taken for a circle. */
const DEPTH_MAX = 64;
/** Causes of causes, and errors of an AggregateError, that are told. */
const CAUSES_MAX = 16;

/** What stands in for something that stays where it is. */
export interface Reference {
  readonly $: 'object';
  readonly id: number;
  readonly kind: 'object' | 'function' | 'iterable' | 'stream';
  /** Names of its methods; `@@asyncDispose` and the like for those of symbols. */
  readonly methods: readonly string[];
  /** Its other properties, as they were when it was sent. */
  readonly data: Readonly<Record<string, unknown>>;
}

/** What the connection does for values that stay where they are. */
export interface Places {
  /** A reference to something of this side. */
  lend(value: object, kind: Reference['kind']): Reference;
  /** The number by which the far side knows `value`, where it is the far side's. */
  farId(value: object): number | undefined;
  /** Something of this side that comes home. */
  own(id: number): unknown;
  /** A stand-in for something of the far side. */
  borrow(reference: Reference): unknown;
  /** Follows a signal of this side, for as long as the call needs it. */
  follow(signal: AbortSignal): number;
  /** A signal that is aborted when the far side says so. */
  followed(id: number): AbortSignal;
  /** The number of an error of this side, so that it is itself again when it comes home. */
  errorId(error: object): number;
  errorOf(id: number): unknown;
  /** Where an error came from: its number on the far side. */
  farErrorId(error: object): number | undefined;
  cameFrom(error: object, id: number): void;
}

/** Turns values into messages, and counts what they hold. One for each message. */
export class Encoder {
  #bytes = 0;

  constructor(
    private readonly places: Places,
    private readonly bytesMax = MESSAGE_BYTES_MAX,
  ) {}

  /** Of strings and bytes so far. */
  get bytes(): number {
    return this.#bytes;
  }

  encode(value: unknown, depth = 0): unknown {
    switch (typeof value) {
      case 'string':
        this.#count(value.length);
        return value;
      case 'symbol':
        throw unsendable('a symbol');
      case 'function':
        return this.#reference(value, 'function');
      case 'object':
        return value === null ? null : this.#object(value, depth);
      default:
        return value;
    }
  }

  #object(value: object, depth: number): unknown {
    if (ArrayBuffer.isView(value) || types.isAnyArrayBuffer(value)) {
      this.#count(value.byteLength);
      return value;
    }
    if (depth > DEPTH_MAX) throw unsendable(`an object of more than ${DEPTH_MAX} levels, or a circle`);
    if (Array.isArray(value)) return Array.from(value, (each) => this.encode(each, depth + 1));
    const iterable = Symbol.asyncIterator in value && typeof value[Symbol.asyncIterator] === 'function';
    if (isPlain(value) && !iterable) {
      if (hasMethods(value)) return this.#reference(value, 'object');
      const data: Record<string, unknown> = {};
      for (const key of Object.keys(value)) {
        set(data, key, this.encode((value as Record<string, unknown>)[key], depth + 1));
      }
      return '$' in value ? { $: 'data', data } : data;
    }
    if (isSecretValue(value)) return { $: 'secret', text: this.encode(value.reveal()) };
    if (isError(value)) return this.error(value);
    if (value instanceof AbortSignal) {
      if (value.aborted) return { $: 'signal', id: 0, reason: this.encode(value.reason, depth + 1) };
      return { $: 'signal', id: this.places.follow(value) };
    }
    if (types.isDate(value) || types.isRegExp(value)) return value;
    if (types.isMap(value)) {
      return { $: 'map', entries: Array.from(value, (entry) => this.encode(entry, depth + 1)) };
    }
    if (types.isSet(value)) return { $: 'set', values: Array.from(value, (each) => this.encode(each, depth + 1)) };
    if (types.isPromise(value)) throw unsendable('a promise inside another value');
    if (typeof (value as Partial<ReadableStream>).getReader === 'function') return this.#reference(value, 'stream');
    return this.#reference(value, iterable ? 'iterable' : 'object');
  }

  #reference(value: object, kind: Reference['kind']): unknown {
    const farId = this.places.farId(value);
    if (farId !== undefined) return { $: 'yours', id: farId };
    const { data, ...reference } = this.places.lend(value, kind);
    return { ...reference, data: Object.keys(data).length === 0 ? data : this.encode(data) };
  }

  /** Everything of an error that can be told; what cannot be sent of its context is shown as text. */
  error(error: unknown, depth = 0): unknown {
    if (!isError(error)) return this.#tolerant(error);
    const home = this.places.farErrorId(error);
    const { name, message, stack } = error;
    this.#count(message.length + (stack?.length ?? 0));
    const told = {
      $: 'error',
      ...(home === undefined ? { id: this.places.errorId(error) } : { home }),
      name,
      message,
      stack,
      ...('cause' in error && depth < CAUSES_MAX && { cause: this.error(error.cause, depth + 1) }),
    };
    if (isCoreError(error)) {
      const { severity, kind, code, context } = error;
      const core = { severity, kind, code, context: this.#tolerant(context) };
      return { ...told, core: severity === 'recoverable' ? { ...core, retry: { ...error.retry } } : core };
    }
    if (isDomException(error)) return { ...told, isDom: true };
    const { errors } = error as Partial<AggregateError>;
    const data = Object.entries(error).filter(([key]) => !(key in told) && key !== 'errors');
    return {
      ...told,
      data: data.map(([key, value]) => [key, this.#tolerant(value)]),
      ...(Array.isArray(errors) && {
        errors: errors.slice(0, CAUSES_MAX).map((each) => this.error(each, depth + CAUSES_MAX / 4)),
      }),
    };
  }

  #tolerant(value: unknown): unknown {
    try {
      return structuredTold(value) ? this.encode(value) : show(value);
    } catch (error) {
      if (isCoreError(error)) return show(value);
      throw error;
    }
  }

  #count(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes <= this.bytesMax) return;
    throw new FatalError(
      'SchemaViolation',
      `a message to or from a plugin's process holds at most ${this.bytesMax} bytes; send more as a stream`,
      { code: 'MESSAGE_TOO_LARGE', context: { bytesMax: this.bytesMax } },
    );
  }
}

/** Of what an error carries, data only goes along: nothing is kept alive for it on this side. */
function structuredTold(value: unknown, depth = 0): boolean {
  if (typeof value === 'function' || typeof value === 'symbol') return false;
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value) || isError(value)) return true;
  if (depth > DEPTH_MAX) return false;
  if (!Array.isArray(value) && !isPlain(value)) return false;
  return Object.values(value).every((each) => structuredTold(each, depth + 1));
}

/** A message's value as it was, with stand-ins for what stayed behind. */
export function decode(value: unknown, places: Places): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (types.isUint8Array(value)) return ownBytes(value);
  if (Array.isArray(value)) return Array.from(value, (each) => decode(each, places));
  if (!isPlain(value)) return value;
  const marked = value as { readonly $?: unknown };
  if ('$' in marked) return decodeMarked(marked as Marked, places);
  return decodeRecord(value, places);
}

type Marked =
  | { readonly $: 'data'; readonly data: object }
  | { readonly $: 'secret'; readonly text: string }
  | { readonly $: 'signal'; readonly id: number; readonly reason?: unknown }
  | { readonly $: 'map'; readonly entries: readonly unknown[] }
  | { readonly $: 'set'; readonly values: readonly unknown[] }
  | { readonly $: 'yours'; readonly id: number }
  | EncodedError
  | Reference;

interface EncodedError {
  readonly $: 'error';
  readonly id?: number;
  readonly home?: number;
  readonly name: string;
  readonly message: string;
  readonly stack?: string;
  readonly cause?: unknown;
  readonly core?: {
    readonly severity: 'recoverable' | 'fatal';
    readonly kind: never;
    readonly code: string;
    readonly context: unknown;
    readonly retry?: unknown;
  };
  readonly isDom?: true;
  readonly data?: readonly (readonly [string, unknown])[];
  readonly errors?: readonly unknown[];
}

function decodeMarked(value: Marked, places: Places): unknown {
  switch (value.$) {
    case 'data':
      return decodeRecord(value.data, places);
    case 'secret':
      return new SecretValue(value.text);
    case 'signal':
      return value.id === 0 ? AbortSignal.abort(decode(value.reason, places)) : places.followed(value.id);
    case 'map':
      return new Map(value.entries.map((entry) => decode(entry, places) as [unknown, unknown]));
    case 'set':
      return new Set(value.values.map((each) => decode(each, places)));
    case 'yours':
      return places.own(value.id);
    case 'error':
      return decodeError(value, places);
    case 'object':
      return places.borrow({ ...value, data: decodeRecord(value.data, places) });
  }
}

function decodeRecord(value: object, places: Places): Record<string, unknown> {
  const data: Record<string, unknown> = {};
  for (const key of Object.keys(value)) set(data, key, decode((value as Record<string, unknown>)[key], places));
  return data;
}

/** `__proto__` is a key like any other. */
function set(data: Record<string, unknown>, key: string, value: unknown): void {
  if (key === '__proto__')
    Object.defineProperty(data, key, { value, enumerable: true, configurable: true, writable: true });
  else data[key] = value;
}

/** Bytes of a message share its buffer: whoever kept a few of them would keep it all. */
function ownBytes(value: Uint8Array): Uint8Array {
  return Buffer.isBuffer(value) ? Buffer.from(value) : new Uint8Array(value);
}

const BUILT_IN = { Error, TypeError, RangeError, SyntaxError, ReferenceError, EvalError, URIError };

function decodeError(told: EncodedError, places: Places): unknown {
  if (told.home !== undefined) {
    const home = places.errorOf(told.home);
    if (home !== undefined) return home;
  }
  const error = rebuilt(told, 'cause' in told ? { cause: decode(told.cause, places) } : {}, places);
  if (told.stack !== undefined) Object.defineProperty(error, 'stack', { value: told.stack, configurable: true });
  if (told.id !== undefined) places.cameFrom(error, told.id);
  return error;
}

function rebuilt(told: EncodedError, options: { cause?: unknown }, places: Places): Error {
  const { name, message, core } = told;
  if (core !== undefined) {
    const context = decode(core.context, places) as Record<string, unknown>;
    const all = { ...options, code: core.code, context };
    return core.severity === 'recoverable'
      ? new RecoverableError(core.kind as RecoverableKind, message, {
          ...all,
          retry: decode(core.retry, places) as RetryHint,
        })
      : new FatalError(core.kind, message, all);
  }
  if (told.isDom) return new DOMException(message, name);
  const Class = Object.hasOwn(BUILT_IN, name) ? BUILT_IN[name as keyof typeof BUILT_IN] : Error;
  const error =
    told.errors === undefined
      ? new Class(message, options)
      : new AggregateError(
          told.errors.map((each) => decode(each, places)),
          message,
          options,
        );
  if (error.name !== name) Object.defineProperty(error, 'name', { value: name, configurable: true });
  const data = (told.data ?? []).map(([key, value]) => [key, decode(value, places)] as const);
  return Object.assign(error, Object.fromEntries(data));
}

/** An error of whichever realm or copy of the package. */
function isError(value: unknown): value is Error {
  return value instanceof Error || types.isNativeError(value) || isCoreError(value) || isDomException(value);
}

function isDomException(value: unknown): value is DOMException {
  return Object.prototype.toString.call(value) === '[object DOMException]';
}

function hasMethods(value: object): boolean {
  return (
    Object.values(value).some((each) => typeof each === 'function') ||
    Symbol.asyncDispose in value ||
    Symbol.dispose in value
  );
}

/** Whether it is `{…}`, of whichever realm: the prototype of its prototype is nothing. */
export function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

function unsendable(what: string): FatalError {
  return new FatalError('SchemaViolation', `${what} cannot be sent to or from a plugin's process`, {
    code: 'VALUE_UNSENDABLE',
  });
}
