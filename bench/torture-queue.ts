/**
 * Nothing resolved is lost: `npm run torture -- [--minutes n] [--target name,…] [--seed n]`.
 *
 * Children enqueue, lease, ack, nack and requeue at random, and are killed with SIGKILL at random moments, also while they
 * open the queue. After each round, with all of them dead, what the database holds is compared with the ledger that they
 * wrote outside it (torture/ledger.ts). At the end everything is worked off: what is then missing, left over or out of
 * order is a difference, too. Prints seed, counts and differences; exits 1 on any. A database with a difference is kept.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, mkdtempSync, openSync, readSync, rmSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { torment } from './torture/child.js';
import { Ledger, MAX_ATTEMPTS } from './torture/ledger.js';
import { type Random, random } from './torture/random.js';
import { TARGETS, type Target } from './torture/targets.js';

/** A child is killed so long after it began to work, at most, ms. */
const LIFE_MS_MAX = 400;
/** How often one is killed before it began to work: while it opens the queue. */
const EARLY_SHARE = 0.1;
/** A child that has not begun after so long hangs: a difference, ms. */
const BEGIN_MS_MAX = 30_000;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      minutes: { type: 'string', default: '1' },
      target: { type: 'string' },
      seed: { type: 'string', default: String(Math.floor(Math.random() * 1e9)) },
      folder: { type: 'string', default: 'bench/data' },
    },
  });
  const seed = Number(values.seed);
  const budgetMs = Number(values.minutes) * 60_000;
  const names = values.target?.split(',');
  const unknown = names?.find((name) => !TARGETS.some((each) => each.name === name));
  if (!(budgetMs > 0) || !Number.isInteger(seed) || unknown !== undefined) {
    console.error(
      `--minutes and --seed are numbers; --target is one or more of ${TARGETS.map((each) => each.name).join()}`,
    );
    process.exitCode = 2;
    return;
  }
  const able = TARGETS.filter(({ name }) => !name.includes('node') || isBuiltin('node:sqlite'));
  const targets = able.filter(({ name }) => names === undefined || names.includes(name));
  for (const { name } of TARGETS)
    if (!able.some((each) => each.name === name)) console.log(`${name}: left out, this Node has no node:sqlite`);
  mkdirSync(values.folder, { recursive: true });
  console.log(`seed ${seed}, ${values.minutes} min over ${targets.map(({ name }) => name).join(', ')}`);
  let differences = 0;
  for (const target of targets) {
    const folder = mkdtempSync(resolve(values.folder, `torture-${target.name}-`));
    const found = await new Run(target, folder, random(seed), seed).go(performance.now() + budgetMs / targets.length);
    differences += found;
    if (found === 0) rmSync(folder, { recursive: true, force: true });
    else console.log(`kept: ${folder}`);
  }
  console.log(`differences: ${differences}`);
  if (differences > 0) process.exitCode = 1;
}

class Run {
  readonly #target: Target;
  readonly #file: string;
  readonly #ledgerFile: string;
  readonly #rnd: Random;
  readonly #seed: number;
  readonly #ledger = new Ledger();
  #read = 0;
  #rest = '';
  #lives = 0;
  #kills = 0;
  #early = 0;
  #differences = 0;

  constructor(target: Target, folder: string, rnd: Random, seed: number) {
    this.#target = target;
    this.#file = join(folder, 'queue.db');
    this.#ledgerFile = join(folder, 'ledger');
    closeSync(openSync(this.#ledgerFile, 'a'));
    this.#rnd = rnd;
    this.#seed = seed;
  }

  async go(untilMs: number): Promise<number> {
    let rounds = 0;
    while (performance.now() < untilMs && this.#differences === 0) {
      await this.#round();
      rounds++;
      this.#catchUp();
      this.#report(this.#ledger.differences(await this.#target.inspect(this.#file), this.#target.lost));
    }
    if (this.#differences === 0) await this.#workOff();
    const { enqueued, acked, requeued, deliveries } = this.#ledger;
    const handedOver = [...deliveries.values()].reduce((sum, { length }) => sum + length, 0);
    console.log(
      `${this.#target.name}: ${rounds} rounds, ${this.#kills} kills (${this.#early} while opening), ${enqueued.size} enqueued, ${handedOver} handed over, ${acked.size} acked, ${requeued.size} requeued, ${this.#differences} differences`,
    );
    return this.#differences;
  }

  #report(differences: readonly string[]): void {
    for (const each of differences.slice(0, 20)) console.log(`  ${each}`);
    this.#differences += differences.length;
  }

  /** Some processes live and die; those that an item killed are replaced, so that it gets at the next one. */
  async #round(): Promise<void> {
    const workers = Array.from({ length: this.#target.processes }, async () => {
      const lives = 1 + Math.floor(this.#rnd() * 2);
      for (let i = 0; i < lives; i++) await this.#life();
    });
    await Promise.all(workers);
  }

  async #life(): Promise<void> {
    const life = String(++this.#lives);
    const early = this.#rnd() < EARLY_SHARE;
    const livesMs = this.#rnd() * LIFE_MS_MAX;
    const script = fileURLToPath(import.meta.url);
    const args = ['child', this.#target.name, this.#file, this.#ledgerFile, life, String(this.#seed + this.#lives)];
    const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', script, ...args], {
      stdio: ['ignore', 'inherit', 'pipe'],
    });
    const died = once(child, 'exit');
    let errors = '';
    child.stderr.on('data', (chunk) => {
      errors += chunk;
    });
    if (early) await pause(livesMs);
    else {
      await this.#begun(child, life);
      await pause(livesMs);
    }
    child.kill('SIGKILL');
    const [code] = (await died) as [number | null];
    this.#kills++;
    if (early) this.#early++;
    if (errors !== '' || code !== null)
      this.#report([`a child ended by itself with ${code}: ${errors.slice(0, 2_000)}`]);
  }

  async #begun(child: ChildProcess, life: string): Promise<void> {
    const untilMs = performance.now() + BEGIN_MS_MAX;
    while (!this.#begunLives.has(life) && child.exitCode === null && child.signalCode === null) {
      if (performance.now() > untilMs)
        return this.#report([`life ${life} did not open the queue within ${BEGIN_MS_MAX} ms`]);
      await pause(5);
      this.#catchUp();
    }
  }

  readonly #begunLives = new Set<string>();

  /** Reads what was added to the ledger. */
  #catchUp(): void {
    const descriptor = openSync(this.#ledgerFile, 'r');
    const chunk = Buffer.alloc(1 << 20);
    for (;;) {
      const length = readSync(descriptor, chunk, 0, chunk.length, this.#read);
      if (length === 0) break;
      this.#read += length;
      const text = this.#rest + chunk.toString('latin1', 0, length);
      const end = text.lastIndexOf('\n') + 1;
      this.#rest = text.slice(end);
      const whole = text.slice(0, end);
      for (const [, life = ''] of whole.matchAll(/^(\d+) B$/gm)) this.#begunLives.add(life);
      this.#ledger.add(whole);
    }
    closeSync(descriptor);
  }

  /** Everything that is left is handed over, in order, and acked; what kills or is poison ends among the dead letters. */
  async #workOff(): Promise<void> {
    const { queue, close } = await this.#target.open(this.#file);
    const before = await this.#target.inspect(this.#file);
    const expected = new Set(before.items.map(({ id }) => id));
    const acked = new Set<string>();
    const order: string[] = [];
    const wrong: string[] = [];
    for (let idleMs = 0; idleMs < 200; ) {
      const items = await queue.dequeueMany(100, 60_000);
      if (items.length === 0) {
        // Delays and leases of the dead have to end first.
        await pause(20);
        const { delayed, inFlight } = await queue.stats();
        idleMs = delayed + inFlight > 0 ? 0 : idleMs + 20;
        continue;
      }
      idleMs = 0;
      for (const { id, token, payload, attempts } of items) {
        if (attempts > MAX_ATTEMPTS) wrong.push(`attempts: ${id} was handed over ${attempts} times`);
        const kind = Buffer.from(payload).toString().split('.')[0];
        if (kind === 'plain') {
          order.push(id);
          acked.add(id);
          await queue.ack(id, token);
        } else await queue.nack(id, token);
      }
    }
    const { pending, inFlight, delayed } = await queue.stats();
    if (pending + inFlight + delayed > 0)
      wrong.push(`left over: ${pending} pending, ${inFlight} in flight, ${delayed} delayed`);
    await close();
    const after = await this.#target.inspect(this.#file);
    const dead = new Map(after.dead.map((found) => [found.id, found]));
    if (after.items.length > 0) wrong.push(`left over: ${after.items.length} rows`);
    for (const { id, tag } of before.items) {
      if (!acked.has(id) && !dead.has(id))
        wrong.push(`missing: ${id} (${tag}) was stored, and neither handed over nor a dead letter`);
      if (!tag.startsWith('plain') && !dead.has(id))
        wrong.push(`alive: ${id} (${tag}) fails always, and is no dead letter`);
    }
    for (const id of acked) if (!expected.has(id)) wrong.push(`from nowhere: ${id} was handed over`);
    if (new Set(order).size !== order.length) wrong.push('twice: an item was handed over again after its ack');
    this.#report(wrong);
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((done) => setTimeout(done, ms));
}

// Last, because the class above is made by then.
if (process.argv[2] === 'child') {
  const [, , , name = '', file = '', ledger = '', life = '', seed = '0'] = process.argv;
  const target = TARGETS.find((each) => each.name === name);
  if (target === undefined) throw new Error(`no target ${name}`);
  await torment(target, file, ledger, life, Number(seed));
} else await main();
