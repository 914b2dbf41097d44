/** One row of the tables of bad input, which bad-input.test.ts runs. */
import type { Place } from '../support.js';

export interface Row {
  readonly name: string;
  /** In the order of the command line; `ID` is the id of the object that is there. */
  readonly args: readonly string[];
  readonly env?: Record<string, string>;
  /** Done before, in a place with an object and an item of its own; rows without share one place. */
  readonly setUp?: (place: Place, id: string) => unknown;
  readonly code: 0 | 1 | 2;
  /** One for each line on stderr, in order. */
  readonly says: readonly RegExp[];
  /** Run it with `--json` alone: what is refused before a command begins is refused in the same way without. */
  readonly jsonOnly?: boolean;
  /** What stands on stdout without `--json`. Default: nothing. */
  readonly prints?: RegExp;
  /** Undoes what hinders, for the check that object and item are as they were; `null`: they were damaged on purpose. */
  readonly mend?: ((place: Place, id: string) => unknown) | null;
}

/** An id that no store has. */
export const NEVER_STORED = '0'.repeat(64);
