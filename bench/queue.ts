/**
 * What the queue does in a second, beside its peers: `npm run bench:queue [-- --quick]`.
 *
 * Each round gives every contender a fresh folder and the same loads, one contender after the other, so that whatever
 * else the machine does falls on all alike; the first round warms up and is not counted. Rows that need a process of their
 * own (memory, reopen) follow; the ten million items are last, in what is left of ten minutes. Figures are medians over
 * the rounds, ratios medians of the rounds' ratios. All of it goes to bench/results/queue.json by version of Node, and with
 * `--chart` to docs/queue-bench.svg.
 *
 * `--quick` takes under two minutes: shorter loads, and not the ten million items; it writes nothing, as it would write
 * over a whole sweep. Nor does `--only a,b`, which measures those whose name has one of the texts.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { drawBars } from './chart.js';
import { alone, NotDone, runAlone } from './queue/alone.js';
import { type Figures, IN_FLIGHT, measure, PAYLOAD_BYTES } from './queue/cells.js';
import { contenders, OURS } from './queue/contenders.js';
import { atMost, type Row, rateRows } from './queue/targets.js';
import { keepResults, median } from './results.js';

const RESULTS = 'bench/results/queue.json';
const CHART = 'docs/queue-bench.svg';

const ROUNDS_MIN = 5;
const CELL_MS = { quick: 150, full: 600 };

/** A sweep takes no longer: a row that has not enough of it left is told as not measured. */
const SWEEP_MS_MAX = 585_000;

const isChild = process.argv[2] === '--alone';
const { values: asked } = parseArgs({
  args: isChild ? [] : process.argv.slice(2),
  options: {
    quick: { type: 'boolean', default: false },
    chart: { type: 'boolean', default: false },
    only: { type: 'string' },
    rounds: { type: 'string', default: String(ROUNDS_MIN) },
  },
});

if (isChild) await runAlone(process.argv.slice(3));
else await sweep();

async function sweep(): Promise<void> {
  const { able, missing } = contenders();
  const wanted = asked.only?.split(',');
  const chosen = able.filter(({ name }) => wanted === undefined || wanted.some((text) => name.includes(text)));
  if (chosen.length === 0) {
    throw new Error(`--only ${asked.only} is none of these: ${able.map(({ name }) => name).join('; ')}`);
  }
  const rounds = Number(asked.rounds);
  const roundsMin = wanted === undefined ? ROUNDS_MIN : 1;
  if (!Number.isInteger(rounds) || rounds < roundsMin) {
    throw new Error(`--rounds is a whole number from ${roundsMin} on, found ${asked.rounds}`);
  }
  const cellMs = asked.quick ? CELL_MS.quick : CELL_MS.full;
  const figures = new Map<string, Figures[]>(chosen.map(({ name }) => [name, []]));
  const startedAt = performance.now();
  /** How many others wanted the processors before it began: with more than a few, the times tell little. */
  const [loadBefore = 0] = loadavg();
  const rows: Row[] = [];
  await withFolder(async (folder) => {
    for (let round = 0; round <= rounds; round += 1) {
      for (const contender of chosen) {
        const own = mkdtempSync(join(folder, 'round-'));
        const found = await measure(contender, own, round === 0 ? cellMs / 3 : cellMs);
        rmSync(own, { recursive: true, force: true });
        if (round > 0) figures.get(contender.name)?.push(found);
      }
    }
  });
  if (wanted === undefined) rows.push(...rateRows(figures), ...(await rowsAlone(startedAt + SWEEP_MS_MAX)));

  console.log(
    `node ${process.version}, ${cpus().length} × ${cpus()[0]?.model}, load ${loadBefore.toFixed(1)} before, ${PAYLOAD_BYTES} B, ${rounds} rounds of ${cellMs} ms a load, medians, operations a second; many: ${IN_FLIGHT} in flight`,
  );
  const medians = Object.fromEntries([...figures].map(([name, found]) => [name, mediansOf(found)]));
  console.table(medians);
  for (const text of missing) console.log(`not measured: ${text}`);
  if (wanted !== undefined) return;
  console.table(rows.map(({ met, ...rest }) => ({ ...rest, met: met === null ? '' : met ? 'met' : 'not met' })));
  const tookS = Math.round((performance.now() - startedAt) / 1000);
  console.log(`${tookS} s`);
  if (asked.quick) return;

  const run = { cellMs, tookS, loadBefore, missing, rows, medians, rounds: Object.fromEntries(figures) };
  keepResults(RESULTS, run);
  if (asked.chart) writeFileSync(CHART, chartOf(medians));
}

async function rowsAlone(untilMs: number): Promise<Row[]> {
  const rows: Row[] = [];
  const left = () => Math.max(1, untilMs - performance.now());
  await withFolder(async (folder) => {
    const fresh = (name: string) => mkdtempSync(join(folder, name));
    const { rssMb: emptyMb = 0 } = await alone('empty', 0, '', left());
    const pending = await alone('pending', 1_000_000, fresh('pending-'), left());
    const overMb = (pending.rssMb ?? Number.NaN) - emptyMb;
    rows.push(atMost('1 M × 64 B pending, above an empty process', 200, 'MB', overMb));
    const folders = fresh('reopen-');
    await alone('make', 100_000, folders, left());
    const reopened = await alone('reopen', 100_000, folders, left());
    const { scanMs = 0, openMs = 0, cpuRatio = 0, stallMs = 0, worstStallMs = 0 } = reopened;
    const times = ` (${openMs.toFixed(0)} ms against ${scanMs.toFixed(0)}; processor time ${cpuRatio.toFixed(2)} ×)`;
    rows.push(atMost('reopen with 100 k pending, of the bare scan', 1.2, '×', openMs / scanMs, times));
    rows.push(
      atMost(
        'longest loop stall while it opens',
        15,
        'ms',
        stallMs,
        ` (the longest of all ${worstStallMs.toFixed(1)})`,
      ),
    );
    const row = '10 M × 256 B pending opens, enqueues and drains, largest resident size';
    if (asked.quick) {
      rows.push({ row, target: '≤ 512 MB', figure: 'not measured: not with --quick', met: null });
      return;
    }
    try {
      const backlog = await alone('backlog', 10_000_000, fresh('backlog-'), left());
      const { maxRssMb = 0, fillS = 0, openS = 0, drainS = 0 } = backlog;
      const parts = ` (filled in ${fillS.toFixed(0)} s, opened in ${openS.toFixed(0)}, drained in ${drainS.toFixed(0)})`;
      rows.push(atMost(row, 512, 'MB', maxRssMb, parts));
    } catch (error) {
      if (!(error instanceof NotDone)) throw error;
      rows.push({
        row,
        target: '≤ 512 MB',
        figure: `not measured: ${error.message}, what the sweep had left`,
        met: null,
      });
    }
  });
  return rows;
}

function mediansOf(found: readonly Figures[]): Record<string, number> {
  const cells = Object.keys(found[0] ?? {}) as (keyof Figures)[];
  return Object.fromEntries(
    cells.map((cell) => {
      const value = median(found.map((figures) => figures[cell] ?? Number.NaN));
      return [cell, value < 100 ? Math.round(value * 100) / 100 : Math.round(value)];
    }),
  );
}

function chartOf(medians: Readonly<Record<string, Record<string, number>>>): string {
  const group = (title: string, cell: string) => ({
    title: `${title}, operations a second`,
    bars: Object.entries(medians)
      .filter(([name]) => !name.endsWith('local.memory'))
      .flatMap(([name, cells]) => {
        const value = cells[cell];
        return value === undefined ? [] : [{ label: name.replace(OURS, ''), value, isOurs: name.startsWith(OURS) }];
      }),
  });
  return drawBars({
    title: 'Queue local.in-mem beside its peers',
    note: `node ${process.version}, ${PAYLOAD_BYTES} B items, medians, higher is better. npm run bench:queue`,
    groups: [
      group(`Enqueue, ${IN_FLIGHT} in flight`, 'enqueueMany'),
      group(`Take and ack, ${IN_FLIGHT} in flight`, 'ackMany'),
      group('Enqueue, one at a time', 'enqueueOne'),
      group('Take and ack, one at a time', 'ackOne'),
    ],
  });
}

async function withFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'rollout-bench-queue-'));
  try {
    await work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
