/**
 * The bell: a file beside the database that whoever makes items pending writes a byte into, and that the others watch. So
 * a `receive` that waits in another process is woken without asking again and again. The database itself is never
 * watched, nor opened by other means than SQLite: that would drop locks.
 *
 * A ring may be lost, where somebody deletes the file or its folder, the disk is full, or a system gives no more watches;
 * then waiters look again by themselves (RECHECK_MS in sqlite-queue.ts). What was committed is never failed by the bell.
 */
import { closeSync, constants, type FSWatcher, openSync, watch, writeSync } from 'node:fs';
import { systemError } from '../../../contracts/errors.js';

export class Bell {
  readonly #file: string;
  readonly #onRing: () => void;
  #descriptor: number | null = null;
  #watcher: FSWatcher | null = null;
  #closed = false;

  /**
   * @param onRing called for rings of any process, this one included; several may be told as one
   * @throws as {@link systemError} says, where the file cannot be made
   */
  constructor(file: string, onRing: () => void) {
    this.#file = file;
    this.#onRing = onRing;
    try {
      this.#hang();
    } catch (cause) {
      throw systemError(cause, `open the queue's bell ${file}`);
    }
  }

  ring(): void {
    try {
      if (this.#descriptor === null) this.#hang();
      // At one place: the file stays one byte long.
      if (this.#descriptor !== null) writeSync(this.#descriptor, '.', 0);
    } catch {
      // A lost ring: those who wait look again by themselves.
    }
  }

  close(): void {
    this.#closed = true;
    this.#takeDown();
  }

  #hang(): void {
    if (this.#closed) return;
    this.#descriptor = openSync(this.#file, constants.O_RDWR | constants.O_CREAT, 0o666);
    try {
      this.#watcher = watch(this.#file, { persistent: false }, (event) => {
        // Deleted or replaced: the next one hangs where the others will look for it.
        if (event === 'rename') this.#rehang();
        this.#onRing();
      });
      this.#watcher.on('error', () => this.#takeDown());
    } catch {
      // No more watches (ENOSPC): this process rings, and hears by looking again.
      this.#watcher = null;
    }
  }

  #rehang(): void {
    this.#takeDown();
    try {
      this.#hang();
    } catch {
      // Its folder is gone, or no descriptor is left: the next ring tries again.
    }
  }

  #takeDown(): void {
    this.#watcher?.close();
    this.#watcher = null;
    if (this.#descriptor !== null) closeSync(this.#descriptor);
    this.#descriptor = null;
  }
}
