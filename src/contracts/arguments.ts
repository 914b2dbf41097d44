/** Argument checks that the contracts' doors share. Each throws `FatalError` `SchemaViolation`, `ARGUMENT_INVALID`. */
import { types } from 'node:util';
import { FatalError } from './errors.js';
import { show } from './ids.js';

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

/** Options of which each name is known; another is refused with those that are. May be left out. */
export function known<T extends object>(
  what: string,
  value: T | undefined,
  names: readonly (keyof T & string)[],
): T | Record<string, never> {
  const given = options(what, value);
  const stranger = Object.keys(given).find((name) => !(names as readonly string[]).includes(name));
  if (stranger === undefined) return given;
  throw new FatalError('SchemaViolation', `unknown option ${show(stranger)}; known are ${names.join(', ')}`, {
    code: 'ARGUMENT_INVALID',
    context: { argument: stranger },
  });
}

export function signal(what: string, value: AbortSignal | undefined): AbortSignal | undefined {
  if (value === undefined || value instanceof AbortSignal) return value;
  throw invalid(what, 'an AbortSignal', value);
}

/** A lone surrogate is the only thing that makes a JavaScript string ill-formed. `u` makes pairs one character. */
const LONE_SURROGATE_OR_NUL = /[\0\p{Surrogate}]/u;

function isPlain(value: string): boolean {
  return !LONE_SURROGATE_OR_NUL.test(value);
}
