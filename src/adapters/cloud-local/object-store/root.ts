/**
 * What opening a store does: makes its folders, writes or checks `store.json`, sweeps the drafts that crashed processes
 * left. The cost does not grow with the number of blobs.
 *
 * Durability belongs to the store: `store.json` has the highest level it was opened with, and a lower one is refused.
 * Opens at the same moment write it one after the other. A store that is open already keeps the level it has.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { FatalError } from '../../../contracts/errors.js';
import { type Disk, errnoOf } from './disk.js';
import { DURABILITIES, type Durability, decodeManifest, encodeManifest, isDraftName, type Layout } from './layout.js';
import type { Publisher } from './publish.js';

/** A draft not written to for this long belongs to nobody: no live stream waits a day for its next chunk. */
const DRAFT_AGE_MAX_MS = 24 * 60 * 60 * 1_000;

/** Drafts looked at by one open, so that a folder full of them delays none for long. */
const DRAFTS_SWEPT_MAX = 10_000;

/** Longest `store.json` that is read. */
const MANIFEST_BYTES_MAX = 65_536;

/**
 * @param publisher of the level `durability`
 * @throws FatalError ConfigInvalid: the root is a file, may not be written, is a store of another format or hash, or
 * (code `DURABILITY_LOWER`) of a higher durability. RecoverableError Transient: disk full or the like.
 */
export async function openRoot(
  disk: Disk,
  layout: Layout,
  publisher: Publisher,
  durability: Durability,
): Promise<void> {
  // First, so that a store of a newer format is left untouched. What lies below a file, making its folder tells.
  const level = await levelOf(disk, layout).catch((error) => {
    if (errnoOf(error) === 'ENOTDIR') return null;
    throw error;
  });
  if (level !== null && rank(durability) < rank(level)) throw lowerError(layout, durability, level);
  try {
    await disk.makeFolder(layout.tmp);
    if (level !== durability) await underLock(disk, layout, () => raise(disk, layout, publisher, durability));
  } catch (error) {
    // A store that this user may only read can be read, whatever its level is.
    if (!READ_ONLY_ERRNOS.has(errnoOf(error)) || !(await isStore(disk, layout))) throw error;
  }
  await sweepDrafts(disk, layout);
}

const READ_ONLY_ERRNOS = new Set<unknown>(['EROFS', 'EACCES', 'EPERM', 'ERR_ACCESS_DENIED']);

/** One of the original system has no `store.json`. */
async function isStore(disk: Disk, layout: Layout): Promise<boolean> {
  const names = await disk.names(layout.root);
  return names.some((name) => `${layout.root}/${name}` === layout.manifest || OUTER_NAME.test(name));
}

const OUTER_NAME = /^[0-9a-f]{2}$/;

/** The store's level; `null` where none is written: made just now, by an earlier version, or by the original system. */
async function levelOf(disk: Disk, layout: Layout): Promise<Durability | null> {
  const text = await disk.readText(layout.manifest, MANIFEST_BYTES_MAX);
  return text === undefined ? null : decodeManifest(layout.manifest, text);
}

/** Writes the level, unless it is there by now. Alone among all opens: none may write a level lower than another has. */
async function raise(disk: Disk, layout: Layout, publisher: Publisher, durability: Durability): Promise<void> {
  const level = await levelOf(disk, layout);
  if (level === durability) return;
  if (level !== null && rank(durability) < rank(level)) throw lowerError(layout, durability, level);
  await publisher.syncRoot();
  await publisher.replaceFile(layout.manifest, encodeManifest(durability));
  // What has no blob yet is counted from its first one on.
  const names = await disk.names(layout.root);
  if (!names.some((name) => name === 'usage' || OUTER_NAME.test(name))) await publisher.usage.begin(0);
}

/** An open that has been writing the level for this long has crashed over it: it takes some 10 ms. */
const LOCK_AGE_MAX_MS = 5_000;
const LOCK_POLL_MS = 10;

/** Runs `work` while no other open of this store does, in whichever process. */
async function underLock(disk: Disk, layout: Layout, work: () => Promise<void>): Promise<void> {
  const lock = `${layout.tmp}/opening`;
  while (!(await disk.claimFolder(lock))) {
    const held = await disk.stat(lock);
    // Also one of the future: the clock was set back since.
    const isLeft = held !== undefined && Math.abs(Date.now() - held.mtimeMs) > LOCK_AGE_MAX_MS;
    if (isLeft) await disk.removeFolder(lock);
    else await sleep(LOCK_POLL_MS);
  }
  try {
    await work();
  } finally {
    await disk.removeFolder(lock);
  }
}

function rank(level: Durability): number {
  return DURABILITIES.indexOf(level);
}

function lowerError({ root, manifest }: Layout, durability: Durability, level: Durability): FatalError {
  return new FatalError(
    'ConfigInvalid',
    `${root} is a store of durability "${level}" and was to be opened with "${durability}": configure "${level}" or no ` +
      `durability; to lower it for good, close the store everywhere and change ${manifest}`,
    { code: 'DURABILITY_LOWER', context: { root, durability, level } },
  );
}

/** Removes the drafts that crashed puts left, and nothing of another name. Returns how many. */
export async function sweepDrafts(disk: Disk, layout: Layout): Promise<number> {
  let swept = 0;
  const oldestMs = Date.now() - DRAFT_AGE_MAX_MS;
  const drafts = (await disk.names(layout.tmp)).filter(isDraftName);
  for (const name of drafts.slice(0, DRAFTS_SWEPT_MAX)) {
    const path = `${layout.tmp}/${name}`;
    try {
      const stats = await disk.stat(path);
      if (stats?.isFile() && stats.mtimeMs < oldestMs && (await disk.unlink(path))) swept += 1;
    } catch {
      // Another user's draft. It is harmless, the open goes on.
    }
  }
  return swept;
}
