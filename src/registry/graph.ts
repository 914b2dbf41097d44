/** Who needs whom among planned instances. */
import type { PlannedInstance } from './plan.js';
import { type Problem, showPlace } from './problems.js';

/** Keys of all that an instance needs, its middleware and secrets included, each once. */
export function edgesOf({ requires, secrets, middleware }: PlannedInstance): readonly string[] {
  const parts = [{ requires, secrets }, ...middleware];
  const keys = parts.flatMap((part) => [
    ...part.requires.flatMap((requirement) => requirement.keys),
    ...part.secrets.map(({ key }) => key),
  ]);
  return [...new Set(keys)];
}

/** Each circle once, with its path. */
export function cycles(instances: ReadonlyMap<string, PlannedInstance>): Problem[] {
  const done = new Set<string>();
  const problems: Problem[] = [];
  const visit = (key: string, trail: readonly string[]): void => {
    const start = trail.indexOf(key);
    if (start >= 0) {
      const places = trail.slice(start).map((step) => instances.get(step)?.place ?? null);
      const shown = places
        .filter((place) => place !== null)
        .map(showPlace)
        .join(', ');
      const path = [...trail.slice(start), key].join(' -> ');
      const message = `dependency cycle: ${path}${shown === '' ? '' : ` (${shown})`}`;
      problems.push({ code: 'RC1201', place: places.find((place) => place !== null) ?? null, message });
      return;
    }
    if (done.has(key)) return;
    const instance = instances.get(key);
    for (const next of instance === undefined ? [] : edgesOf(instance)) visit(next, [...trail, key]);
    done.add(key);
  };
  for (const key of instances.keys()) visit(key, []);
  return problems;
}
