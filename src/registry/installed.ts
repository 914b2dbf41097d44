/** The schema of plugins.json for the plugins that are installed. */
import { KNOWN_CAPABILITIES } from '../contracts/known.js';
import { Catalog } from './catalog.js';
import type { LoadedConfig } from './config.js';
import { discover } from './discovery.js';
import { configSchema } from './editor-schema.js';
import { showProblem } from './problems.js';
import type { JsonSchema } from './schemas.js';

/** @param tell is called for each plugin that is listed or found and is not in the schema, with the reason */
export function installedSchema(config: LoadedConfig, tell: (reason: string) => void = () => {}): JsonSchema {
  const discovery = discover(config);
  for (const reason of [...discovery.problems.map(showProblem), ...discovery.warnings]) tell(reason);
  const { adapters, middleware, capabilities } = new Catalog(discovery);
  const listable = discovery.infos.filter(({ source }) => source === 'listed' || source === 'built-in');
  return configSchema({
    plugins: [...new Set(listable.map(({ use }) => use))].sort(),
    capabilities: [...KNOWN_CAPABILITIES.map(({ name }) => name), ...capabilities],
    adapters: [...adapters.values()].map(({ manifest }) => manifest),
    middleware: middleware.map(({ manifest }) => manifest),
  });
}
