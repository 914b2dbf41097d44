/** `plugins new`: writes a plugin that builds, has a test, and loads; its author goes on from there. */
import { existsSync, readdirSync } from 'node:fs';
import { mkdir, open, rm, rmdir } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, isAbsolute, join, relative, resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { systemError } from '../../contracts/errors.js';
import { KNOWN_CAPABILITIES } from '../../contracts/known.js';
import { VERSION } from '../../registry/own-package.js';
import { examples } from '../arguments.js';
import { type Cli, UsageError } from '../io.js';
import { writeJson, writeLine } from '../output.js';

interface NewOptions {
  readonly capability: string;
  readonly dir?: string;
  readonly js?: boolean;
}

const CAPABILITIES = KNOWN_CAPABILITIES.map(({ name }) => name);

export function defineNew(command: Command, cli: Cli): void {
  const making = command
    .command('new <id>')
    .summary('write a new plugin')
    .description(
      'Write a plugin with one adapter: manifest, code, and a test that runs the contract’s conformance suite. It ' +
        'works at once, on a stand-in in memory, to be replaced method by method. Nothing is overwritten.',
    )
    .addOption(
      new Option('--capability <name>', 'the contract that the adapter serves')
        .choices(CAPABILITIES)
        .makeOptionMandatory(),
    )
    .option('--dir <folder>', 'where it goes; default plugins/<id>')
    .option('--js', 'write JavaScript instead of TypeScript')
    .action((id: string, options: NewOptions) => create(cli, id, options));
  examples(
    making,
    'rollout-cloud plugins new acme.vault --capability SecretStore',
    'rollout-cloud plugins new acme.s3 --capability ObjectStore --dir packages/s3 --js',
  );
}

async function create(cli: Cli, id: string, { capability, dir = join('plugins', id), js = false }: NewOptions) {
  if (!/^[a-z0-9]+([.-][a-z0-9]+)*$/.test(id) || id.length > 100) {
    throw new UsageError(
      `${JSON.stringify(id)} is not an id of a plugin: write lower-case words joined by dots and dashes, e.g. acme.vault`,
    );
  }
  const folder = resolve(cli.cwd, dir);
  if (existsSync(folder) && (!isFolder(folder) || readdirSync(folder).length > 0)) {
    throw new UsageError(`${dir} is there already, and not empty: nothing was written. Name another with --dir`);
  }
  const token = KNOWN_CAPABILITIES.find(({ name }) => name === capability);
  const { scaffoldFiles } = await import('./files.js');
  const language = js ? 'js' : 'ts';
  const files = scaffoldFiles({ id, capability, provides: token?.id ?? '', language, version: VERSION });
  await writeAll(folder, files);

  const needs = ['rollout-cloud', ...(js ? [] : ['typescript', '@types/node'])];
  const install = needs.every((name) => isInstalled(name, folder)) ? '' : 'npm install && ';
  const use = useOf(folder, dirname(cli.config));
  const bindings = { [capability]: { adapter: id } };
  if (cli.json) {
    writeJson(cli, { id, capability, folder, files: Object.keys(files), use, bindings });
    return;
  }
  writeLine(
    cli.stdout,
    `wrote ${Object.keys(files).join(', ')} to ${dir}

Next:
  cd ${dir} && ${install}npm test      # the suite of ${capability} passes, on a stand-in in memory
  list it in plugins.json, "plugins": ["rollout.cloud-local", ${JSON.stringify(use)}]
  and bind it, "bindings": { "${capability}": { "adapter": "${id}" } }
  then write its methods one by one, in index.${language}; npm test says when one is wrong`,
  );
}

/** All of them, or none: half a plugin would be in the way of the next try. */
async function writeAll(folder: string, files: Readonly<Record<string, string>>): Promise<void> {
  const written: string[] = [];
  try {
    await mkdir(folder, { recursive: true });
    for (const [name, text] of Object.entries(files)) {
      // `wx`: whoever wrote one of them in between keeps it.
      const file = await open(join(folder, name), 'wx');
      written.push(join(folder, name));
      try {
        await file.writeFile(text);
      } finally {
        await file.close();
      }
    }
  } catch (error) {
    for (const file of written) await rm(file, { force: true });
    // A folder that others have put something in stays.
    await rmdir(folder).catch(() => {});
    throw systemError(error, `write the plugin to ${folder}`);
  }
}

/** Whether code in the folder finds the package: an application's is there for the plugins in it. */
function isInstalled(name: string, folder: string): boolean {
  const places = createRequire(join(folder, 'index.js')).resolve.paths(name) ?? [];
  return places.some((place) => existsSync(join(place, name, 'package.json')));
}

function isFolder(path: string): boolean {
  try {
    readdirSync(path);
    return true;
  } catch {
    return false;
  }
}

/** As `plugins` in the configuration names the folder. */
function useOf(folder: string, from: string): string {
  const path = relative(from, folder).replaceAll('\\', '/');
  return isAbsolute(path) || path.startsWith('..') ? path : `./${path}`;
}
