/** JSON Schema checks whose faults are sentences, through Ajv. */
import { createRequire } from 'node:module';
import { isAbsolute, resolve } from 'node:path';
import type { Ajv, ErrorObject, ValidateFunction } from 'ajv';
import { show } from '../contracts/ids.js';
import { PRECOMPILED } from './precompiled.js';
import { suggest } from './problems.js';
import { AJV_OPTIONS, type JsonSchema } from './schemas.js';

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
 * @throws Error when the schema itself is not valid
 */
export function validate(schema: JsonSchema, value: unknown): SchemaFault[] {
  const check = PRECOMPILED.get(JSON.stringify(schema)) ?? compile(schema);
  return check(value) ? [] : (check.errors ?? []).filter(({ keyword }) => keyword !== 'if').map(toFault);
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

/** Makes every string that the schema calls a path absolute, from `folder` on. In place, through nested objects. */
export function resolvePaths(schema: JsonSchema, value: Record<string, unknown>, folder: string): void {
  for (const [key, property] of Object.entries((schema.properties ?? {}) as Record<string, JsonSchema>)) {
    const found = value[key];
    if (typeof found === 'string' && property.format === 'path' && !isAbsolute(found)) {
      value[key] = resolve(folder, found);
    } else if (typeof found === 'object' && found !== null) {
      resolvePaths(property, found as Record<string, unknown>, folder);
    }
  }
}

function toFault({ instancePath, keyword, params, data, message, parentSchema }: ErrorObject): SchemaFault {
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
      return fault(`${at()} must be of type ${[params.type].flat().join(' or ')}, found ${show(data)}`);
    case 'enum':
      return fault(`${at()} must be one of ${params.allowedValues.map(show).join(', ')}, found ${show(data)}`);
    case 'const':
      return fault(`${at()} must be ${show(params.allowedValue)}, found ${show(data)}`);
    default:
      return fault(`${at()} ${message}, found ${show(data)}`);
  }

  function fault(text: string): SchemaFault {
    return { path, unknownKey: null, message: text };
  }
}
