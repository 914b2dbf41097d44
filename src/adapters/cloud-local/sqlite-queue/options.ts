/** Options of SqliteQueue: plain JSON but for the clock, each checked and defaulted here. */
import * as check from '../../../contracts/arguments.js';
import { type Clock, systemClock } from '../../../contracts/clock.js';
import { WAIT_MS_MAX } from '../../../contracts/queue.js';
import type { StorageDurability } from '../../../contracts/storage.js';

export interface SqliteQueueOptions {
  /** Which queue of the file: 1 to 64 of `A–Z a–z 0–9 _ -`. Left out: the one that has no name. */
  readonly name?: string;
  /** `sqlite3`: the package, off the event loop. `node`: `node:sqlite`, in place. Default `sqlite3`. */
  readonly engine?: 'sqlite3' | 'node';
  /** What a resolved call survives. Default `full`: a power cut. */
  readonly durability?: StorageDurability;
  /** How long a call waits for other processes' writes, ms, before it is refused as `Transient`. Default 5,000. */
  readonly busyTimeoutMs?: number;
  /** Largest payload accepted, bytes. Default 64 MiB. */
  readonly payloadBytesMax?: number;
  /** Payload bytes of the whole backlog; `enqueue` beyond it rejects `Throttled`. Default none. */
  readonly maxPendingBytes?: number;
  /** Hand-overs after which an item becomes a dead letter instead of being handed over again. Default none. */
  readonly maxAttempts?: number;
  /** How long a key stays taken after its item was acked, ms. Default 0. */
  readonly keyRetentionMs?: number;
  /** What leases, delays and waits run on. Default the machine's own time, which all its processes share. */
  readonly clock?: Clock;
}

export interface SqliteQueueSettings extends Required<Omit<SqliteQueueOptions, 'name'>> {
  /** Empty for the queue without a name. */
  readonly name: string;
}

const KNOWN = [
  'name',
  'engine',
  'durability',
  'busyTimeoutMs',
  'payloadBytesMax',
  'maxPendingBytes',
  'maxAttempts',
  'keyRetentionMs',
  'clock',
] as const;

/** SQLite takes a blob of 1,000,000,000 bytes at most, row included. */
const PAYLOAD_BYTES_MAX = 999_999_000;

/** @throws FatalError SchemaViolation, code `ARGUMENT_INVALID`, naming the option and what it has to be */
export function checkOptions(given: SqliteQueueOptions): SqliteQueueSettings {
  const options: SqliteQueueOptions = check.known('options', given, KNOWN);
  const { name, engine = 'sqlite3', durability = 'full', clock = systemClock } = options;
  if (name !== undefined && (typeof name !== 'string' || !/^[A-Za-z0-9_-]{1,64}$/.test(name))) {
    throw check.invalid('options.name', '1 to 64 of A–Z a–z 0–9 _ -', name);
  }
  if (engine !== 'sqlite3' && engine !== 'node') throw check.invalid('options.engine', '"sqlite3" or "node"', engine);
  if (!['full', 'normal', 'off'].includes(durability)) {
    throw check.invalid('options.durability', '"full", "normal" or "off"', durability);
  }
  type Bounded = 'busyTimeoutMs' | 'payloadBytesMax' | 'maxPendingBytes' | 'maxAttempts' | 'keyRetentionMs';
  const bounded = (option: Bounded, missing: number, min: number, max?: number): number =>
    options[option] === undefined ? missing : check.integer(`options.${option}`, options[option], min, max);
  const maxPendingBytes = bounded('maxPendingBytes', Number.POSITIVE_INFINITY, 1);
  return {
    name: name ?? '',
    engine,
    durability,
    busyTimeoutMs: bounded('busyTimeoutMs', 5_000, 0, 2 ** 31 - 1),
    // A payload that the backlog could never hold is refused for good, rather than throttled for ever.
    payloadBytesMax: Math.min(bounded('payloadBytesMax', 64 * 2 ** 20, 1, PAYLOAD_BYTES_MAX), maxPendingBytes),
    maxPendingBytes,
    maxAttempts: bounded('maxAttempts', Number.POSITIVE_INFINITY, 1),
    keyRetentionMs: bounded('keyRetentionMs', 0, 0, WAIT_MS_MAX),
    clock,
  };
}
