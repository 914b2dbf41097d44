/** JSON Schema checks whose faults are sentences, through Ajv. */
import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import type { Ajv, ErrorObject, ValidateFunction } from 'ajv';
import { show } from '../contracts/ids.js';
import { PRECOMPILED } from './precompiled.js';
import { suggest, withoutDot } from './problems.js';
import { AJV_OPTIONS, isSchema, type JsonSchema } from './schemas.js';

/** What Ajv makes of a schema. */
export type Validator = ValidateFunction;

export interface SchemaFault {
  /** The object or value that is at fault. */
  readonly path: readonly string[];
  /** The key of it that is not known, where that is the fault. */
  readonly unknownKey: string | null;
  /** The fault and what to do; names the path. */
  readonly message: string;
}

/**
 * Checks `value`, an own copy: defaults are filled in.
 * @param shown how a value that is at fault may stand in a message
 * @throws Error when the schema itself is not valid
 */
export function validate(schema: JsonSchema, value: unknown, shown: Shown = show): SchemaFault[] {
  const check = validatorOf(schema);
  return check(value) ? [] : (check.errors ?? []).filter(isOwnFault).map((error) => toFault(error, shown));
}

type Shown = (found: unknown, path: readonly string[]) => string;

/** Validators by schema: by the object while it lives, and by its text, as each host reads manifests anew. */
const BY_OBJECT = new WeakMap<JsonSchema, Validator>();
const BY_TEXT = new Map<string, Validator>();
/** A process that makes host after host keeps the last so many, at some 10 KiB each. */
const VALIDATORS_MAX = 500;

function validatorOf(schema: JsonSchema): Validator {
  let found = BY_OBJECT.get(schema);
  if (found !== undefined) return found;
  const text = JSON.stringify(schema);
  found = PRECOMPILED.get(text) ?? BY_TEXT.get(text);
  if (found === undefined) {
    found = compile(schema);
    if (BY_TEXT.size >= VALIDATORS_MAX) BY_TEXT.delete(BY_TEXT.keys().next().value as string);
    BY_TEXT.set(text, found);
  }
  BY_OBJECT.set(schema, found);
  return found;
}

/** One for all, and none before it is needed: importing Ajv takes 30 ms, and compiling its own schema for schemas 30 more. */
let ajv: Ajv | undefined;

function compile(schema: JsonSchema): Validator {
  const require = createRequire(import.meta.url);
  ajv ??= new (require('ajv') as typeof import('ajv')).Ajv(AJV_OPTIONS);
  try {
    return ajv.compile(schema);
  } finally {
    // Ajv keeps every schema it has seen, and refuses a second one with the same $id.
    ajv.removeSchema(schema);
  }
}

/** A copy of `value` in which every string that the schema calls a path is absolute, from `folder` on. */
export function resolvePaths<T>(schema: JsonSchema, value: T, folder: string): T {
  const parts = (own: JsonSchema) => partsOf(own, schema, CERTAIN);
  return mapWith([schema], value, parts, (own, found) =>
    own.format === 'path' && typeof found === 'string' ? resolve(folder, found) : found,
  );
}

/**
 * A copy of `value` without what the schema marks as sensitive. Of alternatives (`anyOf`, `oneOf`, `if`) it is enough that
 * one says so: which of them holds is not looked at.
 */
export function redact<T>(schema: JsonSchema, value: T): T {
  const parts = (own: JsonSchema) => partsOf(own, schema, [...CERTAIN, ...POSSIBLE]);
  return mapWith([schema], value, parts, (own, found) => (own.sensitive === true ? '[redacted]' : found));
}

/** Every text in `value` that {@link redact} would take out of it. */
export function sensitiveTexts(schema: JsonSchema, value: unknown): string[] {
  const found: string[] = [];
  const collect = (part: unknown): void => {
    if (typeof part === 'string') found.push(part);
    else for (const each of Object.values(Object(part))) collect(each);
  };
  const parts = (own: JsonSchema) => partsOf(own, schema, [...CERTAIN, ...POSSIBLE]);
  mapWith([schema], value, parts, (own, part) => {
    if (own.sensitive === true) collect(part);
    return part;
  });
  return found;
}

/** Keywords whose schemas describe the same value, always or perhaps. */
const CERTAIN = ['allOf'];
const POSSIBLE = ['anyOf', 'oneOf', 'if', 'then', 'else'];

/** A schema and all that it says of the same value elsewhere: under `keywords`, and where `$ref` points to in `root`. */
function partsOf(schema: JsonSchema, root: JsonSchema, keywords: readonly string[]): Set<JsonSchema> {
  const parts = new Set<JsonSchema>();
  const add = (own: unknown): void => {
    if (!isSchema(own) || parts.has(own)) return;
    parts.add(own);
    for (const keyword of keywords) for (const part of [own[keyword]].flat()) add(part);
    if (typeof own.$ref === 'string') add(referred(own.$ref, root));
  };
  add(schema);
  return parts;
}

/** What a reference within the same schema points to, as `#/$defs/token`. */
function referred($ref: string, root: JsonSchema): unknown {
  if (!$ref.startsWith('#')) return undefined;
  const steps = stepsOf(decodeURIComponent($ref.slice(1)));
  return steps.reduce<unknown>((at, step) => (Object.hasOwn(Object(at), step) ? Object(at)[step] : undefined), root);
}

/** Of a JSON pointer: ~1 stands for a slash, ~0 for a tilde. */
function stepsOf(pointer: string): string[] {
  const steps = pointer.split('/').slice(1);
  return steps.map((step) => step.replace(/~1/g, '/').replace(/~0/g, '~'));
}

/**
 * A copy of `value` in which text that was filled in from elsewhere, as `"${env:PORT}"` is, has become the number or
 * boolean that the schema asks for, where it is the text of one.
 */
export function coerce(
  schema: JsonSchema,
  value: unknown,
  isFilledIn: (path: readonly (string | number)[]) => boolean,
  path: readonly (string | number)[] = [],
): unknown {
  const { type, properties, items, additionalProperties: others } = schema;
  if (typeof value === 'string') {
    const wanted = type === 'integer' ? 'number' : type;
    if ((wanted !== 'number' && wanted !== 'boolean') || !isFilledIn(path)) return value;
    const parsed = /^(true|false|-?\d+(\.\d+)?)$/.test(value)
      ? JSON.parse(value.replace(/^(-?)0+(?=\d)/, '$1'))
      : value;
    return typeof parsed === wanted ? parsed : value;
  }
  if (Array.isArray(value)) {
    return isSchema(items) ? value.map((each, i) => coerce(items, each, isFilledIn, [...path, i])) : value;
  }
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).map(([key, each]) => {
    const own = isSchema(properties) && Object.hasOwn(properties, key) ? properties[key] : others;
    return [key, isSchema(own) ? coerce(own, each, isFilledIn, [...path, key]) : each];
  });
  return Object.fromEntries(entries);
}

/** Applies `change` to each value with each schema that describes it. */
function mapWith<T>(
  schemas: readonly JsonSchema[],
  value: T,
  parts: (schema: JsonSchema) => Iterable<JsonSchema>,
  change: (schema: JsonSchema, value: unknown) => unknown,
): T {
  const all = schemas.flatMap((schema) => [...parts(schema)]);
  const changed = all.reduce<unknown>((found, schema) => change(schema, found), value);
  if (typeof changed !== 'object' || changed === null) return changed as T;
  if (Array.isArray(changed)) {
    return changed.map((each, i) => mapWith(ofItem(all, i), each, parts, change)) as T;
  }
  const entries = Object.entries(changed).map(([key, each]) => [key, mapWith(ofKey(all, key), each, parts, change)]);
  return Object.fromEntries(entries) as T;
}

function ofItem(schemas: readonly JsonSchema[], index: number): JsonSchema[] {
  return schemas
    .map(({ items, additionalItems }) => (Array.isArray(items) ? (items[index] ?? additionalItems) : items))
    .filter(isSchema);
}

function ofKey(schemas: readonly JsonSchema[], key: string): JsonSchema[] {
  const found = schemas.flatMap(({ properties, patternProperties, additionalProperties }) => {
    const named = Object.hasOwn(Object(properties), key) ? [Object(properties)[key]] : [];
    const patterns = Object.entries(Object(patternProperties)).filter(([pattern]) =>
      new RegExp(pattern, 'u').test(key),
    );
    const own = [...named, ...patterns.map(([, schema]) => schema)];
    return own.length > 0 ? own : [additionalProperties];
  });
  return found.filter(isSchema);
}

/** `1 character`, `3 items`: what the keyword counts. */
function parts(keyword: string, limit: number): string {
  const what = keyword.endsWith('Length') ? 'character' : keyword.endsWith('Items') ? 'item' : 'key';
  return `${limit} ${what}${limit === 1 ? '' : 's'}`;
}

/** What a setting is, without what it says: it may be a secret that was pasted into the wrong place. */
export function describe(found: unknown, isSensitive = false): string {
  if (typeof found === 'string') return `a text of ${found.length} characters`;
  return isSensitive && typeof found === 'number' ? 'a number' : show(found);
}

/** `if` and what stands under `propertyNames` say again what another fault says. */
function isOwnFault({ keyword, propertyName }: ErrorObject): boolean {
  return keyword !== 'if' && (keyword === 'propertyNames' || propertyName === undefined);
}

function toFault(error: ErrorObject, shown: Shown): SchemaFault {
  const { instancePath, keyword, params, data, message, parentSchema } = error;
  const path = stepsOf(instancePath);
  const found = Object(parentSchema).sensitive === true ? describe(data, true) : shown(data, path);
  const at = (more: readonly string[] = []) => [...path, ...more].join('.') || 'the whole value';
  switch (keyword) {
    case 'additionalProperties': {
      const key = params.additionalProperty as string;
      const known = Object.keys((parentSchema?.properties ?? {}) as object);
      return { path, unknownKey: key, message: `${at([key])}: unknown key.${suggest(key, known)}` };
    }
    case 'propertyNames':
      return fault(`${at([params.propertyName])}: the name has characters that are not allowed`);
    case 'required':
      return fault(`${at([params.missingProperty])} is missing`);
    case 'type':
      return fault(`${at()} must be of type ${[params.type].flat().join(' or ')}, found ${found}`);
    case 'enum':
      return fault(`${at()} must be one of ${params.allowedValues.map(show).join(', ')}, found ${found}`);
    case 'const':
      return fault(`${at()} must be ${show(params.allowedValue)}, found ${found}`);
    case 'minLength':
    case 'minItems':
    case 'minProperties':
      return fault(`${at()} must have at least ${parts(keyword, params.limit)}, found ${found}`);
    case 'maxLength':
    case 'maxItems':
    case 'maxProperties':
      return fault(`${at()} must have at most ${parts(keyword, params.limit)}, found ${found}`);
    case 'uniqueItems':
      return fault(`${at()} must not have the same item twice: ${params.j} and ${params.i} are`);
    case 'pattern': {
      const { description } = Object(parentSchema) as { readonly description?: unknown };
      const meant = typeof description === 'string' ? `: ${withoutDot(description)}` : '';
      return fault(`${at()} ${message}, found ${found}${meant}`);
    }
    default:
      return fault(`${at()} ${message}, found ${found}`);
  }

  function fault(text: string): SchemaFault {
    return { path, unknownKey: null, message: text };
  }
}
