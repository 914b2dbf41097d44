/**
 * What is wrong with a configuration, where, and what to do: collected in full, then thrown as one error.
 *
 * Codes are stable and say what kind of problem it is; docs/errors.md has a line for each.
 */
export { suggest } from '../contracts/arguments.js';

import { FatalError } from '../contracts/errors.js';

/** The host's own codes. 10xx: the file. 11xx: plugins, adapters and their configuration. 12xx, 13xx: while running. */
export type ProblemCode =
  /** The configuration cannot be read. */
  | 'RC1001'
  /** It is not JSON with comments. */
  | 'RC1002'
  /** It has a key that is not known, or twice the same. */
  | 'RC1003'
  /** A value has the wrong type or form. */
  | 'RC1004'
  /** There is no profile of that name. */
  | 'RC1006'
  /** No loaded plugin has an adapter of that id, or it serves another capability. */
  | 'RC1102'
  /** An environment variable is not set. */
  | 'RC1103'
  /** An adapter's configuration has a key that is not known. */
  | 'RC1104'
  /** An adapter's configuration has a value of the wrong type or form, or lacks one. */
  | 'RC1105'
  /** A plugin is not where `use` says. */
  | 'RC1106'
  /** A plugin's manifest is not valid. */
  | 'RC1107'
  /** An adapter needs a package that is not installed, or in another version. */
  | 'RC1108'
  /** There is no middleware of that id, or it wraps other capabilities. */
  | 'RC1109'
  /** An adapter does not declare a feature that its binding requires. */
  | 'RC1110'
  /** A plugin needs another version of this package or of Node. */
  | 'RC1111'
  /** Two plugins, or two adapters, have the same id. */
  | 'RC1113'
  /** A plugin depends on one that is not there. */
  | 'RC1114'
  /** Several adapters could serve a capability and none is chosen. */
  | 'RC1120'
  /** Nothing provides a capability. */
  | 'RC1121'
  /** There is no instance of that name. */
  | 'RC1122'
  /** Adapters require one another in a circle. */
  | 'RC1201'
  /** Instances wait for one another while they are being activated. */
  | 'RC1202'
  /** A plugin's module cannot be imported, or is no plugin. */
  | 'RC1301'
  /** Activation took too long. */
  | 'RC1302'
  /** An adapter's factory failed. */
  | 'RC1303'
  /** An adapter asked its context for something that its manifest does not require. */
  | 'RC1304'
  /** Disposing took too long. */
  | 'RC1305'
  /** A class has a constructor parameter that the container cannot inject. */
  | 'RC1306'
  /** An instance failed to activate, and its next try is not due yet. */
  | 'RC1307'
  /** An instance said that it is gone. */
  | 'RC1308'
  /** An instance that the application cannot do without failed on start-up. */
  | 'RC1309'
  /** A new configuration could not be put into effect; the old one stays. */
  | 'RC1310'
  /** A test overrides an instance that has been used. */
  | 'RC1401';

/** Where a value stands: a file with line and column (from 1), or the name of another source. */
export interface Place {
  readonly source: string;
  readonly line?: number;
  readonly column?: number;
}

export interface Problem {
  readonly code: ProblemCode;
  readonly place: Place | null;
  /** What was asked, what was found, what to do. */
  readonly message: string;
}

export function showPlace({ source, line, column }: Place): string {
  return line === undefined ? source : `${source}:${line}:${column}`;
}

export function showProblem({ code, place, message }: Problem): string {
  return place === null ? `${code} ${message}` : `${code} ${showPlace(place)} ${message}`;
}

/** To go on behind it. */
export function withoutDot(sentence: string): string {
  return sentence.replace(/\.$/, '');
}

/** One error for all `problems`, sorted by place; its message has a line for each, its code is the first one's. */
export function problemsError(problems: readonly Problem[]): FatalError {
  const sorted = sortProblems(problems);
  const shown = sorted.slice(0, PROBLEMS_SHOWN_MAX).map(showProblem);
  if (sorted.length > shown.length) shown.push(`and ${sorted.length - shown.length} more`);
  return new FatalError('ConfigInvalid', shown.join('\n'), { code: sorted[0]?.code, context: { problems: sorted } });
}

/** Lines of one message: nobody mends more of them at a time, and a damaged file may have thousands. */
const PROBLEMS_SHOWN_MAX = 100;

export function sortProblems(problems: readonly Problem[]): Problem[] {
  return [...problems].sort(byPlace);
}

/** Not by the rules of a language, which differ from machine to machine. */
export function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function byPlace({ place: a }: Problem, { place: b }: Problem): number {
  return (
    compare(a?.source ?? '', b?.source ?? '') || (a?.line ?? 0) - (b?.line ?? 0) || (a?.column ?? 0) - (b?.column ?? 0)
  );
}
