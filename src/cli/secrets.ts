/** `secrets`: which may be read, and which of them are set. A value is printed only where `--reveal` asks for it. */
import type { Command } from 'commander';
import { SecretStore } from '../contracts/secret-store.js';
import { examples, instanceOption } from './arguments.js';
import { columns } from './columns.js';
import { type InstanceOptions, withInstance } from './instance.js';
import { type Cli, UsageError } from './io.js';
import { type SecretState, secretStates } from './machine.js';
import { type Colors, colorsFor, writeJson, writeLine } from './output.js';
import { printable } from './tour/paths.js';

interface GetOptions extends InstanceOptions {
  readonly reveal?: boolean;
}

export function define(command: Command, cli: Cli): void {
  const listing = command
    .command('list')
    .summary('list names, and whether each is set')
    .description('List the names that may be read, and whether each is set; never a value.')
    .addOption(instanceOption())
    .action((options: InstanceOptions) => list(cli, options));
  examples(listing, 'rollout-cloud secrets list', 'rollout-cloud secrets list --json');
  const getting = command
    .command('get')
    .summary('tell whether a secret is set, or its value')
    .description('Tell whether a secret is set; one that is not, or may not be read, makes the exit code 1 or 2.')
    .argument('<name>', 'as in the allowlist')
    .option('--reveal', 'print its value')
    .addOption(instanceOption())
    .action((name: string, options: GetOptions) => get(cli, name, options));
  examples(
    getting,
    'rollout-cloud secrets get HF_TOKEN',
    'export HF_TOKEN="$(rollout-cloud secrets get HF_TOKEN --reveal)"',
  );
  examples(command.helpCommand(false), 'rollout-cloud secrets list', 'rollout-cloud secrets get HF_TOKEN');
}

async function list(cli: Cli, options: InstanceOptions): Promise<void> {
  const states = await withInstance(cli, SecretStore, options, secretStates);
  if (states.some(({ state }) => state === 'unknown')) cli.exitCode = 1;
  if (cli.json) {
    writeJson(cli, states);
    return;
  }
  const colors = colorsFor(cli.stdout, cli.env);
  const rows = states.map((state) => [printable(Buffer.from(state.name)), told(state, colors)]);
  if (rows.length > 0) writeLine(cli.stdout, columns(rows));
}

function told({ state, reason }: SecretState, { green, yellow, red }: Colors): string {
  if (state === 'set') return green(state);
  return state === 'unknown' ? red(`unknown: ${reason}`) : yellow(state);
}

async function get(cli: Cli, name: string, { reveal = false, ...options }: GetOptions): Promise<void> {
  if (name.length < 1 || name.length > 512)
    throw new UsageError(`a name has 1 to 512 characters, found ${name.length}`);
  const secret = await withInstance(cli, SecretStore, options, (store) => store.get(name));
  const value = reveal ? secret.reveal() : String(secret);
  if (cli.json) writeJson(cli, { name, state: 'set', value });
  else writeLine(cli.stdout, reveal ? value : `${value} (set)`);
}
