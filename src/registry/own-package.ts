/** This package itself: its version, and where its built-in plugins lie. */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

const self = fileURLToPath(import.meta.url);

/** The nearest folder upwards with a package.json: a build may have moved this code to any depth. */
export const PACKAGE_FOLDER = (() => {
  let folder = dirname(self);
  while (!existsSync(join(folder, 'package.json'))) folder = dirname(folder);
  return folder;
})();

/** The tree that runs: `dist`, or `src` under a transpiler. */
export const [TREE = ''] = relative(PACKAGE_FOLDER, self).split(sep);

export const VERSION: string = JSON.parse(readFileSync(join(PACKAGE_FOLDER, 'package.json'), 'utf8')).version;

/** Each folder in it is a plugin. */
export const ADAPTERS_FOLDER = join(PACKAGE_FOLDER, TREE, 'adapters');
