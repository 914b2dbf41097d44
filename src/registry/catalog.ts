/** What the plugins that are ready contribute, and why something that is asked for is not among it. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { AdapterManifest, MiddlewareManifest } from '../contracts/plugin.js';
import { type Discovery, type PluginInfo, packageFolder } from './discovery.js';
import { type Plugin, placeInManifest, satisfies } from './manifest.js';
import { type Problem, suggest } from './problems.js';
import { nameOf } from './schemas.js';

/** One adapter of a plugin that is there. */
export interface Adapter {
  readonly plugin: Plugin;
  readonly manifest: AdapterManifest;
}

/** One middleware of a plugin that is there. */
export interface Middleware {
  readonly plugin: Plugin;
  readonly manifest: MiddlewareManifest;
}

export class Catalog {
  /** By id. */
  readonly adapters: ReadonlyMap<string, Adapter>;
  readonly middleware: readonly Middleware[];
  /** Two of one id. */
  readonly problems: readonly Problem[];
  /** Plugins that are listed or found, and not ready. */
  readonly #absent: readonly PluginInfo[];
  readonly #capabilitiesOf: Discovery['capabilities'];
  readonly #middlewareOf: Discovery['middleware'];
  readonly #byCapability = new Map<string, Adapter[]>();
  readonly #lacking = new Map<Plugin, Map<string, string | null>>();

  constructor({ plugins, wrappers, infos, capabilities, middleware: all }: Discovery) {
    const { adapters, problems } = adaptersOf(plugins);
    const { middleware, problems: twins } = middlewareOf(plugins, wrappers);
    this.adapters = adapters;
    this.middleware = middleware;
    this.problems = [...problems, ...twins];
    this.#absent = infos.filter(({ state }) => state !== 'ready' && state !== 'shadowed');
    this.#capabilitiesOf = capabilities;
    this.#middlewareOf = all;
    const contributed = plugins.flatMap(({ manifest }) => manifest.contributes.capabilities ?? []);
    for (const { id } of contributed) this.#byCapability.set(nameOf(id), []);
    for (const adapter of adapters.values()) {
      const name = nameOf(adapter.manifest.provides);
      const others = this.#byCapability.get(name);
      if (others === undefined) this.#byCapability.set(name, [adapter]);
      else others.push(adapter);
    }
  }

  /** Every adapter of a capability, of whichever major. */
  serving(capability: string): readonly Adapter[] {
    return this.#byCapability.get(capability) ?? [];
  }

  /** Names of the capabilities that a plugin contributes or an adapter serves. */
  get capabilities(): Iterable<string> {
    return this.#byCapability.keys();
  }

  /** `: plugin "x", which has it, …`, where one that is not ready serves or brings a capability; else `null`. */
  whoWouldHave(capability: string): string | null {
    const away = this.#absent.find((info) => this.#capabilitiesOf.get(info)?.includes(capability));
    return away === undefined ? null : whoHasIt(away);
  }

  /** The middleware of an id for a capability: one that names it before one for any. */
  wrapper(id: string, provides: string): Middleware | undefined {
    const named = this.middleware.filter(({ manifest }) => manifest.id === id);
    return (
      named.find(({ manifest: { wraps } }) => wraps.includes(provides)) ??
      named.find(({ manifest: { wraps } }) => wraps.includes('*'))
    );
  }

  noWrapper(id: string, provides: string): string {
    const elsewhere = this.middleware.filter(({ manifest }) => manifest.id === id);
    const fitting = this.middleware.filter(
      ({ manifest: { wraps } }) => wraps.includes('*') || wraps.includes(provides),
    );
    const known = suggest(id, [...new Set(fitting.map(({ manifest }) => manifest.id))]);
    const others = elsewhere.flatMap(({ manifest }) => manifest.wraps).join(', ');
    const isMeant = ({ id: own, wraps }: MiddlewareManifest) =>
      own === id && (wraps.includes('*') || wraps.includes(provides));
    const away = this.#absent.find((info) => this.#middlewareOf.get(info)?.some(isMeant));
    const why = others === '' ? '.' : `: it wraps ${others}.`;
    return `no middleware "${id}" for ${provides}${away === undefined ? `${why}${known}` : whoHasIt(away)}`;
  }

  /**
   * Why there is no adapter of that id for a capability.
   * @returns `excused` when a plugin that is not ready may have it; `isSlip` when one that is there is meant
   */
  noAdapter(id: string, capability: string): { message: string; excused: boolean; isSlip: boolean } {
    const other = this.adapters.get(id);
    const asked = `no adapter "${id}" for ${capability}`;
    if (other !== undefined) {
      const serves = nameOf(other.manifest.provides);
      return { message: `${asked}: it serves ${serves}.${this.#known(id, capability)}`, excused: false, isSlip: true };
    }
    const away = this.#absent.find(({ adapters }) => adapters.includes(id));
    if (away !== undefined) {
      return { message: `${asked}${whoHasIt(away)}`, excused: away.state !== 'discovered', isSlip: false };
    }
    const unread = this.#absent.filter(({ id: own, state }) => own === null && state !== 'discovered');
    const leftOut = unread.map((info) => ` Plugin "${info.use}" ${whyAbsent(info)}`).join('');
    const known = this.#known(id, capability);
    const isSlip = known.includes('Did you mean');
    return { message: `${asked}.${known}${leftOut}`, excused: unread.length > 0 && !isSlip, isSlip };
  }

  #known(id: string, capability: string): string {
    const known = suggest(
      id,
      this.serving(capability).map(({ manifest }) => manifest.id),
    );
    return known === '' ? ` No plugin that is listed serves ${capability}; list one under "plugins".` : known;
  }

  /** What an adapter or middleware needs of npm and does not find from its plugin's folder. */
  missingPackage({ plugin, manifest }: Adapter | Middleware): string | null {
    for (const [name, range] of Object.entries(manifest.packages ?? {})) {
      const found = this.#versionOf(plugin, name);
      if (found !== null && satisfies(found, range)) continue;
      const asked = `needs package ${name}@${range}, found ${found ?? 'none'}. Run: npm i ${name}`;
      return `${'wraps' in manifest ? 'middleware' : 'adapter'} ${manifest.id} ${asked}${found === null ? '' : `@"${range}"`}`;
    }
    return null;
  }

  #versionOf(plugin: Plugin, name: string): string | null {
    let versions = this.#lacking.get(plugin);
    if (versions === undefined) {
      versions = new Map();
      this.#lacking.set(plugin, versions);
    }
    let version = versions.get(name);
    if (version === undefined) {
      version = installedVersion(name, plugin.folder);
      versions.set(name, version);
    }
    return version;
  }
}

function installedVersion(name: string, from: string): string | null {
  const folder = packageFolder(name, from);
  if (folder === null) return null;
  try {
    const { version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { version?: unknown };
    return typeof version === 'string' ? version : null;
  } catch {
    // Half installed: npm i mends it, as if it were not there.
    return null;
  }
}

function whoHasIt(info: PluginInfo): string {
  return `: plugin "${info.use}", which has it, ${whyAbsent(info)}`;
}

function whyAbsent({ state, reason }: PluginInfo): string {
  if (state === 'disabled') return 'is disabled';
  if (state === 'discovered') return 'is built in and not listed; list it under "plugins"';
  return `is not available${reason === null ? '' : `: ${reason}`}`;
}

function adaptersOf(plugins: readonly Plugin[]): { adapters: ReadonlyMap<string, Adapter>; problems: Problem[] } {
  const adapters = new Map<string, Adapter>();
  const problems: Problem[] = [];
  for (const plugin of plugins) {
    for (const [index, manifest] of plugin.manifest.contributes.adapters.entries()) {
      const twin = adapters.get(manifest.id);
      if (twin === undefined) adapters.set(manifest.id, { plugin, manifest });
      else {
        const [a, b] = [twin.plugin.manifest.id, plugin.manifest.id];
        const message = `plugins "${a}" and "${b}" both have an adapter "${manifest.id}"; disable one of them`;
        problems.push({
          code: 'RC1113',
          place: placeInManifest(plugin, ['contributes', 'adapters', index, 'id']),
          message,
        });
      }
    }
  }
  return { adapters, problems };
}

/** Two of one id that wrap the same capability are a problem. */
function middlewareOf(plugins: readonly Plugin[], wrappers: readonly Plugin[]) {
  const middleware: Middleware[] = [];
  const problems: Problem[] = [];
  for (const plugin of [...plugins, ...wrappers]) {
    for (const [index, manifest] of (plugin.manifest.contributes.middleware ?? []).entries()) {
      const twin = middleware.find(
        (other) => other.manifest.id === manifest.id && other.manifest.wraps.some((w) => manifest.wraps.includes(w)),
      );
      if (twin === undefined) middleware.push({ plugin, manifest });
      // One that is built in and not listed gives way.
      else if (!wrappers.includes(plugin)) {
        const [a, b] = [twin.plugin.manifest.id, plugin.manifest.id];
        const message = `plugins "${a}" and "${b}" both have a middleware "${manifest.id}" for the same capability; disable one of them`;
        const place = placeInManifest(plugin, ['contributes', 'middleware', index, 'id']);
        problems.push({ code: 'RC1113', place, message });
      }
    }
  }
  return { middleware, problems };
}
