/**
 * The regular files under a folder, folder by folder, in the order in which the file system lists them.
 *
 * Symbolic links are not followed. Nothing below the folders and files that the configuration's own data lies in is
 * visited. What cannot be listed is told and passed over; a file or folder that goes away meanwhile is none.
 */
import type { Dirent } from 'node:fs';
import { opendir } from 'node:fs/promises';
import type { OwnData } from './own-data.js';
import { joinPath } from './paths.js';

/** Entries asked of the system at a time. */
const ENTRIES_PER_READ = 512;

/** What the walk meets besides files. */
export interface WalkListener {
  symlink(): void;
  /** A socket, a pipe or a device. */
  special(): void;
  /** A place that the configuration's own data lies in. */
  ownData(): void;
  /** A folder that cannot be listed. */
  unreadable(path: Buffer, error: unknown): void;
}

export async function* walk(root: Buffer, own: OwnData, listener: WalkListener): AsyncGenerator<Buffer> {
  const folders = [root];
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    try {
      for await (const entry of await opendir(folder, OPTIONS)) {
        const { name } = entry as unknown as Dirent<Buffer>;
        const path = joinPath(folder, name);
        if (own.has(path)) listener.ownData();
        else if (entry.isFile()) yield path;
        else if (entry.isDirectory()) folders.push(path);
        else if (entry.isSymbolicLink()) listener.symlink();
        else listener.special();
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') listener.unreadable(folder, error);
    }
  }
}

// Node takes "buffer" here, and then gives names as bytes; its types know of text only.
const OPTIONS = { encoding: 'buffer' as BufferEncoding, bufferSize: ENTRIES_PER_READ };
