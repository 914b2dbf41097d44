/**
 * The command line: global options, the table of commands, and how a failure becomes a sentence and an exit code.
 *
 * 0: done. 1: an operation or check failed. 2: wrong usage or configuration. A command's module is imported when the
 * command is asked for, so `--version` and `--help` load nothing else.
 */
import { readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { inspect } from 'node:util';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { isCoreError } from '../contracts/errors.js';
import { type Cli, type CommandModule, type Io, UsageError } from './io.js';
import { flush, ReaderGone, tell, watch, writeLine } from './output.js';
import { printable } from './tour/paths.js';

/** Every command there is, in the order of `--help`. */
export const COMMANDS: readonly { usage: string; summary: string; load(): Promise<CommandModule> }[] = [
  {
    usage: 'tour [dir]',
    summary: 'store every file under dir, work off one job per file, and check each blob against its file',
    load: () => import('./tour/command.js'),
  },
  {
    usage: 'doctor',
    summary: 'probe every bound capability with a real round trip',
    load: () => import('./doctor.js'),
  },
  {
    usage: 'plugins',
    summary: 'what serves what: plugins, adapters, instances and their configuration',
    load: () => import('./plugins.js'),
  },
  {
    usage: 'objects',
    summary: 'put, get, stat, list, remove and verify objects',
    load: () => import('./objects/command.js'),
  },
  {
    usage: 'queue',
    summary: 'send, receive and work off items of a queue',
    load: () => import('./queue/command.js'),
  },
  {
    usage: 'secrets',
    summary: 'which secrets may be read, and which of them are set',
    load: () => import('./secrets.js'),
  },
  {
    usage: 'compute',
    summary: 'what this machine has',
    load: () => import('./compute.js'),
  },
  {
    usage: 'completion <shell>',
    summary: 'print the completion script of a shell: bash, zsh or fish',
    load: () => import('./completion/command.js'),
  },
];

/** What a shell reports of a program that SIGPIPE ended, 128 + 13: its reader has gone before it was done. */
const READER_GONE = 141;

interface GlobalOptions {
  readonly config: string;
  readonly set?: Readonly<Record<string, unknown>>;
  readonly json?: boolean;
  readonly verbose?: boolean;
  readonly profile?: string;
}

/**
 * Runs one command line; resolves to its exit code and never rejects.
 * @param args without the names of node and of the program
 */
export async function run(args: readonly string[], io: Io): Promise<0 | 1 | 2 | typeof READER_GONE> {
  const program = globalOptions(io);
  let cli: Cli | undefined;
  watch(io.stdout);
  for (const { usage, summary } of COMMANDS) program.command(usage).description(summary);
  program.hook('preSubcommand', async (_program, command) => {
    const known = COMMANDS.find(({ usage }) => usage.split(' ')[0] === command.name());
    cli = makeCli(io, program.opts<GlobalOptions>());
    (await known?.load())?.define(command, cli);
  });
  try {
    await program.parseAsync(args, { from: 'user' });
    await flush(io.stdout).catch((error) => {
      // What was to be done has been done, read or not.
      if (!(error instanceof ReaderGone)) throw error;
    });
    return cli?.exitCode ?? 0;
  } catch (error) {
    return report(error, io, program.opts<GlobalOptions>(), cli?.documentBegun);
  }
}

function globalOptions(io: Io): Command {
  return (
    new Command('rollout-cloud')
      .description('Works the object store, queue, secrets and compute that plugins.json binds.')
      .version(version())
      .option('--config <file>', 'the configuration file', 'plugins.json')
      .option('--set <path=value>', 'put one value on top of the configuration, e.g. bindings.Queue.adapter=x', setting)
      .option('--json', 'print one JSON document instead of text')
      .option('--verbose', 'print debug messages, and stacks of errors')
      .addOption(new Option('--profile <name>').hideHelp())
      // `help tour` would not wait for the module of tour.
      .helpCommand(false)
      .showHelpAfterError('rollout-cloud: --help lists the commands and options')
      .configureHelp({ showGlobalOptions: true })
      .exitOverride()
      .configureOutput({
        writeOut: (text) => io.stdout.write(text),
        writeErr: (text) => io.stderr.write(text),
        getOutHasColors: () => false,
        getErrHasColors: () => false,
        outputError: (text, write) => write(`${sentence(text)}\n`),
      })
  );
}

/** One line, whatever has been typed: commander quotes it as it is, and puts what it suggests on a line of its own. */
function sentence(text: string): string {
  const line = text
    .trimEnd()
    .replace(/^error: /, 'rollout-cloud: ')
    .replace(/\n(?=\(Did you mean .*\)$)/, ' ');
  return printable(Buffer.from(line));
}

/** The first package.json above this file, wherever the build has put it. */
function version(): string {
  for (let folder = dirname(fileURLToPath(import.meta.url)); ; folder = dirname(folder)) {
    try {
      return JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')).version;
    } catch (error) {
      if (folder === dirname(folder)) throw error;
    }
  }
}

/** `path=value`: the value is JSON where it parses as such, else text. */
function setting(text: string, before: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
  const [, path, value = ''] = /^([^=]+)=(.*)$/s.exec(text) ?? [];
  if (path === undefined) throw new InvalidArgumentError('Write it as path=value.');
  return { ...before, [path]: parsed(value) };
}

function parsed(value: string): unknown {
  try {
    return JSON.parse(value);
  } catch {
    return value;
  }
}

function makeCli(io: Io, { config, set = {}, json = false, verbose = false, profile }: GlobalOptions): Cli {
  if (profile !== undefined) {
    throw new UsageError(
      '--profile is not supported yet; keep the values in a file of their own and name it with --config',
    );
  }
  return { ...io, config: resolve(io.cwd, config), set, json, verbose, exitCode: 0, documentBegun: false };
}

/** Says what went wrong, and returns the exit code for it. */
function report(error: unknown, io: Io, { json, verbose }: GlobalOptions, documentBegun = false) {
  // Commander has printed its own errors, and what --help and --version ask for.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  if (error instanceof ReaderGone) return READER_GONE;
  // The user knows: he asked for it.
  if (io.signal.aborted && error === io.signal.reason) return 1;
  const message = error instanceof Error ? error.message : String(error);
  tell(io, message);
  if (verbose) writeLine(io.stderr, inspect(error));
  if (json && !documentBegun) {
    const document = isCoreError(error) ? error.toJSON() : { name: (error as Error).name, message };
    writeLine(io.stdout, JSON.stringify({ error: document }, null, 2));
  }
  return error instanceof UsageError || (isCoreError(error) && error.kind === 'ConfigInvalid') ? 2 : 1;
}
