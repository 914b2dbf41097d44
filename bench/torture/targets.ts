/** What can be tortured: how each is opened, and how what it holds is looked at while nobody has it open. */
import { InMemQueue } from '../../src/adapters/cloud-local/in-mem-queue.js';
import { NodeSqliteStorage } from '../../src/adapters/cloud-local/node-sqlite-storage.js';
import { SqliteQueue } from '../../src/adapters/cloud-local/sqlite-queue.js';
import { SqliteStorage } from '../../src/adapters/cloud-local/sqlite-storage.js';
import { NODE_SQLITE } from '../../src/adapters/cloud-local/storage/node-engine.js';
import { SQLITE3 } from '../../src/adapters/cloud-local/storage/sqlite3-engine.js';
import type { Queue } from '../../src/contracts/queue.js';
import type { Storage } from '../../src/contracts/storage.js';
import { type Found, MAX_ATTEMPTS, type State } from './ledger.js';

export interface Target {
  readonly name: string;
  /** Processes that work on it at once. */
  readonly processes: number;
  /** Hand-overs that crashes may take from an item's count. */
  readonly lost: number;
  open(file: string): Promise<{ queue: Queue; close(): Promise<void> }>;
  /** Without changing anything: no count rises, no lease begins. */
  inspect(file: string): Promise<State>;
}

function inMem(name: string, openStorage: (file: string) => Promise<Storage>): Target {
  return {
    name,
    processes: 1,
    lost: 1,
    async open(file) {
      const storage = await openStorage(file);
      const queue = await InMemQueue.open(storage, { maxAttempts: MAX_ATTEMPTS });
      return {
        queue,
        close: async () => {
          await queue.close();
          await storage.close();
        },
      };
    },
    async inspect(file) {
      const storage = await openStorage(file);
      const attempts = new Map<string, number>();
      for await (const { key, value } of rows(storage, 'cloudlocal_queue_meta')) {
        attempts.set(key, Number((JSON.parse(value) as { attempts?: number }).attempts ?? 0));
      }
      const found = async (namespace: string): Promise<Found[]> => {
        const all: Found[] = [];
        for await (const { key, value } of rows(storage, namespace)) {
          all.push({ id: key, tag: value.split(' ')[0] as string, attempts: attempts.get(key) ?? 0 });
        }
        return all;
      };
      const state = { items: await found('cloudlocal_queue'), dead: await found('cloudlocal_queue_dead') };
      await storage.close();
      return state;
    },
  };
}

async function* rows(storage: Storage, namespace: string): AsyncGenerator<{ key: string; value: string }> {
  for await (const { key, value } of storage.scan({ prefix: { namespace, path: [] } })) {
    yield { key: key.path.join('/'), value: Buffer.from(value).toString() };
  }
}

function sqliteQueue(name: string, engine: 'sqlite3' | 'node'): Target {
  return {
    name,
    processes: 3,
    // Every hand-over is counted in the transaction that makes it.
    lost: 0,
    async open(file) {
      const queue = await SqliteQueue.open(file, { engine, maxAttempts: MAX_ATTEMPTS });
      return { queue, close: () => queue.close() };
    },
    async inspect(file) {
      const connection = await (engine === 'node' ? NODE_SQLITE : SQLITE3).open(file, 5_000);
      // Whoever was to make the tables may have been killed before.
      const made = await connection.all("SELECT 1 FROM sqlite_schema WHERE name = 'queue'");
      const opened = made.length > 0 && (await connection.all('SELECT 1 FROM queue')).length > 0;
      if (!opened) {
        await connection.close();
        return { items: [], dead: [] };
      }
      const find = async (which: string): Promise<Found[]> => {
        const rows = await connection.all(`SELECT id, attempts, payload FROM item WHERE ${which}`);
        return rows.map(({ id, attempts, payload }) => ({
          id: String(id),
          tag: Buffer.from(payload as Uint8Array)
            .toString()
            .split(' ')[0] as string,
          attempts: Number(attempts),
        }));
      };
      const state = { items: await find('state <> 3'), dead: await find('state = 3') };
      const [sums] = await connection.all(
        `SELECT pending + delayed + inFlight AS items, dead FROM queue WHERE pending =
           (SELECT count(*) FROM item WHERE state = 0) AND delayed = (SELECT count(*) FROM item WHERE state = 1)`,
      );
      await connection.close();
      if (sums === undefined || sums.items !== state.items.length || sums.dead !== state.dead.length) {
        throw new Error(`the sums of the queue's row are not those of its items: ${JSON.stringify(sums)}`);
      }
      return state;
    },
  };
}

export const TARGETS: readonly Target[] = [
  inMem('in-mem', (file) => SqliteStorage.open(file)),
  inMem('in-mem-node', (file) => NodeSqliteStorage.open(file)),
  sqliteQueue('sqlite-queue', 'sqlite3'),
  sqliteQueue('sqlite-queue-node', 'node'),
];
