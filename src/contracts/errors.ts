/**
 * The one family of errors that contracts name.
 *
 * Programs act on `severity`, `kind` and `code`; people read `message`; logs keep `context` and `cause`. No error is
 * ever told apart by its text, returned as a value, or given a secret to carry.
 *
 * An adapter throws one of the two classes. Anything else that escapes an adapter is a defect of that adapter.
 */
import { DISABLED_CALL_ADVICE, isDisabledCall } from './disabled-call.js';

/** What a retry can hope for, decided by whoever saw the failure. */
export type RetryHint =
  /** The same call will fail again until a person or another call changes something. */
  | { readonly kind: 'never' }
  /** The same call may succeed `delayMs` milliseconds from now. */
  | { readonly kind: 'after'; readonly delayMs: number }
  /** Retry with exponential back-off from `baseMs`, never waiting longer than `maxMs`. */
  | { readonly kind: 'backoff'; readonly baseMs: number; readonly maxMs: number };

/** `Throttled`: slow down. `Transient`: the world may change. `Preempted`: this machine is being taken away. */
export type RecoverableKind = 'Throttled' | 'Transient' | 'Preempted';

/**
 * `ConfigInvalid`: the configuration has to change. `SchemaViolation`: the caller passed something that the contract
 * does not allow. `PluginContract`: a plugin broke its side of a contract. `Internal`: something that should hold did
 * not.
 */
export type FatalKind = 'ConfigInvalid' | 'SchemaViolation' | 'PluginContract' | 'Internal';

/**
 * Stable names of single failures, the finest thing a program may act on. The host's own are `RC####`; docs/errors.md
 * lists all. Adapters add their own, in the same spelling.
 */
export type ErrorCode =
  | 'ARGUMENT_INVALID'
  | 'BACKLOG_FULL'
  | 'CLOSED'
  | 'CLOSE_TIMEOUT'
  | 'CONSUMER_STOPPED'
  | 'FEATURE_UNSUPPORTED'
  | 'IO_DENIED'
  | 'IO_ERROR'
  | 'ITEM_NOT_LEASED'
  | 'ITEM_UNKNOWN'
  | 'KEY_REUSED'
  | 'LEASE_LOST'
  | 'LEASE_TOKEN_REQUIRED'
  | 'LOCKED'
  | 'OBJECT_CORRUPT'
  | 'OBJECT_NOT_FOUND'
  | 'PACKAGE_MISSING'
  | 'PAYLOAD_TOO_LARGE'
  | 'PLATFORM_UNSUPPORTED'
  | 'READ_ONLY'
  | 'SECRET_NOT_ALLOWED'
  | 'SECRET_UNSET'
  | 'STORAGE_BUSY'
  | 'STORAGE_CORRUPT'
  | 'STORAGE_FORMAT'
  | 'STORAGE_FULL'
  | 'STORAGE_REPLACED'
  | 'STORE_FULL'
  | 'TIMEOUT'
  | 'TXN_ENDED'
  | 'VOLUME_NOT_FOUND'
  | 'WATCH_OVERFLOW'
  | (string & {});

/** Plain data for logs: what was asked, what was found. Never a secret. */
export type ErrorContext = Readonly<Record<string, unknown>>;

export interface CoreErrorOptions {
  /** Defaults to the kind in capitals, e.g. `TRANSIENT`; give a finer one wherever a caller could act on it. */
  readonly code?: ErrorCode;
  readonly context?: ErrorContext;
  readonly cause?: unknown;
}

const BRAND = Symbol.for('rollout-cloud/CoreError');

/** What both classes share. Never thrown itself: see {@link RecoverableError} and {@link FatalError}. */
export abstract class CoreError extends Error {
  abstract readonly severity: 'recoverable' | 'fatal';
  abstract readonly kind: RecoverableKind | FatalKind;
  readonly code: ErrorCode;
  readonly context: ErrorContext;

  protected constructor(kind: string, message: string, options: CoreErrorOptions) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined);
    this.code = options.code ?? kind.replace(/(?<=[a-z])(?=[A-Z])/g, '_').toUpperCase();
    this.context = options.context ?? {};
    Object.defineProperty(this, BRAND, { value: true });
  }

  /** The error as one plain object, for logs and `--json` output. */
  toJSON(): Record<string, unknown> {
    const { name, severity, kind, code, message, context } = this;
    return { name, severity, kind, code, message, context };
  }
}

/** A failure that may pass. `retry` says whether repeating the same call is worth it, and when. */
export class RecoverableError extends CoreError {
  override readonly name = 'RecoverableError';
  readonly severity = 'recoverable';
  readonly retry: RetryHint;

  /**
   * @param message one sentence that the reader can act on, without the kind or code in it
   * @param options `retry` defaults to back-off from 100 ms up to 10 s
   */
  constructor(
    readonly kind: RecoverableKind,
    message: string,
    options: CoreErrorOptions & { readonly retry?: RetryHint } = {},
  ) {
    super(kind, message, options);
    this.retry = options.retry ?? { kind: 'backoff', baseMs: 100, maxMs: 10_000 };
  }

  override toJSON(): Record<string, unknown> {
    return { ...super.toJSON(), retry: this.retry };
  }
}

/** A failure that repeating the call cannot mend: configuration, code or data has to change first. */
export class FatalError extends CoreError {
  override readonly name = 'FatalError';
  readonly severity = 'fatal';

  /** @param message one sentence that the reader can act on, without the kind or code in it */
  constructor(
    readonly kind: FatalKind,
    message: string,
    options: CoreErrorOptions = {},
  ) {
    super(kind, message, options);
  }
}

/** Whether `error` is of this family, whichever copy of the package made it. */
export function isCoreError(error: unknown): error is RecoverableError | FatalError {
  return typeof error === 'object' && error !== null && BRAND in error;
}

/** Failures of the operating system that free space, a closed file, or time may end. Everything else is fatal. */
const PASSING_ERRNOS = new Set([
  'EAGAIN',
  'EBUSY',
  'EDQUOT',
  'EINTR',
  'EIO',
  'EMFILE',
  'ENFILE',
  'ENOMEM',
  'ENOSPC',
  'ETIMEDOUT',
]);

/** What to tell a person whose call failed with this errno. */
const ADVICE: Readonly<Record<string, string>> = {
  EACCES: 'this user may not access it: change its owner or mode, or configure another path',
  EDQUOT: 'the disk quota is used up: free some space',
  EEXIST: 'a file stands where a folder is needed: move it or configure another path',
  EISDIR: 'a folder is in the way: move it or configure another path',
  ELOOP: 'its symbolic links go round in a circle: mend them or configure another path',
  EMFILE: 'too many files are open in this process: raise `ulimit -n`',
  ENAMETOOLONG: 'the path is longer than the system allows: configure another one',
  ENFILE: 'too many files are open on this machine',
  ENOSPC: 'the disk is full: free some space',
  ENOTDIR: 'a file stands where a folder is needed: move it or configure another path',
  EPERM: 'this user may not do that: change its owner or mode, or configure another path',
  ERR_ACCESS_DENIED: 'the plugin may not do that: list it in the "permissions" of its manifest',
  EROFS: 'the file system is read-only: configure another path',
  EXDEV: 'the two lie on different file systems: move them to one',
};

/**
 * Turns a failed system call into this family, errno in `context`: `Transient` where it may pass (disk full, too many
 * open files, input/output error), else `ConfigInvalid` (permissions, a file where a folder is needed) or `Internal`.
 * An error of this family is returned as it is.
 * @param doing what was being done, to what, e.g. `write ./data/object-store/tmp/1f`
 */
export function systemError(cause: unknown, doing: string): RecoverableError | FatalError {
  if (isCoreError(cause)) return cause;
  const { code: errno, message } = (cause ?? {}) as NodeJS.ErrnoException;
  const options = { cause, context: { errno: errno ?? null, doing } };
  if (errno === undefined) {
    return new FatalError('Internal', `could not ${doing}: ${message ?? String(cause)}`, options);
  }
  const advice = isDisabledCall(cause) ? DISABLED_CALL_ADVICE : ADVICE[errno];
  const text = `could not ${doing}: ${errno}${advice === undefined ? '' : `, ${advice}`}`;
  if (PASSING_ERRNOS.has(errno)) return new RecoverableError('Transient', text, { ...options, code: 'IO_ERROR' });
  const denied = ADVICE[errno] !== undefined;
  return new FatalError(denied ? 'ConfigInvalid' : 'Internal', text, {
    ...options,
    code: denied ? 'IO_DENIED' : 'IO_ERROR',
  });
}
