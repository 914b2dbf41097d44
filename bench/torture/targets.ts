/** What can be tortured: how each is opened, and how what it holds is looked at while nobody has it open. */
import { InMemQueue } from '../../src/adapters/cloud-local/in-mem-queue.js';
import { NodeSqliteStorage } from '../../src/adapters/cloud-local/node-sqlite-storage.js';
import { SqliteStorage } from '../../src/adapters/cloud-local/sqlite-storage.js';
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

export const TARGETS: readonly Target[] = [
  inMem('in-mem', (file) => SqliteStorage.open(file)),
  inMem('in-mem-node', (file) => NodeSqliteStorage.open(file)),
];
