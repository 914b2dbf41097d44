/** `objects verify`: reads objects back and checks their bytes against their ids. */
import type { Command } from 'commander';
import { isCoreError } from '../../contracts/errors.js';
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
}

interface Tally {
  /** Objects looked at, whether they passed or not. */
  checked: number;
  /** Bytes of those that passed, and of those that are being read. */
  bytes: number;
  failed: number;
}

export function defineVerify(parent: Command, cli: Cli): void {
  const command = parent
    .command('verify')
    .summary('read objects back and check them')
    .description('Read objects back and check their bytes against their ids; prints those that fail: exit code 1.')
    .argument('[id...]', 'ids of the objects; by default all that the store has', contentIds)
    .addOption(instanceOption())
    .action((ids: ContentId[], options: InstanceOptions) => verify(cli, ids, options));
  examples(
    command,
    'rollout-cloud objects verify',
    'rollout-cloud objects verify "$id"',
    "rollout-cloud objects verify --json | jq -r '.problems[].id'",
  );
}

async function verify(cli: Cli, ids: readonly ContentId[], options: InstanceOptions): Promise<void> {
  await withInstance(cli, ObjectStore, options, async (store) => {
    const tally: Tally = { checked: 0, bytes: 0, failed: 0 };
    const text = () =>
      `verifying: ${plural(tally.checked, 'object')}, ${bytes(tally.bytes)}, ${count(tally.failed)} failed`;
    await Ticker.during(cli, 'one line', text, async (ticker) => {
      const findings = findingsOf(cli, store, ids, tally);
      if (cli.json) {
        const rest = () => ({ checked: tally.checked, bytes: tally.bytes, failed: tally.failed });
        await writeJsonList(cli, findings, { key: 'problems', rest });
        return;
      }
      const { red } = colorsFor(cli.stdout, cli.env);
      for await (const { id, problem, message } of findings) {
        ticker.hide();
        await write(cli.stdout, `${red(problem)} ${id}${problem === 'unreadable' ? `: ${message}` : ''}\n`);
      }
      ticker.hide();
      writeLine(
        cli.stdout,
        `${plural(tally.checked, 'object')} checked, ${bytes(tally.bytes)}, ${count(tally.failed)} failed`,
      );
    });
    if (tally.failed > 0) cli.exitCode = 1;
  });
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
  let size = 0;
  try {
    for await (const chunk of await store.getStream(id, { signal: cli.signal })) {
      size += chunk.length;
      tally.bytes += chunk.length;
    }
    return null;
  } catch (error) {
    tally.bytes -= size;
    if (!isCoreError(error) || error.code === 'CLOSED') throw error;
    return { id, problem: PROBLEMS[error.code] ?? 'unreadable', message: error.message };
  }
}

const PROBLEMS: Readonly<Record<string, Finding['problem']>> = {
  OBJECT_CORRUPT: 'corrupt',
  OBJECT_NOT_FOUND: 'missing',
};
