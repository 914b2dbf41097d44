/** The cells of the sweep: one contender, one fresh folder, four loads of a fixed time each. */
import { monitorEventLoopDelay, performance } from 'node:perf_hooks';
import type { Contender, Opened } from './contenders.js';

export const PAYLOAD_BYTES = 256;
export const IN_FLIGHT = 64;

/** Calls before a cell is timed: code is compiled, statements are prepared, the log is as long as it gets. */
const WARM_UP_CALLS = 400;

/** Items that are handed over for the second time. */
const REDELIVERED = 4_000;

/** Rates in operations a second, times in ms. */
export interface Figures {
  readonly enqueueOne: number;
  /** Processor time of this process, all threads, for each call, µs: what a busy machine does not change much. */
  readonly enqueueOneCpuUs: number;
  readonly enqueueMany: number;
  readonly enqueueManyCpuUs: number;
  readonly enqueueManyP99Ms: number;
  /** All of the load's time for a peer that lets the event loop run at no time in it. */
  readonly enqueueManyLagP99Ms: number;
  /** Taken and acked; not there for a peer that cannot. */
  readonly ackOne?: number;
  readonly ackMany?: number;
  /** One at a time, each handed over for the second time; for those who can tell. */
  readonly ackAgain?: number;
}

export async function measure(contender: Contender, folder: string, cellMs: number): Promise<Figures> {
  const queue = await contender.open(folder);
  const { takeAndAck } = queue;
  try {
    await warmUp(queue);
    const enqueueOne = await enqueueFor(queue, cellMs, 1);
    const lag = monitorEventLoopDelay({ resolution: 1 });
    lag.enable();
    const enqueueMany = await enqueueFor(queue, cellMs, IN_FLIGHT);
    lag.disable();
    const enqueues = {
      enqueueOne: enqueueOne.rate,
      enqueueOneCpuUs: enqueueOne.cpuUs,
      enqueueMany: enqueueMany.rate,
      enqueueManyCpuUs: enqueueMany.cpuUs,
      enqueueManyP99Ms: enqueueMany.p99Ms,
      enqueueManyLagP99Ms: lag.count === 0 ? enqueueMany.tookMs : lag.percentile(99) / 1e6,
    };
    if (takeAndAck === undefined) return enqueues;
    const ackOne = await takeFor(takeAndAck, cellMs, 1);
    const ackMany = await takeFor(takeAndAck, cellMs, IN_FLIGHT);
    if (queue.giveBack === undefined) return { ...enqueues, ackOne, ackMany };
    // The last load: what it leaves in line has been handed over before, and would be slower to take for the others.
    await queue.giveBack(Buffer.alloc(PAYLOAD_BYTES, 'x'), REDELIVERED);
    return { ...enqueues, ackOne, ackMany, ackAgain: await takeFor(takeAndAck, cellMs / 2, 1, REDELIVERED) };
  } finally {
    await queue.close();
  }
}

async function warmUp(queue: Opened): Promise<void> {
  const payload = Buffer.alloc(PAYLOAD_BYTES, 1);
  await Promise.all(Array.from({ length: WARM_UP_CALLS }, async () => queue.enqueue(payload)));
  await Promise.all(Array.from({ length: WARM_UP_CALLS }, async () => queue.takeAndAck?.()));
}

interface Enqueues {
  readonly rate: number;
  readonly cpuUs: number;
  readonly p99Ms: number;
  readonly tookMs: number;
}

async function enqueueFor(queue: Opened, cellMs: number, inFlight: number): Promise<Enqueues> {
  const payload = Buffer.alloc(PAYLOAD_BYTES, 'x');
  const latencies: number[] = [];
  const cpuBefore = process.cpuUsage();
  const startedAt = performance.now();
  const loop = async () => {
    for (;;) {
      const at = performance.now();
      if (at - startedAt >= cellMs) return;
      await queue.enqueue(payload);
      latencies.push(performance.now() - at);
    }
  };
  await Promise.all(Array.from({ length: inFlight }, loop));
  const tookMs = performance.now() - startedAt;
  const { user, system } = process.cpuUsage(cpuBefore);
  latencies.sort((a, b) => a - b);
  return {
    rate: (latencies.length * 1000) / tookMs,
    cpuUs: (user + system) / latencies.length,
    p99Ms: latencies[Math.floor(latencies.length * 0.99)] ?? Number.NaN,
    tookMs,
  };
}

/** Until the time is over, or nothing is left: a fast consumer takes more in a second than was enqueued in one. */
async function takeFor(
  takeAndAck: NonNullable<Opened['takeAndAck']>,
  cellMs: number,
  inFlight: number,
  max = Number.POSITIVE_INFINITY,
): Promise<number> {
  let taken = 0;
  const startedAt = performance.now();
  const loop = async () => {
    while (taken < max && performance.now() - startedAt < cellMs) {
      if (!(await takeAndAck())) return;
      taken += 1;
    }
  };
  await Promise.all(Array.from({ length: inFlight }, loop));
  return (taken * 1000) / (performance.now() - startedAt);
}
