/** A process is killed in the middle of enqueues and acks, again and again; what survived is compared with its ledger. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { InMemQueue } from '../../../src/adapters/cloud-local/in-mem-queue.js';
import { SqliteStorage } from '../../../src/adapters/cloud-local/sqlite-storage.js';
import { bundle } from '../../support/bundle.js';
import { text, turn, until } from './queue/support.js';

const ROUNDS = 5;
const CHILD = resolve('test/adapters/cloud-local/queue/crash-child.mjs');
/** Senders of the child: each may have one enqueue that was committed and not yet noted. */
const SENDERS = 4;

let folder: string;
let adapters: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'queue-crash-'));
  adapters = await bundle('src/adapters/cloud-local/index.ts');
});

afterAll(async () => {
  await rm(dirname(fileURLToPath(adapters)), { recursive: true });
  await rm(folder, { recursive: true });
});

interface Ledger {
  /** Payload by id, of enqueues that resolved. */
  readonly enqueued: Map<string, string>;
  readonly acking: Set<string>;
  readonly acked: Set<string>;
  readonly lives: number;
}

async function readLedger(): Promise<Ledger> {
  const lines = (await readFile(join(folder, 'ledger'), 'utf8').catch(() => '')).split('\n').slice(0, -1);
  const of = (word: string) => lines.map((line) => line.split(' ')).filter(([first]) => first === word);
  return {
    enqueued: new Map(of('enqueued').map(([, id = '', payload = '']) => [id, payload])),
    acking: new Set(of('acking').map(([, id = '']) => id)),
    acked: new Set(of('acked').map(([, id = '']) => id)),
    lives: of('begun').length,
  };
}

/** Lets a child work until it has noted some calls, and kills it at a moment that nothing chose. */
async function liveAndDie(life: string): Promise<void> {
  const before = await readLedger();
  const child = spawn(process.execPath, [CHILD, adapters, join(folder, 'rollout.db'), join(folder, 'ledger'), life], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let errors = '';
  child.stderr.on('data', (chunk) => {
    errors += chunk;
  });
  const died = once(child, 'exit');
  await until(async () => {
    if (child.exitCode !== null) throw new Error(`the child ended by itself: ${errors}`);
    const { enqueued, acked } = await readLedger();
    return enqueued.size > before.enqueued.size + 50 && acked.size > before.acked.size + 20;
  });
  await turn(Math.random() * 50);
  child.kill('SIGKILL');
  await died;
  expect(errors).toBe('');
}

test(`after a SIGKILL every enqueue that resolved is there or was being acked, every ack that resolved stays gone, nothing is twice, and order holds: ${ROUNDS} rounds`, async () => {
  for (let round = 1; round <= ROUNDS; round += 1) {
    await liveAndDie(String(round));
    const { enqueued, acking, acked, lives } = await readLedger();
    expect(lives).toBe(round);

    const storage = await SqliteStorage.open(join(folder, 'rollout.db'));
    const queue = await InMemQueue.open(storage);
    const items = [];
    for (
      let page = await queue.dequeueMany(1_000, 60_000);
      page.length > 0;
      page = await queue.dequeueMany(1_000, 60_000)
    ) {
      items.push(...page);
    }
    await queue.close();
    await storage.close();

    const found = new Map<string, string | null>(items.map((item) => [item.id, text(item)]));
    expect(found.size).toBe(items.length);
    expect(new Set(found.values()).size).toBe(items.length);
    for (const [id, payload] of enqueued) {
      if (found.has(id)) expect(found.get(id)).toBe(payload);
      else if (!acking.has(id)) throw new Error(`lost: ${id} ${payload}`);
    }
    for (const id of acked) if (found.has(id)) throw new Error(`acked, and back: ${id}`);
    const unnoted = [...found.keys()].filter((id) => !enqueued.has(id));
    expect(unnoted.length).toBeLessThanOrEqual(SENDERS * round);

    const ids = items.map(({ id }) => id);
    expect([...ids].sort()).toEqual(ids);
    expectEachSenderInOrder(items.map((item) => text(item) ?? ''));
  }
}, 120_000);

/** Payloads read `life.sender.n`: those of one sender have rising numbers, as it sent one after the other. */
function expectEachSenderInOrder(payloads: string[]): void {
  const last = new Map<string, number>();
  for (const payload of payloads) {
    const [life, sender, n] = payload.split('.');
    const from = `${life}.${sender}`;
    if (Number(n) <= (last.get(from) ?? -1)) throw new Error(`out of order: ${payload}`);
    last.set(from, Number(n));
  }
}
