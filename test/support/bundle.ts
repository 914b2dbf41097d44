/** Sources as one plain JavaScript module, for tests that start processes of their own: Node 20 cannot run TypeScript. */
import { mkdtempSync, rmSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'esbuild';

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** Bundles a source of the repository, by its path from the root; packages stay where they are. Returns its URL. */
export async function bundle(source: string): Promise<string> {
  // Under node_modules, so that packages are found from there.
  const folder = mkdtempSync(join(ROOT, 'node_modules', '.bundle-'));
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  const outfile = join(folder, basename(source).replace(/\.ts$/, '.mjs'));
  await build({
    entryPoints: [resolve(ROOT, source)],
    outfile,
    bundle: true,
    format: 'esm',
    platform: 'node',
    packages: 'external',
    logLevel: 'warning',
  });
  return pathToFileURL(outfile).href;
}
