/**
 * The plan: which instances there are, on which adapter, with which configuration, and who needs whom. Made from the
 * configuration and the manifests alone; no code of a plugin runs. Everything wrong is found at once.
 */
import { KNOWN_CAPABILITIES } from '../contracts/known.js';
import type { Contribution } from '../contracts/plugin.js';
import type { BindingEntry, ConfigPath, InstancesEntry, LoadedConfig } from './config.js';
import { type Adapter, adaptersOf, type Discovery, type Middleware, middlewareOf } from './manifest.js';
import { type Place, type Problem, type ProblemCode, problemsError, showPlace, suggest } from './problems.js';
import { describe, resolvePaths, validate } from './schema.js';
import { adapterSchema } from './schemas.js';

/** One instance to be. */
export interface PlannedInstance {
  /** `<Capability>#<name>`. */
  readonly key: string;
  /** The capability's name, without its major version. */
  readonly capability: string;
  readonly name: string;
  readonly isDefault: boolean;
  readonly adapter: Adapter;
  /** Checked, defaults filled in, paths absolute. */
  readonly config: Readonly<Record<string, unknown>>;
  /** What its factory may ask its context for. */
  readonly requires: readonly Requirement[];
  /** What is put around it, outermost first. */
  readonly middleware: readonly PlannedMiddleware[];
  /** What `host.start()` does when it cannot be activated. */
  readonly onFailure: 'abort' | 'continue';
  /** Where the adapter was named; `null` for an instance that stands because nothing else could serve. */
  readonly place: Place | null;
}

/** One layer around an instance. */
export interface PlannedMiddleware extends Middleware {
  /** Checked, defaults filled in, paths absolute. */
  readonly config: Readonly<Record<string, unknown>>;
  /** What its factory may ask its context for. */
  readonly requires: readonly Requirement[];
}

/** One entry of a manifest's `requires`, resolved. */
export interface Requirement {
  readonly capability: string;
  /** `many` is for `getAll`; the others are for `get`. */
  readonly kind: 'one' | 'optional' | 'many';
  /** The name asked for, `null` for the default. */
  readonly name: string | null;
  /** Keys of the instances that serve it. */
  readonly keys: readonly string[];
  /** For `many`: adapters that could serve it, were it not for this. */
  readonly failed: readonly { readonly name: string; readonly problem: Problem }[];
}

export interface Plan {
  /** By key. */
  readonly instances: ReadonlyMap<string, PlannedInstance>;
  /**
   * Why a capability that nothing serves is not served, and what to bind.
   * @param id the capability with its major, where that was asked for
   */
  explainMissing(capability: string, name?: string, id?: string): Problem;
  /** About adapters that were left out where every one there is was asked for. */
  readonly warnings: readonly string[];
}

/** @throws FatalError ConfigInvalid with every problem found, those of discovery included */
export function makePlan(config: LoadedConfig, discovery: Discovery): Plan {
  const planner = new Planner(config, discovery);
  if (planner.problems.length > 0) throw problemsError(planner.problems);
  return planner;
}

class Planner implements Plan {
  readonly instances = new Map<string, PlannedInstance>();
  readonly problems: Problem[];
  readonly warnings: string[] = [];
  readonly #adapters: ReadonlyMap<string, Adapter>;
  readonly #middleware: readonly Middleware[];
  readonly #config: LoadedConfig;
  readonly #discovery: Discovery;
  /** Capabilities with a binding that is at fault: who requires them is not told a second time. */
  readonly #broken = new Set<string>();
  /** Adapters that could serve a capability which no binding names, and why they cannot. */
  readonly #unservable = new Map<string, { name: string; problem: Problem }[]>();
  /** Capabilities that are served without a binding, or why not; `null` while it is being found out. */
  readonly #unbound = new Map<string, Problem | null>();

  constructor(config: LoadedConfig, discovery: Discovery) {
    this.#config = config;
    this.#discovery = discovery;
    const { adapters, problems } = adaptersOf(discovery.plugins);
    const { middleware, problems: twins } = middlewareOf(discovery);
    this.#adapters = adapters;
    this.#middleware = middleware;
    this.problems = [...discovery.problems, ...problems, ...twins];

    for (const [capability, entry] of Object.entries(config.value.bindings ?? {})) this.#bind(capability, entry);
    // Whatever has a single provider is served without a binding.
    for (const { manifest } of this.#adapters.values()) this.#serveUnbound(nameOf(manifest.provides));
    for (const [key, planned] of this.instances) {
      const requires = this.#resolveRequires(planned, adapterOf(planned), this.problems);
      const middleware = planned.middleware.map((layer) => ({
        ...layer,
        requires: this.#resolveRequires(planned, { kind: 'middleware', manifest: layer.manifest }, this.problems),
      }));
      this.instances.set(key, { ...planned, requires, middleware });
      for (const { name, problem } of [{ requires }, ...middleware].flatMap((each) =>
        each.requires.flatMap(({ failed }) => failed),
      )) {
        this.warnings.push(`${key} asks for every instance there is, and "${name}" is left out: ${problem.message}`);
      }
    }
    if (this.problems.length === 0) this.problems.push(...this.#cycles());
  }

  explainMissing(capability: string, name?: string, id?: string): Problem {
    const other = [...this.instances.values()].find(
      (i) => i.capability === capability && i.adapter.manifest.provides !== id,
    );
    if (id !== undefined && other !== undefined) {
      const message = `this host has ${other.adapter.manifest.provides}, asked was ${id}; use versions that agree`;
      return { code: 'RC1111', place: null, message };
    }
    const names = this.#namesOf(capability);
    if (names.length > 0) {
      const message =
        name === undefined
          ? `${capability} has several instances and no default; set bindings.${capability}.default or ask by name. Known: ${names.join(', ')}.`
          : `${capability} has no instance "${name}".${suggest(name, names)}`;
      return { code: 'RC1122', place: null, message };
    }
    return this.#unbound.get(capability) ?? this.#nothingProvides(capability);
  }

  #bind(capability: string, entry: BindingEntry | InstancesEntry): void {
    const path = ['bindings', capability];
    const known = this.#knownCapabilities();
    if (!known.includes(capability)) {
      const message = `bindings.${capability}: no such capability.${suggest(capability, known)}`;
      this.#problem('RC1003', this.#config.place(path, 'key'), message);
      return;
    }
    if (!('instances' in entry)) {
      this.#add(capability, 'default', true, entry, path);
      return;
    }
    const names = Object.keys(entry.instances);
    if (entry.default !== undefined && !names.includes(entry.default)) {
      const message = `bindings.${capability}.default: there is no instance "${entry.default}".${suggest(entry.default, names)}`;
      this.#problem('RC1122', this.#config.place([...path, 'default']), message);
    }
    const fallback = names.length === 1 ? names[0] : 'default';
    for (const [name, binding] of Object.entries(entry.instances)) {
      this.#add(capability, name, name === (entry.default ?? fallback), binding, [...path, 'instances', name]);
    }
  }

  #add(capability: string, name: string, isDefault: boolean, binding: BindingEntry, path: ConfigPath): void {
    const place = this.#config.place([...path, 'adapter']);
    if (binding.enabled === false) return;
    // Lists of preference are refused before.
    const id = binding.adapter as string;
    const adapter = this.#adapters.get(id);
    if (adapter === undefined || nameOf(adapter.manifest.provides) !== capability) {
      const message = this.#noAdapter(id, capability, adapter);
      if (binding.optional === true) {
        this.warnings.push(`optional binding ${path.join('.')} is left out: ${message}`);
        return;
      }
      this.#broken.add(capability);
      // A plugin that could not be read may have it, and is told of already; a slip is told all the same.
      const told = adapter === undefined && this.#discovery.problems.length > 0 && !message.includes('Did you mean');
      if (!told) this.#problem('RC1102', place, message);
      return;
    }
    const token = KNOWN_CAPABILITIES.find((known) => known.name === capability);
    if (token !== undefined && token.id !== adapter.manifest.provides) {
      const message = `adapter ${id} serves ${adapter.manifest.provides}, this host knows ${token.id}; install versions that agree`;
      this.#problem('RC1111', place, message);
    }
    for (const [index, feature] of (binding.require ?? []).entries()) {
      const declared = adapter.manifest.features ?? [];
      if (declared.includes(feature)) continue;
      const message = `adapter ${id} does not declare the feature "${feature}".${suggest(feature, declared)}`;
      this.#problem('RC1110', this.#config.place([...path, 'require', index]), message);
    }
    const planned = this.#instance(capability, name, isDefault, adapter, place);
    const config = this.#configAt({ kind: 'adapter', manifest: adapter.manifest }, binding.config, [...path, 'config']);
    const middleware = this.#wrap(adapter.manifest.provides, binding, path);
    this.instances.set(planned.key, { ...planned, config, middleware, onFailure: binding.onFailure ?? 'abort' });
  }

  #instance(
    capability: string,
    name: string,
    isDefault: boolean,
    adapter: Adapter,
    place: Place | null,
  ): PlannedInstance {
    const key = `${capability}#${name}`;
    const none = { config: {}, requires: [], middleware: [], onFailure: 'abort' } as const;
    return { key, capability, name, isDefault, adapter, place, ...none };
  }

  /** What a binding puts around its instance; what is not there, or fits another capability, is a problem. */
  #wrap(provides: string, { middleware = [] }: BindingEntry, path: ConfigPath): PlannedMiddleware[] {
    return middleware.flatMap((entry, index) => {
      const { use, config, enabled = true } = typeof entry === 'string' ? { use: entry } : entry;
      if (!enabled) return [];
      const at = [...path, 'middleware', index];
      const found = this.#middleware.find(({ manifest: { id, wraps } }) => id === use && wraps.includes(provides));
      const layer = found ?? this.#middleware.find(({ manifest: { id, wraps } }) => id === use && wraps.includes('*'));
      if (layer !== undefined) {
        const checked = this.#configAt({ kind: 'middleware', manifest: layer.manifest }, config, [...at, 'config']);
        return [{ ...layer, config: checked, requires: [] }];
      }
      const elsewhere = this.#middleware.filter(({ manifest }) => manifest.id === use);
      const fitting = this.#middleware.filter(({ manifest: { wraps } }) =>
        wraps.some((w) => w === '*' || w === provides),
      );
      const known = suggest(use, [...new Set(fitting.map(({ manifest }) => manifest.id))]);
      const others = elsewhere.flatMap(({ manifest }) => manifest.wraps).join(', ');
      const message = `no middleware "${use}" for ${provides}${others === '' ? '.' : `: it wraps ${others}.`}${known}`;
      this.#problem('RC1109', this.#config.place(typeof entry === 'string' ? at : [...at, 'use']), message);
      return [];
    });
  }

  #noAdapter(id: string, capability: string, other: Adapter | undefined): string {
    const asked = `no adapter "${id}" for ${capability}`;
    if (other !== undefined)
      return `${asked}: it serves ${nameOf(other.manifest.provides)}.${this.#knownFor(id, capability)}`;
    const away = this.#discovery.missing.find(({ adapterIds }) => adapterIds.includes(id));
    if (away !== undefined) return `${asked}: plugin "${away.use}", which has it, ${away.reason}`;
    const unread = this.#discovery.missing.filter(({ adapterIds }) => adapterIds.length === 0);
    const leftOut = unread.map(({ use, reason }) => ` Plugin "${use}" ${reason}`).join('');
    return `${asked}.${this.#knownFor(id, capability)}${leftOut}`;
  }

  #knownFor(id: string, capability: string): string {
    const known = suggest(
      id,
      this.#candidates(capability).map(({ manifest }) => manifest.id),
    );
    return known === '' ? ` No plugin that is listed serves ${capability}; list one under "plugins".` : known;
  }

  /** The configuration at a path, checked; its problems are added. */
  #configAt(what: Contributed, given: Readonly<Record<string, unknown>> = {}, path: ConfigPath) {
    const place = (steps: readonly string[], at?: 'key') => this.#config.place([...path, ...steps], at);
    const { value, problems } = this.#checkConfig(what, given, path.join('.'), place);
    this.problems.push(...problems);
    return value;
  }

  #checkConfig(
    { kind, manifest }: Contributed,
    given: Readonly<Record<string, unknown>>,
    label: string,
    placeOf: (steps: readonly string[], what?: 'key') => Place | null,
  ): { value: Record<string, unknown>; problems: Problem[] } {
    const value = structuredClone({ ...given });
    const schema = adapterSchema(manifest.config);
    try {
      const problems = validate(schema, value, describe).map(({ path, unknownKey, message }): Problem => {
        const text = `${label}.${message} (${kind} ${manifest.id})`.replace('.the whole value', '');
        return unknownKey === null
          ? { code: 'RC1105', place: placeOf(path), message: text }
          : { code: 'RC1104', place: placeOf([...path, unknownKey], 'key'), message: text };
      });
      return { value: resolvePaths(schema, value, this.#config.folder), problems };
    } catch (error) {
      const message = `${kind} ${manifest.id}: the manifest's config is not a valid JSON Schema: ${(error as Error).message}`;
      return { value, problems: [{ code: 'RC1107', place: null, message }] };
    }
  }

  /** Adds the instance of a capability that no binding names, if a single adapter can serve it as it stands. */
  #serveUnbound(capability: string, all = false): void {
    if (this.#namesOf(capability).length > 0 || this.#unbound.get(capability) === null) return;
    if (this.#unbound.has(capability) && !all) return;
    if (Object.hasOwn(this.#config.value.bindings ?? {}, capability)) return;
    this.#unbound.set(capability, null);
    const candidates = this.#candidates(capability);
    if (candidates.length > 1 && !all) {
      const ids = candidates.map(({ manifest }) => manifest.id).join(', ');
      const message = `${capability} has ${candidates.length} providers (${ids}) and none is chosen; set bindings.${capability}.adapter.`;
      this.#unbound.set(capability, { code: 'RC1120', place: null, message });
      return;
    }
    const unservable: { name: string; problem: Problem }[] = [];
    this.#unservable.set(capability, unservable);
    for (const adapter of candidates) {
      const alone = candidates.length === 1;
      const planned = this.#instance(capability, alone ? 'default' : adapter.manifest.id, alone, adapter, null);
      const config = this.#checkConfig(adapterOf(planned), {}, `bindings.${capability}.config`, () => null);
      const problems = [...config.problems];
      this.#resolveRequires(planned, adapterOf(planned), problems);
      const [problem] = problems;
      if (problem === undefined) {
        this.instances.set(planned.key, { ...planned, config: config.value });
        continue;
      }
      unservable.push({ name: planned.name, problem });
      this.#unbound.set(capability, {
        ...problem,
        message: `${capability} is not bound, and cannot be served as it stands: ${problem.message}`,
      });
    }
    if (this.#unbound.get(capability) === null) this.#unbound.set(capability, this.#nothingProvides(capability));
  }

  #resolveRequires(planned: PlannedInstance, { kind: of, manifest }: Contributed, problems: Problem[]): Requirement[] {
    return (manifest.requires ?? []).map((text) => {
      const [, capability = '', major, mark, name = null] = /^([^@?*#]+)(@\d+)?(\?|\*)?(?:#(.+))?$/.exec(text) ?? [];
      const kind = mark === '*' ? 'many' : mark === '?' ? 'optional' : 'one';
      const who = `${planned.key} (${of} ${manifest.id}) requires ${text}`;
      this.#serveUnbound(capability, kind === 'many');
      const found = [...this.instances.values()].filter(
        (other) => other.capability === capability && (kind === 'many' || this.#isNamed(other, name)),
      );
      const wrong = found.find(
        ({ adapter }) => major !== undefined && adapter.manifest.provides !== capability + major,
      );
      if (wrong !== undefined) {
        const message = `${who}: ${wrong.key} is ${wrong.adapter.manifest.provides}; use versions that agree`;
        problems.push({ code: 'RC1111', place: planned.place, message });
      } else if (kind === 'one' && found.length === 0 && !this.#broken.has(capability)) {
        const { code, message } = this.explainMissing(capability, name ?? undefined);
        problems.push({ code, place: planned.place, message: `${who}: ${message}` });
      }
      const failed = kind === 'many' ? (this.#unservable.get(capability) ?? []) : [];
      return { capability, kind, name, keys: found.map(({ key }) => key), failed };
    });
  }

  #isNamed(instance: PlannedInstance, name: string | null): boolean {
    return name === null ? instance.isDefault : instance.name === name;
  }

  /** Each circle once, with its path. */
  #cycles(): Problem[] {
    const done = new Set<string>();
    const problems: Problem[] = [];
    const visit = (key: string, trail: readonly string[]): void => {
      const start = trail.indexOf(key);
      if (start >= 0) {
        const places = trail.slice(start).map((step) => this.instances.get(step)?.place ?? null);
        const shown = places
          .filter((place) => place !== null)
          .map(showPlace)
          .join(', ');
        const message = `dependency cycle: ${[...trail.slice(start), key].join(' -> ')} (${shown})`;
        problems.push({ code: 'RC1201', place: places[0] ?? null, message });
        return;
      }
      if (done.has(key)) return;
      const instance = this.instances.get(key);
      for (const next of instance === undefined ? [] : edgesOf(instance)) visit(next, [...trail, key]);
      done.add(key);
    };
    for (const key of this.instances.keys()) visit(key, []);
    return problems;
  }

  #nothingProvides(capability: string): Problem {
    const known = this.#knownCapabilities();
    if (!known.includes(capability)) {
      return {
        code: 'RC1121',
        place: null,
        message: `there is no capability ${capability}.${suggest(capability, known)}`,
      };
    }
    const message = `nothing provides ${capability}; list a plugin with an adapter for it under "plugins" and name the adapter in bindings.${capability}.adapter`;
    return { code: 'RC1121', place: null, message };
  }

  #candidates(capability: string): Adapter[] {
    return [...this.#adapters.values()].filter(({ manifest }) => nameOf(manifest.provides) === capability);
  }

  #namesOf(capability: string): string[] {
    return [...this.instances.values()].filter((i) => i.capability === capability).map(({ name }) => name);
  }

  #knownCapabilities(): string[] {
    const brought = [...this.#adapters.values()].map(({ manifest }) => nameOf(manifest.provides));
    return [...new Set([...KNOWN_CAPABILITIES.map(({ name }) => name), ...brought])];
  }

  #problem(code: ProblemCode, place: Place | null, message: string): void {
    this.problems.push({ code, place, message });
  }
}

/** Something of a manifest that has a configuration and requires others. */
interface Contributed {
  readonly kind: 'adapter' | 'middleware';
  readonly manifest: Contribution & { readonly id: string };
}

function adapterOf({ adapter: { manifest } }: PlannedInstance): Contributed {
  return { kind: 'adapter', manifest };
}

/** Keys of all that an instance may ask for, its middleware included, each once. */
export function edgesOf({ requires, middleware }: PlannedInstance): readonly string[] {
  const needs = [{ requires }, ...middleware].flatMap((each) => each.requires);
  return [...new Set(needs.flatMap(({ keys }) => keys))];
}

/** `Queue` of `Queue@1`. */
export function nameOf(provides: string): string {
  return provides.slice(0, provides.lastIndexOf('@'));
}
