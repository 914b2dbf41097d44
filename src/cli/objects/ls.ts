/** `objects ls`: ids, as the store finds them. */
import type { Command } from 'commander';
import { show } from '../../contracts/ids.js';
import { ObjectStore } from '../../contracts/object-store.js';
import { examples, instanceOption } from '../arguments.js';
import { type InstanceOptions, withInstance } from '../instance.js';
import { type Cli, UsageError } from '../io.js';
import { writeJsonList } from '../json-list.js';
import { write } from '../output.js';

interface LsOptions extends InstanceOptions {
  readonly prefix?: string;
}

export function defineLs(parent: Command, cli: Cli): void {
  const command = parent
    .command('ls')
    .summary('list ids')
    .description('List the ids of the objects, in ascending order, a line each.')
    .option('--prefix <hex>', 'only ids that begin with these hexadecimal characters', prefix)
    .addOption(instanceOption())
    .action((options: LsOptions) => ls(cli, options));
  examples(command, 'rollout-cloud objects ls --prefix ab', 'rollout-cloud objects ls | wc -l');
}

function prefix(text: string): string {
  if (/^[0-9a-f]{0,64}$/.test(text)) return text;
  throw new UsageError(`--prefix must be up to 64 lower-case hexadecimal characters, found ${show(text)}`);
}

async function ls(cli: Cli, options: LsOptions): Promise<void> {
  await withInstance(cli, ObjectStore, options, async (store) => {
    const ids = store.list({ prefix: options.prefix, signal: cli.signal });
    if (cli.json) return writeJsonList(cli, ids);
    for await (const id of ids) await write(cli.stdout, `${id}\n`);
  });
}
