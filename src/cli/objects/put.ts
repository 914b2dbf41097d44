/** `objects put`: stores files, and what comes on standard input. */
import type { Command } from 'commander';
import type { ContentId } from '../../contracts/ids.js';
import { ObjectStore, type PutHint } from '../../contracts/object-store.js';
import { examples, instanceOption } from '../arguments.js';
import { inOrder } from '../in-order.js';
import { readInput, STDIN } from '../input.js';
import { type InstanceOptions, withInstance } from '../instance.js';
import { type Cli, UsageError } from '../io.js';
import { writeJsonList } from '../json-list.js';
import { bytes, count, plural, tell, write } from '../output.js';
import { Ticker } from '../ticker.js';
import { printable } from '../tour/paths.js';

interface PutOptions extends InstanceOptions {
  readonly contentType?: string;
}

/** Files under way: their syncs and the waiting for the disk overlap. */
const FILES_AT_ONCE = 8;

/** Inputs up to this size are held in memory whole. */
const SMALL_BYTES_MAX = 256 * 1024;

type Chunks = AsyncGenerator<Buffer, void, void>;

/** How one input ended. */
type Stored = { readonly file: string } & (
  | { readonly id: ContentId; readonly size: number }
  | { readonly error: { readonly name: string; readonly message: string } }
);

export function definePut(parent: Command, cli: Cli): void {
  const command = parent
    .command('put')
    .summary('store files, and what comes on standard input')
    .description(
      'Store files. Prints the id of each, in the order given, and with several files two spaces and the name.\n' +
        'A file that cannot be read is told and does not keep the others; the exit code is then 2.',
    )
    .argument('<file...>', 'files; - is standard input')
    .option('--content-type <type>', 'media type to keep beside the objects, e.g. text/plain')
    .addOption(instanceOption())
    .action((files: string[], options: PutOptions) => put(cli, files, options));
  examples(
    command,
    'rollout-cloud objects put model.bin',
    'rollout-cloud objects put --content-type text/csv *.csv',
    'tar -c src | rollout-cloud objects put -',
  );
}

async function put(cli: Cli, files: readonly string[], options: PutOptions): Promise<void> {
  if (files.filter((file) => file === STDIN).length > 1) {
    throw new UsageError('standard input (-) can be stored once, found it several times');
  }
  if (options.contentType !== undefined && !/^[^\x00-\x1f\x7f]{1,255}$/.test(options.contentType)) {
    throw new UsageError('--content-type must have 1 to 255 characters, and no control characters');
  }
  await withInstance(cli, ObjectStore, options, async (store) => {
    const progress = { files: 0, bytes: 0 };
    const text = () => `storing: ${count(progress.files)} of ${plural(files.length, 'file')}, ${bytes(progress.bytes)}`;
    await Ticker.during(cli, 'one line', text, async (ticker) => {
      const hint = { contentType: options.contentType, signal: cli.signal };
      async function* results(): AsyncGenerator<Stored> {
        for await (const result of inOrder(files, FILES_AT_ONCE, (file) =>
          storeFile(cli, store, file, hint, progress),
        )) {
          ticker.hide();
          if ('error' in result) tell(cli, result.error.message);
          yield result;
        }
      }
      if (cli.json) return writeJsonList(cli, results());
      for await (const result of results()) {
        if ('error' in result) continue;
        const name = files.length > 1 ? `  ${printable(Buffer.from(result.file))}` : '';
        await write(cli.stdout, `${result.id}${name}\n`);
      }
    });
  });
}

async function storeFile(
  cli: Cli,
  store: ObjectStore,
  file: string,
  hint: PutHint,
  progress: { files: number; bytes: number },
): Promise<Stored> {
  let size = 0;
  async function* counted(): Chunks {
    for await (const chunk of readInput(cli, file)) {
      size += chunk.length;
      progress.bytes += chunk.length;
      yield chunk;
    }
  }
  try {
    const id = await storeInput(store, counted(), hint);
    progress.files += 1;
    return { file, id, size };
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    cli.exitCode = 2;
    return { file, error: { name: error.name, message: error.message } };
  }
}

/** As a stream only what is too large to be held in memory: a stream costs several times as much. */
async function storeInput(store: ObjectStore, input: Chunks, hint: PutHint): Promise<ContentId> {
  const head: Buffer[] = [];
  let size = 0;
  while (size <= SMALL_BYTES_MAX) {
    const next = await input.next();
    if (next.done) return store.putBytes(Buffer.concat(head, size), hint);
    head.push(next.value);
    size += next.value.length;
  }
  async function* all(): Chunks {
    yield* head;
    yield* input;
  }
  return store.putStream(all(), hint);
}
