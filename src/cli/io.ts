/** What a command line run touches of the process, so that a test can run it in its own, and what every command gets. */
import type { Readable, Writable } from 'node:stream';
import type { Command } from 'commander';
import type { HostOptions } from '../registry/index.js';

export type OutputStream = Writable & { readonly isTTY?: boolean; readonly columns?: number; readonly rows?: number };

/** Where a run gets its input and leaves its output. */
export interface Io {
  /** Opens the input. A command that reads none does not call it. */
  readonly stdin: () => Readable;
  /** Data: what was asked for. */
  readonly stdout: OutputStream;
  /** Everything else: errors, warnings, progress. */
  readonly stderr: OutputStream;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Relative paths on the command line are relative to this folder. */
  readonly cwd: string;
  /** Aborted when the user wants the run to end: commands finish what is under way, tidy up and return. */
  readonly signal: AbortSignal;
  /**
   * Aborted when the user asks for the end again. A command that listens gives up what is under way, and tidies up still;
   * where none does, the process exits.
   */
  readonly insisted: AbortSignal;
  /** Handed to `createHost` as they are. */
  readonly hostOptions?: Pick<HostOptions, 'importModule'>;
}

/** One run of one command. */
export interface Cli extends Io {
  /** Path of the configuration file, absolute. */
  readonly config: string;
  /** Which of its profiles is put on top. */
  readonly profile: string | undefined;
  /** From `--set`, parsed. */
  readonly set: Readonly<Record<string, unknown>>;
  /** Print one JSON document on stdout instead of text. */
  readonly json: boolean;
  readonly verbose: boolean;
  /** 0 done, 1 an operation or check failed, 2 wrong usage or configuration. Set by the command; 0 to begin with. */
  exitCode: 0 | 1 | 2;
  /** Whether stdout has the beginning of a JSON document: an error is then told on stderr alone. */
  documentBegun: boolean;
}

/** What the module of a command exports: it is imported only when the command is asked for. */
export interface CommandModule {
  /** Adds the options, subcommands and action to `command`, whose name and arguments the table of commands has. */
  define(command: Command, cli: Cli): void;
}

/** Wrong usage: exit code 2. The message is one sentence that says what to do instead. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}
