/** What the cases of the storage's suite share. */
import assert from 'node:assert/strict';
import type { Storage, StorageEntry, StorageKey } from '../../contracts/storage.js';
import type { Suite } from '../conformance.js';

export type Cases = ReturnType<Suite<Storage>>;

export const key = (...path: string[]): StorageKey => ({ namespace: 'suite', path });
export const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
export const text = (value: Uint8Array | null): string | null =>
  value === null ? null : new TextDecoder().decode(value);

export async function put(storage: Storage, entries: Record<string, string>, namespace = 'suite'): Promise<void> {
  const txn = storage.begin();
  for (const [path, value] of Object.entries(entries)) txn.put({ namespace, path: path.split('/') }, bytes(value));
  assert.equal(await txn.commit(), true);
}

export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

export const paths = (entries: StorageEntry[]): string[] => entries.map((entry) => entry.key.path.join('/'));
export const under = (...path: string[]) => ({ prefix: { namespace: 'suite', path } });
export const fatal = (code: string) => ({ severity: 'fatal', code });
