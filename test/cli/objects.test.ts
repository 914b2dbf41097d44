/** `objects`: put, get, stat, ls, rm, verify. */
import { execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { PassThrough } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { bindOdd } from './odd-plugin.js';
import { LOCAL, Place } from './support.js';

/** BLAKE3-256 of nothing. */
const EMPTY_ID = 'af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262';
const NEVER_STORED = '0'.repeat(64);

let place: Place;
beforeEach(() => {
  place = new Place();
});
afterEach(() => Place.removeAll());

async function put(content: string | Buffer, ...options: string[]): Promise<string> {
  const { code, stdout } = await place.run(['objects', 'put', '-', ...options], { input: [Buffer.from(content)] });
  expect(code).toBe(0);
  return stdout.trim();
}

function blob(id: string): string {
  return place.path('data/object-store', id.slice(0, 2), id.slice(2, 4), id);
}

describe('put', () => {
  test('a file: its id alone; the same bytes from stdin have the same', async () => {
    place.write('empty', '');
    expect(await place.run(['objects', 'put', 'empty'])).toEqual({ code: 0, stdout: `${EMPTY_ID}\n`, stderr: '' });
    expect(await put('')).toBe(EMPTY_ID);
    expect(existsSync(blob(EMPTY_ID))).toBe(true);
  });

  test('several files: ids in the order given, with the names', async () => {
    const names = Array.from({ length: 20 }, (_, i) => `f${i}`);
    for (const name of names) place.write(name, `content of ${name}`);
    const { code, stdout } = await place.run(['objects', 'put', ...names]);
    expect(code).toBe(0);
    const lines = stdout.trimEnd().split('\n');
    expect(lines.map((line) => line.slice(64))).toEqual(names.map((name) => `  ${name}`));
    expect(lines[7]?.slice(0, 64)).toBe(await put('content of f7'));
  });

  test('a large input goes as a stream, and comes back the same', async () => {
    const bytes = Buffer.alloc(3_000_000, 'large ');
    place.write('large', bytes);
    const { stdout } = await place.run(['objects', 'put', 'large']);
    expect(readFileSync(blob(stdout.trim())).equals(bytes)).toBe(true);
    expect(await put(bytes)).toBe(stdout.trim());
  });

  test('a file that cannot be read is told, and does not keep the others: exit 2', async () => {
    place.write('a', 'a');
    mkdirSync(place.path('folder'));
    const { code, stdout, stderr } = await place.run(['objects', 'put', 'no\nwhere', 'folder', 'a']);
    expect(code).toBe(2);
    expect(stderr).toBe(
      'rollout-cloud: cannot read "no\\nwhere": there is no such file\n' +
        'rollout-cloud: cannot read "folder": it is a folder\n',
    );
    expect(stdout).toMatch(/^[0-9a-f]{64} {2}a\n$/);
  });

  test('a file below a file: exit 2, with the reason', async () => {
    place.write('a', 'a');
    const { code, stderr } = await place.run(['objects', 'put', 'a/b']);
    expect({ code, stderr }).toEqual({ code: 2, stderr: 'rollout-cloud: cannot read "a/b": ENOTDIR\n' });
  });

  test('--json: an element for each file, whether stored or not', async () => {
    place.write('a', 'abc');
    const { code, stdout } = await place.run(['objects', 'put', 'a', 'nowhere', '--json']);
    expect(code).toBe(2);
    expect(JSON.parse(stdout)).toEqual([
      { file: 'a', id: expect.stringMatching(/^[0-9a-f]{64}$/), size: 3 },
      { file: 'nowhere', error: { name: 'UsageError', message: expect.stringContaining('no such file') } },
    ]);
  });

  test('--content-type is kept, and refused when it cannot be one', async () => {
    const id = await put('a,b', '--content-type', 'text/csv');
    expect(JSON.parse((await place.run(['objects', 'stat', id, '--json'])).stdout).contentType).toBe('text/csv');
    const { code, stderr } = await place.run(['objects', 'put', '-', '--content-type', 'a\nb']);
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining('--content-type') });
  });

  test('standard input twice is wrong usage', async () => {
    const { code, stderr } = await place.run(['objects', 'put', '-', '-']);
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining('once') });
  });

  test('input that breaks off is no object: exit 1', async () => {
    async function* input(): AsyncGenerator<Buffer> {
      yield Buffer.alloc(400_000);
      throw Object.assign(new Error('broken'), { code: 'EIO' });
    }
    const { code, stdout, stderr } = await place.run(['objects', 'put', '-'], { input: input() });
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toBe('rollout-cloud: could not read the standard input: EIO\n');
    expect((await place.run(['objects', 'ls'])).stdout).toBe('');
  });

  test.each([0, 10, 400_000])(
    'a signal ends it while it waits after %d bytes, and nothing is stored',
    async (bytes) => {
      const stop = new AbortController();
      const input = new PassThrough();
      input.write(Buffer.alloc(bytes));
      const running = place.run(['objects', 'put', '-'], { input, signal: stop.signal });
      await sleep(50);
      stop.abort(new Error('stopped'));
      expect(await running).toEqual({ code: 1, stdout: '', stderr: '' });
      expect((await place.run(['objects', 'ls'])).stdout).toBe('');
    },
  );

  test('on a terminal it tells how far it is after a second, and clears that away; elsewhere it does not', async () => {
    async function* input(): AsyncGenerator<Buffer> {
      yield Buffer.alloc(1024 * 1024);
      await sleep(1_300);
    }
    const { stderr } = await place.run(['objects', 'put', '-'], { input: input(), tty: true });
    expect(stderr).toMatch(/^\rstoring: 0 of 1 file, 1\.0 MiB\x1b\[K/);
    expect(stderr).toMatch(/\r\x1b\[K$/);
    expect((await place.run(['objects', 'put', '-'], { input: input() })).stderr).toBe('');
  });
});

describe('get', () => {
  test('prints the bytes and nothing else', async () => {
    const id = await put('hello');
    expect(await place.run(['objects', 'get', id])).toEqual({ code: 0, stdout: 'hello', stderr: '' });
  });

  test('one that was never stored: exit 1, and nothing printed', async () => {
    const { code, stdout, stderr } = await place.run(['objects', 'get', NEVER_STORED]);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toBe(`rollout-cloud: object not found: ${NEVER_STORED}\n`);
  });

  test('-o writes a file, and leaves no draft', async () => {
    const id = await put('hello');
    expect(await place.run(['objects', 'get', id, '-o', 'out'])).toEqual({ code: 0, stdout: '', stderr: '' });
    expect(readFileSync(place.path('out'), 'utf8')).toBe('hello');
    expect(readdirSync(place.folder).sort()).toEqual(['data', 'out', 'plugins.json']);
  });

  test('-o replaces a file and keeps its mode; a symbolic link goes on pointing to it', async () => {
    const id = await put('new');
    place.write('out', 'old');
    chmodSync(place.path('out'), 0o600);
    symlinkSync('out', place.path('link'));
    expect((await place.run(['objects', 'get', id, '-o', 'link'])).code).toBe(0);
    expect(lstatSync(place.path('link')).isSymbolicLink()).toBe(true);
    expect(readFileSync(place.path('out'), 'utf8')).toBe('new');
    expect(statSync(place.path('out')).mode & 0o777).toBe(0o600);
  });

  test('-o through a symbolic link to nothing makes the file that it names', async () => {
    const id = await put('new');
    mkdirSync(place.path('folder'));
    symlinkSync('folder', place.path('alias'));
    symlinkSync('../out', place.path('folder/second'));
    symlinkSync('alias/second', place.path('first'));
    expect((await place.run(['objects', 'get', id, '-o', 'first'])).code).toBe(0);
    expect(readFileSync(place.path('out'), 'utf8')).toBe('new');
    for (const link of ['first', 'folder/second']) expect(lstatSync(place.path(link)).isSymbolicLink()).toBe(true);
  });

  test("-o of a folder's name is refused, and makes no file of that name", async () => {
    const id = await put('new');
    const { code, stderr } = await place.run(['objects', 'get', id, '-o', 'out/']);
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining('that is the name of a folder') });
    expect(existsSync(place.path('out'))).toBe(false);
  });

  test('-o of a corrupt object leaves what was there before: exit 1', async () => {
    const id = await put(Buffer.alloc(3_000_000, 1));
    const bytes = readFileSync(blob(id));
    bytes[2_900_000] = 2;
    writeFileSync(blob(id), bytes);
    place.write('out', 'old');
    const { code, stderr } = await place.run(['objects', 'get', id, '-o', 'out']);
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining(`object corrupt: ${id}`) });
    expect(readFileSync(place.path('out'), 'utf8')).toBe('old');
    expect(readdirSync(place.folder).sort()).toEqual(['data', 'out', 'plugins.json']);
  });

  test('-o interrupted leaves what was there before', async () => {
    bindOdd(place, {
      provides: 'ObjectStore@1',
      factory: `() => more({ getStream: async (id, { signal }) => new ReadableStream({
        async start(controller) {
          signal.addEventListener('abort', () => controller.error(signal.reason));
          for (let i = 0; i < 10; i++) controller.enqueue(new Uint8Array(1000));
        } }) })`,
    });
    place.write('out', 'old');
    const stop = new AbortController();
    const running = place.run(['objects', 'get', NEVER_STORED, '-o', 'out'], { signal: stop.signal });
    const drafts = () => readdirSync(place.folder).filter((name) => name.endsWith('.part'));
    while (drafts().length === 0) await sleep(5);
    stop.abort(new Error('stopped'));
    expect((await running).code).toBe(1);
    expect(readFileSync(place.path('out'), 'utf8')).toBe('old');
    expect(drafts()).toEqual([]);
  });

  const fifos = process.platform === 'win32' ? test.skip : test;
  fifos('-o to a pipe writes into it: it is not replaced (not on Windows: mkfifo)', async () => {
    const id = await put('hello');
    execFileSync('mkfifo', [place.path('pipe')]);
    const reader = spawn('cat', [place.path('pipe')]);
    let read = '';
    reader.stdout.on('data', (chunk) => {
      read += chunk;
    });
    const closed = new Promise((resolve) => reader.once('close', resolve));
    expect((await place.run(['objects', 'get', id, '-o', 'pipe'])).code).toBe(0);
    await closed;
    expect(read).toBe('hello');
    expect(statSync(place.path('pipe')).isFIFO()).toBe(true);
  });

  test.each([
    ['.', /^rollout-cloud: cannot write ".*": it is a folder\n$/],
    ['no/where', /^rollout-cloud: cannot write ".*": its folder is not there\n$/],
    ['plugins.json/x', /^rollout-cloud: could not write ".*": ENOTDIR, .*\n$/],
  ])('-o %s: exit 2', async (file, expected) => {
    const id = await put('hello');
    const { code, stderr } = await place.run(['objects', 'get', id, '-o', file]);
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringMatching(expected) });
  });

  test('--json tells of the file; without one it is wrong usage', async () => {
    const id = await put('hello');
    const { stdout } = await place.run(['objects', 'get', id, '-o', 'out', '--json']);
    expect(JSON.parse(stdout)).toEqual({ id, size: 5, file: 'out' });
    expect((await place.run(['objects', 'get', id, '--json'])).code).toBe(2);
  });
});

describe('stat', () => {
  test('tells size, content type and age', async () => {
    const id = await put('x'.repeat(2048), '--content-type', 'text/plain');
    const { code, stdout } = await place.run(['objects', 'stat', id]);
    expect(code).toBe(0);
    expect(stdout).toMatch(
      new RegExp(`^id +${id}\nsize +2,048 bytes \\(2\\.0 KiB\\)\ncontent type +text/plain\nstored +20.*Z\n$`),
    );
    expect((await place.run(['objects', 'stat', await put('y')])).stdout).toMatch(
      /size +1 byte\ncontent type +unknown/,
    );
  });

  test('--json: as the contract has it', async () => {
    const id = await put('abc');
    expect(JSON.parse((await place.run(['objects', 'stat', id, '--json'])).stdout)).toEqual({
      id,
      size: 3,
      contentType: null,
      createdAtMs: expect.any(Number),
    });
  });

  test('one that is not there: exit 1', async () => {
    const { code, stdout, stderr } = await place.run(['objects', 'stat', NEVER_STORED, '--json']);
    expect({ code, stderr }).toEqual({ code: 1, stderr: `rollout-cloud: object not found: ${NEVER_STORED}\n` });
    expect(JSON.parse(stdout).error.code).toBe('OBJECT_NOT_FOUND');
  });
});

describe('ls', () => {
  test('ids in ascending order, a line each; --prefix takes some', async () => {
    const ids = [await put('a'), await put('b'), await put('c')].sort();
    expect((await place.run(['objects', 'ls'])).stdout).toBe(`${ids.join('\n')}\n`);
    const some = ids.filter((id) => id.startsWith((ids[1] as string).slice(0, 3)));
    expect((await place.run(['objects', 'ls', '--prefix', (ids[1] as string).slice(0, 3)])).stdout).toBe(
      `${some.join('\n')}\n`,
    );
    expect(JSON.parse((await place.run(['objects', 'ls', '--json'])).stdout)).toEqual(ids);
  });

  test('an empty store: nothing, or an empty array', async () => {
    expect(await place.run(['objects', 'ls'])).toEqual({ code: 0, stdout: '', stderr: '' });
    expect(JSON.parse((await place.run(['objects', 'ls', '--json'])).stdout)).toEqual([]);
  });

  test('a prefix that is none: exit 2', async () => {
    const { code, stderr } = await place.run(['objects', 'ls', '--prefix', 'AB']);
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringMatching(/--prefix .* found "AB"/) });
  });

  test.each([0, 2])('--json is a document also when the store fails after %d ids', async (count) => {
    bindOdd(place, {
      provides: 'ObjectStore@1',
      factory: `() => more({ async *list() {
        for (let i = 0; i < ${count}; i++) yield String(i).repeat(64);
        throw coreError('Internal', 'IO_ERROR', 'the store is gone');
      } })`,
    });
    const { code, stdout, stderr } = await place.run(['objects', 'ls', '--json']);
    expect({ code, stderr }).toEqual({ code: 1, stderr: 'rollout-cloud: the store is gone\n' });
    const document = JSON.parse(stdout);
    if (count === 0) expect(document.error.code).toBe('IO_ERROR');
    else expect(document).toEqual(['0'.repeat(64), '1'.repeat(64)]);
  });
});

describe('rm', () => {
  test('removes, and prints what it removed', async () => {
    const ids = [await put('a'), await put('b')];
    expect(await place.run(['objects', 'rm', ...ids])).toEqual({ code: 0, stdout: `${ids.join('\n')}\n`, stderr: '' });
    expect((await place.run(['objects', 'ls'])).stdout).toBe('');
  });

  test('one that is not there: told, exit 1, and the others are removed', async () => {
    const id = await put('a');
    const { code, stdout, stderr } = await place.run(['objects', 'rm', NEVER_STORED, id]);
    expect({ code, stdout }).toEqual({ code: 1, stdout: `${id}\n` });
    expect(stderr).toBe(`rollout-cloud: object not found: ${NEVER_STORED}\n`);
    const again = await place.run(['objects', 'rm', id, '--json']);
    expect({ code: again.code, document: JSON.parse(again.stdout) }).toEqual({
      code: 1,
      document: [{ id, removed: false }],
    });
  });

  test('a signal ends it before the next one', async () => {
    const id = await put('a');
    const stop = new AbortController();
    stop.abort(new Error('stopped'));
    expect((await place.run(['objects', 'rm', id], { signal: stop.signal })).code).toBe(1);
    expect((await place.run(['objects', 'ls'])).stdout).toBe(`${id}\n`);
  });
});

describe('verify', () => {
  test('reads every object back', async () => {
    await put('a');
    await put('bc');
    const result = await place.run(['objects', 'verify']);
    expect(result).toEqual({ code: 0, stdout: '2 objects checked, 3 B, 0 failed\n', stderr: '' });
    expect(JSON.parse((await place.run(['objects', 'verify', '--json'])).stdout)).toEqual({
      problems: [],
      checked: 2,
      bytes: 3,
      failed: 0,
      quarantined: 0,
      sidecarsHealed: 0,
    });
  });

  test('reports each corrupt one: exit 1', async () => {
    const [good, flipped, cut] = [await put('good'), await put('flipped'), await put('truncated')];
    writeFileSync(blob(flipped), 'FLIPPED');
    writeFileSync(blob(cut), 'trunc');
    const { code, stdout } = await place.run(['objects', 'verify']);
    expect(code).toBe(1);
    expect(stdout.split('\n').sort()).toEqual(
      ['', '3 objects checked, 16 B, 2 failed', `corrupt ${flipped}`, `corrupt ${cut}`].sort(),
    );
    const { problems, ...rest } = JSON.parse((await place.run(['objects', 'verify', '--json'])).stdout);
    expect(rest).toMatchObject({ checked: 3, bytes: 16, failed: 2 });
    expect(problems).toHaveLength(2);
    expect(problems).toContainEqual({ id: cut, problem: 'corrupt', message: expect.stringContaining(cut) });
    expect((await place.run(['objects', 'verify', good])).code).toBe(0);
    expect((await place.run(['objects', 'verify', good, flipped])).code).toBe(1);
  });

  test('one that is named and not there is missing; one that cannot be read is told with the reason', async () => {
    const id = await put('a');
    mkdirSync(dirname(blob(NEVER_STORED)), { recursive: true });
    symlinkSync(blob(NEVER_STORED), blob(NEVER_STORED));
    const { code, stdout } = await place.run(['objects', 'verify', 'f'.repeat(64), NEVER_STORED, id]);
    expect(code).toBe(1);
    expect(stdout).toMatch(/^missing f{64}\nunreadable 0{64}: .+\n3 objects checked, 1 B, 2 failed\n$/);
  });

  test('--quarantine moves corrupt ones away and says where; doctor tells of them', async () => {
    const [good, bad] = [await put('good'), await put('flipped')];
    writeFileSync(blob(bad), 'FLIPPED');
    const { code, stdout } = await place.run(['objects', 'verify', '--quarantine']);
    expect(code).toBe(1);
    expect(stdout).toMatch(
      new RegExp(`^corrupt ${bad} -> .*/quarantine/${bad}\n2 objects checked, 11 B, 1 failed, 1 quarantined\n$`),
    );
    expect((await place.run(['objects', 'ls'])).stdout).toBe(`${good}\n`);
    expect((await place.run(['objects', 'verify'])).code).toBe(0);
    const doctor = await place.run(['doctor', '--json']);
    expect(JSON.parse(doctor.stdout).findings).toContainEqual(
      expect.objectContaining({
        capability: 'ObjectStore',
        status: 'warn',
        detail: expect.stringMatching(/a put survives a power cut; BLAKE3 by .*; 1 corrupt object in quarantine/),
      }),
    );
  });

  test('--quarantine of an adapter that has none is refused: exit 2', async () => {
    bindOdd(place, { provides: 'ObjectStore@1', factory: '() => more({ async *list() {} })' });
    const { code, stderr } = await place.run(['objects', 'verify', '--quarantine']);
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining('has no quarantine') });
  });

  test('sidecars are mended, and counted', async () => {
    const id = await put('a');
    rmSync(`${blob(id)}.meta.json`);
    expect((await place.run(['objects', 'verify'])).stdout).toBe('1 object checked, 1 B, 0 failed, 1 sidecar mended\n');
  });

  test('one that is removed between the listing and the reading is no failure', async () => {
    bindOdd(place, {
      provides: 'ObjectStore@1',
      factory: `() => more({
        async *list() { yield '0'.repeat(64); },
        getStream: async () => { throw coreError('Internal', 'OBJECT_NOT_FOUND', 'gone'); } })`,
    });
    const result = await place.run(['objects', 'verify']);
    expect(result).toEqual({ code: 0, stdout: '0 objects checked, 0 B, 0 failed\n', stderr: '' });
  });

  test('a failure that is none of an object ends it: exit 1, and the document is whole', async () => {
    bindOdd(place, {
      provides: 'ObjectStore@1',
      factory: `() => more({
        async *list() { for (let i = 0; i < 9; i++) yield String(i).repeat(64); },
        getStream: async (id) => { throw id[0] < '5' ? coreError('Internal', 'OBJECT_CORRUPT', 'bad') : new TypeError('odd'); } })`,
    });
    const { code, stdout, stderr } = await place.run(['objects', 'verify', '--json']);
    expect({ code, stderr }).toEqual({ code: 1, stderr: 'rollout-cloud: odd\n' });
    expect(JSON.parse(stdout)).toMatchObject({ checked: 5, failed: 5 });
  });
});

test('--instance names another store; one that is not there is told with those that are', async () => {
  const store = (root: string) => ({ adapter: 'local.fs', config: { root } });
  const instances = { first: store('./first'), second: store('./second') };
  place.write(
    'plugins.json',
    JSON.stringify({ bindings: { ...LOCAL.bindings, ObjectStore: { default: 'first', instances } } }),
  );
  const id = await put('a', '--instance', 'second');
  expect((await place.run(['objects', 'ls'])).stdout).toBe('');
  expect((await place.run(['objects', 'ls', '--instance', 'second'])).stdout).toBe(`${id}\n`);
  const { code, stderr } = await place.run(['objects', 'ls', '--instance', 'sceond']);
  expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining('Did you mean "second"?') });
});

describe('gc', () => {
  test('removes what the list does not name, as put prints it; --dry-run tells and removes nothing', async () => {
    for (const name of ['a', 'b', 'c']) place.write(name, name);
    const { stdout } = await place.run(['objects', 'put', 'a', 'b', 'c']);
    const [a, b] = stdout.split('\n');
    place.write('keep', `# references\n\n${a}\n${b}\r\n`);
    const gc = (...args: string[]) => place.run(['objects', 'gc', '--grace-ms', '0', ...args]);
    expect(await gc('--keep-from', 'keep', '--dry-run')).toEqual({
      code: 0,
      stdout: '3 objects: 1 would be removed (1 B), 2 kept, 0 too young\n',
      stderr: '',
    });
    const kept = `${a?.slice(0, 64)}\n`;
    const { stdout: json } = await place.run(['objects', 'gc', '--grace-ms', '0', '--keep-from', '-', '--json'], {
      input: [Buffer.from(kept)],
    });
    expect(JSON.parse(json)).toMatchObject({ scanned: 3, kept: 1, removed: 2, bytesRemoved: 2, dryRun: false });
    expect((await place.run(['objects', 'ls'])).stdout).toBe(kept);
    expect((await place.run(['objects', 'gc', '--keep-none'])).stdout).toMatch(/0 removed .* 1 too young/);
    expect((await gc('--keep-none')).stdout).toMatch(/1 removed/);
  });
});
