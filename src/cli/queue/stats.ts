/** `queue stats`: how much is in a queue. */
import type { Command } from 'commander';
import { Queue } from '../../contracts/queue.js';
import { examples, instanceOption } from '../arguments.js';
import { columns } from '../columns.js';
import { type InstanceOptions, withInstance } from '../instance.js';
import type { Cli } from '../io.js';
import { bytes, colorsFor, count, writeJson, writeLine } from '../output.js';

export function defineStats(parent: Command, cli: Cli): void {
  const command = parent
    .command('stats')
    .summary('tell how much is in the queue')
    .description('Tell how many items are in the queue, and how old the first in line is.')
    .addOption(instanceOption())
    .action((options: InstanceOptions) => stats(cli, options));
  examples(command, 'rollout-cloud queue stats', 'rollout-cloud queue stats --json | jq .pending');
}

async function stats(cli: Cli, options: InstanceOptions): Promise<void> {
  const found = await withInstance(cli, Queue, options, (queue) => queue.stats());
  if (cli.json) {
    writeJson(cli, found);
    return;
  }
  const { bold } = colorsFor(cli.stdout, cli.env);
  const ageMs = found.oldestPendingAgeMs;
  const rows = [
    ['pending', `${count(found.pending)}${ageMs === null ? '' : `, the first for ${(ageMs / 1000).toFixed(1)} s`}`],
    ['delayed', count(found.delayed)],
    ['in flight', count(found.inFlight)],
    ['dead letters', count(found.deadLetters)],
    ['payloads', `${bytes(found.bytesInMemory)} in memory, ${bytes(found.bytesInStorage)} in storage`],
    ['largest payload', bytes(found.payloadBytesMax)],
    ['durability', found.durability],
  ];
  writeLine(cli.stdout, columns(rows.map(([label = '', text = '']) => [bold(label), text])));
}
