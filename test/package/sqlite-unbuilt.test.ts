/** The package where the install script of `sqlite3` has not run, as npm and pnpm may be told: what a user is told then. */
import { cpSync, symlinkSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { InstalledPackage, ROOT } from './installed.js';

let app: InstalledPackage;
beforeAll(() => {
  app = new InstalledPackage();
  const folder = join(app.folder, 'node_modules/sqlite3');
  unlinkSync(folder);
  for (const name of ['lib', 'package.json']) {
    cpSync(join(ROOT, 'node_modules/sqlite3', name), join(folder, name), { recursive: true });
  }
  // What it looks for its compiled part with.
  for (const name of ['bindings', 'file-uri-to-path']) {
    symlinkSync(join(ROOT, 'node_modules', name), join(app.folder, 'node_modules', name));
  }
});
afterAll(() => app.remove());

test.each([
  ['Storage', { Storage: { adapter: 'local.sqlite', config: { path: './x.db' } } }],
  ['Queue', { Queue: { adapter: 'local.sqlite-queue', config: { path: './q.db' } } }],
])('a %s that stands on it says what to run, or what to use instead', async (_, bindings) => {
  app.write('plugins.json', { bindings });
  const { code, stdout } = await app.npx('doctor');
  expect(code).toBe(1);
  expect(stdout).toMatch(
    /^fail .*the sqlite3 package cannot be loaded \(Could not locate the bindings file\); .* run "npm rebuild sqlite3" .*adapter local\.node-sqlite/m,
  );
});
