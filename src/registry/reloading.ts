/** What the manifest of a plugin says now, as far as loading its code anew can put that into effect. */
import { isDeepStrictEqual } from 'node:util';
import { FatalError } from '../contracts/errors.js';
import type { PluginManifest } from '../contracts/plugin.js';
import type { Environment } from './config.js';
import { type Plugin, readManifest } from './manifest.js';
import { problemsError } from './problems.js';

/** What no plan is made of: the rest decides which instances there are, and how each is made. */
const BESIDE_THE_PLAN: ReadonlySet<string> = new Set(['permissions', 'displayName', 'description']);

/**
 * @throws FatalError ConfigInvalid: `RC1107`, `RC1111`, the manifest is not sound any more. `RELOAD_REFUSED`: it says what
 * only a new plan can put into effect
 */
export function readAgain(plugin: Plugin, env: Environment): Plugin {
  // One that a test hands over has no file.
  if (plugin.source === undefined) return plugin;
  const { id } = plugin.manifest;
  const { plugin: found, faults, reason } = readManifest(plugin.folder, { env });
  if (found === null) {
    if (faults.length > 0) throw problemsError(faults);
    throw refused(id, `does not hold here any more (${reason})`);
  }
  const [was, is] = [plugin.manifest, found.manifest] as const;
  const keys = [...new Set([...Object.keys(was), ...Object.keys(is)])] as (keyof PluginManifest)[];
  const changed = keys.filter((key) => !BESIDE_THE_PLAN.has(key) && !isDeepStrictEqual(was[key], is[key]));
  if (changed.length === 0) return { ...plugin, ...found };
  throw refused(id, `has another ${changed.map((key) => `"${key}"`).join(', ')}, of which bindings are made`);
}

function refused(plugin: string, why: string): FatalError {
  const message = `plugin ${plugin} was not reloaded, and serves on as it is: its manifest ${why}; host.reconfigure() puts that into effect, with instances made anew`;
  return new FatalError('ConfigInvalid', message, { code: 'RELOAD_REFUSED', context: { plugin } });
}
