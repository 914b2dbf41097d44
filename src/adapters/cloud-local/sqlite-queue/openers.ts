/**
 * Who has a queue open: each opening holds a slot, and the slot's lock, which the kernel frees when the process dies. What
 * a dead opener held is given back by the next opening of any queue of the file, whatever its leases say.
 */
import { FatalError, isCoreError } from '../../../contracts/errors.js';
import { WAIT_MS_MAX } from '../../../contracts/queue.js';
import type { SqlConnection, SqlEngine, Statements } from '../storage/engine.js';
import { type FileLock, lockFile } from '../storage/file-lock.js';
import { ITEMS_PER_BATCH, inBatches } from './paced.js';
import { DELAYED, PENDING, type Sums, Table } from './table.js';

/** Openings of one file at once. */
const SLOTS_MAX = 256;

export interface Slot {
  readonly number: number;
  readonly lock: FileLock;
}

/** @throws FatalError ConfigInvalid, code `LOCKED`: every slot is taken */
export async function takeSlot(engine: SqlEngine, file: string): Promise<Slot> {
  for (let number = 0; number < SLOTS_MAX; number++) {
    const lock = await tryLock(engine, file, number);
    if (lock !== null) return { number, lock };
  }
  throw new FatalError('ConfigInvalid', `${file} is open ${SLOTS_MAX} times already; close some`, { code: 'LOCKED' });
}

/** `null` where another opening has it. */
async function tryLock(engine: SqlEngine, file: string, slot: number): Promise<FileLock | null> {
  try {
    return await lockFile(engine, file, `opener-${slot}`, 'queue', 0);
  } catch (error) {
    if (isCoreError(error) && error.code === 'LOCKED') return null;
    throw error;
  }
}

export interface Entry {
  readonly engine: SqlEngine;
  readonly file: string;
  readonly connection: SqlConnection;
  readonly statements: Statements;
  readonly name: string;
  readonly slot: number;
  readonly boot: string;
  readonly nowMs: number;
  readonly wallMs: number;
}

/**
 * Enters an opening: makes the queue where it is new, gives back what dead openers and earlier boots held, and puts what
 * was given back in the order of its ids, where nobody else has the queue open. Several transactions: what is left when
 * this process dies in between is left to the next opening. When one fails, the connection is to be closed.
 * @returns the queue's number
 */
export async function enter(entry: Entry): Promise<number> {
  const { engine, file, connection, name, slot } = entry;
  if (await isOtherBoot(entry)) await moveDelays(entry);
  const queue = await transaction(connection, async () => {
    await connection.all('INSERT INTO queue (name) VALUES (?) ON CONFLICT DO NOTHING', name);
    // Whoever opened it meanwhile may have done so already.
    if (await isOtherBoot(entry)) await enterBoot(entry);
    const [{ id = 0 } = {}] = await connection.all('SELECT id FROM queue WHERE name = ?', name);
    return Number(id);
  });
  // The own slot's last holder is dead: its lock was free.
  await giveBackAll(entry, slot);
  for (const opener of await connection.all('SELECT slot FROM opener')) {
    const number = Number(opener.slot);
    // Held meanwhile, so that no new opener of that slot has anything taken from it.
    const lock = number === slot ? null : await tryLock(engine, file, number);
    if (lock === null) continue;
    try {
      await giveBackAll(entry, number);
    } finally {
      await lock.release();
    }
  }
  const isShared = await transaction(connection, async () => {
    const others = await connection.all('SELECT slot FROM opener WHERE queue = ?', queue);
    await connection.all('INSERT INTO opener VALUES (?, ?)', slot, queue);
    for (const other of others) if (await isHeld(entry, Number(other.slot))) return true;
    return false;
  });
  if (!isShared) await sortGivenBack(entry, queue);
  return queue;
}

/**
 * Gives back some of the items that an opener held: they are pending again, first in line, the oldest first. Inside a
 * transaction, which may be tried again.
 * @param seq place in line of the first of them; `null` in the beginning, when there is one made for each
 * @returns that of the next one; `null` when none is left
 */
export async function giveBackSome(table: Table, sums: Sums, slot: number, seq: number | null): Promise<number | null> {
  if (seq === null) sums.head -= await table.countHeld(slot);
  const first = seq ?? sums.head;
  const rows = await table.held(slot, ITEMS_PER_BATCH);
  sums.inFlight -= rows.length;
  sums.pending += rows.length;
  await table.update(rows.map(({ id, attempts }, i) => ({ id, attempts, state: PENDING, seq: first + i })));
  return rows.length === ITEMS_PER_BATCH ? first + rows.length : null;
}

/** Gives back all that a dead opener held, and forgets it. */
async function giveBackAll({ connection, statements }: Entry, slot: number): Promise<void> {
  for (;;) {
    const [row] = await connection.all('SELECT queue FROM item WHERE opener = ? LIMIT 1', slot);
    if (row === undefined) break;
    const table = new Table(connection, statements, Number(row.queue), slot);
    let seq: number | null = null;
    await inBatches(async () => {
      seq = await transaction(connection, async () => {
        const sums = await table.load();
        const next = await giveBackSome(table, sums, slot, seq);
        await table.save(sums);
        return next;
      });
      return seq === null ? 'done' : 'more';
    });
  }
  await connection.all('DELETE FROM opener WHERE slot = ?', slot);
}

/**
 * A restart replays in the order of the ids, as every queue does; what was never given back is in order already. The ids
 * are sorted in a temporary table, which needs neither memory nor the right to write to the queue.
 */
async function sortGivenBack({ connection, statements, slot }: Entry, queue: number): Promise<void> {
  const given = `FROM item WHERE queue = ${queue} AND state = ${PENDING} AND seq <= 0`;
  if ((await connection.all(`SELECT 1 ${given} LIMIT 1`)).length === 0) return;
  await connection.exec(`CREATE TEMP TABLE given AS SELECT id, seq ${given} ORDER BY id`);
  const [{ count = 0, unsorted = 0 } = {}] = await connection.all(
    `SELECT (SELECT count(*) FROM given) AS count, EXISTS (SELECT 1 FROM given AS one JOIN given AS next
       ON next.rowid = one.rowid + 1 WHERE next.seq < one.seq) AS unsorted`,
  );
  if (unsorted !== 0) await moveGiven(connection, new Table(connection, statements, queue, slot), Number(count));
  await connection.exec('DROP TABLE given');
}

/** Moves the items of the temporary table to places before all others, those that are still where they were. */
async function moveGiven(connection: SqlConnection, table: Table, count: number): Promise<void> {
  let done = 0;
  let head: number | null = null;
  await inBatches(() =>
    transaction(connection, async () => {
      const sums = await table.load();
      if (head === null) {
        sums.head -= count;
        head = sums.head;
        await table.save(sums);
      }
      const first = head - 1;
      const rows = await table.given(done, ITEMS_PER_BATCH);
      await table.update(rows.map(({ id, attempts, row }) => ({ id, attempts, state: PENDING, seq: first + row })));
      done += ITEMS_PER_BATCH;
      return done < count ? 'more' : 'done';
    }),
  );
}

async function isOtherBoot({ connection, boot }: Entry): Promise<boolean> {
  return (await connection.all('SELECT id FROM boot'))[0]?.id !== boot;
}

/**
 * Another boot: its clock is gone, and delays go on by the wall clock. In batches, each of which may be repeated: whoever
 * opens the queue as well, or after this process has died, does the same.
 */
async function moveDelays({ connection, nowMs, wallMs }: Entry): Promise<void> {
  await connection.exec(
    `CREATE TEMP TABLE moved AS SELECT queue, id FROM item WHERE due IS NOT NULL AND state = ${DELAYED}`,
  );
  const [{ count = 0 } = {}] = await connection.all('SELECT count(*) AS count FROM moved');
  let done = 0;
  await inBatches(() =>
    transaction(connection, async () => {
      await connection.all(
        `UPDATE item SET due = ?1 + max(0, min(wall - ?2, ${WAIT_MS_MAX})) WHERE state = ${DELAYED}
           AND (queue, id) IN (SELECT queue, id FROM moved WHERE rowid > ?3 AND rowid <= ?4)`,
        nowMs,
        wallMs,
        done,
        done + ITEMS_PER_BATCH,
      );
      done += ITEMS_PER_BATCH;
      return done < Number(count) ? 'more' : 'done';
    }),
  );
  await connection.exec('DROP TABLE moved');
}

/**
 * Every lease ends with the clock of its boot. Openers of that boot are dead as a rule, and what they held is given back;
 * the leases of one that is not end here.
 */
async function enterBoot(entry: Entry): Promise<void> {
  const { connection, boot, nowMs } = entry;
  await connection.exec('DELETE FROM boot');
  await connection.all('INSERT INTO boot VALUES (?)', boot);
  for (const { slot } of await connection.all('SELECT slot FROM opener')) {
    if (slot === entry.slot || !(await isHeld(entry, Number(slot)))) continue;
    await connection.all('UPDATE item SET due = ? WHERE opener = ?', nowMs, Number(slot));
  }
}

async function isHeld({ engine, file }: Entry, slot: number): Promise<boolean> {
  const lock = await tryLock(engine, file, slot);
  await lock?.release();
  return lock === null;
}

/** One that fails is ended by closing the connection. */
async function transaction<T>(connection: SqlConnection, work: () => Promise<T>): Promise<T> {
  await connection.exec('BEGIN IMMEDIATE');
  const result = await work();
  await connection.exec('COMMIT');
  return result;
}
