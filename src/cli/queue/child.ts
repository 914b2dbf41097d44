/**
 * One run of a command. It is in a process group of its own: the Ctrl-C that a terminal sends to its whole group is then
 * no matter of the command's, and ending the command ends what it has started.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { systemError } from '../../contracts/errors.js';
import { type OutputStream, UsageError } from '../io.js';
import { quoted } from '../output.js';

/** How long a command may take to end after SIGTERM, before it gets SIGKILL. */
const KILL_AFTER_MS = 2_000;

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
 * Runs `command` with `input` on its stdin; resolves when it has exited with code 0.
 * @throws CommandFailed: it ended otherwise. UsageError: there is no such command, or it may not be run.
 * RecoverableError or FatalError: the system cannot start it.
 */
export async function runCommand(command: readonly string[], input: Uint8Array, options: RunOptions): Promise<void> {
  const { stdout, stderr, signals } = options;
  let killing: NodeJS.Timeout | undefined;
  const child = start(command, options);
  const end = () => {
    kill(child, 'SIGTERM');
    killing ??= setTimeout(() => kill(child, 'SIGKILL'), KILL_AFTER_MS);
  };
  // It may exit without reading all of its input: its exit code says whether that was well.
  child.stdin?.on('error', () => {});
  child.stdin?.end(input);
  child.stdout?.pipe(stdout, { end: false });
  child.stderr?.pipe(stderr, { end: false });
  for (const signal of signals) {
    signal.addEventListener('abort', end);
    if (signal.aborted) end();
  }
  try {
    const how = await exitOf(child).catch((error: unknown) => {
      throw notStarted(command, error);
    });
    if (how !== 'exit code 0') throw new CommandFailed(`${quoted(command[0] ?? '')} ended with ${how}`);
  } finally {
    clearTimeout(killing);
    for (const signal of signals) signal.removeEventListener('abort', end);
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

/** A stream of this process is the child's as well, so nothing is copied; any other one is written to. */
function shared(stream: OutputStream): OutputStream | 'pipe' {
  return 'fd' in stream ? stream : 'pipe';
}

function exitOf(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve(signal === null ? `exit code ${code}` : signal));
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
  return why === undefined
    ? systemError(error, `start ${quoted(file)}`)
    : new UsageError(`cannot run ${quoted(file)}: ${why}`);
}

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such command',
  ENOTDIR: 'there is no such command',
  ERR_INVALID_ARG_VALUE: 'a command has a name, and no NUL in its arguments',
  EACCES: 'it is not a program that this user may run',
};
