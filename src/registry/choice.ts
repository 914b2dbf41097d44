/** Which adapter serves a binding: the first of those it names that is available. */
import type { Adapter, Catalog } from './catalog.js';
import type { BindingEntry, ConfigPath, LoadedConfig, UseEntry } from './config.js';
import { type ProblemCode, suggest } from './problems.js';
import { isSchema, nameOf } from './schemas.js';

/** An adapter that was preferred, and why it does not serve. */
export interface PassedOver {
  readonly adapter: string;
  readonly reason: string;
}

export interface Choice {
  readonly adapter: Adapter;
  readonly passedOver: readonly PassedOver[];
  /** Those passed over that no plugin here has, and nothing else tells of. */
  readonly unknown: readonly Objection[];
  /** Where it is named. */
  readonly path: ConfigPath;
  /** The configuration that goes with its name in a list, and where that stands. */
  readonly own: Readonly<Record<string, unknown>> | null;
}

interface Objection {
  readonly code: ProblemCode;
  readonly message: string;
  readonly path: ConfigPath;
  /** A name that is close to one that there is: it is told whatever else is wrong. */
  readonly isSlip: boolean;
  /** It is so on this machine; on another the adapter may be available. */
  readonly mayDiffer: boolean;
  /** No plugin that is listed or found has it. */
  readonly isUnknown?: boolean;
}

/**
 * Chooses. In a list, what is not available here is passed over; a slip, which is available nowhere, is a problem.
 * @param known the capabilities of this package, whose major an adapter has to have
 */
export function preferences(
  catalog: Catalog,
  capability: string,
  binding: BindingEntry,
  path: ConfigPath,
  known: readonly { readonly name: string; readonly id: string }[],
): Choice | { readonly problems: readonly Objection[] } {
  const isList = Array.isArray(binding.adapter);
  const entries = (isList ? binding.adapter : [binding.adapter]) as readonly (string | UseEntry)[];
  const passedOver: PassedOver[] = [];
  const objections: Objection[] = [];
  for (const [index, entry] of entries.entries()) {
    const { use, config = null } = typeof entry === 'string' ? { use: entry } : entry;
    const step = isList ? (typeof entry === 'string' ? ['adapter', index] : ['adapter', index, 'use']) : ['adapter'];
    const found = objectionsTo(catalog, capability, use, binding, [...path, ...step], path, known);
    if (found.length === 0) {
      const impossible = objections.filter(({ mayDiffer }) => !mayDiffer);
      if (impossible.length > 0) return { problems: impossible };
      const adapter = catalog.adapters.get(use) as Adapter;
      const unknown = objections.filter(({ isUnknown }) => isUnknown === true);
      return { adapter, passedOver, unknown, path: [...path, ...step], own: config };
    }
    objections.push(...found);
    passedOver.push({ adapter: use, reason: found.map(({ message }) => message).join(' ') });
  }
  return { problems: objections };
}

function objectionsTo(
  catalog: Catalog,
  capability: string,
  id: string,
  { require = [] }: BindingEntry,
  at: ConfigPath,
  path: ConfigPath,
  known: readonly { readonly name: string; readonly id: string }[],
): Objection[] {
  const adapter = catalog.adapters.get(id);
  if (adapter === undefined || nameOf(adapter.manifest.provides) !== capability) {
    const { message, excused, isSlip } = catalog.noAdapter(id, capability);
    return [{ code: 'RC1102', message, path: at, isSlip, mayDiffer: !isSlip, isUnknown: !excused && !isSlip }];
  }
  const objections: Objection[] = [];
  const object = (code: ProblemCode, message: string, where: ConfigPath, mayDiffer: boolean) =>
    objections.push({ code, message, path: where, isSlip: true, mayDiffer });
  const { provides, features = [] } = adapter.manifest;
  const token = known.find(({ name }) => name === capability);
  if (token !== undefined && token.id !== provides) {
    const message = `adapter ${id} serves ${provides}, this host knows ${token.id}; install versions that agree`;
    object('RC1111', message, at, true);
  }
  for (const [index, feature] of require.entries()) {
    if (features.includes(feature)) continue;
    const message = `adapter ${id} does not declare the feature "${feature}".${suggest(feature, features)}`;
    object('RC1110', message, [...path, 'require', index], true);
  }
  const lacking = catalog.missingPackage(adapter);
  if (lacking !== null) object('RC1108', lacking, at, true);
  return objections;
}

/**
 * The configuration of the adapter that was chosen: what its entry in a list says, on top of what the binding says for all
 * of them. What only another adapter of the list knows, or of one in a layer below, is left out.
 * @param beside see {@link LoadedConfig.beside}
 */
export function sharedConfig(
  catalog: Catalog,
  binding: BindingEntry,
  { adapter, own, path }: Choice,
  bindingPath: ConfigPath,
  beside: LoadedConfig['beside'],
): { config: Record<string, unknown>; configPaths: ConfigPath[] } {
  const entries = (Array.isArray(binding.adapter) ? binding.adapter : []) as readonly (string | UseEntry)[];
  const listed = entries.map((entry) => (typeof entry === 'string' ? entry : entry.use));
  const kept = (config: Readonly<Record<string, unknown>>, ids: readonly string[]) => {
    const others = ids.filter((id) => id !== adapter.manifest.id).map((id) => catalog.adapters.get(id));
    const isOthers = (key: string) =>
      !knows(adapter, key) && others.some((other) => other === undefined || knows(other, key));
    return Object.fromEntries(Object.entries(config).filter(([key]) => !isOthers(key)));
  };
  const all = [...bindingPath, 'config'];
  const shared = kept(binding.config ?? {}, [...listed, ...beside(all)]);
  if (own === null) return { config: shared, configPaths: [all] };
  const ownPath = [...path.slice(0, -1), 'config'];
  return { config: { ...shared, ...kept(own, beside(ownPath)) }, configPaths: [ownPath, all] };
}

function knows({ manifest: { config } }: Adapter, key: string): boolean {
  return isSchema(config?.properties) && Object.hasOwn(config.properties, key);
}
