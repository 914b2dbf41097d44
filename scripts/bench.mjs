/**
 * Runs a benchmark: `node scripts/bench.mjs startup [arguments]` bundles bench/startup.ts, which Node 20 could not run as it
 * is, and runs it with this very Node, in the root of the repository. Packages stay where they are; the peers that a
 * benchmark measures beside are installed by `npm ci --prefix bench`.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const [name, ...args] = process.argv.slice(2);
// Under node_modules, so that packages are found from there: the peers' first, where they are installed.
const packages = [join(root, 'bench', 'node_modules'), join(root, 'node_modules')].find(existsSync);
if (packages === undefined) throw new Error('node_modules is not there; run npm ci first');
const folder = mkdtempSync(join(packages, '.bench-'));
try {
  const outfile = join(folder, `${name}.mjs`);
  await build({
    entryPoints: [join(root, 'bench', `${name}.ts`)],
    outfile,
    bundle: true,
    format: 'esm',
    platform: 'node',
    packages: 'external',
    logLevel: 'warning',
  });
  process.exitCode = spawnSync(process.execPath, [outfile, ...args], { cwd: root, stdio: 'inherit' }).status ?? 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
