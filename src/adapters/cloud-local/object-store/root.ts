/**
 * What opening a store does: makes its folders, writes or checks `store.json`, sweeps the drafts that crashed processes
 * left. The cost does not grow with the number of blobs.
 */
import type { Disk } from './disk.js';
import { checkManifest, type Layout, MANIFEST } from './layout.js';
import type { Publisher } from './publish.js';

/** A draft not written to for this long belongs to nobody: no live stream waits a day for its next chunk. */
const DRAFT_AGE_MAX_MS = 24 * 60 * 60 * 1_000;

/** Drafts looked at by one open, so that a folder full of them delays none for long. */
const DRAFTS_SWEPT_MAX = 10_000;

/** Longest `store.json` that is read. */
const MANIFEST_BYTES_MAX = 65_536;

/**
 * @throws FatalError ConfigInvalid: the root is a file, may not be written, or is a store of another format or hash.
 * RecoverableError Transient: disk full or the like.
 */
export async function openRoot(disk: Disk, layout: Layout, publisher: Publisher): Promise<void> {
  await disk.makeFolder(layout.tmp);
  const text = await disk.readText(layout.manifest, MANIFEST_BYTES_MAX);
  if (text !== undefined) {
    checkManifest(layout.manifest, text);
  } else {
    // Made just now, here or by another process, or written by the original system, which has no such file.
    await publisher.syncRoot();
    await publisher.replaceFile(layout.manifest, MANIFEST);
  }
  await sweepDrafts(disk, layout);
}

async function sweepDrafts(disk: Disk, layout: Layout): Promise<void> {
  const oldestMs = Date.now() - DRAFT_AGE_MAX_MS;
  for (const name of (await disk.names(layout.tmp)).slice(0, DRAFTS_SWEPT_MAX)) {
    const path = `${layout.tmp}/${name}`;
    try {
      const stats = await disk.stat(path);
      if (stats?.isFile() && stats.mtimeMs < oldestMs) await disk.unlink(path);
    } catch {
      // Another user's draft, or one just swept by another process. It is harmless, the open goes on.
    }
  }
}
