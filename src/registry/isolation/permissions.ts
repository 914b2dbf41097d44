/**
 * What a plugin's process may do, as flags for Node and an environment.
 *
 * The flags are a seat belt: they stop a plugin that reaches where it said it would not, and they are no boundary against
 * code that means harm. Source: https://nodejs.org/api/permissions.html, "The Permission Model does not protect against
 * malicious code". Which flags there are is asked of Node itself: `--experimental-permission` was renamed in 22.13 and
 * 23.5, and the network can be withheld from Node 25 on.
 */
import { existsSync, readdirSync, realpathSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve, sep } from 'node:path';
import type { PluginPermissions } from '../../contracts/plugin.js';
import { optionIn } from '../permission-paths.js';

/** Flags that this Node knows. */
export type KnownFlags = Pick<ReadonlySet<string>, 'has'>;

export interface Grounds {
  /** What relative paths of the permissions are relative to. */
  readonly base: string;
  /** Folders whose code runs in the process: what they may import can be read, nothing else is granted by it. */
  readonly code: readonly string[];
  /** Of the plugin's instances: `${config.root}` in a path is the option `root` of each. */
  readonly configs?: readonly Readonly<Record<string, unknown>>[];
  readonly known?: KnownFlags;
}

export function permissionFlags(permissions: PluginPermissions, grounds: Grounds): string[] {
  const { code, known = process.allowedNodeEnvironmentFlags } = grounds;
  const asked: [boolean | undefined, string][] = [
    [permissions.addons, '--allow-addons'],
    [permissions.childProcess, '--allow-child-process'],
    [permissions.workers, '--allow-worker'],
    [permissions.network, '--allow-net'],
  ];
  return [
    known.has('--permission') ? '--permission' : '--experimental-permission',
    ...grants([...code.flatMap(importable), ...pathsOf(permissions.fs?.read, grounds)]).map(
      (path) => `--allow-fs-read=${path}`,
    ),
    ...grants(pathsOf(permissions.fs?.write, grounds)).map((path) => `--allow-fs-write=${path}`),
    ...asked.flatMap(([is, flag]) => (is === true && known.has(flag) ? [flag] : [])),
    // That the permission model is experimental, and what each flag can undo, is told at each start: docs/isolation.md.
    ...(known.has('--disable-warning')
      ? ['ExperimentalWarning', 'SecurityWarning'].map((kind) => `--disable-warning=${kind}`)
      : []),
  ];
}

/** The variables that are listed and set; nothing else of the host's environment. */
export function environment(permissions: PluginPermissions, from: NodeJS.ProcessEnv = process.env): NodeJS.ProcessEnv {
  // Windows starts no program without it.
  const names = [...(permissions.env ?? []), ...(process.platform === 'win32' ? ['SystemRoot'] : [])];
  return Object.fromEntries(names.flatMap((name) => (from[name] === undefined ? [] : [[name, from[name]]])));
}

/** The paths of a permission, absolute; `*` stays as it is. */
export function pathsOf(given: readonly string[] = [], { base, configs = [] }: Grounds): string[] {
  const paths = given.flatMap((path) => configured(path, configs));
  return paths.map((path) => (path === '*' ? path : resolve(base, path)));
}

/** `${config.root}/logs` for each instance that has the option, a text or several; any other path as it is. */
function configured(path: string, configs: NonNullable<Grounds['configs']>): string[] {
  const found = optionIn(path);
  if (found === null) return [path];
  const values = configs.flatMap((config) => config[found.option]);
  return values.flatMap((value) => (typeof value === 'string' && value !== '' ? [value + found.rest] : []));
}

/** A folder, where it looks for packages, and those that are links to elsewhere, as in a workspace, with theirs. */
function importable(folder: string): string[] {
  const packages = packageFolders(folder);
  const linked = packages.flatMap(linksIn).filter((path) => !packages.some((each) => path.startsWith(each + sep)));
  return [folder, ...packages, ...linked.flatMap((path) => [path, ...packageFolders(path)])];
}

/** Where packages are looked for from a folder. */
function packageFolders(folder: string): string[] {
  const paths = createRequire(join(folder, 'index.js')).resolve.paths('x') ?? [];
  return paths.filter((path) => existsSync(path));
}

/** What the links among a folder's packages lead to. */
function linksIn(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isSymbolicLink()) return existsSync(path) ? [realpathSync(path)] : [];
    return entry.isDirectory() && entry.name.startsWith('@') ? linksIn(path) : [];
  });
}

/**
 * A folder with all that is in it, or a file; what is not there yet can become either. Each once, by its own and its real
 * path, and none that lies in another: Node 20 aborts on a path given twice.
 */
function grants(paths: readonly string[]): string[] {
  if (paths.includes('*')) return ['*'];
  const all = [...new Set(paths.flatMap((path) => (existsSync(path) ? [path, realpathSync(path)] : [path])))];
  const isFile = (path: string) => statSync(path, { throwIfNoEntry: false })?.isFile() === true;
  return all
    .filter(
      (path) => !all.some((other) => other !== path && path.startsWith(other.endsWith(sep) ? other : other + sep)),
    )
    .map((path) => (isFile(path) ? path : join(path, '*')));
}
