/**
 * What the sweep measures: our queue over its engines, the peers, and the floor, each behind the same few calls.
 *
 * A peer that is not installed, or cannot run on this Node, is left out with its reason; nothing is measured in its place.
 * Peers are loaded by name at run time and typed here by the few calls that are used: `npm run types` needs none of them.
 */
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { InMemQueue, MemoryStorage, NodeSqliteStorage, SqliteStorage } from '../../src/adapters/cloud-local/index.js';
import type { Storage } from '../../src/contracts/storage.js';
import { openLog } from './floor.js';
import { bullmq } from './redis.js';

/** One queue, opened in an empty folder. */
export interface Opened {
  enqueue(payload: Buffer): unknown;
  /** False when nothing was there. Left out by a peer that cannot: then only its enqueues are measured. */
  takeAndAck?(): Promise<boolean> | boolean;
  /** Enqueues items, takes as many and gives them back, first in line: taken once more, each is a redelivery. */
  giveBack?(payload: Buffer, items: number): Promise<void>;
  close(): unknown;
}

export interface Contender {
  readonly name: string;
  /** What a resolved call survives, in words. */
  readonly promise: string;
  open(folder: string): Promise<Opened> | Opened;
}

const require = createRequire(import.meta.url);
/** Where tsc cannot follow: peers are no dependencies of the package. */
const load = <T>(name: string): T => require(name) as T;

/** Long enough that none runs out in a round. */
const LEASE_MS = 600_000;

async function openOurs(storage: Storage): Promise<Opened> {
  const queue = await InMemQueue.open(storage);
  return {
    enqueue: (payload) => queue.enqueue(payload),
    takeAndAck: async () => {
      const item = await queue.dequeueWithLease(LEASE_MS);
      if (item === null) return false;
      await queue.ack(item.id, item.token);
      return true;
    },
    giveBack: async (payload, items) => {
      await queue.enqueueMany(Array<Buffer>(items).fill(payload));
      const taken = await queue.dequeueMany(items, LEASE_MS);
      for (const { id, token } of taken.reverse()) await queue.nack(id, token);
    },
    close: async () => {
      await queue.close();
      await storage.close();
    },
  };
}

function ours(name: string, promise: string, open: (folder: string) => Promise<Storage>): Contender {
  return { name, promise, open: async (folder) => openOurs(await open(folder)) };
}

/** How the names of ours begin. */
export const OURS = 'local.in-mem on ';
export const SQLITE = `${OURS}local.sqlite`;
export const NODE_SQLITE = `${OURS}local.node-sqlite`;
export const FLOOR_NAME = 'append log, group fsync';
export const PLAINJOB_FULL = 'plainjob at FULL';
export const PLAINJOB_DEFAULT = 'plainjob, its default';
export const BULLMQ_ALWAYS = 'BullMQ, Redis fsync always';

/** Each of them, or why it is not measured. */
export function contenders(): { readonly able: readonly Contender[]; readonly missing: readonly string[] } {
  const able: Contender[] = [];
  const missing: string[] = [];
  for (const [name, make] of Object.entries(MAKERS)) {
    try {
      able.push(make());
    } catch (error) {
      missing.push(`${name}: ${(error as Error).message.replaceAll('\n', ' ')}`);
    }
  }
  return { able, missing };
}

const MAKERS: Readonly<Record<string, () => Contender>> = {
  [SQLITE]: () => ours(SQLITE, 'power loss', (folder) => SqliteStorage.open(join(folder, 'queue.db'))),
  [NODE_SQLITE]: () => {
    load('node:sqlite'); // throws where this Node has none
    return ours(NODE_SQLITE, 'power loss', (folder) => NodeSqliteStorage.open(join(folder, 'queue.db')));
  },
  [`${SQLITE}, normal`]: () =>
    ours(`${SQLITE}, normal`, 'crash of the process', (folder) =>
      SqliteStorage.open(join(folder, 'queue.db'), { durability: 'normal' }),
    ),
  'local.in-mem on local.memory': () => ours('local.in-mem on local.memory', 'nothing', () => MemoryStorage.open()),
  [PLAINJOB_FULL]: () => plainjob('FULL'),
  [PLAINJOB_DEFAULT]: () => plainjob('NORMAL'),
  'liteque at FULL': () => liteque('FULL'),
  'liteque, its default': () => liteque('NORMAL'),
  [BULLMQ_ALWAYS]: () => bullmq('always'),
  'BullMQ, Redis fsync everysec': () => bullmq('everysec'),
  [FLOOR_NAME]: () => ({
    name: FLOOR_NAME,
    promise: 'power loss',
    open: (folder) => openLog(join(folder, 'queue.log')),
  }),
};

interface BetterSqlite {
  pragma(text: string): unknown;
  close(): void;
}

interface PlainJob {
  better(database: BetterSqlite): unknown;
  defineQueue(options: { connection: unknown; logger: object; serializer(data: unknown): string }): {
    add(type: string, data: unknown): unknown;
    getAndMarkJobAsProcessing(type: string): { id: number } | undefined;
    getJobById(id: number): { data: string } | undefined;
    markJobAsDone(id: number): void;
    close(): void;
  };
}

const nothing = () => {};
const SILENT = { error: nothing, warn: nothing, info: nothing, debug: nothing };

/** https://github.com/justplainstuff/plainjob, its default (WAL, NORMAL) and at FULL. Calls as its worker makes them. */
function plainjob(synchronous: 'NORMAL' | 'FULL'): Contender {
  const Database = load<new (file: string) => BetterSqlite>('better-sqlite3');
  new Database(':memory:').close(); // throws where it was built for another Node
  const { better, defineQueue } = load<PlainJob>('plainjob');
  return {
    name: synchronous === 'FULL' ? PLAINJOB_FULL : PLAINJOB_DEFAULT,
    promise: synchronous === 'FULL' ? 'power loss' : 'crash of the process',
    open: (folder) => {
      const database = new Database(join(folder, 'plainjob.db'));
      const queue = defineQueue({ connection: better(database), logger: SILENT, serializer: String });
      database.pragma(`synchronous = ${synchronous}`); // after it, as it sets its own
      return {
        enqueue: (payload) => queue.add('bench', payload.toString('latin1')),
        takeAndAck: () => {
          const job = queue.getAndMarkJobAsProcessing('bench');
          if (job === undefined) return false;
          queue.getJobById(job.id);
          queue.markJobAsDone(job.id);
          return true;
        },
        close: () => queue.close(),
      };
    },
  };
}

interface Liteque {
  buildDBClient(file: string, options: object): { run(query: unknown): unknown };
  SqliteQueue: new (
    name: string,
    database: unknown,
    options: object,
  ) => {
    enqueue(payload: unknown): Promise<unknown>;
  };
}

/**
 * https://github.com/karakeep-app/liteque. Enqueues only: its dequeue hands an asynchronous function to a transaction of
 * better-sqlite3, which refuses that from version 12 on.
 */
function liteque(synchronous: 'NORMAL' | 'FULL'): Contender {
  const { buildDBClient, SqliteQueue } = load<Liteque>('liteque');
  buildDBClient(':memory:', {});
  const { sql } = load<{ sql: { raw(text: string): unknown } }>('drizzle-orm');
  return {
    name: synchronous === 'FULL' ? 'liteque at FULL' : 'liteque, its default',
    promise: synchronous === 'FULL' ? 'power loss' : 'crash of the process',
    open: (folder) => {
      const database = buildDBClient(join(folder, 'liteque.db'), { runMigrations: true, walEnabled: true });
      database.run(sql.raw(`PRAGMA synchronous = ${synchronous}`));
      const options = { defaultJobArgs: { numRetries: 2 }, keepFailedJobs: false };
      const queue = new SqliteQueue('bench', database, options);
      return {
        enqueue: (payload) => queue.enqueue(payload.toString('latin1')),
        close: () => {}, // it has no way to be closed; its file goes with the folder
      };
    },
  };
}
