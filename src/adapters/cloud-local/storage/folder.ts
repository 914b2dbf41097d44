/**
 * The folder that a database lies in: made, synced, and asked what SQLite does not tell of a failure.
 *
 * Only folders are opened here, never the database or a lock beside it: closing any descriptor of a file drops every
 * lock that this process has on it.
 */
import { mkdtemp, open, rmdir, statfs } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Disk, errnoOf } from '../object-store/disk.js';

/** With less than this free the log's index, which grows by 32 KiB, may not. */
const FREE_BYTES_MIN = 65_536;

/** Makes a folder and its parents, where they are not there yet. */
export async function makeFolder(folder: string): Promise<void> {
  await new Disk('async').makeFolder(folder);
}

/** Makes the names of a file and of all folders above it survive a power cut, whoever made them a moment ago. */
export async function syncNames(file: string): Promise<void> {
  const disk = new Disk('async');
  for (let path = file; path !== dirname(path); path = dirname(path)) {
    try {
      await disk.syncFolder(dirname(path));
    } catch (error) {
      // One that this user may not read is older than the file.
      if (errnoOf(error) !== 'EACCES') throw error;
    }
  }
}

/** Why no file at all can be opened: the failure when descriptors have run out, else `null`. */
export async function descriptorsLacking(folder: string): Promise<NodeJS.ErrnoException | null> {
  try {
    await (await open(folder)).close();
    return null;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return code === 'EMFILE' || code === 'ENFILE' ? (error as NodeJS.ErrnoException) : null;
  }
}

/**
 * The failure where nothing can be written because the file system is read-only, else `null`. Asked by writing: one that
 * turned read-only after an error of its disk still tells `access` that it may be written to.
 */
export async function readOnly(folder: string): Promise<NodeJS.ErrnoException | null> {
  try {
    await rmdir(await mkdtemp(join(folder, '.rollout-')));
    return null;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EROFS' ? (error as NodeJS.ErrnoException) : null;
  }
}

/** Whether the disk is full, or as good as. */
export async function isDiskFull(folder: string): Promise<boolean> {
  try {
    const { bavail, bsize } = await statfs(folder);
    return bavail * bsize < FREE_BYTES_MIN;
  } catch {
    return false;
  }
}
