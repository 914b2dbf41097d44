/**
 * `objects get`: an object's bytes, verified.
 *
 * With `-o` they go to a draft beside the file, which gets the file's name when all of them are there and have been
 * verified: a read that fails or is interrupted leaves what was there before.
 */
import { randomUUID } from 'node:crypto';
import { type FileHandle, open, readlink, realpath, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join, resolve, sep } from 'node:path';
import type { Command } from 'commander';
import { isCoreError, systemError } from '../../contracts/errors.js';
import type { ContentId } from '../../contracts/ids.js';
import { ObjectStore } from '../../contracts/object-store.js';
import { contentId, examples, instanceOption } from '../arguments.js';
import { type InstanceOptions, withInstance } from '../instance.js';
import { type Cli, UsageError } from '../io.js';
import { bytes, quoted, write, writeJson } from '../output.js';
import { Ticker } from '../ticker.js';

interface GetOptions extends InstanceOptions {
  readonly output?: string;
}

type Chunks = AsyncGenerator<Uint8Array, void, void>;

export function defineGet(parent: Command, cli: Cli): void {
  const command = parent
    .command('get')
    .summary("print an object's bytes, or write them to a file")
    .description('Print the bytes of an object, verified against its id: what differs ends with exit code 1.')
    .argument('<id>', "the object's id", contentId)
    .option('-o, --output <file>', 'write to this file, which is made or replaced once all is verified')
    .addOption(instanceOption())
    .action((id: ContentId, options: GetOptions) => get(cli, id, options));
  examples(command, 'rollout-cloud objects get "$id" -o model.bin', 'rollout-cloud objects get "$id" | tar -x');
}

async function get(cli: Cli, id: ContentId, options: GetOptions): Promise<void> {
  const { output } = options;
  if (cli.json && output === undefined) {
    throw new UsageError('--json needs -o <file>: without it the bytes of the object are what is printed');
  }
  await withInstance(cli, ObjectStore, options, async (store) => {
    let size = 0;
    async function* read(): Chunks {
      for await (const chunk of await store.getStream(id, { signal: cli.signal })) {
        size += chunk.length;
        yield chunk;
      }
    }
    if (output === undefined) {
      for await (const chunk of read()) await write(cli.stdout, chunk);
      return;
    }
    if (output.endsWith('/') || output.endsWith(sep))
      throw new UsageError(`cannot write ${quoted(output)}: that is the name of a folder`);
    const text = () => `reading ${id.slice(0, 8)}…: ${bytes(size)}`;
    await Ticker.during(cli, 'one line', text, () => writeTo(resolve(cli.cwd, output), read()));
    if (cli.json) writeJson(cli, { id, size, file: output });
  });
}

async function writeTo(file: string, chunks: Chunks): Promise<void> {
  try {
    const there = await stat(file).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return null;
      throw error;
    });
    if (there?.isDirectory()) throw new UsageError(`cannot write ${quoted(file)}: it is a folder`);
    // A device or a pipe is written to: it is not to be replaced by a file.
    if (there === null || there.isFile()) await replaceFile(file, there?.mode, chunks);
    else await withFile(file, 'w', undefined, (handle) => writeFile(handle, chunks));
  } catch (error) {
    throw unwritable(file, error);
  }
}

async function replaceFile(file: string, mode: number | undefined, chunks: Chunks): Promise<void> {
  const target = await linkTarget(file);
  const draft = join(dirname(target), `.rollout-${randomUUID()}.part`);
  try {
    await withFile(draft, 'wx', mode, async (handle) => {
      await writeFile(handle, chunks);
      // Else a power cut could leave the name with less than the bytes.
      await handle.sync();
    });
    await rename(draft, target);
  } catch (error) {
    await rm(draft, { force: true }).catch(() => {});
    throw error;
  }
}

/** The file that is meant: a symbolic link goes on pointing to it, whether it is there already or not. */
async function linkTarget(file: string): Promise<string> {
  const link = await readlink(file).catch((error: NodeJS.ErrnoException) => {
    // Not a link, or not there: then it is meant itself.
    if (error.code === 'EINVAL' || error.code === 'ENOENT') return null;
    throw error;
  });
  return link === null ? file : linkTarget(resolve(await realpath(dirname(file)), link));
}

async function withFile(
  file: string,
  flags: string,
  mode: number | undefined,
  work: (handle: FileHandle) => Promise<void>,
): Promise<void> {
  const handle = await open(file, flags, mode);
  try {
    await work(handle);
  } finally {
    await handle.close();
  }
}

function unwritable(file: string, error: unknown): unknown {
  const { code, syscall } = error as NodeJS.ErrnoException;
  if (isCoreError(error) || syscall === undefined) return error;
  if (code === 'ENOENT') return new UsageError(`cannot write ${quoted(file)}: its folder is not there`);
  return systemError(error, `write ${quoted(file)}`);
}
