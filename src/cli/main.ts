#!/usr/bin/env node
/** The program: gives `run` the process's streams and signals, and the process the exit code of `run`. */
import { Console } from 'node:console';
import { getEventListeners } from 'node:events';
import { constants } from 'node:os';
import { tell } from './output.js';
import { run } from './program.js';

// Stdout has what was asked for; what plugins and their packages say through the console is not.
Object.assign(console, new Console({ stdout: process.stderr, stderr: process.stderr }));

const stopping = new AbortController();
const insisting = new AbortController();
/** What asks for an orderly end. SIGHUP: the terminal was closed. */
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
let stoppedBy: (typeof SIGNALS)[number] | null = null;

for (const signal of SIGNALS) {
  process.on(signal, () => {
    const heard = !insisting.signal.aborted && getEventListeners(insisting.signal, 'abort').length > 0;
    if (stoppedBy !== null && !heard) process.exit(codeOf(signal));
    // Not behind the progress bar, and the ^C that a terminal shows.
    if (process.stderr.isTTY) process.stderr.write('\n');
    if (stoppedBy === null) {
      stoppedBy = signal;
      const next = heard ? 'once more to give it up' : 'once more to exit at once';
      tell(process, `${signal}: finishing what is under way, then stopping; ${next}`);
      stopping.abort(new Error(`stopped by ${signal}`));
    } else {
      tell(process, `${signal}: giving up what is under way, then stopping; once more to exit at once`);
      insisting.abort(new Error(`stopped by a second ${signal}`));
    }
  });
}

// A reader that has seen enough (`| head`) is no failure; what cannot be written elsewhere is.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') process.exitCode = 1;
  });
}

/** The folder may have been removed beneath the shell that stands in it. */
function currentFolder(): string {
  try {
    return process.cwd();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const why = code === 'ENOENT' ? 'it is not there any more; cd to one that is' : `${code}; cd to another`;
    tell(process, `the current folder cannot be used: ${why}`);
    process.exit(2);
  }
}

const exitCode = await run(process.argv.slice(2), {
  stdin: () => process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  env: process.env,
  cwd: currentFolder(),
  signal: stopping.signal,
  insisted: insisting.signal,
});
// Not `process.exitCode` alone: a handle that a plugin left open would keep the process. A pipe is written to its end
// first: the callback of an empty write comes after everything before it.
const code = stoppedBy === null ? exitCode || process.exitCode : codeOf(stoppedBy);
process.stdout.write('', () => process.stderr.write('', () => process.exit(code)));

/** As a shell reports a process that a signal ended. */
function codeOf(signal: (typeof SIGNALS)[number]): number {
  return 128 + constants.signals[signal];
}
