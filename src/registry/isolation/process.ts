/**
 * One child process: started, talked to, listened to, ended.
 *
 * It is talked to through Node's IPC channel; its stdout and stderr are its own, and go line by line to the host's
 * logger. It keeps the host alive only while calls are under way, and does not outlive it: it ends when the channel does,
 * and is killed when the host exits.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { StringDecoder } from 'node:string_decoder';
import type { Logger } from '../../contracts/plugin.js';
import { messageOf } from '../ending.js';
import { Peer } from './peer.js';

/** A line that is longer is logged in parts. */
const LINE_CHARS_MAX = 8_192;
/** How long a process has to exit by itself once its channel is closed. */
const EXIT_MS = 1_000;
/** How long what the process said before it ended may take to arrive. A grandchild can hold the channel open. */
const LAST_WORDS_MS = 1_000;

export interface Launch {
  /** File to run. */
  readonly entry: string;
  readonly flags: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  /** Who it is, for the log: `plugin acme.vault`. */
  readonly who: string;
  readonly logger: Logger;
  /** How long it may go without a word while a call is under way. */
  readonly answerMs: number;
  /** What it may call from the start. */
  readonly root: object;
  /** Called once when it has ended; answers what calls under way are rejected with. */
  readonly ended: (how: string) => Error;
}

/** Processes that are killed when this one exits. */
const living = new Set<ChildProcess>();
const killAll = () => {
  for (const child of living) child.kill('SIGKILL');
};

export class PluginProcess {
  readonly peer: Peer;
  /** Resolves when all that it wrote has been read. */
  readonly #silent: Promise<unknown>;
  /** Resolves when it is gone, to how that came, e.g. `was killed by SIGKILL`. */
  readonly exited: Promise<string>;
  readonly #child: ChildProcess;
  /** Why it was ended by this side, where that says more than the signal. */
  #reason: string | null = null;

  constructor({ entry, flags, env, who, logger, answerMs, root, ended }: Launch) {
    const child = spawn(process.execPath, [...flags, entry], {
      env,
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      serialization: 'advanced',
      windowsHide: true,
    });
    this.#child = child;
    if (living.size === 0) process.on('exit', killAll);
    living.add(child);

    const port = {
      send: (message: unknown, sent = () => {}) => {
        // What cannot be written is told by the channel's end, which rejects all that waits.
        if (child.connected) child.send(message as object, undefined, undefined, sent);
      },
    };
    this.peer = new Peer(port, root, {
      answerMs,
      onSilence: () => this.kill(`did not answer for ${answerMs} ms and was killed`),
      onBusy: (isBusy) => {
        if (isBusy) child.ref();
        else child.unref();
        if (isBusy) child.channel?.ref();
        else child.channel?.unref();
      },
    });
    child.on('message', (message) => {
      try {
        this.peer.receive(message);
      } catch (error) {
        // Whose answer it was to be is not known, and whoever waits for it would wait for ever.
        this.kill(`sent what cannot be read (${messageOf(error)}) and was killed`);
      }
    });
    forward(child.stdout, (line) => logger.info(`${who}: ${line}`));
    forward(child.stderr, (line) => logger.warn(`${who}: ${line}`));
    child.unref();
    child.channel?.unref();

    this.#silent = new Promise((resolve) => child.once('close', resolve));
    this.exited = new Promise((resolve) => {
      let how: string | null = null;
      const finish = () => {
        if (how === null || this.peer.isClosed) return;
        this.peer.close(ended(how));
        resolve(how);
      };
      const onExit = (found: string) => {
        living.delete(child);
        if (living.size === 0) process.off('exit', killAll);
        how ??= this.#reason ?? found;
        // Answers that were sent before the end may still be on their way.
        if (child.connected) setTimeout(finish, LAST_WORDS_MS);
        else finish();
      };
      child.once('disconnect', finish);
      child.once('exit', (code, signal) => onExit(signal === null ? `exited with ${code}` : `was killed by ${signal}`));
      child.once('error', (error) => {
        if (child.pid === undefined) onExit(`could not be started: ${error.message}`);
      });
    });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Ends it at once. @param reason in the place of "was killed by SIGKILL" */
  kill(reason: string | null = null): void {
    this.#reason ??= reason;
    this.#child.kill('SIGKILL');
  }

  /**
   * Lets it go: it exits when its channel is closed, or is killed. There is nothing in between: a process that does not
   * see the channel's end would not see a signal either. Resolves when it is gone, and its last line is logged.
   */
  async end(): Promise<void> {
    this.#child.ref();
    if (this.#child.connected) this.#child.disconnect();
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), EXIT_MS);
    await this.exited;
    clearTimeout(timer);
    let lastWords: NodeJS.Timeout | undefined;
    const enough = new Promise((resolve) => {
      lastWords = setTimeout(resolve, LAST_WORDS_MS);
    });
    await Promise.race([this.#silent, enough]);
    clearTimeout(lastWords);
  }
}

/** Text by lines. A character that is cut between two chunks is put together again. */
function forward(from: Readable | null, write: (line: string) => void): void {
  const decoder = new StringDecoder('utf8');
  let rest = '';
  const tell = (line: string) => {
    for (let at = 0; at < line.length; at += LINE_CHARS_MAX) write(line.slice(at, at + LINE_CHARS_MAX));
  };
  const take = (text: string) => {
    const lines = (rest + text).split(/\r?\n/);
    rest = lines.pop() ?? '';
    lines.forEach(tell);
    // One that does not end is not kept until it does.
    const whole = rest.length - (rest.length % LINE_CHARS_MAX);
    tell(rest.slice(0, whole));
    rest = rest.slice(whole);
  };
  from?.on('data', (chunk: Buffer) => take(decoder.write(chunk)));
  from?.on('close', () => take(`${decoder.end()}\n`));
  (from as (Readable & { unref?(): void }) | null)?.unref?.();
}
