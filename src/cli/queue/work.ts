/**
 * `queue work`: runs a command for each item, the payload on its stdin. Exit code 0 acks the item, anything else gives it
 * back.
 *
 * Stopped once (Ctrl-C), it takes no more items, lets the commands end and settles their items; stopped again, it ends
 * the commands and gives their items back.
 */
import { setMaxListeners } from 'node:events';
import type { Command } from 'commander';
import { CONSUMER_FAILED_MAX, type ConsumeReport, consume, drain } from '../../contracts/consume.js';
import { ITEMS_PER_CALL_MAX, Queue, type QueueItem, WAIT_MS_MAX } from '../../contracts/queue.js';
import { examples, instanceOption, integer } from '../arguments.js';
import { type InstanceOptions, withInstance } from '../instance.js';
import type { Cli } from '../io.js';
import { count, plural, tell, writeJson } from '../output.js';
import { Ticker } from '../ticker.js';
import { timed } from '../time.js';
import { CommandFailed, requireCommand, runCommand } from './child.js';

interface WorkOptions extends InstanceOptions {
  readonly concurrency: number;
  readonly leaseMs: number;
  readonly untilEmpty?: boolean;
}

export function defineWork(parent: Command, cli: Cli): void {
  const command = parent
    .command('work')
    .summary('run a command for each item')
    .usage('[options] -- <cmd> [args...]')
    .description(
      'Run a command for each item, with the payload on its stdin, and ROLLOUT_ITEM_ID and ROLLOUT_ITEM_ATTEMPTS in ' +
        'its environment. Exit code 0 acks the item, anything else gives it back, to be tried again after a pause.\n' +
        'Ctrl-C once lets the commands under way finish and acks their items; twice ends them, and whatever they have ' +
        'started, and gives their items back.\n' +
        'When the reader of a pipe has gone, as head does, no more items are taken, and what could not be written is ' +
        'given back.\n' +
        'With --json the output of the commands goes to stderr.',
    )
    .argument('<cmd>', 'the command: a program, not a line for a shell')
    .argument('[args...]', 'its arguments')
    .option('--concurrency <n>', 'commands at a time', integer('--concurrency', 1, ITEMS_PER_CALL_MAX), 1)
    .option(
      '--lease-ms <n>',
      'how long the items of a worker that died stay away; renewed while a command runs',
      integer('--lease-ms', 1, WAIT_MS_MAX),
      30_000,
    )
    .option(
      '--until-empty',
      'end when nothing is pending, or 1,000 have failed; each item is tried once, a failure makes the exit code 1',
    )
    .addOption(instanceOption())
    .action((cmd: string, args: string[], options: WorkOptions) => work(cli, [cmd, ...args], options));
  examples(
    command,
    'rollout-cloud queue work -- ./handle-item',
    'rollout-cloud queue work --until-empty -- jq -r .name | sort | uniq -c',
    'rollout-cloud queue work --until-empty --concurrency 8 -- sh -c \'convert - "out/$ROLLOUT_ITEM_ID.png"\'',
  );
}

async function work(cli: Cli, command: readonly string[], options: WorkOptions): Promise<void> {
  const { concurrency, leaseMs, untilEmpty = false } = options;
  const output = { stdout: cli.json ? cli.stderr : cli.stdout, stderr: cli.stderr };
  await requireCommand(command, cli);
  const giveUp = new AbortController();
  // One listener for each command that runs.
  setMaxListeners(concurrency + 1, giveUp.signal);
  const insist = () => giveUp.abort();
  let [done, failed] = [0, 0];

  const handle = async (item: QueueItem, lost: AbortSignal) => {
    const env = { ...cli.env, ROLLOUT_ITEM_ID: item.id, ROLLOUT_ITEM_ATTEMPTS: String(item.attempts) };
    await runCommand(command, item.payload, { cwd: cli.cwd, env, ...output, signals: [lost, giveUp.signal] });
    done += 1;
  };
  const onError = (error: unknown, item: QueueItem) => {
    if (!(error instanceof CommandFailed)) throw error;
    failed += 1;
    if (!giveUp.signal.aborted) tell(cli, `item ${item.id}, attempt ${item.attempts}: ${error.message}`);
  };

  await withInstance(cli, Queue, options, async (queue) => {
    const startedAt = performance.now();
    const rate = () => Math.round((done * 1000) / Math.max(1, performance.now() - startedAt));
    const text = () => `${count(done)} done, ${count(failed)} failed, ${count(rate())} items/s`;
    cli.insisted.addEventListener('abort', insist);
    try {
      const [ms, report] = await timed(() =>
        Ticker.during(cli, 'lines', text, () =>
          (untilEmpty ? drain : consume)(queue, handle, {
            concurrency,
            leaseMs,
            signal: cli.signal,
            // However long a command takes: the user ends it by asking again.
            graceMs: WAIT_MS_MAX,
            onError,
          }),
        ),
      );
      // A failed item is held until the end, so what is pending beyond those given back has not been tried.
      const gaveUp = untilEmpty && failed >= CONSUMER_FAILED_MAX && !cli.signal.aborted;
      const untried = gaveUp ? Math.max(0, (await queue.stats()).pending - report.nacked) : 0;
      printReport(cli, report, ms, untried);
    } finally {
      cli.insisted.removeEventListener('abort', insist);
    }
  });
}

function printReport(cli: Cli, { acked, nacked, lost }: ConsumeReport, ms: number, untried: number): void {
  const itemsPerS = Math.round((acked * 1000) / Math.max(1, ms));
  const interrupted = cli.signal.aborted;
  if (cli.json) writeJson(cli, { acked, nacked, lost, untried, ms: Math.round(ms), itemsPerS, interrupted });
  else {
    const parts = [
      `${count(acked)} acked`,
      `${count(nacked)} given back`,
      ...(lost > 0 ? [`${plural(lost, 'lease')} lost`] : []),
    ];
    tell(cli, `${parts.join(', ')}; ${(ms / 1000).toFixed(2)} s, ${count(itemsPerS)} items/s`);
  }
  if (untried > 0) {
    tell(cli, `stopped after ${count(CONSUMER_FAILED_MAX)} failures; ${plural(untried, 'item')} not tried yet`);
  }
  if (interrupted || nacked > 0 || lost > 0) cli.exitCode = 1;
}
