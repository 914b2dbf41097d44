/** An open file of the object store's disk: read, written and synced, in place or in the pool (see in-place.ts). */
import type { Stats } from 'node:fs';
import { systemError } from '../../../contracts/errors.js';
import type { FileCalls } from './disk.js';
import type { Eventual, InPlace } from './in-place.js';

/** Largest read or write made in place: 64 KiB take some 10 µs to copy. */
const IN_PLACE_BYTES_MAX = 65_536;

/** Files are read into this, then copied out: a small one takes a single read, with no look at its size before. */
const scratch = Buffer.allocUnsafeSlow(IN_PLACE_BYTES_MAX + 1);

export type Done = (error: NodeJS.ErrnoException | null) => void;

/** An open file. Whoever opened it closes it, and not while another call on it is under way. */
export class OpenFile {
  readonly #calls: FileCalls;
  readonly #inPlace: InPlace;
  readonly #fd: number;
  #written = 0;
  #closed = false;

  constructor(
    calls: FileCalls,
    inPlace: InPlace,
    readonly path: string,
    fd: number,
  ) {
    this.#calls = calls;
    this.#inPlace = inPlace;
    this.#fd = fd;
  }

  stat(): Eventual<Stats> {
    if (!this.#inPlace.enter()) {
      return this.#inPlace.later(
        `look at ${this.path}`,
        () => this.stat(),
        (done) => this.#calls.fstat(this.#fd, done),
      );
    }
    try {
      return this.#calls.fstatSync(this.#fd);
    } catch (error) {
      throw systemError(error, `look at ${this.path}`);
    } finally {
      this.#inPlace.leave();
    }
  }

  /** What one read gives of a file of up to {@link IN_PLACE_BYTES_MAX}, if it can be made in place; else `null`. */
  readSmall(): Uint8Array | null {
    if (!this.#inPlace.enter()) return null;
    try {
      const count = this.#calls.readSync(this.#fd, scratch, 0, scratch.byteLength, 0);
      return count > IN_PLACE_BYTES_MAX ? null : new Uint8Array(scratch.subarray(0, count));
    } catch (error) {
      throw systemError(error, `read ${this.path}`);
    } finally {
      this.#inPlace.leave();
    }
  }

  /** Fills `buffer` from `position` on. Returns the number of bytes read, less than its length where the file ends. */
  async read(buffer: Uint8Array, position: number): Promise<number> {
    let filled = 0;
    while (filled < buffer.byteLength) {
      const count = await this.#readSome(buffer, filled, position + filled);
      if (count === 0) break;
      filled += count;
    }
    return filled;
  }

  #readSome(buffer: Uint8Array, offset: number, position: number): Eventual<number> {
    const length = buffer.byteLength - offset;
    const pooled = (done: (error: NodeJS.ErrnoException | null, count: number) => void) =>
      this.#calls.read(this.#fd, buffer, offset, length, position, done);
    if (length > IN_PLACE_BYTES_MAX) return this.#inPlace.pool(`read ${this.path}`, pooled);
    if (!this.#inPlace.enter()) {
      return this.#inPlace.later(`read ${this.path}`, () => this.#readSome(buffer, offset, position), pooled);
    }
    try {
      return this.#calls.readSync(this.#fd, buffer, offset, length, position);
    } catch (error) {
      throw systemError(error, `read ${this.path}`);
    } finally {
      this.#inPlace.leave();
    }
  }

  /** Appends all of `bytes`. One call at a time. */
  write(bytes: Uint8Array): Eventual<void> {
    const first = this.#writeSome(bytes, 0);
    if (typeof first === 'number' && first === bytes.byteLength) {
      this.#written += first;
      return;
    }
    return this.#writeRest(bytes, first);
  }

  /** Writes `bytes` over the beginning. One call at a time. */
  rewrite(bytes: Uint8Array): Eventual<void> {
    this.#written = 0;
    return this.write(bytes);
  }

  async #writeRest(bytes: Uint8Array, first: Eventual<number>): Promise<void> {
    let count = await first;
    this.#written += count;
    for (let offset = count; offset < bytes.byteLength; offset += count) {
      count = await this.#writeSome(bytes, offset);
      this.#written += count;
    }
  }

  #writeSome(bytes: Uint8Array, offset: number): Eventual<number> {
    const length = bytes.byteLength - offset;
    if (length === 0) return 0;
    const pooled = (done: (error: NodeJS.ErrnoException | null, count: number) => void) =>
      this.#calls.write(this.#fd, bytes, offset, length, this.#written, done);
    if (length > IN_PLACE_BYTES_MAX) return this.#inPlace.pool(`write ${this.path}`, pooled);
    if (!this.#inPlace.enter()) {
      return this.#inPlace.later(`write ${this.path}`, () => this.#writeSome(bytes, offset), pooled);
    }
    try {
      return this.#calls.writeSync(this.#fd, bytes, offset, length, this.#written);
    } catch (error) {
      throw systemError(error, `write ${this.path}`);
    } finally {
      this.#inPlace.leave();
    }
  }

  /** Makes the bytes survive a power cut. */
  sync(): Promise<void> {
    return this.#inPlace.pool<void>(`sync ${this.path}`, (done) => this.#calls.fdatasync(this.#fd, done as Done));
  }

  /** Makes a folder's names survive a power cut. */
  syncNames(): Promise<void> {
    return this.#inPlace.pool<void>(`sync ${this.path}`, (done) => this.#calls.fsync(this.#fd, done as Done));
  }

  /** Closes it; the second time does nothing. */
  close(): Eventual<void> {
    if (this.#closed) return;
    if (!this.#inPlace.enter()) {
      this.#closed = true;
      return this.#inPlace.later<void>(
        `close ${this.path}`,
        () => {
          this.#closed = false;
          return this.close();
        },
        (done) => this.#calls.close(this.#fd, done as Done),
      );
    }
    this.#closed = true;
    try {
      this.#calls.closeSync(this.#fd);
    } catch (error) {
      throw systemError(error, `close ${this.path}`);
    } finally {
      this.#inPlace.leave();
    }
  }
}
