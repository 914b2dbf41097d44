/** BullMQ on a redis-server of the benchmark's own: on a free loopback port, its data in the round's folder, fsync as asked. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { createServer } from 'node:net';
import type { Contender } from './contenders.js';

const require = createRequire(import.meta.url);
const load = <T>(name: string): T => require(name) as T;

interface BullMq {
  Queue: new (
    name: string,
    options: object,
  ) => { add(name: string, data: unknown, options: object): Promise<unknown>; close(): Promise<void> };
  Worker: new (
    name: string,
    processor: null,
    options: object,
  ) => {
    getNextJob(token: string, options: object): Promise<Job | undefined>;
    close(force?: boolean): Promise<void>;
  };
}

interface Job {
  moveToCompleted(result: string, token: string, fetchNext: boolean): Promise<unknown>;
}

/** How long a server may take until it answers. */
const START_MS = 5_000;

/** @throws Error when there is no redis-server, or BullMQ is not installed */
export function bullmq(appendfsync: 'always' | 'everysec'): Contender {
  const found = spawnSync('redis-server', ['--version']);
  if (found.status !== 0) throw new Error('no redis-server was found');
  const { Queue, Worker } = load<BullMq>('bullmq');
  return {
    name: `BullMQ, Redis fsync ${appendfsync}`,
    promise: appendfsync === 'always' ? 'power loss' : 'crash of the process',
    open: async (folder) => {
      const port = await freePort();
      const stopServer = await startServer(port, appendfsync, folder);
      const connection = { host: '127.0.0.1', port, maxRetriesPerRequest: null };
      const queue = new Queue('bench', { connection });
      const worker = new Worker('bench', null, { connection, autorun: false });
      return {
        enqueue: (payload) => queue.add('job', payload.toString('latin1'), { removeOnComplete: true }),
        takeAndAck: async () => {
          const job = await worker.getNextJob('bench', { block: false });
          if (job === undefined) return false;
          await job.moveToCompleted('', 'bench', false);
          return true;
        },
        close: async () => {
          await worker.close(true);
          await queue.close();
          await stopServer();
        },
      };
    },
  };
}

async function startServer(port: number, appendfsync: string, folder: string): Promise<() => Promise<void>> {
  const args = ['--port', String(port), '--bind', '127.0.0.1', '--dir', folder, '--save', ''];
  const server = spawn('redis-server', [...args, '--appendonly', 'yes', '--appendfsync', appendfsync], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  const started = new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`redis-server did not start: ${output}`)), START_MS);
    server.once('error', reject);
    server.stdout.on('data', (chunk) => {
      output += chunk;
      if (!output.includes('Ready to accept connections')) return;
      clearTimeout(timer);
      resolve();
    });
  });
  await started.catch((error) => {
    server.kill();
    throw error;
  });
  return async () => {
    server.kill();
    if (server.exitCode === null) await once(server, 'exit');
  };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}
