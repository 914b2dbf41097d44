/** Argument checks that the contracts' doors share. Each throws `FatalError` `SchemaViolation`, `ARGUMENT_INVALID`. */
import { createRequire } from 'node:module';
import { types } from 'node:util';
import { FatalError } from './errors.js';
import { show } from './ids.js';
import { onAbort } from './on-abort.js';

/** The refusal of one argument: what was asked of it, what was found. */
export function invalid(what: string, expected: string, found: unknown): FatalError {
  return new FatalError('SchemaViolation', `${what} must be ${expected}, found ${show(found)}`, {
    code: 'ARGUMENT_INVALID',
    context: { argument: what },
  });
}

export function bytes(what: string, value: unknown): Uint8Array {
  if (types.isUint8Array(value)) return value;
  throw invalid(what, 'a Uint8Array or Buffer', value);
}

/** Copies up to this long are cut from a buffer that they share: one of its own takes 0.6 µs of an enqueue's 11. */
const SHARED_COPY_BYTES_MAX = 1_024;
const SHARED_BYTES = 16 * 1_024;
let shared = new Uint8Array(SHARED_BYTES);
let sharedUsed = 0;

/**
 * A copy for an implementation. A short one may share its `buffer` with others, as Node's Buffers do, and keeps all of it
 * in memory: who holds on to it for long copies it again.
 */
export function copyOf(bytes: Uint8Array): Uint8Array {
  const { length } = bytes;
  if (length > SHARED_COPY_BYTES_MAX) return new Uint8Array(bytes);
  if (sharedUsed + length > SHARED_BYTES) {
    shared = new Uint8Array(SHARED_BYTES);
    sharedUsed = 0;
  }
  const copy = new Uint8Array(shared.buffer, sharedUsed, length);
  copy.set(bytes);
  sharedUsed += length;
  return copy;
}

/** An integer within bounds, both included. */
export function integer(what: string, value: unknown, min: number, max = Number.MAX_SAFE_INTEGER): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return value;
  const upTo = max === Number.MAX_SAFE_INTEGER ? `an integer of at least ${min}` : `an integer from ${min} to ${max}`;
  throw invalid(what, upTo, value);
}

/** Text that every store can hold: well-formed Unicode, no NUL, of a bounded length in UTF-16 units. */
export function text(what: string, value: unknown, min: number, max: number): string {
  if (typeof value === 'string' && value.length >= min && value.length <= max && isPlain(value)) return value;
  throw invalid(what, `well-formed text of ${min} to ${max} characters without NUL`, value);
}

/** Options objects may be left out; anything but a plain object is refused. */
export function options<T extends object>(what: string, value: T | undefined): T | Record<string, never> {
  if (value === undefined) return {};
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
  throw invalid(what, 'an object', value);
}

/** Options of which each name is known; another is refused with the nearest that is. May be left out. */
export function known<T extends object>(
  what: string,
  value: T | undefined,
  names: readonly (keyof T & string)[],
): T | Record<string, never> {
  const given = options(what, value);
  for (const name of Object.keys(given)) {
    if ((names as readonly string[]).includes(name)) continue;
    throw new FatalError('SchemaViolation', `unknown option ${show(name)} in ${what}.${suggest(name, names)}`, {
      code: 'ARGUMENT_INVALID',
      context: { argument: name },
    });
  }
  return given;
}

/** ` Did you mean "x"? Known: …` for a name that is not among `known`. Empty where nothing is known. */
export function suggest(name: string, known: readonly string[]): string {
  if (known.length === 0) return '';
  // Loaded for the first slip: whoever makes none does not wait for it.
  const { distance } = createRequire(import.meta.url)('fastest-levenshtein') as typeof import('fastest-levenshtein');
  const sorted = [...known].sort();
  // Whoever writes a name in capitals, as names of the environment are, means it all the same.
  const distanceTo = (other: string) => distance(name.toLowerCase(), other.toLowerCase());
  const [nearest] = [...sorted].sort((a, b) => distanceTo(a) - distanceTo(b));
  // A slip in a short name, one in three letters of a long one: past that a guess misleads.
  const slips = nearest === undefined ? name.length : distanceTo(nearest);
  const near = slips < name.length && slips <= Math.max(1, name.length / 3);
  return `${near ? ` Did you mean "${nearest}"?` : ''} Known: ${sorted.join(', ')}.`;
}

export function signal(what: string, value: AbortSignal | undefined): AbortSignal | undefined {
  if (value === undefined || value instanceof AbortSignal) return value;
  throw invalid(what, 'an AbortSignal', value);
}

/** What `promise` comes to, or the signal's reason as soon as it is aborted. */
export async function orAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  let stop = () => {};
  const aborted = new Promise<never>((_, reject) => {
    stop = onAbort(signal, () => reject(signal.reason));
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    stop();
  }
}

/** A lone surrogate is the only thing that makes a JavaScript string ill-formed. `u` makes pairs one character. */
const LONE_SURROGATE_OR_NUL = /[\0\p{Surrogate}]/u;

function isPlain(value: string): boolean {
  return !LONE_SURROGATE_OR_NUL.test(value);
}
