/**
 * What a commit and a read cost: `npm run bench:storage [-- rounds]`.
 *
 * Every case has a database of its own under `bench/data` (a real disk: /tmp may be memory), 256 B values under rising
 * keys, as a queue writes them. The cases take turns, one slice of time each a round, so that whatever else the machine
 * does falls on all alike; medians of the rounds, and ratios to plainjob at FULL, where it is installed (`npm
 * ci --prefix bench`). Results go to bench/results/storage.json, by version of Node.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createRequire, isBuiltin } from 'node:module';
import { join, resolve } from 'node:path';
import { performance } from 'node:perf_hooks';
import { NodeSqliteStorage } from '../src/adapters/cloud-local/node-sqlite-storage.js';
import { SqliteStorage } from '../src/adapters/cloud-local/sqlite-storage.js';
import type { Storage, StorageDurability } from '../src/contracts/storage.js';
import { keepResults, median } from './results.js';

const ROUNDS = Math.max(1, Number(process.argv[2] ?? 7));
const SLICE_MS = Number(process.argv[3] ?? 500);
const RESULTS = 'bench/results/storage.json';
const PAYLOAD = new Uint8Array(256).fill(7);

/** One thing measured: `go` runs until `untilMs` and answers how many operations it did. */
interface Case {
  readonly name: string;
  go(untilMs: number): Promise<number>;
}

mkdirSync('bench/data', { recursive: true });
const folder = mkdtempSync(resolve('bench/data/storage-'));
const cleanups: (() => unknown)[] = [];
let keys = 0;

function putOne(storage: Storage, durability?: StorageDurability): Promise<boolean> {
  const txn = storage.begin();
  txn.put({ namespace: 'bench', path: [String(keys++).padStart(16, '0')] }, PAYLOAD);
  return txn.commit(durability === undefined ? {} : { durability });
}

/** `width` workers, each one operation after the other. */
async function run(width: number, untilMs: number, once: () => Promise<unknown>): Promise<number> {
  let done = 0;
  const worker = async () => {
    while (performance.now() < untilMs) {
      await once();
      done += 1;
    }
  };
  await Promise.all(Array.from({ length: width }, worker));
  return done;
}

async function casesOf(engine: string, open: (file: string) => Promise<Storage>): Promise<Case[]> {
  const storage = await open(join(folder, `${engine}.db`));
  cleanups.push(() => storage.close());
  const known = Array.from({ length: 10_000 }, (_, i) => ({ namespace: 'read', path: [String(i)] }));
  const filling = storage.begin();
  for (const key of known) filling.put(key, PAYLOAD);
  await filling.commit();
  let at = 0;
  const get = () => storage.get(known[at++ % known.length] as (typeof known)[number]);
  return [
    { name: `${engine}: commit, one at a time`, go: (untilMs) => run(1, untilMs, () => putOne(storage)) },
    { name: `${engine}: commit, 64 in flight`, go: (untilMs) => run(64, untilMs, () => putOne(storage)) },
    {
      name: `${engine}: commit at normal, one at a time`,
      go: (untilMs) => run(1, untilMs, () => putOne(storage, 'normal')),
    },
    { name: `${engine}: get, one at a time`, go: (untilMs) => run(1, untilMs, get) },
    { name: `${engine}: get, 64 in flight`, go: (untilMs) => run(64, untilMs, get) },
  ];
}

/** What is used of it: its own types come only with the peers. */
interface Plainjob {
  better(database: unknown): { pragma(text: string): void };
  defineQueue(options: object): { add(type: string, data: string): unknown; close(): void };
}

/** The peer, where it is installed: a queue on better-sqlite3. `add` is its commit. */
function plainjob(synchronous: 'FULL' | 'NORMAL'): Case[] {
  const require = createRequire(resolve('bench/package.json'));
  let modules: { plain: Plainjob; Database: new (file: string) => { close(): void } };
  try {
    modules = { plain: require('plainjob'), Database: require('better-sqlite3') };
    new modules.Database(':memory:').close();
  } catch {
    console.log('plainjob is not installed for this Node (npm ci --prefix bench): measured without it');
    return [];
  }
  const { plain, Database } = modules;
  const connection = plain.better(new Database(join(folder, `plainjob-${synchronous}.db`)));
  const queue = plain.defineQueue({ connection, logger: { error() {}, warn() {}, info() {}, debug() {} } });
  connection.pragma(`synchronous = ${synchronous}`);
  cleanups.push(() => queue.close());
  const data = 'x'.repeat(250);
  return [
    {
      name: `plainjob at ${synchronous}: add`,
      go: (untilMs) => run(1, untilMs, async () => queue.add('bench', data)),
    },
  ];
}

const PEER = 'plainjob at FULL: add';
const cases = [
  ...plainjob('FULL'),
  ...plainjob('NORMAL'),
  ...(await casesOf('sqlite3', (file) => SqliteStorage.open(file))),
  ...(isBuiltin('node:sqlite') ? await casesOf('node', (file) => NodeSqliteStorage.open(file)) : []),
];
const rates = new Map<Case, number[]>(cases.map((each) => [each, []]));
/** How late a timer of 1 ms came, ms, over all rounds of a case. */
const stalls = new Map<Case, number[]>(cases.map((each) => [each, []]));
try {
  for (let round = 0; round <= ROUNDS; round++) {
    for (const each of cases) {
      const startedAt = performance.now();
      let lastMs = startedAt;
      const timer = setInterval(() => {
        if (round > 0) stalls.get(each)?.push(performance.now() - lastMs - 1);
        lastMs = performance.now();
      }, 1);
      const done = await each.go(startedAt + SLICE_MS);
      clearInterval(timer);
      const rate = (done / (performance.now() - startedAt)) * 1_000;
      if (round > 0) rates.get(each)?.push(rate);
    }
  }
} finally {
  for (const cleanUp of cleanups) await cleanUp();
  rmSync(folder, { recursive: true, force: true });
}

const peer = cases.find(({ name }) => name === PEER);
const base = peer === undefined ? Number.NaN : medianOf(peer);
const results = cases.map((each) => ({
  name: each.name,
  perSecond: Math.round(medianOf(each)),
  toPlainjobFull: Number((medianOf(each) / base).toFixed(2)),
  stallP99Ms: Number(stallOf(each, 0.99).toFixed(1)),
  stallMaxMs: Number(stallOf(each, 1).toFixed(1)),
}));
console.log(`node ${process.version}, ${ROUNDS} rounds of ${SLICE_MS} ms, medians`);
console.table(results);
if (ROUNDS >= 5) {
  keepResults(RESULTS, { rounds: ROUNDS, results });
}

function medianOf(of: Case): number {
  return median(rates.get(of) ?? []);
}

function stallOf(of: Case, share: number): number {
  const sorted = [...(stalls.get(of) ?? [])].sort((a, b) => a - b);
  return sorted[Math.ceil(sorted.length * share) - 1] ?? 0;
}
