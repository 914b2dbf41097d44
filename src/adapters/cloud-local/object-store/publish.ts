/**
 * How an object comes to be there, and stays: the only file that knows durability.
 *
 * ```
 * draft in tmp/ ──write──sync──┐
 * sidecar's draft ─write─sync──┼─ rename sidecar ─ rename blob ─ sync the folder
 * folder made ──sync parents───┘                   (commit point)
 * ```
 * Before the commit point nothing is visible, and what fails or crashes leaves at most a draft or a sidecar without a
 * blob, which nobody reads. After it the object is there: should the folder's sync fail, the put fails but the blob
 * stays, because another put may have found it and been answered already. It is the right blob in any case.
 *
 * A blob that is found instead of written may have been renamed a moment ago by a process that has not synced it yet,
 * or at a lower durability. So what `data` or `full` promise is made true for it here, unless this process saw that
 * very file synced before.
 */
import type { Stats } from 'node:fs';
import { dirname } from 'node:path';
import { isCoreError } from '../../../contracts/errors.js';
import type { ContentId } from '../../../contracts/ids.js';
import { allSettled, Rounds } from './concurrency.js';
import { type Disk, errnoOf } from './disk.js';
import { Draft } from './draft.js';
import { type Eventual, type Steps, settle } from './in-place.js';
import {
  type Durability,
  decodeSidecar,
  encodeSidecar,
  isSidecarWhole,
  type Layout,
  newDraftPrefix,
  SIDECAR_BYTES_MAX,
  TOUCH_AGE_MS,
} from './layout.js';
import type { OpenFile } from './open-file.js';
import type { Usage } from './usage.js';

/** Blobs remembered as synced, about 2 MB; past that all are forgotten, and synced anew when they are put again. */
const SYNCED_BLOBS_MAX = 16_384;

/** Blobs remembered as corrupt, about 2 MB; past that all are forgotten, until they are read again. */
const CORRUPT_BLOBS_MAX = 16_384;

/** Looks at a blob that has to be touched: it is found, touched and found young, or is gone and brought back between. */
const HOLD_TRIES_MAX = 3;

/** Bytes written in one call, so that an abort and the calls of others need not wait for all of a large buffer. */
export const BLOCK_BYTES = 1_048_576;

/** What this process knows of a folder; 0 for nothing. `SYNCED`: its name survives a power cut. */
const MADE = 1;
const SYNCED = 2;

/** How a written draft is stored. */
export interface PublishOptions {
  readonly contentType?: string | null;
  /** Of the room that the draft takes, what is kept for it already. Default 0. */
  readonly heldBytes?: number;
  readonly signal?: AbortSignal;
}

/** `left` as it is, which is missing, torn or unreadable, because it could not be written anew. */
export type SidecarState = 'whole' | 'mended' | 'left';

export class Publisher {
  readonly #disk: Disk;
  readonly #layout: Layout;
  readonly #durability: Durability;
  readonly #touchAgeMs: number;
  /** What is known of the 256 outer folders and, by the first 16 bits of an id, of the shards in them. */
  readonly #outers = new Uint8Array(256);
  readonly #shards = new Uint8Array(65_536);
  /** The blob's change time when it was made durable here: a rename, by whomever, makes it another. */
  readonly #syncedAtMs = new Map<ContentId, number>();
  readonly #corrupt = new Set<ContentId>();
  readonly #folderSyncs: Rounds<string>;
  readonly #draftPrefix = newDraftPrefix();
  #drafts = 0;

  /** @param touchAgeMs see {@link TOUCH_AGE_MS} */
  constructor(
    disk: Disk,
    layout: Layout,
    durability: Durability,
    readonly usage: Usage,
    touchAgeMs = TOUCH_AGE_MS,
  ) {
    this.#touchAgeMs = touchAgeMs;
    this.#disk = disk;
    this.#layout = layout;
    this.#durability = durability;
    this.#folderSyncs = new Rounds((path) => disk.syncFolder(path));
  }

  /** Makes the names of the root and of the folders above it durable, whichever process made them a moment ago. */
  async syncRoot(): Promise<void> {
    if (this.#durability !== 'full') return;
    for (let path = this.#layout.root; ; path = dirname(path)) {
      try {
        await this.#disk.syncFolder(path);
      } catch (error) {
        // One that this user may not read is older than the store.
        if (errnoOf(error) !== 'EACCES') throw error;
      }
      if (path === dirname(path)) return;
    }
  }

  /** A new file of no name that anybody looks for. Whoever made it commits it, or discards it when anything fails. */
  async draft(): Promise<Draft> {
    return settle(this.#draft());
  }

  *#draft(): Steps<Draft> {
    const path = this.#nextDraft();
    let file: OpenFile;
    try {
      file = yield this.#disk.open(path, 'wx');
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error;
      yield this.#disk.makeFolder(this.#layout.tmp);
      file = yield this.#disk.open(path, 'wx');
    }
    return new Draft(this.#disk, file);
  }

  /** A draft that shares the blocks of a file; `null` where the file system cannot. */
  async cloned(from: string): Promise<Draft | null> {
    const path = this.#nextDraft();
    if (!(await this.#disk.clone(from, path))) return null;
    return new Draft(this.#disk, await this.#disk.open(path, 'r+'));
  }

  #nextDraft(): string {
    return `${this.#layout.tmp}/${this.#draftPrefix}-${(this.#drafts++).toString(36)}`;
  }

  /** Stores bytes at hand, unless they are there. Others wait for large ones only a block at a time. */
  put(id: ContentId, bytes: Uint8Array, contentType: string | null, signal?: AbortSignal): Eventual<void> {
    return settle(this.#put(id, bytes, contentType, signal));
  }

  *#put(id: ContentId, bytes: Uint8Array, contentType: string | null, signal?: AbortSignal): Steps<void> {
    signal?.throwIfAborted();
    if (yield* this.#adopt(id, bytes.byteLength)) return;
    yield this.usage.hold(bytes.byteLength);
    let draft: Draft | null = null;
    try {
      draft = yield* this.#draft();
      for (let offset = 0; offset < bytes.byteLength; offset += BLOCK_BYTES) {
        signal?.throwIfAborted();
        yield draft.write(offset === 0 && bytes.byteLength <= BLOCK_BYTES ? bytes : blockAt(bytes, offset));
      }
      yield* this.#commit(id, draft, contentType, signal);
    } catch (error) {
      if (draft !== null) yield draft.discard();
      throw error;
    } finally {
      this.usage.release(bytes.byteLength);
    }
  }

  /** Stores a written draft, unless its bytes are there. Should it fail, discard the draft. */
  async publish(id: ContentId, draft: Draft, how: PublishOptions): Promise<void> {
    return settle(this.#publish(id, draft, how));
  }

  *#publish(id: ContentId, draft: Draft, { contentType = null, heldBytes = 0, signal }: PublishOptions): Steps<void> {
    if (yield* this.#adopt(id, draft.size)) {
      yield draft.discard();
      return;
    }
    const moreBytes = draft.size - heldBytes;
    if (moreBytes > 0) yield this.usage.hold(moreBytes);
    try {
      yield* this.#commit(id, draft, contentType, signal);
    } finally {
      if (moreBytes > 0) this.usage.release(moreBytes);
    }
  }

  /**
   * Makes a written draft the blob of `id`, as durable as the store's level says. Should it fail, discard the draft.
   * @param signal an abort before the commit point leaves nothing visible; later ones are too late
   */
  *#commit(id: ContentId, draft: Draft, contentType: string | null, signal?: AbortSignal): Steps<void> {
    const sidecar = encodeSidecar(draft.size, { contentType, createdAtMs: Date.now() });
    const written: Stats | null = this.#durability === 'none' ? null : yield draft.stat();
    yield* this.#install(id, draft, sidecar, signal);
    this.#corrupt.delete(id);
    yield this.usage.add(draft.size);
    if (written === null) return;
    const blob: Stats | undefined = yield this.#disk.stat(this.#layout.blob(id));
    yield this.#syncNames(id);
    // Another process may have put a file of its own there since the rename, and nobody knows whether that is synced.
    if (blob?.ino === written.ino) this.#remember(id, blob);
  }

  /** Tells that a read found other bytes than the id names: the next put is to replace the blob, not to adopt it. */
  distrust(id: ContentId): void {
    if (this.#corrupt.size >= CORRUPT_BLOBS_MAX) this.#corrupt.clear();
    this.#corrupt.add(id);
  }

  /** What is at a blob's place, after a blob that a collection has just taken away was brought back. */
  async find(id: ContentId): Promise<Stats | undefined> {
    return settle(this.#find(id));
  }

  *#find(id: ContentId): Steps<Stats | undefined> {
    const blob: Stats | undefined = yield this.#disk.stat(this.#layout.blob(id));
    if (blob !== undefined || !(yield* this.#restore(id))) return blob;
    return yield this.#disk.stat(this.#layout.blob(id));
  }

  /** Brings back a blob that a collection took away and has not removed yet. False when there is none. */
  async restore(id: ContentId): Promise<boolean> {
    return settle(this.#restore(id));
  }

  *#restore(id: ContentId): Steps<boolean> {
    const condemned = this.#layout.condemned(id);
    const there: Stats | undefined = yield this.#disk.stat(condemned);
    if (there === undefined) return false;
    try {
      yield* this.#move(condemned, this.#layout.blob(id), id);
      return true;
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error;
      // Removed, or brought back by somebody else: then it is there to be found.
      return yield this.#disk.exists(this.#layout.blob(id));
    }
  }

  /**
   * Whether the blob is there already, complete in size. If so it is made as durable as one just put, kept from
   * collections that are under way, and nothing is written but a sidecar that is missing or torn. A blob of another
   * size is what a power cut leaves behind at durability `none`: it counts as missing, so that the put which asked
   * replaces it, and so does a distrusted one.
   */
  *#adopt(id: ContentId, size: number): Steps<boolean> {
    if (this.#corrupt.has(id)) return false;
    const found = yield* this.#find(id);
    if (!found?.isFile() || found.size !== size) return false;
    const isYoung = Date.now() - found.mtimeMs < this.#touchAgeMs;
    // Its sidecar was written, or looked at, when the blob became known. What others took away since, no put brings back:
    // one written anew says no more than `stat` makes up without it.
    if (isYoung && this.#syncedAtMs.get(id) === found.ctimeMs) return true;
    const hasSidecar = (yield* this.#mend(id, found)) !== 'left';
    const blob = isYoung ? found : yield* this.#hold(id, found);
    if (blob === undefined) return false;
    if (this.#durability !== 'none') {
      try {
        const files = [this.#layout.blob(id)];
        if (this.#durability === 'full' && hasSidecar) files.push(this.#layout.sidecar(id));
        yield allSettled(files.map((path) => this.#disk.syncFile(path)));
      } catch (error) {
        if (errnoOf(error) === 'ENOENT') return false;
        throw error;
      }
      yield this.#syncNames(id);
    }
    this.#remember(id, blob);
    return true;
  }

  /** Sees to a sidecar that says what it should: never fails the blob, as it is worth no more than the content type. */
  async mend(id: ContentId, blob: Stats): Promise<SidecarState> {
    return settle(this.#mend(id, blob));
  }

  *#mend(id: ContentId, blob: Stats): Steps<SidecarState> {
    try {
      const bytes: Uint8Array | undefined = yield this.#disk.readSmall(this.#layout.sidecar(id), SIDECAR_BYTES_MAX);
      const text = bytes && Buffer.from(bytes).toString();
      if (isSidecarWhole(text, blob.size)) return 'whole';
      // Anew, from what is left of it and from its blob.
      yield* this.#install(id, null, encodeSidecar(blob.size, decodeSidecar(text, blob)));
      yield this.#syncNames(id);
      return 'mended';
    } catch (error) {
      if (!isCoreError(error)) throw error;
      return 'left';
    }
  }

  /** The blob, made young enough that no collection takes it; `undefined` where it has to be put anew. */
  *#hold(id: ContentId, found: Stats): Steps<Stats | undefined> {
    let blob: Stats | undefined = found;
    for (let tries = 0; tries < HOLD_TRIES_MAX; tries++) {
      if (blob?.size !== found.size) return undefined;
      if (Date.now() - blob.mtimeMs < this.#touchAgeMs) return blob;
      try {
        yield this.#disk.touch(this.#layout.blob(id));
      } catch (error) {
        // Another user's: only a new one is ours to date. On a read-only file system nothing collects.
        if (errnoOf(error) === 'EPERM' || errnoOf(error) === 'EACCES') return undefined;
        if (errnoOf(error) === 'EROFS') return blob;
        // Taken away between the two calls: it is looked for once more.
        if (errnoOf(error) !== 'ENOENT') throw error;
      }
      blob = yield* this.#find(id);
    }
    return undefined;
  }

  /** Takes an object away, blob first. False when there was none. */
  async remove(id: ContentId): Promise<boolean> {
    return settle(this.#remove(id));
  }

  *#remove(id: ContentId): Steps<boolean> {
    const blob = this.#layout.blob(id);
    const found = yield* this.#find(id);
    const isRemoved: boolean = found !== undefined && (yield this.#disk.unlink(blob));
    if (!isRemoved) return false;
    yield this.usage.remove(found?.size ?? 0);
    this.#corrupt.delete(id);
    try {
      yield this.#disk.unlink(this.#layout.sidecar(id));
    } catch (error) {
      // The object is gone: what is left beside it is nobody's.
      if (!isCoreError(error)) throw error;
    }
    if (this.#durability === 'full') yield this.#folderSyncs.run(this.#layout.shard(id));
    return true;
  }

  /** Puts a small file in its place under the root, whole or not at all, and durable at every level. */
  async replaceFile(path: string, bytes: Uint8Array): Promise<void> {
    const draft = await this.draft();
    try {
      await draft.write(bytes);
      await draft.finish(true);
      await this.#disk.rename(draft.path, path);
    } catch (error) {
      await draft.discard();
      throw error;
    }
    await this.#folderSyncs.run(this.#layout.root);
  }

  /** Sidecar, then blob, each from a synced draft; `blob` is null where only the sidecar was lost. */
  *#install(id: ContentId, blob: Draft | null, sidecarBytes: Uint8Array, signal?: AbortSignal): Steps<void> {
    const sidecar = yield* this.#draft();
    try {
      yield sidecar.write(sidecarBytes);
      yield* this.#makeShard(id);
      if (this.#durability === 'none') {
        yield sidecar.finish(false);
        if (blob !== null) yield blob.finish(false);
      } else {
        const isFull = this.#durability === 'full';
        // All at once: syncs under way together share one commit of the file system's journal.
        yield allSettled([sidecar.finish(isFull), blob?.finish(true), isFull ? this.#syncShardName(id) : undefined]);
      }
      signal?.throwIfAborted();
      yield* this.#move(sidecar.path, this.#layout.sidecar(id), id);
      if (blob !== null) yield* this.#move(blob.path, this.#layout.blob(id), id);
    } catch (error) {
      yield sidecar.discard();
      throw error;
    }
  }

  /** Renames into a shard, made when need be; made again, once, when somebody took the empty folder away. */
  *#move(from: string, to: string, id: ContentId): Steps<void> {
    const shard = shardOf(id);
    for (let again = true; ; again = false) {
      try {
        yield* this.#makeShard(id);
        yield this.#disk.rename(from, to);
        return;
      } catch (error) {
        if (errnoOf(error) !== 'ENOENT' || !again) throw error;
        this.#shards[shard] = 0;
        this.#outers[shard >> 8] = 0;
      }
    }
  }

  *#makeShard(id: ContentId): Steps<void> {
    const shard = shardOf(id);
    if (this.#shards[shard] !== 0) return;
    yield this.#disk.makeFolder(this.#layout.shard(id));
    this.#shards[shard] = MADE;
  }

  /** Makes a shard's names survive, and the shard's own: another process may have made it a moment ago. */
  #syncNames(id: ContentId): Eventual<void> {
    return this.#durability === 'full' ? this.#syncFolders(id) : undefined;
  }

  async #syncFolders(id: ContentId): Promise<void> {
    await allSettled([this.#folderSyncs.run(this.#layout.shard(id)), this.#syncShardName(id)]);
  }

  /** Makes the shard's own name survive, and that of the folder it is in, unless it is known that they do. */
  #syncShardName(id: ContentId): Promise<void> | undefined {
    const shard = shardOf(id);
    const [outerState, shardState] = [this.#outers[shard >> 8] ?? 0, this.#shards[shard] ?? 0];
    const folders: string[] = [];
    if (shardState !== SYNCED) folders.push(this.#layout.outer(id));
    if (outerState !== SYNCED) folders.push(this.#layout.root);
    if (folders.length === 0) return undefined;
    return allSettled(folders.map((path) => this.#folderSyncs.run(path))).then(() => {
      // Unless somebody took the folders away meanwhile, and another put made them again.
      if (this.#shards[shard] === shardState) this.#shards[shard] = SYNCED;
      if (this.#outers[shard >> 8] === outerState) this.#outers[shard >> 8] = SYNCED;
    });
  }

  #remember(id: ContentId, { ctimeMs }: Stats): void {
    if (this.#syncedAtMs.size >= SYNCED_BLOBS_MAX) this.#syncedAtMs.clear();
    this.#syncedAtMs.set(id, ctimeMs);
  }
}

function blockAt(bytes: Uint8Array, offset: number): Uint8Array {
  return bytes.subarray(offset, offset + BLOCK_BYTES);
}

function shardOf(id: ContentId): number {
  return Number.parseInt(id.slice(0, 4), 16);
}
