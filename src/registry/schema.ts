/** JSON Schema checks whose faults are sentences, through Ajv. */
import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import type { Ajv, ErrorObject, ValidateFunction } from 'ajv';
import { show } from '../contracts/ids.js';
import { PRECOMPILED } from './precompiled.js';
import { suggest } from './problems.js';
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
export function validate(schema: JsonSchema, value: unknown, shown: (found: unknown) => string = show): SchemaFault[] {
  const check = validatorOf(schema);
  return check(value) ? [] : (check.errors ?? []).filter(isOwnFault).map((error) => toFault(error, shown));
}

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
  return mapWith(schema, value, (own, found) =>
    own.format === 'path' && typeof found === 'string' ? resolve(folder, found) : found,
  );
}

/** A copy of `value` without what the schema marks as sensitive. */
export function redact<T>(schema: JsonSchema, value: T): T {
  return mapWith(schema, value, (own, found) => (own.sensitive === true ? '[redacted]' : found));
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

/** Applies `change` to each value that the schema describes by `properties`, `items` or `additionalProperties`. */
function mapWith<T>(schema: JsonSchema, value: T, change: (schema: JsonSchema, value: unknown) => unknown): T {
  const changed = change(schema, value);
  const { items, additionalProperties: others } = schema;
  if (Array.isArray(changed)) {
    return (isSchema(items) ? changed.map((each) => mapWith(items, each, change)) : changed) as T;
  }
  if (typeof changed !== 'object' || changed === null) return changed as T;
  const properties = (schema.properties ?? {}) as Record<string, JsonSchema>;
  const entries = Object.entries(changed).map(([key, each]) => {
    const own = Object.hasOwn(properties, key) ? properties[key] : others;
    return [key, isSchema(own) ? mapWith(own, each, change) : each];
  });
  return Object.fromEntries(entries) as T;
}

/** What a setting is, without what it says: it may be a secret that was pasted into the wrong place. */
export function describe(found: unknown): string {
  return typeof found === 'string' ? `a text of ${found.length} characters` : show(found);
}

/** `if` and what stands under `propertyNames` say again what another fault says. */
function isOwnFault({ keyword, propertyName }: ErrorObject): boolean {
  return keyword !== 'if' && (keyword === 'propertyNames' || propertyName === undefined);
}

function toFault(error: ErrorObject, shown: (found: unknown) => string): SchemaFault {
  const { instancePath, keyword, params, data, message, parentSchema } = error;
  // A JSON pointer: ~1 stands for a slash, ~0 for a tilde.
  const path = instancePath
    .split('/')
    .slice(1)
    .map((step) => step.replace(/~1/g, '/').replace(/~0/g, '~'));
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
      return fault(`${at()} must be of type ${[params.type].flat().join(' or ')}, found ${shown(data)}`);
    case 'enum':
      return fault(`${at()} must be one of ${params.allowedValues.map(show).join(', ')}, found ${shown(data)}`);
    case 'const':
      return fault(`${at()} must be ${show(params.allowedValue)}, found ${shown(data)}`);
    default:
      return fault(`${at()} ${message}, found ${shown(data)}`);
  }

  function fault(text: string): SchemaFault {
    return { path, unknownKey: null, message: text };
  }
}
