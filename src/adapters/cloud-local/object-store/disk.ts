/**
 * The file system as the object store uses it. Nothing else of the store touches a file.
 *
 * What fails rejects with the error family, path and errno included; {@link errnoOf} reads the errno back. Small calls
 * may be made in place (see in-place.ts); those that wait for the medium or move much are always made in the pool.
 */
import fs, { type Stats } from 'node:fs';
import { dirname } from 'node:path';
import { FatalError, isCoreError, systemError } from '../../../contracts/errors.js';
import { type Eventual, InPlace, type IoMode, type Steps, settle } from './in-place.js';
import { type Done, OpenFile } from './open-file.js';

/** The calls of `node:fs` that are made: what a test replaces to make them fail, or to see their order. */
export type FileCalls = Pick<
  typeof fs,
  | 'access'
  | 'accessSync'
  | 'close'
  | 'closeSync'
  | 'copyFile'
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
  | 'rmdir'
  | 'stat'
  | 'statSync'
  | 'unlink'
  | 'utimes'
  | 'utimesSync'
  | 'write'
  | 'writeSync'
>;

/** Windows flushes only what is open for writing, and has no flush of folders: its names are durable on their own. */
const WINDOWS = process.platform === 'win32';

/** The errno that an error of this file carries, e.g. `ENOENT`. */
export function errnoOf(error: unknown): unknown {
  return isCoreError(error) ? error.context.errno : undefined;
}

/** As `statSync` and `stat` are asked; the object is made once, not for each of the calls. */
const ONCE = { throwIfNoEntry: false } as const;

export class Disk {
  readonly #calls: FileCalls;
  readonly #inPlace: InPlace;

  constructor(mode: IoMode = 'auto', calls: FileCalls = fs) {
    this.#calls = calls;
    this.#inPlace = new InPlace(mode);
  }

  /** What `path` is, or `undefined` when there is nothing. */
  stat(path: string): Eventual<Stats | undefined> {
    if (!this.#inPlace.enter()) {
      return this.#inPlace.later<Stats | undefined>(
        `look at ${path}`,
        () => this.stat(path),
        (done) =>
          this.#calls.stat(path, (error, stats) => (isMissing(error) ? done(null, undefined) : done(error, stats))),
      );
    }
    try {
      return this.#calls.statSync(path, ONCE);
    } catch (error) {
      throw systemError(error, `look at ${path}`);
    } finally {
      this.#inPlace.leave();
    }
  }

  /** Whether there is anything at `path`: half the cost of {@link stat}. */
  exists(path: string): Eventual<boolean> {
    if (!this.#inPlace.enter()) {
      return this.#inPlace.later<boolean>(
        `look at ${path}`,
        () => this.exists(path),
        (done) => this.#calls.access(path, (error) => (isMissing(error) ? done(null, false) : done(error, true))),
      );
    }
    try {
      this.#calls.accessSync(path);
      return true;
    } catch (error) {
      if (isMissing(error as NodeJS.ErrnoException)) return false;
      throw systemError(error, `look at ${path}`);
    } finally {
      this.#inPlace.leave();
    }
  }

  /** @param flags `r` to read, `r+` to write as well, `wx` to make a file that must not be there yet */
  open(path: string, flags: 'r' | 'r+' | 'wx'): Eventual<OpenFile> {
    if (!this.#inPlace.enter()) {
      return this.#inPlace.later<OpenFile>(
        `open ${path}`,
        () => this.open(path, flags),
        (done) =>
          this.#calls.open(path, flags, (error, fd) =>
            error ? done(error, undefined as never) : done(null, this.#file(path, fd)),
          ),
      );
    }
    try {
      return this.#file(path, this.#calls.openSync(path, flags));
    } catch (error) {
      throw systemError(error, `open ${path}`);
    } finally {
      this.#inPlace.leave();
    }
  }

  #file(path: string, fd: number): OpenFile {
    return new OpenFile(this.#calls, this.#inPlace, path, fd);
  }

  /** Moves a file, over another where there is one. */
  rename(from: string, to: string): Eventual<void> {
    if (!this.#inPlace.enter()) {
      return this.#inPlace.later<void>(
        `rename ${from} to ${to}`,
        () => this.rename(from, to),
        (done) => this.#calls.rename(from, to, done as Done),
      );
    }
    try {
      this.#calls.renameSync(from, to);
    } catch (error) {
      throw systemError(error, `rename ${from} to ${to}`);
    } finally {
      this.#inPlace.leave();
    }
  }

  /** Makes now the time that a file was last modified. */
  touch(path: string): Eventual<void> {
    const now = new Date();
    if (!this.#inPlace.enter()) {
      return this.#inPlace.later<void>(
        `touch ${path}`,
        () => this.touch(path),
        (done) => this.#calls.utimes(path, now, now, done as Done),
      );
    }
    try {
      this.#calls.utimesSync(path, now, now);
    } catch (error) {
      throw systemError(error, `touch ${path}`);
    } finally {
      this.#inPlace.leave();
    }
  }

  /**
   * Makes a folder and its parents, where they are not there yet. Folder by folder: Node's own recursive mkdir never
   * returns where a parent is there and yet no folder can be made in it, as in /proc.
   */
  makeFolder(path: string): Eventual<void> {
    return settle(this.#makeFolder(path));
  }

  *#makeFolder(path: string): Steps<void> {
    try {
      yield this.#mkdir(path);
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === 'EEXIST' || errno === 'EISDIR') {
        const there: Stats | undefined = yield this.stat(path);
        if (there?.isDirectory()) return;
      }
      if (errno !== 'ENOENT' || path === dirname(path)) throw error;
      yield* this.#makeFolder(dirname(path));
      try {
        yield this.#mkdir(path);
      } catch (cause) {
        // Made by somebody else since.
        if (errnoOf(cause) === 'EEXIST') return yield* this.#makeFolder(path);
        throw errnoOf(cause) === 'ENOENT' ? noFolders(path, cause) : cause;
      }
    }
  }

  /** Makes one folder. False when something is there already. */
  async claimFolder(path: string): Promise<boolean> {
    try {
      await this.#mkdir(path);
      return true;
    } catch (error) {
      if (errnoOf(error) === 'EEXIST') return false;
      throw error;
    }
  }

  /** Removes an empty folder; false when there was none. */
  removeFolder(path: string): Promise<boolean> {
    return this.#inPlace.pool<boolean>(`remove ${path}`, (done) =>
      this.#calls.rmdir(path, (error) => (isMissing(error) ? done(null, false) : done(error, true))),
    );
  }

  /**
   * Makes `to` share the blocks of `from`, at no cost whatever the size, where the file system can (btrfs, XFS, APFS).
   * False where it cannot, or where `to` lies on another.
   */
  clone(from: string, to: string): Promise<boolean> {
    const { COPYFILE_EXCL, COPYFILE_FICLONE_FORCE } = fs.constants;
    return this.#inPlace.pool<boolean>(`copy ${from} to ${to}`, (done) =>
      this.#calls.copyFile(from, to, COPYFILE_EXCL | COPYFILE_FICLONE_FORCE, (error) =>
        NO_CLONE.has(error?.code ?? '') ? done(null, false) : done(error, true),
      ),
    );
  }

  #mkdir(path: string): Eventual<void> {
    if (!this.#inPlace.enter()) {
      return this.#inPlace.later<void>(
        `make the folder ${path}`,
        () => this.#mkdir(path),
        (done) => this.#calls.mkdir(path, done as Done),
      );
    }
    try {
      this.#calls.mkdirSync(path);
    } catch (error) {
      throw systemError(error, `make the folder ${path}`);
    } finally {
      this.#inPlace.leave();
    }
  }

  /** Removes a file; false when there was none. In the pool: freeing the blocks of a large one takes long. */
  unlink(path: string): Promise<boolean> {
    return this.#inPlace.pool<boolean>(`remove ${path}`, (done) =>
      this.#calls.unlink(path, (error) => (isMissing(error) ? done(null, false) : done(error, true))),
    );
  }

  /** Names in a folder, in no order; none when it is missing or no folder, unless it `must` be one. */
  names(path: string, must = false): Promise<string[]> {
    return this.#inPlace.pool<string[]>(`list ${path}`, (done) =>
      this.#calls.readdir(path, (error, names) =>
        !must && (isMissing(error) || error?.code === 'ENOTDIR') ? done(null, []) : done(error, names),
      ),
    );
  }

  /** The first bytes of a file, up to `bytesMax`; `undefined` when there is none. */
  readSmall(path: string, bytesMax: number): Eventual<Uint8Array | undefined> {
    return settle(this.#readSmall(path, bytesMax));
  }

  *#readSmall(path: string, bytesMax: number): Steps<Uint8Array | undefined> {
    let file: OpenFile;
    try {
      file = yield this.open(path, 'r');
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return undefined;
      throw error;
    }
    try {
      const small = file.readSmall();
      if (small !== null) return small.subarray(0, bytesMax);
      const buffer = Buffer.allocUnsafe(bytesMax);
      const count: number = yield file.read(buffer, 0);
      return buffer.subarray(0, count);
    } finally {
      yield file.close();
    }
  }

  /** The text of a file, cut at `bytesMax`; `undefined` when there is none. */
  async readText(path: string, bytesMax: number): Promise<string | undefined> {
    const bytes = await this.readSmall(path, bytesMax);
    return bytes && Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString();
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

/** What systems answer that cannot clone, or not these two. */
const NO_CLONE = new Set(['ENOTSUP', 'EOPNOTSUPP', 'EXDEV', 'EINVAL', 'ENOTTY', 'ENOSYS', 'EBADF']);

function isMissing(error: NodeJS.ErrnoException | null): boolean {
  return error?.code === 'ENOENT';
}

function noFolders(path: string, cause: unknown): FatalError {
  return new FatalError(
    'ConfigInvalid',
    `could not make the folder ${path}: ENOENT, ${dirname(path)} is there and takes no folders: configure another path`,
    { code: 'IO_DENIED', cause, context: { errno: 'ENOENT', path } },
  );
}
