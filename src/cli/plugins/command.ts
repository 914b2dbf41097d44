/** `plugins`: what serves what, and why. Nothing of a plugin is run for it: manifests and configuration say it all. */
import type { Command } from 'commander';
import type { BindingInfo, FoundPlugin } from '../../registry/index.js';
import { examples } from '../arguments.js';
import { columns } from '../columns.js';
import { withHost } from '../host.js';
import type { Cli } from '../io.js';
import { colorsFor, writeJson, writeLine } from '../output.js';
import { defineNew } from '../scaffold/command.js';
import { printable } from '../tour/paths.js';
import { defineExplain } from './explain.js';
import { defineGraph } from './graph.js';
import { defineSchema } from './schema.js';

export function define(command: Command, cli: Cli): void {
  const listing = command
    .command('list')
    .summary('list every plugin and every instance')
    .description(
      'List every plugin that is listed or was found, with its state and why it is not ready where it is not; then ' +
        'every instance: its adapter, plugin, state and configuration, defaults filled in. A * marks the one that is ' +
        'meant where no name is given. Optional plugins that are not there are told on stderr.',
    )
    .action(() => list(cli));
  defineExplain(command, cli);
  defineGraph(command, cli);
  defineSchema(command, cli);
  defineNew(command, cli);
  for (const help of [listing, command.helpCommand(false)])
    examples(help, 'rollout-cloud plugins list', 'rollout-cloud plugins list --json');
}

async function list(cli: Cli): Promise<void> {
  await withHost(cli, {}, async (host) => {
    const [plugins, instances] = [host.plugins(), host.bindings()];
    if (cli.json) {
      writeJson(cli, { plugins, instances, warnings: host.warnings });
      return;
    }
    const { bold, dim, green } = colorsFor(cli.stdout, cli.env);
    const pluginRow = ({ id, version, use, source, state, reason }: FoundPlugin) => [
      bold(shown(id === null ? use : `${id} ${version}`)),
      state,
      source,
      dim(shown(reason ?? '')),
    ];
    const row = ({ capability, name, isDefault, adapter, plugin, pluginVersion, state, config }: BindingInfo) => [
      isDefault ? green('*') : ' ',
      bold(shown(`${capability}#${name}`)),
      adapter,
      `${plugin} ${pluginVersion}`,
      state,
      dim(settings(config)),
    ];
    writeLine(cli.stdout, columns(plugins.map(pluginRow)));
    if (instances.length > 0) writeLine(cli.stdout, `\n${columns(instances.map(row))}`);
  });
}

/** `root="/data" io="auto"` */
function settings(config: Readonly<Record<string, unknown>>): string {
  return shown(
    Object.entries(config)
      .map(([key, value]) => `${key}=${JSON.stringify(value)}`)
      .join(' '),
  );
}

function shown(text: string): string {
  return printable(Buffer.from(text));
}
