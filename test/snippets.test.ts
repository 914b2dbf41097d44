/**
 * Every piece of code in the papers, run as a reader would: in a folder of its own, on the built package. TypeScript is
 * type-checked, too. What a piece takes for granted stands before it in a comment of the page: `<!-- before: … -->`.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { transform } from 'esbuild';
import { createHost } from '../src/registry/index.js';
import { importModule } from './support/import-module.js';

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));

interface Piece {
  readonly paper: string;
  readonly language: string;
  readonly code: string;
  /** From the comments right before it. */
  readonly notes: Readonly<Record<string, string>>;
}

/** The fenced pieces of a paper, in order. */
function pieces(paper: string): Piece[] {
  const text = readFileSync(join(ROOT, paper), 'utf8');
  const fence = /((?:<!--[\s\S]*?-->\n)*)^```(\w*)\n([\s\S]*?)^```$/gm;
  return [...text.matchAll(fence)].map(([, comments = '', language = '', code = '']) => ({
    paper,
    language,
    code,
    notes: Object.fromEntries(
      [...comments.matchAll(/<!-- (\w+): ([\s\S]*?) -->/g)].map(([, key = '', value = '']) => [key, value]),
    ),
  }));
}

const PAPERS = [
  'README.md',
  'docs/queue.md',
  'docs/object-store.md',
  'docs/compute.md',
  'docs/middleware.md',
  'docs/host.md',
  'docs/errors.md',
  'docs/write-an-adapter.md',
];
const all = PAPERS.flatMap(pieces);
const piece = (paper: string, language: string, holding: string): Piece => {
  const found = all.filter((p) => p.paper === paper && p.language === language && p.code.includes(holding));
  if (found.length !== 1) throw new Error(`${found.length} pieces of ${language} in ${paper} hold ${holding}`);
  return found[0] as Piece;
};

const CONFIG = piece('README.md', 'jsonc', '"version": 1').code;

const folders: string[] = [];
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

/** A reader's project: the package is installed, and the README's plugins.json is there. */
function project(): string {
  const folder = mkdtempSync(join(tmpdir(), 'rollout-'));
  folders.push(folder);
  const modules = join(folder, 'node_modules');
  mkdirSync(join(modules, '.bin'), { recursive: true });
  mkdirSync(join(modules, '@types'));
  symlinkSync(ROOT, join(modules, 'rollout-cloud'));
  for (const name of ['inversify', 'reflect-metadata', '@types/node']) {
    symlinkSync(join(ROOT, 'node_modules', name), join(modules, name));
  }
  chmodSync(join(ROOT, 'dist/cli/main.js'), 0o755);
  symlinkSync(join(ROOT, 'dist/cli/main.js'), join(modules, '.bin/rollout-cloud'));
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
  writeFileSync(join(folder, 'plugins.json'), CONFIG);
  return folder;
}

function shell(command: string, cwd: string): string {
  const path = `${join(cwd, 'node_modules/.bin')}:${dirname(process.execPath)}:${process.env.PATH}`;
  const { status, stdout, stderr } = spawnSync('sh', ['-ec', command], {
    cwd,
    encoding: 'utf8',
    // Without colours, which test runners use without a terminal too where CI is set.
    env: { ...process.env, PATH: path, NODE_OPTIONS: '', NO_COLOR: '1', FORCE_COLOR: undefined },
  });
  if (status !== 0) throw new Error(`${command}\nended with ${status}\n${stdout}${stderr}`);
  return stdout;
}

const program = ({ code, notes }: Piece): string => [notes.before ?? '', code, notes.after ?? ''].join('\n');

describe('TypeScript in the papers', () => {
  const programs = all.filter(({ language, notes }) => language === 'ts' && notes.runner === undefined);
  const names = programs.map(
    ({ paper, code }) =>
      [`${paper}: ${code.split('\n').find((line) => line.trim() !== '' && !line.startsWith('import'))}`] as const,
  );

  test('there is some', () => expect(programs.length).toBeGreaterThan(7));

  test('compiles, strict', () => {
    const folder = project();
    const files = programs.map((p, i) => {
      writeFileSync(join(folder, `${i}.ts`), `${program(p)}\nexport {};\n`);
      return `${i}.ts`;
    });
    const options = {
      strict: true,
      module: 'NodeNext',
      target: 'ES2022',
      noEmit: true,
      experimentalDecorators: true,
      types: ['node'],
    };
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions: options, files }));
    const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
    const { stdout } = spawnSync(process.execPath, [tsc, '-p', folder], { encoding: 'utf8' });
    expect(stdout).toBe('');
  });

  test.each(names.map(([name], i) => [name, i] as const))('%s runs', async (_, i) => {
    const folder = project();
    const { code } = await transform(program(programs[i] as Piece), {
      loader: 'ts',
      format: 'esm',
      tsconfigRaw: { compilerOptions: { experimentalDecorators: true } },
    });
    writeFileSync(join(folder, 'snippet.mjs'), code);
    shell('node snippet.mjs', folder);
  });
});

describe('the README', () => {
  let folder: string;
  beforeAll(() => {
    folder = project();
  });

  test('its plugins.json binds what its table says', async () => {
    const host = await createHost({ config: join(folder, 'plugins.json'), importModule });
    const table = [
      ...readFileSync(join(ROOT, 'README.md'), 'utf8').matchAll(/^\| (?:`(\w+)`)? ?\| `(local[\w.-]+)` \|/gm),
    ];
    expect(table.length).toBeGreaterThan(5);
    for (const { adapter } of host.bindings()) expect(table.map(([, , id]) => id)).toContain(adapter);
    await host.stop();
  });

  test('its error messages are what its plugins.json with those slips gives', async () => {
    const broken = CONFIG.replace('"local.sqlite"', '"local.sqlit"').replace('"root"', '"roott"');
    writeFileSync(join(folder, 'broken.json'), broken);
    const lines = await createHost({ config: join(folder, 'broken.json') }).then(
      () => '',
      ({ message }: Error) => message.replaceAll(/\S*broken\.json/g, 'plugins.json'),
    );
    expect(piece('README.md', '', 'RC1102').code.trim()).toBe(lines);
  });

  test('its instances are a configuration', async () => {
    const bindings = `{ "bindings": { ${piece('README.md', 'jsonc', '"instances"').code} } }`;
    writeFileSync(join(folder, 'instances.json'), bindings);
    const host = await createHost({ config: join(folder, 'instances.json'), importModule });
    expect(
      host
        .bindings()
        .filter(({ capability }) => capability === 'ObjectStore')
        .map(({ name, isDefault }) => [name, isDefault]),
    ).toEqual([
      ['artifacts', true],
      ['scratch', false],
    ]);
  });

  test('its plugin loads from a folder', async () => {
    const manifest = piece('README.md', 'json', '"acme.vault"').code;
    const module = piece('README.md', 'ts', 'VaultSecretStore');
    mkdirSync(join(folder, 'plugins/vault'), { recursive: true });
    writeFileSync(join(folder, 'plugins/vault/plugin.json'), manifest);
    const { code } = await transform(program(module), { loader: 'ts', format: 'esm' });
    writeFileSync(join(folder, 'plugins/vault/index.js'), code);
    const bindings = { SecretStore: { adapter: 'acme.vault', config: { url: 'https://vault.example' } } };
    writeFileSync(
      join(folder, 'vault.json'),
      JSON.stringify({ plugins: ['rollout.cloud-local', './plugins/vault'], bindings }),
    );
    expect(JSON.parse(shell('rollout-cloud --config vault.json --json doctor', folder))).toBeDefined();
  });

  test('its command lines run', () => {
    const lines = all
      .filter(({ paper, language }) => paper === 'README.md' && language === 'sh')
      .flatMap(({ code }) => code.split('\n'))
      .filter((line) => line.startsWith('npx rollout-cloud'));
    expect(lines.length).toBeGreaterThan(0);
    for (const line of lines) shell(line, folder);
  });

  test('its first lines are npm scripts that there are', () => {
    const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { scripts: object };
    expect(piece('README.md', 'sh', 'npm ci && npm start').code).toMatch(
      /^npm ci && npm start .*\nnpm ci && npm test /,
    );
    expect(Object.keys(scripts)).toEqual(expect.arrayContaining(['start', 'test', 'check']));
  });
});

test('docs/compute.md: its configuration is one', async () => {
  const config = join(project(), 'gpus.json');
  writeFileSync(config, piece('docs/compute.md', 'jsonc', '"nvml"').code);
  const host = await createHost({ config, importModule });
  expect(host.bindings().map(({ adapter }) => adapter)).toContain('nvml');
  await host.stop();
});

describe('the README’s tests', () => {
  const withRunner = all.filter(({ notes }) => notes.runner !== undefined);

  /** A reader's project that has the runners, and their types, too. */
  function testProject(): string {
    const folder = project();
    mkdirSync(join(folder, 'node_modules/@jest'));
    for (const name of ['jest', '@jest/globals', 'vitest']) {
      symlinkSync(join(ROOT, 'node_modules', name), join(folder, 'node_modules', name));
    }
    return folder;
  }

  const RUN: Readonly<Record<string, { command: string; passed: RegExp }>> = {
    node: { command: 'node --test test.test.mjs', passed: /pass 1\n/ },
    jest: { command: 'node --experimental-vm-modules node_modules/jest/bin/jest.js 2>&1', passed: /Tests: +1 passed/ },
    vitest: { command: 'node node_modules/vitest/vitest.mjs run', passed: /Tests +[5-9] passed/ },
  };

  test('are for the three runners', () => {
    expect(withRunner.map(({ notes }) => notes.runner)).toEqual(Object.keys(RUN));
  });

  test.each(withRunner.map((it) => [it.notes.runner as string, it] as const))('with %s: pass', async (runner, it) => {
    const folder = testProject();
    const { code } = await transform(program(it), { loader: 'ts', format: 'esm' });
    writeFileSync(join(folder, 'test.test.mjs'), code);
    writeFileSync(join(folder, 'jest.config.json'), '{ "testMatch": ["**/*.test.mjs"], "transform": {} }');
    expect(shell(RUN[runner]?.command as string, folder)).toMatch(RUN[runner]?.passed as RegExp);
  });

  test('compile, strict', () => {
    const folder = testProject();
    const files = withRunner.map((it, i) => {
      writeFileSync(join(folder, `${i}.ts`), program(it));
      return `${i}.ts`;
    });
    // Declarations of the runners are theirs to check.
    const compilerOptions = {
      strict: true,
      module: 'NodeNext',
      target: 'ES2022',
      noEmit: true,
      skipLibCheck: true,
      types: ['node'],
    };
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files }));
    const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
    expect(spawnSync(process.execPath, [tsc, '-p', folder], { encoding: 'utf8' }).stdout).toBe('');
  });
});

describe('docs/middleware.md', () => {
  const paper = all.filter((p) => p.paper === 'docs/middleware.md');

  test('its configuration is one', async () => {
    const folder = project();
    writeFileSync(join(folder, 'middleware.json'), piece('docs/middleware.md', 'jsonc', 'HF_TOKEN').code);
    const host = await createHost({ config: join(folder, 'middleware.json'), importModule });
    const secrets = host.bindings().find(({ capability }) => capability === 'SecretStore');
    expect(secrets?.middleware.map(({ id }) => id)).toEqual(['otel', 'cache', 'retry', 'timeout']);
    await host.stop();
  });

  test('its own middleware sees every call', () => {
    const folder = project();
    for (const { notes, code } of paper) {
      if (notes.file === undefined) continue;
      mkdirSync(dirname(join(folder, notes.file)), { recursive: true });
      writeFileSync(join(folder, notes.file), code);
    }
    const told = shell('rollout-cloud --config audit.json queue send --text hello 2>&1', folder);
    expect(told).toContain('seen: enqueue of Queue@1 default');
  });
});

describe('docs/write-an-adapter.md', () => {
  test('followed to the letter, gives a tested adapter that the command line uses', () => {
    const folder = project();
    const paper = all.filter((p) => p.paper === 'docs/write-an-adapter.md');
    for (const { notes, code } of paper) {
      if (notes.file === undefined) continue;
      mkdirSync(dirname(join(folder, notes.file)), { recursive: true });
      writeFileSync(join(folder, notes.file), code);
    }
    // The first of its command lines makes the folder and installs the package, as project() has.
    const [, runTests, use, gpus] = paper.filter(({ language }) => language === 'sh').map(({ code }) => code);
    expect(shell(runTests as string, folder)).toMatch(/pass ([5-9]|\d\d)\n\S+ fail 0/);
    expect(shell(use as string, folder)).toMatch(/^hunter2\n/);
    expect(execFileSync('cat', [join(folder, 'secrets/API_KEY')], { encoding: 'utf8' })).toBe('hunter2');
    const told = shell(gpus as string, folder);
    expect(told).toMatch(/pass (1[5-9]|[2-9]\d)\n\S+ fail 0/);
    expect(told).toMatch(/acme A1 +16\.0 GiB +told by gpu-list\n/);
    expect(told).toMatch(/^gpu sources +driver \(\S+\): .+\n +list \(gpu-list\): 1 GPU$/m);
  });
});
