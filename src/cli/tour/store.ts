/**
 * The first half of a tour: every file that is not done gets its blob, its record and its job, in that order.
 *
 * Files go in batches, several at a time: the blobs of a batch are put together, its records are one transaction, its
 * jobs one `enqueueMany`, so that a slow disk is asked for few, large and overlapping syncs.
 */
import type { BigIntStats } from 'node:fs';
import { type FileHandle, lstat } from 'node:fs/promises';
import { isCoreError } from '../../contracts/errors.js';
import type { ContentId } from '../../contracts/ids.js';
import type { ObjectStore } from '../../contracts/object-store.js';
import type { Queue } from '../../contracts/queue.js';
import { chunksOf, openFile, readSmall, SMALL_BYTES_MAX, statFile } from './files.js';
import { encodeJob, type FileRecord, type Ledger, type StoredFile } from './ledger.js';
import type { OwnData } from './own-data.js';
import { eachOf, type Slots } from './pool.js';
import type { Tally } from './tally.js';

/** Files whose records and jobs are written together. */
const BATCH_FILES_MAX = 64;

/** Batches under way: while one waits for the disk, the next ones are read. */
const BATCHES_AT_ONCE = 3;

export interface StoreOptions {
  readonly store: ObjectStore;
  readonly queue: Queue;
  readonly ledger: Ledger;
  readonly own: OwnData;
  readonly tally: Tally;
  /** For files that are read as streams. */
  readonly large: Slots;
  readonly signal: AbortSignal;
}

/** Stores and queues `files`; resolves when all that were taken are queued, all there are unless `signal` aborts. */
export async function storeFiles(files: AsyncGenerator<Buffer>, options: StoreOptions): Promise<void> {
  const storing = new Storing(options);
  await eachOf(batches(files), BATCHES_AT_ONCE, options.signal, (paths) => storing.batch(paths));
}

async function* batches(files: AsyncGenerator<Buffer>): AsyncGenerator<Buffer[]> {
  let batch: Buffer[] = [];
  for await (const path of files) {
    batch.push(path);
    if (batch.length < BATCH_FILES_MAX) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}

class Storing {
  readonly #options: StoreOptions;
  readonly #startedAtMs = Date.now();

  constructor(options: StoreOptions) {
    this.#options = options;
  }

  async batch(paths: readonly Buffer[]): Promise<void> {
    const { ledger, queue, tally } = this.#options;
    tally.filesFound += paths.length;
    const records = await ledger.read(paths);
    // All settle before the first failure is thrown: nothing is under way when the host stops.
    const settled = await Promise.allSettled(paths.map((path, i) => this.#file(path, records[i])));
    const stored = settled.flatMap((result) => (result.status === 'fulfilled' && result.value ? [result.value] : []));
    if (stored.length > 0) {
      await ledger.write('queued', stored);
      await queue.enqueueMany(stored.map(encodeJob));
      tally.jobsQueued += stored.length;
    }
    const failed = settled.find((result) => result.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  }

  /** Stores a file, if that is to be done; `null` where there is nothing to queue. */
  async #file(path: Buffer, record: FileRecord | null | undefined): Promise<StoredFile | null> {
    const { own, tally } = this.#options;
    const found = await lstat(path, { bigint: true }).catch(() => null);
    if (found !== null && own.isOneOf(found)) {
      tally.filesFound--;
      tally.ownData++;
      return null;
    }
    return (await this.#isDone(found, record)) ? null : this.#store(path);
  }

  /**
   * Whether an earlier run is done with the file as it is now, and its blob is still there. The blob is not read: that
   * it was damaged since is found by `objects verify`, not here.
   */
  async #isDone(found: BigIntStats | null, record: FileRecord | null | undefined): Promise<boolean> {
    const { store, tally } = this.#options;
    if (record?.state !== 'done') return false;
    if (found?.isFile() !== true || Number(found.size) !== record.size || found.mtimeNs !== record.mtimeNs)
      return false;
    if (!(await store.exists(record.id))) return false;
    tally.filesUnchanged++;
    tally.blob(record.id, record.size);
    return true;
  }

  /** Puts a file's blob; `null` when the file is none, or cannot be read. */
  async #store(path: Buffer): Promise<StoredFile | null> {
    const { tally } = this.#options;
    let file: FileHandle | undefined;
    try {
      file = await openFile(path);
      // As it is before it is read: a change while it is read is then seen by the job.
      const { isFile, size, mtimeNs } = await statFile(file);
      if (!isFile) {
        tally.specials++;
        return null;
      }
      const id = await this.#put(file, size);
      tally.filesStored++;
      tally.bytesStored += size;
      return { path, size, mtimeNs, id };
    } catch (error) {
      // The store's failures end the tour, the file's own do not.
      if (isCoreError(error) || this.#options.signal.aborted) throw error;
      this.#unreadable(path, error as NodeJS.ErrnoException);
      return null;
    } finally {
      await file?.close();
    }
  }

  async #put(file: FileHandle, size: number): Promise<ContentId> {
    const { store, tally, large, signal } = this.#options;
    const onRead = (length: number) => {
      tally.bytesRead += length;
    };
    const bytes = size <= SMALL_BYTES_MAX ? await readSmall(file, size) : null;
    onRead(bytes?.length ?? 0);
    const id =
      bytes === null
        ? await large.with(() => store.putStream(chunksOf(file, onRead), { signal }))
        : await store.putBytes(bytes, { signal });
    if (tally.blob(id, size) && ((await store.stat(id))?.createdAtMs ?? 0) >= this.#startedAtMs) tally.blobsNew++;
    else tally.blobsExisting++;
    return id;
  }

  #unreadable(path: Buffer, { code, message }: NodeJS.ErrnoException): void {
    const { tally } = this.#options;
    // It went away, or became a symbolic link, since its folder was listed.
    if (code === 'ENOENT') tally.filesFound--;
    else if (code === 'ELOOP') tally.symlinks++;
    else {
      tally.filesUnreadable++;
      tally.problem(path, `could not be read: ${code ?? message}`);
    }
  }
}
