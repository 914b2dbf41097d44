/**
 * What the tour remembers between runs: a record per path in the Storage namespace `rollout_tour`, and the job of each
 * path that waits in the queue.
 *
 * A file is unknown, then `queued` (its blob is stored, its job is or was about to be in the queue), then `done` (its
 * blob was read back and is the same). A record that says `queued` while the queue is empty belongs to a run that was
 * killed before its enqueue: the file is taken up as if it were unknown.
 */
import { FatalError } from '../../contracts/errors.js';
import { ContentId } from '../../contracts/ids.js';
import type { QueueItem } from '../../contracts/queue.js';
import type { Storage, StorageKey } from '../../contracts/storage.js';
import { pathToText, textToPath } from './paths.js';

/** A file as it was when it was stored. */
export interface StoredFile {
  /** Absolute. */
  readonly path: Buffer;
  /** Bytes. */
  readonly size: number;
  readonly mtimeNs: bigint;
  /** Its blob. */
  readonly id: ContentId;
}

export interface FileRecord extends Omit<StoredFile, 'path'> {
  readonly state: 'queued' | 'done';
}

export class Ledger {
  readonly #storage: Storage;

  constructor(storage: Storage) {
    this.#storage = storage;
  }

  /** The records of `paths`, in their order, `null` for those that have none. */
  async read(paths: readonly Buffer[]): Promise<(FileRecord | null)[]> {
    const values = await this.#storage.getMany(paths.map(keyOf));
    return values.map((value) => (value === null ? null : parseRecord(value)));
  }

  /** Resolves once the records are as safe as the Storage makes them. */
  async write(state: FileRecord['state'], files: readonly StoredFile[]): Promise<void> {
    const txn = this.#storage.begin();
    for (const { path, size, mtimeNs, id } of files) {
      txn.put(keyOf(path), encode({ state, size, mtimeNs: String(mtimeNs), id }));
    }
    await txn.commit();
  }

  /** Makes the path unknown, so that the next run stores it anew. */
  async forget(path: Buffer): Promise<void> {
    const txn = this.#storage.begin();
    txn.delete(keyOf(path));
    await txn.commit();
  }
}

/** The payload of a file's job. */
export function encodeJob({ path, size, mtimeNs, id }: StoredFile): Uint8Array {
  return encode({ tour: 1, path: pathToText(path), size, mtimeNs: String(mtimeNs), id });
}

/** @throws FatalError ConfigInvalid when the item is not a job of a tour: somebody else uses the queue */
export function decodeJob(item: QueueItem): StoredFile {
  try {
    const job = JSON.parse(Buffer.from(item.payload).toString('utf8'));
    if (job.tour !== 1) throw new Error(`"tour" is ${job.tour}`);
    return {
      path: textToPath(job.path),
      size: job.size,
      mtimeNs: BigInt(job.mtimeNs),
      id: ContentId.parse(job.id),
    };
  } catch (cause) {
    throw new FatalError(
      'ConfigInvalid',
      `item ${item.id} of the queue "tour" is not a job of this program; bind Queue#tour to a queue that nobody else uses`,
      { cause, context: { item: item.id } },
    );
  }
}

const NAMESPACE = 'rollout_tour';

/** A segment of a storage key holds 1,024 characters; a path's text, of up to 3 for each of 4,096 bytes, is cut up. */
const SEGMENT = /[\s\S]{1,512}/gu;

function keyOf(path: Buffer): StorageKey {
  return { namespace: NAMESPACE, path: ['file', ...(pathToText(path).match(SEGMENT) ?? [])] };
}

function parseRecord(value: Uint8Array): FileRecord {
  const { state, size, mtimeNs, id } = JSON.parse(Buffer.from(value).toString('utf8'));
  return { state, size, mtimeNs: BigInt(mtimeNs), id };
}

function encode(value: object): Uint8Array {
  return Buffer.from(JSON.stringify(value));
}
