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
import { blaming } from '../registry/blame.js';
import { examples } from './arguments.js';
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
    load: () => import('./plugins/command.js'),
  },
  {
    usage: 'objects',
    summary: 'put, get, stat, list, remove, verify and collect objects',
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

const CONFIG_FILE = 'plugins.json';

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
  const program = makeProgram(io);
  const cli = makeCli(io);
  watch(io.stdout);
  for (const { usage, summary } of COMMANDS) program.command(usage).description(summary);
  program.hook('preSubcommand', async (_program, command) => {
    const known = COMMANDS.find(({ usage }) => usage.split(' ')[0] === command.name());
    (await known?.load())?.define(command, cli);
    takeGlobalOptions(command);
  });
  program.hook('preAction', (_program, command) => take(cli, globalOptionsOf(command)));
  try {
    await program.parseAsync(helpFirst(args), { from: 'user' });
    await flush(io.stdout).catch((error) => {
      // What was to be done has been done, read or not.
      if (!(error instanceof ReaderGone)) throw error;
    });
    return cli.exitCode;
  } catch (error) {
    // What goes wrong while the line is read does so before its options are taken.
    const json = cli.json || asksForJson(args);
    if (error instanceof CommanderError) return reportUsage(error, io, json);
    return report(error, io, { ...cli, json });
  }
}

/** `help objects put` is `objects put --help`: commander's own would not wait for the module of the command. */
function helpFirst(args: readonly string[]): readonly string[] {
  const at = commandAt(args);
  if (args[at] !== 'help') return args;
  const [before, path] = [args.slice(0, at), args.slice(at + 1)];
  // Of help itself, --help tells.
  if (path[0] === 'help') path.shift();
  // One that is not known is an error, which --help would hide.
  const known = path.length === 0 || COMMANDS.some(({ usage }) => usage.split(' ')[0] === path[0]);
  return [...before, ...path, ...(known ? ['--help'] : [])];
}

/** Where the command stands: after the global options before it, and their values. */
function commandAt(args: readonly string[]): number {
  const valued = globalOptions().flatMap(({ required, long }) => (required ? [long] : []));
  let at = 0;
  while (args[at]?.startsWith('-') && args[at] !== '--') at += valued.includes(args[at]) ? 2 : 1;
  return at;
}

/** Whether a line that could not be understood asks for JSON, as far as can be told. */
function asksForJson(args: readonly string[]): boolean {
  const end = args.indexOf('--');
  return args.slice(0, end < 0 ? args.length : end).includes('--json');
}

/** They may stand before the command or after it, and mean the same. */
function globalOptions(): Option[] {
  return [
    new Option('--config <file>', 'the configuration file').default(CONFIG_FILE),
    new Option('--profile <name>', 'the profile of the configuration to put on top'),
    new Option(
      '--set <path=value>',
      'put one value on top of the configuration, e.g. bindings.Queue.adapter=x',
    ).argParser(setting),
    new Option('--json', 'print one JSON document instead of text'),
    new Option('--verbose', 'print debug messages, and stacks of errors'),
  ];
}

const GLOBAL_NAMES = new Set(globalOptions().map((option) => option.attributeName()));

/** Makes the command and those below it take the global options, too; the help shows them once, apart. */
function takeGlobalOptions(command: Command): void {
  command.enablePositionalOptions();
  for (const option of globalOptions()) command.addOption(option.hideHelp());
  for (const below of command.commands) takeGlobalOptions(below);
}

/** What was given, a command's own before what stands before it; `--set` adds up. */
function globalOptionsOf(command: Command): GlobalOptions {
  const { parent } = command;
  if (parent === null) return command.opts<GlobalOptions>();
  const above = globalOptionsOf(parent);
  const given = Object.entries(command.opts<GlobalOptions>()).filter(
    ([name]) => GLOBAL_NAMES.has(name) && command.getOptionValueSource(name) === 'cli',
  );
  const own: Partial<GlobalOptions> = Object.fromEntries(given);
  return { ...above, ...own, set: { ...above.set, ...own.set } };
}

function makeProgram(io: Io): Command {
  const program = new Command('rollout-cloud')
    .description('Works the object store, queue, secrets and compute that plugins.json binds.')
    .version(version())
    // What follows a command is the command's: `queue send --text -V` sends "-V".
    .enablePositionalOptions();
  for (const option of globalOptions()) program.addOption(option);
  return examples(
    program,
    'rollout-cloud tour                        # the whole at work, on the files under src',
    'rollout-cloud doctor                      # does everything that is bound answer?',
    'rollout-cloud objects put model.bin --json',
    'rollout-cloud help queue work',
  )
    .helpCommand(false)
    .showHelpAfterError('rollout-cloud: --help lists the commands and options')
    .configureHelp({
      showGlobalOptions: true,
      visibleGlobalOptions: ({ parent }) => (parent === null ? [] : globalOptions().filter(({ hidden }) => !hidden)),
    })
    .exitOverride()
    .configureOutput({
      writeOut: (text) => io.stdout.write(text),
      writeErr: (text) => io.stderr.write(text),
      getOutHasColors: () => false,
      getErrHasColors: () => false,
      outputError: (text, write) => write(`${sentence(text)}\n`),
    });
}

/** One line, whatever has been typed: commander quotes it as it is, and puts what it suggests on a line of its own. */
function sentence(text: string): string {
  return printable(Buffer.from(`rollout-cloud: ${reason(text)}`));
}

function reason(text: string): string {
  return text
    .trimEnd()
    .replace(/^error: /, '')
    .replace(/\n(?=\(Did you mean .*\)$)/, ' ');
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

/** Before the line is understood: a failure by then is told as text. */
function makeCli(io: Io): Cli {
  return {
    ...io,
    config: resolve(io.cwd, CONFIG_FILE),
    profile: undefined,
    set: {},
    json: false,
    verbose: false,
    exitCode: 0,
    documentBegun: false,
  };
}

function take(cli: Cli, { config, set = {}, json = false, verbose = false, profile }: GlobalOptions): void {
  Object.assign(cli, { config: resolve(cli.cwd, config), profile, set, json, verbose });
}

/** Commander has printed its own errors, and what --help and --version ask for. */
async function reportUsage(error: CommanderError, io: Io, json: boolean): Promise<0 | 1 | 2 | typeof READER_GONE> {
  if (error.exitCode === 0)
    return flush(io.stdout).then(
      () => 0 as const,
      (failure) => report(failure, io),
    );
  if (json)
    writeLine(io.stdout, JSON.stringify({ error: { name: 'UsageError', message: reason(error.message) } }, null, 2));
  return 2;
}

/** Says what went wrong, and returns the exit code for it. */
function report(error: unknown, io: Io, { json = false, verbose = false, documentBegun = false }: Partial<Cli> = {}) {
  if (error instanceof ReaderGone) return READER_GONE;
  // The user knows: he asked for it.
  if (io.signal.aborted && error === io.signal.reason) return 1;
  const message = error instanceof Error ? error.message : String(error);
  const told = blaming(message, error);
  tell(io, told);
  if (verbose) writeLine(io.stderr, inspect(error));
  if (json && !documentBegun) {
    const document = isCoreError(error)
      ? { ...error.toJSON(), message: told }
      : { name: (error as Error).name, message };
    writeLine(io.stdout, JSON.stringify({ error: document }, null, 2));
  }
  return error instanceof UsageError || (isCoreError(error) && error.kind === 'ConfigInvalid') ? 2 : 1;
}
