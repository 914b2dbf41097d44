/**
 * Who watches which branch, within this process. A store calls `publish` after a commit, in commit order.
 *
 * ```
 * open ──> ended    by the signal, by the store's close, or by the reader leaving the loop
 *      └─> overflow more than WATCH_BUFFER_MAX changes wait: what waits is dropped, the reader gets the error once
 * ```
 */
import { RecoverableError } from '../../../contracts/errors.js';
import { onAbort } from '../../../contracts/on-abort.js';
import type { StorageChange, StoragePrefix } from '../../../contracts/storage.js';
import { changesOf, type Write } from './batch.js';
import { isUnder } from './keys.js';

/** Changes that may wait unread, as the contract says. */
const WATCH_BUFFER_MAX = 10_000;

export class Watchers {
  readonly #watchers = new Set<Watcher>();

  /** Starts with the call, not with the first `next()`. */
  add(prefix: StoragePrefix, signal: AbortSignal | undefined): AsyncIterable<StorageChange> {
    // A signal may outlive any number of watches.
    let leave = () => {};
    const watcher = new Watcher(prefix, () => {
      this.#watchers.delete(watcher);
      leave();
    });
    this.#watchers.add(watcher);
    leave = onAbort(signal, () => watcher.end());
    return watcher;
  }

  /** @param writes asked for only when somebody watches */
  publish(writes: Iterable<Write>): void {
    if (this.#watchers.size === 0) return;
    const changes = changesOf(writes);
    for (const watcher of this.#watchers) watcher.push(changes);
  }

  endAll(): void {
    for (const watcher of this.#watchers) watcher.end();
  }
}

class Watcher implements AsyncIterableIterator<StorageChange> {
  readonly #prefix: StoragePrefix;
  readonly #leave: () => void;
  #waiting: StorageChange[] = [];
  #readers: { resolve(result: IteratorResult<StorageChange>): void; reject(error: unknown): void }[] = [];
  #ended = false;
  #overflow: RecoverableError | null = null;

  constructor(prefix: StoragePrefix, leave: () => void) {
    this.#prefix = prefix;
    this.#leave = leave;
  }

  push(changes: readonly StorageChange[]): void {
    for (const change of changes) {
      if (!isUnder(change.key, this.#prefix)) continue;
      const reader = this.#readers.shift();
      if (reader !== undefined) {
        reader.resolve({ done: false, value: change });
      } else if (this.#waiting.push(change) > WATCH_BUFFER_MAX) {
        this.#waiting = [];
        this.#overflow = new RecoverableError(
          'Throttled',
          `more than ${WATCH_BUFFER_MAX} changes waited to be read by a watch; watch again, then scan for what was missed`,
          { code: 'WATCH_OVERFLOW', context: { prefix: this.#prefix } },
        );
        this.end();
        return;
      }
    }
  }

  end(): void {
    this.#ended = true;
    this.#leave();
    for (const reader of this.#readers.splice(0)) reader.resolve({ done: true, value: undefined });
  }

  async next(): Promise<IteratorResult<StorageChange>> {
    const value = this.#waiting.shift();
    if (value !== undefined) return { done: false, value };
    if (this.#overflow !== null) {
      const error = this.#overflow;
      this.#overflow = null;
      throw error;
    }
    if (this.#ended) return { done: true, value: undefined };
    return new Promise((resolve, reject) => this.#readers.push({ resolve, reject }));
  }

  async return(): Promise<IteratorResult<StorageChange>> {
    this.#waiting = [];
    this.end();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
