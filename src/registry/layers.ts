/**
 * Layers of a configuration, each put on top of those below. Objects merge, arrays replace, `null` deletes; two things are
 * particular to bindings:
 *
 * - the short form, `{ adapter, … }`, speaks of the default instance where another layer names instances;
 * - `config` belongs to the adapter: a layer that names another adapter starts without the `config` below it; of one that
 *   stood in a list, or comes to stand in one, it stays.
 */
import { type ConfigPath, toValue, type Written } from './document.js';
import type { Place } from './problems.js';

/** `above` on top of `below`, both of the shape of plugins.json. */
export function putOnTop(below: Written, above: Written): Written {
  return merge(below, above, (key, lower, upper) =>
    key === 'bindings' ? merge(lower, upper, (_capability, a, b) => mergeBinding(a, b)) : merge(lower, upper),
  );
}

type MergeField = (key: string, below: Written, above: Written) => Written;

function merge(below: Written, above: Written, field: MergeField = (_key, a, b) => merge(a, b)): Written {
  if (above.fields === undefined) return above;
  if (below.items !== undefined && above.implied) return mergeItems(below, below.items, above.fields);
  if (below.fields === undefined) return withoutNulls(above);
  const fields = new Map(below.fields);
  for (const [key, upper] of above.fields) {
    const lower = fields.get(key);
    if (isNull(upper)) fields.delete(key);
    else fields.set(key, lower === undefined ? withoutNulls(upper) : field(key, lower, upper));
  }
  // An object that was set into keeps its place, unless it came to be by that.
  return { ...(below.implied && !above.implied ? above : below), fields };
}

/** Sets items of an array, which paths name by index. What is no index makes it an object, which the schema refuses. */
function mergeItems(below: Written, items: readonly Written[], set: ReadonlyMap<string, Written>): Written {
  const next: (Written | null)[] = [...items];
  for (const [key, upper] of set) {
    const index = /^\d{1,9}$/.test(key) ? Number(key) : -1;
    const lower = next[index];
    if (index < 0 || index > next.length) {
      const { items: _items, ...rest } = below;
      return { ...rest, origin: upper.origin, fields: set };
    }
    next[index] = isNull(upper) ? null : lower == null ? withoutNulls(upper) : merge(lower, upper);
  }
  return { ...below, items: next.filter((item) => item !== null) };
}

function mergeBinding(below: Written, above: Written): Written {
  if (below.fields === undefined || above.fields === undefined) return merge(below, above);
  if (!hasInstances(below) && !hasInstances(above)) return mergeInstance(below, above);
  const [lower, upper] = [inLongForm(below, 'default'), inLongForm(above, defaultOf(below))];
  return merge(lower, upper, (key, a, b) =>
    key === 'instances' ? merge(a, b, (_name, one, other) => mergeInstance(one, other)) : merge(a, b),
  );
}

function mergeInstance(below: Written, above: Written): Written {
  const [before, given] = [below.fields?.get('adapter'), above.fields?.get('adapter')];
  if (below.fields === undefined || before === undefined || given === undefined) return merge(below, above);
  const after = merge(before, given);
  if (text(before) === text(after)) return merge(below, above);
  const rest = new Map([...below.fields].filter(([key]) => key !== 'config'));
  const configs = configsBelow(before, below.fields.get('config'));
  if (after.items === undefined) {
    const kept = configs.get(String(after.value));
    return merge({ ...below, fields: kept === undefined ? rest : rest.set('config', kept) }, above);
  }
  const merged = merge({ ...below, fields: rest }, above);
  const upper = above.fields?.get('config');
  const items = after.items.map((entry) => withConfigBelow(entry, configs, upper, after));
  return { ...merged, fields: new Map(merged.fields).set('adapter', { ...after, items }) };
}

/** The configuration of each adapter that a layer names: of one in a list, what is for all of them, and its own on top. */
function configsBelow(adapter: Written, shared: Written | undefined): Map<string, Written> {
  const configs = new Map<string, Written>();
  for (const entry of adapter.items ?? [adapter]) {
    const [id, own] = [idOf(entry), entry.fields?.get('config')];
    const config = shared === undefined || own === undefined ? (own ?? shared) : merge(shared, own);
    if (config?.fields !== undefined) configs.set(id, { ...config, beside: besides(config, adapter, id) });
  }
  return configs;
}

/** An entry of a list that takes another adapter's place, or another list's: with what the layers below have for it. */
function withConfigBelow(
  entry: Written,
  configs: ReadonlyMap<string, Written>,
  upper: Written | undefined,
  list: Written,
): Written {
  const id = idOf(entry);
  const below = configs.get(id);
  if (below === undefined || (upper !== undefined && upper.fields === undefined)) return entry;
  // As its own it would hide what the layer above says for all of them: that goes on top of it.
  const config = [upper, entry.fields?.get('config')].reduce<Written>(
    (lower, next) => (next === undefined ? lower : merge(lower, next)),
    below,
  );
  const fields = [
    ['use', entry.fields?.get('use') ?? entry],
    ['config', { ...config, beside: besides(below, list, id) }],
  ] as const;
  return { value: null, origin: entry.origin, fields: new Map(fields) };
}

function besides({ beside = [] }: Written, { items = [] }: Written, id: string): string[] {
  return [...new Set([...beside, ...items.map(idOf)])].filter((other) => other !== id);
}

function idOf(entry: Written): string {
  return String((entry.fields?.get('use') ?? entry).value);
}

function hasInstances({ fields }: Written): boolean {
  return fields !== undefined && (fields.has('instances') || fields.has('default'));
}

function inLongForm(binding: Written, name: string): Written {
  if (hasInstances(binding)) return binding;
  const instances: Written = { value: null, origin: binding.origin, fields: new Map([[name, binding]]), implied: true };
  return { ...binding, fields: new Map([['instances', instances]]) };
}

/** The instance that the short form means: as the plan has it, where no name is given. */
function defaultOf({ fields }: Written): string {
  const [named, instances] = [fields?.get('default')?.value, fields?.get('instances')?.fields];
  if (typeof named === 'string') return named;
  const [only] = instances?.keys() ?? [];
  return instances?.size === 1 && only !== undefined ? only : 'default';
}

function text(written: Written): string {
  return JSON.stringify(toValue(written));
}

function isNull({ value, fields, items }: Written): boolean {
  return value === null && fields === undefined && items === undefined;
}

/** What deletes, and has nothing to delete. In arrays `null` is a value. */
function withoutNulls(written: Written): Written {
  if (written.fields === undefined) return written;
  const kept = [...written.fields].filter(([, field]) => !isNull(field));
  return { ...written, fields: new Map(kept.map(([key, field]) => [key, withoutNulls(field)])) };
}

/**
 * A layer that sets single values, each by its path. In the order given, but what is beneath a `config` last: it is meant
 * for the adapter that the same layer names, wherever it names it.
 */
export function settings(entries: Iterable<readonly [path: readonly string[], value: Written]>): Written[] {
  const isOfConfig = ([path]: readonly [readonly string[], Written]) =>
    path[0] === 'bindings' && path.includes('config', 2);
  const all = [...entries];
  return [...all.filter((entry) => !isOfConfig(entry)), ...all.filter(isOfConfig)].map(([path, value]) =>
    path.reduceRight<Written>(
      (inner, step) => ({ value: null, origin: value.origin, fields: new Map([[step, inner]]), implied: true }),
      value,
    ),
  );
}

const VARIABLE = /\$\{env:/;
const REFERENCE = /(\$?)\$\{env:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}/g;

/**
 * Puts environment variables in the place of `${env:NAME}` and `${env:NAME:-default}`; `$${env:…}` stands for itself.
 * @param tell is called for each value that cannot be had
 */
export function interpolate(
  root: Written,
  env: Readonly<Record<string, string | undefined>>,
  tell: (fault: { path: ConfigPath; place: Place; message: string }) => void,
): Written {
  const visit = (written: Written, path: ConfigPath): Written => {
    const { items, fields, value } = written;
    if (items !== undefined) return { ...written, items: items.map((item, i) => visit(item, [...path, i])) };
    if (fields !== undefined) {
      const entries = [...fields].map(([key, field]) => [key, visit(field, [...path, key])] as const);
      return { ...written, fields: new Map(entries) };
    }
    if (typeof value !== 'string' || !VARIABLE.test(value)) return written;
    const fault = (message: string) => tell({ path, place: written.origin.place(), message });
    const variables: string[] = [];
    const filled = value.replace(REFERENCE, (all, dollar: string, name: string, fallback: string | undefined) => {
      if (dollar !== '') return all.slice(1);
      variables.push(name);
      const found = env[name];
      // As in a shell, what follows :- is for a variable that is empty, too.
      if (found !== undefined && (found !== '' || fallback === undefined)) return found;
      if (fallback === undefined) {
        fault(`environment variable ${name} is not set and has no default; write \${env:${name}:-value} or set it.`);
      }
      return fallback ?? '';
    });
    if (VARIABLE.test(value.replace(REFERENCE, ''))) {
      fault('an environment variable is written ${env:NAME} or ${env:NAME:-default}; as plain text it is $${env:NAME}');
    }
    return { ...written, value: filled, origin: { ...written.origin, variables } };
  };
  return visit(root, []);
}
