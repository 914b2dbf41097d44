/**
 * Finds plugins and reads their manifests. No code of a plugin runs here.
 *
 * `use` is the id of a built-in plugin, a folder (`./plugins/vault`), or the name of a package, looked up from the
 * configuration file's folder as Node would. The manifest is `plugin.json` in that folder, or the key `rollout-cloud`
 * of its package.json.
 */
import { existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve, sep } from 'node:path';
import { pathToFileURL } from 'node:url';
import { systemError } from '../contracts/errors.js';
import type { AdapterManifest, MiddlewareManifest, PluginManifest } from '../contracts/plugin.js';
import type { LoadedConfig } from './config.js';
import { ADAPTERS_FOLDER, VERSION } from './own-package.js';
import { type Problem, type ProblemCode, suggest } from './problems.js';
import { validate } from './schema.js';
import { MANIFEST_SCHEMA } from './schemas.js';

/** A plugin whose manifest is sound. */
export interface Plugin {
  readonly manifest: PluginManifest;
  /** What to import. */
  readonly mainUrl: string;
  /** Real path of the folder that its manifest lies in. */
  readonly folder?: string;
  /** What paths of its permissions are relative to: the folder of the configuration. */
  readonly base?: string;
}

/** A plugin that was listed and is not there, and why. */
export interface MissingPlugin {
  readonly use: string;
  readonly reason: string;
  /** The adapters it would have had, where its manifest could be read. */
  readonly adapterIds: readonly string[];
}

export interface Discovery {
  readonly plugins: readonly Plugin[];
  readonly missing: readonly MissingPlugin[];
  /** About optional plugins that are not there. */
  readonly warnings: readonly string[];
  readonly problems: readonly Problem[];
  /** Built-in plugins that are not listed and contribute nothing but their middleware. */
  readonly wrappers: readonly Plugin[];
}

const DEFAULT_PLUGINS = ['rollout.cloud-local'];

/** Finds and reads every plugin that the configuration lists and does not disable. */
export function discover(config: LoadedConfig): Discovery {
  const plugins: Plugin[] = [];
  const missing: MissingPlugin[] = [];
  const warnings: string[] = [];
  const problems: Problem[] = [];
  const builtIn = builtInFolders();

  for (const [index, entry] of (config.value.plugins ?? DEFAULT_PLUGINS).entries()) {
    const { use, optional = false, enabled = true } = typeof entry === 'string' ? { use: entry } : entry;
    const place = config.place(typeof entry === 'string' ? ['plugins', index] : ['plugins', index, 'use']);
    const found = read(use, config.folder, builtIn);
    if (!enabled) {
      missing.push({ use, reason: 'is disabled', adapterIds: adapterIds(found) });
      continue;
    }
    const twin = 'plugin' in found && plugins.some(({ manifest }) => manifest.id === found.plugin.manifest.id);
    if ('plugin' in found && !twin) {
      plugins.push({ ...found.plugin, base: config.folder });
      continue;
    }
    const [code, message]: [ProblemCode, string] =
      'plugin' in found
        ? ['RC1113', `plugin "${found.plugin.manifest.id}" is listed already; keep one entry.`]
        : [found.code, found.message];
    if (optional) {
      missing.push({ use, reason: `is not available: ${message}`, adapterIds: adapterIds(found) });
      warnings.push(`optional plugin "${use}" is left out: ${code} ${message}`);
    } else {
      const hint = 'optionalHelps' in found ? ' Mark it "optional": true to continue without it.' : '';
      problems.push({ code, place, message: `${message}${hint}` });
    }
  }
  return { plugins, missing, warnings, problems, wrappers: wrappers(config, plugins, builtIn) };
}

/** Built-in plugins that are not listed, for their middleware: it is always known, and read only where a binding uses any. */
function wrappers(config: LoadedConfig, listed: readonly Plugin[], builtIn: ReadonlyMap<string, string>): Plugin[] {
  const bindings = Object.values(config.value.bindings ?? {});
  const all = bindings.flatMap((entry) => ('instances' in entry ? Object.values(entry.instances) : [entry]));
  if (!all.some(({ middleware }) => middleware !== undefined && middleware.length > 0)) return [];
  const others = [...builtIn].filter(([id]) => !listed.some(({ manifest }) => manifest.id === id));
  return others.flatMap(([id, folder]) => {
    const found = readManifest(id, folder, true);
    return 'plugin' in found ? [found.plugin] : [];
  });
}

type Found =
  | { readonly plugin: Plugin }
  | {
      readonly code: ProblemCode;
      readonly message: string;
      readonly adapterIds?: readonly string[];
      /** It may be there on another machine. */
      readonly optionalHelps?: true;
    };

function adapterIds(found: Found): readonly string[] {
  return 'plugin' in found ? found.plugin.manifest.contributes.adapters.map(({ id }) => id) : (found.adapterIds ?? []);
}

function read(use: string, from: string, builtIn: ReadonlyMap<string, string>): Found {
  // One letter before the colon is a Windows drive.
  if (/^[a-z][a-z0-9+.-]+:/i.test(use)) {
    return { code: 'RC1106', message: `plugin "${use}": URLs are not loaded; name a folder or a package.` };
  }
  const isPath = use.startsWith('.') || resolve(use) === use;
  const folder = builtIn.get(use) ?? (isPath ? resolve(from, use) : packageFolder(use, from));
  if (folder === null) {
    return { code: 'RC1106', message: notInstalled(use, from, [...builtIn.keys()]), optionalHelps: true };
  }
  if (!existsSync(folder)) {
    return { code: 'RC1106', message: `plugin "${use}": there is no folder ${folder}.`, optionalHelps: true };
  }
  return readManifest(use, folder, builtIn.has(use));
}

/** What to do is install it only where the name can be a package's: `npm i a/b` would fetch a stranger's repository. */
function notInstalled(use: string, from: string, builtIn: readonly string[]): string {
  const asked = `plugin "${use}" is not installed (looked from ${from}).`;
  if (existsSync(join(from, use))) return `${asked} A folder is written "./${use}".`;
  const hint = suggest(use, builtIn).replace('Known', 'Built in');
  const isPackage = /^(@[a-z0-9~-][a-z0-9._~-]*\/)?[a-z0-9~-][a-z0-9._~-]*$/.test(use);
  return `${asked}${isPackage && !hint.includes('Did you mean') ? ` Run: npm i ${use}.` : ''}${hint}`;
}

/** Where Node would find the package, for ESM-only packages and links too: its folder's real path. */
function packageFolder(name: string, from: string): string | null {
  const paths = createRequire(join(from, 'plugins.json')).resolve.paths(name) ?? [];
  const found = paths.map((path) => join(path, name)).find((path) => existsSync(join(path, 'package.json')));
  return found === undefined ? null : realpathSync(found);
}

function readManifest(use: string, folder: string, isBuiltIn: boolean): Found {
  const wrong = (file: string, what: string): Found => ({
    code: 'RC1107',
    message: `plugin "${use}": ${file}: ${what}.`,
  });
  const own = join(folder, 'plugin.json');
  const file = existsSync(own) ? own : join(folder, 'package.json');
  if (!existsSync(file)) return wrong(folder, 'there is no plugin.json here');
  let parsed: unknown;
  try {
    parsed = JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    const cause = error instanceof SyntaxError ? error.message : systemError(error, 'read it').message;
    return wrong(file, `not a JSON file: ${cause}`);
  }
  if (file !== own) {
    parsed = (parsed as Record<string, unknown> | null)?.['rollout-cloud'];
    if (parsed === undefined) return wrong(folder, 'there is no plugin.json, and package.json has no "rollout-cloud"');
  }
  const faults = validate(MANIFEST_SCHEMA, parsed);
  if (faults.length > 0) return wrong(file, faults.map(({ message }) => message.replace(/\.$/, '')).join('; '));

  const manifest = parsed as PluginManifest;
  const adapterIds = manifest.contributes.adapters.map(({ id }) => id);
  for (const [engine, version] of [
    ['rollout-cloud', VERSION],
    ['node', process.versions.node],
  ] as const) {
    const range = manifest.engines?.[engine];
    if (range !== undefined && !satisfies(version, range)) {
      const message = `plugin ${manifest.id} ${manifest.version} needs ${engine} ${range}, this is ${version}.`;
      return { code: 'RC1111', message, adapterIds, optionalHelps: true };
    }
  }
  const main = resolve(folder, manifest.main);
  const inside = (path: string, base: string) => path.startsWith(base + sep);
  // Under a transpiler a built-in's main is not there yet in the form that the manifest names.
  const real = existsSync(main) ? realpathSync(main) : main;
  if (!inside(main, folder) || !inside(real, existsSync(main) ? realpathSync(folder) : folder)) {
    return wrong(file, `main "${manifest.main}" lies outside the plugin's folder`);
  }
  // Under a transpiler a built-in's main is there in its source form.
  if (!isBuiltIn && !existsSync(main))
    return wrong(file, `main "${manifest.main}" is not there; build the plugin first`);
  return { plugin: { manifest, mainUrl: pathToFileURL(real).href, folder: realpathSync(folder) } };
}

/** Semver is two dozen files, and most manifests name no engines: it is loaded for the first that does. */
function satisfies(version: string, range: string): boolean {
  const semver = createRequire(import.meta.url)('semver') as typeof import('semver');
  return semver.satisfies(version, range, { includePrerelease: true });
}

/** Folders of the plugins that come with this package, by id. */
function builtInFolders(): ReadonlyMap<string, string> {
  const folders = new Map<string, string>();
  for (const name of readdirSync(ADAPTERS_FOLDER)) {
    const file = join(ADAPTERS_FOLDER, name, 'plugin.json');
    if (!existsSync(file)) continue;
    const { id } = JSON.parse(readFileSync(file, 'utf8')) as { id: string };
    folders.set(id, join(ADAPTERS_FOLDER, name));
  }
  return folders;
}

/** One adapter of a plugin that is there. */
export interface Adapter {
  readonly plugin: Plugin;
  readonly manifest: AdapterManifest;
}

/** Every adapter of the plugins found, by id; two of one id are a problem. */
export function adaptersOf(plugins: readonly Plugin[]): {
  adapters: ReadonlyMap<string, Adapter>;
  problems: Problem[];
} {
  const adapters = new Map<string, Adapter>();
  const problems: Problem[] = [];
  for (const plugin of plugins) {
    for (const manifest of plugin.manifest.contributes.adapters) {
      const twin = adapters.get(manifest.id);
      if (twin === undefined) adapters.set(manifest.id, { plugin, manifest });
      else {
        const [a, b] = [twin.plugin.manifest.id, plugin.manifest.id];
        const message = `plugins "${a}" and "${b}" both have an adapter "${manifest.id}"; disable one of them`;
        problems.push({ code: 'RC1113', place: null, message });
      }
    }
  }
  return { adapters, problems };
}

/** One middleware of a plugin that is there. */
export interface Middleware {
  readonly plugin: Plugin;
  readonly manifest: MiddlewareManifest;
}

/** Every middleware of the plugins found; two of one id that wrap the same capability are a problem. */
export function middlewareOf({ plugins, wrappers }: Discovery): { middleware: Middleware[]; problems: Problem[] } {
  const middleware: Middleware[] = [];
  const problems: Problem[] = [];
  for (const plugin of [...plugins, ...wrappers]) {
    for (const manifest of plugin.manifest.contributes.middleware ?? []) {
      const twin = middleware.find(
        (other) => other.manifest.id === manifest.id && other.manifest.wraps.some((w) => manifest.wraps.includes(w)),
      );
      if (twin === undefined) middleware.push({ plugin, manifest });
      // One that is built in and not listed gives way.
      else if (!wrappers.includes(plugin)) {
        const [a, b] = [twin.plugin.manifest.id, plugin.manifest.id];
        const message = `plugins "${a}" and "${b}" both have a middleware "${manifest.id}" for the same capability; disable one of them`;
        problems.push({ code: 'RC1113', place: null, message });
      }
    }
  }
  return { middleware, problems };
}
