/** `objects stat`: what is known of an object. */
import type { Command } from 'commander';
import { FatalError } from '../../contracts/errors.js';
import type { ContentId } from '../../contracts/ids.js';
import { ObjectStore } from '../../contracts/object-store.js';
import { contentId, examples, instanceOption } from '../arguments.js';
import { columns } from '../columns.js';
import { type InstanceOptions, withInstance } from '../instance.js';
import type { Cli } from '../io.js';
import { bytes, colorsFor, plural, writeJson, writeLine } from '../output.js';
import { printable } from '../tour/paths.js';

export function defineStat(parent: Command, cli: Cli): void {
  const command = parent
    .command('stat')
    .summary("tell an object's size, content type and age")
    .description('Tell the size, content type and age of an object, without reading it.')
    .argument('<id>', "the object's id", contentId)
    .addOption(instanceOption())
    .action((id: ContentId, options: InstanceOptions) => stat(cli, id, options));
  examples(command, 'rollout-cloud objects stat "$id"', 'rollout-cloud objects stat "$id" --json | jq .size');
}

async function stat(cli: Cli, id: ContentId, options: InstanceOptions): Promise<void> {
  const found = await withInstance(cli, ObjectStore, options, (store) => store.stat(id));
  if (found === null) {
    throw new FatalError('Internal', `object not found: ${id}`, { code: 'OBJECT_NOT_FOUND', context: { id } });
  }
  if (cli.json) {
    writeJson(cli, found);
    return;
  }
  const { bold } = colorsFor(cli.stdout, cli.env);
  const { size, contentType, createdAtMs } = found;
  const rows = [
    ['id', id],
    ['size', size < 1024 ? plural(size, 'byte') : `${plural(size, 'byte')} (${bytes(size)})`],
    ['content type', contentType === null ? 'unknown' : printable(Buffer.from(contentType))],
    ['stored', new Date(createdAtMs).toISOString()],
  ];
  writeLine(cli.stdout, columns(rows.map(([label = '', text = '']) => [bold(label), text])));
}
