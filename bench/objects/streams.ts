/**
 * Rows of large objects: throughput on a RAM disk, where the disk does not hide what the code costs, and memory.
 *
 * Each contender lives in a process of its own, which is told its turns: in one process, what some leave behind outside
 * V8's heap has it collect garbage far more often, which halved the rate of those that hand out fresh memory.
 */
import { type ChildProcess, fork, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { openOurs } from './ours.js';
import { PEERS } from './peers.js';
import { type Row, round, rowOf } from './rows.js';
import { medians, ratio, type Series } from './turns.js';

const MIB = 1_048_576;
const RAM_DISK = '/dev/shm';
const CHUNK_BYTES = 65_536;
const RSS_MAX_MIB = 160;
const OURS = 'rollout-cloud';
const OWN_BUFFER = `${OURS}, own buffer`;

export async function streams(quick: boolean): Promise<Row[]> {
  const size = (quick ? 256 : 1_024) * MIB;
  const rounds = quick ? 3 : 5;
  const names = [
    `${size / MIB} MiB stream put`,
    `${size / MIB} MiB stream get, verified`,
    'peak RSS of a 1 GiB put and get',
  ];
  // One contender's at a time, and a copy on its way.
  const roomBytes = size * 2.5;
  if (!existsSync(RAM_DISK) || freeBytes() < roomBytes) {
    return names.map((name) => ({
      ...{ name, target: '', figure: 'not measured', met: null, unit: null, values: {}, series: {} },
      detail: `no RAM disk with room for ${roomBytes / MIB} MiB at ${RAM_DISK}`,
    }));
  }
  const folder = mkdtempSync(join(RAM_DISK, 'rollout-bench-'));
  const puts: Record<string, number[]> = {};
  const gets: Record<string, number[]> = {};
  const children = new Map<string, ChildProcess>();
  try {
    for (const name of [...Object.keys(PEERS), OURS]) {
      const child = fork(process.argv[1] ?? '', ['--turns', `${size}:${name}:${join(folder, name)}`]);
      const [opened] = (await Promise.race([once(child, 'message'), once(child, 'exit')])) as [unknown];
      if (opened === 'open') children.set(name, child);
    }
    for (let turn = 0; turn <= rounds; turn++) {
      const who = [...children];
      for (let n = 0; n < who.length; n++) {
        const [name, child] = who[(n + turn) % who.length] as [string, ChildProcess];
        child.send(turn);
        const [rates] = (await Promise.race([once(child, 'message'), once(child, 'exit')])) as [Rates | number];
        if (typeof rates === 'number') throw new Error(`${name} ended with ${rates}`);
        if (turn === 0) continue;
        puts[name] = [...(puts[name] ?? []), rates.put];
        gets[name] = [...(gets[name] ?? []), rates.get];
        if (rates.getInto !== undefined) gets[OWN_BUFFER] = [...(gets[OWN_BUFFER] ?? []), rates.getInto];
      }
    }
    const row = (name: string, series: Series, times: number): Row => {
      const of = medians(series);
      const best = Object.keys(PEERS).sort((a, b) => (of[b] ?? 0) - (of[a] ?? 0))[0] ?? '';
      const value = ratio(series, OURS, best);
      const into =
        OWN_BUFFER in series ? `, ${round(ratio(series, OWN_BUFFER, best))}× into the reader's own buffer` : '';
      return rowOf(name, `≥ ${times}× the fastest peer`, [value], [times], {
        figure: `${round(value)}× ${best}${into}`,
        series,
        unit: 'MiB/s',
      });
    };
    return [row(names[0] ?? '', puts, 2), row(names[1] ?? '', gets, 1.5), memory(names[2] ?? '', folder, quick)];
  } finally {
    for (const child of children.values()) child.disconnect();
    rmSync(folder, { recursive: true, force: true });
  }
}

interface Rates {
  readonly put: number;
  readonly get: number;
  readonly getInto: number | undefined;
}

/** In a process of its own: puts and gets when told to, each time fresh bytes, and answers with MiB a second. */
export async function takeTurns(task: string): Promise<void> {
  const [, bytes = '', who = '', folder = ''] = /^(\d+):([^:]+):(.*)$/s.exec(task) ?? [];
  const size = Number(bytes);
  const contender = await (PEERS[who]?.(folder) ?? openOurs(folder, 'none'));
  const rateOf = async (turn: number, act: (turn: number) => Promise<unknown>, expected: unknown) => {
    const startedMs = performance.now();
    const result = await act(turn);
    const rate = size / MIB / ((performance.now() - startedMs) / 1_000);
    if (expected !== undefined && result !== expected) throw new Error(`${who} read another size`);
    return rate;
  };
  process.on('message', async (turn: number) => {
    const put = await rateOf(turn, (n) => contender.putStream(n, chunks(size, n)), undefined);
    const ways = [contender.getStream, contender.getStreamInto].map((way) => way?.bind(contender));
    const rates: (number | undefined)[] = [];
    // The one, then the other first: the second finds memory that the first has freed.
    for (const way of turn % 2 === 0 ? [0, 1] : [1, 0]) {
      const get = ways[way];
      if (get !== undefined) rates[way] = await rateOf(turn, get, size);
    }
    rmSync(folder, { recursive: true });
    process.send?.({ put, get: rates[0], getInto: rates[1] });
  });
  process.send?.('open');
}

function freeBytes(): number {
  const { bavail, bsize } = statfsSync(RAM_DISK);
  return bavail * bsize;
}

/** Chunks as a file's stream has them; the first says which round it is, so that every stream is of fresh bytes. */
function chunks(size: number, seed: number): () => Generator<Buffer, void, void> {
  const noise = randomBytes(4 * MIB);
  return function* () {
    const first = Buffer.from(noise.subarray(0, CHUNK_BYTES));
    first.writeUInt32LE(seed, 0);
    yield first;
    for (let at = CHUNK_BYTES; at < size; at += CHUNK_BYTES) {
      const from = at % noise.byteLength;
      yield noise.subarray(from, from + CHUNK_BYTES);
    }
  };
}

function memory(name: string, folder: string, quick: boolean): Row {
  const target = `≤ ${RSS_MAX_MIB} MiB`;
  const measured = [...Object.keys(PEERS), OURS].map((who): [string, number] => {
    if (quick && who !== OURS) return [who, Number.NaN];
    const child = spawnSync(process.execPath, [process.argv[1] ?? '', '--child', `${who}:${join(folder, 'rss')}`], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    return [who, child.status === 0 ? Number(child.stdout) : Number.NaN];
  });
  const values = Object.fromEntries(measured.filter(([, value]) => Number.isFinite(value)));
  const ours = values[OURS] ?? Number.NaN;
  const detail = Object.entries(values)
    .map(([who, value]) => `${who} ${round(value)}`)
    .join(', ');
  const series = Object.fromEntries(Object.entries(values).map(([who, value]) => [who, [value]]));
  const met = Number.isFinite(ours) ? ours <= RSS_MAX_MIB : null;
  return { name, target, figure: `${round(ours)} MiB`, met, detail: `${detail} MiB`, unit: null, values, series };
}

/** In a process of its own: puts and gets 1 GiB, and prints the most memory that it held, MiB. */
export async function peakRss(task: string): Promise<void> {
  const [who = '', folder = ''] = task.split(/:(.*)/s);
  const contender = await (PEERS[who]?.(folder) ?? openOurs(folder, 'none'));
  const size = 1_024 * MIB;
  await contender.putStream(0, chunks(size, 0));
  if ((await contender.getStream(0)) !== size) throw new Error('read another size');
  rmSync(folder, { recursive: true });
  process.stdout.write(String(process.resourceUsage().maxRSS / 1_024));
}
