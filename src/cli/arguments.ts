/** What commands ask of their arguments and options. What is wrong is a UsageError: one sentence, exit code 2. */
import { type Command, Option } from 'commander';
import { ContentId, show } from '../contracts/ids.js';
import { UsageError } from './io.js';

/** A parser of whole numbers between bounds, both included. */
export function integer(what: string, min: number, max: number): (text: string) => number {
  return (text) => {
    const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
    if (value >= min && value <= max) return value;
    throw new UsageError(`${what} must be a whole number from ${min} to ${max}, found ${show(text)}`);
  };
}

export function contentId(text: string): ContentId {
  if (ContentId.is(text)) return text;
  throw new UsageError(`${show(text)} is not an object's id: expected 64 lower-case hexadecimal characters`);
}

/** As {@link contentId}, for an argument that is given several times. */
export function contentIds(text: string, before: readonly ContentId[] = []): ContentId[] {
  return [...before, contentId(text)];
}

/** Which instance of the capability is meant. */
export function instanceOption(): Option {
  return new Option('--instance <name>', 'the instance of that name in plugins.json, not the default one');
}

/** Ends the help with lines to copy. */
export function examples(command: Command, ...lines: string[]): Command {
  return command.addHelpText('after', `\nExamples:\n${lines.map((line) => `  ${line}`).join('\n')}`);
}
