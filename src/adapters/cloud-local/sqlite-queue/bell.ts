/**
 * The bell: a file beside the database that whoever makes items pending writes a byte into, and that the others watch. So
 * a `receive` that waits in another process is woken without asking again and again. The database itself is never
 * watched, nor opened by other means than SQLite: that would drop locks.
 *
 * A ring may be lost, where somebody deletes the file or a system gives no more watches; then waiters look again by
 * themselves (RECHECK_MS in sqlite-queue.ts).
 */
import { closeSync, constants, type FSWatcher, openSync, watch, writeSync } from 'node:fs';

export class Bell {
  readonly #file: string;
  readonly #onRing: () => void;
  #descriptor: number | null = null;
  #watcher: FSWatcher | null = null;
  #closed = false;

  /** @param onRing called for rings of any process, this one included; several may be told as one */
  constructor(file: string, onRing: () => void) {
    this.#file = file;
    this.#onRing = onRing;
    this.#hang();
  }

  ring(): void {
    if (this.#descriptor === null) return;
    // At one place: the file stays one byte long.
    writeSync(this.#descriptor, '.', 0);
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
    this.#hang();
  }

  #takeDown(): void {
    this.#watcher?.close();
    this.#watcher = null;
    if (this.#descriptor !== null) closeSync(this.#descriptor);
    this.#descriptor = null;
  }
}
