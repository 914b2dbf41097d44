/**
 * Ids of one queue: ULIDs that only ever rise, within a millisecond, when the clock steps back, and across reopen.
 *
 * `monotonicFactory` counts its last id up by one while the clock is not past that id's time. It has no way to be told
 * the last id of an earlier process, so one id is drawn, and dropped, at the millisecond after that one's.
 */
import { randomFillSync } from 'node:crypto';
import { decodeTime, encodeTime, monotonicFactory } from 'ulid';
import { type Clock, systemClock } from '../../../contracts/clock.js';
import { FatalError } from '../../../contracts/errors.js';
import { QueueItemId } from '../../../contracts/ids.js';

/**
 * @param last the largest id that the queue ever stored, as far as is known
 * @throws FatalError Internal, code `STORAGE_FORMAT`: no later time fits into a ULID
 */
export function idsAfter(last: QueueItemId | null, clock: Clock = systemClock): () => QueueItemId {
  const next = monotonicFactory(random);
  if (last !== null) {
    try {
      next(idTimeMs(last) + 1);
    } catch (cause) {
      throw new FatalError('Internal', `no queue item id can follow ${last}; delete that row from the storage`, {
        code: 'STORAGE_FORMAT',
        context: { id: last },
        cause,
      });
    }
  }
  return () => QueueItemId.parse(next(clock.wallMs()));
}

/** Random bytes drawn at a time: the package's own source draws 16 times one for an id, which took 2 µs of the 3. */
const pool = new Uint8Array(4_096);
let drawn = pool.length;

/** From 0 to under 1, in steps of 1/256: each character of an id takes 5 bits of it. */
function random(): number {
  if (drawn === pool.length) {
    randomFillSync(pool);
    drawn = 0;
  }
  drawn += 1;
  return (pool[drawn - 1] as number) / 256;
}

export function laterOf(one: QueueItemId | null, other: QueueItemId | null): QueueItemId | null {
  return one === null || (other !== null && other > one) ? other : one;
}

/** Characters of an id that tell its time; the others are drawn. */
const TIME_LENGTH = 10;

/** The largest id of a millisecond. */
export function lastIdOf(ms: number): QueueItemId {
  return `${encodeTime(ms, TIME_LENGTH)}${'Z'.repeat(16)}` as QueueItemId;
}

/** When an id was made, ms since 1970; up to some ms ahead of the clock where ids were counted up. */
export function idTimeMs(id: QueueItemId): number {
  return decodeTime(id);
}
