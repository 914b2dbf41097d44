/**
 * Validators compiled ahead, by the text of their schema. In the sources there are none, and Ajv compiles each schema when
 * it is met. The build fills this module (scripts/precompile.mjs) with those of plugins.json, of plugin.json and of the
 * built-in adapters: a host on these starts without Ajv, which would take most of the time of its start.
 */
import type { Validator } from './schema.js';

export const PRECOMPILED: ReadonlyMap<string, Validator> = new Map();
