/** Files in, files out: cloned where the file system can share their blocks, else copied through memory, hashed on the way. */
import { randomUUID } from 'node:crypto';
import { basename, dirname, join } from 'node:path';
import { isCoreError } from '../../../contracts/errors.js';
import type { ContentId } from '../../../contracts/ids.js';
import type { Progress } from '../../../contracts/object-store.js';
import type { Hashers } from './blake3.js';
import type { Disk } from './disk.js';
import type { OpenFile } from './open-file.js';
import { BLOCK_BYTES } from './publish.js';

/** What goes with a file that is hashed or copied. */
export interface Passage {
  readonly signal?: AbortSignal;
  readonly onProgress?: Progress;
}

/** The chunks of an open file, one read ahead of whoever takes them. */
export async function* chunksOf(file: OpenFile): AsyncGenerator<Uint8Array, void, void> {
  const buffers = [Buffer.allocUnsafeSlow(BLOCK_BYTES), Buffer.allocUnsafeSlow(BLOCK_BYTES)] as const;
  const read = (n: number) => {
    const buffer = buffers[n % 2] as Buffer;
    const reading = file.read(buffer, n * BLOCK_BYTES).then((count) => buffer.subarray(0, count));
    // Seen by whoever takes the next chunk.
    reading.catch(() => {});
    return reading;
  };
  let next = read(0);
  try {
    for (let n = 1; ; n++) {
      const chunk = await next;
      if (chunk.byteLength === 0) return;
      const isLast = chunk.byteLength < BLOCK_BYTES;
      if (!isLast) next = read(n);
      yield chunk;
      if (isLast) return;
    }
  } finally {
    await next.catch(() => {});
  }
}

/** The id and the size of what an open file holds. */
export async function hashOf(
  blake3: Hashers,
  file: OpenFile,
  { signal, onProgress }: Passage,
): Promise<{ id: ContentId; size: number }> {
  const hasher = await blake3.createHasher();
  let size = 0;
  for await (const chunk of chunksOf(file)) {
    signal?.throwIfAborted();
    hasher.update(chunk);
    size += chunk.byteLength;
    onProgress?.(size);
  }
  signal?.throwIfAborted();
  return { id: hasher.id(), size };
}

/** How {@link copyOut} is done. */
export interface CopyOut extends Passage {
  readonly disk: Disk;
  readonly blake3: Hashers;
  readonly id: ContentId;
  readonly blob: OpenFile;
  readonly to: string;
  /** Whether the file, and its name, are to survive a power cut. */
  readonly isDurable: boolean;
}

/**
 * Copies a blob to a file that is made or replaced once all of it is there and has proved to be what its id says. False
 * when it did not; then whatever was there is untouched.
 */
export async function copyOut({ disk, blake3, id, blob, to, isDurable, ...passage }: CopyOut): Promise<boolean> {
  const draft = join(dirname(to), `.${basename(to)}.${randomUUID()}.part`);
  try {
    const isCloned = await disk.clone(blob.path, draft);
    const file = await disk.open(draft, isCloned ? 'r+' : 'wx');
    try {
      const found = isCloned ? await hashOf(blake3, file, passage) : await copyHashed(blake3, blob, file, passage);
      if (found.id !== id) {
        await disk.unlink(draft);
        return false;
      }
      if (isDurable) await file.sync();
    } finally {
      await file.close();
    }
    await disk.rename(draft, to);
    if (isDurable) await disk.syncFolder(dirname(to));
    return true;
  } catch (error) {
    try {
      await disk.unlink(draft);
    } catch (left) {
      // What made the copy useless is what is reported, not that it could not be removed either.
      if (!isCoreError(left)) throw left;
    }
    throw error;
  }
}

async function copyHashed(
  blake3: Hashers,
  from: OpenFile,
  to: OpenFile,
  { signal, onProgress }: Passage,
): Promise<{ id: ContentId }> {
  const hasher = await blake3.createHasher();
  let size = 0;
  for await (const chunk of chunksOf(from)) {
    signal?.throwIfAborted();
    const writing = to.write(chunk);
    hasher.update(chunk);
    await writing;
    size += chunk.byteLength;
    onProgress?.(size);
  }
  return { id: hasher.id() };
}
