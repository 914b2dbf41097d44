/**
 * The schemas that editors complete plugins.json and plugin.json with. That of plugins.json is made from what is
 * installed: it knows each adapter's id, its configuration and its features. Plain data, as schemas.ts.
 */
import {
  adapterSchema,
  CONFIG_SCHEMA,
  isSchema,
  type JsonSchema,
  MANIFEST_SCHEMA,
  nameOf,
  PROFILES_SCHEMA,
} from './schemas.js';

/** The dialect that editors know best. */
const DIALECT = 'http://json-schema.org/draft-07/schema#';

interface Described {
  readonly id: string;
  readonly description?: string;
  readonly config?: JsonSchema;
}

/** What is installed. */
export interface Installed {
  /** Ids of the plugins that can be listed. */
  readonly plugins: readonly string[];
  /** Names of capabilities beside those that the adapters serve. */
  readonly capabilities: readonly string[];
  readonly adapters: readonly (Described & { readonly provides: string; readonly features?: readonly string[] })[];
  readonly middleware: readonly (Described & { readonly wraps: readonly string[] })[];
}

/** `$schema` of a plugin.json. */
export function manifestSchema(): JsonSchema {
  return { $schema: DIALECT, title: 'plugin.json of rollout-cloud', ...MANIFEST_SCHEMA };
}

/** `$schema` of a plugins.json. */
export function configSchema(installed: Installed): JsonSchema {
  const { properties } = CONFIG_SCHEMA as { properties: Record<string, JsonSchema> };
  const { profiles } = PROFILES_SCHEMA.properties as { profiles: JsonSchema };
  const profile = profiles.additionalProperties as { properties: Record<string, JsonSchema> } & JsonSchema;
  const shared = new Definitions();
  const own = bindings(properties.bindings as JsonSchema, installed, shared);
  const ofProfile = bindings(profile.properties.bindings as JsonSchema, installed, shared);
  return {
    $schema: DIALECT,
    title: 'plugins.json of rollout-cloud',
    ...CONFIG_SCHEMA,
    allowTrailingCommas: true,
    properties: {
      ...properties,
      plugins: { ...properties.plugins, items: pluginItems(properties.plugins?.items as JsonSchema, installed) },
      bindings: own,
      profiles: {
        ...profiles,
        additionalProperties: {
          ...profile,
          properties: {
            ...profile.properties,
            bindings: ofProfile,
          },
        },
      },
    },
    definitions: shared.all,
  };
}

/** Parts that stand in several places are written once, or each capability would repeat every middleware's settings. */
class Definitions {
  readonly all: Record<string, JsonSchema> = {};
  readonly #names = new Map<string, string>();

  /** A reference to `schema`, under its name or, where that is another's, one with a number. */
  of(name: string, schema: JsonSchema): JsonSchema {
    const text = JSON.stringify(schema);
    let known = this.#names.get(text);
    if (known === undefined) {
      const plain = name.replaceAll(/[^\w.-]/g, '-');
      known = plain;
      for (let count = 2; known in this.all; count += 1) known = `${plain}-${count}`;
      this.#names.set(text, known);
      this.all[known] = schema;
    }
    return { $ref: `#/definitions/${known}` };
  }
}

function pluginItems(items: JsonSchema, installed: Installed): JsonSchema {
  const plugins = [...installed.plugins].sort();
  // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
  return { ...items, examples: plugins, then: { ...(items.then as JsonSchema), examples: plugins } };
}

/** `bindings`, with a property for each capability that anything serves. */
function bindings(
  { additionalProperties: general, ...rest }: JsonSchema,
  installed: Installed,
  shared: Definitions,
): JsonSchema {
  const served = installed.adapters.map(({ provides }) => nameOf(provides));
  const names = [...new Set([...served, ...installed.capabilities])].sort();
  const entries = names.map((name) => {
    const schema = binding(general as JsonSchema, name, installed, shared);
    return [name, shared.of(`binding-${name}`, schema)];
  });
  return { ...rest, properties: Object.fromEntries(entries), additionalProperties: false };
}

/** The short and the long form of a binding, as schemas.ts has them, for one capability. */
function binding(general: JsonSchema, capability: string, installed: Installed, shared: Definitions): JsonSchema {
  const { if: isLong, then: long, else: short } = general as Record<string, JsonSchema>;
  const { properties: parts } = long as { properties: Record<string, JsonSchema> };
  const one = instance(short as JsonSchema, capability, installed, shared);
  const hints = { instances: { description: 'Several instances, by name.' }, default: parts.default };
  return {
    if: isLong,
    // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
    then: {
      ...long,
      properties: {
        ...parts,
        instances: { ...parts.instances, additionalProperties: shared.of(`instance-${capability}`, one) },
      },
    },
    // What is written first may be the long form.
    else: { ...one, properties: { ...(one.properties as object), ...hints } },
  };
}

function instance(
  general: JsonSchema,
  capability: string,
  { adapters, middleware }: Installed,
  shared: Definitions,
): JsonSchema {
  const properties = general.properties as Record<string, JsonSchema>;
  const serving = adapters.filter(({ provides }) => nameOf(provides) === capability);
  if (serving.length === 0) return general;
  const ids = idsOf(serving);
  const { then: list, ...adapter } = properties.adapter as Record<string, JsonSchema>;
  const items = list?.items as JsonSchema;
  const provides = new Set(serving.map((each) => each.provides));
  const around = middleware.filter(({ wraps }) => wraps.some((w) => w === '*' || provides.has(w)));
  const wrappers = choice('middleware', properties.middleware?.items as JsonSchema, idsOf(around), around, shared);
  const features = [...new Set(serving.flatMap((each) => each.features ?? []))];
  return {
    ...general,
    properties: {
      ...properties,
      adapter: {
        ...adapter,
        // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
        then: {
          ...list,
          items: shared.of(`adapters-of-${capability}`, choice('adapter', items, ids, serving, shared)),
        },
        else: { ...(adapter.else as JsonSchema), ...ids },
      },
      middleware: {
        ...properties.middleware,
        items: shared.of(`middleware-of-${capability}`, wrappers),
      },
      require: { ...properties.require, items: { enum: features } },
    },
    allOf: serving.map(({ id, config, features: own = [] }) => ({
      if: { properties: { adapter: { const: id } }, required: ['adapter'] },
      // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
      then: { properties: { config: settings('adapter', id, config, shared), require: { items: { enum: own } } } },
    })),
  };
}

/** An id, or `{ use, config }` whose `config` is that of the id. As alternatives: editors complete items only so. */
function choice(
  kind: 'adapter' | 'middleware',
  general: JsonSchema,
  ids: JsonSchema,
  all: readonly Described[],
  shared: Definitions,
): JsonSchema {
  const { else: object } = general as { else: JsonSchema };
  const properties = object.properties as Record<string, JsonSchema>;
  return {
    anyOf: [
      { type: 'string', ...ids },
      {
        ...object,
        properties: { ...properties, use: { ...properties.use, ...ids } },
        allOf: all.map(({ id, config }) => ({
          if: { properties: { use: { const: id } }, required: ['use'] },
          // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
          then: { properties: { config: settings(kind, id, config, shared) } },
        })),
      },
    ],
  };
}

function idsOf(all: readonly Described[]): JsonSchema {
  const each = [...new Map(all.map(({ id, description = '' }) => [id, description]))];
  return { enum: each.map(([id]) => id), enumDescriptions: each.map(([, description]) => description) };
}

/** An adapter's configuration as it is written: what is not text may be a variable, and any value a secret. */
function settings(
  kind: 'adapter' | 'middleware',
  id: string,
  config: JsonSchema | undefined,
  shared: Definitions,
): JsonSchema {
  const { required, ...schema } = adapterSchema(config);
  const written = writable(schema, shared);
  return shared.of(`${kind}-${id}`, required === undefined ? written : { ...written, required });
}

function writable(schema: JsonSchema, shared: Definitions): JsonSchema {
  const { properties, items, additionalProperties: others } = schema;
  return {
    ...schema,
    ...(isSchema(properties) && {
      properties: Object.fromEntries(Object.entries(properties).map(([key, own]) => [key, value(own, shared)])),
    }),
    ...(isSchema(items) && { items: value(items, shared) }),
    ...(isSchema(others) && { additionalProperties: value(others, shared) }),
  };
}

/** What stands for a value that is known only on the machine. */
const REFERENCES: Readonly<Record<string, JsonSchema>> = {
  variable: { type: 'string', pattern: '\\$\\{env:' },
  secret: {
    type: 'object',
    required: ['$secret'],
    additionalProperties: false,
    properties: {
      $secret: { type: 'string', minLength: 1, description: 'The name of a secret in the SecretStore.' },
      store: { type: 'string', description: 'The SecretStore instance, where it is not the default one.' },
    },
  },
};

function value(schema: unknown, shared: Definitions): unknown {
  if (!isSchema(schema)) return schema;
  const { description, default: fallback, ...own } = writable(schema, shared);
  if (own.type === 'object' || own.type === 'array') return writable(schema, shared);
  return {
    ...(description !== undefined && { description }),
    ...(fallback !== undefined && { default: fallback }),
    anyOf: [own, ...Object.entries(REFERENCES).map(([name, reference]) => shared.of(name, reference))],
  };
}
