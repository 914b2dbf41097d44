/** How the command line writes: lines, colours where they are wanted, numbers with their unit. */
import pico from 'picocolors';
import type { Cli, Io, OutputStream } from './io.js';

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

/** One sentence for people on stderr; each line of it names the program. */
export function tell(io: Pick<Cli, 'stderr'>, text: string): void {
  for (const line of text.split('\n')) writeLine(io.stderr, `rollout-cloud: ${line}`);
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
