/**
 * The object store beside its peers: `npm run bench:objects [-- --quick] [-- --million] [-- --only <row>] [-- --dir <folder>]`.
 *
 * All contenders of a row take turns within a round, the first another one each time, so that whatever else the machine
 * does falls on all alike. A turn lasts a fixed time; its figure is operations a second. Each contender's is the median
 * of its rounds, and a ratio is the median of the rounds' ratios. The first round warms up and is not counted. Every put
 * is of fresh bytes but where the row says "again"; nothing is removed between rounds, which slows ext4 for minutes.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { drawBars } from './chart.js';
import { million } from './objects/million.js';
import { openFloor, openOurs } from './objects/ours.js';
import { type Contender, PEERS, versionOf } from './objects/peers.js';
import { type Row, round, rowOf } from './objects/rows.js';
import { peakRss, streams, takeTurns } from './objects/streams.js';
import { Blobs, medians, ratio, type Series, turns } from './objects/turns.js';
import { keepResults } from './results.js';

const RESULTS = 'bench/results/objects.json';
const CHART = 'docs/objects-bench.svg';

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    million: { type: 'boolean', default: false },
    only: { type: 'string' },
    dir: { type: 'string', default: tmpdir() },
    child: { type: 'string' },
    turns: { type: 'string' },
  },
  allowPositionals: false,
});

if (options.child !== undefined) await peakRss(options.child);
else if (options.turns !== undefined) await takeTurns(options.turns);
else await main();

async function main(): Promise<void> {
  const { quick } = options;
  const rounds = quick ? 5 : 9;
  const turnMs = quick ? 150 : 600;
  const folder = mkdtempSync(join(options.dir, 'rollout-bench-objects-'));
  const rows: Row[] = [];
  const wanted = (name: string) => options.only === undefined || name.includes(options.only);
  const show = (row: Row) => {
    rows.push(row);
    console.log(`${{ true: 'met    ', false: 'NOT MET', null: '       ' }[`${row.met}`]}  ${row.name}: ${row.figure}`);
    console.log(`         target ${row.target}; ${row.detail}`);
  };
  console.log(
    `node ${process.version}, ${cpus().length} × ${cpus()[0]?.model}, ${rounds} rounds of ${turnMs} ms, ${folder}`,
  );
  try {
    const { contenders, left } = await openPeers(folder);
    for (const [peer, why] of left) console.log(`left out: ${peer}: ${why}`);
    const none = await openOurs(join(folder, 'none'), 'none');
    const full = await openOurs(join(folder, 'full'), 'full');
    const floor = await openFloor(join(folder, 'floor'));
    const fullFloor = await openFloor(join(folder, 'full-floor'), 'full');
    const blobs = new Blobs(4_096);
    const measure = (who: Pick<Contender, 'name'>[], act: (name: string) => (n: number) => unknown, inFlight = 1) =>
      turns({ who: who.map(({ name }) => name), rounds, turnMs, inFlight, act });
    const byName = new Map<string, Contender | typeof floor>(
      [...contenders, none, full, floor, fullFloor].map((each) => [each.name, each]),
    );
    const counts = new Map<string, number>();
    const putFresh = (name: string) => {
      const contender = byName.get(name) as Contender;
      return () => {
        const n = counts.get(name) ?? 0;
        counts.set(name, n + 1);
        return contender.put(n, blobs.fresh());
      };
    };
    const others = contenders.map(({ name }) => name);

    const puts = await measure([...contenders, floor, fullFloor, none, full], putFresh);
    if (wanted('put')) {
      const best = fastest(puts, others);
      const beside = [`${x(ratio(puts, none.name, 'cacache'))} cacache`, `${x(ratio(puts, none.name, best))} ${best}`];
      const ratios = [ratio(puts, none.name, 'cacache'), ratio(puts, none.name, best), ratio(puts, none.name, 'floor')];
      show(
        rowOf(
          'put one at a time, none',
          '≥ 20× cacache, ≥ 4× the fastest peer, ≥ 0.8× the floor',
          ratios,
          [20, 4, 0.8],
          {
            figure: [...beside, `${x(ratios[2])} floor`].join(', '),
            series: puts,
          },
        ),
      );
      show(
        rowOf('put one at a time, full', '≥ 1.3× cacache', [ratio(puts, full.name, 'cacache')], [1.3], {
          figure: `${x(ratio(puts, full.name, 'cacache'))} cacache, ${x(ratio(puts, full.name, fullFloor.name))} floor`,
          series: puts,
        }),
      );
    }

    if (wanted('put 64')) {
      const cacache = contenders.filter(({ name }) => name === 'cacache');
      const many = await measure([...cacache, fullFloor, full], putFresh, 64);
      const alone = await measure([full], putFresh);
      const overOne = (medians(many)[full.name] ?? 0) / (medians(alone)[full.name] ?? 1);
      const ratios = [ratio(many, full.name, 'cacache'), overOne];
      show(
        rowOf('put 64 in flight, full', '≥ 2× cacache at 64 in flight, ≥ 4× one at a time', ratios, [2, 4], {
          figure: `${x(ratios[0])} cacache, ${x(ratios[1])} one at a time, ${x(ratio(many, full.name, fullFloor.name))} floor`,
          series: many,
        }),
      );
    }

    if (wanted('put again')) {
      const known = 64;
      const same = Array.from({ length: known }, () => blobs.fresh());
      for (const each of [...contenders, full]) for (const [n, bytes] of same.entries()) await each.put(-1 - n, bytes);
      const again = await measure([...contenders, full], (name) => {
        const contender = byName.get(name) as Contender;
        let n = 0;
        return () => contender.put(-1 - (n % known), same[n++ % known] as Buffer);
      });
      show(
        rowOf('put again, full', '≥ 100× cacache', [ratio(again, full.name, 'cacache')], [100], {
          figure: `${x(ratio(again, full.name, 'cacache'))} cacache`,
          series: again,
        }),
      );
    }

    if (wanted('get')) {
      const gets = await measure([...contenders, floor, full], (name) => {
        const contender = byName.get(name) as Contender;
        // Blobs of the warm-up and later rounds, in order: all are in the page cache, for all alike.
        const count = Math.min(200, counts.get(name) ?? 0);
        let n = 0;
        return () => contender.get(n++ % count);
      });
      const best = fastest(
        gets,
        others.filter((name) => name !== 'cacache'),
      );
      const ratios = [ratio(gets, full.name, 'cacache'), ratio(gets, full.name, best)];
      show(
        rowOf('get, verified', '≥ 20× cacache, ≥ 8× the fastest other peer', ratios, [20, 8], {
          figure: `${x(ratios[0])} cacache, ${x(ratios[1])} ${best}, ${x(ratio(gets, full.name, 'floor'))} floor`,
          series: gets,
        }),
      );
    }

    if (wanted('stream')) for (const row of await streams(quick)) show(row);
    if (options.million) for (const row of await million(folder)) show(row);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  const met = rows.filter((row) => row.met).length;
  console.log(`${met} of ${rows.length} rows met`);
  if (options.only !== undefined) return;
  const peers = Object.fromEntries(Object.keys(PEERS).map((peer) => [peer, versionOf(peer)]));
  keepResults(RESULTS, { quick, rounds, turnMs, peers, rows });
  if (!quick) writeFileSync(CHART, chartOf(rows));
}

async function openPeers(folder: string): Promise<{ contenders: Contender[]; left: [string, string][] }> {
  const contenders: Contender[] = [];
  const left: [string, string][] = [];
  for (const [name, open] of Object.entries(PEERS)) {
    try {
      contenders.push(await open(join(folder, name)));
    } catch (error) {
      left.push([name, String(error).split('\n')[0] ?? '']);
    }
  }
  return { contenders, left };
}

function fastest(series: Series, among: readonly string[]): string {
  const of = medians(series);
  return [...among].sort((a, b) => (of[b] ?? 0) - (of[a] ?? 0))[0] ?? 'no peer';
}

function x(value: number | undefined): string {
  return `${round(value ?? Number.NaN)}×`;
}

function chartOf(rows: readonly Row[]): string {
  return drawBars({
    title: 'Object store beside its peers',
    note: `node ${process.version}, medians, higher is better. npm run bench:objects`,
    groups: rows
      .filter(({ unit }) => unit !== null)
      .map(({ name, unit, values }) => ({
        title: `${name} (${unit})`,
        bars: Object.entries(values).map(([label, value]) => ({
          label,
          value,
          isOurs: label.startsWith('rollout-cloud'),
        })),
      })),
  });
}
