/**
 * Rows that need a process of their own: what a backlog takes of memory, and how long it takes to open one. The benchmark
 * starts itself again with `--alone <row> <items> <folder>`, and reads the figures from the child's last line.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { monitorEventLoopDelay, performance } from 'node:perf_hooks';
import { InMemQueue, SqliteStorage } from '../../src/adapters/cloud-local/index.js';
import { median } from '../results.js';

/** Rows of one call while a backlog is made: how it was made is not what is measured. */
const ITEMS_PER_CALL = 1_000;
const LEASE_MS = 600_000;
const MB = 1_000_000;

type Row = (items: number, folder: string) => Promise<Record<string, number>>;

const openStorage = (folder: string) => SqliteStorage.open(join(folder, 'queue.db'), { durability: 'normal' });

async function fill(queue: InMemQueue, items: number, payloadBytes: number): Promise<void> {
  for (let sent = 0; sent < items; sent += ITEMS_PER_CALL) {
    const count = Math.min(ITEMS_PER_CALL, items - sent);
    await queue.enqueueMany(Array.from({ length: count }, () => Buffer.alloc(payloadBytes, 'x')));
  }
}

/** What lies in memory once the collector has been through: it is given two goes, as buffers are freed by the second. */
async function rssMb(): Promise<number> {
  const { gc } = globalThis as { gc?: () => void };
  for (let i = 0; i < 2; i += 1) {
    gc?.();
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return process.memoryUsage().rss / MB;
}

const ROWS: Readonly<Record<string, Row>> = {
  empty: async () => ({ rssMb: await rssMb() }),

  /** Pending items of 64 B. */
  pending: async (items, folder) => {
    const storage = await openStorage(folder);
    const queue = await InMemQueue.open(storage);
    await fill(queue, items, 64);
    const { bytesInMemory } = await queue.stats();
    const figures = { rssMb: await rssMb(), payloadMb: bytesInMemory / MB };
    await queue.close();
    await storage.close();
    return figures;
  },

  make: async (items, folder) => {
    const storage = await openStorage(folder);
    const queue = await InMemQueue.open(storage);
    await fill(queue, items, 256);
    await queue.close();
    await storage.close();
    return {};
  },

  /** Opens what `make` left, in turns with a scan of the same rows through the same storage. */
  reopen: async (items, folder) => {
    const storage = await openStorage(folder);
    const scans: number[] = [];
    const opens: number[] = [];
    const cpuRatios: number[] = [];
    const stalls: number[] = [];
    for (let round = 0; round <= 7; round += 1) {
      const beforeScan = cpuMs();
      let bytes = 0;
      const scanMs = await timed(async () => {
        for await (const { key, value } of storage.scan({ prefix: { namespace: 'cloudlocal_queue', path: [] } })) {
          bytes += key.path.length + value.length;
        }
      });
      if (bytes !== items * 257) throw new Error(`the scan read ${bytes} bytes`);
      const delay = monitorEventLoopDelay({ resolution: 1 });
      delay.enable();
      const beforeOpen = cpuMs();
      let queue: InMemQueue | undefined;
      const openMs = await timed(async () => {
        queue = await InMemQueue.open(storage);
      });
      const afterOpen = cpuMs();
      await new Promise((resolve) => setTimeout(resolve, 5));
      delay.disable();
      const { pending } = (await queue?.stats()) ?? { pending: 0 };
      if (pending !== items) throw new Error(`the queue has ${pending} items`);
      await queue?.close();
      if (round === 0) continue; // the disk's cache, and code that is not compiled yet
      scans.push(scanMs);
      opens.push(openMs);
      cpuRatios.push((afterOpen - beforeOpen) / (beforeOpen - beforeScan));
      stalls.push(delay.max / 1e6);
    }
    await storage.close();
    return {
      scanMs: median(scans),
      openMs: median(opens),
      cpuRatio: median(cpuRatios),
      stallMs: median(stalls),
      worstStallMs: Math.max(...stalls),
    };
  },

  /** Opens an empty folder, enqueues, opens again, and drains. */
  backlog: async (items, folder) => {
    const storage = await openStorage(folder);
    const queue = await InMemQueue.open(storage);
    const fillMs = await timed(() => fill(queue, items, 256));
    const peaks = [peakMb()];
    await queue.close();
    let again: InMemQueue | undefined;
    const openMs = await timed(async () => {
      again = await InMemQueue.open(storage);
    });
    if (again === undefined) throw new Error('not opened');
    const reopened = again;
    peaks.push(peakMb());
    if ((await reopened.stats()).pending !== items) throw new Error('the queue has not all of its items');
    let drained = 0;
    const drainMs = await timed(async () => {
      for (;;) {
        const taken = await reopened.dequeueMany(1_000, LEASE_MS);
        if (taken.length === 0) return;
        await Promise.all(taken.map(({ id, token }) => reopened.ack(id, token)));
        drained += taken.length;
      }
    });
    if (drained !== items) throw new Error(`${drained} items were drained`);
    await reopened.close();
    await storage.close();
    if (process.env.BENCH_PEAKS) console.error(peaks, peakMb(), process.memoryUsage());
    return { fillS: fillMs / 1000, openS: openMs / 1000, drainS: drainMs / 1000, maxRssMb: peakMb() };
  },
};

/** In the child. */
export async function runAlone([row = '', items = '0', folder = '']: readonly string[]): Promise<void> {
  const figures = await ROWS[row]?.(Number(items), folder);
  process.stdout.write(`${JSON.stringify(figures)}\n`);
}

/** A row was not done in the time that it had. */
export class NotDone extends Error {
  override readonly name = 'NotDone';
}

/** In the parent: the figures of one row, in a process of its own. @throws NotDone after `timeoutMs` */
export async function alone(
  row: string,
  items: number,
  folder: string,
  timeoutMs: number,
): Promise<Record<string, number>> {
  const args = ['--expose-gc', process.argv[1] as string, '--alone', row, String(items), folder];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    child.kill('SIGKILL');
  }, timeoutMs);
  let output = '';
  child.stdout.on('data', (chunk) => {
    output += chunk;
  });
  const code = await new Promise((resolve) => child.once('close', resolve));
  clearTimeout(timer);
  if (isLate) throw new NotDone(`not done in ${Math.round(timeoutMs / 1000)} s`);
  if (code !== 0) throw new Error(`the process of ${row} ended with ${code}`);
  return JSON.parse(output.trim().split('\n').at(-1) ?? '');
}

function peakMb(): number {
  return (process.resourceUsage().maxRSS * 1024) / MB;
}

/** Processor time of this process so far, all threads. */
function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

async function timed(work: () => Promise<void>): Promise<number> {
  const startedAt = performance.now();
  await work();
  return performance.now() - startedAt;
}
