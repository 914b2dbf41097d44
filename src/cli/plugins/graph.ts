/** `plugins graph`: who needs whom. */
import type { Command } from 'commander';
import { toMermaid } from '../../registry/graph.js';
import type { HostGraph } from '../../registry/index.js';
import { examples } from '../arguments.js';
import { withHost } from '../host.js';
import type { Cli } from '../io.js';
import { colorsFor, writeJson, writeLine } from '../output.js';
import { printable } from '../tour/paths.js';

export function defineGraph(command: Command, cli: Cli): void {
  const graphing = command
    .command('graph')
    .summary('who needs whom')
    .description(
      'Print each instance that nothing needs, and below it what it needs. What stands there for the second time is ' +
        'not unfolded again.',
    )
    .option('--mermaid', 'print a Mermaid flowchart instead')
    .action((options: { mermaid?: boolean }) => graph(cli, options));
  examples(graphing, 'rollout-cloud plugins graph', 'rollout-cloud plugins graph --mermaid > graph.mmd');
}

async function graph(cli: Cli, { mermaid = false }: { mermaid?: boolean }): Promise<void> {
  await withHost(cli, {}, async (host) => {
    const whole = host.graph();
    if (cli.json) writeJson(cli, mermaid ? { mermaid: toMermaid(whole) } : whole);
    else if (mermaid) writeLine(cli.stdout, toMermaid(whole));
    else for (const line of tree(cli, whole)) writeLine(cli.stdout, line);
  });
}

function* tree(cli: Cli, { instances, edges }: HostGraph): Iterable<string> {
  const { bold, dim } = colorsFor(cli.stdout, cli.env);
  const needed = new Set(edges.map(({ to }) => to));
  const unfolded = new Set<string>();
  yield* instances.filter(({ instance }) => !needed.has(instance)).flatMap((root) => branch(root.instance, '', ''));

  function branch(key: string, first: string, rest: string, note = ''): string[] {
    const { adapter = '', middleware = [] } = instances.find(({ instance }) => instance === key) ?? {};
    const below = edges.filter(({ from }) => from === key);
    const again = unfolded.has(key) && below.length > 0;
    unfolded.add(key);
    const layers = [...middleware, adapter].join(' > ');
    const line = `${first}${bold(printable(Buffer.from(key)))}  ${layers}${dim(`${note}${again ? ' (see above)' : ''}`)}`;
    const steps = again
      ? []
      : below.flatMap(({ to, kind }, i) => {
          const isLast = i === below.length - 1;
          return branch(
            to,
            `${rest}${isLast ? '└─ ' : '├─ '}`,
            `${rest}${isLast ? '   ' : '│  '}`,
            kind === 'secret' ? ' for a secret' : '',
          );
        });
    return [line, ...steps];
  }
}
