/** Whose activation an error ended: one of the contracts' family reaches whoever asked as it is, and names nobody. */
import type { PlannedInstance } from './plan.js';

const BLAMED = new WeakMap<object, { readonly key: string; readonly adapter: string }>();

/** The first is to blame: who needs that one fails with the same error. */
export function blame(error: unknown, { key, adapter }: PlannedInstance): void {
  if (typeof error !== 'object' || error === null || BLAMED.has(error)) return;
  BLAMED.set(error, { key, adapter: adapter.manifest.id });
}

/** The message, with whose activation it ended before it where it does not say so itself. */
export function blaming(message: string, error: unknown): string {
  const blamed = typeof error === 'object' && error !== null ? BLAMED.get(error) : undefined;
  return blamed === undefined || message.includes(blamed.key)
    ? message
    : `${blamed.key} (adapter ${blamed.adapter}): ${message}`;
}
