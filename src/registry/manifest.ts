/**
 * Reads the manifest of a plugin: `plugin.json` in its folder, or the key `rollout-cloud` of its package.json. No code of
 * a plugin runs here.
 */
import { existsSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve, sep } from 'node:path';
import { pathToFileURL } from 'node:url';
import { systemError } from '../contracts/errors.js';
import { show } from '../contracts/ids.js';
import { KNOWN_CAPABILITIES } from '../contracts/known.js';
import type { PluginManifest } from '../contracts/plugin.js';
import type { ConfigPath, Environment } from './config.js';
import { hasKeyTwice, nestedTooDeep, parseDocument, placeIn, readText, type Written } from './document.js';
import { VERSION } from './own-package.js';
import { pathSlips } from './permission-paths.js';
import { type Place, type ProblemCode, suggest } from './problems.js';
import { validate } from './schema.js';
import { MANIFEST_SCHEMA } from './schemas.js';

/** A plugin whose manifest is sound. */
export interface Plugin {
  readonly manifest: PluginManifest;
  /** Real path of its folder. */
  readonly folder: string;
  /** What to import. */
  readonly mainUrl: string;
  /** Its manifest's file, and the key of it that is the manifest. */
  readonly source?: ManifestSource;
  /** What paths of its permissions are relative to: the folder of the configuration. */
  readonly base?: string;
}

export interface ManifestSource {
  readonly file: string;
  readonly key: 'rollout-cloud' | null;
}

/** Where something stands in a plugin's manifest, which is read again for it; `null` for a plugin that has no file. */
export function placeInManifest({ source }: Plugin, path: ConfigPath): Place | null {
  if (source === undefined) return null;
  const { root } = parseDocument(readText(source.file), source.file, 'file', true);
  return placeIn(root, source.key === null ? path : [source.key, ...path]);
}

/** Something wrong with a plugin. */
export interface PluginFault {
  readonly code: ProblemCode;
  /** In the manifest; `null` where it is about the plugin as a whole. */
  readonly place: Place | null;
  readonly message: string;
  /** Wherever it is listed: there is nothing to install. */
  readonly isFinal?: true;
}

/** What became of a manifest. */
export type ManifestState =
  /** It is sound, and fits this host. */
  | 'ready'
  /** It cannot be read, or says what no manifest may. */
  | 'invalid'
  /** It is for other versions of this package or of Node. */
  | 'incompatible'
  /** Its `when` does not hold here. */
  | 'unavailable';

export interface ManifestReading {
  readonly state: ManifestState;
  readonly plugin: Plugin | null;
  /** As far as it could be read. */
  readonly manifest: PluginManifest | null;
  readonly faults: readonly PluginFault[];
  /** Why it is unavailable. */
  readonly reason?: string;
}

export interface ManifestOptions {
  readonly env: Environment;
  /** A built-in plugin's main need not be there: under a transpiler it has its source form. */
  readonly isBuiltIn?: boolean;
}

/** The manifest's file in a folder, where there is one, and which key of it is the manifest. */
export function manifestFile(folder: string): ManifestSource | null {
  const own = join(folder, 'plugin.json');
  if (existsSync(own)) return { file: own, key: null };
  const shared = join(folder, 'package.json');
  return existsSync(shared) ? { file: shared, key: 'rollout-cloud' } : null;
}

/** Reads and checks the manifest in a folder. */
export function readManifest(folder: string, { env, isBuiltIn = false }: ManifestOptions): ManifestReading {
  const found = manifestFile(folder);
  if (found === null) return invalid([{ place: null, message: `${folder}: there is no plugin.json here` }]);
  const { file, key } = found;
  let text = '';
  let given: unknown;
  try {
    if (!statSync(file).isFile()) return invalid([{ place: { source: file }, message: 'it is not a file' }]);
    text = readText(file);
    // Most are sound: where each part stands is found out when something is wrong.
    given = nestedTooDeep(text) === null ? JSON.parse(text) : undefined;
  } catch (error) {
    if (!(error instanceof SyntaxError)) {
      const message = error instanceof RangeError ? error.message : systemError(error, 'read it').message;
      return invalid([{ place: { source: file }, message }]);
    }
  }
  const located = () => parseDocument(text, file, 'file', true).root;
  if (given === undefined) return invalid(faultsOf(located));
  const doubles = hasKeyTwice(text, given) ? parseDocument(text, file, 'file', true).doubles : [];
  // What else is in a package.json is not ours to judge.
  const own = doubles.filter(({ path }) => key === null || path[0] === key);
  if (own.length > 0) return invalid(own);
  const parsed = key === null ? given : (given as Record<string, unknown> | null)?.[key];
  if (parsed === undefined) {
    return invalid([{ place: null, message: `${folder}: there is no plugin.json, and package.json has no "${key}"` }]);
  }
  const prefix = key === null ? [] : [key];
  const at = (path: ConfigPath, what?: 'key') => placeIn(located(), [...prefix, ...path], what);
  const faults = validate(MANIFEST_SCHEMA, parsed).map(({ path, unknownKey, message }) => ({
    place: unknownKey === null ? at(path) : at([...path, unknownKey], 'key'),
    message,
  }));
  if (faults.length > 0) return invalid(faults, adapterIdsOf(parsed));

  const manifest = parsed as PluginManifest;
  const slips = meaningless(manifest, at);
  const main = resolve(folder, manifest.main);
  const isThere = existsSync(main);
  const [base, real] = isThere ? [realpathSync.native(folder), realpathSync.native(main)] : [folder, main];
  const isFolder = real === base;
  const outside = !isFolder && (!isInside(main, folder) || !isInside(real, base));
  if (outside) slips.push({ place: at(['main']), message: `main "${manifest.main}" lies outside the plugin's folder` });
  else if (!isBuiltIn && isThere && !statSync(main).isFile()) {
    slips.push({ place: at(['main']), message: `main "${manifest.main}" is not a file; name the module to import` });
  } else if (!isBuiltIn && !isThere) {
    slips.push({ place: at(['main']), message: `main "${manifest.main}" is not there; ${howToBuild(folder)}` });
  }
  if (slips.length > 0) return { ...invalid(slips), manifest };

  const plugin: Plugin = { manifest, folder: base, source: found, mainUrl: pathToFileURL(real).href };
  const misfit = misfitOf(manifest);
  if (misfit !== null) {
    const [engine, range, version] = misfit;
    const message = `plugin ${manifest.id} ${manifest.version} needs ${engine} ${range}, this is ${version}.`;
    return {
      state: 'incompatible',
      plugin: null,
      manifest,
      faults: [{ code: 'RC1111', place: at(['engines', engine]), message }],
    };
  }
  const reason = unmet(manifest, env);
  if (reason !== null) return { state: 'unavailable', plugin: null, manifest, faults: [], reason };
  return { state: 'ready', plugin, manifest, faults: [] };
}

function invalid(
  faults: readonly Omit<PluginFault, 'code'>[],
  manifest: PluginManifest | null = null,
): ManifestReading {
  return { state: 'invalid', plugin: null, manifest, faults: faults.map((fault) => ({ code: 'RC1107', ...fault })) };
}

function howToBuild(folder: string): string {
  const hasScript = typeof Object(jsonOf(join(folder, 'package.json')).scripts).build === 'string';
  return hasScript ? 'build the plugin first: "npm run build" in its folder' : 'build the plugin first';
}

/** What is no JSON says nothing here; whoever owns the file is told by other tools. */
export function jsonOf(file: string): Record<string, unknown> {
  try {
    return Object(JSON.parse(readFileSync(file, 'utf8')));
  } catch {
    return {};
  }
}

/** What parsing finds wrong, told as a fault of the manifest. */
function faultsOf(parse: () => Written): Omit<PluginFault, 'code'>[] {
  try {
    parse();
  } catch (error) {
    const { problems } = (error as { context: { problems: readonly PluginFault[] } }).context;
    return problems.map(({ place, message }) => ({ place, message: `not a JSON file: ${message}` }));
  }
  // What JSON.parse refuses and the parser with places does not; there is no such text that we know of.
  return [{ place: null, message: 'not a JSON file' }];
}

/** The ids of the adapters that a manifest with faults would have had: who asks for one is told why it is not there. */
function adapterIdsOf(parsed: unknown): PluginManifest | null {
  const { id = '', contributes } = Object(parsed) as Partial<PluginManifest>;
  const adapters = Object(contributes).adapters as unknown;
  const ids = (Array.isArray(adapters) ? adapters : []).flatMap((entry) => {
    const { id: own, provides } = Object(entry) as Record<string, unknown>;
    return typeof own === 'string' && typeof provides === 'string' ? [{ id: own, provides }] : [];
  });
  return ids.length === 0 ? null : { id: String(id), version: '', main: '', contributes: { adapters: ids } };
}

const OWN_CAPABILITIES: readonly string[] = KNOWN_CAPABILITIES.map(({ name }) => name);

/** What the schema cannot say of a manifest. */
function meaningless(manifest: PluginManifest, at: (path: ConfigPath) => Place): Omit<PluginFault, 'code'>[] {
  const faults: Omit<PluginFault, 'code'>[] = [];
  for (const [i, { provides }] of manifest.contributes.adapters.entries()) {
    const name = provides.slice(0, provides.lastIndexOf('@'));
    // What a plugin brings has a slash in its name: without one it is ours, or a slip.
    if (name.includes('/') || OWN_CAPABILITIES.includes(name)) continue;
    const message = `contributes.adapters.${i}.provides: there is no capability ${name}; one that a plugin brings is "<plugin id>/<Name>".${suggest(name, OWN_CAPABILITIES)}`;
    faults.push({ place: at(['contributes', 'adapters', i, 'provides']), message });
  }
  for (const [i, { id }] of (manifest.contributes.capabilities ?? []).entries()) {
    if (id.startsWith(`${manifest.id}/`)) continue;
    const message = `contributes.capabilities.${i}.id: a capability of this plugin begins with "${manifest.id}/"`;
    faults.push({ place: at(['contributes', 'capabilities', i, 'id']), message });
  }
  for (const { path, message } of pathSlips(manifest)) faults.push({ place: at(path), message });
  for (const { path, range } of rangesOf(manifest)) {
    if (semver().validRange(range) !== null) continue;
    const message = `${path.join('.')}: ${show(range)} is no range of versions; write one as "^1.2.0" or ">=20"`;
    faults.push({ place: at(path), message });
  }
  return faults;
}

function* rangesOf({ engines = {}, dependsOn = [], contributes }: PluginManifest) {
  for (const [name, range] of Object.entries(engines)) yield { path: ['engines', name], range };
  for (const [i, text] of dependsOn.entries()) {
    const at = text.indexOf('@');
    if (at >= 0) yield { path: ['dependsOn', i], range: text.slice(at + 1) };
  }
  for (const list of ['adapters', 'middleware'] as const) {
    for (const [i, { packages = {} }] of (contributes[list] ?? []).entries()) {
      for (const [name, range] of Object.entries(packages)) {
        yield { path: ['contributes', list, i, 'packages', name], range };
      }
    }
  }
}

/** Engine, range and version of what the plugin does not work with. */
function misfitOf({ engines }: PluginManifest): ['rollout-cloud' | 'node', string, string] | null {
  const versions = { 'rollout-cloud': VERSION, node: process.versions.node };
  for (const engine of ['rollout-cloud', 'node'] as const) {
    const range = engines?.[engine];
    if (range !== undefined && !satisfies(versions[engine], range)) return [engine, range, versions[engine]];
  }
  return null;
}

/** What of `when` does not hold here. */
function unmet({ when = {} }: PluginManifest, env: Environment): string | null {
  const { platform, arch, env: variables = [] } = when;
  const unset = variables.filter((name) => (env[name] ?? '') === '');
  const reasons = [
    ...(platform?.includes(process.platform) === false
      ? [`it works on ${platform.join(', ')}, this is ${process.platform}`]
      : []),
    ...(arch?.includes(process.arch) === false ? [`it works on ${arch.join(', ')}, this is ${process.arch}`] : []),
    ...(unset.length > 0 ? [`environment variable ${unset.join(', ')} is not set`] : []),
  ];
  return reasons.length === 0 ? null : reasons.join('; ');
}

function isInside(path: string, folder: string): boolean {
  return path.startsWith(folder.endsWith(sep) ? folder : folder + sep);
}

/** Semver is two dozen files, and most manifests name no ranges: it is loaded for the first that does. */
function semver(): typeof import('semver') {
  return createRequire(import.meta.url)('semver');
}

export function satisfies(version: string, range: string): boolean {
  return semver().satisfies(version, range, { includePrerelease: true });
}
