/**
 * The JSON Schemas of what people write, and how Ajv is to read them. Plain data that imports nothing: the build reads it
 * too, and compiles these schemas and the built-in adapters' ahead (see precompiled.ts).
 */
export type JsonSchema = Readonly<Record<string, unknown>>;

const ID = '^[a-z0-9]+([.-][a-z0-9]+)*$';
const VERSION = '^[0-9]+\\.[0-9]+\\.[0-9]+(-[0-9A-Za-z.-]+)?([+][0-9A-Za-z.-]+)?$';
const CAPABILITY = '^[A-Za-z0-9_./-]+@[0-9]+$';
const INSTANCE_NAME = '^[A-Za-z0-9_.-]{1,64}$';

const texts = (description: string) => ({ type: 'array', items: { type: 'string', minLength: 1 }, description });
const flag = (description: string) => ({ type: 'boolean', description });

/** A text, or an object that has more to say. */
const textOr = (object: JsonSchema) => ({
  if: { type: 'string' },
  // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
  then: { minLength: 1 },
  else: { type: 'object', additionalProperties: false, ...object },
});

const BINDING = {
  type: 'object',
  required: ['adapter'],
  additionalProperties: false,
  properties: {
    adapter: {
      description: "The adapter's id; or several, of which the first that is available serves.",
      if: { type: 'array' },
      // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
      then: {
        minItems: 1,
        items: textOr({
          required: ['use'],
          properties: { use: { type: 'string', minLength: 1 }, config: { type: 'object' } },
        }),
      },
      else: { type: 'string', minLength: 1 },
    },
    config: { type: 'object', description: "What the adapter's manifest describes." },
    middleware: {
      type: 'array',
      description: 'What is put around the instance, outermost first.',
      items: textOr({
        required: ['use'],
        properties: {
          use: { type: 'string', minLength: 1 },
          config: { type: 'object' },
          enabled: flag('Default true.'),
        },
      }),
    },
    require: texts('Features that the adapter has to declare.'),
    optional: flag('Go on without it, with a warning, when its adapter is not available. Default false.'),
    enabled: flag('Default true.'),
    onFailure: {
      enum: ['abort', 'continue'],
      description: 'What host.start() does when it cannot be activated. Default abort.',
    },
  },
};

/** What plugins.json says, and each of its profiles. */
const LAYER = {
  type: 'object',
  additionalProperties: false,
  properties: {
    plugins: {
      type: 'array',
      description: 'What loads: ids of built-in plugins, names of packages, or folders. The first of an id is taken.',
      items: textOr({
        required: ['use'],
        properties: {
          use: { type: 'string', minLength: 1 },
          optional: flag('Go on without it, with a warning, when it is not there or not fit. Default false.'),
          enabled: flag('Default true.'),
          replace: flag('Take the place of the built-in plugin that has the same id. Default false.'),
        },
      }),
    },
    discover: {
      type: 'array',
      description:
        'Where plugins are found without being listed: "folder" is ./plugins/*, "dependency" those of package.json. Default ["folder"].',
      items: { enum: ['folder', 'dependency'] },
    },
    bindings: {
      type: 'object',
      description: 'Who serves what, by capability.',
      additionalProperties: {
        if: { type: 'object', anyOf: [{ required: ['instances'] }, { required: ['default'] }] },
        // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
        then: {
          type: 'object',
          required: ['instances'],
          additionalProperties: false,
          properties: {
            default: { type: 'string', description: 'The instance that is meant where no name is given.' },
            instances: {
              type: 'object',
              minProperties: 1,
              propertyNames: { pattern: INSTANCE_NAME },
              additionalProperties: BINDING,
            },
          },
        },
        else: BINDING,
      },
    },
  },
};

/** As part of a layer: what is not there stays as it is below, and `null` deletes it. Items of arrays are whole. */
function partial({ required: _required, minProperties: _least, ...schema }: JsonSchema): JsonSchema {
  const { type, enum: values, properties, additionalProperties: others } = schema;
  const { then, else: otherwise } = schema;
  return {
    ...schema,
    ...(typeof type === 'string' && { type: [type, 'null'] }),
    ...(Array.isArray(values) && { enum: [...values, null] }),
    ...(isSchema(properties) && {
      properties: Object.fromEntries(Object.entries(properties).map(([key, own]) => [key, partial(own as JsonSchema)])),
    }),
    ...(isSchema(others) && { additionalProperties: partial(others) }),
    // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
    ...(isSchema(then) && { then: partial(then) }),
    ...(isSchema(otherwise) && { else: partial(otherwise) }),
  };
}

/** The profiles of plugins.json. */
export const PROFILES_SCHEMA: JsonSchema = {
  type: 'object',
  properties: {
    profiles: {
      type: 'object',
      description: 'What is put on top where a profile is asked for: --profile, or the option of createHost.',
      additionalProperties: partial(LAYER),
    },
  },
};

/** plugins.json, without its profiles: they are checked by themselves. */
export const CONFIG_SCHEMA: JsonSchema = {
  ...LAYER,
  properties: { $schema: { type: 'string' }, version: { const: 1 }, ...LAYER.properties, profiles: {} },
};

const CONTRIBUTION = {
  description: { type: 'string' },
  requires: {
    type: 'array',
    description:
      'Storage; SecretStore? may be absent; Queue#name is that instance; GpuEnumerator* is every one there is.',
    items: { type: 'string', pattern: '^[A-Za-z0-9_./-]+(@[0-9]+)?([?*]|#[A-Za-z0-9_.-]{1,64})?$' },
  },
  packages: {
    type: 'object',
    description: 'Packages that the user installs, with the range that fits.',
    propertyNames: { pattern: '^(@[a-z0-9~-][a-z0-9._~-]*/)?[a-z0-9~-][a-z0-9._~-]*$' },
    additionalProperties: { type: 'string', minLength: 1 },
  },
  config: {
    type: 'object',
    description: 'JSON Schema of the configuration; "sensitive": true marks what is redacted.',
  },
};

/** plugin.json. */
export const MANIFEST_SCHEMA: JsonSchema = {
  type: 'object',
  required: ['id', 'version', 'main', 'contributes'],
  additionalProperties: false,
  properties: {
    $schema: { type: 'string' },
    id: { type: 'string', pattern: ID, description: 'Lower-case words joined by dots and dashes, e.g. acme.vault.' },
    version: { type: 'string', pattern: VERSION, description: 'A semantic version, e.g. 1.2.0.' },
    displayName: { type: 'string' },
    description: { type: 'string' },
    engines: {
      type: 'object',
      description: 'Version ranges that the plugin works with.',
      additionalProperties: false,
      properties: { 'rollout-cloud': { type: 'string' }, node: { type: 'string' } },
    },
    main: { type: 'string', minLength: 1, description: 'The module to import, in the folder of the manifest.' },
    when: {
      type: 'object',
      description: 'Where the plugin can work; elsewhere it is unavailable.',
      additionalProperties: false,
      properties: {
        platform: texts('As process.platform says.'),
        arch: texts('As process.arch says.'),
        env: texts('Environment variables that have to be set.'),
      },
    },
    dependsOn: {
      type: 'array',
      description: 'Plugins that have to be there and are activated first: acme.base, or acme.base@^1.2.0.',
      items: { type: 'string', pattern: '^[a-z0-9]+([.-][a-z0-9]+)*(@.+)?$' },
    },
    optionalDependsOn: {
      type: 'array',
      description: 'Plugins that are activated first where they are there.',
      items: { type: 'string', pattern: '^[a-z0-9]+([.-][a-z0-9]+)*(@.+)?$' },
    },
    activation: {
      enum: ['onDemand', 'onStartup'],
      description: 'When its instances are made: when one is first asked for (default), or by host.start().',
    },
    run: {
      enum: ['inprocess', 'process'],
      description: "Where its code runs: in the host's process (default), or in a child process.",
    },
    permissions: {
      type: 'object',
      description: 'What its process may do, where run is "process". Nothing that is not listed.',
      additionalProperties: false,
      properties: {
        fs: {
          type: 'object',
          additionalProperties: false,
          properties: {
            read: texts("Files and folders, relative to the configuration file's folder."),
            write: texts("Files and folders, relative to the configuration file's folder."),
          },
        },
        childProcess: flag('Start programs.'),
        addons: flag('Load native addons.'),
        workers: flag('Start worker threads.'),
        network: flag('Open connections, where the version of Node can withhold it.'),
        env: texts('Environment variables that it gets.'),
      },
    },
    contributes: {
      type: 'object',
      additionalProperties: false,
      properties: {
        adapters: {
          type: 'array',
          default: [],
          items: {
            type: 'object',
            required: ['id', 'provides'],
            additionalProperties: false,
            properties: {
              id: { type: 'string', pattern: ID },
              provides: { type: 'string', pattern: CAPABILITY },
              features: texts("What it can do beyond the contract's ground."),
              ...CONTRIBUTION,
              timeouts: {
                type: 'object',
                additionalProperties: false,
                properties: {
                  activateMs: { type: 'integer', minimum: 1, maximum: 2147483647 },
                  disposeMs: { type: 'integer', minimum: 1, maximum: 2147483647 },
                },
              },
            },
          },
        },
        middleware: {
          type: 'array',
          default: [],
          items: {
            type: 'object',
            required: ['id', 'wraps'],
            additionalProperties: false,
            properties: {
              id: { type: 'string', pattern: ID },
              wraps: {
                type: 'array',
                minItems: 1,
                description: 'The capabilities that it can be put around; "*" for any.',
                items: { type: 'string', pattern: `^[*]$|${CAPABILITY}` },
              },
              ...CONTRIBUTION,
            },
          },
        },
        capabilities: {
          type: 'array',
          default: [],
          items: {
            type: 'object',
            required: ['id'],
            additionalProperties: false,
            properties: {
              id: { type: 'string', pattern: CAPABILITY, description: '<plugin id>/<Name>@<major>' },
              description: { type: 'string' },
            },
          },
        },
      },
    },
  },
};

/** An adapter's configuration, of which the manifest's `config` says the rest. */
export function adapterSchema(config: JsonSchema = NO_SETTINGS): JsonSchema {
  let schema = ADAPTER_SCHEMAS.get(config);
  if (schema === undefined) {
    schema = closed({ type: 'object', additionalProperties: false, ...config });
    ADAPTER_SCHEMAS.set(config, schema);
  }
  return schema;
}

const NO_SETTINGS: JsonSchema = {};
/** One for each manifest's `config`: its validator is found by the object (schema.ts). */
const ADAPTER_SCHEMAS = new WeakMap<JsonSchema, JsonSchema>();

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

/** `Queue` of `Queue@1`. */
export function nameOf(provides: string): string {
  return provides.slice(0, provides.lastIndexOf('@'));
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
