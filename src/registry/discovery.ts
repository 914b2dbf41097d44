/**
 * Finds plugins, in this order: those that the configuration lists; folders in `./plugins` beside it; dependencies of its
 * package that carry a manifest, where `discover` asks for them; and those that come with this package, which load when
 * they are listed. Of one id the first is taken, and the others are reported as shadowed.
 *
 * `use` is the id of a built-in plugin, a folder (`./plugins/vault`), or the name of a package, looked up from the
 * configuration file's folder as Node would. No code of a plugin runs here.
 *
 * A plugin that is listed has to be sound, unless it is optional. One that was only found and is not sound is left out with
 * a warning: it is at fault where a binding asks for what it has, and nowhere else.
 */
import { existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { createRequire, isBuiltin } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { MiddlewareManifest, PluginManifest } from '../contracts/plugin.js';
import type { ConfigPath, LoadedConfig } from './config.js';
import { jsonOf, type ManifestReading, manifestFile, type Plugin, readManifest, satisfies } from './manifest.js';
import { ADAPTERS_FOLDER } from './own-package.js';
import { type Place, type Problem, showPlace, suggest, withoutDot } from './problems.js';
import { nameOf } from './schemas.js';

/** Where a plugin was found; the order is that of precedence. */
export type PluginSource = 'listed' | 'folder' | 'dependency' | 'built-in';

/** What became of a plugin before any of its code is loaded. `discovered`: built in, and not listed. */
export type FoundState =
  | 'ready'
  | 'discovered'
  | 'missing'
  | 'invalid'
  | 'incompatible'
  | 'disabled'
  | 'shadowed'
  | 'unavailable';

/** A plugin that was found or listed, as plain data. */
export interface PluginInfo {
  /** `null` where its manifest could not be read. */
  readonly id: string | null;
  readonly version: string | null;
  /** As the configuration names it; the folder where it does not. */
  readonly use: string;
  readonly source: PluginSource;
  readonly folder: string | null;
  readonly state: FoundState;
  /** Why it is not ready. */
  readonly reason: string | null;
  readonly optional: boolean;
  /** Ids of its adapters, as far as they are known. */
  readonly adapters: readonly string[];
  readonly middleware: readonly string[];
}

export interface Discovery {
  /** Those that are ready, a plugin after those that it depends on. */
  readonly plugins: readonly Plugin[];
  /** All that were found or listed, in the order of precedence. */
  readonly infos: readonly PluginInfo[];
  /** About plugins that are left out: optional or only found, and not sound, or shadowed. */
  readonly warnings: readonly string[];
  readonly problems: readonly Problem[];
  /** Capabilities that each of `infos` brings or serves, by name, as far as they are known. */
  readonly capabilities: ReadonlyMap<PluginInfo, readonly string[]>;
  /** The middleware of each, likewise. */
  readonly middleware: ReadonlyMap<PluginInfo, readonly MiddlewareManifest[]>;
  /** Built-in plugins that are not listed and contribute nothing but their middleware. */
  readonly wrappers: readonly Plugin[];
}

const DEFAULT_PLUGINS = ['rollout.cloud-local'];
const DEFAULT_SOURCES = ['folder'];

/** Folders and dependencies that are looked through: more are no project's own. */
const CANDIDATES_MAX = 10_000;

/** A plugin in the making. */
interface Candidate {
  readonly use: string;
  readonly source: PluginSource;
  /** Where it is listed, else that of its manifest. */
  readonly place: Place | null;
  readonly optional: boolean;
  readonly enabled: boolean;
  readonly replace: boolean;
  readonly folder: string | null;
  reading: ManifestReading;
  state: FoundState;
  reason: string | null;
}

/** Finds and reads every plugin there is for a configuration. */
export function discover(config: LoadedConfig): Discovery {
  return new Search(config).result();
}

class Search {
  readonly #config: LoadedConfig;
  readonly #builtIn = builtInPlugins();
  readonly #builtInFolders = new Set([...this.#builtIn.values()].map(({ folder }) => folder));
  readonly #candidates: Candidate[] = [];
  /** Real paths of those that were read. */
  readonly #folders = new Set<string>();
  /** Those that are listed, as they are named. */
  readonly #located = new Set<string>();
  readonly #problems: Problem[] = [];
  readonly #warnings: string[] = [];

  constructor(config: LoadedConfig) {
    this.#config = config;
    for (const [index, entry] of (config.value.plugins ?? DEFAULT_PLUGINS).entries()) {
      if (!config.isBroken(['plugins', index]))
        this.#addListed(typeof entry === 'string' ? { use: entry } : entry, index);
    }
    const sources: readonly string[] = config.isBroken(['discover']) ? [] : (config.value.discover ?? DEFAULT_SOURCES);
    if (sources.includes('folder')) for (const folder of this.#pluginFolders()) this.#addFound(folder, 'folder');
    if (sources.includes('dependency')) {
      for (const folder of dependencyFolders(config.folder)) this.#addFound(folder, 'dependency');
    }
    for (const [id, plugin] of this.#builtIn) this.#addBuiltIn(id, plugin);
    this.#settle();
  }

  result(): Discovery {
    const infos = this.#candidates.map((candidate) => [infoOf(candidate), candidate.reading.manifest] as const);
    return {
      plugins: this.#inOrder(),
      infos: infos.map(([info]) => info),
      capabilities: new Map(infos.map(([info, manifest]) => [info, capabilitiesOf(manifest)])),
      middleware: new Map(infos.map(([info, manifest]) => [info, manifest?.contributes.middleware ?? []])),
      warnings: this.#warnings,
      problems: this.#problems,
      wrappers: this.#candidates.flatMap(({ state, reading: { plugin } }) =>
        state === 'discovered' && plugin !== null ? [plugin] : [],
      ),
    };
  }

  #addListed(entry: { use: string; optional?: boolean; enabled?: boolean; replace?: boolean }, index: number): void {
    const { use, optional = false, enabled = true, replace = false } = entry;
    const path: ConfigPath = typeof this.#config.value.plugins?.[index] === 'string' ? [index] : [index, 'use'];
    const place = this.#config.place(['plugins', ...path]);
    const common = { use, source: 'listed', place, optional, enabled, replace } as const;
    const where = this.#locate(use);
    if ('missing' in where) {
      const { missing: message, ...more } = where;
      const faults = [{ code: 'RC1106', place: null, message, ...more } as const];
      const reading: ManifestReading = { state: 'invalid', plugin: null, manifest: null, faults };
      this.#candidates.push({
        ...common,
        folder: null,
        reading,
        state: enabled ? 'missing' : 'disabled',
        reason: null,
      });
      return;
    }
    this.#located.add(where.folder);
    this.#read({ ...common, folder: where.folder });
  }

  /** Folders in `./plugins` that have a manifest. */
  #pluginFolders(): string[] {
    const parent = join(this.#config.folder, 'plugins');
    try {
      const entries = readdirSync(parent, { withFileTypes: true }).filter((e) => e.isDirectory() || e.isSymbolicLink());
      const folders = entries.slice(0, CANDIDATES_MAX).map(({ name }) => join(parent, name));
      return folders.filter(carriesManifest).sort();
    } catch (error) {
      const { code = '' } = error as NodeJS.ErrnoException;
      // A file of that name is somebody else's.
      if (code === 'ENOENT' || code === 'ENOTDIR') return [];
      const message = `plugins cannot be looked for in this folder (${code}); make it readable, or leave "folder" out of "discover"`;
      this.#problems.push({ code: 'RC1107', place: { source: parent }, message });
      return [];
    }
  }

  #addFound(folder: string, source: PluginSource): void {
    // What is listed, is not found a second time.
    if (this.#located.has(folder) || this.#folders.has(realpathSync.native(folder))) return;
    this.#read({ use: folder, source, place: null, optional: false, enabled: true, replace: false, folder });
  }

  /** One that is not listed. It is our own: until it is listed, what it says is taken as it stands. */
  #addBuiltIn(use: string, plugin: Plugin): void {
    const { folder, manifest } = plugin;
    if (this.#folders.has(folder)) return;
    const reading: ManifestReading = { state: 'ready', plugin, manifest, faults: [] };
    const common = { place: null, optional: false, enabled: true, replace: false, reason: null } as const;
    this.#candidates.push({ ...common, use, source: 'built-in', folder, reading, state: 'discovered' });
  }

  #read(found: Omit<Candidate, 'reading' | 'state' | 'reason'> & { folder: string }): void {
    const isBuiltIn = this.#builtInFolders.has(found.folder);
    const reading = readManifest(found.folder, { env: this.#config.env, isBuiltIn });
    this.#folders.add(reading.plugin?.folder ?? realpathSync.native(found.folder));
    const state = found.enabled ? reading.state : 'disabled';
    this.#candidates.push({ ...found, reading, state, reason: reading.reason ?? null });
  }

  /** The folder that `use` names, or what is to be said where there is none. */
  #locate(use: string): { folder: string } | { missing: string; isFinal?: true } {
    const from = this.#config.folder;
    // One letter before the colon is a Windows drive.
    if (/^[a-z][a-z0-9+.-]+:/i.test(use)) {
      return { missing: `plugin "${use}": URLs are not loaded; name a folder or a package.`, isFinal: true };
    }
    if (isBuiltin(use)) {
      return { missing: `plugin "${use}": modules of Node are not loaded; name a folder or a package.`, isFinal: true };
    }
    if (use.includes('\0')) return { missing: `plugin ${JSON.stringify(use)}: no folder has such a name.` };
    const isPath = use.startsWith('.') || resolve(use) === use;
    const folder = this.#builtIn.get(use)?.folder ?? (isPath ? resolve(from, use) : packageFolder(use, from));
    if (folder === null) return { missing: notInstalled(use, from, [...this.#builtIn.keys()]) };
    return existsSync(folder) ? { folder } : { missing: `plugin "${use}": there is no folder ${folder}.` };
  }

  /** Says of each candidate what becomes of it, and of those that are at fault why. */
  #settle(): void {
    const taken = new Map<string, Candidate>();
    for (const candidate of this.#candidates) {
      const { manifest } = candidate.reading;
      if (candidate.state === 'disabled') candidate.reason = 'it is disabled';
      else if (candidate.state === 'discovered') this.#settleBuiltIn(candidate, taken);
      else if (candidate.state === 'ready' && manifest !== null) this.#settleReady(candidate, manifest, taken);
      else if (candidate.state !== 'unavailable') this.#fault(candidate, candidate.reading.faults);
    }
    this.#checkDependencies(taken);
  }

  #settleReady(candidate: Candidate, { id }: PluginManifest, taken: Map<string, Candidate>): void {
    const first = taken.get(id);
    if (first !== undefined) {
      candidate.state = 'shadowed';
      candidate.reason = `plugin "${id}" of "${first.use}" comes first`;
      this.#warnings.push(`plugin "${id}" of "${candidate.use}" is shadowed: that of "${first.use}" comes first`);
      return;
    }
    const own = this.#builtIn.get(id);
    if (own !== undefined && own.folder !== candidate.folder && !candidate.replace) {
      const message = `plugin "${candidate.use}": "${id}" is the id of a built-in plugin; give it another, or say "replace": true to take its place.`;
      candidate.state = 'invalid';
      this.#fault(candidate, [{ code: 'RC1113', place: null, message }]);
      return;
    }
    taken.set(id, candidate);
  }

  #settleBuiltIn(candidate: Candidate, taken: Map<string, Candidate>): void {
    const first = taken.get(candidate.use);
    if (first === undefined) {
      candidate.reason = 'it is built in and not listed';
      return;
    }
    candidate.state = 'shadowed';
    candidate.reason = `plugin "${candidate.use}" of "${first.use}" replaces it`;
  }

  /** Leaves out what depends on what is not there, and what depends on that, until nothing changes. */
  #checkDependencies(taken: Map<string, Candidate>): void {
    for (let changed = true; changed; ) {
      changed = false;
      for (const [id, candidate] of taken) {
        const message = this.#unmetDependency(candidate, taken);
        if (message === null) continue;
        taken.delete(id);
        candidate.state = 'unavailable';
        this.#fault(candidate, [{ code: 'RC1114', place: null, message }]);
        changed = true;
      }
    }
  }

  #unmetDependency({ reading, use }: Candidate, taken: ReadonlyMap<string, Candidate>): string | null {
    for (const wanted of reading.manifest?.dependsOn ?? []) {
      const { id, range } = dependency(wanted);
      const found = taken.get(id)?.reading.manifest;
      const who = `plugin "${use}" depends on plugin "${id}"`;
      if (found == null) {
        const other = this.#candidates.find((each) => each.reading.manifest?.id === id);
        if (other === undefined) return `${who}, which is not there; list it under "plugins".`;
        return `${who}, which is ${other.state}${other.reason === null ? '' : `: ${other.reason}`}.`;
      }
      if (range !== null && !satisfies(found.version, range)) {
        return `${who} ${range}, found ${found.version}; install versions that agree.`;
      }
    }
    return null;
  }

  #fault(candidate: Candidate, faults: ManifestReading['faults']): void {
    const { use, source, optional } = candidate;
    candidate.reason = faults.map(({ message }) => message).join(' ');
    if (optional || source !== 'listed') this.#leaveOut(candidate, faults);
    else {
      for (const { code, place, message, isFinal = false } of faults) {
        const named = code === 'RC1107' ? `plugin "${use}": ${withoutDot(message)}.` : message;
        const mayHelp = ['RC1106', 'RC1111', 'RC1114'].includes(code) && !isFinal;
        const hint = mayHelp ? ' Mark it "optional": true to continue without it.' : '';
        this.#problems.push({ code, place: place ?? this.#placeOf(candidate), message: `${named}${hint}` });
      }
    }
  }

  #leaveOut(candidate: Candidate, faults: ManifestReading['faults']): void {
    const { use, source, optional, place } = candidate;
    const lines = faults.map(({ code, place: own, message }) => {
      const at = own ?? this.#placeOf(candidate);
      return `${code} ${at === place || at === null ? '' : `${showPlace(at)} `}${withoutDot(message)}`;
    });
    const what = `${optional ? 'optional plugin' : 'plugin'} "${use}" is left out: ${lines.join('; ')}`;
    const hint = source === 'listed' ? '' : `; to leave it out without a warning, ${this.#howToDisable(use)}`;
    this.#warnings.push(`${what}${hint}`);
  }

  /** By what it is found as: its id may be that of another. Without a list, the default has to be written down, too. */
  #howToDisable(use: string): string {
    const entry = `{ "use": ${JSON.stringify(use)}, "enabled": false }`;
    if (this.#config.value.plugins !== undefined) return `add ${entry} to "plugins"`;
    const list = [...DEFAULT_PLUGINS.map((each) => JSON.stringify(each)), entry];
    return `write "plugins": [${list.join(', ')}]`;
  }

  /** Where it is listed, else its manifest. */
  #placeOf({ place, folder }: Candidate): Place | null {
    return place ?? (folder === null ? null : { source: manifestFile(folder)?.file ?? folder });
  }

  /** Each plugin after those that it depends on; a circle is a problem. */
  #inOrder(): Plugin[] {
    const ready = this.#candidates.filter(({ state }) => state === 'ready');
    const byId = new Map(ready.map((candidate) => [candidate.reading.manifest?.id ?? '', candidate]));
    const done = new Set<Candidate>();
    const visit = (candidate: Candidate, trail: readonly Candidate[]): void => {
      if (done.has(candidate)) return;
      const start = trail.indexOf(candidate);
      if (start >= 0) {
        const ids = [...trail.slice(start), candidate].map(({ reading }) => reading.manifest?.id);
        const message = `plugins depend on one another in a circle: ${ids.join(' -> ')}; take one "dependsOn" out, or leave a plugin out with "enabled": false`;
        this.#problems.push({ code: 'RC1201', place: this.#placeOf(candidate), message });
        return;
      }
      const { dependsOn = [], optionalDependsOn = [] } = candidate.reading.manifest ?? {};
      for (const wanted of [...dependsOn, ...optionalDependsOn]) {
        const next = byId.get(dependency(wanted).id);
        if (next !== undefined) visit(next, [...trail, candidate]);
      }
      done.add(candidate);
    };
    for (const candidate of ready) visit(candidate, []);
    return [...done].flatMap(({ reading: { plugin } }) =>
      plugin === null ? [] : [{ ...plugin, base: this.#config.folder }],
    );
  }
}

/** `acme.base@^1.2.0`: the id, and the range where one is asked for. */
export function dependency(wanted: string): { id: string; range: string | null } {
  const at = wanted.indexOf('@');
  return at < 0 ? { id: wanted, range: null } : { id: wanted.slice(0, at), range: wanted.slice(at + 1) };
}

function infoOf({ use, source, folder, state, reason, optional, reading: { manifest } }: Candidate): PluginInfo {
  const { adapters = [], middleware = [] } = manifest?.contributes ?? {};
  return {
    id: manifest?.id ?? null,
    version: manifest?.version ?? null,
    use,
    source,
    folder,
    state,
    reason,
    optional,
    adapters: adapters.map(({ id }) => id),
    middleware: [...new Set(middleware.map(({ id }) => id))],
  };
}

/** Names of the capabilities that a plugin brings, and of those that its adapters serve. */
function capabilitiesOf(manifest: PluginManifest | null): string[] {
  const { adapters = [], capabilities = [] } = manifest?.contributes ?? {};
  return [...capabilities.map(({ id }) => id), ...adapters.map(({ provides }) => provides)].map(nameOf);
}

/** What to do is install it only where the name can be a package's: `npm i a/b` would fetch a stranger's repository. */
function notInstalled(use: string, from: string, builtIn: readonly string[]): string {
  const asked = `plugin "${use}" is not installed (looked from ${from}).`;
  if (existsSync(join(from, use))) return `${asked} A folder is written "./${use}".`;
  const hint = suggest(use, builtIn).replace('Known', 'Built in');
  return `${asked}${isPackageName(use) && !hint.includes('Did you mean') ? ` Run: npm i ${use}.` : ''}${hint}`;
}

function isPackageName(name: string): boolean {
  return /^(@[a-z0-9~-][a-z0-9._~-]*\/)?[a-z0-9~-][a-z0-9._~-]*$/.test(name);
}

/**
 * Where Node would find a package from a folder, for ESM-only packages and links too: its folder's real path. Resolving a
 * file of it fails for a package that exports nothing to `require`, so its folder is looked for.
 */
export function packageFolder(name: string, from: string): string | null {
  if (!isPackageName(name)) return null;
  const paths = createRequire(join(from, 'plugins.json')).resolve.paths(name) ?? [];
  const found = paths.map((path) => join(path, name)).find((path) => existsSync(join(path, 'package.json')));
  return found === undefined ? null : realpathSync.native(found);
}

/** Folders of the dependencies of the nearest package.json that have a manifest. */
function dependencyFolders(from: string): string[] {
  let folder = from;
  while (!existsSync(join(folder, 'package.json'))) {
    if (folder === dirname(folder)) return [];
    folder = dirname(folder);
  }
  const { dependencies, optionalDependencies } = jsonOf(join(folder, 'package.json'));
  const names = Object.keys({ ...Object(dependencies), ...Object(optionalDependencies) }).slice(0, CANDIDATES_MAX);
  return names.flatMap((name) => packageFolder(name, from) ?? []).filter(carriesManifest);
}

function carriesManifest(folder: string): boolean {
  const found = manifestFile(folder);
  return found !== null && (found.key === null || found.key in jsonOf(found.file));
}

let builtIn: ReadonlyMap<string, Plugin> | undefined;

/** The plugins that come with this package, by id: read once, as its code is. */
function builtInPlugins(): ReadonlyMap<string, Plugin> {
  builtIn ??= readBuiltIn();
  return builtIn;
}

function readBuiltIn(): ReadonlyMap<string, Plugin> {
  const plugins = new Map<string, Plugin>();
  for (const name of readdirSync(ADAPTERS_FOLDER)) {
    const folder = join(realpathSync.native(ADAPTERS_FOLDER), name);
    const file = join(folder, 'plugin.json');
    if (!existsSync(file)) continue;
    const given = JSON.parse(readFileSync(file, 'utf8')) as PluginManifest;
    const manifest = { ...given, contributes: { ...given.contributes, adapters: given.contributes.adapters ?? [] } };
    plugins.set(manifest.id, { manifest, folder, mainUrl: pathToFileURL(join(folder, manifest.main)).href });
  }
  return plugins;
}
