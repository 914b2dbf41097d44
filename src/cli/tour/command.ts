/**
 * `tour [dir]`: the main job. Stores every regular file under a folder, queues one job per file, works the jobs off with
 * leases, and reports.
 *
 * Killed at any point and run again it finishes what was left and queues nothing twice: first the jobs that are in the
 * queue are worked off, whichever folder they came from; then the queue is empty and nobody else may fill it, so every
 * file whose record does not say `done` has no job, and the walk gives it one.
 */
import { realpath, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { FatalError } from '../../contracts/errors.js';
import { ObjectStore } from '../../contracts/object-store.js';
import { Queue } from '../../contracts/queue.js';
import { Storage } from '../../contracts/storage.js';
import type { Host } from '../../registry/index.js';
import { examples } from '../arguments.js';
import { messageOf, planOf, withHost, withQueues } from '../host.js';
import { type Cli, UsageError } from '../io.js';
import { machineOf, secretsOf } from '../machine.js';
import { plural, tell } from '../output.js';
import { Ledger } from './ledger.js';
import { dataPlaces, OwnData } from './own-data.js';
import { printable } from './paths.js';
import { Slots } from './pool.js';
import { withProgress } from './progress.js';
import { printReport } from './report.js';
import { storeFiles } from './store.js';
import { Tally } from './tally.js';
import { type WalkListener, walk } from './walk.js';
import { workJobs } from './work.js';

/** Name of the Queue instance, and of the queue itself where the tour makes the instance. */
const QUEUE = 'tour';

/** Files and blobs that are streamed at a time: each costs a few MiB of memory. */
const LARGE_AT_ONCE = 4;

export function define(command: Command, cli: Cli): void {
  command
    .addHelpText(
      'after',
      '\nThe default dir is src in the current folder where there is one, else the current folder.\n' +
        'Killed at any point and run again, it finishes what was left.',
    )
    .action((dir: string | undefined) => tour(dir, cli));
  examples(command, 'rollout-cloud tour', 'rollout-cloud tour /usr/share/doc', 'rollout-cloud tour ~/photos --json');
}

async function tour(dir: string | undefined, cli: Cli): Promise<void> {
  const root = await findRoot(dir, cli);
  const set = await ownQueue(cli);
  await withHost(cli, set, async (host) => {
    const storage = await host.get(Storage);
    const lock = await storage.lock('rollout_tour', { holder: 'rollout-cloud tour' });
    try {
      await tourWith(host, new Ledger(storage), root, cli);
    } finally {
      await lock[Symbol.asyncDispose]();
    }
  });
}

async function findRoot(dir: string | undefined, cli: Cli): Promise<Buffer> {
  if (dir === undefined) {
    const src = join(cli.cwd, 'src');
    const isFolder = await stat(src)
      .then((found) => found.isDirectory())
      .catch(() => false);
    return realpath(isFolder ? src : cli.cwd, 'buffer');
  }
  const path = resolve(cli.cwd, dir);
  const found = await stat(path).catch(({ code }: NodeJS.ErrnoException) => {
    throw new UsageError(`cannot tour ${JSON.stringify(dir)}: ${code === 'ENOENT' ? 'there is no such folder' : code}`);
  });
  if (!found.isDirectory()) throw new UsageError(`cannot tour ${JSON.stringify(dir)}: it is not a folder`);
  return realpath(path, 'buffer');
}

/** What to set so that there is a Queue instance of the tour's own: nothing, where the configuration has one. */
async function ownQueue(cli: Cli): Promise<Record<string, unknown>> {
  const plan = await planOf(cli);
  const queues = plan.filter(({ capability }) => capability === 'Queue');
  const model = queues.find(({ isDefault }) => isDefault);
  if (model === undefined || queues.some(({ name }) => name === QUEUE)) return {};
  const set = await withQueues(cli, plan, new Map([[QUEUE, model]]));
  try {
    await planOf(cli, set);
    return set;
  } catch (cause) {
    throw new FatalError(
      'ConfigInvalid',
      `the tour works on a queue of its own, and adapter ${model.adapter} cannot be given one by "name"; ` +
        `bind one yourself: bindings.Queue.instances.tour\n${messageOf(cause)}`,
      { cause },
    );
  }
}

async function tourWith(host: Host, ledger: Ledger, root: Buffer, cli: Cli): Promise<void> {
  const [store, queue] = [await host.get(ObjectStore), await host.get(Queue, QUEUE)];
  const data = dataPlaces(host.bindings());
  const own = await OwnData.find(data);
  const around = own.around(root);
  if (around !== undefined) {
    throw new UsageError(
      `cannot tour ${printable(root)}: it lies in ${around.path}, where ${around.instance} keeps its data`,
    );
  }

  const tally = new Tally();
  const time = { storingMs: 0, workingMs: 0 };
  const options = { store, queue, ledger, own, tally, large: new Slots(LARGE_AT_ONCE), signal: cli.signal };
  /** Runs one half of the tour, shows how far it is, and adds up its time, however it ends. */
  const phase = async (half: keyof typeof time, doing: string, total: number | null, run: () => Promise<void>) => {
    const [startedAt, bytesBefore, jobsBefore] = [performance.now(), tally.bytesRead, tally.jobsEnded];
    const files = () => (total === null ? tally.filesFound : tally.jobsEnded - jobsBefore);
    const now = () => ({ files: files(), bytes: tally.bytesRead - bytesBefore });
    try {
      await withProgress(cli, { doing, total, now }, run);
    } finally {
      time[half] += performance.now() - startedAt;
    }
  };
  const work = async (doing: string) => {
    const { pending } = await queue.stats();
    if (pending > 0) await phase('workingMs', doing, pending, () => workJobs(options));
  };

  const interrupted = await untilStopped(cli.signal, async () => {
    await work('resuming').finally(() => {
      tally.jobsResumed = tally.jobsEnded;
    });
    if (tally.jobsResumed > 0) tell(cli, `resumed ${plural(tally.jobsResumed, 'job')} of an earlier tour`);
    const files = walk(root, own, listenerOf(tally));
    await phase('storingMs', 'storing', null, () => storeFiles(files, options));
    await work('checking');
  });

  printReport(cli, {
    dir: root,
    bindings: host.bindings(),
    data,
    machine: await machineOf(host),
    secrets: await secretsOf(host),
    tally,
    ...time,
    interrupted,
  });
  if (interrupted || tally.jobsFailed > 0 || tally.filesUnreadable > 0) cli.exitCode = 1;
}

/** Runs `work`; true when `signal` ended it early, which is no failure. */
async function untilStopped(signal: AbortSignal, work: () => Promise<void>): Promise<boolean> {
  try {
    await work();
  } catch (error) {
    if (!signal.aborted || error !== signal.reason) throw error;
  }
  return signal.aborted;
}

function listenerOf(tally: Tally): WalkListener {
  return {
    symlink: () => tally.symlinks++,
    special: () => tally.specials++,
    ownData: () => tally.ownData++,
    unreadable: (path, error) => {
      tally.filesUnreadable++;
      tally.problem(path, `could not be listed: ${(error as NodeJS.ErrnoException).code ?? error}`);
    },
  };
}
