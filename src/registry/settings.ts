/** The configuration of an adapter or a middleware, held against its manifest's schema. */
import type { Contribution } from '../contracts/plugin.js';
import type { ConfigPath, LoadedConfig } from './config.js';
import { type Plugin, placeInManifest } from './manifest.js';
import type { Place, Problem } from './problems.js';
import { coerce, describe, resolvePaths, validate } from './schema.js';
import { adapterSchema } from './schemas.js';
import { secretsIn, takesText } from './secrets.js';

/** Something of a manifest that has a configuration and requires others. */
export interface Contributed {
  readonly kind: 'adapter' | 'middleware';
  readonly manifest: Contribution & { readonly id: string };
  readonly plugin: Plugin;
}

export interface Settings {
  /** Defaults filled in, paths absolute; secrets are still references. */
  readonly value: Record<string, unknown>;
  readonly problems: readonly Problem[];
}

/**
 * Checks a configuration.
 * @param paths where it stands, and what shows through where that says nothing; none for one that is not written down
 * @param label what it is called in messages
 */
export function checkSettings(
  { kind, manifest, plugin }: Contributed,
  given: Readonly<Record<string, unknown>>,
  config: LoadedConfig,
  paths: readonly ConfigPath[],
  label = paths.at(-1)?.join('.') ?? 'config',
): Settings {
  const schema = adapterSchema(manifest.config);
  const at = (steps: ConfigPath): ConfigPath | undefined => {
    const full = paths.map((path) => [...path, ...steps]);
    return full.find((path) => config.origin(path) !== null) ?? full.at(-1);
  };
  const placeOf = (steps: ConfigPath, what?: 'key'): Place | null => {
    const path = at(steps);
    return path === undefined ? null : config.place(path, what);
  };
  const isFilledIn = (steps: ConfigPath): boolean => {
    const path = at(steps);
    return path !== undefined && (config.origin(path)?.variables.length ?? 0) > 0;
  };
  const problem = (code: 'RC1104' | 'RC1105', place: Place | null, message: string): Problem => {
    const text = `${label}.${message} (${kind} ${manifest.id})`.replace('.the whole value', '');
    return { code, place, message: text };
  };
  const value = coerce(schema, structuredClone({ ...given }), isFilledIn) as Record<string, unknown>;
  const { references, malformed } = secretsIn(value);
  const problems = [
    ...malformed.map((path) => {
      const form = '{ "$secret": "<name>" }, with "store": "<instance>" for a SecretStore that is not the default';
      return problem('RC1105', placeOf(path), `${path.join('.') || 'the whole value'}: a secret is written ${form}`);
    }),
    ...references
      .filter(({ path }) => !takesText(schema, path))
      .map(({ path }) => {
        const message = `${path.join('.')} cannot be a secret: a secret is text, and the adapter wants something else`;
        return problem('RC1105', placeOf(path), message);
      }),
  ];
  try {
    const secrets = [...references.map(({ path }) => path), ...malformed];
    const isSecret = (path: readonly string[]) => secrets.some((secret) => secret.every((step, i) => step === path[i]));
    const isUnset = (steps: ConfigPath) => {
      const path = at(steps);
      return path !== undefined && config.isUnset(path);
    };
    const faults = validate(schema, value, (found) => describe(found)).filter(
      ({ path, unknownKey }) => !isSecret(path) && (unknownKey !== null || path.length === 0 || !isUnset(path)),
    );
    problems.push(
      ...faults.map(({ path, unknownKey, message }) =>
        isFilledInBySchema(given, path)
          ? faultyDefault({ kind, manifest, plugin }, path, message)
          : unknownKey === null
            ? problem('RC1105', placeOf(path), message)
            : problem('RC1104', placeOf([...path, unknownKey], 'key'), message),
      ),
    );
    return { value: resolvePaths(schema, value, config.folder), problems };
  } catch (error) {
    const why =
      error instanceof EvalError
        ? 'its configuration cannot be checked: this process may not generate code (--disallow-code-generation-from-strings)'
        : `the manifest's config is not a valid JSON Schema: ${(error as Error).message}`;
    const message = `${kind} ${manifest.id}: ${why}`;
    return {
      value,
      problems: [...problems, { code: 'RC1107', place: placeOfSchema({ kind, manifest, plugin }), message }],
    };
  }
}

/** Whether what is at fault was not given: then the default in the manifest is. */
function isFilledInBySchema(given: unknown, [step, ...rest]: readonly string[]): boolean {
  if (step === undefined) return false;
  const holder = Object(given) as Record<string, unknown>;
  return !Object.hasOwn(holder, step) || isFilledInBySchema(holder[step], rest);
}

function faultyDefault(what: Contributed, path: readonly string[], message: string): Problem {
  const { kind, manifest } = what;
  const text = `${kind} ${manifest.id}: a default in the manifest's config does not hold: ${message}`;
  return { code: 'RC1107', place: placeOfSchema(what, path), message: text };
}

function placeOfSchema({ kind, manifest, plugin }: Contributed, path: readonly string[] = []): Place | null {
  const list = kind === 'adapter' ? 'adapters' : 'middleware';
  const all: readonly unknown[] = plugin.manifest.contributes[list] ?? [];
  const index = all.indexOf(manifest);
  const inner = path.length === 0 ? [] : [...path.flatMap((step) => ['properties', step]), 'default'];
  return placeInManifest(plugin, ['contributes', list, index, 'config', ...inner]);
}
