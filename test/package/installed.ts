/**
 * The package as a user has it: packed by npm and unpacked into the node_modules of an empty project.
 *
 * It is laid out by hand, not by `npm install`: that would ask a registry for 90 packages and compile SQLite, a minute
 * each time. The declared dependencies are links to the repository's; what is not declared is not there.
 */
import { execFile, execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

export const PACKAGE = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
  readonly version: string;
  readonly bin: Readonly<Record<string, string>>;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly optionalDependencies: Readonly<Record<string, string>>;
  readonly peerDependencies: Readonly<Record<string, string>>;
};

/** The packages that a user's install brings. */
export const DECLARED = Object.keys({ ...PACKAGE.dependencies, ...PACKAGE.optionalDependencies }).sort();

/** Those that a user installs for the adapters and middleware that stand on them. */
export const PEERS = Object.keys(PACKAGE.peerDependencies);

export interface PackedFile {
  readonly path: string;
  readonly mode: number;
}

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export class InstalledPackage {
  /** The project that uses the package. */
  readonly folder = realpathSync(mkdtempSync(join(tmpdir(), 'rollout-app-')));
  /** Where the package lies in it. */
  readonly root = join(this.folder, 'node_modules/rollout-cloud');
  readonly tarball: string;
  readonly files: readonly PackedFile[];

  /** Packs `dist` as it is: `npm test` has built it. */
  constructor() {
    const pack = ['pack', ROOT, '--ignore-scripts', '--json', '--pack-destination', this.folder];
    const told = execFileSync('npm', pack, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    const [{ filename, files }] = JSON.parse(told) as [{ filename: string; files: PackedFile[] }];
    this.tarball = join(this.folder, filename);
    this.files = files;

    mkdirSync(this.root, { recursive: true });
    execFileSync('tar', ['-xzf', this.tarball, '-C', this.root, '--strip-components=1']);
    // The types of Node are what a user of TypeScript has besides.
    for (const name of [...DECLARED, '@types/node']) {
      const link = join(this.folder, 'node_modules', name);
      mkdirSync(dirname(link), { recursive: true });
      symlinkSync(join(ROOT, 'node_modules', name), link);
    }
    mkdirSync(join(this.folder, 'node_modules/.bin'));
    for (const [name, file] of Object.entries(PACKAGE.bin)) {
      symlinkSync(join('../rollout-cloud', file), join(this.folder, 'node_modules/.bin', name));
    }
    this.write('package.json', { name: 'app', private: true, type: 'module' });
  }

  /** Writes a file of the project; an object as JSON. Returns its path. */
  write(name: string, content: string | object): string {
    const file = join(this.folder, name);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content, null, 2));
    return file;
  }

  /** Runs Node in the project. */
  node(...args: string[]): Promise<Ran> {
    return run(process.execPath, args, this.folder);
  }

  /** Runs a module of the project; resolves to what it printed, and rejects with what went wrong. */
  async module(name: string, text: string): Promise<string> {
    const { code, stdout, stderr } = await this.node(this.write(name, text));
    if (code !== 0) throw new Error(`${name} exited with ${code}: ${stderr}${stdout}`);
    return stdout;
  }

  /** Runs the package's program as `npx` does. */
  npx(...args: string[]): Promise<Ran> {
    return run('npx', ['--no-install', 'rollout-cloud', ...args], this.folder);
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

function run(file: string, args: readonly string[], cwd: string): Promise<Ran> {
  const { NODE_OPTIONS: _, ...env } = process.env;
  return new Promise((resolve) => {
    execFile(file, args, { cwd, env, encoding: 'utf8' }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code ?? 1), stdout, stderr });
    });
  });
}
