/** What the cases of this suite share: bytes to store, ways to read them back, and assertions that say what differs. */
import assert from 'node:assert/strict';
import { createCipheriv, createHash } from 'node:crypto';
import { type ErrorCode, isCoreError } from '../../contracts/errors.js';
import type { ContentId } from '../../contracts/ids.js';
import type { ObjectStore } from '../../contracts/object-store.js';
import type { Fixture } from '../conformance.js';

export type Cases = Record<string, (fixture: Fixture<ObjectStore>) => Promise<void>>;

export const KIB = 1_024;
export const MIB = 1_024 * KIB;

/** Sizes at which buffers, read-ahead and hash trees begin another part. */
export const SIZES = [0, 1, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, MIB - 1, MIB, MIB + 1, 2 * MIB, 3 * MIB + 5];

/** An id of nothing that a case stores. */
export const ABSENT = '0123456789abcdef'.repeat(4) as ContentId;

export const NOT_FOUND = { kind: 'Internal', code: 'OBJECT_NOT_FOUND', message: `object not found: ${ABSENT}` };
export const REFUSED = { kind: 'SchemaViolation', code: 'ARGUMENT_INVALID' };

/** `size` bytes that depend on the seed and look random. */
export function noise(size: number, seed = 'noise'): Uint8Array {
  const key = createHash('sha256').update(seed).digest().subarray(0, 16);
  return createCipheriv('aes-128-ctr', key, new Uint8Array(16)).update(new Uint8Array(size));
}

export async function* chunked(bytes: Uint8Array, chunkBytes: number): AsyncGenerator<Uint8Array, void, void> {
  for (let at = 0; at < bytes.byteLength; at += chunkBytes) yield bytes.slice(at, at + chunkBytes);
}

export async function readAll(
  store: ObjectStore,
  id: ContentId,
  options?: Parameters<ObjectStore['getStream']>[1],
): Promise<Uint8Array> {
  return drain(await store.getStream(id, options));
}

export async function drain(stream: ReadableStream<Uint8Array>): Promise<Uint8Array> {
  return Buffer.concat(await collect(stream));
}

/** A reader that fills buffers of the caller's; `null` where the stream has none. */
export function ownBufferReader(stream: ReadableStream<Uint8Array>): ReadableStreamBYOBReader | null {
  try {
    return stream.getReader({ mode: 'byob' });
  } catch (error) {
    // By its name: a test runner may have a realm, and so a TypeError, of its own.
    if ((error as Error).name === 'TypeError') return null;
    throw error;
  }
}

/** Reads to the end by way of one buffer. */
export async function readInto(reader: ReadableStreamBYOBReader, bufferBytes: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for (let buffer = new Uint8Array(bufferBytes); ; ) {
    const { done, value } = await reader.read(buffer);
    if (done) return Buffer.concat(parts);
    assert.ok(value.byteLength > 0, 'a read that is not the end gives something');
    parts.push(value.slice());
    buffer = new Uint8Array(value.buffer);
  }
}

export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

export function assertSame(found: Uint8Array, expected: Uint8Array): void {
  if (Buffer.compare(found, expected) === 0) return;
  const at = expected.findIndex((byte, n) => byte !== found[n]);
  assert.fail(`found ${found.byteLength} bytes, expected ${expected.byteLength}; they differ from byte ${at} on`);
}

export interface Expected {
  readonly kind?: string;
  readonly code?: ErrorCode;
  readonly message?: string;
}

export function assertAllSame(found: readonly Uint8Array[], expected: readonly Uint8Array[]): void {
  assert.equal(found.length, expected.length);
  for (const [n, bytes] of expected.entries()) assertSame(found[n] ?? new Uint8Array(0), bytes);
}

export async function assertFails(promise: Promise<unknown>, expected: Expected): Promise<void> {
  await assert.rejects(promise, (error) => {
    assertIs(error, expected);
    return true;
  });
}

/** Compares the named fields alone: what else an error says is the adapter's. */
export function assertIs(error: unknown, expected: Expected): void {
  if (!isCoreError(error)) throw error;
  for (const [field, value] of Object.entries(expected)) assert.equal(error[field as keyof Expected], value);
}
