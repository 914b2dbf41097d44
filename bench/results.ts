/** What every benchmark does with its figures: the median, and the file that keeps one entry for each version of Node. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { dirname } from 'node:path';

/** The upper one of the two in the middle, where their number is even; NaN of none. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

/** Writes a run into the file, with its time and machine, in place of the last one on this version of Node. */
export function keepResults(file: string, run: object): void {
  const machine = { at: new Date().toISOString(), cpu: cpus()[0]?.model ?? 'unknown', cores: cpus().length };
  const all = { ...earlier(file), [process.version]: { ...machine, ...run } };
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `${JSON.stringify(all, null, 2)}\n`);
}

function earlier(file: string): Record<string, unknown> {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw error;
  }
}
