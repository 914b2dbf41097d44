/** Ids, names and paths that nobody should type. */
import { NEVER_STORED, type Row } from './row.js';

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

export const NAMES: Row[] = [
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
