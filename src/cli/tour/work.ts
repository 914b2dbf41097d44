/**
 * The second half of a tour: each job reads its blob back and compares it with the file, byte for byte.
 *
 * A job ends with the record of its file, then the ack: a run that is killed in between does the job once more.
 */
import { type FileHandle, lstat } from 'node:fs/promises';
import { drain } from '../../contracts/consume.js';
import { isCoreError } from '../../contracts/errors.js';
import type { ContentId } from '../../contracts/ids.js';
import type { ObjectStore } from '../../contracts/object-store.js';
import type { Queue, QueueItem } from '../../contracts/queue.js';
import { hasBytes, openFile, readSmall, SMALL_BYTES_MAX, statFile } from './files.js';
import { decodeJob, type Ledger, type StoredFile } from './ledger.js';
import type { OwnData } from './own-data.js';
import type { Slots } from './pool.js';
import type { Tally } from './tally.js';

/** Jobs under way. Their records and acks share the syncs of Storage. */
const JOBS_AT_ONCE = 64;

/** Renewed while a job runs, so this is how long the job of a worker that died stays away, not how long one may take. */
const LEASE_MS = 30_000;

export interface WorkOptions {
  readonly store: ObjectStore;
  readonly queue: Queue;
  readonly ledger: Ledger;
  readonly own: OwnData;
  readonly tally: Tally;
  /** For blobs that are read as streams. */
  readonly large: Slots;
  readonly signal: AbortSignal;
}

type Outcome = 'same' | 'changed' | 'gone' | 'own data' | { readonly problem: string; readonly failed: boolean };

/** Works off what is in the queue; resolves when it is empty, or `signal` aborts and the jobs under way have ended. */
export function workJobs(options: WorkOptions): Promise<void> {
  return new Working(options).drain();
}

class Working {
  readonly #options: WorkOptions;

  constructor(options: WorkOptions) {
    this.#options = options;
  }

  async drain(): Promise<void> {
    const { queue, signal } = this.#options;
    await drain(queue, (item) => this.#job(item), {
      concurrency: JOBS_AT_ONCE,
      leaseMs: LEASE_MS,
      signal,
      onError: (error) => {
        throw error;
      },
    });
  }

  /** Ends well when the job is over, however it ended: only what would go wrong with every job is thrown. */
  async #job(item: QueueItem): Promise<void> {
    const { ledger, tally } = this.#options;
    const file = decodeJob(item);
    const outcome = await this.#check(file);
    if (outcome === 'same') await ledger.write('done', [file]);
    // Nothing is known of the file any more: the next walk stores it anew.
    else await ledger.forget(file.path);
    tally.jobsEnded++;
    if (outcome === 'same') {
      tally.jobsDone++;
      tally.bytesChecked += file.size;
    } else if (outcome === 'changed') tally.jobsChanged++;
    else if (outcome === 'gone') tally.jobsGone++;
    else if (outcome === 'own data') tally.ownData++;
    else {
      if (outcome.failed) tally.jobsFailed++;
      else tally.filesUnreadable++;
      tally.problem(file.path, outcome.problem);
    }
  }

  async #check(job: StoredFile): Promise<Outcome> {
    const { own, store } = this.#options;
    let file: FileHandle | undefined;
    try {
      if (own.isOneOf(await lstat(job.path, { bigint: true }))) return 'own data';
      file = await openFile(job.path);
      if (!(await isAsStored(file, job))) return 'changed';
      if (await this.#isSame(file, job)) return 'same';
      // It may have changed while it was read.
      if (!(await isAsStored(file, job))) return 'changed';
      await this.#verify(job.id);
      return { problem: `its blob ${job.id} has other bytes than the file`, failed: true };
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      // Left where it is, the next walk would find it there and not store it anew.
      if (code === 'OBJECT_CORRUPT') await store.delete(job.id);
      if (code === 'OBJECT_NOT_FOUND' || code === 'OBJECT_CORRUPT') return { problem: message, failed: true };
      if (isCoreError(error)) throw error;
      if (code === 'ENOENT' || code === 'ENOTDIR') return 'gone';
      if (code === 'ELOOP') return 'changed';
      return { problem: `could not be read: ${code ?? message}`, failed: false };
    } finally {
      await file?.close();
    }
  }

  async #isSame(file: FileHandle, { id, size }: StoredFile): Promise<boolean> {
    const { store, tally, large, signal } = this.#options;
    const onRead = (length: number) => {
      tally.bytesRead += length;
    };
    if (size > SMALL_BYTES_MAX) {
      return large.with(async () => hasBytes(file, await store.getStream(id, { signal }), onRead));
    }
    const blob = await store.getBytes(id, { signal });
    const bytes = await readSmall(file, blob.length);
    onRead(bytes?.length ?? 0);
    return bytes !== null && bytes.length === blob.length && Buffer.compare(bytes, blob) === 0;
  }

  /** Reads a blob to its end, where it proves corrupt: a comparison ends at the first byte that differs. */
  async #verify(id: ContentId): Promise<void> {
    const { store, large, signal } = this.#options;
    await large.with(async () => {
      for await (const _ of await store.getStream(id, { signal }));
    });
  }
}

async function isAsStored(file: FileHandle, job: StoredFile): Promise<boolean> {
  const { isFile, size, mtimeNs } = await statFile(file);
  return isFile && size === job.size && mtimeNs === job.mtimeNs;
}
