/**
 * The file system as the object store uses it. Nothing else of the store touches a file.
 *
 * What fails rejects with the error family, path and errno included; {@link errnoOf} reads the errno back. Small calls
 * may be made in place (see in-place.ts); those that wait for the medium or move much are always made in the pool.
 */
import fs, { type Stats } from 'node:fs';
import { isCoreError } from '../../../contracts/errors.js';
import { type Eventual, InPlace, type IoMode } from './in-place.js';

/** The calls of `node:fs` that are made: what a test replaces to make them fail, or to see their order. */
export type FileCalls = Pick<
  typeof fs,
  | 'close'
  | 'closeSync'
  | 'fdatasync'
  | 'fstat'
  | 'fstatSync'
  | 'fsync'
  | 'mkdir'
  | 'mkdirSync'
  | 'open'
  | 'openSync'
  | 'read'
  | 'readSync'
  | 'readdir'
  | 'rename'
  | 'renameSync'
  | 'stat'
  | 'statSync'
  | 'unlink'
  | 'utimes'
  | 'utimesSync'
  | 'write'
  | 'writeSync'
>;

/** Largest read or write made in place: 64 KiB take some 10 µs to copy. */
const IN_PLACE_BYTES_MAX = 65_536;

/** Windows flushes only what is open for writing, and has no flush of folders: its names are durable on their own. */
const WINDOWS = process.platform === 'win32';

/** The errno that an error of this file carries, e.g. `ENOENT`. */
export function errnoOf(error: unknown): unknown {
  return isCoreError(error) ? error.context.errno : undefined;
}

export class Disk {
  readonly #calls: FileCalls;
  readonly #inPlace: InPlace;

  constructor(mode: IoMode = 'auto', calls: FileCalls = fs) {
    this.#calls = calls;
    this.#inPlace = new InPlace(mode);
  }

  /** What `path` is, or `undefined` when there is nothing. */
  stat(path: string): Eventual<Stats | undefined> {
    return this.#inPlace.run<Stats | undefined>(
      `look at ${path}`,
      () => this.#calls.statSync(path, { throwIfNoEntry: false }),
      (done) =>
        this.#calls.stat(path, (error, stats) => (isMissing(error) ? done(null, undefined) : done(error, stats))),
    );
  }

  /** @param flags `r` to read, `wx` to make a file that must not be there yet */
  async open(path: string, flags: 'r' | 'r+' | 'wx'): Promise<OpenFile> {
    const fd = await this.#inPlace.run(
      `open ${path}`,
      () => this.#calls.openSync(path, flags),
      (done) => this.#calls.open(path, flags, done),
    );
    return new OpenFile(this.#calls, this.#inPlace, path, fd);
  }

  /** Moves a file, over another where there is one. */
  rename(from: string, to: string): Eventual<void> {
    return this.#inPlace.run<void>(
      `rename ${from} to ${to}`,
      () => this.#calls.renameSync(from, to),
      (done) => this.#calls.rename(from, to, done as (error: NodeJS.ErrnoException | null) => void),
    );
  }

  /** Makes now the time that a file was last modified. */
  touch(path: string): Eventual<void> {
    const now = new Date();
    return this.#inPlace.run<void>(
      `touch ${path}`,
      () => this.#calls.utimesSync(path, now, now),
      (done) => this.#calls.utimes(path, now, now, done as (error: NodeJS.ErrnoException | null) => void),
    );
  }

  /** Makes a folder and its parents, where they are not there yet. */
  async makeFolder(path: string): Promise<void> {
    await this.#inPlace.run(
      `make the folder ${path}`,
      () => this.#calls.mkdirSync(path, { recursive: true }),
      (done) => this.#calls.mkdir(path, { recursive: true }, done),
    );
  }

  /** Removes a file; false when there was none. In the pool: freeing the blocks of a large one takes long. */
  async unlink(path: string): Promise<boolean> {
    return this.#inPlace.run<boolean>(`remove ${path}`, null, (done) =>
      this.#calls.unlink(path, (error) => (isMissing(error) ? done(null, false) : done(error, true))),
    );
  }

  /** Names in a folder, in no order; none when it is missing or no folder. */
  async names(path: string): Promise<string[]> {
    return this.#inPlace.run<string[]>(`list ${path}`, null, (done) =>
      this.#calls.readdir(path, (error, names) =>
        isMissing(error) || error?.code === 'ENOTDIR' ? done(null, []) : done(error, names),
      ),
    );
  }

  /** The text of a file, cut at `bytesMax`; `undefined` when there is none. */
  async readText(path: string, bytesMax: number): Promise<string | undefined> {
    let file: OpenFile;
    try {
      file = await this.open(path, 'r');
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return undefined;
      throw error;
    }
    try {
      const buffer = Buffer.allocUnsafe(bytesMax);
      return buffer.toString('utf8', 0, await file.read(buffer, 0));
    } finally {
      await file.close();
    }
  }

  /** Makes a file's bytes survive a power cut, whoever wrote them. */
  async syncFile(path: string): Promise<void> {
    const file = await this.open(path, WINDOWS ? 'r+' : 'r');
    try {
      await file.sync();
    } finally {
      await file.close();
    }
  }

  /**
   * Makes a folder's names survive a power cut. A folder that is gone has none, and a file system that answers EINVAL
   * has no such call: there is nothing more that could be done.
   */
  async syncFolder(path: string): Promise<void> {
    if (WINDOWS) return;
    let folder: OpenFile;
    try {
      folder = await this.open(path, 'r');
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return;
      throw error;
    }
    try {
      await folder.syncNames();
    } catch (error) {
      if (errnoOf(error) !== 'EINVAL') throw error;
    } finally {
      await folder.close();
    }
  }
}

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
    return this.#inPlace.run(
      `look at ${this.path}`,
      () => this.#calls.fstatSync(this.#fd),
      (done) => this.#calls.fstat(this.#fd, done),
    );
  }

  /** Fills `buffer` from `position` on. Returns the number of bytes read, less than its length where the file ends. */
  async read(buffer: Uint8Array, position: number): Promise<number> {
    let filled = 0;
    while (filled < buffer.byteLength) {
      const [offset, length] = [filled, buffer.byteLength - filled];
      const count = await this.#inPlace.run<number>(
        `read ${this.path}`,
        length > IN_PLACE_BYTES_MAX
          ? null
          : () => this.#calls.readSync(this.#fd, buffer, offset, length, position + offset),
        (done) => this.#calls.read(this.#fd, buffer, offset, length, position + offset, done),
      );
      if (count === 0) break;
      filled += count;
    }
    return filled;
  }

  /** Appends all of `bytes`. One call at a time. */
  async write(bytes: Uint8Array): Promise<void> {
    for (let offset = 0; offset < bytes.byteLength; ) {
      const [from, length, position] = [offset, bytes.byteLength - offset, this.#written];
      const count = await this.#inPlace.run<number>(
        `write ${this.path}`,
        length > IN_PLACE_BYTES_MAX ? null : () => this.#calls.writeSync(this.#fd, bytes, from, length, position),
        (done) => this.#calls.write(this.#fd, bytes, from, length, position, done),
      );
      offset += count;
      this.#written += count;
    }
  }

  /** Makes the bytes survive a power cut. */
  async sync(): Promise<void> {
    await this.#inPlace.run<void>(`sync ${this.path}`, null, (done) =>
      this.#calls.fdatasync(this.#fd, done as (error: NodeJS.ErrnoException | null) => void),
    );
  }

  /** Makes a folder's names survive a power cut. */
  async syncNames(): Promise<void> {
    await this.#inPlace.run<void>(`sync ${this.path}`, null, (done) =>
      this.#calls.fsync(this.#fd, done as (error: NodeJS.ErrnoException | null) => void),
    );
  }

  /** Closes it; the second time does nothing. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#inPlace.run<void>(
      `close ${this.path}`,
      () => this.#calls.closeSync(this.#fd),
      (done) => this.#calls.close(this.#fd, done as (error: NodeJS.ErrnoException | null) => void),
    );
  }
}

function isMissing(error: NodeJS.ErrnoException | null): boolean {
  return error?.code === 'ENOENT';
}
