/**
 * Who has a queue open: each opening holds a slot, and the slot's lock, which the kernel frees when the process dies. What
 * a dead opener held is given back by the next opening of any queue of the file, whatever its leases say.
 */
import { FatalError, isCoreError } from '../../../contracts/errors.js';
import type { QueueItemId } from '../../../contracts/ids.js';
import { WAIT_MS_MAX } from '../../../contracts/queue.js';
import type { SqlConnection, SqlEngine, Statements } from '../storage/engine.js';
import { type FileLock, lockFile } from '../storage/file-lock.js';
import { IN_FLIGHT, PENDING, Table } from './table.js';

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
 * was given back in the order of its ids, where nobody else has the queue open. One transaction, the caller's.
 * @returns the queue's number
 */
export async function enter(entry: Entry): Promise<number> {
  const { connection, statements, name, slot, boot } = entry;
  await connection.all('INSERT INTO queue (name) VALUES (?) ON CONFLICT DO NOTHING', name);
  const [{ id = 0 } = {}] = await connection.all('SELECT id FROM queue WHERE name = ?', name);
  const queue = Number(id);

  const openers = await connection.all('SELECT slot, queue FROM opener');
  const [known] = await connection.all('SELECT id FROM boot');
  const alive = new Set<number>();
  if (known?.id === boot) {
    // The own slot's last holder is dead: its lock was free.
    for (const opener of openers) {
      const number = Number(opener.slot);
      const lock = number === slot ? null : await tryLock(entry.engine, entry.file, number);
      if (lock === null && number !== slot) alive.add(number);
      await lock?.release();
    }
  } else {
    await connection.exec('DELETE FROM boot');
    await connection.all('INSERT INTO boot VALUES (?)', boot);
    await restartDelays(entry);
  }
  const dead = openers.map((opener) => Number(opener.slot)).filter((number) => !alive.has(number));
  const table = new Table(connection, statements, queue, slot);
  await giveBack(connection, table, dead);
  for (const number of dead) await connection.all('DELETE FROM opener WHERE slot = ?', number);

  const shared = openers.some((opener) => Number(opener.queue) === queue && alive.has(Number(opener.slot)));
  if (!shared) await sortGivenBack(connection, table, queue);
  await connection.all('INSERT INTO opener VALUES (?, ?)', slot, queue);
  return queue;
}

/** Items that the openers held are pending again, first in line, the oldest first. Returns how many. */
export async function giveBack(connection: SqlConnection, table: Table, slots: readonly number[]): Promise<number> {
  let given = 0;
  for (const slot of slots) {
    const rows = await connection.all('SELECT queue, id, attempts FROM item WHERE opener = ? ORDER BY queue, id', slot);
    for (const queue of new Set(rows.map((row) => Number(row.queue)))) {
      const own = rows.filter((row) => Number(row.queue) === queue);
      const of = table.of(queue);
      const sums = await of.load();
      sums.head -= own.length;
      sums.inFlight -= own.length;
      sums.pending += own.length;
      await of.update(
        own.map(({ id, attempts }, i) => ({
          id: id as QueueItemId,
          state: PENDING,
          seq: sums.head + i,
          attempts: Number(attempts),
        })),
      );
      await of.save(sums);
      given += own.length;
    }
  }
  return given;
}

/** A restart replays in the order of the ids, as every queue does; what was never given back is in order already. */
async function sortGivenBack(connection: SqlConnection, table: Table, queue: number): Promise<void> {
  const rows = await connection.all(
    `SELECT id, attempts FROM item WHERE queue = ? AND state = ${PENDING} AND seq <= 0 ORDER BY id`,
    queue,
  );
  if (rows.length < 2) return;
  const sums = await table.load();
  await table.update(
    rows.map(({ id, attempts }, i) => ({
      id: id as QueueItemId,
      state: PENDING,
      seq: sums.head + i,
      attempts: Number(attempts),
    })),
  );
}

/** Another boot: its clock is gone, and every lease with it; delays go on by the wall clock. */
async function restartDelays({ connection, nowMs, wallMs }: Entry): Promise<void> {
  await connection.all(
    `UPDATE item SET due = ?1 + max(0, min(wall - ?2, ${WAIT_MS_MAX})) WHERE due IS NOT NULL AND state <> ${IN_FLIGHT}`,
    nowMs,
    wallMs,
  );
}
