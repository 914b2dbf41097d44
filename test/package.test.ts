/** The package as users get it: what is in it, and that it imports, types, injects and runs where it is installed. */
import { readdirSync, readFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { publint } from 'publint';
import { APP_TS, EXPORTS_JS, LOCAL_JSON, NOTES, PLUGINS_JS, PLUGINS_JSON, VAULT } from './package/apps.js';
import { DECLARED, InstalledPackage, PACKAGE, PEERS, ROOT } from './package/installed.js';
import { reach } from './package/modules.js';

/** What users may import. */
const ENTRIES = [
  '.',
  './contracts',
  './testing',
  './adapters/cloud-local',
  './adapters/gpu-nvml',
  './adapters/middleware',
];
const MODULES = ENTRIES.map((entry) => posix.join('dist', entry, 'index.js'));
/** What is started as a process of its own. */
const PROGRAMS = Object.values(PACKAGE.bin);
const CHILDREN = ['dist/adapters/gpu-nvml/nvml-child.js', 'dist/registry/isolation/child.js'];

let app: InstalledPackage;

beforeAll(() => {
  app = new InstalledPackage();
  app.write('plugins.json', PLUGINS_JSON);
  for (const [name, content] of Object.entries({ ...VAULT, ...NOTES })) app.write(name, content);
});

afterAll(() => app.remove());

describe('what is in it', () => {
  const paths = () => app.files.map(({ path }) => path).sort();
  const text = (path: string) => readFileSync(join(app.root, path), 'utf8');

  test('modules, declarations, manifests and the papers that they link to, and nothing else', () => {
    const kinds = [
      /^dist\/.+\.(js|d\.ts)$/,
      /^dist\/adapters\/[^/]+\/plugin\.json$/,
      /^plugins?\.schema\.json$/,
      /^(README|CHANGELOG|CONTRIBUTING|SECURITY)\.md$/,
      /^docs\/.+\.(md|svg)$/,
      /^(LICENSE|package\.json|dist\/THIRD-PARTY-NOTICES\.txt)$/,
    ];
    expect(paths().filter((path) => !kinds.some((kind) => kind.test(path)))).toEqual([]);
    for (const kind of kinds) expect(paths()).toContainEqual(expect.stringMatching(kind));
  });

  test('every module is an entry or imported from one, and so is every declaration', () => {
    const modules = reach(app.root, [...MODULES, ...PROGRAMS, ...CHILDREN], 'all').files;
    expect(paths().filter((path) => path.endsWith('.js'))).toEqual(modules);
    const entries = MODULES.map((file) => file.replace(/\.js$/, '.d.ts'));
    expect(paths().filter((path) => path.endsWith('.d.ts'))).toEqual(reach(app.root, entries, 'all').files);
  });

  test('nothing points to a source map, and the program can be run', () => {
    expect(paths().filter((path) => text(path).includes('sourceMappingURL'))).toEqual([]);
    for (const file of PROGRAMS) {
      expect(text(file)).toMatch(/^#!\/usr\/bin\/env node\n/);
      expect(app.files.find(({ path }) => path === file)?.mode).toBe(0o755);
    }
  });

  test('every package that it imports is declared, and every declared one is imported', () => {
    const sources = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.ts'))
      .map((file) => readFileSync(join(ROOT, 'src', file), 'utf8').replace(/\/\*[\s\S]*?\*\//g, ''))
      .join('\n');
    const imported = DECLARED.filter((name) => new RegExp(`(from |import |import\\()'${name}(/|')`).test(sources));
    expect(imported).toEqual(DECLARED);
    const known = [...DECLARED, ...PEERS];
    expect(known).toEqual(expect.arrayContaining([...reach(app.root, [...MODULES, ...PROGRAMS], 'all').packages]));
    // What a user may not have is loaded when it is needed, and not before.
    const early = reach(app.root, [...MODULES, ...PROGRAMS], 'static').packages;
    expect(PEERS.filter((name) => [...early].includes(name))).toEqual([]);
  });

  test('the licence of each package that is bundled', () => {
    for (const name of ['@inversifyjs/container', '@inversifyjs/core', 'inversify', 'reflect-metadata']) {
      expect(text('dist/THIRD-PARTY-NOTICES.txt')).toMatch(new RegExp(`^${name} \\d+\\.\\d+\\.\\d+ \\(`, 'm'));
    }
  });

  test('publint finds nothing', async () => {
    const { buffer, byteOffset, length } = readFileSync(app.tarball);
    const tarball = buffer.slice(byteOffset, byteOffset + length) as ArrayBuffer;
    expect((await publint({ pack: { tarball }, strict: true })).messages).toEqual([]);
  });

  test('"are the types wrong" finds nothing, for ES modules', async () => {
    const attw = join(ROOT, 'node_modules/@arethetypeswrong/cli/dist/index.js');
    const entries = [...ENTRIES, './package.json'];
    const ran = await app.node(attw, app.tarball, '--profile=esm-only', '--format=json', '--entrypoints', ...entries);
    const { analysis } = JSON.parse(ran.stdout) as { analysis: { entrypoints: object } };
    expect(Object.keys(analysis.entrypoints).sort()).toEqual([...entries].sort());
    expect(ran.code).toBe(0);
  });
});

describe('in plain JavaScript', () => {
  test('every export imports, and they share their classes and tokens', async () => {
    expect(await app.module('exports.js', EXPORTS_JS)).toBe('fine\n');
  });

  test('what is not exported is not reachable', async () => {
    const trying = app.module('internal.js', `import 'rollout-cloud/dist/index.js';`);
    await expect(trying).rejects.toThrow('ERR_PACKAGE_PATH_NOT_EXPORTED');
  });

  test('plugins load from a folder and from a package', async () => {
    expect(await app.module('plugins.js', PLUGINS_JS)).toBe('kept vault:token\n');
  });
});

describe('middleware', () => {
  const asking = (middleware: string) => `
    import { createHost, Storage } from 'rollout-cloud';
    const host = await createHost({ config: { bindings: { Storage: { adapter: 'local.memory', middleware: ['${middleware}'] } } } });
    await (await host.get(Storage)).ping();
    console.log(host.bindings().flatMap(({ middleware }) => middleware.map(({ id }) => id)).join());
    await host.stop();`;

  test('is known without being listed', async () => {
    expect(await app.module('retry.js', asking('retry'))).toBe('retry\n');
  });

  test('that stands on a package which is not installed says what to run', async () => {
    const trying = app.module('otel.js', asking('otel'));
    await expect(trying).rejects.toThrow(
      /RC1108 .*middleware otel needs package @opentelemetry\/api.*npm i @opentelemetry\/api/,
    );
  });
});

describe('in TypeScript, strict, its declarations checked too', () => {
  async function compile(options: object): Promise<string> {
    const compilerOptions = {
      target: 'ES2022',
      strict: true,
      noUncheckedIndexedAccess: true,
      exactOptionalPropertyTypes: true,
      skipLibCheck: false,
      experimentalDecorators: true,
      types: ['node'],
      ...options,
    };
    app.write('app.ts', APP_TS);
    app.write('tsconfig.json', { compilerOptions, files: ['app.ts'] });
    const { stdout, stderr } = await app.node(join(ROOT, 'node_modules/typescript/bin/tsc'), '-p', '.');
    return stdout + stderr;
  }

  test('module NodeNext: compiles, and runs with the Inversify of the application', async () => {
    expect(await compile({ module: 'NodeNext' })).toBe('');
    expect(await app.node('app.js')).toEqual({ code: 0, stdout: 'fine\n', stderr: '' });
  });

  test('module ESNext, moduleResolution Bundler: compiles', async () => {
    expect(await compile({ module: 'ESNext', moduleResolution: 'Bundler', noEmit: true })).toBe('');
  });

  test('without the types of browsers: compiles', async () => {
    expect(await compile({ module: 'NodeNext', lib: ['ES2023'], noEmit: true })).toBe('');
  });
});

describe('the program', () => {
  test('tells its version', async () => {
    expect(await app.npx('--version')).toMatchObject({ code: 0, stdout: `${PACKAGE.version}\n` });
  });

  test('doctor finds the local adapters well', async () => {
    app.write('local.json', LOCAL_JSON);
    const { code, stdout } = await app.npx('--config', 'local.json', '--json', 'doctor');
    const { findings } = JSON.parse(stdout) as { findings: { capability: string; status: string }[] };
    expect(findings.map(({ capability, status }) => `${capability} ${status}`)).toEqual(
      Object.keys(LOCAL_JSON.bindings).map((capability) => `${capability} ok`),
    );
    expect(code).toBe(0);
  });
});
