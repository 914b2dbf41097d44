/** `objects rm`: removes objects. */
import type { Command } from 'commander';
import type { ContentId } from '../../contracts/ids.js';
import { ObjectStore } from '../../contracts/object-store.js';
import { contentIds, examples, instanceOption } from '../arguments.js';
import { type InstanceOptions, withInstance } from '../instance.js';
import type { Cli } from '../io.js';
import { writeJsonList } from '../json-list.js';
import { tell, write } from '../output.js';

export function defineRm(parent: Command, cli: Cli): void {
  const command = parent
    .command('rm')
    .summary('remove objects')
    .description('Remove objects; prints the id of each that was there. One that was not makes the exit code 1.')
    .argument('<id...>', 'ids of the objects', contentIds)
    .addOption(instanceOption())
    .action((ids: ContentId[], options: InstanceOptions) => rm(cli, ids, options));
  examples(
    command,
    'rollout-cloud objects rm "$id"',
    'rollout-cloud objects ls --prefix ab | xargs rollout-cloud objects rm',
  );
}

async function rm(cli: Cli, ids: readonly ContentId[], options: InstanceOptions): Promise<void> {
  await withInstance(cli, ObjectStore, options, async (store) => {
    const results = removeAll(cli, store, ids);
    if (cli.json) return writeJsonList(cli, results);
    for await (const { id, removed } of results) {
      if (removed) await write(cli.stdout, `${id}\n`);
      else tell(cli, `object not found: ${id}`);
    }
  });
}

async function* removeAll(
  cli: Cli,
  store: ObjectStore,
  ids: readonly ContentId[],
): AsyncGenerator<{ readonly id: ContentId; readonly removed: boolean }> {
  for (const id of ids) {
    cli.signal.throwIfAborted();
    const removed = await store.delete(id);
    if (!removed) cli.exitCode = 1;
    yield { id, removed };
  }
}
