/** How far the tour is, on stderr: a bar on a terminal, else a plain line now and then, and none under a second. */
import { SingleBar } from 'cli-progress';
import type { Cli } from '../io.js';
import { bytes, count, plural, tell } from '../output.js';

const REDRAW_MS = 100;
const FIRST_LINE_MS = 1_000;
const LINE_MS = 5_000;

export interface Phase {
  /** What is being done, e.g. `storing`. */
  readonly doing: string;
  /** Files to come; `null` where nobody has counted them. */
  readonly total: number | null;
  /** How far it is, asked now and then. */
  now(): { readonly files: number; readonly bytes: number };
}

/** Shows `phase` while `work` runs. */
export async function withProgress<T>(cli: Cli, phase: Phase, work: () => Promise<T>): Promise<T> {
  const end = cli.stderr.isTTY === true ? showBar(cli, phase) : showLines(cli, phase);
  try {
    return await work();
  } finally {
    end();
  }
}

function showBar(cli: Cli, { doing, total, now }: Phase): () => void {
  const format = total === null ? '{doing} {files}, {size}' : '{doing} {bar} {done} of {files}, {size}, {eta} s left';
  const bar = new SingleBar({
    format,
    stream: cli.stderr as NodeJS.WriteStream,
    clearOnComplete: true,
    // Turning it off would outlive a run that is killed.
    linewrap: true,
    barsize: 30,
    barCompleteChar: '█',
    barIncompleteChar: '░',
  });
  const payload = () => {
    const { files, bytes: size } = now();
    return { doing, done: count(files), files: plural(total ?? files, 'file'), size: bytes(size) };
  };
  bar.start(total ?? 1, 0, payload());
  const timer = setInterval(() => bar.update(total === null ? 0 : Math.min(now().files, total), payload()), REDRAW_MS);
  return () => {
    clearInterval(timer);
    bar.stop();
  };
}

function showLines(cli: Cli, { doing, total, now }: Phase): () => void {
  const line = () => {
    const { files, bytes: size } = now();
    const far = total === null ? plural(files, 'file') : `${count(files)} of ${plural(total, 'file')}`;
    tell(cli, `${doing}: ${far}, ${bytes(size)}`);
  };
  let timer = setTimeout(function next() {
    line();
    timer = setTimeout(next, LINE_MS);
  }, FIRST_LINE_MS);
  return () => clearTimeout(timer);
}
