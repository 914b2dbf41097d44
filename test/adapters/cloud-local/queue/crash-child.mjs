/**
 * Works a queue until it is killed, and keeps a ledger beside the database: one line after each call that resolved,
 * before the next one begins. Arguments: bundle of the adapters, database file, ledger file, name of this life.
 */
import { appendFileSync } from 'node:fs';

const [bundle, database, ledger, life] = process.argv.slice(2);
const { InMemQueue, SqliteStorage } = await import(bundle);
const note = (...words) => appendFileSync(ledger, `${words.join(' ')}\n`);

const queue = await InMemQueue.open(await SqliteStorage.open(database));

async function send(sender) {
  for (let n = 0; ; n += 1) {
    const payload = `${life}.${sender}.${n}`;
    note('enqueued', await queue.enqueue(Buffer.from(payload)), payload);
  }
}

async function work() {
  for (let n = 0; ; n += 1) {
    const [item] = await queue.receive({ leaseMs: 60_000, waitMs: 60_000 });
    if (n % 5 === 4) {
      await queue.nack(item.id, item.token);
      continue;
    }
    note('acking', item.id);
    await queue.ack(item.id, item.token);
    note('acked', item.id);
  }
}

note('begun', life);
await Promise.all([send('a'), send('b'), send('c'), send('d'), work(), work(), work()]);
