/**
 * The mark of a folder that is a cache: `cache.json` in its root. A cache evicts what it finds, so a store that somebody
 * relies on must never become one by a mistake in a path.
 */
import { resolve } from 'node:path';
import { FatalError } from '../../../contracts/errors.js';
import { Disk, errnoOf } from './disk.js';

const MARK = 'cache.json';

/** What the root of a store has in it: its manifest, or shards. */
const OF_A_STORE = /^(store\.json|[0-9a-f]{2})$/;

/**
 * Marks the folder, made when it is not there, unless it is marked already.
 * @throws FatalError ConfigInvalid, code `CACHE_ROOT`: it is the store behind, or one that is no cache
 */
export async function markCache(root: string, behind: unknown): Promise<void> {
  if (typeof behind === 'string' && resolve(behind) === root) throw refused(root, 'the store behind the cache');
  const disk = new Disk('async');
  // Listed before the mark is looked for: a cache that somebody else is making has the mark first.
  const names = await disk.names(root);
  if (await disk.exists(`${root}/${MARK}`)) return;
  if (names.some((name) => OF_A_STORE.test(name))) throw refused(root, 'a store, and no cache');
  await disk.makeFolder(root);
  try {
    const file = await disk.open(`${root}/${MARK}`, 'wx');
    await file.close();
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw error;
  }
}

function refused(root: string, what: string): FatalError {
  return new FatalError(
    'ConfigInvalid',
    `${root} is ${what}: a cache would remove its objects. Configure a folder of the cache's own as its root`,
    { code: 'CACHE_ROOT', context: { root } },
  );
}
