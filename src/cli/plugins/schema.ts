/** `plugins schema`: what an editor completes plugins.json with. */
import { existsSync } from 'node:fs';
import { chmod, readFile, realpath, rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { Command } from 'commander';
import { systemError } from '../../contracts/errors.js';
import { loadConfig } from '../../registry/config.js';
import { withSchema } from '../../registry/document.js';
import { installedSchema } from '../../registry/installed.js';
import { examples } from '../arguments.js';
import type { Cli } from '../io.js';
import { tell, writeJson, writeLine } from '../output.js';

const NAME = 'plugins.schema.json';

export function defineSchema(command: Command, cli: Cli): void {
  const writing = command
    .command('schema')
    .summary('write the schema that completes plugins.json in an editor')
    .description(
      `Write ${NAME} beside the configuration, made from the plugins that are installed, and point the ` +
        'configuration’s $schema at it: editors then complete adapters and their settings, and mark what is wrong. ' +
        'Comments and layout stay as they are. Run it again when plugins come or go.',
    )
    .option('--stdout', 'print the schema, and write nothing')
    .action((options: { stdout?: boolean }) => schema(cli, options));
  examples(writing, 'rollout-cloud plugins schema', 'rollout-cloud plugins schema --stdout > my.schema.json');
}

async function schema(cli: Cli, { stdout = false }: { stdout?: boolean }): Promise<void> {
  const { config: file, profile, set, env } = cli;
  // What is wrong in the bindings may be why the schema is wanted: the plugins alone have to be there.
  const config = loadConfig({ config: file, set, env, ...(profile !== undefined && { profile }) });
  const made = installedSchema(config, (reason) => tell(cli, `warning: not in the schema: ${reason}`));
  if (stdout) {
    writeJson(cli, made);
    return;
  }
  const target = join(dirname(file), NAME);
  await replace(target, `${JSON.stringify(made, null, 2)}\n`);
  const before = await readFile(file, 'utf8');
  const after = withSchema(before, `./${NAME}`);
  if (after !== before) await replace(file, after);
  if (cli.json) writeJson(cli, { schema: target, config: file, changed: after !== before });
  else {
    writeLine(cli.stdout, target);
    if (after !== before) writeLine(cli.stdout, `${file}: $schema is "./${NAME}" now`);
  }
}

/** The new file in the place of the old one, whole or not at all; where that is a link, of the file that it leads to. */
async function replace(file: string, text: string): Promise<void> {
  const target = existsSync(file) ? await realpath(file) : file;
  const draft = join(dirname(target), `.${basename(target)}.${process.pid}`);
  try {
    await writeFile(draft, text);
    // Who may not read the old one, may not read the new one, either.
    if (existsSync(target)) await chmod(draft, (await stat(target)).mode & 0o777);
    await rename(draft, target);
  } catch (error) {
    await rm(draft, { force: true });
    throw systemError(error, `write ${file}`);
  }
}
