/** The locks of the package and of its benchmarks: `npm ci` refuses one that does not name what every platform needs. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { ROOT } from './installed.js';

interface Locked {
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

/** Where Node looks for a package from a folder of the lock, nearest first: `a/node_modules/b`, `node_modules/b`. */
function placesOf(name: string, folder: string): string[] {
  const ways = folder.split('/node_modules/');
  const nested = ways.map((_, i) => `${ways.slice(0, ways.length - i).join('/node_modules/')}/node_modules/${name}`);
  return folder === '' ? [`node_modules/${name}`] : [...nested, `node_modules/${name}`];
}

test.each(['.', 'bench'])(
  'the lock in %s has all that its packages ask for, those of other platforms included',
  (folder) => {
    const { packages } = JSON.parse(readFileSync(join(ROOT, folder, 'package-lock.json'), 'utf8')) as {
      packages: Readonly<Record<string, Locked>>;
    };
    const missing = Object.entries(packages).flatMap(([at, { dependencies, devDependencies, optionalDependencies }]) =>
      Object.keys({ ...dependencies, ...(at === '' && devDependencies), ...optionalDependencies })
        .filter((name) => !placesOf(name, at).some((place) => place in packages))
        .map((name) => `${at || 'package.json'} asks for ${name}`),
    );
    expect(Object.keys(packages).length).toBeGreaterThan(50);
    expect(missing).toEqual([]);
  },
);
