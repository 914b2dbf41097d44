/** `plugins explain`: why an instance is what it is. */
import type { Command } from 'commander';
import { type SettingInfo, showOrigin } from '../../registry/explain.js';
import type { Explanation } from '../../registry/index.js';
import { examples } from '../arguments.js';
import { columns } from '../columns.js';
import { withHost } from '../host.js';
import type { Cli } from '../io.js';
import { colorsFor, writeJson, writeLine } from '../output.js';
import { printable } from '../tour/paths.js';

export function defineExplain(command: Command, cli: Cli): void {
  const explaining = command
    .command('explain <capability>')
    .summary('why this adapter, and where each value came from')
    .description(
      'Explain an instance, <capability> or <capability>#<name>: its adapter, the others that could serve and why ' +
        'they do not, each setting with where it came from, what it needs and who needs it.',
    )
    .action((wanted: string) => explain(cli, wanted));
  examples(explaining, 'rollout-cloud plugins explain ObjectStore', 'rollout-cloud plugins explain Queue#jobs --json');
}

async function explain(cli: Cli, wanted: string): Promise<void> {
  const [capability = '', name] = wanted.split('#');
  await withHost(cli, {}, async (host) => {
    const explanation = host.explain(capability, name);
    if (cli.json) writeJson(cli, explanation);
    else for (const line of lines(cli, explanation)) writeLine(cli.stdout, line);
  });
}

function* lines(cli: Cli, it: Explanation): Iterable<string> {
  const { bold, dim, green } = colorsFor(cli.stdout, cli.env);
  const shown = (value: string) => printable(Buffer.from(value));
  yield `${bold(shown(it.instance))}${it.isDefault ? ' (default)' : ''}: ${it.adapter} of ${it.plugin} ${it.pluginVersion}, ${it.state}`;
  yield '\nadapters';
  yield indented(
    it.candidates.map(({ adapter, plugin, isChosen, reason }) => [
      isChosen ? green('*') : ' ',
      adapter,
      dim(plugin ?? '-'),
      shown(reason),
    ]),
  );
  const settings = (all: readonly SettingInfo[]) =>
    indented(all.map(({ path, value, origin }) => [shown(path), shown(text(value)), dim(shown(showOrigin(origin)))]));
  if (it.settings.length > 0) yield `\nconfig\n${settings(it.settings)}`;
  for (const layer of it.middleware) {
    yield `\nmiddleware ${layer.id} of ${layer.plugin}${layer.settings.length > 0 ? `\n${settings(layer.settings)}` : ''}`;
  }
  if (it.needs.length > 0) yield `\nneeds      ${shown(it.needs.join(', '))}`;
  if (it.neededBy.length > 0) yield `${it.needs.length > 0 ? '' : '\n'}needed by  ${shown(it.neededBy.join(', '))}`;
}

/** `secret db/password` for a reference. */
function text(value: unknown): string {
  const { $secret: secret, store } = Object(value) as Record<string, unknown>;
  if (typeof secret !== 'string') return JSON.stringify(value);
  return `secret ${JSON.stringify(secret)}${typeof store === 'string' ? ` of SecretStore#${store}` : ''}`;
}

function indented(rows: readonly (readonly string[])[]): string {
  return columns(rows).replace(/^/gm, '  ');
}
