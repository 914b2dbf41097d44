/**
 * Bad input, all of it, against the built program: each row is run as it stands and with `--json`. Whatever is wrong is
 * told in one sentence a problem on stderr, without a stack, with the exit code for it; stdout stays empty, or is one
 * JSON document; and nothing that was there is lost.
 */
import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import sqlite3 from 'sqlite3';
import { inOrder } from '../../src/cli/in-order.js';
import { Queue } from '../../src/contracts/index.js';
import { createHost } from '../../src/registry/index.js';
import { importModule } from '../support/import-module.js';
import { ended, LOCAL, Place, type Result } from './support.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

interface Row {
  readonly name: string;
  /** In the order of the command line; `ID` is the id of the object that is there. */
  readonly args: readonly string[];
  readonly env?: Record<string, string>;
  /** Done before, in a place with an object and an item of its own; rows without share one place. */
  readonly setUp?: (place: Place, id: string) => unknown;
  readonly code: 0 | 1 | 2;
  /** One for each line on stderr, in order. */
  readonly says: readonly RegExp[];
  /** Run it with `--json` alone: what is refused before a command begins is refused in the same way without. */
  readonly jsonOnly?: boolean;
  /** What stands on stdout without `--json`. Default: nothing. */
  readonly prints?: RegExp;
  /** Undoes what hinders, for the check that object and item are as they were; `null`: they were damaged on purpose. */
  readonly mend?: ((place: Place, id: string) => unknown) | null;
}

const PAYLOAD = 'an item';
const CONTENT = 'an object';
const NEVER_STORED = '0'.repeat(64);

const config = (bindings: object, more: object = {}) =>
  JSON.stringify({ bindings: { ...LOCAL.bindings, ...bindings }, ...more });

/** Replaces the configuration, and puts it back for the check. */
function configured(text: string | null): Pick<Row, 'setUp' | 'mend'> {
  return {
    setUp: (place) => (text === null ? rmSync(place.path('plugins.json')) : place.write('plugins.json', text)),
    mend: (place) => place.write('plugins.json', JSON.stringify(LOCAL)),
  };
}

const CONFIGURATION: Row[] = [
  {
    name: 'no configuration file',
    args: ['objects', 'ls'],
    ...configured(null),
    code: 2,
    says: [/RC1001 .*plugins\.json .*there is no such file; create it/],
  },
  { name: 'a folder instead', args: ['--config', '.', 'compute'], code: 2, says: [/RC1001 .*\(EISDIR\)/] },
  { name: 'empty', args: ['queue', 'stats'], ...configured(''), code: 2, says: [/RC1002 .*:1:1 the file is empty/] },
  {
    name: 'malformed',
    args: ['compute'],
    ...configured('{ "bindings": '),
    code: 2,
    says: [/RC1002 .*plugins\.json:1:\d+ this is not JSON/],
  },
  { name: 'bytes that are no text', args: ['compute'], ...configured('\0\xff\xfe'), code: 2, says: [/RC1002 /] },
  { name: 'an array', args: ['compute'], ...configured('[]'), code: 2, says: [/RC1004 .* must be of type object/] },
  { name: 'null', args: ['compute'], ...configured('null'), code: 2, says: [/RC1004 .* must be of type object/] },
  {
    name: 'an unknown key',
    args: ['secrets', 'list'],
    ...configured('{ "bindngs": {} }'),
    code: 2,
    says: [/RC1003 .*plugins\.json:1:3 bindngs: unknown key\. Did you mean "bindings"\?/],
  },
  {
    name: 'a key with a terminal’s control codes',
    args: ['secrets', 'list'],
    ...configured('{ "a\\u001b[31m\\nb": {} }'),
    code: 2,
    says: [/RC1003 /, /unknown key/],
  },
  {
    name: 'an adapter misspelt',
    args: ['objects', 'ls'],
    ...configured(config({ ObjectStore: { adapter: 'local.sf' } })),
    code: 2,
    says: [/RC1102 .*plugins\.json:1:\d+ no adapter "local\.sf" for ObjectStore\. Did you mean "local\.fs"\?/],
  },
  {
    name: 'two faults',
    args: ['plugins', 'list'],
    ...configured(config({ ObjectStore: { adapter: 'a' }, Queue: { adapter: 'b' } })),
    code: 2,
    says: [/RC1102 .* "a" for ObjectStore/, /RC1102 .* "b" for Queue/],
  },
  {
    name: 'a plugin that is not there',
    args: ['plugins', 'list'],
    ...configured(config({}, { plugins: ['rollout.cloud-local', './nowhere'] })),
    code: 2,
    says: [/RC1106 .* plugin "\.\/nowhere": there is no folder/],
  },
  {
    name: 'a plugin that throws when it is imported',
    args: ['compute'],
    setUp: (place) => {
      const adapters = [{ id: 'bad.one', provides: 'ComputeHint@1' }];
      const manifest = { id: 'bad', version: '1.0.0', main: './index.mjs', contributes: { adapters } };
      place.write('bad/plugin.json', JSON.stringify(manifest));
      place.write('bad/index.mjs', 'throw new Error("no good");');
      const plugins = ['rollout.cloud-local', './bad'];
      place.write('plugins.json', config({ ComputeHint: { adapter: 'bad.one' } }, { plugins }));
    },
    code: 1,
    says: [/RC1301 plugin bad: importing \.\/index\.mjs failed: no good/],
  },
  {
    name: 'a value of the wrong type',
    args: ['queue', 'stats'],
    ...configured(config({ Queue: { adapter: 'local.in-mem', config: { maxAttempts: 'three' } } })),
    code: 2,
    says: [/RC1105 .*bindings\.Queue\.config\.maxAttempts must be of type integer, found a text/],
  },
  {
    name: 'an unknown key of an adapter',
    args: ['objects', 'ls'],
    ...configured(config({ ObjectStore: { adapter: 'local.fs', config: { roott: 'x' } } })),
    code: 2,
    says: [/RC1104 .*roott: unknown key\. Did you mean "root"\?/],
  },
  {
    name: 'a variable of a later version',
    args: ['compute'],
    env: { ROLLOUT_CLOUD__bindings: '1' },
    code: 2,
    says: [/RC1005 .*ROLLOUT_CLOUD__bindings: not supported/],
  },
  { name: '--profile', args: ['--profile', 'x', 'compute'], code: 2, says: [/--profile is not supported yet/] },
  { name: '--set of a stranger', args: ['--set', '__proto__.x=1', 'compute'], code: 2, says: [/RC1003 .*__proto__/] },
  { name: '--set of a wrong type', args: ['--set', 'bindings=1', 'compute'], code: 2, says: [/RC1004 .* found 1/] },
];

/** Opens the database of a place with the sqlite3 package itself. */
function sql(place: Place, statement: string, file = 'data/rollout.db'): Promise<void> {
  return new Promise((resolve, reject) => {
    const database = new sqlite3.Database(place.path(file), (error) => error && reject(error));
    database.exec(statement, (error) => {
      database.close(() => (error ? reject(error) : resolve()));
    });
  });
}

const blob = (place: Place, id: string) => place.path('data/object-store', id.slice(0, 2), id.slice(2, 4), id);
const root = (path: string) => `bindings.ObjectStore.config.root=${path}`;
const database = (path: string) => `bindings.Storage.config.path=${path}`;

const versionOf = new Map<Place, Buffer>();

const DATA: Row[] = [
  {
    name: 'an object store below a file',
    args: ['--set', root('./plugins.json/x'), 'objects', 'ls'],
    code: 2,
    says: [/could not make the folder .*plugins\.json\/x.*: ENOTDIR, a file stands where a folder is needed/],
  },
  {
    name: 'a database below a file',
    args: ['--set', database('./plugins.json/x/y.db'), 'queue', 'stats'],
    code: 2,
    says: [/could not make the folder .*: (ENOTDIR|EEXIST), a file stands where a folder is needed/],
  },
  {
    name: 'a database that is a folder',
    args: ['--set', database('.'), 'queue', 'stats'],
    code: 2,
    says: [/cannot be opened for writing: .*; configure another path/],
  },
  ...(process.platform === 'linux'
    ? [
        {
          name: 'a database where nobody can write (Linux: /proc)',
          args: ['--set', database('/proc/rollout.db'), 'queue', 'stats'],
          code: 2 as const,
          says: [/\/proc\/rollout\.db cannot be opened for writing/],
        },
      ]
    : []),
  {
    name: 'a database that is none',
    args: ['--set', database('./plugins.json'), 'queue', 'stats'],
    code: 2,
    says: [/plugins\.json is not a database; configure another path, or move it/],
  },
  {
    name: 'a database of somebody else',
    args: ['--set', database('./theirs.db'), 'queue', 'stats'],
    setUp: (place) => sql(place, 'CREATE TABLE theirs (x); PRAGMA user_version = 7', 'theirs.db'),
    code: 2,
    says: [/theirs\.db .*configure another path/],
  },
  {
    name: 'a database of a newer version',
    args: ['queue', 'stats'],
    setUp: (place) => {
      // The number that this version writes, four bytes at offset 60.
      versionOf.set(place, readFileSync(place.path('data/rollout.db')).subarray(60, 64));
      return sql(place, 'PRAGMA user_version = 99');
    },
    mend: (place) => sql(place, `PRAGMA user_version = ${versionOf.get(place)?.readUInt32BE(0)}`),
    code: 2,
    says: [/rollout\.db .*99/],
  },
  {
    name: 'a database cut short',
    args: ['queue', 'stats'],
    setUp: (place) => truncateSync(place.path('data/rollout.db'), 5_000),
    code: 1,
    says: [/rollout\.db .*(damaged|corrupt|malformed)/],
    mend: null,
  },
  {
    name: 'get of a blob cut short',
    args: ['objects', 'get', 'ID', '-o', 'out'],
    setUp: (place, id) => truncateSync(blob(place, id), 3),
    code: 1,
    says: [/object corrupt: [0-9a-f]{64}/],
    mend: null,
  },
  {
    name: 'verify of a blob cut short',
    args: ['objects', 'verify'],
    setUp: (place, id) => truncateSync(blob(place, id), 3),
    code: 1,
    says: [],
    prints: /^corrupt [0-9a-f]{64}\n1 object checked, 0 B, 1 failed\n$/,
    mend: null,
  },
  {
    name: 'stat with a sidecar of garbage, which is not fatal',
    args: ['objects', 'stat', 'ID'],
    setUp: (place, id) => writeFileSync(`${blob(place, id)}.meta.json`, '{ "size": \0'),
    code: 0,
    says: [],
    prints: /^id +[0-9a-f]{64}\nsize +9 bytes\ncontent type +unknown\nstored +20/,
  },
  ...['garbage', '{"format":99,"hash":"blake3"}', '{"format":1,"hash":"md5"}'].map((text): Row => {
    return {
      name: `a store whose store.json is ${text}`,
      args: ['objects', 'ls'],
      setUp: (place) => {
        const file = place.path('data/object-store/store.json');
        versionOf.set(place, readFileSync(file));
        writeFileSync(file, text);
      },
      mend: (place) => writeFileSync(place.path('data/object-store/store.json'), versionOf.get(place) ?? ''),
      code: 2,
      says: [/store\.json (does not describe an object store|is of format 99|names hash "md5")/],
    };
  }),
  {
    name: 'an object that was never stored',
    args: ['objects', 'get', NEVER_STORED, '-o', 'out'],
    code: 1,
    says: [/object not found: 0{64}/],
  },
  {
    name: 'a payload that is too large',
    args: [
      '--set',
      'bindings.Queue.config.payloadBytesMax=4',
      'queue',
      'send',
      '--text',
      'abcde',
      '--instance',
      'default',
    ],
    code: 1,
    says: [/the input is longer than the 4 bytes that the queue takes/],
  },
  {
    name: 'a queue that another process has open',
    args: ['queue', 'receive', '--ack'],
    setUp: async (place) => {
      const host = await createHost({ config: place.path('plugins.json'), importModule });
      await host.get(Queue);
      hosts.set(place, host);
    },
    mend: (place) => hosts.get(place)?.stop(),
    code: 2,
    says: [new RegExp(`process ${process.pid}\\b`)],
  },
  ...[['objects', 'ls'], ['queue', 'stats'], ['secrets', 'list'], ['compute']].map((command): Row => {
    return {
      name: `${command.join(' ')} of an instance that is not there`,
      args: [...command, '--instance', 'no\x1b[31mne'],
      code: 2,
      says: [/RC1122 \w+ has no instance "no\\u001b\[31mne"\. Known: default\./],
    };
  }),
];

const hosts = new Map<Place, Awaited<ReturnType<typeof createHost>>>();

/** Names and ids that nobody should type. */
const ODD = [
  '',
  '../../etc/passwd',
  '\x1b[31mred\x07',
  'é\n\u202ex',
  '-',
  'A'.repeat(64),
  `${NEVER_STORED}0`,
  'a'.repeat(5_000),
];

const NAMES: Row[] = [
  ...['get', 'stat', 'rm', 'verify'].flatMap((command) =>
    ODD.map((id): Row => {
      return {
        name: `objects ${command} ${JSON.stringify(id).slice(0, 30)}`,
        args: ['objects', command, '--', id],
        code: 2,
        says: [/ is not an object's id: expected 64 lower-case hexadecimal characters/],
      };
    }),
  ),
  ...['/no/such\x1b[31m', 'é\nx', '--', 'a'.repeat(5_000)].map((file): Row => {
    return {
      name: `objects put ${JSON.stringify(file).slice(0, 30)}`,
      args: ['objects', 'put', '--', file],
      code: 2,
      says: [/cannot read ".*": (there is no such file|ENAMETOOLONG)/],
    };
  }),
  ...['\x1b[31mred', '__proto__', '../x', 'é', 'NOT_ALLOWED'].map((name): Row => {
    return {
      name: `secrets get ${JSON.stringify(name)}`,
      args: ['secrets', 'get', name],
      code: 2,
      says: [/not in allowlist/],
    };
  }),
  {
    name: 'secrets get of one that is not set',
    args: ['secrets', 'get', 'TOUR_TEST_UNSET'],
    code: 1,
    says: [/is not set/],
  },
  {
    name: 'secrets get of a long name',
    args: ['secrets', 'get', 'a'.repeat(513)],
    code: 2,
    says: [/1 to 512 characters/],
  },
  {
    name: 'objects put of a name with odd characters that is there',
    args: ['objects', 'put', 'odd\x1b[31m\n', 'plugins.json'],
    setUp: (place) => place.write('odd\x1b[31m\n', 'x'),
    code: 0,
    says: [],
    prints: /^[0-9a-f]{64} {2}odd\\u001b\[31m\\u000a\n[0-9a-f]{64} {2}plugins\.json\n$/,
  },
  {
    name: 'a content type of control characters',
    args: ['objects', 'put', 'plugins.json', '--content-type', '\x01'],
    code: 2,
    says: [/--content-type/],
  },
  {
    name: 'a prefix that is none',
    args: ['objects', 'ls', '--prefix', '../'],
    code: 2,
    says: [/--prefix .* found "\.\.\/"/],
  },
  { name: 'a folder to put', args: ['objects', 'put', '.'], code: 2, says: [/cannot read "\.": it is a folder/] },
  { name: 'a folder to send', args: ['queue', 'send', '.'], code: 2, says: [/cannot read "\.": it is a folder/] },
  {
    name: 'a folder to get into',
    args: ['objects', 'get', 'ID', '-o', '.'],
    code: 2,
    says: [/cannot write .*: it is a folder/],
  },
  {
    name: 'a key that is too long',
    args: ['queue', 'send', '--text', 'x', '--key', 'a'.repeat(513)],
    code: 2,
    says: [/--key must have 1 to 512/],
  },
  {
    name: 'a command that is not there',
    args: ['queue', 'work', '--until-empty', '--', './no\x1bne'],
    code: 2,
    says: [/cannot run "\.\/no\\u001bne": there is no such command/],
    prints: /^$/,
  },
];

const HINT = /^rollout-cloud: --help lists the commands and options$/;
const wrong = (args: string[], reason: RegExp, hint = true): Row => ({
  name: JSON.stringify(args),
  args,
  code: 2,
  says: hint ? [reason, HINT] : [reason],
  jsonOnly: true,
});

const COMMANDS = [
  'tour',
  'doctor',
  'plugins list',
  'objects put x',
  `objects get ${NEVER_STORED}`,
  `objects stat ${NEVER_STORED}`,
  'objects ls',
  `objects rm ${NEVER_STORED}`,
  'objects verify',
  'queue send',
  'queue receive',
  'queue stats',
  'queue work x',
  'secrets list',
  'secrets get x',
  'compute',
  'completion bash',
].map((line) => line.split(' '));

const NUMBERS = [
  ['queue', 'send', '--text', 'x', '--delay-ms'],
  ['queue', 'receive', '--lease-ms'],
  ['queue', 'receive', '--max'],
  ['queue', 'receive', '--wait-ms'],
  ['queue', 'work', '--lease-ms'],
  ['queue', 'work', '--concurrency'],
];

const ARGUMENTS: Row[] = [
  wrong(['turo'], /unknown command 'turo' \(Did you mean tour\?\)/),
  wrong(['obj\x1b[31mects\n'], /unknown command 'obj\\u001b\[31mects\\u000a'/),
  ...['nonsense', '=1', ''].map((text) => wrong(['--set', text, 'compute'], /Write it as path=value\./)),
  wrong(['--config'], /option '--config <file>' argument missing/),
  ...['objects', 'queue', 'secrets', 'plugins'].map((group) => wrong([group, 'lsit'], /unknown command 'lsit'/)),
  ...COMMANDS.map((command) => wrong([...command, '--fast\x1b'], /unknown option '--fast\\u001b'/)),
  ...['objects put', 'objects rm', 'objects get', 'objects stat', 'queue work', 'secrets get', 'completion'].map(
    (line) => wrong(line.split(' '), /missing required argument '(file|id|cmd|name|shell)'/),
  ),
  ...COMMANDS.filter((command) => !/objects (put|rm|verify)|queue work/.test(command.join(' '))).map((command) =>
    wrong(
      [...command, ...(/tour|send/.test(command.join(' ')) ? ['x'] : []), 'more'],
      /too many arguments for '\w+'\. Expected \d arguments? but got \d\./,
    ),
  ),
  ...NUMBERS.flatMap((command) =>
    ['many', '-1', '1.5', '1e3', '', '99999999999999999999'].map((value) =>
      wrong([...command, value], / must be a whole number from \d to \d+, found "/, false),
    ),
  ),
  wrong(['completion', 'tcsh'], /'tcsh' is invalid for argument 'shell'\. Allowed choices are bash, zsh, fish\./),
  wrong(['queue', 'send', 'x', '--text', 'y'], /give a file or --text, not both/, false),
  wrong(['queue', 'send', '--lines', '--key', 'y'], /--key is for one item/, false),
  wrong(['objects', 'put', '-', '-'], /standard input \(-\) can be stored once/, false),
  wrong(['tour', 'nowhere'], /cannot tour "nowhere": there is no such folder/, false),
];

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
    if (json) expect(() => stdout === '' || JSON.parse(stdout)).not.toThrow();
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
