/**
 * The plan: which instances there are, on which adapter, with which configuration, and who needs whom. Made from the
 * configuration and the manifests alone; no code of a plugin runs. Everything wrong is found at once.
 */
import { KNOWN_CAPABILITIES } from '../contracts/known.js';
import { type Adapter, Catalog } from './catalog.js';
import { preferences, sharedConfig } from './choice.js';
import type { BindingEntry, ConfigPath, InstancesEntry, LoadedConfig } from './config.js';
import type { Discovery, PluginInfo } from './discovery.js';
import { cycles } from './graph.js';
import type { Plugin } from './manifest.js';
import { type PlannedInstance, PlannedInstances, type PlannedMiddleware, type Requirement } from './planned.js';
import { type Place, type Problem, type ProblemCode, problemsError, showProblem, suggest } from './problems.js';
import { isSchema } from './schemas.js';
import { type PlannedSecret, secretsIn } from './secrets.js';
import { type Contributed, checkSettings, type Settings } from './settings.js';

export type { PlannedInstance, PlannedMiddleware, Requirement } from './planned.js';

export interface Plan {
  /** By key. */
  readonly instances: ReadonlyMap<string, PlannedInstance>;
  readonly config: LoadedConfig;
  readonly discovery: Discovery;
  readonly catalog: Catalog;
  /**
   * Why a capability that nothing serves is not served, and what to bind.
   * @param id the capability with its major, where that was asked for
   */
  /** Why nothing serves a capability, where a binding or a plugin that is not ready is the reason; else `null`. */
  whyAbsent(capability: string): string | null;
  explainMissing(capability: string, name?: string, id?: string): Problem;
  /** About what is optional and left out. */
  readonly warnings: readonly string[];
}

/** Plugins whose middleware is put around an instance. */
export function wrappersIn({ instances }: Pick<Plan, 'instances'>): ReadonlySet<Plugin> {
  return new Set([...instances.values()].flatMap(({ middleware }) => middleware.map(({ plugin }) => plugin)));
}

/** All that were found or listed. A built-in plugin that is not listed is ready where its middleware is used. */
export function pluginsOf(plan: Pick<Plan, 'instances' | 'discovery'>): readonly PluginInfo[] {
  const used = new Set([...wrappersIn(plan)].map(({ manifest }) => manifest.id));
  return plan.discovery.infos.map((info) =>
    info.state === 'discovered' && used.has(info.id ?? '') ? { ...info, state: 'ready', reason: null } : info,
  );
}

/** Capabilities that are served without a binding, each for the next, are found out by recursion: past this, bind one. */
const UNBOUND_DEPTH_MAX = 100;

/** @throws FatalError ConfigInvalid with every problem found, those of the configuration and of discovery included */
export function makePlan(config: LoadedConfig, discovery: Discovery): Plan {
  const { plan, problems } = tryPlan(config, discovery);
  if (problems.length > 0) throw problemsError(problems);
  return plan;
}

/** As far as it goes: with problems, instances are missing from it, or lack what they need. */
export function tryPlan(config: LoadedConfig, discovery: Discovery): { plan: Plan; problems: readonly Problem[] } {
  const planner = new Planner(config, discovery);
  return { plan: planner, problems: planner.problems };
}

class Planner implements Plan {
  readonly instances = new PlannedInstances();
  readonly problems: Problem[];
  readonly warnings: string[];
  readonly config: LoadedConfig;
  readonly discovery: Discovery;
  readonly catalog: Catalog;
  /** Capabilities with a binding that is at fault: who requires them is not told a second time. */
  readonly #broken = new Set<string>();
  /** Adapters that could serve a capability which no binding names, and why they cannot. */
  readonly #unservable = new Map<string, { name: string; problem: Problem }[]>();
  /** Why a bound instance is left out, by its key; for the default one by its capability, too. */
  readonly #leftOut = new Map<string, string>();
  /** Capabilities that are served without a binding, or why not; `null` while it is being found out. */
  readonly #unbound = new Map<string, Problem | null>();
  #known: readonly string[] | undefined;
  /** How many of them are being found out, each for the one before it. */
  #unboundDepth = 0;

  constructor(config: LoadedConfig, discovery: Discovery) {
    this.config = config;
    this.discovery = discovery;
    this.catalog = new Catalog(discovery);
    this.warnings = [...config.warnings];
    this.problems = [...config.problems, ...discovery.problems, ...this.catalog.problems];

    for (const [capability, entry] of Object.entries(config.value.bindings ?? {})) this.#bind(capability, entry);
    // Whatever has a single provider is served without a binding.
    for (const capability of this.catalog.capabilities) this.#serveUnbound(capability);
    for (const [key, planned] of this.instances) {
      const needs = this.#resolveNeeds(planned, adapterOf(planned), planned.secrets, planned.configPaths);
      const middleware = planned.middleware.map((layer) => ({
        ...layer,
        ...this.#resolveNeeds(
          planned,
          { kind: 'middleware', manifest: layer.manifest, plugin: layer.plugin },
          layer.secrets,
          layer.configPaths,
        ),
      }));
      this.instances.set(key, { ...planned, ...needs, middleware });
      const failed = [needs, ...middleware].flatMap(({ requires }) => requires.flatMap((each) => each.failed));
      for (const { name, problem } of failed) {
        this.warnings.push(`${key} asks for every instance there is, and "${name}" is left out: ${problem.message}`);
      }
    }
    if (this.problems.length === 0) this.problems.push(...cycles(this.instances));
  }

  whyAbsent(capability: string): string | null {
    const away = this.catalog.whoWouldHave(capability)?.replace(/^: /, '');
    return (this.#leftOut.get(capability) ?? away)?.replace(/\.$/, '') ?? null;
  }

  explainMissing(capability: string, name?: string, id?: string): Problem {
    const other = this.instances.serving(capability).find(({ adapter }) => adapter.manifest.provides !== id);
    if (id !== undefined && other !== undefined) {
      const message = `this host has ${other.adapter.manifest.provides}, asked was ${id}; use versions that agree`;
      return { code: 'RC1111', place: null, message };
    }
    const names = this.instances.serving(capability).map((each) => each.name);
    const leftOut = this.#leftOut.get(name === undefined ? capability : `${capability}#${name}`);
    if (leftOut !== undefined) {
      const asked = name === undefined ? capability : `instance "${name}" of ${capability}`;
      const others = names.length === 0 ? '' : ` Others are there: ${names.join(', ')}.`;
      return { code: 'RC1121', place: null, message: `${asked} is not served: ${leftOut}${others}` };
    }
    if (names.length > 0) {
      const message =
        name === undefined
          ? `${capability} has ${names.length > 1 ? 'several instances and no default' : 'no default instance'}; set bindings.${capability}.default or ask by name. Known: ${names.join(', ')}.`
          : `${capability} has no instance "${name}".${suggest(name, names)}`;
      return { code: 'RC1122', place: null, message };
    }
    return this.#unbound.get(capability) ?? this.#nothingProvides(capability);
  }

  #bind(capability: string, entry: BindingEntry | InstancesEntry): void {
    const path = ['bindings', capability];
    const known = this.#knownCapabilities;
    if (!known.includes(capability)) {
      const why = this.catalog.whoWouldHave(capability) ?? `.${suggest(capability, known)}`;
      const message = `bindings.${capability}: no such capability${why}`;
      this.#problem('RC1003', this.config.place(path, 'key'), message);
      return;
    }
    const isLong = isSchema(entry) && 'instances' in entry && isSchema(entry.instances);
    if (!isLong && this.config.isBroken(path)) {
      this.#broken.add(capability);
      return;
    }
    if (!('instances' in entry)) {
      this.#add(capability, 'default', true, entry, path);
      return;
    }
    const names = Object.keys(entry.instances);
    if (typeof entry.default === 'string' && !names.includes(entry.default)) {
      const message = `bindings.${capability}.default: there is no instance "${entry.default}".${suggest(entry.default, names)}`;
      this.#problem('RC1122', this.config.place([...path, 'default']), message);
    }
    const fallback = names.length === 1 ? names[0] : 'default';
    for (const [name, binding] of Object.entries(entry.instances)) {
      const at = [...path, 'instances', name];
      if (this.config.isBroken(at)) this.#broken.add(capability);
      else this.#add(capability, name, name === (entry.default ?? fallback), binding, at);
    }
  }

  #add(capability: string, name: string, isDefault: boolean, binding: BindingEntry, path: ConfigPath): void {
    const leaveOut = (why: string) => {
      this.#leftOut.set(`${capability}#${name}`, why);
      if (isDefault) this.#leftOut.set(capability, why);
    };
    if (binding.enabled === false) {
      leaveOut(`${path.join('.')} says "enabled": false.`);
      return;
    }
    const choice = preferences(this.catalog, capability, binding, path, KNOWN_CAPABILITIES);
    if ('problems' in choice) {
      const placed = choice.problems.map((problem) => ({ ...problem, place: this.config.place(problem.path) }));
      if (binding.optional === true) {
        const why = placed.map(({ message }) => message).join(' ');
        this.warnings.push(`optional binding ${path.join('.')} is left out: ${why}`);
        leaveOut(`${path.join('.')} is optional and left out: ${why}`);
        return;
      }
      this.#broken.add(capability);
      // A plugin that could not be read may have the adapter, and is told of already; a slip is told all the same.
      const isTold = this.#isPluginsInDoubt();
      for (const { code, place, message, isSlip } of placed) {
        if (isSlip || !isTold) this.#problem(code, place, message);
      }
      return;
    }
    const { adapter, passedOver, unknown } = choice;
    for (const { code, message, path: at } of unknown) {
      const text = `this entry is passed over, and ${adapter.manifest.id} serves: ${message}`;
      this.warnings.push(showProblem({ code, place: this.config.place(at), message: text }));
    }
    const planned = this.#instance(capability, name, isDefault, adapter);
    const { config, configPaths } = sharedConfig(this.catalog, binding, choice, path, this.config.beside);
    const settings = this.#settingsAt(adapterOf(planned), config, configPaths);
    const middleware = this.#wrap(adapter.manifest.provides, binding, path);
    this.instances.set(planned.key, {
      ...planned,
      config: settings.value,
      secrets: unplaced(settings),
      middleware,
      onFailure: binding.onFailure ?? 'abort',
      place: this.config.place(choice.path),
      path,
      passedOver,
      configPaths,
    });
  }

  #isPluginsInDoubt(): boolean {
    return (
      this.discovery.problems.length > 0 ||
      this.config.isBroken(['plugins']) ||
      this.config.problems.some(({ code }) => code === 'RC1003')
    );
  }

  #instance(capability: string, name: string, isDefault: boolean, adapter: Adapter): PlannedInstance {
    const key = `${capability}#${name}`;
    const none = { config: {}, secrets: [], requires: [], middleware: [], passedOver: [], configPaths: [] };
    return { key, capability, name, isDefault, adapter, ...none, onFailure: 'abort', place: null, path: null };
  }

  /** What a binding puts around its instance; what is not there, or fits another capability, is a problem. */
  #wrap(provides: string, { middleware = [] }: BindingEntry, path: ConfigPath): PlannedMiddleware[] {
    return middleware.flatMap((entry, index) => {
      const { use, config = {}, enabled = true } = typeof entry === 'string' ? { use: entry } : entry;
      if (!enabled) return [];
      const at = [...path, 'middleware', index];
      const place = this.config.place(typeof entry === 'string' ? at : [...at, 'use']);
      const layer = this.catalog.wrapper(use, provides);
      if (layer === undefined) {
        this.#problem('RC1109', place, this.catalog.noWrapper(use, provides));
        return [];
      }
      const lacking = this.catalog.missingPackage(layer);
      if (lacking !== null) this.#problem('RC1108', place, lacking);
      const what: Contributed = { kind: 'middleware', manifest: layer.manifest, plugin: layer.plugin };
      const configPaths = [[...at, 'config']];
      const settings = this.#settingsAt(what, config, configPaths);
      return [{ ...layer, config: settings.value, secrets: unplaced(settings), requires: [], configPaths }];
    });
  }

  /** A configuration, checked; its problems are added. */
  #settingsAt(what: Contributed, given: Readonly<Record<string, unknown>>, paths: readonly ConfigPath[]): Settings {
    const settings = checkSettings(what, given, this.config, paths);
    this.problems.push(...settings.problems);
    return settings;
  }

  /** Adds the instance of a capability that no binding names, if a single adapter can serve it as it stands. */
  #serveUnbound(capability: string, all = false): void {
    if (this.instances.serves(capability) || this.#unbound.get(capability) === null) return;
    if (this.#unbound.has(capability) && !all) return;
    if (Object.hasOwn(this.config.value.bindings ?? {}, capability)) return;
    if (this.#unboundDepth >= UNBOUND_DEPTH_MAX) return;
    this.#unbound.set(capability, null);
    this.#unboundDepth++;
    this.#serveCandidates(capability, all);
    this.#unboundDepth--;
    if (this.#unbound.get(capability) === null) this.#unbound.set(capability, this.#nothingProvides(capability));
  }

  #serveCandidates(capability: string, all: boolean): void {
    const candidates = this.catalog.serving(capability);
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
      const planned = this.#instance(capability, alone ? 'default' : adapter.manifest.id, alone, adapter);
      const settings = checkSettings(adapterOf(planned), {}, this.config, [], `bindings.${capability}.config`);
      const problems = [...settings.problems];
      const lacking = this.catalog.missingPackage(adapter);
      if (lacking !== null) problems.push({ code: 'RC1108', place: null, message: lacking });
      this.#resolveRequires(planned, adapterOf(planned), problems);
      const [problem] = problems;
      if (problem === undefined) {
        this.instances.set(planned.key, { ...planned, config: settings.value });
        continue;
      }
      unservable.push({ name: planned.name, problem });
      this.#unbound.set(capability, {
        ...problem,
        message: `${capability} is not bound, and cannot be served as it stands: ${problem.message}`,
      });
    }
  }

  /** Which instances serve what an adapter or middleware requires, and the secrets of its configuration. */
  #resolveNeeds(
    planned: PlannedInstance,
    what: Contributed,
    secrets: readonly PlannedSecret[],
    configPaths: readonly ConfigPath[],
  ): { requires: Requirement[]; secrets: PlannedSecret[] } {
    return {
      requires: this.#resolveRequires(planned, what, this.problems),
      secrets: secrets.map((secret) => this.#resolveSecret(planned, secret, configPaths)),
    };
  }

  #resolveSecret(planned: PlannedInstance, secret: PlannedSecret, configPaths: readonly ConfigPath[]): PlannedSecret {
    this.#serveUnbound('SecretStore');
    const store = this.instances.named('SecretStore', secret.store);
    if (store !== undefined) return { ...secret, key: store.key };
    if (!this.#broken.has('SecretStore')) {
      const at = configPaths.map((path) => [...path, ...secret.path]).find((path) => this.config.origin(path) !== null);
      const { code, message } = this.explainMissing('SecretStore', secret.store ?? undefined);
      const place = at === undefined ? planned.place : this.config.place(at);
      this.#problem(code, place, `${planned.key} needs the secret "${secret.name}": ${message}`);
    }
    return secret;
  }

  #resolveRequires(planned: PlannedInstance, { kind: of, manifest }: Contributed, problems: Problem[]): Requirement[] {
    return (manifest.requires ?? []).map((text) => {
      const [, capability = '', major, mark, name = null] = /^([^@?*#]+)(@\d+)?(\?|\*)?(?:#(.+))?$/.exec(text) ?? [];
      const kind = mark === '*' ? 'many' : mark === '?' ? 'optional' : 'one';
      const who = `${planned.key} (${of} ${manifest.id}) requires ${text}`;
      this.#serveUnbound(capability, kind === 'many');
      const found =
        kind === 'many' ? this.instances.serving(capability) : [this.instances.named(capability, name) ?? []].flat();
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

  #nothingProvides(capability: string): Problem {
    const known = this.#knownCapabilities;
    const away = this.catalog.whoWouldHave(capability);
    if (away !== null) return { code: 'RC1121', place: null, message: `nothing provides ${capability}${away}` };
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

  /** Of this package and of all plugins that are there. */
  get #knownCapabilities(): readonly string[] {
    this.#known ??= [...new Set([...KNOWN_CAPABILITIES.map(({ name }) => name), ...this.catalog.capabilities])];
    return this.#known;
  }

  #problem(code: ProblemCode, place: Place | null, message: string): void {
    this.problems.push({ code, place, message });
  }
}

function adapterOf({ adapter }: PlannedInstance): Contributed {
  return { kind: 'adapter', ...adapter };
}

/** The secrets of a configuration, before it is known which instance serves them. */
function unplaced({ value }: Settings): PlannedSecret[] {
  return secretsIn(value).references.map((reference) => ({ ...reference, key: '' }));
}
