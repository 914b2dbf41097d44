/**
 * One run of a command. It is in a process group of its own: the Ctrl-C that a terminal sends to its whole group is then
 * no matter of the command's, and ending the command ends what it has started.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { constants, fstatSync } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { delimiter, resolve } from 'node:path';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemError } from '../../contracts/errors.js';
import { type OutputStream, UsageError } from '../io.js';
import { flush, quoted, write } from '../output.js';

/** How long a command, and what it has started, may take to end after SIGTERM, before SIGKILL. */
const KILL_AFTER_MS = 2_000;

/** How long after SIGKILL the end of it all is waited for; a process that nobody reaps never ends. */
const GONE_AFTER_MS = 500;

/** How often the end of what a command has started is looked for. */
const LOOK_MS = 20;

/** How long after a command has ended its output is waited for: what it left running may hold the pipe for ever. */
const OUTPUT_AFTER_EXIT_MS = 500;

/** Windows has no process groups of this kind, and would open a window for a detached process. */
const OWN_GROUP = process.platform !== 'win32';

export interface RunOptions {
  readonly cwd: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
  /** Each of them ends the command when it aborts. */
  readonly signals: readonly AbortSignal[];
}

/** The command ran, and its exit code was not 0. */
export class CommandFailed extends Error {
  override readonly name = 'CommandFailed';
}

/**
 * Looks whether there is such a command before any item is taken for it: a slip of the pen is not to cost deliveries.
 * @throws UsageError
 */
export async function requireCommand(command: readonly string[], { cwd, env }: Pick<RunOptions, 'cwd' | 'env'>) {
  const [file = ''] = command;
  if (file === '' || command.some((part) => part.includes('\0'))) {
    throw cannotRun(file, NAMELESS);
  }
  // Windows tries endings of its own, and without PATH it is the system's secret where it looks: starting it will tell.
  if (process.platform === 'win32' || (env.PATH === undefined && !file.includes('/'))) return;
  const folders = file.includes('/') ? [cwd] : (env.PATH ?? '').split(delimiter);
  let why = MISSING;
  for (const folder of folders) {
    const path = resolve(cwd, folder, file);
    try {
      await access(path, constants.X_OK);
      if ((await stat(path)).isFile()) return;
      why = FORBIDDEN;
    } catch (error) {
      // As a shell does: one that may not be run is told of rather than those that are not there.
      if ((error as NodeJS.ErrnoException).code === 'EACCES') why = FORBIDDEN;
    }
  }
  throw cannotRun(file, why);
}

/**
 * Runs `command` with `input` on its stdin; resolves when it has exited with code 0 and its output has been written.
 * @throws CommandFailed: it ended otherwise. UsageError: there is no such command, or it may not be run. ReaderGone, or
 * RecoverableError or FatalError: its output cannot be written, and it was ended. RecoverableError or FatalError: the
 * system cannot start it.
 */
export async function runCommand(command: readonly string[], input: Uint8Array, options: RunOptions): Promise<void> {
  const { stdout, stderr, signals } = options;
  let killing: NodeJS.Timeout | undefined;
  const child = start(command, options);
  const end = () => {
    if (killing !== undefined) return;
    kill(child, 'SIGTERM');
    killing = setTimeout(() => kill(child, 'SIGKILL'), KILL_AFTER_MS);
  };
  // It may exit without reading all of its input: its exit code says whether that was well.
  child.stdin?.on('error', () => {});
  child.stdin?.end(input);
  let outputFailure: unknown;
  const outputs = [relay(child.stdout, stdout), relay(child.stderr, stderr)].map((relayed) =>
    relayed.catch((error: unknown) => {
      outputFailure ??= error;
      end();
    }),
  );
  for (const signal of signals) {
    signal.addEventListener('abort', end);
    if (signal.aborted) end();
  }
  try {
    const how = await exitOf(child).catch((error: unknown) => {
      throw notStarted(command, error);
    });
    await Promise.race([Promise.all(outputs), sleep(OUTPUT_AFTER_EXIT_MS)]);
    child.stdout?.destroy();
    child.stderr?.destroy();
    if (killing !== undefined) await goneGroup(child);
    if (outputFailure !== undefined) throw outputFailure;
    if (how !== 'exit code 0') throw new CommandFailed(`${quoted(command[0] ?? '')} ended with ${how}`);
  } finally {
    clearTimeout(killing);
    for (const signal of signals) signal.removeEventListener('abort', end);
  }
}

/** Copies a command's output to its end. @throws ReaderGone, or RecoverableError or FatalError */
async function relay(from: Readable | null, to: OutputStream): Promise<void> {
  if (from === null) return;
  let ended = false;
  from.once('close', () => {
    ended = true;
  });
  try {
    for await (const chunk of from) await write(to, chunk);
    // What could not be handed over is known only then.
    await flush(to);
  } catch (error) {
    // Given up on, after the command had ended.
    if (ended && (error as NodeJS.ErrnoException).code === 'ERR_STREAM_PREMATURE_CLOSE') return;
    throw error;
  }
}

/** Resolves when nothing that the command has started runs any more, or a while after it was killed. */
async function goneGroup(child: ChildProcess): Promise<void> {
  const untilMs = performance.now() + KILL_AFTER_MS + GONE_AFTER_MS;
  while (OWN_GROUP && performance.now() < untilMs && isAlive(child)) await sleep(LOOK_MS);
}

function isAlive({ pid }: ChildProcess): boolean {
  if (pid === undefined) return false;
  try {
    process.kill(-pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Some failures to start are thrown, others told by an event. */
function start(command: readonly string[], { cwd, env, stdout, stderr }: RunOptions): ChildProcess {
  const [file = '', ...args] = command;
  try {
    return spawn(file, args, {
      cwd,
      env: { ...env },
      detached: OWN_GROUP,
      windowsHide: true,
      stdio: ['pipe', shared(stdout), shared(stderr)],
    });
  } catch (error) {
    throw notStarted(command, error);
  }
}

/**
 * A terminal or file of this process is the child's as well, so nothing is copied. A pipe is not: when its reader has
 * gone, that is to be noticed here, and not to be a failure of one item after the other.
 */
function shared(stream: OutputStream): OutputStream | 'pipe' {
  if (!('fd' in stream) || typeof stream.fd !== 'number') return 'pipe';
  const kind = fstatSync(stream.fd);
  return kind.isFIFO() || kind.isSocket() ? 'pipe' : stream;
}

function exitOf(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) => resolve(signal === null ? `exit code ${code}` : signal));
  });
}

function kill(child: ChildProcess, signal: 'SIGTERM' | 'SIGKILL'): void {
  if (child.pid === undefined) return;
  try {
    if (OWN_GROUP) process.kill(-child.pid, signal);
    else child.kill(signal);
  } catch {
    // It has ended by itself.
  }
}

function notStarted([file = '']: readonly string[], error: unknown): Error {
  const why = REASONS[(error as NodeJS.ErrnoException).code ?? ''];
  return why === undefined ? systemError(error, `start ${quoted(file)}`) : cannotRun(file, why);
}

function cannotRun(file: string, why: string): UsageError {
  return new UsageError(`cannot run ${quoted(file)}: ${why}`);
}

const MISSING = 'there is no such command';
const FORBIDDEN = 'it is not a program that this user may run';
const NAMELESS = 'a command has a name, and no NUL in its arguments';

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: MISSING,
  ENOTDIR: MISSING,
  ERR_INVALID_ARG_VALUE: NAMELESS,
  EACCES: FORBIDDEN,
};
