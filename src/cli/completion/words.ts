/** The words that can stand on the command line, as data that every shell's script is made from. */
import type { Command } from 'commander';

export interface OptionWords {
  /** `--output`, and `-o` where there is one. */
  readonly flags: readonly string[];
  readonly takesValue: boolean;
  /** The values that it takes; none: any. */
  readonly choices: readonly string[];
  readonly summary: string;
}

/** One command, or the program itself, whose options may follow any command. */
export interface CommandWords {
  /** The commands above it and its own name: `['objects', 'put']`; empty for the program. */
  readonly path: readonly string[];
  /** What may follow it: subcommands, or the choices of its argument. None: files are completed. */
  readonly next: readonly { readonly name: string; readonly summary: string }[];
  readonly options: readonly OptionWords[];
}

/** The program, then every command, each after the one it belongs to. */
export function wordsOf(command: Command, path: readonly string[] = []): [CommandWords, ...CommandWords[]] {
  const options = command.options
    .filter(({ hidden }) => !hidden)
    .map(({ short, long, required, optional, argChoices = [], description }) => ({
      flags: [short, long].filter((flag) => typeof flag === 'string'),
      takesValue: required || optional,
      choices: argChoices,
      summary: description,
    }));
  const choices = command.registeredArguments.flatMap(({ argChoices = [] }) => argChoices);
  const next = [
    ...command.commands.map((sub) => ({ name: sub.name(), summary: sub.summary() })),
    ...choices.map((name) => ({ name, summary: '' })),
  ];
  return [
    { path, next, options: path.length === 0 ? [...options, HELP] : options },
    ...command.commands.flatMap((sub) => wordsOf(sub, [...path, sub.name()])),
  ];
}

const HELP: OptionWords = {
  flags: ['-h', '--help'],
  takesValue: false,
  choices: [],
  summary: 'display help for command',
};

/** Options of any command that take one of a few values. */
export function withChoices(commands: readonly CommandWords[]): OptionWords[] {
  return commands.flatMap(({ options }) => options.filter(({ choices }) => choices.length > 0));
}

/** Flags of any command after which a value is typed. */
export function valueFlags(commands: readonly CommandWords[]): string[] {
  const taking = commands.flatMap(({ options }) => options.filter(({ takesValue }) => takesValue));
  return [...new Set(taking.flatMap(({ flags }) => flags))];
}
