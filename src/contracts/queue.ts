/**
 * Queue: work handed over at least once.
 *
 * An item is pending until a consumer takes it, in flight until it is acked (gone) or nacked (pending again, first in
 * line). A consumer that dies without either gives the item back when its lease runs out, or, without a lease, when the
 * queue is opened again. So a handler may see an item twice, and has to bear it.
 *
 * Order is first in, first out over pending items; a nacked or expired item goes before those never delivered.
 * Several consumers may each hold items, and finish them in any order.
 *
 * All calls may overlap. None retries by itself. A call that rejects with a `RecoverableError` has an outcome unknown to
 * the caller until the queue is opened again: the write may have reached the disk before the failure was seen.
 *
 * Features: `lease` (leases and tokens), `delay`, `key` (idempotent enqueue), `dead-letters`, `replay` (items survive
 * the process), `multi-process` (processes share the queue; what
 * one held goes back when it closes the queue). What an adapter does not declare rejects with `ConfigInvalid`, `FEATURE_UNSUPPORTED`.
 */
import * as check from './arguments.js';
import { capability, type DoorContext, iterable } from './capability.js';
import { LeaseToken, QueueItemId } from './ids.js';

export interface QueueItem {
  readonly id: QueueItemId;
  /** The bytes as enqueued. They are yours. */
  readonly payload: Uint8Array;
  /** How often the item has been handed over, this time included: 1 on the first delivery. */
  readonly attempts: number;
  /** Present when the item is leased: `ack`, `nack` and `extendLease` ask for it. */
  readonly token: LeaseToken | null;
  /** Length of the lease in ms, counted from the hand-over; `null` without a lease. */
  readonly leaseMs: number | null;
}

export interface EnqueueOptions {
  /** Hold the item back for this long. Default 0. Feature `delay`. */
  readonly delayMs?: number;
  /**
   * Idempotency key, 1 to 512 characters: the same key with the same bytes answers the first id. Repeating an enqueue
   * that failed makes no second item. Feature `key`.
   */
  readonly key?: string;
  readonly signal?: AbortSignal;
}

export interface ReceiveOptions {
  readonly leaseMs: number;
  /** At most this many items. Default 1. */
  readonly max?: number;
  /** How long to wait for the first item. 0 looks once. */
  readonly waitMs: number;
  readonly signal?: AbortSignal;
}

export interface NackOptions {
  /** Hold the item back for this long. Default 0: first in line at once. Feature `delay`. */
  readonly delayMs?: number;
}

/** Counts are of items, sizes in bytes. Totals are since this queue was opened. */
export interface QueueStats {
  readonly pending: number;
  readonly delayed: number;
  readonly inFlight: number;
  readonly deadLetters: number;
  /** Age of the item first in line, from its id's time; `null` when nothing is pending. */
  readonly oldestPendingAgeMs: number | null;
  readonly enqueuedTotal: number;
  readonly ackedTotal: number;
  readonly nackedTotal: number;
  readonly expiredTotal: number;
  /** What a resolved `enqueue` survives: a power cut, a crash of the process, or neither. */
  readonly durability: 'full' | 'normal' | 'off';
  /** Largest payload accepted. */
  readonly payloadBytesMax: number;
  readonly bytesInMemory: number;
  readonly bytesInStorage: number;
}

export interface Queue {
  /**
   * Appends one item; resolves once it survives what `stats().durability` says.
   * @param payload 0 to `stats().payloadBytesMax` bytes, copied before the call returns: the buffer stays yours
   * @throws RecoverableError Transient: storage full or busy. Throttled: the backlog is at its bound. FatalError
   * SchemaViolation, code `PAYLOAD_TOO_LARGE`.
   */
  enqueue(payload: Uint8Array, options?: EnqueueOptions): Promise<QueueItemId>;

  /**
   * Appends several items in the order given, all or none. With `key`, the items share no key: it is refused.
   * @throws as {@link enqueue}; `PAYLOAD_TOO_LARGE` also when all together are more than the backlog could ever hold
   */
  enqueueMany(payloads: readonly Uint8Array[], options?: EnqueueOptions): Promise<QueueItemId[]>;

  /**
   * Takes the first pending item without a lease, or `null` when none is pending. It stays in flight until acked or
   * nacked by its id, or until the queue is opened again.
   */
  dequeue(): Promise<QueueItem | null>;

  /** As {@link dequeue}, but the item returns to the front of the queue when `leaseMs` have passed. */
  dequeueWithLease(leaseMs: number): Promise<QueueItem | null>;

  /** Takes up to `max` items, each with a lease and token of its own. Empty when nothing is pending. */
  dequeueMany(max: number, leaseMs: number): Promise<QueueItem[]>;

  /** As {@link dequeueMany}, waiting up to `waitMs` for the first item; woken by what makes one pending, never polling. */
  receive(options: ReceiveOptions): Promise<QueueItem[]>;

  /**
   * Moves the lease's end to now + `byMs`.
   * @throws RecoverableError Transient, retry `never`, code `LEASE_LOST`: the lease has ended, or the item is not in
   * flight. Stop working on it: somebody else may be.
   */
  extendLease(id: QueueItemId, token: LeaseToken, byMs: number): Promise<void>;

  /**
   * Removes an item for good; resolves once that survives what `stats().durability` says. An id that the queue does not
   * hold resolves too: repeating an ack is safe. Dead letters are held: a token for one is stale.
   * @throws RecoverableError Transient, retry `never`, code `LEASE_LOST`: stale or expired token. FatalError
   * SchemaViolation, code `LEASE_TOKEN_REQUIRED`: the item is leased and no token was given. FatalError Internal, code
   * `ITEM_NOT_LEASED`: no token was given, and the item is pending or a dead letter: nobody has it.
   */
  ack(id: QueueItemId, token?: LeaseToken | null): Promise<void>;

  /**
   * Gives an item back, first in line. Without a delay it writes nothing: a restart would replay the item anyway.
   * @throws as {@link ack}, and FatalError Internal, code `ITEM_UNKNOWN`, for an id that the queue does not hold.
   */
  nack(id: QueueItemId, token?: LeaseToken | null, options?: NackOptions): Promise<void>;

  /** Items given up after too many attempts, oldest first. Feature `dead-letters`. */
  deadLetters(): AsyncIterable<QueueItem>;

  /** Makes a dead letter pending again, first in line but for older ones requeued before it, its count at 0. `ITEM_UNKNOWN` when it is none. */
  requeue(id: QueueItemId): Promise<void>;

  /** Deletes every pending (and delayed) item, or every dead letter; resolves to how many. In-flight items stay. */
  purge(which: 'pending' | 'dead'): Promise<number>;

  stats(): Promise<QueueStats>;

  /**
   * Waits for calls under way, then lets go of the queue. Items in flight are replayed by the next open. Any later call
   * is `FatalError` `Internal`, code `CLOSED`; a `receive` that waits is ended with an empty answer.
   */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** The longest lease, delay or wait: 24 days, under the largest delay that a Node timer takes (2^31 - 1 ms). */
export const WAIT_MS_MAX = 24 * 24 * 3_600_000;

/** The most items one call may take or append. */
export const ITEMS_PER_CALL_MAX = 10_000;

export const Queue = capability<Queue>('Queue', {
  major: 1,
  door: (impl, adapter) => ({
    enqueue: async (payload, options) => {
      const copy = check.copyOf(check.bytes('payload', payload));
      return impl.enqueue(copy, enqueueOptions(options, adapter));
    },
    enqueueMany: async (payloads, options) => {
      if (!Array.isArray(payloads)) throw check.invalid('payloads', 'an array', payloads);
      check.integer('payloads.length', payloads.length, 0, ITEMS_PER_CALL_MAX);
      // `Array.from` visits the gaps of a sparse array, which `map` leaves as they are.
      const copies = Array.from(payloads, (payload, i) => check.copyOf(check.bytes(`payloads[${i}]`, payload)));
      const checkedOptions = enqueueOptions(options, adapter);
      if (checkedOptions.key !== undefined) throw check.invalid('options.key', 'left out of enqueueMany', options?.key);
      return copies.length === 0 ? [] : impl.enqueueMany(copies, checkedOptions);
    },
    dequeue: async () => impl.dequeue(),
    dequeueWithLease: async (leaseMs) => impl.dequeueWithLease(lease(leaseMs, adapter)),
    dequeueMany: async (max, leaseMs) =>
      impl.dequeueMany(check.integer('max', max, 1, ITEMS_PER_CALL_MAX), lease(leaseMs, adapter)),
    receive: async (options) => {
      const {
        leaseMs,
        max = 1,
        waitMs,
        signal,
      } = check.known('options', options, ['leaseMs', 'max', 'waitMs', 'signal']) as ReceiveOptions;
      check.integer('options.max', max, 1, ITEMS_PER_CALL_MAX);
      check.integer('options.waitMs', waitMs, 0, WAIT_MS_MAX);
      check.signal('options.signal', signal)?.throwIfAborted();
      return impl.receive({ leaseMs: lease(leaseMs, adapter), max, waitMs, signal });
    },
    extendLease: async (id, token, byMs) => {
      adapter.need('lease', 'leases');
      return impl.extendLease(
        QueueItemId.parse(id),
        LeaseToken.parse(token),
        check.integer('byMs', byMs, 1, WAIT_MS_MAX),
      );
    },
    ack: async (id, token) => impl.ack(QueueItemId.parse(id), optionalToken(token)),
    nack: async (id, token, options) => {
      const { delayMs = 0 } = check.known('options', options, ['delayMs']) as NackOptions;
      if (delay(delayMs) > 0) adapter.need('delay', 'delayed items');
      return impl.nack(QueueItemId.parse(id), optionalToken(token), { delayMs });
    },
    deadLetters: iterable(() => {
      adapter.need('dead-letters', 'dead letters');
      return impl.deadLetters();
    }),
    requeue: async (id) => {
      adapter.need('dead-letters', 'dead letters');
      return impl.requeue(QueueItemId.parse(id));
    },
    purge: async (which) => {
      if (which !== 'pending' && which !== 'dead') throw check.invalid('which', '"pending" or "dead"', which);
      if (which === 'dead') adapter.need('dead-letters', 'dead letters');
      return impl.purge(which);
    },
    stats: async () => impl.stats(),
  }),
});

function enqueueOptions(given: EnqueueOptions | undefined, adapter: DoorContext): EnqueueOptions {
  const { delayMs = 0, key, signal } = check.known('options', given, ['delayMs', 'key', 'signal']) as EnqueueOptions;
  if (delay(delayMs) > 0) adapter.need('delay', 'delayed items');
  if (key !== undefined) {
    adapter.need('key', 'idempotency keys');
    check.text('options.key', key, 1, 512);
  }
  check.signal('options.signal', signal)?.throwIfAborted();
  return { delayMs, key, signal };
}

function delay(value: unknown): number {
  return check.integer('options.delayMs', value, 0, WAIT_MS_MAX);
}

function lease(value: unknown, adapter: DoorContext): number {
  adapter.need('lease', 'leases');
  return check.integer('leaseMs', value, 1, WAIT_MS_MAX);
}

function optionalToken(token: unknown): LeaseToken | null {
  return token === undefined || token === null ? null : LeaseToken.parse(token);
}
