/** `plugins`: what serves what. Nothing of a plugin is run for it: its manifest and the configuration say it all. */
import type { Command } from 'commander';
import type { BindingInfo } from '../registry/index.js';
import { examples } from './arguments.js';
import { columns } from './columns.js';
import { withHost } from './host.js';
import type { Cli } from './io.js';
import { colorsFor, writeJson, writeLine } from './output.js';
import { defineNew } from './scaffold/command.js';
import { printable } from './tour/paths.js';

export function define(command: Command, cli: Cli): void {
  const listing = command
    .command('list')
    .summary('list every instance')
    .description(
      'List every instance: its adapter, plugin, state and configuration, defaults filled in. A * marks the ' +
        'one that is meant where no name is given. Optional plugins that are not there are told on stderr.',
    )
    .action(() => list(cli));
  defineNew(command, cli);
  for (const help of [listing, command.helpCommand(false)])
    examples(help, 'rollout-cloud plugins list', 'rollout-cloud plugins list --json');
}

async function list(cli: Cli): Promise<void> {
  await withHost(cli, {}, async (host) => {
    const instances = host.bindings();
    if (cli.json) {
      writeJson(cli, { instances, warnings: host.warnings });
      return;
    }
    const { bold, dim, green } = colorsFor(cli.stdout, cli.env);
    const row = ({ capability, name, isDefault, adapter, plugin, pluginVersion, state, config }: BindingInfo) => [
      isDefault ? green('*') : ' ',
      bold(printable(Buffer.from(`${capability}#${name}`))),
      adapter,
      `${plugin} ${pluginVersion}`,
      state,
      dim(settings(config)),
    ];
    if (instances.length > 0) writeLine(cli.stdout, columns(instances.map(row)));
  });
}

/** `root="/data" io="auto"` */
function settings(config: Readonly<Record<string, unknown>>): string {
  const entries = Object.entries(config).map(([key, value]) => `${key}=${JSON.stringify(value)}`);
  return printable(Buffer.from(entries.join(' ')));
}
