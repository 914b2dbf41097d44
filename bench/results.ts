/** The file that a benchmark keeps its results in: one entry for each version of Node that it was run on. */
import { readFileSync } from 'node:fs';

/** What earlier runs have left in the file, by version of Node; nothing where there was none. */
export function earlier(file: string): Record<string, unknown> {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw error;
  }
}
