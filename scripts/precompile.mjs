/**
 * An esbuild plugin that fills src/registry/precompiled.ts: with the validators that Ajv makes of plugins.json's schema, of
 * plugin.json's, and of every built-in adapter's and middleware's configuration.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { Ajv } from 'ajv';
import standaloneCode from 'ajv/dist/standalone/index.js';
import { build } from 'esbuild';

const require = createRequire(import.meta.url);

/** @param {string} src the folder of the sources @param {readonly string[]} manifests the built-in plugins' plugin.json */
export function precompile(src, manifests) {
  return {
    name: 'precompile',
    setup(builder) {
      builder.onLoad({ filter: /[\\/]registry[\\/]precompiled\.ts$/ }, async () => ({
        contents: validators(await import(await asUrl(join(src, 'registry/schemas.ts'))), manifests),
        resolveDir: src,
        loader: 'js',
      }));
      // A few lines that the validators call, e.g. for the length of a string: they come along, Ajv does not.
      builder.onResolve({ filter: /^ajv\/dist\/runtime\// }, ({ path }) => ({ path: require.resolve(path) }));
    },
  };
}

/**
 * Writes plugins.schema.json, of the built-in plugins, and plugin.schema.json.
 * @param {string} src the folder of the sources @param {readonly string[]} manifests @param {string} folder where they go
 */
export async function writeSchemas(src, manifests, folder) {
  const { configSchema, manifestSchema } = await import(await asUrl(join(src, 'registry/editor-schema.ts')));
  const plugins = manifests.map((file) => JSON.parse(readFileSync(file, 'utf8')));
  const installed = {
    plugins: plugins.map(({ id }) => id),
    capabilities: ['BlockStore'],
    adapters: plugins.flatMap(({ contributes }) => contributes.adapters ?? []),
    middleware: plugins.flatMap(({ contributes }) => contributes.middleware ?? []),
  };
  const write = (name, schema) => writeFileSync(join(folder, name), `${JSON.stringify(schema, null, 2)}\n`);
  write('plugins.schema.json', configSchema(installed));
  write('plugin.schema.json', manifestSchema());
}

/** The text of a module. */
function validators({ AJV_OPTIONS, CONFIG_SCHEMA, MANIFEST_SCHEMA, PROFILES_SCHEMA, adapterSchema }, manifests) {
  const contributed = manifests.flatMap((file) => {
    const { adapters = [], middleware = [] } = JSON.parse(readFileSync(file, 'utf8')).contributes;
    return [...adapters, ...middleware];
  });
  const configs = new Map(contributed.map(({ config }) => [JSON.stringify(config), adapterSchema(config)]));
  const schemas = [CONFIG_SCHEMA, PROFILES_SCHEMA, MANIFEST_SCHEMA, ...configs.values()];
  const ajv = new Ajv({ ...AJV_OPTIONS, code: { source: true, esm: true } });
  const names = schemas.map((_schema, i) => `validator${i}`);
  names.forEach((name, i) => void ajv.addSchema(schemas[i], name));
  const entries = names.map((name, i) => `[${JSON.stringify(JSON.stringify(schemas[i]))}, ${name}]`);
  const code = standaloneCode(ajv, Object.fromEntries(names.map((name) => [name, name])));
  return `${code}\nexport const PRECOMPILED = new Map([\n${entries.join(',\n')}\n]);\n`;
}

/** A source that imports no package, as a URL that Node can import. */
async function asUrl(source) {
  const { outputFiles } = await build({ entryPoints: [source], write: false, bundle: true, format: 'esm' });
  return `data:text/javascript,${encodeURIComponent(outputFiles[0].text)}`;
}
