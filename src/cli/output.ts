/** How the command line writes: lines, colours where they are wanted, numbers with their unit. */
import pico from 'picocolors';
import { systemError } from '../contracts/errors.js';
import type { Cli, Io, OutputStream } from './io.js';
import { printable } from './tour/paths.js';

export type Colors = ReturnType<typeof pico.createColors>;

/** Colours for a terminal, unless NO_COLOR is set; for anything else only when FORCE_COLOR asks for them. */
export function colorsFor(stream: OutputStream, env: Io['env']): Colors {
  const wanted = env.FORCE_COLOR ? env.FORCE_COLOR !== '0' : stream.isTTY === true && env.TERM !== 'dumb';
  return pico.createColors(wanted && !env.NO_COLOR);
}

export function writeLine(stream: OutputStream, line: string): void {
  stream.write(`${line}\n`);
}

export function writeJson(cli: Io, document: unknown): void {
  writeLine(cli.stdout, JSON.stringify(document, null, 2));
}

/** Whoever read the output has gone, as `head` does: the command ends early and says nothing of it. */
export class ReaderGone extends Error {
  override readonly name = 'ReaderGone';
}

/** Errors of streams: one of the process forgets its own as soon as it has told of it. */
const failures = new WeakMap<OutputStream, NodeJS.ErrnoException>();

/** Notes what goes wrong with the stream, for {@link write} and {@link flush} to tell. */
export function watch(stream: OutputStream): void {
  stream.on('error', (error) => failures.set(stream, error));
}

/**
 * Writes, and waits until the stream takes more: for output of any length, in bounded memory.
 * @throws ReaderGone, or RecoverableError or FatalError (disk full and the like)
 */
export async function write(stream: OutputStream, chunk: string | Uint8Array): Promise<void> {
  throwFailure(stream);
  if (stream.write(chunk)) return;
  await new Promise<void>((resolve) => {
    const end = () => {
      for (const event of EVENTS) stream.off(event, end);
      resolve();
    };
    for (const event of EVENTS) stream.on(event, end);
  });
  throwFailure(stream);
}

const EVENTS = ['drain', 'error', 'close'] as const;

/**
 * Resolves when everything written so far has been handed over.
 * @throws as {@link write}
 */
export async function flush(stream: OutputStream): Promise<void> {
  await new Promise<void>((resolve) => stream.write('', () => resolve()));
  throwFailure(stream);
}

function throwFailure(stream: OutputStream): void {
  const error = failures.get(stream);
  if (error !== undefined) throw error.code === 'EPIPE' ? new ReaderGone() : systemError(error, 'write the output');
}

/** One sentence for people on stderr; each line of it names the program, and none disturbs a terminal. */
export function tell(io: Pick<Cli, 'stderr'>, text: string): void {
  for (const line of text.split('\n')) writeLine(io.stderr, `rollout-cloud: ${printable(Buffer.from(line))}`);
}

/** A name or other text as it may stand in a sentence: quoted, what could disturb a terminal escaped. */
export function quoted(text: string): string {
  return printable(Buffer.from(JSON.stringify(text)));
}

/** `12,345` */
export function count(value: number): string {
  return value.toLocaleString('en-US');
}

/** `1 file`, `2 files` */
export function plural(value: number, noun: string): string {
  return `${count(value)} ${noun}${value === 1 ? '' : 's'}`;
}

/** Bytes in the largest binary unit that leaves at least 1: `1.5 MiB`. */
export function bytes(value: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const power = value < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(value) / 10));
  const scaled = value / 1024 ** power;
  return `${power === 0 ? count(scaled) : scaled.toFixed(scaled < 100 ? 1 : 0)} ${units[power]}`;
}
