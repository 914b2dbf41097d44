/**
 * `queue receive`: shows the items that are first in line. Each is held under a lease until all are shown, then given
 * back; with `--ack` it is acked as soon as it has been written.
 */
import type { Command } from 'commander';
import { isCoreError } from '../../contracts/errors.js';
import { ITEMS_PER_CALL_MAX, Queue, type QueueItem, WAIT_MS_MAX } from '../../contracts/queue.js';
import { examples, instanceOption, integer } from '../arguments.js';
import { type InstanceOptions, withInstance } from '../instance.js';
import type { Cli } from '../io.js';
import { writeJsonList } from '../json-list.js';
import { flush, plural, tell, write } from '../output.js';
import { itemDocument, itemLine } from './item.js';

/** Items whose payloads are in memory at a time. */
const ITEMS_AT_ONCE = 16;

interface ReceiveOptions extends InstanceOptions {
  readonly leaseMs: number;
  readonly max: number;
  readonly waitMs: number;
  readonly ack?: boolean;
}

export function defineReceive(parent: Command, cli: Cli): void {
  const command = parent
    .command('receive')
    .summary('show items')
    .description(
      'Show items: id, attempts and payload, a line each. Text is written as a JSON string, other bytes in base64.\n' +
        'Without --ack the items are given back at the end, first in line. Being shown counts as a delivery: with ' +
        'maxAttempts, an item that was shown so often is a dead letter.',
    )
    .option(
      '--lease-ms <n>',
      'give up an item that is not shown in this time',
      integer('--lease-ms', 1, WAIT_MS_MAX),
      30_000,
    )
    .option('--max <n>', 'at most this many', integer('--max', 1, ITEMS_PER_CALL_MAX), 1)
    .option('--wait-ms <n>', 'how long to wait for the first', integer('--wait-ms', 0, WAIT_MS_MAX), 0)
    .option('--ack', 'ack each item when it has been written: it is gone from the queue')
    .addOption(instanceOption())
    .action((options: ReceiveOptions) => receive(cli, options));
  examples(
    command,
    'rollout-cloud queue receive --max 10',
    'rollout-cloud queue receive --ack --wait-ms 60000',
    "rollout-cloud queue receive --ack --json | jq -r '.[].payload'",
  );
}

async function receive(cli: Cli, options: ReceiveOptions): Promise<void> {
  await withInstance(cli, Queue, options, async (queue) => {
    // What cannot be written is not acked.
    const written = () => flush(cli.stdout);
    const items = received(queue, options, cli.signal, written);
    let shown = 0;
    async function* documents(): AsyncGenerator<object> {
      for await (const item of items) {
        shown += 1;
        yield itemDocument(item);
      }
    }
    if (cli.json) await writeJsonList(cli, documents());
    else {
      for await (const item of items) {
        shown += 1;
        await write(cli.stdout, itemLine(item));
      }
    }
    if (shown === 0 || options.ack) return;
    tell(cli, `${plural(shown, 'item')} given back; being shown counted as a delivery. --ack takes them off the queue`);
  });
}

/** Items; when the next one is asked for, the one before has been given to the stream, and `written` says it has arrived. */
async function* received(
  queue: Queue,
  { leaseMs, max, waitMs, ack = false }: ReceiveOptions,
  signal: AbortSignal,
  written: () => Promise<void>,
): AsyncGenerator<QueueItem, void, void> {
  const held: Pick<QueueItem, 'id' | 'token'>[] = [];
  try {
    for (let taken = 0; taken < max; ) {
      const items = await queue.receive({
        leaseMs,
        max: Math.min(max - taken, ITEMS_AT_ONCE),
        waitMs: taken === 0 ? waitMs : 0,
        signal,
      });
      if (items.length === 0) return;
      taken += items.length;
      held.push(...items.map(({ id, token }) => ({ id, token })));
      for (const item of items) {
        yield item;
        if (!ack) continue;
        await written();
        await queue.ack(item.id, item.token);
        held.shift();
      }
    }
  } finally {
    // The last one first, as each goes first in line.
    for (const { id, token } of held.reverse()) await giveBack(queue, id, token);
  }
}

async function giveBack(queue: Queue, id: QueueItem['id'], token: QueueItem['token']): Promise<void> {
  try {
    await queue.nack(id, token);
  } catch (error) {
    // The end of its lease has given it back already.
    if (!isCoreError(error) || error.code !== 'LEASE_LOST') throw error;
  }
}
