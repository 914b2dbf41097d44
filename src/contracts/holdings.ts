/**
 * Holdings: the leased items that one consumer holds, each renewed until it is acked, given back or lost.
 * Not exported from the contracts: {@link consume}, `drain` and `deliveries` stand on it.
 */
import { isCoreError, RecoverableError } from './errors.js';
import { onAbort } from './on-abort.js';
import type { Queue, QueueItem } from './queue.js';

/** A lease is renewed when a third of it has passed: two more tries are left when one fails. */
const RENEWALS_PER_LEASE = 3;

/** An item held under a lease. */
export class Held {
  readonly #aborter = new AbortController();
  /** Acked, nacked or lost: nothing is to be done about it any more. */
  ended = false;
  renewing = false;

  constructor(public item: QueueItem) {}

  get signal(): AbortSignal {
    return this.#aborter.signal;
  }

  /** For items that wait to be given back: only id and token are needed for that. */
  dropPayload(): void {
    this.item = { ...this.item, payload: new Uint8Array() };
  }

  abort(reason: Error): void {
    this.ended = true;
    this.#aborter.abort(reason);
  }
}

/** The items that one consumer holds; their leases are renewed until they end. */
export class Holdings {
  readonly report = { acked: 0, nacked: 0, lost: 0 };
  readonly #queue: Queue;
  readonly #leaseMs: number;
  readonly #held = new Set<Held>();
  readonly #onChange = new Set<() => void>();
  #renewal: NodeJS.Timeout | undefined;

  constructor(queue: Queue, leaseMs: number) {
    this.#queue = queue;
    this.#leaseMs = leaseMs;
  }

  get size(): number {
    return this.#held.size;
  }

  add(item: QueueItem): Held {
    const held = new Held(item);
    this.#held.add(held);
    this.#renewal ??= setInterval(() => this.#renewAll(), Math.max(1, this.#leaseMs / RENEWALS_PER_LEASE));
    return held;
  }

  /** Ends a hold. One that was lost rejects with what ended it; one that has ended otherwise resolves. */
  async settle(held: Held, how: 'ack' | 'nack'): Promise<void> {
    if (held.signal.aborted) throw held.signal.reason;
    if (held.ended) return;
    held.ended = true;
    // Before the call: a renewal meanwhile would be refused, and be taken for a loss.
    this.#release(held);
    const { id, token } = held.item;
    try {
      await this.#queue[how](id, token);
      this.report[how === 'ack' ? 'acked' : 'nacked'] += 1;
    } catch (error) {
      const failure = how === 'nack' && isItemUnknown(error) ? settledByOthers(error, id) : error;
      if (isLeaseLost(failure)) this.report.lost += 1;
      throw failure;
    }
  }

  /**
   * Gives back all that is held, the newest first, as each goes first in line: the oldest is then the first.
   * Goes through all of them, then throws the first error, lost leases aside.
   */
  async giveBack(): Promise<void> {
    const failures: unknown[] = [];
    for (const held of [...this.#held].reverse()) {
      try {
        const settled = this.settle(held, 'nack');
        held.abort(stopped());
        await settled;
      } catch (error) {
        if (!isLeaseLost(error)) failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  }

  /** Resolves when a hold ends, {@link changed} is called, or `signal` aborts. */
  change(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve) => {
      let leave = () => {};
      const end = () => {
        this.#onChange.delete(end);
        leave();
        resolve();
      };
      this.#onChange.add(end);
      leave = onAbort(signal, end);
    });
  }

  changed(): void {
    for (const end of this.#onChange) end();
  }

  #release(held: Held): void {
    this.#held.delete(held);
    if (this.#held.size === 0) {
      clearInterval(this.#renewal);
      this.#renewal = undefined;
    }
    this.changed();
  }

  #renewAll(): void {
    for (const held of this.#held) if (!held.renewing) void this.#renew(held);
  }

  async #renew(held: Held): Promise<void> {
    const { id, token } = held.item;
    held.renewing = true;
    try {
      if (token !== null) await this.#queue.extendLease(id, token, this.#leaseMs);
    } catch (error) {
      // Any other failure may pass before the lease ends; if not, the next answer is that it is lost.
      if (!isLeaseLost(error) || held.ended) return;
      this.report.lost += 1;
      held.abort(error);
      this.#release(held);
    } finally {
      held.renewing = false;
    }
  }
}

export function isLeaseLost(error: unknown): error is Error {
  return isCoreError(error) && error.code === 'LEASE_LOST';
}

function isItemUnknown(error: unknown): error is Error {
  return isCoreError(error) && error.code === 'ITEM_UNKNOWN';
}

/** An item that was held here is gone: its lease ended while this consumer stalled, and the next holder acked it. */
function settledByOthers(cause: Error, id: QueueItem['id']): RecoverableError {
  return new RecoverableError('Transient', `the lease of queue item ${id} has ended, and another consumer acked it`, {
    code: 'LEASE_LOST',
    retry: { kind: 'never' },
    context: { id },
    cause,
  });
}

function stopped(): RecoverableError {
  return new RecoverableError('Preempted', 'the consumer has stopped and given the item back; stop working on it', {
    code: 'CONSUMER_STOPPED',
    retry: { kind: 'never' },
  });
}
