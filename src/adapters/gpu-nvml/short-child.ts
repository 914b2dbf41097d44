/**
 * A child process that answers one question and ends, for questions that may hang or crash whoever asks them.
 *
 *     waiting for its turn ──> running ──> ended
 *                                 │          ^
 *                             late, aborted  │ reaped
 *                                 v          │
 *                              killed ───> stuck
 *
 * One runs at a time. One that is late is killed (SIGKILL) and waited for briefly; a process that is in an uninterruptible
 * call of a driver does not even end by that. Until it does, nothing more is started: a second one would hang just so.
 *
 * The child keeps neither this process's event loop, nor runs on when this process ends. It costs no thread of the pool.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { performance } from 'node:perf_hooks';
import type { Readable } from 'node:stream';

export interface Question {
  readonly file: string;
  readonly args: readonly string[];
  /** The descriptor it answers on: 1, or 3 where libraries may print to 1. */
  readonly answersOn: 1 | 3;
  /** When it must have answered, by `performance.now()`. */
  readonly deadlineMs: number;
  /** Ends it early. */
  readonly signal?: AbortSignal | undefined;
}

export type Ending =
  /** It ended by itself; `signal` where it crashed. */
  | {
      readonly how: 'ended';
      readonly code: number | null;
      readonly signal: NodeJS.Signals | null;
      readonly answer: string;
      readonly complaint: string;
    }
  /** It could not be started. */
  | { readonly how: 'failed'; readonly error: NodeJS.ErrnoException }
  | { readonly how: 'late' | 'aborted' }
  /** It does not end even when killed, or one before it does not and this one was not started. */
  | { readonly how: 'stuck'; readonly pid: number };

/** A hundred GPUs are 40 KB. */
const ANSWER_BYTES_MAX = 1 << 20;

/** The end of what it wrote to stderr, for the reason of a failure: an error of Node with its stack. */
const COMPLAINT_CHARS_MAX = 4_000;

/** How long what an ended child has written may take to arrive: it lies in the pipe. */
const DRAIN_MS_MAX = 100;

/** How long a killed child may take to be gone; a healthy one takes a few ms. */
const REAP_MS_MAX = 250;

export class ShortChildren {
  readonly #spawn: typeof spawn;
  #turn: Promise<unknown> = Promise.resolve();
  #stuck: ChildProcess | null = null;

  /** @param start the port to the operating system, for tests of what cannot be killed */
  constructor(start: typeof spawn = spawn) {
    this.#spawn = start;
  }

  /** Never rejects. Resolves at the deadline and {@link REAP_MS_MAX} at the latest. */
  ask(question: Question): Promise<Ending> {
    const before = this.#turn;
    const answer = (async (): Promise<Ending> => {
      if (!(await isOverBy(before, question.deadlineMs))) return { how: 'late' };
      const pid = this.#stuck?.pid;
      if (pid !== undefined) return { how: 'stuck', pid };
      return question.signal?.aborted ? { how: 'aborted' } : this.#run(question);
    })();
    // Not before the one before, should this one have given up waiting for it.
    this.#turn = Promise.allSettled([before, answer]).then(() => {});
    return answer;
  }

  #run({ file, args, answersOn, deadlineMs, signal }: Question): Promise<Ending> {
    return new Promise((resolve) => {
      let child: ChildProcess;
      try {
        child = this.#spawn(file, args, {
          cwd: '/',
          env: environment(),
          stdio: ['ignore', answersOn === 1 ? 'pipe' : 'ignore', 'pipe', answersOn === 3 ? 'pipe' : 'ignore'],
          windowsHide: true,
        });
      } catch (error) {
        resolve({ how: 'failed', error: error as NodeJS.ErrnoException });
        return;
      }
      const kill = () => void child.kill('SIGKILL');
      // Out of file descriptors, a process has no pipes and is not started; 'error' tells.
      const pipes: (Readable | null | undefined)[] = child.stdio === undefined ? [] : (child.stdio as Readable[]);
      const answer = collect(pipes[answersOn], (text) => {
        if (text.length > ANSWER_BYTES_MAX) kill();
        return text;
      });
      const complaint = collect(pipes[2], (text) => text.slice(-COMPLAINT_CHARS_MAX));
      child.unref();

      let killedFor: 'late' | 'aborted' | null = null;
      const give = (ending: Ending) => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', abort);
        resolve(ending);
      };
      const killFor = (why: 'late' | 'aborted') => {
        killedFor = why;
        clearTimeout(timer);
        kill();
        timer = setTimeout(() => {
          this.#stuck = child;
          give({ how: 'stuck', pid: child.pid ?? 0 });
        }, REAP_MS_MAX);
      };
      const abort = () => killFor('aborted');
      // It keeps the event loop: whoever waits for the answer must not find that the process has ended meanwhile.
      let timer = setTimeout(() => killFor('late'), deadlineMs - performance.now());
      signal?.addEventListener('abort', abort, { once: true });
      process.once('exit', kill);
      child.once('error', (error) => {
        process.off('exit', kill);
        give({ how: 'failed', error });
      });
      const reaped = (code: number | null, endedBy: NodeJS.Signals | null) => {
        for (const pipe of pipes) pipe?.destroy();
        if (killedFor !== null) give({ how: killedFor });
        else give({ how: 'ended', code, signal: endedBy, answer: answer(), complaint: complaint() });
      };
      child.once('exit', (code, endedBy) => {
        process.off('exit', kill);
        if (this.#stuck === child) this.#stuck = null;
        clearTimeout(timer);
        // What has ended cannot be killed: it would be waited for in vain, and for ever taken to be stuck.
        signal?.removeEventListener('abort', abort);
        // 'close' comes when its pipes have, and never while a process that it left behind holds one.
        timer = setTimeout(() => reaped(code, endedBy), DRAIN_MS_MAX);
      });
      child.once('close', reaped);
    });
  }
}

/** Whether the turn before has ended by the deadline. */
async function isOverBy(turn: Promise<unknown>, deadlineMs: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), deadlineMs - performance.now());
  });
  const isOver = await Promise.race([turn.then(() => true), late]);
  clearTimeout(timer);
  return isOver && performance.now() < deadlineMs;
}

/** What the loader needs to find the driver's libraries, and nothing else of this process's environment. */
function environment(): NodeJS.ProcessEnv {
  const { LD_LIBRARY_PATH, PATH } = process.env;
  return { ...(LD_LIBRARY_PATH !== undefined && { LD_LIBRARY_PATH }), ...(PATH !== undefined && { PATH }) };
}

/** What has come so far, as `keep` makes of it at each piece. The stream keeps no event loop. */
function collect(stream: Readable | null | undefined, keep: (text: string) => string): () => string {
  let text = '';
  stream?.setEncoding('utf8').on('data', (piece: string) => {
    text = keep(text + piece);
  });
  // A pipe that breaks ends the child, which tells of it.
  stream?.on('error', () => {});
  (stream as (Readable & { unref?(): void }) | null | undefined)?.unref?.();
  return () => text;
}
