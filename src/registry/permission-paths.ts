/**
 * What can stand for a path in a manifest's permissions: `${config.root}` at its start, which is the option `root` of each
 * of the plugin's instances. A variable that nothing will ever fill in would grant nothing, and say nothing.
 */
import type { Contribution, PluginManifest } from '../contracts/plugin.js';
import { suggest } from './problems.js';
import { adapterSchema, isSchema, type JsonSchema } from './schemas.js';

/** `${config.root}/logs`: the option, and what follows it. */
export function optionIn(path: string): { option: string; rest: string } | null {
  const [, option, rest = ''] = /^\$\{config\.([A-Za-z0-9_-]+)\}(.*)$/s.exec(path) ?? [];
  return option === undefined ? null : { option, rest };
}

export interface PathSlip {
  /** In the manifest. */
  readonly path: readonly ['permissions', 'fs', 'read' | 'write', number];
  readonly message: string;
}

/** Variables that nothing can fill in, as far as the manifest alone shows it. */
export function pathSlips({ permissions, contributes }: PluginManifest): PathSlip[] {
  const { schemas, names, isOpen } = options(contributes);
  const known = names.map((name) => `config.${name}`);
  return (['read', 'write'] as const).flatMap((list) =>
    (permissions?.fs?.[list] ?? []).flatMap((path, index): PathSlip[] => {
      const slip = (why: string): PathSlip[] => [
        { path: ['permissions', 'fs', list, index], message: `permissions.fs.${list}.${index}: ${why}` },
      ];
      const { option, rest } = optionIn(path) ?? { option: null, rest: path };
      const variable = /\$\{([^}]*)\}?/.exec(rest);
      if (variable !== null) {
        const [written, name = ''] = variable;
        if (known.includes(name))
          return slip(`"${written}" can stand at the start of a path only, in place of a folder`);
        const which = suggest(name, known) || ' It has no options.';
        return slip(`"${written}": in a path "\${config.<option>}" is an option of the plugin's adapters.${which}`);
      }
      if (option === null) return [];
      if (!names.includes(option)) {
        if (isOpen) return [];
        const which = suggest(option, names) || ' It has no options.';
        return slip(`"\${config.${option}}": none of the plugin's adapters has an option "${option}".${which}`);
      }
      if (schemas.some((schema) => mayBeText(propertiesOf(schema)[option]))) return [];
      return slip(`"\${config.${option}}": the option is neither a text nor a list of texts`);
    }),
  );
}

/**
 * Of options that no schema lists, the first that no configuration has: where a schema lets its configuration have any
 * key, that is known when there is one.
 */
export function missingOption(
  { permissions, contributes }: PluginManifest,
  configs: readonly Readonly<Record<string, unknown>>[],
): string | null {
  const { names } = options(contributes);
  const paths = [...(permissions?.fs?.read ?? []), ...(permissions?.fs?.write ?? [])];
  const asked = paths.flatMap((path) => optionIn(path)?.option ?? []);
  return asked.find((option) => !names.includes(option) && !configs.some((config) => option in config)) ?? null;
}

function options({ adapters, middleware = [] }: PluginManifest['contributes']) {
  const schemas = [...adapters, ...middleware].map(({ config }: Contribution) => adapterSchema(config));
  const names = [...new Set(schemas.flatMap((schema) => Object.keys(propertiesOf(schema))))];
  return { schemas, names, isOpen: schemas.some(isOpen) };
}

function propertiesOf({ properties }: JsonSchema): Record<string, unknown> {
  return isSchema(properties) ? properties : {};
}

/** Whether a configuration may have keys that `properties` does not show. */
function isOpen(schema: JsonSchema): boolean {
  const composed = ['$ref', 'allOf', 'anyOf', 'oneOf', 'if', 'patternProperties', 'dependentSchemas'];
  return schema.additionalProperties !== false || composed.some((keyword) => keyword in schema);
}

function mayBeText(schema: unknown): boolean {
  if (!isSchema(schema)) return schema === true;
  const types = [schema.type ?? ['string']].flat();
  return types.includes('string') || types.includes('array');
}
