/**
 * ObjectStore: immutable bytes, found again by the hash of what they are.
 *
 * Two parties are bound. The caller gets: one id per content, whatever the adapter; a put that is safe to repeat; reads
 * that are checked against the id. The adapter gets: arguments already checked and defaulted (see `checked`), and the
 * freedom to store as it likes, so long as the shared suite (`rollout-cloud/testing`) passes.
 *
 * All calls may overlap, in any number. None retries by itself. There is no rename and no overwrite: an id's bytes never
 * change; they are there or they are not.
 */
import * as check from './arguments.js';
import { capability, type DoorContext, iterable } from './capability.js';
import type { FatalError } from './errors.js';
import { ContentId } from './ids.js';

export interface PutHint {
  /** Media type to keep beside the object, e.g. `text/plain`; 1 to 255 characters. Default: unknown (`null`). */
  readonly contentType?: string;
  /** Exact number of bytes to come. A source that yields another number is refused and nothing is stored. */
  readonly expectedSize?: number;
  /** Aborting rejects with `signal.reason` and leaves nothing visible. */
  readonly signal?: AbortSignal;
  /** Told how many bytes were taken so far: of a stream after each chunk, of a buffer once. */
  readonly onProgress?: Progress;
}

/** @param bytes done so far, ascending. What it throws ends the call, as if a source had thrown it. */
export type Progress = (bytes: number) => void;

export interface GetOptions {
  /** Half-open byte range `[start, end)`; `end` defaults to the size, and is cut to it. Feature `range`. */
  readonly range?: { readonly start: number; readonly end?: number };
  /** Check the bytes against the id. Default true. A range cannot be checked and never is. */
  readonly verify?: boolean;
  readonly signal?: AbortSignal;
  /** Told how many bytes were handed out so far: of a stream after each chunk, of a buffer once. */
  readonly onProgress?: Progress;
}

export interface ListOptions {
  /** Only ids that start with these 0 to 64 lower-case hexadecimal characters. */
  readonly prefix?: string;
  /** Only ids beyond this one, which need not be there: the last one seen resumes a list where it was left. */
  readonly after?: ContentId;
  readonly signal?: AbortSignal;
}

export interface ObjectStat {
  readonly id: ContentId;
  /** Bytes. */
  readonly size: number;
  /** As hinted by the put that stored the object first; `null` when it gave none. */
  readonly contentType: string | null;
  /** When the object was first stored, in milliseconds since 1970-01-01 UTC. */
  readonly createdAtMs: number;
}

export interface ObjectStore {
  /**
   * Stores `bytes` and resolves to their id once they survive what the adapter's durability promises. Bytes that are
   * stored already are not written again. The buffer is yours again when the promise settles; do not change it before.
   * @throws RecoverableError Transient: disk full or the like; nothing is visible. FatalError SchemaViolation: an
   * argument is not what it should be, or `expectedSize` differs.
   */
  putBytes(bytes: Uint8Array, hint?: PutHint): Promise<ContentId>;

  /**
   * As {@link putBytes}, from a Node or web stream or any async iterable of chunks, in bounded memory. A chunk may be
   * reused by the source as soon as the next one is asked for. When the source throws, its error is passed on and
   * nothing is visible.
   */
  putStream(source: AsyncIterable<Uint8Array>, hint?: PutHint): Promise<ContentId>;

  /**
   * The object's bytes, verified. The buffer is yours.
   * @throws FatalError Internal, code `OBJECT_NOT_FOUND`, `object not found: <id>`: a missing hash is a broken promise
   * of whoever handed out the id, not a passing fault. FatalError Internal, code `OBJECT_CORRUPT`,
   * `object corrupt: <id>`. FatalError SchemaViolation: `range.start` lies beyond the size.
   */
  getBytes(id: ContentId, options?: GetOptions): Promise<Uint8Array>;

  /**
   * The same as a stream, in bounded memory. A whole object's last part (up to 1 MiB) is withheld until everything
   * before and in it is verified: whoever reads to a clean end holds the right bytes, and a mismatch errors the stream.
   * Cancel the stream, or read it to its end, to free what it holds. Where it is a stream of bytes, which the adapter
   * says, `getReader({ mode: 'byob' })` reads into buffers of yours; with `onProgress` it never is one.
   */
  getStream(id: ContentId, options?: GetOptions): Promise<ReadableStream<Uint8Array>>;

  /** Whether the object is there. Reads nothing of it. */
  exists(id: ContentId): Promise<boolean>;

  /** What is known of the object, or `null` when it is not there. Reads nothing of it. */
  stat(id: ContentId): Promise<ObjectStat | null>;

  /** Removes the object; false when it was not there. A read under way ends well or with `OBJECT_NOT_FOUND`. */
  delete(id: ContentId): Promise<boolean>;

  /** Ids in ascending order, read lazily. Objects put or deleted meanwhile may or may not appear. */
  list(options?: ListOptions): AsyncIterable<ContentId>;
}

export const ObjectStore = capability<ObjectStore>('ObjectStore', {
  major: 1,
  door: (impl, adapter) => ({
    putBytes: async (bytes, hint) => {
      if (hint === undefined) return impl.putBytes(check.bytes('bytes', bytes), NO_HINT);
      const { onProgress, ...checkedHint } = putHint(hint);
      const { byteLength } = check.bytes('bytes', bytes);
      if (checkedHint.expectedSize !== undefined && checkedHint.expectedSize !== byteLength) {
        throw check.invalid('bytes', `${checkedHint.expectedSize} bytes long, as expectedSize says`, byteLength);
      }
      checkedHint.signal?.throwIfAborted();
      if (onProgress === undefined) return impl.putBytes(bytes, checkedHint);
      const id = await impl.putBytes(bytes, checkedHint);
      onProgress(byteLength);
      return id;
    },
    putStream: async (source, hint) => {
      const { onProgress, ...checkedHint } = putHint(hint);
      if (typeof source?.[Symbol.asyncIterator] !== 'function') {
        throw check.invalid('source', 'a stream or an async iterable of Uint8Array', source);
      }
      checkedHint.signal?.throwIfAborted();
      return impl.putStream(checkedSource(source, checkedHint, onProgress), checkedHint);
    },
    getBytes: async (id, options) => {
      if (options === undefined) return impl.getBytes(ContentId.parse(id), VERIFIED);
      const { onProgress, ...checkedOptions } = getOptions(options, adapter);
      if (onProgress === undefined) return impl.getBytes(ContentId.parse(id), checkedOptions);
      const bytes = await impl.getBytes(ContentId.parse(id), checkedOptions);
      onProgress(bytes.byteLength);
      return bytes;
    },
    getStream: async (id, options) => {
      const { onProgress, ...checkedOptions } = getOptions(options, adapter);
      const stream = await impl.getStream(ContentId.parse(id), checkedOptions);
      return onProgress === undefined ? stream : counted(stream, onProgress);
    },
    exists: async (id) => impl.exists(ContentId.parse(id)),
    stat: async (id) => impl.stat(ContentId.parse(id)),
    delete: async (id) => impl.delete(ContentId.parse(id)),
    list: iterable((options) => {
      const {
        prefix = '',
        after,
        signal,
      }: ListOptions = check.known('options', options, ['prefix', 'after', 'signal']);
      if (typeof prefix !== 'string' || !/^[0-9a-f]{0,64}$/.test(prefix)) {
        throw check.invalid('options.prefix', '0 to 64 lower-case hexadecimal characters', prefix);
      }
      check.signal('options.signal', signal)?.throwIfAborted();
      return impl.list({ prefix, after: after === undefined ? undefined : ContentId.parse(after), signal });
    }),
  }),
});

const PUT_HINTS = ['contentType', 'expectedSize', 'signal', 'onProgress'] as const;
const GET_OPTIONS = ['range', 'verify', 'signal', 'onProgress'] as const;
const NO_HINT: PutHint = Object.freeze({});
const VERIFIED: GetOptions = Object.freeze({ verify: true });

function putHint(hint: PutHint | undefined): PutHint {
  if (hint === undefined) return {};
  const { contentType, expectedSize, signal, onProgress }: PutHint = check.known('hint', hint, PUT_HINTS);
  if (
    contentType !== undefined &&
    (typeof contentType !== 'string' || !/^[^\x00-\x1f\x7f]{1,255}$/.test(contentType))
  ) {
    throw check.invalid('hint.contentType', '1 to 255 characters without control characters', contentType);
  }
  if (expectedSize !== undefined) check.integer('hint.expectedSize', expectedSize, 0);
  progress('hint.onProgress', onProgress);
  return { contentType, expectedSize, signal: check.signal('hint.signal', signal), onProgress };
}

function progress(what: string, value: unknown): void {
  if (value !== undefined && typeof value !== 'function') throw check.invalid(what, 'a function', value);
}

/**
 * A source behind the checks of its chunks, their sum and the signal, which ends it even while it is awaited. What is
 * wrong reaches the adapter as an error of the source, to be passed on as any other.
 */
async function* checkedSource(
  source: AsyncIterable<Uint8Array>,
  { expectedSize, signal }: PutHint,
  onProgress: Progress | undefined,
): AsyncGenerator<Uint8Array, void, void> {
  const chunks = source[Symbol.asyncIterator]();
  let size = 0;
  let ended = false;
  try {
    for (;;) {
      const step = await check.orAborted(chunks.next(), signal);
      ended = step.done === true;
      if (step.done) break;
      size += check.bytes('each chunk of source', step.value).byteLength;
      if (expectedSize !== undefined && size > expectedSize) throw sizeWrong(expectedSize, size);
      yield step.value;
      onProgress?.(size);
    }
    if (expectedSize !== undefined && size < expectedSize) throw sizeWrong(expectedSize, size);
  } finally {
    const closing = ended ? undefined : Promise.resolve(chunks.return?.()).catch(() => {});
    // After an abort the source may be stuck where it is, and would answer no sooner than it gets unstuck.
    if (!signal?.aborted) await closing;
  }
}

/** @param size bytes that came; when they are too many, no more were asked for */
function sizeWrong(expectedSize: number, size: number): FatalError {
  return check.invalid('source', `${expectedSize} bytes long, as expectedSize says`, size);
}

function getOptions(given: GetOptions | undefined, adapter: DoorContext): GetOptions {
  if (given === undefined) return VERIFIED;
  const { range, verify = true, signal, onProgress }: GetOptions = check.known('options', given, GET_OPTIONS);
  if (typeof verify !== 'boolean') throw check.invalid('options.verify', 'true or false', verify);
  progress('options.onProgress', onProgress);
  check.signal('options.signal', signal)?.throwIfAborted();
  if (range === undefined) return { verify, signal, onProgress };
  adapter.need('range', 'range reads');
  const { start, end } = check.known('options.range', range, ['start', 'end']) as NonNullable<GetOptions['range']>;
  check.integer('options.range.start', start, 0);
  if (end !== undefined) check.integer('options.range.end', end, start);
  return { range: { start, end }, verify: false, signal, onProgress };
}

function counted(stream: ReadableStream<Uint8Array>, onProgress: Progress): ReadableStream<Uint8Array> {
  let bytes = 0;
  const counter = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      bytes += chunk.byteLength;
      onProgress(bytes);
      controller.enqueue(chunk);
    },
  });
  return stream.pipeThrough(counter);
}

/** Calls that one `existsMany` or `statMany` has under way: enough to hide a network's round trips. */
const CALLS_AT_ONCE_MAX = 64;

/** {@link ObjectStore.exists} for each id, in their order. A comfort over the contract: no adapter implements it. */
export async function existsMany(
  store: ObjectStore,
  ids: readonly ContentId[],
  options?: { readonly signal?: AbortSignal },
): Promise<boolean[]> {
  return eachOf(ids, options, (id) => store.exists(id));
}

/** {@link ObjectStore.stat} for each id, in their order, `null` for those not there. A comfort over the contract. */
export async function statMany(
  store: ObjectStore,
  ids: readonly ContentId[],
  options?: { readonly signal?: AbortSignal },
): Promise<(ObjectStat | null)[]> {
  return eachOf(ids, options, (id) => store.stat(id));
}

/** Asks for all, {@link CALLS_AT_ONCE_MAX} at a time. The first failure, or an abort, ends it. */
async function eachOf<T>(
  ids: readonly ContentId[],
  options: { readonly signal?: AbortSignal } | undefined,
  ask: (id: ContentId) => Promise<T>,
): Promise<T[]> {
  if (!Array.isArray(ids)) throw check.invalid('ids', 'an array of ids', ids);
  const all = Array.from(ids, (id) => ContentId.parse(id));
  const given: { signal?: AbortSignal } = check.known('options', options, ['signal']);
  const signal = check.signal('options.signal', given.signal);
  const answers = new Array<T>(all.length);
  let next = 0;
  const work = async () => {
    while (next < all.length) {
      signal?.throwIfAborted();
      const at = next++;
      try {
        answers[at] = await ask(all[at] as ContentId);
      } catch (error) {
        next = all.length;
        throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(CALLS_AT_ONCE_MAX, all.length) }, work));
  signal?.throwIfAborted();
  return answers;
}
