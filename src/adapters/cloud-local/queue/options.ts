/** Options of InMemQueue: plain JSON, each checked and defaulted here, so that plugins.json can hold them. */
import * as check from '../../../contracts/arguments.js';
import { type Clock, systemClock } from '../../../contracts/clock.js';
import { FatalError, RecoverableError } from '../../../contracts/errors.js';
import { WAIT_MS_MAX } from '../../../contracts/queue.js';

export interface InMemQueueOptions {
  /** Which queue of the Storage: 1 to 64 of `A–Z a–z 0–9 _ -`. Left out: the one that has no name. */
  readonly name?: string;
  /** Largest payload accepted, bytes. Default 64 MiB: an item stands in memory two or three times while it is stored. */
  readonly payloadBytesMax?: number;
  /**
   * Bytes of items held in memory, their payloads and what it takes to find them. Those beyond it stay in the Storage
   * alone, and are read back in order, ahead of their turn. Default 256 MiB.
   */
  readonly memoryBytesMax?: number;
  /** Payload bytes of the whole backlog. Default none: the disk is the bound. */
  readonly maxPendingBytes?: number;
  /** Payload bytes that are given to the Storage at once; further enqueues wait for their flush. Default 16 MiB. */
  readonly maxUnflushedBytes?: number;
  /**
   * What an `enqueue` beyond `maxPendingBytes` does: rejects `Throttled`, code `BACKLOG_FULL`, or waits in turn until
   * enough has been worked off, its `signal` aborts, or the queue closes. Default `reject`.
   */
  readonly whenFull?: 'reject' | 'wait';
  /** Hand-overs after which an item becomes a dead letter instead of being handed over again. Default none. */
  readonly maxAttempts?: number;
  /** How long a key stays taken after its item was acked, ms. Default 0. */
  readonly keyRetentionMs?: number;
  /** How long `close()` waits for the Storage, ms. Default 4,000: under the 5,000 that a host gives to disposing. */
  readonly closeTimeoutMs?: number;
  /** What leases, delays and waits run on. Default the machine's own time; a test gives one that it moves. */
  readonly clock?: Clock;
}

export interface InMemQueueSettings extends Required<Omit<InMemQueueOptions, 'name'>> {
  readonly name: string | null;
}

const KNOWN = [
  'name',
  'payloadBytesMax',
  'memoryBytesMax',
  'maxPendingBytes',
  'maxUnflushedBytes',
  'whenFull',
  'maxAttempts',
  'keyRetentionMs',
  'closeTimeoutMs',
  'clock',
] as const;

const NAME = /^[A-Za-z0-9_-]{1,64}$/;

/** Payloads have to fit into one array: 2 GiB less one byte in every Node that is supported. */
const PAYLOAD_BYTES_MAX = 2 ** 31 - 1;

/** @throws FatalError SchemaViolation, code `ARGUMENT_INVALID`, naming the option and what it has to be */
export function checkOptions(given: InMemQueueOptions): InMemQueueSettings {
  const options: InMemQueueOptions = check.known('options', given, KNOWN);
  const { name } = options;
  if (name !== undefined && (typeof name !== 'string' || !NAME.test(name))) {
    throw check.invalid('options.name', '1 to 64 of A–Z a–z 0–9 _ -', name);
  }
  const { whenFull = 'reject' } = options;
  if (whenFull !== 'reject' && whenFull !== 'wait') {
    throw check.invalid('options.whenFull', '"reject" or "wait"', whenFull);
  }
  const bounded = (
    option: Exclude<keyof typeof options, 'clock' | 'whenFull'>,
    missing: number,
    min: number,
    max?: number,
  ): number =>
    options[option] === undefined ? missing : check.integer(`options.${option}`, options[option], min, max);
  const maxPendingBytes = bounded('maxPendingBytes', Number.POSITIVE_INFINITY, 1);
  return {
    name: name ?? null,
    // A payload that the backlog could never hold is refused for good, rather than throttled for ever.
    payloadBytesMax: Math.min(bounded('payloadBytesMax', 64 * 2 ** 20, 1, PAYLOAD_BYTES_MAX), maxPendingBytes),
    memoryBytesMax: bounded('memoryBytesMax', 256 * 2 ** 20, 0),
    maxPendingBytes,
    maxUnflushedBytes: bounded('maxUnflushedBytes', 16 * 2 ** 20, 1),
    whenFull,
    maxAttempts: bounded('maxAttempts', Number.POSITIVE_INFINITY, 1),
    keyRetentionMs: bounded('keyRetentionMs', 0, 0, WAIT_MS_MAX),
    closeTimeoutMs: bounded('closeTimeoutMs', 4_000, 1, WAIT_MS_MAX),
    clock: options.clock ?? systemClock,
  };
}

/** @throws FatalError SchemaViolation, code `PAYLOAD_TOO_LARGE` */
export function requireFits(payload: Uint8Array, payloadBytesMax: number): void {
  if (payload.length <= payloadBytesMax) return;
  throw new FatalError(
    'SchemaViolation',
    `a payload of ${payload.length} bytes is over this queue's bound of ${payloadBytesMax}; store it elsewhere and enqueue its id`,
    { code: 'PAYLOAD_TOO_LARGE', context: { payloadBytes: payload.length, payloadBytesMax } },
  );
}

/**
 * What several payloads need together. More than the backlog could ever hold is refused for good.
 * @param held bytes of the backlog so far
 * @throws FatalError SchemaViolation, code `PAYLOAD_TOO_LARGE`. RecoverableError Throttled, code `BACKLOG_FULL`.
 */
export function requireRoom(bytes: number, held: number, maxPendingBytes: number): void {
  if (bytes > maxPendingBytes) {
    throw new FatalError(
      'SchemaViolation',
      `payloads of ${bytes} bytes together are over this queue's bound of ${maxPendingBytes}; enqueue fewer at once`,
      { code: 'PAYLOAD_TOO_LARGE', context: { payloadBytes: bytes, maxPendingBytes } },
    );
  }
  if (held + bytes <= maxPendingBytes) return;
  throw new RecoverableError('Throttled', `the backlog is at its bound of ${maxPendingBytes} bytes; retry later`, {
    code: 'BACKLOG_FULL',
    context: { maxPendingBytes },
  });
}
