/**
 * Whether the object store loses anything: `npm run torture:objects -- [--minutes n | --kills n] [--seed n] [--durability d]`.
 *
 * Processes put, read, delete, collect and verify over one root, and are SIGKILLed at random moments and replaced. What
 * they were promised is in a ledger here, outside the store. Checked all the while:
 *
 * - a blob that is visible matches its id, whoever was killed over it (hashed here, by the other library);
 * - an object whose put resolved, which nobody deletes and every collection keeps, is there;
 * - an object that no collection keeps is there for its grace after each put, though it was old before;
 * - what is left at the end of drafts and of interrupted collections is swept and put back by the next ones.
 *
 * Prints what was done and each difference; exit code 1 when there is one. A seed repeats the plan of each process, not
 * the moments at which they meet.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { blake3 } from 'hash-wasm';
import type { Durability } from '../src/adapters/cloud-local/object-store/layout.js';
import { FsObjectStore } from '../src/adapters/cloud-local/object-store.js';
import { isCoreError } from '../src/contracts/errors.js';
import type { ContentId } from '../src/contracts/ids.js';

/** Objects: each number has bytes of its own. By the remainder of 3: kept for good, left to collections, deleted. */
const OBJECTS = 120;
const [KEPT, COLLECTED] = [0, 1];

/** A put touches what is older than this, so that collections of this grace are safe. */
const TOUCH_AGE_MS = 400;
const GRACE_MS = 1_200;

const WORKERS = 3;

/** Calls that a worker has under way. */
const LANES = 6;
const KILL_AFTER_MS_MAX = 600;

/** A small generator of numbers from a seed (mulberry32), so that a plan can be had again. */
function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The bytes of an object: from none to 3 MB, most of them small. */
function bytesOf(n: number): Buffer {
  const size = n % 40 === 7 ? 1_500_000 + n * 5_000 : (n * 7_919) % 60_000;
  return Buffer.alloc(size, `object ${n} `);
}

async function* chunksOf(bytes: Buffer): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += 50_000) yield bytes.subarray(at, at + 50_000);
}

function open(root: string, durability: Durability): Promise<FsObjectStore> {
  return FsObjectStore.open(root, { durability }, { touchAgeMs: TOUCH_AGE_MS });
}

const say = (line: string) => writeSync(1, `${line}\n`);

/** Puts, reads and deletes until it is killed. Says `put <n>` of what was promised, and `! …` of what is wrong. */
async function work(root: string, durability: Durability, seed: number): Promise<void> {
  const store = await open(root, durability);
  await Promise.all(Array.from({ length: LANES }, (_, lane) => workAlone(store, randomFrom(seed + lane))));
}

async function workAlone(store: FsObjectStore, random: () => number): Promise<never> {
  for (;;) {
    const n = Math.floor(random() * OBJECTS);
    const bytes = bytesOf(n);
    const startedMs = performance.now();
    const id = await (random() < 0.3 ? store.putStream(chunksOf(bytes)) : store.putBytes(bytes));
    say(`put ${n}`);
    if (n % 3 > COLLECTED) {
      if (random() < 0.5) await store.delete(id);
      continue;
    }
    if (random() < 0.3) await sleep(random() * 500);
    const read = await store.getBytes(id).catch((error) => error as Error);
    const ageMs = performance.now() - startedMs;
    if (read instanceof Error) {
      const missing = isCoreError(read) && read.code === 'OBJECT_NOT_FOUND';
      if (!missing || n % 3 === KEPT || ageMs < GRACE_MS - TOUCH_AGE_MS) {
        say(`! object ${n}, put ${Math.round(ageMs)} ms ago: ${read.message}`);
      }
    } else if (!bytes.equals(read)) say(`! object ${n} has other bytes`);
  }
}

/** Collects over and over, keeping what is for good, until it is killed. */
async function collect(root: string, durability: Durability, seed: number): Promise<void> {
  const random = randomFrom(seed);
  const store = await open(root, durability);
  const ids = await Promise.all(Array.from({ length: OBJECTS }, (_, n) => blake3(bytesOf(n))));
  const keep = ids.filter((_, n) => n % 3 === KEPT) as ContentId[];
  for (;;) {
    const { removed, broughtBack, restored } = await store.gc({ keep, graceMs: GRACE_MS, removalsPerSMax: 100_000 });
    say(`gc ${removed} ${broughtBack} ${restored}`);
    await sleep(random() * 60);
  }
}

/** Reads everything there is, over and over, until it is killed. */
async function verify(root: string, durability: Durability): Promise<void> {
  const store = await open(root, durability);
  for (;;) {
    for await (const id of store.list()) {
      await store.getBytes(id).catch((error) => {
        if (!isCoreError(error) || error.code !== 'OBJECT_NOT_FOUND') say(`! ${id}: ${error}`);
      });
    }
    say('verified');
    await sleep(50);
  }
}

const ROLES = { work, collect, verify };
type Role = keyof typeof ROLES;

class Torture {
  readonly root = mkdtempSync(join(tmpdir(), 'rollout-torture-'));
  readonly promised = new Set<number>();
  readonly differences: string[] = [];
  readonly counts = {
    kills: 0,
    puts: 0,
    collections: 0,
    removed: 0,
    broughtBack: 0,
    restored: 0,
    verified: 0,
    looks: 0,
  };
  readonly #random: () => number;
  readonly #children = new Map<ChildProcess, Role>();
  readonly #checked = new Map<string, number>();
  #stopping = false;
  #ids: string[] = [];

  constructor(
    readonly seed: number,
    readonly durability: Durability,
  ) {
    this.#random = randomFrom(seed);
  }

  async run(enough: () => boolean): Promise<void> {
    this.#ids = await Promise.all(Array.from({ length: OBJECTS }, (_, n) => blake3(bytesOf(n))));
    await open(this.root, this.durability);
    for (const role of [...Array<Role>(WORKERS).fill('work'), 'collect', 'verify'] as Role[]) this.#start(role);
    while (!enough() && this.differences.length === 0) {
      await sleep(this.#random() * KILL_AFTER_MS_MAX);
      const all = [...this.#children.keys()];
      const doomed = all[Math.floor(this.#random() * all.length)];
      if (doomed?.kill('SIGKILL')) this.counts.kills += 1;
      if (this.counts.kills % 5 === 0) await this.#look();
    }
    this.#stopping = true;
    const ended = [...this.#children.keys()].map((child) => new Promise((resolve) => child.once('close', resolve)));
    for (const child of this.#children.keys()) child.kill('SIGKILL');
    await Promise.all(ended);
    this.#checked.clear();
    await this.#look();
    await this.#cleanUp();
  }

  #start(role: Role): void {
    const args = [process.argv[1] as string, '--role', role, '--root', this.root];
    const seed = Math.floor(this.#random() * 2 ** 31);
    const child = spawn(process.execPath, [...args, '--seed', `${seed}`, '--durability', this.durability], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.#children.set(child, role);
    createInterface({ input: child.stdout }).on('line', (line) => this.#hear(line));
    child.once('close', (code, signal) => {
      this.#children.delete(child);
      if (signal !== 'SIGKILL')
        this.differences.push(`a process that was to ${role} ended by itself, with ${code ?? signal}`);
      if (!this.#stopping) this.#start(role);
    });
  }

  #hear(line: string): void {
    const [word, ...rest] = line.split(' ');
    if (word === '!') this.differences.push(rest.join(' '));
    if (word === 'put') {
      this.counts.puts += 1;
      this.promised.add(Number(rest[0]));
    }
    if (word === 'gc') {
      const [removed = 0, broughtBack = 0, restored = 0] = rest.map(Number);
      this.counts.collections += 1;
      this.counts.removed += removed;
      this.counts.broughtBack += broughtBack;
      this.counts.restored += restored;
    }
    if (word === 'verified') this.counts.verified += 1;
  }

  /** Every visible blob matches its id, and what was promised for good is there. */
  async #look(): Promise<void> {
    this.counts.looks += 1;
    const promised = [...this.promised].filter((n) => n % 3 === KEPT).map((n) => this.#ids[n] as string);
    const seen = new Set<string>();
    for (const name of readdirSync(this.root, { recursive: true, encoding: 'utf8' })) {
      const [, id] = /^[0-9a-f]{2}\/[0-9a-f]{2}\/([0-9a-f]{64})$/.exec(name) ?? [];
      if (id === undefined) continue;
      let bytes: Buffer;
      try {
        bytes = readFileSync(join(this.root, name));
      } catch (error) {
        // Removed since, or just being moved.
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') continue;
        throw error;
      }
      seen.add(id);
      if (this.#checked.get(id) === bytes.length) continue;
      const found = await blake3(bytes);
      if (found !== id) this.differences.push(`${id} is visible and has the bytes of ${found} (${bytes.length})`);
      this.#checked.set(id, bytes.length);
    }
    // A listing is not of one moment: what it missed is asked for.
    const store = await open(this.root, this.durability);
    for (const id of promised) {
      if (!seen.has(id) && !(await store.exists(id as ContentId)))
        this.differences.push(`${id} was promised, and is gone`);
    }
  }

  /** What was left half-done goes with the next open and the next collection. */
  async #cleanUp(): Promise<void> {
    const drafts = readdirSync(join(this.root, 'tmp'));
    for (const draft of drafts) utimesSync(join(this.root, 'tmp', draft), 0, 0);
    const store = await open(this.root, this.durability);
    const keep = this.#ids.filter((_, n) => n % 3 === KEPT) as ContentId[];
    await store.gc({ keep, graceMs: 0 });
    const left = [...readdirSync(join(this.root, 'tmp')), ...readdirSync(join(this.root, 'gc'))];
    if (left.length > 0) this.differences.push(`left after a clean-up: ${left.join(', ')}`);
    for await (const id of store.list()) {
      if (!keep.includes(id)) this.differences.push(`${id} was to be collected, and is there`);
    }
    await this.#look();
    console.log(`${drafts.length} drafts were left, and swept`);
  }
}

const { values } = parseArgs({
  options: {
    minutes: { type: 'string' },
    kills: { type: 'string' },
    seed: { type: 'string', default: `${Date.now() % 1_000_000}` },
    durability: { type: 'string', default: 'full' },
    role: { type: 'string' },
    root: { type: 'string' },
  },
});
const seed = Number(values.seed);
const durability = values.durability as Durability;
if (values.role !== undefined) await ROLES[values.role as Role](values.root as string, durability, seed);
else {
  const endMs = Date.now() + Number(values.minutes ?? 0) * 60_000;
  const killsMax = Number(values.kills ?? (values.minutes === undefined ? 500 : 0));
  const torture = new Torture(seed, durability);
  console.log(`seed ${seed}, durability ${durability}, ${OBJECTS} objects, in ${torture.root}`);
  await torture.run(() => torture.counts.kills >= killsMax && Date.now() >= endMs);
  console.log(
    Object.entries(torture.counts)
      .map(([name, n]) => `${n} ${name}`)
      .join(', '),
  );
  console.log(`${torture.differences.length} differences`);
  for (const difference of torture.differences) console.log(`- ${difference}`);
  if (torture.differences.length === 0) rmSync(torture.root, { recursive: true, force: true });
  process.exit(torture.differences.length === 0 ? 0 : 1);
}
