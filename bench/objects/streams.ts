/** Rows of large objects: throughput on a RAM disk, where the disk does not hide what the code costs, and memory. */
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { openOurs } from './ours.js';
import { type Contender, PEERS } from './peers.js';
import { type Row, round, rowOf } from './rows.js';
import { medians, ratio, type Series } from './turns.js';

const MIB = 1_048_576;
const RAM_DISK = '/dev/shm';
const CHUNK_BYTES = 65_536;
const RSS_MAX_MIB = 160;

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
  try {
    for (let turn = 0; turn <= rounds; turn++) {
      const who = [...Object.keys(PEERS), 'rollout-cloud'];
      for (let n = 0; n < who.length; n++) {
        const name = who[(n + turn) % who.length] as string;
        const own = join(folder, name);
        let contender: Contender;
        try {
          contender = await (PEERS[name]?.(own) ?? openOurs(own, 'none'));
        } catch {
          continue;
        }
        const rate = (startedMs: number) => size / MIB / ((performance.now() - startedMs) / 1_000);
        let startedMs = performance.now();
        await contender.putStream(turn, chunks(size, turn));
        const put = rate(startedMs);
        startedMs = performance.now();
        if ((await contender.getStream(turn)) !== size) throw new Error(`${name} read another size`);
        const get = rate(startedMs);
        rmSync(own, { recursive: true });
        if (turn === 0) continue;
        puts[name] = [...(puts[name] ?? []), put];
        gets[name] = [...(gets[name] ?? []), get];
      }
    }
    const row = (name: string, series: Series, times: number): Row => {
      const of = medians(series);
      const best = Object.keys(PEERS).sort((a, b) => (of[b] ?? 0) - (of[a] ?? 0))[0] ?? '';
      const value = ratio(series, 'rollout-cloud', best);
      return rowOf(name, `≥ ${times}× the fastest peer`, [value], [times], {
        figure: `${round(value)}× ${best}`,
        series,
        unit: 'MiB/s',
      });
    };
    return [row(names[0] ?? '', puts, 2), row(names[1] ?? '', gets, 1.5), memory(names[2] ?? '', folder, quick)];
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
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
  const measured = [...Object.keys(PEERS), 'rollout-cloud'].map((who): [string, number] => {
    if (quick && who !== 'rollout-cloud') return [who, Number.NaN];
    const child = spawnSync(process.execPath, [process.argv[1] ?? '', '--child', `${who}:${join(folder, 'rss')}`], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    return [who, child.status === 0 ? Number(child.stdout) : Number.NaN];
  });
  const values = Object.fromEntries(measured.filter(([, value]) => Number.isFinite(value)));
  const ours = values['rollout-cloud'] ?? Number.NaN;
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
