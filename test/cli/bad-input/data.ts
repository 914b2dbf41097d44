/** Data that is damaged, not ours, in use, or where nothing can be. */
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import sqlite3 from 'sqlite3';
import { Queue } from '../../../src/contracts/index.js';
import { createHost } from '../../../src/registry/index.js';
import { importModule } from '../../support/import-module.js';
import type { Place } from '../support.js';
import { NEVER_STORED, type Row } from './row.js';

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

/** What a row has replaced, to be put back. */
const versionOf = new Map<Place, Buffer>();

/** Hosts that hold the queue of a place. */
const hosts = new Map<Place, Awaited<ReturnType<typeof createHost>>>();

export const DATA: Row[] = [
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
  ...[root, database].flatMap((option) =>
    [
      { length: 5_000, says: /RC1105 .* must have at most 4096 characters, found a text of 5002 characters/ },
      {
        length: 300,
        says: /ENAMETOOLONG, the path is longer than the system allows|cannot be opened for writing: .*; configure another path/,
      },
    ].map(
      ({ length, says }): Row => ({
        name: `a name of ${length} characters: ${option('…')}`,
        args: [
          '--set',
          option(`./${'a'.repeat(length)}`),
          ...(option === root ? ['objects', 'ls'] : ['queue', 'stats']),
        ],
        code: 2,
        says: [says],
      }),
    ),
  ),
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
    prints: /^corrupt [0-9a-f]{64}\n1 object checked, 3 B, 1 failed\n$/,
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
