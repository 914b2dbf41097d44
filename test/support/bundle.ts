/** Sources as one plain JavaScript module, for tests that start processes of their own: Node 20 cannot run TypeScript. */
import { renameSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'esbuild';

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** Bundles a source of the repository, by its path from the root; packages stay where they are. Returns its URL. */
export async function bundle(source: string): Promise<string> {
  // Under node_modules, so that packages are found from there; one file for a source, replaced by each test run.
  const outfile = join(
    ROOT,
    'node_modules/.cache/rollout-cloud',
    source.replace(/[^a-z0-9]+/g, '-').replace(/-ts$/, '.mjs'),
  );
  const draft = `${outfile}.${process.pid}`;
  await build({
    entryPoints: [resolve(ROOT, source)],
    outfile: draft,
    bundle: true,
    format: 'esm',
    platform: 'node',
    packages: 'external',
    logLevel: 'warning',
  });
  renameSync(draft, outfile);
  return pathToFileURL(outfile).href;
}
