/** `queue send`: enqueues one item, or one for each line of the input. */
import type { Command } from 'commander';
import type { QueueItemId } from '../../contracts/ids.js';
import { type EnqueueOptions, ITEMS_PER_CALL_MAX, Queue, WAIT_MS_MAX } from '../../contracts/queue.js';
import { examples, instanceOption, integer } from '../arguments.js';
import { readInput, readLines, readWhole, STDIN } from '../input.js';
import { type InstanceOptions, withInstance } from '../instance.js';
import { type Cli, UsageError } from '../io.js';
import { writeJsonList } from '../json-list.js';
import { plural, tell, write, writeJson, writeLine } from '../output.js';
import { Ticker } from '../ticker.js';

interface SendOptions extends InstanceOptions {
  readonly text?: string;
  readonly key?: string;
  readonly delayMs?: number;
  readonly lines?: boolean;
}

export function defineSend(parent: Command, cli: Cli): void {
  const command = parent
    .command('send')
    .summary('enqueue an item, or one for each line')
    .description('Enqueue one item, or one for each line; prints the id of each.')
    .argument('[file]', 'what to send; - is standard input, and the default')
    .option('--text <text>', 'send this text instead of a file')
    .option('--key <key>', 'idempotency key: sent again with the same bytes, it is the same item', key)
    .option('--delay-ms <n>', 'hold the item back for this long', integer('--delay-ms', 0, WAIT_MS_MAX))
    .option('--lines', 'send one item for each line, without its end; an empty line is an empty item')
    .addOption(instanceOption())
    .action((file: string | undefined, options: SendOptions) => send(cli, file, options));
  examples(
    command,
    'rollout-cloud queue send --text hello',
    'rollout-cloud queue send --key order-17 order.json',
    'find . -name "*.jpg" | rollout-cloud queue send --lines',
  );
}

function key(text: string): string {
  if (text.length >= 1 && text.length <= 512) return text;
  throw new UsageError(`--key must have 1 to 512 characters, found ${text.length}`);
}

async function send(cli: Cli, file: string | undefined, options: SendOptions): Promise<void> {
  const { text, lines = false, ...rest } = options;
  if (file !== undefined && text !== undefined) throw new UsageError('give a file or --text, not both');
  if (lines && rest.key !== undefined) throw new UsageError('--key is for one item; leave it out with --lines');
  await withInstance(cli, Queue, options, async (queue) => {
    const input = text === undefined ? readInput(cli, file ?? STDIN) : textInput(text);
    const { payloadBytesMax } = await queue.stats();
    const enqueueOptions = { key: rest.key, delayMs: rest.delayMs, signal: cli.signal };
    if (lines) return sendLines(cli, queue, readLines(input, payloadBytesMax), enqueueOptions);
    const id = await queue.enqueue(await readWhole(input, payloadBytesMax), enqueueOptions);
    if (cli.json) writeJson(cli, { id });
    else writeLine(cli.stdout, id);
  });
}

async function* textInput(text: string): AsyncGenerator<Buffer> {
  yield Buffer.from(text);
}

async function sendLines(
  cli: Cli,
  queue: Queue,
  lines: AsyncIterable<Buffer[]>,
  options: EnqueueOptions,
): Promise<void> {
  let sent = 0;
  async function* ids(): AsyncGenerator<QueueItemId> {
    for await (const some of lines) {
      for (let at = 0; at < some.length; at += ITEMS_PER_CALL_MAX) {
        const batch = await queue.enqueueMany(some.slice(at, at + ITEMS_PER_CALL_MAX), options);
        sent += batch.length;
        yield* batch;
      }
    }
  }
  try {
    await Ticker.during(
      cli,
      'one line',
      () => `sent ${plural(sent, 'item')}`,
      async (ticker) => {
        if (cli.json) return writeJsonList(cli, ids());
        for await (const id of ids()) {
          ticker.hide();
          await write(cli.stdout, `${id}\n`);
        }
      },
    );
  } catch (error) {
    // They stay: whoever sends the rest has to know where it begins.
    if (sent > 0) tell(cli, `stopped after ${plural(sent, 'item')}, which ${sent === 1 ? 'is' : 'are'} in the queue`);
    throw error;
  }
}
