/** Reading regular files, small ones in one go, none of them followed through a symbolic link. */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';

/** Files up to this size are held in memory whole: 64 of them are 16 MiB. */
export const SMALL_BYTES_MAX = 256 * 1024;

const CHUNK_BYTES = 1024 * 1024;

/** Told how many bytes have just been read. */
export type OnRead = (bytes: number) => void;

/** Opens for reading; a symbolic link is ELOOP, and a pipe does not wait for its writer. */
export function openFile(path: Buffer): Promise<FileHandle> {
  return open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
}

/** What says that a file has changed. */
export async function statFile(file: FileHandle): Promise<{ isFile: boolean; size: number; mtimeNs: bigint }> {
  const stat = await file.stat({ bigint: true });
  return { isFile: stat.isFile(), size: Number(stat.size), mtimeNs: stat.mtimeNs };
}

/** The file's bytes, or `null` when it has more than `size`: it grew, or its kind has no size, as in /proc. */
export async function readSmall(file: FileHandle, size: number): Promise<Uint8Array | null> {
  const buffer = Buffer.allocUnsafe(size + 1);
  const length = await readFully(file, buffer, 0, size);
  return length > size ? null : buffer.subarray(0, length);
}

/** The file from its start. Each chunk is overwritten when the next one is asked for. `onRead` is told each length. */
export async function* chunksOf(file: FileHandle, onRead: OnRead): AsyncGenerator<Uint8Array> {
  const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
  for (let position = 0; ; ) {
    const { bytesRead } = await file.read(buffer, 0, CHUNK_BYTES, position);
    if (bytesRead === 0) return;
    position += bytesRead;
    onRead(bytesRead);
    yield buffer.subarray(0, bytesRead);
  }
}

/** Whether the file has exactly these chunks' bytes. */
export async function hasBytes(file: FileHandle, chunks: AsyncIterable<Uint8Array>, onRead: OnRead): Promise<boolean> {
  let position = 0;
  let buffer = Buffer.allocUnsafe(0);
  for await (const chunk of chunks) {
    if (buffer.length < chunk.length) buffer = Buffer.allocUnsafe(chunk.length);
    const own = buffer.subarray(0, chunk.length);
    const length = await readFully(file, own, position, chunk.length);
    if (length < chunk.length || !own.equals(chunk)) return false;
    position += chunk.length;
    onRead(length);
  }
  return (await file.read(Buffer.allocUnsafe(1), 0, 1, position)).bytesRead === 0;
}

/** Fills `buffer` from `position` on; stops early at the file's end, or with exactly `enough` bytes read. */
async function readFully(file: FileHandle, buffer: Buffer, position: number, enough: number): Promise<number> {
  let length = 0;
  while (length < buffer.length) {
    const { bytesRead } = await file.read(buffer, length, buffer.length - length, position + length);
    length += bytesRead;
    // A regular file's read is short only at its end.
    if (bytesRead === 0 || length === enough) break;
  }
  return length;
}
