/**
 * The configuration: layers of plain data, each put on top of those below, in which every value knows where it came from.
 * Nothing here knows of plugins. Low to high:
 *
 * 1. `plugins.json`, or an object of the same shape in its place
 * 2. `profiles.<name>` of it, for the profile that is asked for
 * 3. `plugins.local.json` beside it, which one machine has and nobody commits; its profile of that name goes with 2.
 * 4. environment variables `ROLLOUT_CLOUD__bindings__Queue__adapter`
 * 5. `set`, single values by their path: `--set` of the command line
 * 6. objects that `config` lists after the file
 *
 * What an object in the place of the file says, the surroundings do not change: 3 and 4 are of files alone.
 */
import { existsSync } from 'node:fs';
import { basename, dirname, extname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as check from '../contracts/arguments.js';
import { show } from '../contracts/ids.js';
import {
  type ConfigPath,
  DEPTH_MAX,
  exactlyAt,
  fromValue,
  type Layer,
  type ParsedDocument,
  parseDocument,
  placeIn,
  readText,
  toValue,
  type Written,
} from './document.js';
import { interpolate, putOnTop, settings } from './layers.js';
import { type Place, type Problem, problemsError, suggest } from './problems.js';
import { describe, type SchemaFault, validate } from './schema.js';
import { CONFIG_SCHEMA, PROFILES_SCHEMA } from './schemas.js';

export type { ConfigPath } from './document.js';

/** What plugins.json holds. */
export interface HostConfig {
  readonly $schema?: string;
  readonly version?: 1;
  /** What loads: ids of built-in plugins, package names, or folders. Default `["rollout.cloud-local"]`. */
  readonly plugins?: readonly (string | PluginEntry)[];
  /**
   * Where plugins are found without being listed: `folder` is `./plugins/*`, `dependency` those of the package. Default
   * `["folder"]`.
   */
  readonly discover?: readonly ('folder' | 'dependency')[];
  /** Who serves what, by capability name. */
  readonly bindings?: Readonly<Record<string, BindingEntry | InstancesEntry>>;
  /** What is put on top of the rest where a profile is asked for, by its name. `null` deletes what stands below it. */
  readonly profiles?: Readonly<Record<string, object>>;
}

export interface PluginEntry {
  /** A built-in plugin's id, a package's name, or a folder, relative to the configuration file. */
  readonly use: string;
  /** Go on without it, with a warning, when it is not there or not fit. Default false. */
  readonly optional?: boolean;
  /** Default true. */
  readonly enabled?: boolean;
  /** Take the place of the built-in plugin that has the same id. Default false. */
  readonly replace?: boolean;
}

/** Something by its id, with a configuration of its own. */
export interface UseEntry {
  readonly use: string;
  readonly config?: Readonly<Record<string, unknown>>;
}

export interface BindingEntry {
  /** The adapter's id; or several in order of preference, of which the first that is available serves. */
  readonly adapter: string | readonly (string | UseEntry)[];
  /** What the adapter's manifest describes. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** What is put around the instance, outermost first. */
  readonly middleware?: readonly (string | (UseEntry & { readonly enabled?: boolean }))[];
  /** Features that the adapter has to declare. */
  readonly require?: readonly string[];
  /** Go on without it, with a warning, when its adapter is not available. Default false. */
  readonly optional?: boolean;
  /** Default true. */
  readonly enabled?: boolean;
  /** What `host.start()` does when it cannot be activated. Default `abort`. */
  readonly onFailure?: 'abort' | 'continue';
}

/** Several instances of one capability, by name. */
export interface InstancesEntry {
  /** Which one is meant where no name is given. Default: the one named `default`, else the only one. */
  readonly default?: string;
  readonly instances: Readonly<Record<string, BindingEntry>>;
}

/** A configuration whose parts have the right shape, but for those that are named as broken. */
export interface LoadedConfig {
  readonly value: HostConfig;
  /** The configuration file; `null` for an object. */
  readonly file: string | null;
  /** Relative paths in the configuration are relative to this folder. */
  readonly folder: string;
  /** The environment that it was read in, and that plugins are planned for. */
  readonly env: Environment;
  /** What is wrong with its shape. The rest can be planned all the same, to tell of everything at once. */
  readonly problems: readonly Problem[];
  readonly warnings: readonly string[];
  /** Whether the value at `path`, or a part of it, is at fault and is to be left alone. */
  isBroken(path: ConfigPath): boolean;
  /** Whether the value at `path`, or a part of it, names an environment variable that is not set: that is told. */
  isUnset(path: ConfigPath): boolean;
  /** Where the value at `path` stands, or its nearest ancestor that is written down; `key` for the key before it. */
  place(path: ConfigPath, what?: 'key' | 'value'): Place;
  /** Where the value at `path` came from, where it is written down. */
  origin(path: ConfigPath): ValueOrigin | null;
  /** Ids of other adapters that the configuration at `path` was written for, too. */
  beside(path: ConfigPath): readonly string[];
}

export type Environment = Readonly<Record<string, string | undefined>>;

/** Where a value came from, as plain data. */
export interface ValueOrigin {
  readonly layer: Layer | 'default';
  /** `null` for a default of a schema. */
  readonly place: Place | null;
  /** Environment variables that are part of the value. */
  readonly variables: readonly string[];
}

export interface ConfigSources {
  /** A path, or an object. Default `./plugins.json`. Of a list, what follows the first is put on top of everything. */
  readonly config?: ConfigSource | readonly [ConfigSource, ...HostConfig[]];
  /** Which of the configuration's `profiles` to put on top. Default none. */
  readonly profile?: string;
  /**
   * Values to put on top, by dotted path, e.g. `{ 'bindings.Queue.adapter': 'local.in-mem' }`. Objects merge, `null`
   * deletes; a dot in a name is written `\\.`.
   */
  readonly set?: Readonly<Record<string, unknown>>;
  /** Default `process.env`. */
  readonly env?: Environment;
}

type ConfigSource = string | URL | HostConfig;

const ENVIRONMENT_PREFIX = 'ROLLOUT_CLOUD__';

/** @throws FatalError SchemaViolation: one of the wrong type */
function checkSources({ config, profile, set, env }: ConfigSources): void {
  for (const [index, source] of (Array.isArray(config) ? config : [config]).entries()) {
    if (source instanceof URL && source.protocol !== 'file:') {
      throw check.invalid('options.config', 'a file', source.href);
    }
    const types = index > 0 ? ['object'] : ['undefined', 'string', 'object'];
    if (source === null || Array.isArray(source) || !types.includes(typeof source)) {
      throw check.invalid('options.config', index > 0 ? 'followed by objects' : 'a path or an object', source);
    }
  }
  if (profile !== undefined) check.text('options.profile', profile, 1, 256);
  if (set !== undefined) check.options('options.set', set);
  if (env !== undefined) check.options('options.env', env);
}

/**
 * Reads the layers and puts them together.
 * @throws FatalError SchemaViolation: a source of the wrong type. FatalError ConfigInvalid when a layer cannot be read, or the whole has not even the shape of a configuration
 */
export function loadConfig(sources: ConfigSources): LoadedConfig {
  checkSources(sources);
  const { config = './plugins.json', profile, set = {}, env = process.env } = sources;
  const [source, ...overlays] = (Array.isArray(config) ? config : [config]) as [ConfigSource, ...HostConfig[]];
  const file =
    typeof source === 'string' || source instanceof URL
      ? resolve(source instanceof URL ? fileURLToPath(source) : source)
      : null;
  const base = file === null ? objectDocument(source, 'file', 'config') : fileDocument(file, 'file');
  const local = file === null ? null : localDocument(file);
  const doubles = [...base.doubles, ...(local?.doubles ?? [])];
  const problems: Problem[] = doubles.map(({ place, message }) => ({ code: 'RC1003', place, message }));
  const places = { problems, broken: new Broken() };
  const unset = new Broken();

  const ground = [base.root, ...(local === null ? [] : [local.root])];
  const tops = [
    ...profileLayers(profile, ground, problems),
    ...ground.slice(1).map((layer) => without(layer, 'profiles')),
    ...(file === null ? [] : settings(environmentSettings(env, problems))),
    ...settings(optionSettings(set, problems)),
    ...overlays.map((overlay, i) => objectDocument(overlay, 'options', `config.${i + 1}`).root),
  ];
  const merged = tops.reduce(putOnTop, without(base.root, 'profiles'));
  const stray = merged.fields?.get('profiles');
  if (stray !== undefined) {
    const message = 'profiles: profiles stand in the configuration file; here, set the value itself';
    problems.push({ code: 'RC1003', place: stray.origin.place(), message });
  }
  const root = interpolate(merged, env, ({ path, place, message }) => {
    problems.push({ code: 'RC1103', place, message });
    // A setting of an adapter that is not known yet leaves the rest of its binding to be checked.
    if (path[0] === 'bindings' && path.includes('config')) unset.add(path);
    else places.broken.add(path);
  });
  const value = toValue(root);
  // Profiles that nobody asked for are checked, too: a slip shows now, not on the day they are needed.
  addFaults(places, root, validate(CONFIG_SCHEMA, value, showInConfig));
  for (const layer of ground) {
    const profiles = layer.fields?.get('profiles');
    if (profiles === undefined) continue;
    const holder: Written = { ...layer, fields: new Map([['profiles', profiles]]) };
    addFaults(places, holder, validate(PROFILES_SCHEMA, toValue(holder), showInConfig));
  }
  if (places.broken.isHopeless()) throw problemsError(problems);
  return {
    value: value as HostConfig,
    file,
    folder: file === null ? process.cwd() : dirname(file),
    env,
    problems,
    warnings: file === null ? unusedVariables(env) : [],
    isBroken: (path) => places.broken.has(path),
    isUnset: (path) => unset.has(path),
    place: (path, what) => placeIn(root, path, what),
    origin: (path) => originIn(root, path),
    beside: (path) => exactlyAt(root, path)?.beside ?? [],
  };
}

/** Paths that are at fault. */
class Broken {
  readonly #paths = new Set<string>();
  readonly #above = new Set<string>();

  add(path: ConfigPath): void {
    this.#paths.add(path.join('\0'));
    for (let length = 0; length < path.length; length++) this.#above.add(path.slice(0, length).join('\0'));
  }

  /** Whether the value at `path`, a part of it, or what it is a part of is at fault. */
  has(path: ConfigPath): boolean {
    const steps = path.map((_step, i) => path.slice(0, i + 1).join('\0'));
    return steps.some((step) => this.#paths.has(step)) || this.#above.has(path.join('\0'));
  }

  /** Whether nothing can be made of the rest. */
  isHopeless(): boolean {
    return ['', 'plugins', 'bindings'].some((path) => this.#paths.has(path));
  }
}

/** What stands in the place of a `config` may be a secret: an address with its password, say. */
function showInConfig(found: unknown, path: readonly string[]): string {
  return path.at(-1) === 'config' ? describe(found) : show(found);
}

/** Adds what is not told of at the same place already. */
function addFaults(
  { problems, broken }: { problems: Problem[]; broken: Broken },
  root: Written,
  faults: readonly SchemaFault[],
): void {
  const told = new Set(problems.map(({ place }) => JSON.stringify(place)));
  for (const { path, unknownKey, message } of faults) {
    const place = unknownKey === null ? placeIn(root, path) : placeIn(root, [...path, unknownKey], 'key');
    // A key that is not known leaves the rest as it is.
    if (unknownKey === null) broken.add(path);
    if (!told.has(JSON.stringify(place)))
      problems.push({ code: unknownKey === null ? 'RC1004' : 'RC1003', place, message });
  }
}

function fileDocument(file: string, layer: Layer): ParsedDocument {
  const fromHere = relative(process.cwd(), file);
  const shown = fromHere.startsWith('..') ? file : fromHere || file;
  let text: string;
  try {
    text = readText(file);
  } catch (error) {
    const message = `${whyUnread(error as NodeJS.ErrnoException)}, or name another configuration file`;
    throw problemsError([{ code: 'RC1001', place: { source: shown }, message }]);
  }
  return parseDocument(text, shown, layer);
}

/** Why a file could not be read, and what to do. */
function whyUnread({ code, message }: NodeJS.ErrnoException): string {
  if (code === undefined) return message;
  if (code === 'ENOENT') return 'there is no such file; create it';
  if (code === 'EISDIR') return 'it is a folder; name the file in it';
  return `it cannot be read (${code}); make it readable`;
}

/** `plugins.local.json` beside `plugins.json`, where there is one. */
function localDocument(file: string): ParsedDocument | null {
  const extension = extname(file);
  const local = join(dirname(file), `${basename(file, extension)}.local${extension}`);
  if (!existsSync(local)) return null;
  const document = fileDocument(local, 'local');
  if (document.root.fields !== undefined) return document;
  const message = 'the whole value must be of type object';
  throw problemsError([{ code: 'RC1004', place: document.root.origin.place(), message }]);
}

function objectDocument(given: unknown, layer: Layer, name: string): ParsedDocument {
  try {
    const root = fromValue(structuredClone(given), layer, (path) => ({ source: [name, ...path].join('.') }));
    return { root, doubles: [] };
  } catch (cause) {
    const message = `the configuration has to be plain data: ${(cause as Error).message}`;
    throw problemsError([{ code: 'RC1004', place: { source: name }, message }]);
  }
}

/** What the profile puts on top, of the file and of the local one. */
function profileLayers(profile: string | undefined, layers: readonly Written[], problems: Problem[]): Written[] {
  if (profile === undefined) return [];
  const all = layers.flatMap((layer) => layer.fields?.get('profiles') ?? []);
  const chosen = all.flatMap((profiles) => profiles.fields?.get(profile) ?? []);
  if (chosen.length === 0) {
    const known = suggest(profile, [...new Set(all.flatMap(({ fields }) => [...(fields?.keys() ?? [])]))]);
    const place = all[0]?.keyPlace?.() ?? layers[0]?.origin.place() ?? null;
    const message = `there is no profile ${show(profile)}.${known || ' The configuration has no profiles.'}`;
    throw problemsError([...problems, { code: 'RC1006', place, message }]);
  }
  // What is no object is refused where all profiles are checked.
  return chosen.filter(({ fields }) => fields !== undefined);
}

type Setting = readonly [path: readonly string[], value: Written];

function settingNames(env: Environment): string[] {
  return Object.keys(env)
    .filter((name) => name.startsWith(ENVIRONMENT_PREFIX) && env[name] !== undefined)
    .sort();
}

function unusedVariables(env: Environment): string[] {
  const names = settingNames(env).join(', ');
  if (names === '') return [];
  return [
    `the configuration is an object, on top of which the environment is not put: ${names} has no effect. Name a file, or hand over what it says as "set"`,
  ];
}

function environmentSettings(env: Environment, problems: Problem[]): Setting[] {
  return settingNames(env).flatMap((name) => {
    const path = name.slice(ENVIRONMENT_PREFIX.length).split('__');
    return setting(path, parseSetting(env[name] ?? ''), 'environment', `env ${name}`, problems);
  });
}

function optionSettings(set: Readonly<Record<string, unknown>>, problems: Problem[]): Setting[] {
  return Object.entries(set).flatMap(([dotted, value]) => {
    const path = dotted.split(/(?<!\\)\./).map((step) => step.replaceAll('\\.', '.'));
    return setting(path, value, 'set', `set ${dotted}`, problems);
  });
}

/** What somebody set as text: JSON where it parses as such, else the text itself. */
export function parseSetting(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function setting(
  path: readonly string[],
  value: unknown,
  layer: Layer,
  source: string,
  problems: Problem[],
): Setting[] {
  if (path.includes('')) {
    const message = 'a step of the path is empty; write it as bindings, Queue, adapter, one after the other';
    problems.push({ code: 'RC1003', place: { source }, message });
    return [];
  }
  try {
    if (path.length > DEPTH_MAX) throw new RangeError(`it is nested deeper than ${DEPTH_MAX} levels`);
    return [[path, fromValue(structuredClone(value), layer, () => ({ source }))]];
  } catch (cause) {
    const message = `the value has to be plain data: ${(cause as Error).message}`;
    problems.push({ code: 'RC1004', place: { source }, message });
    return [];
  }
}

function originIn(root: Written, path: ConfigPath): ValueOrigin | null {
  const node = exactlyAt(root, path);
  if (node === undefined) return null;
  const { layer, place, variables = [] } = node.origin;
  return { layer, place: place(), variables };
}

function without(written: Written, key: string): Written {
  if (written.fields?.has(key) !== true) return written;
  return { ...written, fields: new Map([...written.fields].filter(([name]) => name !== key)) };
}
