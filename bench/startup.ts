/**
 * What starting costs: `npm run bench:startup [-- rounds]`, on the built package.
 *
 * Each run is a process of its own, timed from spawn to exit. The cases take turns, so that whatever else the machine
 * does falls on all alike, and each is compared with a bare `node -e 0` of the same rounds. The first round warms the
 * disk's cache and is not counted. Results go to bench/results/startup.json, by version of Node.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { keepResults, median } from './results.js';

const ROUNDS = Math.max(15, Number(process.argv[2] ?? 25));
const RESULTS = 'bench/results/startup.json';

const folder = mkdtempSync(join(tmpdir(), 'rollout-bench-'));
const config = join(folder, 'plugins.json');
writeFileSync(config, readFileSync('plugins.json'));

interface Case {
  readonly name: string;
  readonly args: readonly string[];
  /** The most that it may take beyond the bare Node of the same rounds. */
  readonly budgetMs?: number;
}

const script = (code: string) => ['--input-type=module', '-e', code];
const program = (...args: string[]) => ['dist/cli/main.js', ...args];

const BARE: Case = { name: 'node -e 0', args: ['-e', '0'] };
const CASES: readonly Case[] = [
  BARE,
  { name: 'an empty module', args: script('') },
  { name: "import 'rollout-cloud'", args: script("import 'rollout-cloud'"), budgetMs: 40 },
  {
    name: 'createHost, five bindings',
    args: script(`import { createHost } from 'rollout-cloud'; await createHost({ config: ${JSON.stringify(config)} })`),
  },
  { name: '--version', args: program('--version'), budgetMs: 60 },
  { name: '--help', args: program('--help') },
  { name: 'plugins list', args: program('--config', config, 'plugins', 'list'), budgetMs: 150 },
];

const times = new Map<Case, number[]>(CASES.map((each) => [each, []]));
try {
  for (let round = 0; round <= ROUNDS; round++) {
    for (const each of CASES) {
      const startedAt = performance.now();
      const { status, stderr } = spawnSync(process.execPath, each.args, { stdio: ['ignore', 'ignore', 'pipe'] });
      const tookMs = performance.now() - startedAt;
      if (status !== 0) throw new Error(`${each.name} exited with ${status}: ${stderr}`);
      if (round > 0) times.get(each)?.push(tookMs);
    }
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}

const bareMs = medianOf(BARE);
const results = CASES.map((each) => {
  const medianMs = medianOf(each);
  const { name, budgetMs = null } = each;
  return { name, medianMs, overBareMs: round(medianMs - bareMs, 1), ratio: round(medianMs / bareMs, 2), budgetMs };
});

console.log(`node ${process.version}, ${ROUNDS} rounds, medians`);
console.table(results);
keepResults(RESULTS, { rounds: ROUNDS, results });

function medianOf(of: Case): number {
  return round(median(times.get(of) ?? []), 1);
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
