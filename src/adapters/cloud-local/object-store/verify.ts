/**
 * Goes through a store and checks every blob against its id. What it finds it names; it removes nothing: a corrupt blob
 * stays, or goes to `quarantine/` if that is asked for. Sidecars that are missing, torn or wrong are written anew.
 */
import * as check from '../../../contracts/arguments.js';
import { isCoreError } from '../../../contracts/errors.js';
import type { ContentId } from '../../../contracts/ids.js';
import type { Blake3 } from './blake3.js';
import { type Disk, errnoOf } from './disk.js';
import type { Layout } from './layout.js';
import type { OpenFile } from './open-file.js';
import { BLOCK_BYTES, type Publisher } from './publish.js';

export interface VerifyOptions {
  /** Only ids that begin with these 0 to 64 lower-case hexadecimal characters. */
  readonly prefix?: string;
  /** Only ids beyond this one: goes on where another verification was left. */
  readonly after?: ContentId;
  /** Move corrupt blobs to `<root>/quarantine`, so that reads say "not found" and the next put stores them. Default false. */
  readonly quarantine?: boolean;
  /** Aborting rejects with `signal.reason`. */
  readonly signal?: AbortSignal;
  /** Told of every fault as it is found; the walk waits for what it returns. */
  readonly onFault?: (fault: VerifyFault) => void | Promise<void>;
  /** Told after each blob, and within large ones after each MiB. */
  readonly onProgress?: (report: VerifyReport) => void;
}

export interface VerifyFault {
  readonly id: ContentId;
  /** `corrupt`: other bytes than the id's. `unreadable`: they could not be read, so nothing is known of them. */
  readonly problem: 'corrupt' | 'unreadable';
  readonly message: string;
  /** Where the blob lies now, if it was quarantined. */
  readonly quarantinedTo: string | null;
}

export interface VerifyReport {
  /** Blobs looked at, the faulty ones included. */
  readonly checked: number;
  /** Bytes read of them. */
  readonly bytes: number;
  readonly faultCount: number;
  /** The first 1,000 of them; `onFault` is told of all. */
  readonly faults: readonly VerifyFault[];
  readonly quarantined: number;
  readonly sidecarsHealed: number;
  /** Those that could be neither read nor written anew: they cost their objects the content type, and are no fault. */
  readonly sidecarsLeft: number;
}

const FAULTS_LISTED_MAX = 1_000;

/** Blobs being read: while one waits for the disk another is hashed. */
const BLOBS_AT_ONCE = 4;

/** What a verification works on. */
export interface VerifyStore {
  readonly disk: Disk;
  readonly layout: Layout;
  readonly publisher: Publisher;
  readonly blake3: Blake3;
  list(options: Pick<VerifyOptions, 'prefix' | 'after' | 'signal'>): AsyncIterable<ContentId>;
}

/** @throws FatalError SchemaViolation: an option is not what it should be. As file calls on folders do. */
export async function verifyStore(store: VerifyStore, given: VerifyOptions | undefined): Promise<VerifyReport> {
  const options: VerifyOptions = check.known('options', given, [
    'prefix',
    'after',
    'quarantine',
    'signal',
    'onFault',
    'onProgress',
  ]);
  check.signal('options.signal', options.signal)?.throwIfAborted();
  const { prefix, after, signal } = options;
  const usedBefore = await store.publisher.usage.totals();
  const ids = store.list({ prefix, after, signal })[Symbol.asyncIterator]();
  const walk = new Walk(store, options);
  const lane = async () => {
    const buffer = Buffer.allocUnsafeSlow(BLOCK_BYTES);
    for (let step = await ids.next(); !step.done; step = await ids.next()) await walk.blob(step.value, buffer);
  };
  const lanes = await Promise.allSettled(Array.from({ length: BLOBS_AT_ONCE }, lane));
  for (const result of lanes) if (result.status === 'rejected') throw result.reason;
  const isWhole = !prefix && after === undefined;
  if (isWhole) await store.publisher.usage.correct(usedBefore, walk.sizes, walk.sizesMoved);
  return walk.report();
}

class Walk {
  readonly #store: VerifyStore;
  readonly #options: VerifyOptions;
  readonly #counts = { checked: 0, bytes: 0, faultCount: 0, quarantined: 0, sidecarsHealed: 0, sidecarsLeft: 0 };
  readonly #faults: VerifyFault[] = [];
  /** Bytes of the blobs that are in their place. */
  sizes = 0;
  /** Bytes of those that were put aside. */
  sizesMoved = 0;
  #isEnded = false;

  constructor(store: VerifyStore, options: VerifyOptions) {
    this.#store = store;
    this.#options = options;
  }

  report(): VerifyReport {
    return { ...this.#counts, faults: [...this.#faults] };
  }

  async blob(id: ContentId, buffer: Buffer): Promise<void> {
    // Another lane has ended: what it failed with is being reported.
    if (this.#isEnded) return;
    try {
      const problem = await this.#check(id, buffer);
      // Deleted since it was listed.
      if (problem === 'missing') return;
      this.#counts.checked += 1;
      if (problem !== null) await this.#note(id, problem);
      this.#options.onProgress?.(this.report());
    } catch (error) {
      this.#isEnded = true;
      throw error;
    }
  }

  async #check(id: ContentId, buffer: Buffer): Promise<null | 'missing' | Pick<VerifyFault, 'problem' | 'message'>> {
    const { disk, layout } = this.#store;
    let file: OpenFile;
    try {
      file = await disk.open(layout.blob(id), 'r');
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return 'missing';
      return unreadable(error);
    }
    try {
      const stats = await file.stat();
      // Not ours: a folder of a blob's name.
      if (!stats.isFile()) return 'missing';
      this.sizes += stats.size;
      if ((await this.#idOf(file, buffer)) !== id) return { problem: 'corrupt', message: `object corrupt: ${id}` };
      const sidecar = await this.#store.publisher.mend(id, stats);
      if (sidecar === 'mended') this.#counts.sidecarsHealed += 1;
      if (sidecar === 'left') this.#counts.sidecarsLeft += 1;
      return null;
    } catch (error) {
      return unreadable(error);
    } finally {
      await file.close();
    }
  }

  /** @param isCounted whether its bytes are those of a blob that is being checked */
  async #idOf(file: OpenFile, buffer: Buffer, isCounted = true): Promise<ContentId> {
    const { blake3 } = this.#store;
    const { signal, onProgress } = this.#options;
    let hasher: Awaited<ReturnType<Blake3['createHasher']>> | null = null;
    for (let position = 0; ; position += BLOCK_BYTES) {
      signal?.throwIfAborted();
      const count = await file.read(buffer, position);
      const block = buffer.subarray(0, count);
      if (isCounted) this.#counts.bytes += count;
      if (hasher === null && count < BLOCK_BYTES) return blake3.idOf(block);
      hasher ??= await blake3.createHasher();
      hasher.update(block);
      if (count < BLOCK_BYTES) return hasher.id();
      onProgress?.(this.report());
    }
  }

  async #note(id: ContentId, { problem, message }: Pick<VerifyFault, 'problem' | 'message'>): Promise<void> {
    const { publisher } = this.#store;
    if (problem === 'corrupt') publisher.distrust(id);
    const isWanted = problem === 'corrupt' && this.#options.quarantine === true;
    const quarantinedTo = isWanted ? await this.#quarantine(id) : null;
    const fault = { id, problem, message, quarantinedTo };
    this.#counts.faultCount += 1;
    if (quarantinedTo !== null) this.#counts.quarantined += 1;
    if (this.#faults.length < FAULTS_LISTED_MAX) this.#faults.push(fault);
    await this.#options.onFault?.(fault);
  }

  /** Moves a corrupt blob away, under a name that nothing has. Null when the blob is another by now, or gone. */
  async #quarantine(id: ContentId): Promise<string | null> {
    const { disk, layout, publisher } = this.#store;
    await disk.makeFolder(layout.quarantine);
    let path = `${layout.quarantine}/${id}`;
    for (let n = 2; await disk.exists(path); n++) path = `${layout.quarantine}/${id}.${n}`;
    const blob = await disk.stat(layout.blob(id));
    try {
      await disk.rename(layout.blob(id), path);
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return null;
      throw error;
    }
    // A put may have replaced it since it was read: then the right bytes are what was moved.
    const file = await disk.open(path, 'r');
    try {
      if ((await this.#idOf(file, Buffer.allocUnsafeSlow(BLOCK_BYTES), false)) === id) {
        await disk.rename(path, layout.blob(id));
        return null;
      }
    } finally {
      await file.close();
    }
    this.sizes -= blob?.size ?? 0;
    this.sizesMoved += blob?.size ?? 0;
    await publisher.usage.remove(blob?.size ?? 0);
    return path;
  }
}

/** An abort, and whatever a callback throws, is no fault of the blob. */
function unreadable(error: unknown): Pick<VerifyFault, 'problem' | 'message'> {
  if (!isCoreError(error)) throw error;
  return { problem: 'unreadable', message: error.message };
}
