/**
 * The JSON Schemas of what people write, and how Ajv is to read them. Plain data that imports nothing: the build reads it
 * too, and compiles these schemas and the built-in adapters' ahead (see precompiled.ts).
 */
export type JsonSchema = Readonly<Record<string, unknown>>;

const BINDING = {
  type: 'object',
  required: ['adapter'],
  additionalProperties: false,
  properties: {
    adapter: { type: 'string', minLength: 1 },
    config: { type: 'object' },
  },
};

/** plugins.json. */
export const CONFIG_SCHEMA: JsonSchema = {
  type: 'object',
  additionalProperties: false,
  properties: {
    $schema: { type: 'string' },
    version: { const: 1 },
    plugins: {
      type: 'array',
      items: {
        if: { type: 'string' },
        // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
        then: { minLength: 1 },
        else: {
          type: 'object',
          required: ['use'],
          additionalProperties: false,
          properties: {
            use: { type: 'string', minLength: 1 },
            optional: { type: 'boolean' },
            enabled: { type: 'boolean' },
          },
        },
      },
    },
    bindings: {
      type: 'object',
      additionalProperties: {
        if: { type: 'object', anyOf: [{ required: ['instances'] }, { required: ['default'] }] },
        // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
        then: {
          type: 'object',
          required: ['instances'],
          additionalProperties: false,
          properties: {
            default: { type: 'string' },
            instances: {
              type: 'object',
              minProperties: 1,
              propertyNames: { pattern: '^[A-Za-z0-9_.-]{1,64}$' },
              additionalProperties: BINDING,
            },
          },
        },
        else: BINDING,
      },
    },
  },
};

/** plugin.json. */
export const MANIFEST_SCHEMA: JsonSchema = {
  type: 'object',
  required: ['id', 'version', 'main', 'contributes'],
  additionalProperties: false,
  properties: {
    $schema: { type: 'string' },
    id: { type: 'string', pattern: '^[a-z0-9]+([.-][a-z0-9]+)*$' },
    version: { type: 'string' },
    displayName: { type: 'string' },
    description: { type: 'string' },
    engines: {
      type: 'object',
      additionalProperties: false,
      properties: { 'rollout-cloud': { type: 'string' }, node: { type: 'string' } },
    },
    main: { type: 'string', minLength: 1 },
    contributes: {
      type: 'object',
      required: ['adapters'],
      additionalProperties: false,
      properties: {
        adapters: {
          type: 'array',
          items: {
            type: 'object',
            required: ['id', 'provides'],
            additionalProperties: false,
            properties: {
              id: { type: 'string', pattern: '^[a-z0-9]+([.-][a-z0-9]+)*$' },
              provides: { type: 'string', pattern: '^[A-Za-z0-9_./-]+@[0-9]+$' },
              description: { type: 'string' },
              features: { type: 'array', items: { type: 'string' } },
              requires: {
                type: 'array',
                items: { type: 'string', pattern: '^[A-Za-z0-9_./-]+(@[0-9]+)?([?*]|#[A-Za-z0-9_.-]{1,64})?$' },
              },
              config: { type: 'object' },
              timeouts: {
                type: 'object',
                additionalProperties: false,
                properties: {
                  activateMs: { type: 'integer', minimum: 1 },
                  disposeMs: { type: 'integer', minimum: 1 },
                },
              },
            },
          },
        },
      },
    },
  },
};

/** An adapter's configuration, of which the manifest's `config` says the rest. */
export function adapterSchema(config: JsonSchema | undefined): JsonSchema {
  return closed({ type: 'object', additionalProperties: false, ...config });
}

/** A schema that refuses unknown keys in every object whose keys it describes, unless it says otherwise. */
function closed({ $schema: _dialect, ...schema }: JsonSchema): JsonSchema {
  const { properties, items } = schema;
  return {
    ...(isSchema(properties) && { additionalProperties: false }),
    ...schema,
    ...(isSchema(items) && { items: closed(items) }),
    ...(isSchema(properties) && {
      properties: Object.fromEntries(
        Object.entries(properties).map(([key, own]) => [key, isSchema(own) ? closed(own) : own]),
      ),
    }),
  };
}

export function isSchema(value: unknown): value is JsonSchema {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * Defaults are filled into the value that is checked. A keyword or format that nobody knows is refused: it is a slip of
 * the author's, and would check nothing.
 */
export const AJV_OPTIONS = {
  allErrors: true,
  verbose: true,
  useDefaults: true,
  strict: false,
  strictSchema: true,
  logger: false as const,
  keywords: ['sensitive'],
  formats: { path: true as const },
};
