/** Input that the command line names: a file, or `-` for standard input. */
import { type FileHandle, open } from 'node:fs/promises';
import { resolve } from 'node:path';
import { addAbortSignal } from 'node:stream';
import { FatalError, systemError } from '../contracts/errors.js';
import { type Cli, UsageError } from './io.js';
import { quoted } from './output.js';

export const STDIN = '-';

/** Bytes read at a time: of a small file no more than it has, as a buffer of this size is made for each read. */
const CHUNK_BYTES_MAX = 256 * 1024;
const CHUNK_BYTES_MIN = 4 * 1024;

/**
 * The input's bytes, in bounded memory. A file is opened when the first chunk is asked for.
 * @throws UsageError: there is no such file, or it may not be read. RecoverableError or FatalError: reading failed.
 */
export async function* readInput(cli: Cli, name: string): AsyncGenerator<Buffer, void, void> {
  if (name === STDIN) {
    // A signal ends the wait for input that may never come.
    const stdin = addAbortSignal(cli.signal, cli.stdin());
    try {
      yield* passing(stdin, 'read the standard input');
    } catch (error) {
      throw cli.signal.aborted ? cli.signal.reason : error;
    }
    return;
  }
  const file = await openFile(cli, name);
  try {
    const { size } = await file.stat();
    const highWaterMark = Math.min(Math.max(size + 1, CHUNK_BYTES_MIN), CHUNK_BYTES_MAX);
    yield* passing(file.createReadStream({ highWaterMark, autoClose: false }), `read ${quoted(name)}`);
  } finally {
    await file.close();
  }
}

/**
 * All of the input.
 * @param bytesMax more than that is not read
 * @throws FatalError SchemaViolation, code `PAYLOAD_TOO_LARGE`, besides what {@link readInput} throws
 */
export async function readWhole(input: AsyncIterable<Buffer>, bytesMax: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of input) {
    size += chunk.length;
    if (size > bytesMax) throw tooLarge('the input', bytesMax);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, size);
}

/**
 * The input's lines, without their ends (`\n` or `\r\n`), as many at a time as there are whole: what is read from a pipe
 * is handed on without waiting for more. A last line without an end is one too.
 * @param bytesMax the longest line
 * @throws FatalError SchemaViolation, code `PAYLOAD_TOO_LARGE`, naming the line
 */
export async function* readLines(input: AsyncIterable<Buffer>, bytesMax: number): AsyncGenerator<Buffer[], void, void> {
  let begun: Buffer[] = [];
  let begunBytes = 0;
  let count = 0;
  const grow = (part: Buffer) => {
    begunBytes += part.length;
    // The end of the line, of which a part may be here already, is no part of the payload.
    if (begunBytes > bytesMax + '\r'.length) throw tooLarge(`line ${count + 1}`, bytesMax);
    begun.push(part);
  };
  const end = () => {
    const line = Buffer.concat(begun, begunBytes);
    count += 1;
    begun = [];
    begunBytes = 0;
    const whole = line.at(-1) === 0x0d ? line.subarray(0, -1) : line;
    if (whole.length > bytesMax) throw tooLarge(`line ${count}`, bytesMax);
    return whole;
  };
  for await (const chunk of input) {
    const lines: Buffer[] = [];
    let start = 0;
    for (let at = chunk.indexOf(0x0a); at >= 0; at = chunk.indexOf(0x0a, start)) {
      grow(chunk.subarray(start, at));
      lines.push(end());
      start = at + 1;
    }
    if (start < chunk.length) grow(chunk.subarray(start));
    if (lines.length > 0) yield lines;
  }
  if (begunBytes > 0) yield [end()];
}

async function openFile(cli: Cli, name: string): Promise<FileHandle> {
  let file: FileHandle | undefined;
  try {
    file = await open(resolve(cli.cwd, name));
    if (!(await file.stat()).isDirectory()) return file;
  } catch (error) {
    await file?.close();
    throw unreadable(name, error as NodeJS.ErrnoException);
  }
  await file.close();
  throw new UsageError(`cannot read ${quoted(name)}: it is a folder`);
}

function unreadable(name: string, error: NodeJS.ErrnoException): Error {
  if (error.code === 'ENOENT') return new UsageError(`cannot read ${quoted(name)}: there is no such file`);
  const known = systemError(error, `read ${quoted(name)}`);
  return known.severity === 'recoverable' ? known : new UsageError(`cannot read ${quoted(name)}: ${error.code}`);
}

async function* passing(chunks: AsyncIterable<Buffer>, doing: string): AsyncGenerator<Buffer, void, void> {
  try {
    yield* chunks;
  } catch (error) {
    throw systemError(error, doing);
  }
}

function tooLarge(what: string, bytesMax: number): FatalError {
  return new FatalError(
    'SchemaViolation',
    `${what} is longer than the ${bytesMax} bytes that the queue takes (payloadBytesMax): put it into the object store and send its id`,
    { code: 'PAYLOAD_TOO_LARGE', context: { payloadBytesMax: bytesMax } },
  );
}
