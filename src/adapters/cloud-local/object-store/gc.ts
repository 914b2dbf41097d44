/**
 * Collection: removes the objects that nobody keeps. Mark and sweep, beside puts and reads of this process and others.
 *
 * ```
 * blob, old by its mtime, not kept ──rename──> gc/<id> ──old still?──> unlink, then its sidecar likewise
 *        ▲                                        │ touched meanwhile: renamed back
 *        └──── a put, read or delete that misses ─┘
 * ```
 * A put that finds its blob dates it anew, or has seen it young (see TOUCH_AGE_MS): so of a blob that is old after the
 * rename too, no put was told within the grace. One that comes after the rename misses it, and brings it back or writes
 * it anew; the unlink then finds nothing, or not that file. What a collection that was killed left in gc/ is found there
 * by whoever asks for it, and put back by the next collection.
 *
 * Folders of shards stay: a put that knows a shard's name as durable does not sync it again.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import * as check from '../../../contracts/arguments.js';
import { ContentId } from '../../../contracts/ids.js';
import { type Disk, errnoOf } from './disk.js';
import { IdSet } from './id-set.js';
import type { Layout } from './layout.js';
import type { Publisher } from './publish.js';
import { sweepDrafts } from './root.js';

export interface GcOptions {
  /** The ids to keep. Read to its end before anything is removed; an error of it removes nothing. */
  readonly keep: Iterable<ContentId> | AsyncIterable<ContentId>;
  /**
   * Objects put within this time are kept as well. One that was put again counts from then, or from up to 30 minutes
   * before: whoever puts an object has so long, less 30 minutes, to see to it that the next collection keeps it. Below an
   * hour only where nobody puts again what they rely on. Default 24 hours.
   */
  readonly graceMs?: number;
  /** Count what would be removed, and change nothing. Default false. */
  readonly dryRun?: boolean;
  /** Objects removed a second at most: ext4 makes files at a tenth of its speed after a mass delete. Default 2,000. */
  readonly removalsPerSMax?: number;
  /** Aborting rejects with `signal.reason`, between two objects; the next collection starts over. */
  readonly signal?: AbortSignal;
  /** Told how far it is, from time to time. */
  readonly onProgress?: (report: GcReport) => void;
}

export interface GcReport {
  /** Objects looked at. */
  readonly scanned: number;
  /** Of those: named by `keep`. */
  readonly kept: number;
  /** Not named, but younger than the grace. */
  readonly young: number;
  /** Removed; with `dryRun` those that would be. */
  readonly removed: number;
  /** Bytes of those. */
  readonly bytesRemoved: number;
  /** Were to be removed, and asked for again in that moment. */
  readonly broughtBack: number;
  /** Put back at the start: an earlier collection was interrupted over them. */
  readonly restored: number;
  /** Drafts of crashed puts removed. */
  readonly draftsRemoved: number;
}

export const GC_GRACE_MS = 24 * 60 * 60 * 1_000;
const REMOVALS_PER_S_MAX = 2_000;

/** Objects between two calls of `onProgress`. */
const PROGRESS_STEP = 1_000;

const BLOB_NAME = /^[0-9a-f]{64}$/;
const SIDECAR_NAME = /^[0-9a-f]{64}\.meta\.json$/;

/** What a collection works on. */
export interface GcStore {
  readonly disk: Disk;
  readonly layout: Layout;
  readonly publisher: Publisher;
  /** Every shard's id prefix of four characters, in order. */
  shards(): AsyncIterable<string>;
}

/** @throws FatalError SchemaViolation: an option, or an id of `keep`, is not what it should be. As file calls do. */
export async function collect(store: GcStore, options: GcOptions): Promise<GcReport> {
  const {
    keep,
    graceMs = GC_GRACE_MS,
    dryRun = false,
    removalsPerSMax = REMOVALS_PER_S_MAX,
    signal,
    onProgress,
  } = check.known('options', options, [
    'keep',
    'graceMs',
    'dryRun',
    'removalsPerSMax',
    'signal',
    'onProgress',
  ]) as GcOptions;
  check.integer('options.graceMs', graceMs, 0);
  check.integer('options.removalsPerSMax', removalsPerSMax, 1);
  check.signal('options.signal', signal)?.throwIfAborted();
  // The moment before which an object has to be old: what is put while the ids to keep are read is young.
  const oldMs = Date.now() - graceMs;
  const kept = await idsToKeep(keep, signal);
  const sweep = new Sweep(store, { oldMs, dryRun, removalsPerSMax, signal });
  const { usage } = store.publisher;
  const usedBefore = dryRun ? null : await usage.totals();
  if (!dryRun) await sweep.restoreLeft();
  for await (const shard of store.shards()) {
    await sweep.shard(shard, kept, () => onProgress?.(sweep.report()));
  }
  if (!dryRun) {
    await sweep.drafts();
    await usage.correct(usedBefore, sweep.sizes, sweep.report().bytesRemoved);
  }
  return sweep.report();
}

async function idsToKeep(keep: GcOptions['keep'], signal: AbortSignal | undefined): Promise<IdSet> {
  const iterable = keep as Partial<AsyncIterable<ContentId> & Iterable<ContentId>> | undefined;
  if (typeof keep === 'string' || !(iterable?.[Symbol.asyncIterator] ?? iterable?.[Symbol.iterator])) {
    throw check.invalid('options.keep', 'an iterable of ids', keep);
  }
  const ids = new IdSet();
  for await (const id of keep) {
    signal?.throwIfAborted();
    ids.add(ContentId.parse(id));
  }
  return ids;
}

interface SweepOptions {
  readonly oldMs: number;
  readonly dryRun: boolean;
  readonly removalsPerSMax: number;
  readonly signal: AbortSignal | undefined;
}

class Sweep {
  readonly #store: GcStore;
  readonly #options: SweepOptions;
  readonly #counts = { scanned: 0, kept: 0, young: 0, removed: 0, bytesRemoved: 0, broughtBack: 0 };
  /** Bytes of the blobs that are left. */
  sizes = 0;
  #restored = 0;
  /** When the next removal is due. */
  #nextMs = 0;
  #draftsRemoved = 0;

  constructor(store: GcStore, options: SweepOptions) {
    this.#store = store;
    this.#options = options;
  }

  report(): GcReport {
    return { ...this.#counts, restored: this.#restored, draftsRemoved: this.#draftsRemoved };
  }

  /** Puts back what an interrupted collection left. Blobs first: a sidecar goes with its blob. */
  async restoreLeft(): Promise<void> {
    const { disk, layout, publisher } = this.#store;
    await disk.makeFolder(layout.gc);
    const names = await disk.names(layout.gc);
    for (const name of names.filter((left) => BLOB_NAME.test(left))) {
      this.#options.signal?.throwIfAborted();
      if (await publisher.restore(name as ContentId)) this.#restored += 1;
    }
    for (const name of names.filter((left) => SIDECAR_NAME.test(left))) {
      await this.#putBack(`${layout.gc}/${name}`, sidecarPath(layout, name));
    }
  }

  /** Sweeps one folder. @param shard the first four characters of its ids */
  async shard(shard: string, kept: IdSet, progress: () => void): Promise<void> {
    const { disk, layout } = this.#store;
    const names = await disk.names(`${layout.root}/${shard.slice(0, 2)}/${shard.slice(2)}`);
    const own = names.filter((name) => name.startsWith(shard));
    const blobs = new Set(own.filter((name) => BLOB_NAME.test(name)));
    for (const id of blobs) {
      this.#options.signal?.throwIfAborted();
      await this.#blob(id as ContentId, kept.has(id as ContentId));
      this.#counts.scanned += 1;
      if (this.#counts.scanned % PROGRESS_STEP === 0) progress();
    }
    // Of puts that were killed between sidecar and blob.
    if (this.#options.dryRun) return;
    for (const name of own) {
      if (SIDECAR_NAME.test(name) && !blobs.has(name.slice(0, 64))) await this.#sidecar(name);
    }
  }

  async drafts(): Promise<void> {
    this.#draftsRemoved = await sweepDrafts(this.#store.disk, this.#store.layout);
  }

  async #blob(id: ContentId, isKept: boolean): Promise<void> {
    const { disk, layout, publisher } = this.#store;
    if (isKept) this.#counts.kept += 1;
    const found = await disk.stat(layout.blob(id));
    // Deleted by somebody since the folder was read, or not a file of ours.
    if (!found?.isFile()) return;
    if (isKept || found.mtimeMs > this.#options.oldMs) {
      if (!isKept) this.#counts.young += 1;
      this.sizes += found.size;
      return;
    }
    if (!this.#options.dryRun) {
      const condemned = layout.condemned(id);
      if (!((await this.#take(layout.blob(id), condemned)) && (await disk.unlink(condemned)))) {
        // By whoever asked for it, or now. Else somebody has deleted it.
        const back = await publisher.find(id);
        if (back === undefined) return;
        this.#counts.broughtBack += 1;
        this.sizes += back.size;
        return;
      }
      await publisher.usage.remove(found.size);
      await this.#sidecar(`${id}.meta.json`);
    }
    this.#counts.removed += 1;
    this.#counts.bytesRemoved += found.size;
    if (!this.#options.dryRun) await this.#pace();
  }

  /** Takes a sidecar away, unless a put has written it meanwhile: it does so before the blob is there. */
  async #sidecar(name: string): Promise<void> {
    const { disk, layout } = this.#store;
    const [path, taken] = [sidecarPath(layout, name), `${layout.gc}/${name}`];
    const found = await disk.stat(path);
    // One that is no file is not ours.
    if (!found?.isFile() || found.mtimeMs > this.#options.oldMs) return;
    if (await this.#take(path, taken)) await disk.unlink(taken);
    else await this.#putBack(taken, path);
  }

  /** Renames into gc/. True where the file is there, and old still. */
  async #take(path: string, taken: string): Promise<boolean> {
    const { disk } = this.#store;
    try {
      await disk.rename(path, taken);
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return false;
      throw error;
    }
    const now = await disk.stat(taken);
    return now !== undefined && now.mtimeMs <= this.#options.oldMs;
  }

  /** Of two sidecars of one object the one in its place is the later. */
  async #putBack(taken: string, path: string): Promise<void> {
    const { disk } = this.#store;
    if ((await disk.stat(path)) !== undefined) {
      await disk.unlink(taken);
      return;
    }
    try {
      await disk.rename(taken, path);
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error;
    }
  }

  /** Waits where removing goes faster than it may. */
  async #pace(): Promise<void> {
    const nowMs = performance.now();
    this.#nextMs = Math.max(this.#nextMs, nowMs) + 1_000 / this.#options.removalsPerSMax;
    if (this.#nextMs - nowMs < PACE_MS) return;
    const { signal } = this.#options;
    // A timer rejects with an error of its own, whose cause is the signal's reason.
    await sleep(this.#nextMs - nowMs, undefined, { signal }).catch(() => signal?.throwIfAborted());
  }
}

/** Waits too short for a timer are added up. */
const PACE_MS = 20;

function sidecarPath(layout: Layout, name: string): string {
  return layout.sidecar(name.slice(0, 64) as ContentId);
}
