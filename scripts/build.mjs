/**
 * Builds `dist`: JavaScript by esbuild (entry points share chunks, so that a class exists once), the declarations that
 * users need by tsc, every plugin.json beside its plugin, and, at the root, the schemas that editors use. `--if-needed` does nothing when dist is newer than all it
 * is made from.
 *
 * Inversify is bundled: as its 240 files it takes about 100 ms to import, as one it takes 10. So is ulid, which every queue
 * needs and takes 4 ms from its own files. Everything else stays a dependency, imported where it is used.
 */
import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const src = join(root, 'src');
const dist = join(root, 'dist');
/** Written last, so that an interrupted build is not taken for a finished one. */
const stamp = join(dist, 'THIRD-PARTY-NOTICES.txt');
/** Modules that are started as processes of their own, beside the program; nothing imports them. */
const CHILDREN = ['adapters/gpu-nvml/nvml-child.ts', 'registry/isolation/child.ts'];
const BUNDLED = /^(inversify|@inversifyjs\/.*|reflect-metadata|ulid)$/;

const filesIn = (folder) =>
  readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name));

const sources = filesIn(src);
const inputs = [
  ...sources,
  ...['package.json', 'package-lock.json', 'tsconfig.json', 'tsconfig.build.json'].map((f) => join(root, f)),
  ...['build.mjs', 'precompile.mjs'].map((f) => join(root, 'scripts', f)),
];
const newest = Math.max(...inputs.map((file) => statSync(file).mtimeMs));
if (!process.argv.includes('--if-needed') || !existsSync(stamp) || statSync(stamp).mtimeMs < newest) await buildAll();

async function buildAll() {
  rmSync(dist, { recursive: true, force: true });
  // Only now: whoever runs a finished build does not pay for importing the builder.
  const { build } = await import('esbuild');
  const { precompile, writeSchemas } = await import('./precompile.mjs');
  const manifests = sources.filter((file) => file.endsWith('plugin.json'));
  const modules = [
    ...['index.ts', 'contracts/index.ts', 'testing/index.ts'].map((file) => join(src, file)),
    ...manifests.map((file) => join(dirname(file), 'index.ts')),
  ];
  const { dependencies, optionalDependencies, peerDependencies } = JSON.parse(
    readFileSync(join(root, 'package.json'), 'utf8'),
  );
  const external = Object.keys({ ...dependencies, ...optionalDependencies, ...peerDependencies }).filter(
    (name) => !BUNDLED.test(name),
  );
  const { metafile } = await build({
    entryPoints: [...modules, ...['cli/main.ts', ...CHILDREN].map((file) => join(src, file))],
    outdir: dist,
    outbase: src,
    chunkNames: 'chunks/[name]-[hash]',
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node20.17',
    metafile: true,
    logLevel: 'warning',
    external: external.flatMap((name) => [name, `${name}/*`]),
    plugins: [precompile(src, manifests)],
  });
  await writeSchemas(src, manifests, root);
  for (const file of manifests) copyFileSync(file, join(dist, relative(src, file)));
  execFileSync(
    process.execPath,
    [join(root, 'node_modules/typescript/bin/tsc'), '-p', join(root, 'tsconfig.build.json')],
    {
      stdio: 'inherit',
    },
  );
  keepOnlyNeeded(modules.map((file) => join(dist, relative(src, file).replace(/\.ts$/, '.d.ts'))));
  writeFileSync(stamp, notices(Object.keys(metafile.inputs)));
}

/** tsc writes a declaration for every source; users need those that the modules they import lead to. */
function keepOnlyNeeded(declarations) {
  const needed = new Set();
  const visit = (file) => {
    if (needed.has(file)) return;
    needed.add(file);
    const text = readFileSync(file, 'utf8').replace(/\/\*[\s\S]*?\*\//g, '');
    for (const [, specifier] of text.matchAll(/\b(?:from|import)[\s(]*["'](\.[^"']+)["']/g))
      visit(resolve(dirname(file), specifier.replace(/\.js$/, '.d.ts')));
  };
  declarations.forEach(visit);
  for (const file of filesIn(dist)) if (file.endsWith('.d.ts') && !needed.has(file)) rmSync(file);
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
