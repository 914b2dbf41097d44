/**
 * Bad input, all of it, against the built program: each row is run as it stands and with `--json`. Whatever is wrong is
 * told in one sentence a problem on stderr, without a stack, with the exit code for it; stdout stays empty, or is one
 * JSON document; and nothing that was there is lost.
 */
import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { inOrder } from '../../src/cli/in-order.js';
import { ARGUMENTS } from './bad-input/arguments.js';
import { CONFIGURATION } from './bad-input/configuration.js';
import { DATA } from './bad-input/data.js';
import { NAMES } from './bad-input/names.js';
import type { Row } from './bad-input/row.js';
import { ended, Place, type Result } from './support.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

const PAYLOAD = 'an item';
const CONTENT = 'an object';

const ROWS = { configuration: CONFIGURATION, data: DATA, 'ids and names': NAMES, arguments: ARGUMENTS };

/** Children at a time. Not by `test.concurrent`: Jest 30 refuses the imports of one test once another has ended. */
const ROWS_AT_ONCE = 4;

const failures = new Map<Row, unknown>();

/** One for all rows that change nothing of their surroundings. */
let shared: { place: Place; id: string };

beforeAll(async () => {
  execFileSync(process.execPath, ['scripts/build.mjs', '--if-needed'], { cwd: ROOT });
  shared = await furnished();
  const checked = inOrder(Object.values(ROWS).flat(), ROWS_AT_ONCE, (row) =>
    check(row).catch((error) => failures.set(row, error)),
  );
  for await (const _row of checked);
}, 180_000);

afterAll(() => Place.removeAll());

test('what was there before all that is there after it', () => expectIntact(shared.place, shared.id));

/** A place with an object and an item. */
async function furnished(): Promise<{ place: Place; id: string }> {
  const place = new Place();
  const put = await place.run(['objects', 'put', '-'], { input: [Buffer.from(CONTENT)] });
  await place.run(['queue', 'send', '--text', PAYLOAD]);
  return { place, id: put.stdout.trim() };
}

async function expectIntact(place: Place, id: string): Promise<void> {
  expect(await place.run(['objects', 'get', id])).toEqual({ code: 0, stdout: CONTENT, stderr: '' });
  const items = JSON.parse((await place.run(['queue', 'receive', '--max', '10', '--json'])).stdout);
  expect(items).toMatchObject([{ payload: PAYLOAD }]);
}

function program(place: Place, args: readonly string[], env: Record<string, string> = {}): Promise<Result> {
  const command = [`${ROOT}/dist/cli/main.js`, ...args];
  const options = { cwd: place.folder, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] as const };
  return ended(spawn(process.execPath, command, { ...options, stdio: [...options.stdio] }));
}

async function check(row: Row): Promise<void> {
  const { place, id } = row.setUp === undefined ? shared : await furnished();
  await row.setUp?.(place, id);
  const args = row.args.map((arg) => (arg === 'ID' ? id : arg));
  for (const json of row.jsonOnly ? [true] : [false, true]) {
    const { code, stdout, stderr } = await program(place, json ? ['--json', ...args] : args, row.env);
    const lines = stderr.split('\n').slice(0, -1);
    expect({ json, code, stderr }).toEqual({ json, code: row.code, stderr: expect.any(String) });
    expect(stderr).not.toMatch(/\n\s+at /);
    expect(stderr).not.toMatch(/[\0-\x09\x0b-\x1f\x7f-\x9f]/);
    expect(lines.filter((line) => !line.startsWith('rollout-cloud: '))).toEqual([]);
    if (row.prints === undefined || !json) {
      expect(lines).toEqual(row.says.map((expected) => expect.stringMatching(expected)));
    }
    if (json && row.jsonOnly) expect(JSON.parse(stdout)).toMatchObject({ error: { message: expect.any(String) } });
    else if (json) expect(() => stdout === '' || JSON.parse(stdout)).not.toThrow();
    else expect(stdout).toMatch(row.prints ?? /^$/);
  }
  if (row.setUp === undefined || row.mend === null) return;
  await row.mend?.(place, id);
  await expectIntact(place, id);
}

describe.each(Object.entries(ROWS))('%s', (_kind, rows) => {
  test.each(rows.map((row): [string, Row] => [row.name, row]))('%s', (_name, row) => {
    if (failures.has(row)) throw failures.get(row);
  });
});

describe('a disk that is full', () => {
  /** Why there can be none here, or `null`. */
  function hindrance(): string | null {
    if (process.platform !== 'linux') return 'needs a tmpfs of Linux';
    if (process.getuid?.() !== 0) return 'needs root, to mount a tmpfs';
    const place = new Place(null);
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', place.folder], { stdio: 'ignore' });
      execFileSync('umount', [place.folder]);
      return null;
    } catch {
      return 'may not mount a tmpfs here';
    } finally {
      rmSync(place.folder, { recursive: true, force: true });
    }
  }
  const reason = hindrance();
  const needsMount = reason === null ? test : test.skip;

  needsMount(
    `is told: exit 1, and what was stored stays${reason === null ? '' : ` (skipped: ${reason})`}`,
    async () => {
      const place = new Place();
      mkdirSync(place.path('data'));
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', place.path('data')]);
      try {
        place.write('small', CONTENT);
        place.write('large', Buffer.alloc(2_000_000, 'x'));
        place.write('half', Buffer.alloc(700_000, 'y'));
        const id = (await program(place, ['objects', 'put', 'small'])).stdout.trim();
        await program(place, ['queue', 'send', '--text', PAYLOAD]);
        const full = /^rollout-cloud: .*(ENOSPC|full).*\n$/;
        for (const args of [
          ['objects', 'put', 'large'],
          ['queue', 'send', 'large'],
        ]) {
          const { code, stdout, stderr } = await program(place, args);
          expect({ args, code, stdout, stderr }).toEqual({
            args,
            code: 1,
            stdout: '',
            stderr: expect.stringMatching(full),
          });
        }
        const half = (await program(place, ['objects', 'put', 'half'])).stdout.trim();
        const { code, stderr } = await program(place, ['objects', 'get', half, '-o', 'data/copy']);
        expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringMatching(full) });
        expect(execFileSync('ls', ['-A', place.path('data')], { encoding: 'utf8' })).not.toMatch(/copy|\.part/);
        expect(await program(place, ['objects', 'verify'])).toMatchObject({
          code: 0,
          stdout: expect.stringMatching(/^2 objects/),
        });
        await expectIntact(place, id);
      } finally {
        execFileSync('umount', ['-l', place.path('data')]);
      }
    },
    60_000,
  );
});
