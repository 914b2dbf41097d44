/**
 * How a key is written: its segments in UTF-8, joined by NUL, which no segment holds. Byte order of the whole is then
 * the contract's order, segment by segment, and every branch of a namespace is one range.
 */
import type { StorageKey, StoragePrefix } from '../../../contracts/storage.js';

const SEPARATOR = '\0';

/** A half-open range of encoded keys; `end` is `null` for the end of the namespace. */
export interface KeyRange {
  readonly start: Buffer;
  readonly end: Buffer | null;
}

export function encodePath(path: readonly string[]): Buffer {
  return Buffer.from(path.length === 1 ? (path[0] as string) : path.join(SEPARATOR), 'utf8');
}

export function decodePath(encoded: Uint8Array): string[] {
  return Buffer.from(encoded.buffer, encoded.byteOffset, encoded.byteLength).toString('utf8').split(SEPARATOR);
}

/**
 * Every key under a prefix: the prefix itself, and what goes on after a separator. Those are the keys from the prefix up
 * to the prefix followed by the byte 1, because the separator is the byte 0.
 */
export function rangeOf({ path }: StoragePrefix): KeyRange {
  if (path.length === 0) return { start: Buffer.alloc(0), end: null };
  const start = encodePath(path);
  return { start, end: Buffer.concat([start, Buffer.of(1)]) };
}

/** The smallest encoded key after `key`. */
export function successor(key: Buffer): Buffer {
  return Buffer.concat([key, Buffer.of(0)]);
}

/** One text for one key, for maps. */
export function keyText({ namespace, path }: StorageKey): string {
  return namespace + SEPARATOR + (path.length === 1 ? path[0] : path.join(SEPARATOR));
}

/** Whether `key` is under `prefix`, whole segments. */
export function isUnder(key: StorageKey, prefix: StoragePrefix): boolean {
  return key.namespace === prefix.namespace && prefix.path.every((segment, i) => key.path[i] === segment);
}
