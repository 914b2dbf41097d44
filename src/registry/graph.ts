/** Who needs whom among planned instances. */
import { placeInManifest } from './manifest.js';
import type { PlannedInstance } from './plan.js';
import { compare, type Problem, showPlace } from './problems.js';

/** Keys of all that an instance needs, its middleware and secrets included, each once. */
export function edgesOf({ requires, secrets, middleware }: PlannedInstance): readonly string[] {
  const parts = [{ requires, secrets }, ...middleware];
  const keys = parts.flatMap((part) => [
    ...part.requires.flatMap((requirement) => requirement.keys),
    ...part.secrets.map(({ key }) => key),
  ]);
  return [...new Set(keys)];
}

/** Each circle once, with its path. Without recursion: a row of instances may be longer than the stack is deep. */
export function cycles(instances: ReadonlyMap<string, PlannedInstance>): Problem[] {
  const done = new Set<string>();
  const problems: Problem[] = [];
  for (const root of instances.keys()) {
    /** From the root on: each needs the next, and has those before `next` looked at. */
    const trail: { readonly key: string; readonly edges: readonly string[]; next: number }[] = [];
    const onTrail = new Set<string>();
    const enter = (key: string): void => {
      if (onTrail.has(key)) {
        const keys = trail.map((step) => step.key);
        problems.push(circle([...keys.slice(keys.indexOf(key)), key], instances));
      } else if (!done.has(key)) {
        const instance = instances.get(key);
        trail.push({ key, edges: instance === undefined ? [] : edgesOf(instance), next: 0 });
        onTrail.add(key);
      }
    };
    enter(root);
    for (let last = trail.at(-1); last !== undefined; last = trail.at(-1)) {
      const next = last.edges[last.next++];
      if (next !== undefined) enter(next);
      else {
        trail.pop();
        onTrail.delete(last.key);
        done.add(last.key);
      }
    }
  }
  return problems;
}

/** @param keys the path of the circle, which ends where it begins */
function circle(keys: readonly string[], instances: ReadonlyMap<string, PlannedInstance>): Problem {
  const places = keys.slice(0, -1).map((key) => instances.get(key)?.place ?? null);
  const shown = places
    .filter((place) => place !== null)
    .map(showPlace)
    .join(', ');
  const message = `dependency cycle: ${keys.join(' -> ')}${shown === '' ? '' : ` (${shown})`}`;
  // Where nothing of it is bound, the manifests say it.
  const adapter = instances.get(keys[0] ?? '')?.adapter;
  const place = places.find((each) => each !== null) ?? (adapter ? placeInManifest(adapter.plugin, []) : null);
  return { code: 'RC1201', place, message };
}

export interface GraphNode {
  /** `Queue#default` */
  readonly instance: string;
  readonly adapter: string;
  readonly plugin: string;
  /** Ids, outermost first. */
  readonly middleware: readonly string[];
}

export interface GraphEdge {
  readonly from: string;
  readonly to: string;
  /** `secret`: the configuration names a secret that the other one has. */
  readonly kind: 'requires' | 'secret';
  /** The adapter or middleware that needs it. */
  readonly by: string;
}

/** Every planned instance, and who needs whom, as plain data, sorted. */
export interface HostGraph {
  readonly instances: readonly GraphNode[];
  readonly edges: readonly GraphEdge[];
}

export function graphOf(instances: ReadonlyMap<string, PlannedInstance>): HostGraph {
  const all = [...instances.values()].sort((a, b) => compare(a.key, b.key));
  const edges = all.flatMap((planned) =>
    [{ ...planned, manifest: planned.adapter.manifest }, ...planned.middleware].flatMap((part) => {
      const edge = (to: string, kind: GraphEdge['kind']) => ({ from: planned.key, to, kind, by: part.manifest.id });
      const required = new Set(part.requires.flatMap(({ keys }) => keys));
      const stores = new Set(part.secrets.map(({ key }) => key));
      return [...[...required].map((to) => edge(to, 'requires')), ...[...stores].map((to) => edge(to, 'secret'))];
    }),
  );
  return {
    instances: all.map(({ key, adapter, middleware }) => ({
      instance: key,
      adapter: adapter.manifest.id,
      plugin: adapter.plugin.manifest.id,
      middleware: middleware.map(({ manifest }) => manifest.id),
    })),
    edges,
  };
}

/** A flowchart for Mermaid, as Markdown of many sites shows it: secrets are dashed. */
export function toMermaid({ instances, edges }: HostGraph): string {
  const idOf = new Map(instances.map(({ instance }, i) => [instance, `n${i}`]));
  const text = (value: string) => value.replace(/[^A-Za-z0-9 ._/@-]/g, (c) => `#${c.codePointAt(0)};`);
  const lines = instances.map(({ instance, adapter, middleware }) => {
    const layers = [...middleware, adapter].map(text).join(' > ');
    return `  ${idOf.get(instance)}["${text(instance)}<br/>${layers}"]`;
  });
  const arrows = edges.map(({ from, to, kind }) => {
    const arrow = kind === 'secret' ? '-. secret .->' : '-->';
    return `  ${idOf.get(from)} ${arrow} ${idOf.get(to)}`;
  });
  return ['flowchart LR', ...lines, ...new Set(arrows)].join('\n');
}
