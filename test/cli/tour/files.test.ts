/** Reading files: whole, in chunks, and compared with chunks. */
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { chunksOf, hasBytes, openFile, readSmall, statFile } from '../../../src/cli/tour/files.js';

let folder: string;
let file: FileHandle;
const content = Buffer.alloc(2_500_000, 'content ');

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'rollout-files-'));
  writeFileSync(join(folder, 'file'), content);
  file = await openFile(Buffer.from(join(folder, 'file')));
});
afterEach(async () => {
  await file.close();
  rmSync(folder, { recursive: true, force: true });
});

async function* inChunks(bytes: Buffer, length: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += length) yield bytes.subarray(at, at + length);
}

test('a symbolic link is not followed', async () => {
  symlinkSync('file', join(folder, 'link'));
  await expect(openFile(Buffer.from(join(folder, 'link')))).rejects.toMatchObject({ code: 'ELOOP' });
});

test('the time of change is told to the nanosecond', async () => {
  expect(await statFile(file)).toEqual({ isFile: true, size: content.length, mtimeNs: expect.any(BigInt) });
});

describe('readSmall', () => {
  test('gives the bytes, fewer where the file has shrunk', async () => {
    expect(content.equals((await readSmall(file, content.length)) as Uint8Array)).toBe(true);
    expect(content.equals((await readSmall(file, content.length + 10)) as Uint8Array)).toBe(true);
  });

  test('gives null for a file of size 0 that has bytes, as /proc has', async () => {
    expect(await readSmall(file, 0)).toBeNull();
  });
});

test('chunksOf gives every byte, and tells of each chunk', async () => {
  const chunks: Buffer[] = [];
  let read = 0;
  for await (const chunk of chunksOf(file, (length) => (read += length))) chunks.push(Buffer.from(chunk));
  expect(Buffer.concat(chunks).equals(content)).toBe(true);
  expect(chunks.length).toBeGreaterThan(1);
  expect(read).toBe(content.length);
});

describe('hasBytes', () => {
  const other = Buffer.from(content);
  other[2_400_000] = 0;

  test.each([
    ['the same bytes', content, true],
    ['another byte', other, false],
    ['fewer bytes', content.subarray(0, -1), false],
    ['more bytes', Buffer.concat([content, Buffer.from('x')]), false],
    ['none', Buffer.alloc(0), false],
  ])('%s', async (_what, bytes, same) => {
    expect(await hasBytes(file, inChunks(bytes, 777_777), () => {})).toBe(same);
  });
});
