/**
 * What compute hints cost: `npm run bench:compute [-- rounds]`, on the built package.
 *
 * `inventory()` beside the two calls of systeminformation that tell the same, cpu() and mem(), in the same process; the first
 * answer of the GPU plugin beside a child process that does nothing. The cases of each pair take turns, so that whatever
 * else the machine does falls on both alike; figures are medians. The driver is the tests' stand-in, compiled here: a real
 * one adds the time of its own calls. Results go to bench/results/compute.json, by version of Node.
 */
import { execFileSync, fork, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, mkdtempSync, openSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { loadavg, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import type * as cloudLocal from '../src/adapters/cloud-local/index.js';
import type * as gpuNvml from '../src/adapters/gpu-nvml/index.js';
import { keepResults, median } from './results.js';

const ROUNDS = Math.max(15, Number(process.argv[2] ?? 40));
const RESULTS = 'bench/results/compute.json';
/** Calls that one figure of a quick case is the mean of: a clock is read in tenths of a microsecond. */
const BATCH = 20;
const HANG_MS = 400;
/** Threads of libuv's pool, where UV_THREADPOOL_SIZE does not say otherwise. */
const THREADS = 4;

const built = <T>(folder: string): Promise<T> =>
  import(pathToFileURL(resolve(`dist/adapters/${folder}/index.js`)).href);
const { LinuxComputeHint } = await built<typeof cloudLocal>('cloud-local');
const { NvmlEnumerator } = await built<typeof gpuNvml>('gpu-nvml');
const si = (await import('systeminformation')).default;

interface Row {
  readonly what: string;
  readonly target: string;
  readonly figure: string;
  readonly met: boolean;
}

const folder = realpathSync(mkdtempSync(join(tmpdir(), 'rollout-bench-')));
const rows: Row[] = [];
try {
  await inventory();
  if (spawnSync('cc', ['--version']).status === 0) {
    await firstAnswer();
    await hungDriver();
  } else console.log('the GPU plugin is not measured: its stand-in for a driver needs a C compiler named cc');
} finally {
  rmSync(folder, { recursive: true, force: true });
}

async function inventory(): Promise<void> {
  const hint = new LinuxComputeHint();
  const ours: number[] = [];
  const theirs: number[] = [];
  for (let round = 0; round <= ROUNDS; round++) {
    const a = await timed(async () => {
      for (let i = 0; i < BATCH; i++) await hint.inventory();
    });
    const b = await timed(async () => {
      await si.cpu();
      await si.mem();
    });
    // The first round warms the code and the disk's cache.
    if (round > 0) [ours, theirs].forEach((times, i) => void times.push(i === 0 ? a / BATCH : b));
  }
  const [oursMs, theirsMs] = [median(ours), median(theirs)];
  row('inventory() without GPUs, warm', '<= 1 ms', `${oursMs.toFixed(3)} ms`, oursMs <= 1);
  const ratio = median(theirs.map((ms, i) => ms / (ours[i] ?? Number.NaN)));
  const text = `${ratio.toFixed(1)} x (${theirsMs.toFixed(1)} ms)`;
  row("the same, beside systeminformation's cpu() + mem()", '>= 15 x faster', text, ratio >= 15);
}

async function firstAnswer(): Promise<void> {
  const libraryPath = library();
  const empty = join(folder, 'empty.mjs');
  writeFileSync(empty, '');
  // In the environment that the plugin gives its child: some variables, such as NODE_EXTRA_CA_CERTS, slow the start.
  const beyond: number[] = [];
  const emptyMs: number[] = [];
  let last = new NvmlEnumerator({ libraryPath });
  for (let round = 0; round <= ROUNDS; round++) {
    const child = await timed(async () => {
      await once(
        fork(empty, { env: { PATH: process.env.PATH }, execArgv: [], stdio: ['ignore', 'ignore', 'pipe', 'ipc'] }),
        'close',
      );
    });
    last = new NvmlEnumerator({ libraryPath });
    const answer = await timed(async () => {
      const { gpus, reason } = await last.enumerate();
      if (gpus.length !== 2) throw new Error(`the stand-in has two GPUs, told were ${gpus.length}: ${reason}`);
    });
    if (round === 0) continue;
    emptyMs.push(child);
    beyond.push(answer - child);
  }
  const figure = `${median(beyond).toFixed(1)} ms beyond ${median(emptyMs).toFixed(1)} ms`;
  row('first GPU answer, beyond an empty child process', '<= 60 ms', figure, median(beyond) <= 60);
  const cached: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const ms = await timed(async () => {
      for (let i = 0; i < BATCH; i++) await last.enumerate();
    });
    cached.push(ms / BATCH);
  }
  row('remembered GPU answer', '<= 0.1 ms', `${median(cached).toFixed(4)} ms`, median(cached) <= 0.1);
}

async function hungDriver(): Promise<void> {
  const libraryPath = library('-DHANGS');
  const late: number[] = [];
  const free: number[] = [];
  for (let round = 0; round < 5; round++) {
    const enumerator = new NvmlEnumerator({ libraryPath, timeoutMs: HANG_MS });
    const answer = timed(async () => void (await enumerator.enumerate()));
    // When the child is up and in the call that hangs.
    await sleep(HANG_MS / 2);
    free.push(await freeThreads());
    late.push((await answer) - HANG_MS);
  }
  row(
    'hung driver: the caller waits beyond its timeout',
    '<= 50 ms',
    `${median(late).toFixed(1)} ms`,
    median(late) <= 50,
  );
  const fewest = Math.min(...free);
  row('hung driver: threads of the pool that are free', `${THREADS}`, `${fewest}`, fewest === THREADS);

  const script = `import { NvmlEnumerator } from ${JSON.stringify(pathToFileURL(resolve('dist/adapters/gpu-nvml/index.js')).href)};
    const enumerator = new NvmlEnumerator({ libraryPath: ${JSON.stringify(libraryPath)}, timeoutMs: ${HANG_MS} });
    await enumerator.enumerate();
    process.stdout.write(String(Date.now()));`;
  const exits: number[] = [];
  for (let round = 0; round < 5; round++) {
    const { stdout, status } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
    const endedAtMs = Date.now();
    if (status !== 0) throw new Error(`the process that a hung driver held up exited with ${status}`);
    exits.push(endedAtMs - Number(stdout));
  }
  row('hung driver: the process exits after its answer', '<= 50 ms', `${median(exits)} ms`, median(exits) <= 50);
}

/**
 * How many threads of the pool take up work now: each is given a named pipe to open for reading, which blocks it until
 * somebody opens the pipe for writing; and that, without waiting, works only where a thread waits.
 */
async function freeThreads(): Promise<number> {
  const pipes = Array.from({ length: THREADS }, (_, i) => join(folder, `pipe-${performance.now()}-${i}`));
  execFileSync('mkfifo', pipes);
  const readers = pipes.map((pipe) => open(pipe, 'r'));
  await sleep(50);
  let count = 0;
  for (const pipe of pipes) {
    try {
      closeSync(openSync(pipe, constants.O_WRONLY | constants.O_NONBLOCK));
      count += 1;
    } catch {
      // Nobody waits there; who opens it later must not wait for ever.
      openSync(pipe, constants.O_RDWR);
    }
  }
  for (const reader of await Promise.all(readers)) await reader.close();
  return count;
}

/** The folder of the stand-in for libnvidia-ml.so.1. */
function library(...flags: string[]): string {
  const path = mkdtempSync(join(folder, 'lib-'));
  const source = 'test/adapters/gpu-nvml/fake-nvml.c';
  execFileSync('cc', ['-shared', '-fPIC', '-o', join(path, 'libnvidia-ml.so.1'), ...flags, source]);
  return path;
}

function row(what: string, target: string, figure: string, met: boolean): void {
  rows.push({ what, target, figure, met });
}

async function timed(work: () => Promise<void>): Promise<number> {
  const startedAt = performance.now();
  await work();
  return performance.now() - startedAt;
}

console.log(`node ${process.version}, ${ROUNDS} rounds, medians`);
console.table(rows);
const [load = 0] = loadavg();
keepResults(RESULTS, { rounds: ROUNDS, loadOver1Min: Number(load.toFixed(1)), rows });
