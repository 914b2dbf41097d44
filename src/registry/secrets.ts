/**
 * Secrets in a configuration: `{ "$secret": "db/password" }` stands for the text that the SecretStore has under that name,
 * and with `"store": "vault"` for that of the instance `vault`. The plan knows them by name alone; an instance's factory
 * gets the text, and nobody else.
 */
import { FatalError, isCoreError, RecoverableError } from '../contracts/errors.js';
import type { SecretStore } from '../contracts/secret-store.js';
import { problemsError } from './problems.js';
import { describe, sensitiveTexts, validate } from './schema.js';
import { adapterSchema, isSchema, type JsonSchema } from './schemas.js';

/** A secret that a configuration names. */
export interface SecretReference {
  /** Where it stands in the configuration. */
  readonly path: readonly string[];
  readonly name: string;
  /** The SecretStore instance that is named, `null` for the default one. */
  readonly store: string | null;
}

/** A reference, and the instance that serves it. */
export interface PlannedSecret extends SecretReference {
  /** `SecretStore#<name>`. */
  readonly key: string;
}

/** Every reference in a configuration, and the paths of those that are not well formed. */
export function secretsIn(config: unknown): { references: SecretReference[]; malformed: (readonly string[])[] } {
  const references: SecretReference[] = [];
  const malformed: (readonly string[])[] = [];
  const visit = (value: unknown, path: readonly string[]): void => {
    if (typeof value !== 'object' || value === null) return;
    if (!Object.hasOwn(value, '$secret')) {
      for (const [key, each] of Object.entries(value)) visit(each, [...path, key]);
      return;
    }
    const { $secret: name, store = null, ...rest } = value as Record<string, unknown>;
    const isSound =
      typeof name === 'string' && name !== '' && (store === null || typeof store === 'string') && path.length > 0;
    if (isSound && Object.keys(rest).length === 0) references.push({ path, name, store });
    else malformed.push(path);
  };
  visit(config, []);
  return { references, malformed };
}

/** Whether a schema lets the value at a path be text, as every secret is. */
export function takesText(schema: JsonSchema, path: readonly string[]): boolean {
  const [step, ...rest] = path;
  if (step === undefined) return schema.type === undefined || [schema.type].flat().includes('string');
  const properties = isSchema(schema.properties) ? schema.properties : {};
  const next = Object.hasOwn(properties, step) ? properties[step] : (schema.items ?? schema.additionalProperties);
  return isSchema(next) ? takesText(next, rest) : true;
}

/**
 * The configuration with the text of each secret in its place, checked again, as only now its form is known.
 * @param who is being activated, for messages
 * @param acquire gives a SecretStore instance by its key
 * @param learn is told each text that is not to be shown, what is marked as sensitive included
 * @throws what the store throws, with the place of the reference before its message; FatalError ConfigInvalid `RC1105`
 */
export async function reveal(
  who: string,
  config: Readonly<Record<string, unknown>>,
  secrets: readonly PlannedSecret[],
  schema: JsonSchema | undefined,
  acquire: (key: string) => object | Promise<object>,
  learn: (secret: string) => void,
): Promise<Record<string, unknown>> {
  const revealed = structuredClone(config) as Record<string, unknown>;
  for (const text of sensitiveTexts(adapterSchema(schema), revealed)) learn(text);
  if (secrets.length === 0) return revealed;
  await Promise.all(
    secrets.map(async ({ path, name, key }) => {
      let text: string;
      try {
        text = (await ((await acquire(key)) as SecretStore).get(name)).reveal();
      } catch (error) {
        throw located(error, `${who}: config.${path.join('.')}`);
      }
      learn(text);
      put(revealed, path, text);
    }),
  );
  const faults = validate(adapterSchema(schema), revealed, (found) => describe(found));
  if (faults.length === 0) return revealed;
  throw problemsError(
    faults.map(({ message }) => ({
      code: 'RC1105' as const,
      place: null,
      message: `${who}: config.${message} once its secrets are read`,
    })),
  );
}

function put(config: Record<string, unknown>, path: readonly string[], text: string): void {
  const parents = path.slice(0, -1);
  const holder = parents.reduce<Record<string, unknown>>((at, step) => at[step] as Record<string, unknown>, config);
  holder[path.at(-1) as string] = text;
}

/** The same failure, saying which setting needed the secret. */
function located(error: unknown, where: string): unknown {
  if (!isCoreError(error)) return error;
  const message = `${where}: ${error.message}`;
  const details = { code: error.code, context: error.context, cause: error };
  return error.severity === 'recoverable'
    ? new RecoverableError(error.kind, message, { ...details, retry: error.retry })
    : new FatalError(error.kind, message, details);
}
