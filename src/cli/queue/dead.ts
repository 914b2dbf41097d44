/** `queue dead`, `requeue` and `purge`: the items that were given up, and how to be rid of items. */
import type { Command } from 'commander';
import { isCoreError } from '../../contracts/errors.js';
import { QueueItemId } from '../../contracts/ids.js';
import { Queue, type QueueItem } from '../../contracts/queue.js';
import { examples, instanceOption } from '../arguments.js';
import { readInput, readLines, STDIN } from '../input.js';
import { type InstanceOptions, withInstance } from '../instance.js';
import { type Cli, UsageError } from '../io.js';
import { writeJsonList } from '../json-list.js';
import { plural, tell, write, writeJson, writeLine } from '../output.js';
import { itemDocument, itemLine } from './item.js';

export function defineDead(parent: Command, cli: Cli): void {
  const command = parent
    .command('dead')
    .summary('show the items that were given up')
    .description(
      'Show the dead letters, oldest first: id, attempts and payload, a line each, as receive does. They stay where ' +
        'they are, and looking at them counts for nothing.',
    )
    .addOption(instanceOption())
    .action((options: InstanceOptions) => dead(cli, options));
  examples(
    command,
    'rollout-cloud queue dead',
    "rollout-cloud queue dead --json | jq -r '.[].id' | xargs rollout-cloud queue requeue",
  );
}

async function dead(cli: Cli, options: InstanceOptions): Promise<void> {
  await withInstance(cli, Queue, options, async (queue) => {
    const letters = untilAborted(cli, queue.deadLetters());
    if (cli.json) return writeJsonList(cli, documents(letters));
    for await (const letter of letters) await write(cli.stdout, itemLine(letter));
  });
}

async function* documents(items: AsyncIterable<QueueItem>): AsyncGenerator<object> {
  for await (const item of items) yield itemDocument(item);
}

async function* untilAborted<T>(cli: Cli, items: AsyncIterable<T>): AsyncGenerator<T> {
  for await (const item of items) {
    cli.signal.throwIfAborted();
    yield item;
  }
}

interface RequeueOptions extends InstanceOptions {
  readonly all?: boolean;
}

export function defineRequeue(parent: Command, cli: Cli): void {
  const command = parent
    .command('requeue')
    .summary('put dead letters back in line')
    .description(
      'Make dead letters pending again, first in line, the oldest first, their attempts at 0; prints the id of each. ' +
        'One that is no dead letter makes the exit code 1.',
    )
    .argument('[id...]', 'ids of the dead letters', itemIds)
    .option('--all', 'every dead letter there is')
    .addOption(instanceOption())
    .action((ids: QueueItemId[] = [], options: RequeueOptions) => requeue(cli, ids, options));
  examples(command, 'rollout-cloud queue requeue "$id"', 'rollout-cloud queue requeue --all');
}

function itemIds(text: string, before: readonly QueueItemId[] = []): QueueItemId[] {
  if (!QueueItemId.is(text)) {
    throw new UsageError(`${JSON.stringify(text)} is not an item's id: expected a ULID of 26 upper-case characters`);
  }
  return [...before, text];
}

async function requeue(cli: Cli, ids: readonly QueueItemId[], { all = false, ...options }: RequeueOptions) {
  if (all === ids.length > 0) throw new UsageError('say which dead letters: their ids, or --all');
  await withInstance(cli, Queue, options, async (queue) => {
    const wanted = new Set(ids);
    if (all) for await (const { id } of untilAborted(cli, queue.deadLetters())) wanted.add(id);
    const results = requeueAll(cli, queue, [...wanted]);
    if (cli.json) return writeJsonList(cli, results);
    for await (const { id, requeued } of results) {
      if (requeued) await write(cli.stdout, `${id}\n`);
      else tell(cli, `${id} is not a dead letter of this queue`);
    }
  });
}

/** The newest first, for queues that put each before all others, those requeued before it too. */
async function* requeueAll(
  cli: Cli,
  queue: Queue,
  ids: QueueItemId[],
): AsyncGenerator<{ readonly id: QueueItemId; readonly requeued: boolean }> {
  for (const id of ids.sort().reverse()) {
    cli.signal.throwIfAborted();
    let requeued = true;
    try {
      await queue.requeue(id);
    } catch (error) {
      if (!isCoreError(error) || error.code !== 'ITEM_UNKNOWN') throw error;
      requeued = false;
      cli.exitCode = 1;
    }
    yield { id, requeued };
  }
}

interface PurgeOptions extends InstanceOptions {
  readonly yes?: boolean;
}

type Which = 'pending' | 'dead';

export function definePurge(parent: Command, cli: Cli): void {
  const which = parent
    .createArgument('<which>', 'pending: what waits to be handed over, delayed items too; dead: the dead letters')
    .choices(['pending', 'dead']);
  const command = parent
    .command('purge')
    .summary('delete all pending items, or all dead letters')
    .description(
      'Delete all pending items, or all dead letters, for good; asks before it does, on a terminal. Elsewhere --yes ' +
        'is needed.',
    )
    .addArgument(which)
    .option('--yes', 'do not ask')
    .addOption(instanceOption())
    .action((chosen: Which, options: PurgeOptions) => purge(cli, chosen, options));
  examples(command, 'rollout-cloud queue purge dead', 'rollout-cloud queue purge pending --yes');
}

async function purge(cli: Cli, which: Which, { yes = false, ...options }: PurgeOptions): Promise<void> {
  // Before the queue is opened: nobody else can have it while a question waits for its answer.
  const ask = !yes && isInteractive(cli);
  if (!yes && !ask) throw new UsageError(`purge deletes items for good; say --yes: queue purge ${which} --yes`);
  await withInstance(cli, Queue, options, async (queue) => {
    const { pending, delayed, deadLetters } = await queue.stats();
    const doomed = which === 'dead' ? plural(deadLetters, 'dead letter') : plural(pending + delayed, 'pending item');
    if (ask && !(await confirmed(cli, `Delete ${doomed} for good?`))) {
      tell(cli, 'nothing was deleted');
      cli.exitCode = 1;
      return;
    }
    const purged = await queue.purge(which);
    if (cli.json) writeJson(cli, { which, purged });
    else writeLine(cli.stdout, `${plural(purged, which === 'dead' ? 'dead letter' : 'pending item')} deleted`);
  });
}

function isInteractive(cli: Cli): boolean {
  const stdin = cli.stdin() as { readonly isTTY?: boolean };
  return cli.stderr.isTTY === true && stdin.isTTY === true;
}

/** Longest answer read. */
const ANSWER_BYTES_MAX = 1_000;

async function confirmed(cli: Cli, question: string): Promise<boolean> {
  cli.stderr.write(`${question} [y/N] `);
  for await (const [answer = Buffer.alloc(0)] of readLines(readInput(cli, STDIN), ANSWER_BYTES_MAX)) {
    return /^\s*y(es)?\s*$/i.test(answer.toString());
  }
  return false;
}
