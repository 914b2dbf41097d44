/** One process under torture: it works on a queue at random, notes everything in the ledger, and never ends by itself. */
import { openSync, writeSync } from 'node:fs';
import { isCoreError } from '../../src/contracts/errors.js';
import type { Queue, QueueItem } from '../../src/contracts/queue.js';
import { pick, type Random, random } from './random.js';
import type { Target } from './targets.js';

/** Senders of a child, each with one enqueue under way. */
const SENDERS = 6;
const CONSUMERS = 4;
/** Items pending above which senders rest: the longest scan that a check has to make. */
const PENDING_MAX = 1_500;
/** A lease that a consumer lets run out. */
const SHORT_MS = 40;
const LONG_MS = 60_000;

/** What may happen under torture and is no defect: a lease was lost, or another process had the database for too long. */
const EXPECTED: ReadonlySet<string> = new Set(['LEASE_LOST', 'ITEM_UNKNOWN', 'ITEM_NOT_LEASED', 'STORAGE_BUSY']);

export async function torment(target: Target, file: string, ledger: string, life: string, seed: number): Promise<void> {
  const descriptor = openSync(ledger, 'a');
  const note = (...words: (string | number)[]) => void writeSync(descriptor, `${life} ${words.join(' ')}\n`);
  const { queue } = await target.open(file);
  note('B');
  const workers: Promise<never>[] = [];
  for (let i = 0; i < SENDERS; i++) workers.push(send(queue, note, life, i, random(seed * 100 + i)));
  for (let i = 0; i < CONSUMERS; i++) workers.push(consume(queue, note, random(seed * 100 + 50 + i)));
  workers.push(revive(queue, note, random(seed * 100 + 99)));
  await Promise.all(workers);
}

type Note = (...words: (string | number)[]) => void;

async function send(queue: Queue, note: Note, life: string, sender: number, rnd: Random): Promise<never> {
  let n = 0;
  const tag = () => `${rnd() < 0.02 ? 'poison' : rnd() < 0.01 ? 'killer' : 'plain'}.${life}.${sender}.${n++}`;
  const bytes = (text: string) => Buffer.from(`${text} ${'x'.repeat(Math.floor(rnd() * 300))}`);
  for (;;) {
    if (n % 50 === 0 && (await queue.stats()).pending > PENDING_MAX) await pause(50);
    await expected(async () => {
      if (rnd() < 0.2) {
        const tags = Array.from({ length: 1 + Math.floor(rnd() * 5) }, tag);
        note('e', ...tags);
        const ids = await queue.enqueueMany(tags.map(bytes));
        for (const [i, id] of ids.entries()) note('E', id, tags[i] as string);
      } else {
        const one = tag();
        note('e', one);
        const key = rnd() < 0.1 ? { key: one } : {};
        const delay = rnd() < 0.05 ? { delayMs: Math.floor(rnd() * 100) } : {};
        const payload = bytes(one);
        const id = await queue.enqueue(payload, { ...key, ...delay });
        note('E', id, one);
        if (key.key !== undefined && rnd() < 0.5) await queue.enqueue(payload, key);
      }
    });
    if (rnd() < 0.1) await pause(rnd() * 5);
  }
}

async function consume(queue: Queue, note: Note, rnd: Random): Promise<never> {
  for (;;) {
    let items: QueueItem[] = [];
    const leaseMs = rnd() < 0.1 ? SHORT_MS : LONG_MS;
    await expected(async () => {
      const how = rnd();
      if (how < 0.4) items = await queue.receive({ leaseMs, max: 3, waitMs: 20 });
      else if (how < 0.7) items = await queue.dequeueMany(5, leaseMs);
      else {
        const item = await queue.dequeueWithLease(leaseMs);
        items = item === null ? [] : [item];
      }
      for (const { id, attempts } of items) note('T', id, attempts);
    });
    // Some finish in another order than they came.
    if (rnd() < 0.3) items.reverse();
    for (const item of items) await expected(() => settle(queue, item, note, rnd));
    if (items.length === 0) await pause(rnd() * 10);
  }
}

async function settle(queue: Queue, item: QueueItem, note: Note, rnd: Random): Promise<void> {
  const { id, token } = item;
  const kind = Buffer.from(item.payload).toString().split('.')[0];
  // An item that kills whoever takes it, until it is given up.
  if (kind === 'killer') process.kill(process.pid, 'SIGKILL');
  if (kind === 'poison') return queue.nack(id, token);
  const what = rnd();
  if (what < 0.65) {
    note('a', id);
    await queue.ack(id, token);
    note('A', id);
  } else if (what < 0.8) await queue.nack(id, token);
  else if (what < 0.85) await queue.nack(id, token, { delayMs: 1 + Math.floor(rnd() * 50) });
  else if (what < 0.95 && token !== null) await queue.extendLease(id, token, SHORT_MS);
  // Else it is forgotten: the lease has to end by itself, or the process.
}

async function revive(queue: Queue, note: Note, rnd: Random): Promise<never> {
  for (;;) {
    await pause(20 + rnd() * 100);
    const letters: QueueItem[] = [];
    await expected(async () => {
      for await (const letter of queue.deadLetters()) {
        letters.push(letter);
        if (letters.length === 20) break;
      }
      const letter = pick(letters, rnd);
      // What kills stays dead: the run is to end.
      if (letter === undefined || Buffer.from(letter.payload).toString().startsWith('killer')) return;
      note('r', letter.id);
      await queue.requeue(letter.id);
      note('R', letter.id);
    });
  }
}

async function expected(work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!isCoreError(error) || !EXPECTED.has(error.code)) throw error;
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
