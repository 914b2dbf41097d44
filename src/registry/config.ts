/**
 * The configuration: plugins.json, or an object of the same shape, with single values set on top; every value knows
 * where it came from. Nothing here knows of plugins.
 */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import jsonc, { type Node } from 'jsonc-parser';
import { show } from '../contracts/ids.js';
import { type Place, type Problem, type ProblemCode, problemsError } from './problems.js';
import { type SchemaFault, validate } from './schema.js';
import { CONFIG_SCHEMA } from './schemas.js';

/** What plugins.json holds. */
export interface HostConfig {
  readonly $schema?: string;
  readonly version?: 1;
  /** What loads: ids of built-in plugins, package names, or folders. Default `["rollout.cloud-local"]`. */
  readonly plugins?: readonly (string | PluginEntry)[];
  /** Who serves what, by capability name. */
  readonly bindings?: Readonly<Record<string, BindingEntry | InstancesEntry>>;
}

export interface PluginEntry {
  /** A built-in plugin's id, a package's name, or a folder, relative to the configuration file. */
  readonly use: string;
  /** Go on without it, with a warning, when it is not there or not fit. Default false. */
  readonly optional?: boolean;
  /** Default true. */
  readonly enabled?: boolean;
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

export type ConfigPath = readonly (string | number)[];

/** A configuration that has the right shape. */
export interface LoadedConfig {
  readonly value: HostConfig;
  /** Relative paths in the configuration are relative to this folder. */
  readonly folder: string;
  /** Where the value at `path` stands, or its nearest ancestor that is written down; `key` for the key before it. */
  place(path: ConfigPath, what?: 'key' | 'value'): Place;
}

export interface ConfigSources {
  /** A path, or an object. Default `./plugins.json`. */
  readonly config?: string | URL | HostConfig;
  /** Values to put on top, by dotted path, e.g. `{ 'bindings.Queue.adapter': 'local.in-mem' }`. `null` deletes. */
  readonly set?: Readonly<Record<string, unknown>>;
}

/** Names that plugins.json or its surroundings may use one day. Until then they are refused, never ignored. */
const LATER = new Map([
  ['profiles', 'profiles'],
  ['replace', '"replace" of a plugin'],
]);

const ENVIRONMENT_PREFIX = 'ROLLOUT_CLOUD__';

/**
 * Reads and checks the configuration.
 * @throws FatalError ConfigInvalid with every problem found in it
 */
export function loadConfig({ config = './plugins.json', set = {} }: ConfigSources): LoadedConfig {
  const base =
    typeof config === 'string' || config instanceof URL
      ? readDocument(resolve(config instanceof URL ? fileURLToPath(config) : config))
      : objectDocument(config);
  const document = setValues(base, set);

  const problems = [
    ...base.problems,
    ...refusedSurroundings(base.file),
    ...refusedValues(document, document.value, []),
  ];
  const faults = validate(CONFIG_SCHEMA, document.value);
  problems.push(...faults.filter(isNews(problems, document)).map((fault) => shapeProblem(fault, document)));
  if (problems.length > 0) throw problemsError(problems);
  return { value: document.value as HostConfig, folder: document.folder, place: document.place };
}

interface Document extends Omit<LoadedConfig, 'value'> {
  readonly value: unknown;
  readonly file: string | null;
  readonly problems: Problem[];
}

function readDocument(file: string): Document {
  const shown = relative(process.cwd(), file).startsWith('..') ? file : relative(process.cwd(), file) || file;
  const failed = (code: ProblemCode, place: Place, message: string) => problemsError([{ code, place, message }]);
  let text: string;
  try {
    text = readFileSync(file, 'utf8').replace(/^\uFEFF/, '');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const found = code === 'ENOENT' ? 'there is no such file' : `it cannot be read (${code})`;
    throw failed('RC1001', { source: shown }, `${found}; create it, or name another configuration file`);
  }

  const lineStarts = [0, ...[...text.matchAll(/\n/g)].map(({ index }) => index + 1)];
  const placeAt = (offset: number): Place => {
    const line = lineStarts.findLastIndex((start) => start <= offset);
    return { source: shown, line: line + 1, column: offset - (lineStarts[line] ?? 0) + 1 };
  };
  const errors: jsonc.ParseError[] = [];
  const root = jsonc.parseTree(text, errors, { allowTrailingComma: true });
  const [error] = errors;
  if (text.trim() === '') throw failed('RC1002', placeAt(0), 'the file is empty; write at least { "bindings": {} }');
  if (error !== undefined || root === undefined) {
    const what = error === undefined ? 'no value' : jsonc.printParseErrorCode(error.error);
    throw failed('RC1002', placeAt(error?.offset ?? 0), `this is not JSON (comments are allowed): ${what}`);
  }
  return {
    value: toValue(root),
    folder: dirname(file),
    file,
    problems: doubleKeys(root).map((key) => ({
      code: 'RC1003',
      place: placeAt(key.offset),
      message: `the key ${show(key.value)} stands here for the second time; keep one`,
    })),
    place: (path, what = 'value') => {
      const node = nodeAt(root, path);
      return placeAt(what === 'key' && node.parent?.type === 'property' ? node.parent.offset : node.offset);
    },
  };
}

function objectDocument(given: HostConfig): Document {
  let value: unknown;
  try {
    value = structuredClone(given);
  } catch (cause) {
    const message = `the configuration has to be plain data: ${(cause as Error).message}`;
    throw problemsError([{ code: 'RC1004', place: { source: 'config' }, message }]);
  }
  return {
    value,
    folder: process.cwd(),
    file: null,
    problems: [],
    place: (path) => ({ source: ['config', ...path].join('.') }),
  };
}

/** Puts single values on top of a document. Their place is their own name. */
function setValues(document: Document, set: Readonly<Record<string, unknown>>): Document {
  const { value } = document;
  // Anything else is refused as a whole.
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return document;
  const before = structuredClone(value);
  for (const [dotted, setTo] of Object.entries(set)) {
    const path = dotted.split('.');
    const last = path.pop() as string;
    let at = value as Record<string, unknown>;
    for (const step of path) {
      const own = Object.hasOwn(at, step) ? at[step] : null;
      if (typeof own !== 'object' || own === null) at[step] = Object.create(null);
      at = at[step] as Record<string, unknown>;
    }
    if (setTo === null) delete at[last];
    else at[last] = structuredClone(setTo);
  }
  const dotted = Object.keys(set);
  return {
    ...document,
    place: (path, what) => {
      const wanted = path.join('.');
      // What a value was set into, the file has a place for, unless it came to be by that.
      const own =
        dotted.find((key) => wanted === key || wanted.startsWith(`${key}.`)) ??
        (isThere(before, path) ? undefined : dotted.find((key) => key.startsWith(`${wanted}.`)));
      return own === undefined ? document.place(path, what) : { source: `set ${own}` };
    },
  };
}

function isThere(value: unknown, path: ConfigPath): boolean {
  const [step, ...rest] = path;
  if (step === undefined) return true;
  return typeof value === 'object' && value !== null && Object.hasOwn(value, step)
    ? isThere((value as Record<string | number, unknown>)[step], rest)
    : false;
}

function refusedSurroundings(file: string | null): Problem[] {
  const problems: Problem[] = [];
  if (file !== null) {
    const local = join(dirname(file), 'plugins.local.json');
    if (existsSync(local)) problems.push(later(null, `the file ${local}`));
  }
  for (const name of Object.keys(process.env)) {
    if (name.startsWith(ENVIRONMENT_PREFIX)) problems.push(later(null, `the environment variable ${name}`));
  }
  return problems;
}

/** Finds, at any depth, what is written for a later version. */
function refusedValues(document: Document, value: unknown, path: ConfigPath): Problem[] {
  if (typeof value === 'string') {
    return value.includes('${env:') ? [later(document.place(path), '${env:…}')] : [];
  }
  if (typeof value !== 'object' || value === null) return [];
  // A list of adapters is one of preference.
  if (Array.isArray(value) && path[0] === 'bindings' && path.at(-1) === 'adapter') {
    return [later(document.place(path), 'a list of adapters')];
  }
  if ('$secret' in value) return [later(document.place(path), '{ "$secret": … }')];
  return Object.entries(value).flatMap(([key, child]) => {
    const childPath = [...path, Array.isArray(value) ? Number(key) : key];
    const name = isShape(childPath) ? LATER.get(key) : undefined;
    return name === undefined
      ? refusedValues(document, child, childPath)
      : [later(document.place(childPath, 'key'), name)];
  });
}

/** Whether a key belongs to the shape of plugins.json, not to an adapter's own configuration. */
function isShape(path: ConfigPath): boolean {
  if (path[0] !== 'bindings') return path.length === 1 || path[0] === 'plugins';
  // What stands right under `instances` is a name.
  return !path.slice(0, -1).includes('config') && path.length > 2 && path.at(-2) !== 'instances';
}

function later(place: Place | null, what: string): Problem {
  return { code: 'RC1005', place, message: `${what}: not supported by this version; remove it` };
}

/** A value refused by name is not refused a second time for its shape. */
function isNews(problems: readonly Problem[], document: Document): (fault: SchemaFault) => boolean {
  const told = new Set(problems.map(({ place }) => JSON.stringify(place)));
  return ({ path, unknownKey }) =>
    !told.has(JSON.stringify(document.place(path))) &&
    (unknownKey === null || !told.has(JSON.stringify(document.place([...path, unknownKey], 'key'))));
}

function shapeProblem({ path, unknownKey, message }: SchemaFault, document: Document): Problem {
  return unknownKey === null
    ? { code: 'RC1004', place: document.place(path), message }
    : { code: 'RC1003', place: document.place([...path, unknownKey], 'key'), message };
}

/** Plain data without prototypes, so that a key like `__proto__` is a key. */
function toValue(node: Node): unknown {
  if (node.type === 'array') return (node.children ?? []).map(toValue);
  if (node.type !== 'object') return node.value;
  const object = Object.create(null);
  for (const [key, value] of properties(node))
    if (key !== undefined && value !== undefined) object[key.value] = toValue(value);
  return object;
}

function doubleKeys(node: Node): Node[] {
  const seen = new Set<unknown>();
  return (node.children ?? []).flatMap((child) => {
    if (node.type !== 'object') return doubleKeys(child);
    const [key, value] = child.children ?? [];
    const double = key !== undefined && seen.size === seen.add(key.value).size ? [key] : [];
    return [...double, ...(value === undefined ? [] : doubleKeys(value))];
  });
}

function nodeAt(root: Node, path: ConfigPath): Node {
  let node = root;
  for (const step of path) {
    const next: Node | undefined =
      node.type === 'array'
        ? node.children?.[Number(step)]
        : properties(node).find(([key]) => key?.value === String(step))?.[1];
    if (next === undefined) break;
    node = next;
  }
  return node;
}

function properties(node: Node): (readonly [Node | undefined, Node | undefined])[] {
  return (node.children ?? []).map(({ children }) => [children?.[0], children?.[1]] as const);
}
