/**
 * What opening a store does: makes its folders, writes or checks `store.json`, sweeps the drafts that crashed processes
 * left. The cost does not grow with the number of blobs.
 *
 * Durability belongs to the store: `store.json` has the highest level it was opened with, and a lower one is refused.
 * Two opens at the same moment may leave the lower of their levels there; each keeps its own until it is closed.
 */
import { FatalError, isCoreError } from '../../../contracts/errors.js';
import type { Disk } from './disk.js';
import { settle } from './in-place.js';
import { DURABILITIES, type Durability, decodeManifest, encodeManifest, type Layout } from './layout.js';
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
  await settle(disk.makeFolder(layout.tmp));
  const text = await disk.readText(layout.manifest, MANIFEST_BYTES_MAX);
  // No file: made just now, here or by another process, or written by the original system, which has none.
  const level = text === undefined ? null : decodeManifest(layout.manifest, text);
  if (level !== null && rank(durability) < rank(level)) throw lowerError(layout, durability, level);
  if (level !== durability) {
    await publisher.syncRoot();
    try {
      await publisher.replaceFile(layout.manifest, encodeManifest(durability));
    } catch (error) {
      // A store that this user may only read can be read, whatever its level is.
      if (text === undefined || !isCoreError(error) || error.code !== 'IO_DENIED') throw error;
    }
  }
  await sweepDrafts(disk, layout);
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

/** Removes the drafts that crashed puts left. Returns how many. */
export async function sweepDrafts(disk: Disk, layout: Layout): Promise<number> {
  let swept = 0;
  const oldestMs = Date.now() - DRAFT_AGE_MAX_MS;
  for (const name of (await disk.names(layout.tmp)).slice(0, DRAFTS_SWEPT_MAX)) {
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
