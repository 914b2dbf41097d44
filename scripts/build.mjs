/**
 * Builds `dist`: JavaScript by esbuild (entry points share chunks, so that a class exists once), declarations by tsc, and
 * every plugin.json beside its plugin. `--if-needed` does nothing when dist is newer than all it is made from.
 *
 * Inversify is bundled: as its 240 files it takes about 100 ms to import, as one it takes 10. Everything else stays a
 * dependency, imported where it is used.
 */
import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const src = join(root, 'src');
const dist = join(root, 'dist');
/** Written last, so that an interrupted build is not taken for a finished one. */
const stamp = join(dist, 'THIRD-PARTY-NOTICES.txt');
const BUNDLED = /^(inversify|@inversifyjs\/.*|reflect-metadata)$/;

const filesIn = (folder) =>
  readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name));

const sources = filesIn(src);
const inputs = [
  ...sources,
  ...['package.json', 'package-lock.json', 'tsconfig.json', 'tsconfig.build.json', 'scripts/build.mjs'].map((f) =>
    join(root, f),
  ),
];
const newest = Math.max(...inputs.map((file) => statSync(file).mtimeMs));
if (!process.argv.includes('--if-needed') || !existsSync(stamp) || statSync(stamp).mtimeMs < newest) await buildAll();

async function buildAll() {
  rmSync(dist, { recursive: true, force: true });
  // Only now: whoever runs a finished build does not pay for importing the builder.
  const { build } = await import('esbuild');
  const plugins = sources.filter((file) => file.endsWith('plugin.json')).map(dirname);
  const entryPoints = [
    ...['index.ts', 'contracts/index.ts', 'testing/index.ts', 'cli/main.ts'].map((file) => join(src, file)),
    ...plugins.map((folder) => join(folder, 'index.ts')),
  ];
  const { dependencies, optionalDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const external = Object.keys({ ...dependencies, ...optionalDependencies }).filter((name) => !BUNDLED.test(name));
  const { metafile } = await build({
    entryPoints,
    outdir: dist,
    outbase: src,
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node20.17',
    metafile: true,
    logLevel: 'warning',
    external: external.flatMap((name) => [name, `${name}/*`]),
  });
  for (const folder of plugins)
    copyFileSync(join(folder, 'plugin.json'), join(dist, relative(src, folder), 'plugin.json'));
  execFileSync(
    process.execPath,
    [join(root, 'node_modules/typescript/bin/tsc'), '-p', join(root, 'tsconfig.build.json')],
    {
      stdio: 'inherit',
    },
  );
  writeFileSync(stamp, notices(Object.keys(metafile.inputs)));
}

/** The licences of what is bundled ask to go with it. */
function notices(bundled) {
  const names = new Set(bundled.map((file) => /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(file)?.[1]).filter(Boolean));
  return [...names]
    .sort()
    .map((name) => {
      const folder = join(root, 'node_modules', name);
      const { version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
      const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
      const text = file === undefined ? '' : `\n\n${readFileSync(join(folder, file), 'utf8').trim()}`;
      return `${name} ${version} (${license})${text}`;
    })
    .join(`\n\n${'-'.repeat(72)}\n\n`);
}
