/**
 * Identifiers that cross contracts. Each is a string at run time and a type of its own at compile time, so that one is
 * not passed where another belongs; `parse` is the only way from text to such a type.
 */
import { FatalError } from './errors.js';

declare const kind: unique symbol;
type Tagged<Name extends string> = string & { readonly [kind]: Name };

/** Lower-case hex BLAKE3-256 of an object's bytes: 64 characters. The same bytes have the same id in every store. */
export type ContentId = Tagged<'ContentId'>;

/** A ULID: 26 characters of Crockford's base 32, upper case. Ids of one queue sort in enqueue order. */
export type QueueItemId = Tagged<'QueueItemId'>;

/** Proof of one lease. Opaque: a consumer hands back what it was given, and compares nothing. */
export type LeaseToken = Tagged<'LeaseToken'>;

interface IdKind<T extends string> {
  /** Whether `value` is written as this kind of id is. Says nothing of whether such a thing exists. */
  is(value: unknown): value is T;
  /** @throws FatalError SchemaViolation, code `ARGUMENT_INVALID`, when `value` is not written as this kind is. */
  parse(value: unknown): T;
}

function idKind<T extends string>(name: string, pattern: RegExp, form: string): IdKind<T> {
  const is = (value: unknown): value is T => typeof value === 'string' && pattern.test(value);
  return Object.freeze({
    is,
    parse(value: unknown): T {
      if (is(value)) return value;
      throw new FatalError('SchemaViolation', `${show(value)} is not a ${name}: expected ${form}`, {
        code: 'ARGUMENT_INVALID',
        context: { expected: form },
      });
    },
  });
}

export const ContentId: IdKind<ContentId> = idKind<ContentId>(
  'ContentId',
  /^[0-9a-f]{64}$/,
  '64 lower-case hexadecimal characters',
);

// The first character of a ULID is at most 7: its 128 bits fill 26 characters of 5 bits but for two.
export const QueueItemId: IdKind<QueueItemId> = idKind<QueueItemId>(
  'QueueItemId',
  /^[0-7][0-9A-HJKMNP-TV-Z]{25}$/,
  'a ULID of 26 upper-case characters',
);

export const LeaseToken: IdKind<LeaseToken> = idKind<LeaseToken>(
  'LeaseToken',
  /^[\x21-\x7e]{1,200}$/,
  'the token that came with the item',
);

/** A value as it may stand in a message: quoted, control characters escaped, cut at 80 characters. */
export function show(value: unknown): string {
  if (Array.isArray(value)) return 'an array';
  if (typeof value !== 'string') {
    return value === null || ['undefined', 'number', 'boolean'].includes(typeof value) ? String(value) : typeof value;
  }
  // JSON leaves DEL and the C1 controls (one of them starts a terminal's escape sequences) and line separators alone.
  const text = JSON.stringify(value).replace(
    /[\x7f-\x9f\u2028\u2029]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
  return text.length > 80 ? `${text.slice(0, 76)}…"` : text;
}
