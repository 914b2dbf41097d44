/** `objects gc`: removes the objects that a list does not name. */
import type { Command } from 'commander';
import { FatalError } from '../../contracts/errors.js';
import { ContentId, show } from '../../contracts/ids.js';
import { ObjectStore } from '../../contracts/object-store.js';
import { examples, instanceOption, integer } from '../arguments.js';
import { readInput, readLines, STDIN } from '../input.js';
import { type InstanceOptions, withInstance } from '../instance.js';
import { type Cli, UsageError } from '../io.js';
import { bytes, count, plural, quoted, writeJson, writeLine } from '../output.js';
import { Ticker } from '../ticker.js';

interface GcCommandOptions extends InstanceOptions {
  readonly keepFrom?: string;
  readonly keepNone?: boolean;
  readonly graceMs: number;
  readonly dryRun?: boolean;
}

/** What a collection tells, of whichever adapter. */
interface Report {
  readonly scanned: number;
  readonly kept: number;
  readonly young: number;
  readonly removed: number;
  readonly bytesRemoved: number;
}

/** A store that can collect. It is no part of the contract: in a bucket, life-cycle rules do it. */
interface Collecting {
  gc(options: {
    readonly keep: AsyncIterable<ContentId>;
    readonly graceMs: number;
    readonly dryRun: boolean;
    readonly signal: AbortSignal;
    readonly onProgress: (report: Report) => void;
  }): Promise<Report>;
}

const DAY_MS = 24 * 60 * 60 * 1_000;
const YEAR_MS = 366 * DAY_MS;

/** An id, and perhaps a name after it, as `objects put` prints. */
const LINE_BYTES_MAX = 65_536;

export function defineGc(parent: Command, cli: Cli): void {
  const command = parent
    .command('gc')
    .summary('remove objects that a list does not name')
    .description(
      'Remove the objects that a list does not name and that were not put within the grace. Safe while others put ' +
        'and read; interrupted, it has lost nothing, and the next run starts over.\n' +
        'The list has an id a line; what follows the id, empty lines and lines that begin with # are passed over.',
    )
    .option('--keep-from <file>', 'the list of what to keep; - is standard input')
    .option('--keep-none', 'keep nothing but what is young')
    .option(
      '--grace-ms <n>',
      'keep what was put within this time, too; below an hour only while nobody puts',
      integer('--grace-ms', 0, YEAR_MS),
      DAY_MS,
    )
    .option('--dry-run', 'tell what would be removed, and remove nothing')
    .addOption(instanceOption())
    .action((options: GcCommandOptions) => gc(cli, options));
  examples(
    command,
    'rollout-cloud objects gc --keep-from references.txt --dry-run',
    "psql -tAc 'select object_id from models' | rollout-cloud objects gc --keep-from -",
  );
}

async function gc(cli: Cli, options: GcCommandOptions): Promise<void> {
  const { keepFrom, keepNone = false, graceMs, dryRun = false } = options;
  if ((keepFrom === undefined) !== keepNone) {
    throw new UsageError('say what to keep: --keep-from <file>, or --keep-none to keep nothing but what is young');
  }
  await withInstance(cli, ObjectStore, options, async (store) => {
    const collecting = store as ObjectStore & Partial<Collecting>;
    if (typeof collecting.gc !== 'function') {
      throw new FatalError('ConfigInvalid', 'the adapter of this ObjectStore cannot collect; local.fs can', {
        code: 'FEATURE_UNSUPPORTED',
      });
    }
    let sofar: Report = { scanned: 0, kept: 0, young: 0, removed: 0, bytesRemoved: 0 };
    const onProgress = (report: Report) => {
      sofar = report;
    };
    const keep = keepFrom === undefined ? nothing() : idsOf(cli, keepFrom);
    const told = () => `looked at ${plural(sofar.scanned, 'object')}, ${count(sofar.removed)} removed`;
    const report = await Ticker.during(cli, 'one line', told, () =>
      (collecting as Collecting).gc({ keep, graceMs, dryRun, signal: cli.signal, onProgress }),
    );
    if (cli.json) writeJson(cli, { ...report, dryRun });
    else writeLine(cli.stdout, sentence(report, dryRun));
  });
}

function sentence({ scanned, kept, young, removed, bytesRemoved }: Report, dryRun: boolean): string {
  const verb = dryRun ? 'would be removed' : 'removed';
  return `${plural(scanned, 'object')}: ${count(removed)} ${verb} (${bytes(bytesRemoved)}), ${count(kept)} kept, ${count(young)} too young`;
}

async function* nothing(): AsyncGenerator<ContentId, void, void> {}

/** A list that names nothing is more likely to be a query that failed than what is meant: it is refused. */
async function* idsOf(cli: Cli, file: string): AsyncGenerator<ContentId, void, void> {
  const name = file === STDIN ? 'standard input' : quoted(file);
  let [line, ids] = [0, 0];
  for await (const lines of readLines(readInput(cli, file), LINE_BYTES_MAX)) {
    for (const bytesOfLine of lines) {
      line += 1;
      const text = bytesOfLine.toString('utf8').trim();
      if (text === '' || text.startsWith('#')) continue;
      const [id = ''] = text.split(/\s/, 1);
      if (!ContentId.is(id)) {
        throw new UsageError(`${name}, line ${line}: ${show(id)} is not an object's id; nothing was removed`);
      }
      ids += 1;
      yield id;
    }
  }
  if (ids === 0)
    throw new UsageError(`${name} names nothing to keep; nothing was removed. If that is meant: --keep-none`);
}
