/** `objects verify`: reads objects back and checks their bytes against their ids. */
import type { Command } from 'commander';
import { FatalError, isCoreError } from '../../contracts/errors.js';
import type { ContentId } from '../../contracts/ids.js';
import { ObjectStore } from '../../contracts/object-store.js';
import { contentIds, examples, instanceOption } from '../arguments.js';
import { inOrder } from '../in-order.js';
import { type InstanceOptions, withInstance } from '../instance.js';
import type { Cli } from '../io.js';
import { writeJsonList } from '../json-list.js';
import { bytes, colorsFor, count, plural, write, writeLine } from '../output.js';
import { Ticker } from '../ticker.js';

/** Objects being read: a stream holds up to about 1 MiB. */
const OBJECTS_AT_ONCE = 4;

/** An object that did not pass. */
interface Finding {
  readonly id: ContentId;
  readonly problem: 'corrupt' | 'missing' | 'unreadable';
  readonly message: string;
  /** Where it was moved to; left out where nothing was moved. */
  readonly quarantinedTo?: string;
}

interface Tally {
  /** Objects looked at, whether they passed or not. */
  checked: number;
  /** Bytes read. */
  bytes: number;
  failed: number;
  /** `null` where the adapter has none of it. */
  quarantined: number | null;
  sidecarsHealed: number | null;
}

/** A store that goes through its objects itself, mends what it keeps beside them, and can put corrupt ones aside. */
interface Verifying {
  verify(options: {
    readonly prefix?: string;
    readonly quarantine: boolean;
    readonly signal: AbortSignal;
    readonly onFault: (fault: Finding & { readonly quarantinedTo: string | null }) => Promise<void>;
    readonly onProgress: (report: StoreReport) => void;
  }): Promise<StoreReport>;
}

interface StoreReport {
  readonly checked: number;
  readonly bytes: number;
  readonly quarantined: number;
  readonly sidecarsHealed: number;
}

interface VerifyCommandOptions extends InstanceOptions {
  readonly quarantine?: boolean;
}

export function defineVerify(parent: Command, cli: Cli): void {
  const command = parent
    .command('verify')
    .summary('read objects back and check them')
    .description('Read objects back and check their bytes against their ids; prints those that fail: exit code 1.')
    .option('--quarantine', 'move corrupt objects out of the store, to the folder quarantine in its root')
    .argument('[id...]', 'ids of the objects; by default all that the store has', contentIds)
    .addOption(instanceOption())
    .action((ids: ContentId[], options: VerifyCommandOptions) => verify(cli, ids, options));
  examples(
    command,
    'rollout-cloud objects verify',
    'rollout-cloud objects verify "$id"',
    "rollout-cloud objects verify --json | jq -r '.problems[].id'",
  );
}

async function verify(cli: Cli, ids: readonly ContentId[], options: VerifyCommandOptions): Promise<void> {
  await withInstance(cli, ObjectStore, options, async (store) => {
    const { quarantine = false } = options;
    const itself = store as ObjectStore & Partial<Verifying>;
    const canItself = typeof itself.verify === 'function';
    if (quarantine && !canItself) {
      throw new FatalError('ConfigInvalid', 'the adapter of this ObjectStore has no quarantine; local.fs has', {
        code: 'FEATURE_UNSUPPORTED',
      });
    }
    const tally: Tally = { checked: 0, bytes: 0, failed: 0, quarantined: null, sidecarsHealed: null };
    const text = () =>
      `verifying: ${plural(tally.checked, 'object')}, ${bytes(tally.bytes)}, ${count(tally.failed)} failed`;
    await Ticker.during(cli, 'one line', text, async (ticker) => {
      const findings = canItself
        ? findingsOfIts(cli, itself as Verifying, ids, quarantine, tally)
        : findingsOf(cli, store, ids, tally);
      if (cli.json) {
        const rest = () => ({ ...tally });
        await writeJsonList(cli, findings, { key: 'problems', rest });
        return;
      }
      const { red } = colorsFor(cli.stdout, cli.env);
      for await (const { id, problem, message, quarantinedTo } of findings) {
        ticker.hide();
        const more = problem === 'unreadable' ? `: ${message}` : quarantinedTo ? ` -> ${quarantinedTo}` : '';
        await write(cli.stdout, `${red(problem)} ${id}${more}\n`);
      }
      ticker.hide();
      writeLine(
        cli.stdout,
        `${plural(tally.checked, 'object')} checked, ${bytes(tally.bytes)}, ${count(tally.failed)} failed` +
          (tally.quarantined ? `, ${count(tally.quarantined)} quarantined` : '') +
          (tally.sidecarsHealed ? `, ${plural(tally.sidecarsHealed, 'sidecar')} mended` : ''),
      );
    });
    if (tally.failed > 0) cli.exitCode = 1;
  });
}

/** As the store tells them; it waits until each is taken. */
async function* findingsOfIts(
  cli: Cli,
  store: Verifying,
  ids: readonly ContentId[],
  quarantine: boolean,
  tally: Tally,
): AsyncGenerator<Finding, void, void> {
  Object.assign(tally, { quarantined: 0, sidecarsHealed: 0 });
  for (const prefix of ids.length > 0 ? ids : ['']) {
    const before = { ...tally };
    const waiting: { readonly finding: Finding; readonly taken: () => void }[] = [];
    let wake = () => {};
    let ended = false;
    const onProgress = (report: StoreReport) => {
      for (const name of ['checked', 'bytes', 'quarantined', 'sidecarsHealed'] as const) {
        tally[name] = (before[name] ?? 0) + report[name];
      }
    };
    const walk = store
      .verify({
        prefix,
        quarantine,
        signal: cli.signal,
        onProgress,
        onFault: ({ id, problem, message, quarantinedTo }) =>
          new Promise((taken) => {
            waiting.push({
              finding: { id, problem, message, ...(quarantinedTo !== null && { quarantinedTo }) },
              taken,
            });
            wake();
          }),
      })
      .finally(() => {
        ended = true;
        wake();
      });
    // Thrown below, when what was found before it is told.
    walk.catch(() => {});
    while (!ended || waiting.length > 0) {
      const next = waiting.shift();
      if (next === undefined) {
        await new Promise<void>((resolve) => {
          wake = resolve;
          if (ended || waiting.length > 0) resolve();
        });
        continue;
      }
      tally.failed += 1;
      yield next.finding;
      next.taken();
    }
    const report = await walk;
    onProgress(report);
    if (prefix !== '' && report.checked === 0) {
      tally.checked += 1;
      tally.failed += 1;
      yield { id: prefix as ContentId, problem: 'missing', message: `object not found: ${prefix}` };
    }
  }
}

async function* findingsOf(
  cli: Cli,
  store: ObjectStore,
  ids: readonly ContentId[],
  tally: Tally,
): AsyncGenerator<Finding, void, void> {
  const named = ids.length > 0;
  const all = named ? ids : store.list({ signal: cli.signal });
  for await (const finding of inOrder(all, OBJECTS_AT_ONCE, (id) => check(cli, store, id, tally))) {
    // One that is listed may be removed before it is read.
    if (finding?.problem === 'missing' && !named) continue;
    tally.checked += 1;
    if (finding === null) continue;
    tally.failed += 1;
    yield finding;
  }
}

async function check(cli: Cli, store: ObjectStore, id: ContentId, tally: Tally): Promise<Finding | null> {
  try {
    for await (const chunk of await store.getStream(id, { signal: cli.signal })) {
      tally.bytes += chunk.length;
    }
    return null;
  } catch (error) {
    if (!isCoreError(error) || error.code === 'CLOSED') throw error;
    return { id, problem: PROBLEMS[error.code] ?? 'unreadable', message: error.message };
  }
}

const PROBLEMS: Readonly<Record<string, Finding['problem']>> = {
  OBJECT_CORRUPT: 'corrupt',
  OBJECT_NOT_FOUND: 'missing',
};
