/**
 * Commits: what a queue writes, gathered. Whatever is asked for while a transaction is under way becomes the next one, so
 * 64 enqueues in flight cost one transaction and not 64: a queue pays for what it does, not for how often it is asked.
 *
 * Transactions follow each other, so calls take effect and are answered in the order in which they were made: an item
 * joins the line after all that were enqueued before it. A transaction that fails, fails all of its calls.
 */
import { FatalError, isCoreError, RecoverableError } from '../../../contracts/errors.js';
import type { Storage, StorageTxn } from '../../../contracts/storage.js';

/** One call's part of a transaction. */
export interface Write extends Required<WriteOptions> {
  fill(txn: StorageTxn): void;
  stored(): void;
  failed(error: unknown): void;
}

export interface WriteOptions {
  /** About how many it adds. Default 0. */
  readonly bytes?: number;
  /** `normal`: a power cut may undo it. Default `full`: what the storage promises. */
  readonly atLeast?: 'full' | 'normal';
}

/** Of one transaction: more would have everyone wait for all of it. */
const TXN_CALLS_MAX = 4_096;

/** How soon a transaction that the Storage had no room for is tried again, ms: doubled each time, up to the second. */
const RETRY_MS_MIN = 2;
const RETRY_MS_MAX = 100;

export class Commits {
  readonly #storage: Storage;
  readonly #txnBytesMax: number;
  #waiting: Write[] = [];
  #underWay: Write[] = [];
  /** Other calls that the Storage has not answered, each with what rejects its caller. */
  readonly #asked = new Map<Promise<unknown>, (reason: Error) => void>();
  #running: Promise<void> | null = null;
  #refusal: FatalError | null = null;

  readonly #onFailed: () => void;

  /**
   * @param txnBytesMax bytes of one transaction, unless a single call brings more
   * @param onFailed called when a transaction fails, before its calls are told or it is tried again
   */
  constructor(storage: Storage, txnBytesMax: number, onFailed: () => void = () => {}) {
    this.#storage = storage;
    this.#txnBytesMax = txnBytesMax;
    this.#onFailed = onFailed;
  }

  /**
   * Writes along with others, and resolves after the commit.
   * @param fill adds the writes; called later, and again when the Storage had no room for them
   */
  write(fill: (txn: StorageTxn) => void, { bytes = 0, atLeast = 'full' }: WriteOptions = {}): Promise<void> {
    return new Promise((resolve, reject) => this.enter({ bytes, atLeast, fill, stored: resolve, failed: reject }));
  }

  /** As {@link write}, for whoever has to know the outcome before any later write has one. */
  enter(write: Write): void {
    if (this.#refusal !== null) {
      write.failed(this.#refusal);
      return;
    }
    this.#waiting.push(write);
    this.#running ??= this.#run();
  }

  /** Asks the Storage something else. */
  ask<T>(question: () => Promise<T>): Promise<T> {
    if (this.#refusal !== null) return Promise.reject(this.#refusal);
    return new Promise((resolve, reject) => {
      const work = question();
      this.#asked.set(work, reject);
      work.finally(() => this.#asked.delete(work)).then(resolve, reject);
    });
  }

  /** Resolves when nothing is under way, and what was has had its next steps. */
  async idle(): Promise<void> {
    do {
      await Promise.allSettled([this.#running, ...this.#asked.keys()]);
      await nextTurn();
    } while (this.#running !== null || this.#asked.size > 0);
  }

  /** Rejects whatever is not answered with `unanswered`, and every later call. */
  refuse(unanswered: Error): void {
    this.#refusal = new FatalError('Internal', 'the queue was used after close()', { code: 'CLOSED' });
    for (const write of [...this.#underWay, ...this.#waiting.splice(0)]) write.failed(unanswered);
    this.#underWay = [];
    for (const reject of this.#asked.values()) reject(unanswered);
  }

  async #run(): Promise<void> {
    // What is asked for in this turn of the loop belongs to the first one.
    await null;
    while (this.#waiting.length > 0) {
      this.#underWay = this.#take();
      let failure: { readonly error: unknown } | null = null;
      try {
        await this.#commit(this.#underWay);
      } catch (error) {
        failure = { error };
        this.#onFailed();
      }
      // Empty by now when the queue did not wait for it.
      for (const write of this.#underWay) {
        try {
          if (failure === null) write.stored();
          else write.failed(failure.error);
        } catch (error) {
          // Out of memory, say: it is stored, and the next opening finds it. The others are to be answered all the same.
          write.failed(error);
        }
      }
      this.#underWay = [];
    }
    this.#running = null;
  }

  #take(): Write[] {
    let bytes = 0;
    let count = 0;
    for (const write of this.#waiting) {
      bytes += write.bytes;
      if (count > 0 && (bytes > this.#txnBytesMax || count === TXN_CALLS_MAX)) break;
      count += 1;
    }
    if (count < this.#waiting.length) return this.#waiting.splice(0, count);
    const all = this.#waiting;
    this.#waiting = [];
    return all;
  }

  /** What others have committed to the same Storage may be too much for now: then it waits, as they will be flushed. */
  async #commit(writes: readonly Write[]): Promise<void> {
    for (let delayMs = RETRY_MS_MIN; ; delayMs = Math.min(2 * delayMs, RETRY_MS_MAX)) {
      try {
        await this.#tryCommit(writes);
        return;
      } catch (error) {
        // Refused already: nobody is there to be told.
        if (!isCoreError(error) || error.code !== 'BACKLOG_FULL' || this.#refusal !== null) throw error;
      }
      this.#onFailed();
      await new Promise((resolve) => setTimeout(resolve, delayMs));
    }
  }

  async #tryCommit(writes: readonly Write[]): Promise<void> {
    if (this.#refusal !== null) throw this.#refusal;
    const txn = this.#storage.begin();
    let durable = false;
    for (const write of writes) {
      write.fill(txn);
      durable ||= write.atLeast === 'full';
    }
    await txn.commit(durable ? {} : { durability: 'normal' });
  }
}

/** The outcome of a call that the queue did not wait for any longer. */
export function unanswered(timeoutMs: number): RecoverableError {
  return new RecoverableError(
    'Transient',
    `the storage did not answer within ${timeoutMs} ms of close(); whether the call took effect shows when the queue is opened again`,
    { code: 'CLOSE_TIMEOUT', retry: { kind: 'never' }, context: { timeoutMs } },
  );
}

export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
