/** Runs of the command line: in this process, where coverage sees them, and as the program that users start. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { run } from '../../src/cli/program.js';
import { importModule } from '../support/import-module.js';

const PROGRAM = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

/** All that is local, without plugins; the folder is that of the configuration file. */
export const LOCAL = {
  bindings: {
    Storage: { adapter: 'local.sqlite', config: { path: './data/rollout.db' } },
    ObjectStore: { adapter: 'local.fs', config: { root: './data/object-store' } },
    Queue: { adapter: 'local.in-mem' },
    SecretStore: { adapter: 'local.env', config: { allowlist: ['TOUR_TEST_SET', 'TOUR_TEST_UNSET'] } },
    ComputeHint: { adapter: 'local.compute' },
  },
};

export interface Result {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

class Sink extends Writable {
  text = '';
  constructor(
    readonly isTTY: boolean,
    readonly onText?: (text: string) => void,
    readonly columns?: number,
    readonly rows?: number,
  ) {
    super();
  }
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString();
    this.onText?.(this.text);
    done();
  }
}

/** A folder with a configuration file and files to tour. */
export class Place {
  static readonly #all = new Set<Place>();

  readonly folder = realpathSync(mkdtempSync(join(tmpdir(), 'rollout-cli-')));
  readonly #children = new Set<ChildProcess>();

  constructor(config: object | string | null = LOCAL) {
    Place.#all.add(this);
    if (config !== null)
      this.write('plugins.json', typeof config === 'string' ? config : JSON.stringify(config, null, 2));
  }

  path(...names: string[]): string {
    return join(this.folder, ...names);
  }

  write(name: string, content: string | Uint8Array): string {
    const file = this.path(name);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, content);
    return file;
  }

  /** `count` files in folders of 100, each with other bytes. */
  fill(folder: string, count: number, content = (i: number) => `file ${i} of ${folder}`): void {
    for (let i = 0; i < count; i++) this.write(`${folder}/${Math.floor(i / 100)}/${i}.txt`, content(i));
  }

  /** Runs the command line in this process. `input` is what is on stdin: chunks, none by default. */
  async run(
    args: readonly string[],
    options: {
      tty?: boolean;
      /** Columns and rows of the terminal. Default: it does not tell. */
      size?: readonly [number, number];
      env?: Record<string, string>;
      signal?: AbortSignal;
      insisted?: AbortSignal;
      input?: Iterable<Buffer> | AsyncIterable<Buffer>;
      /** Told all of stdout at each write. */
      onStdout?: (text: string) => void;
    } = {},
  ): Promise<Result> {
    const never = new AbortController().signal;
    const { tty = false, size = [], env = {}, signal = never, insisted = never, input = [], onStdout } = options;
    const [stdout, stderr] = [new Sink(tty, onStdout, ...size), new Sink(tty)];
    const stdin = () => (input instanceof Readable ? input : Readable.from(input));
    const io = { stdin, stdout, stderr, env, cwd: this.folder, signal, insisted, hostOptions: { importModule } };
    const code = await run(args, io);
    return { code, stdout: stdout.text, stderr: stderr.text };
  }

  /** Starts the program. */
  start(args: readonly string[], env: Record<string, string> = {}): ChildProcess {
    const child = spawn(process.execPath, [PROGRAM, ...args], { cwd: this.folder, env: { ...process.env, ...env } });
    this.#children.add(child);
    child.once('exit', () => this.#children.delete(child));
    return child;
  }

  /** Runs the program to its end. */
  program(args: readonly string[], env: Record<string, string> = {}): Promise<Result> {
    return ended(this.start(args, env));
  }

  /** Removes every place made since the last call, and ends what still runs in them. For `afterEach`. */
  static removeAll(): void {
    for (const place of Place.#all) {
      for (const child of place.#children) child.kill('SIGKILL');
      rmSync(place.folder, { recursive: true, force: true });
    }
    Place.#all.clear();
  }
}

/** What a child process wrote until it ended. `code` is `null` when a signal ended it. */
export async function ended(child: ChildProcess): Promise<Result> {
  let [stdout, stderr] = ['', ''];
  child.stdout?.on('data', (chunk) => {
    stdout += chunk;
  });
  child.stderr?.on('data', (chunk) => {
    stderr += chunk;
  });
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  return { code, stdout, stderr };
}
