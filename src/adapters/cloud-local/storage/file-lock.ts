/**
 * A lock that one process in the world holds: a sibling database in which the holder keeps a write transaction open. The
 * kernel frees it when the process dies, so there is nothing stale to clean up.
 *
 * Nobody opens that file by other means while it is held: closing any other descriptor of it in the holder's process
 * would drop the lock.
 */
import { FatalError, RecoverableError } from '../../../contracts/errors.js';
import { lockedError } from './batch.js';
import type { SqlConnection, SqlEngine } from './engine.js';

/** How long another's short write, that of its name, may take before the lock counts as held. */
const CONTENTION_MS = 250;

export interface FileLock {
  /** Frees it; a second call waits for the first. */
  release(): Promise<void>;
}

/**
 * @param file the database that the lock belongs to
 * @param contentionMs how long to wait for one that may only be about to be held
 */
export async function lockFile(
  engine: SqlEngine,
  file: string,
  name: string,
  holder: string,
  contentionMs = CONTENTION_MS,
): Promise<FileLock> {
  const connection = await engine.open(`${file}.${name}.lock`, contentionMs);
  try {
    // It keeps nothing; synced, it would cost ten times its time. For what a power cut may leave of it there is a message.
    await connection.exec('PRAGMA synchronous = OFF');
    await connection.exec('BEGIN IMMEDIATE');
    await connection.exec('CREATE TABLE IF NOT EXISTS holder (holder TEXT, pid INTEGER); DELETE FROM holder');
    await connection.all('INSERT INTO holder VALUES (?, ?)', holder, process.pid);
    await connection.exec('COMMIT');
    // Whoever is quicker here has the lock; the other reads his name.
    await connection.exec('BEGIN IMMEDIATE');
    let released: Promise<void> | null = null;
    return {
      release() {
        released ??= connection.close();
        return released;
      },
    };
  } catch (error) {
    const refusal = isBusy(error) ? await heldError(connection, file, name) : error;
    await connection.close();
    throw isDamaged(refusal) ? damagedError(refusal, file, name) : refusal;
  }
}

function isBusy(error: unknown): boolean {
  return error instanceof RecoverableError && error.code === 'STORAGE_BUSY';
}

function isDamaged(error: unknown): error is FatalError {
  return error instanceof FatalError && (error.code === 'STORAGE_FORMAT' || error.code === 'STORAGE_CORRUPT');
}

/** Not deleted here: somebody may hold what was put in its place. */
function damagedError(cause: FatalError, file: string, name: string): FatalError {
  const { kind, code, context } = cause;
  const message = `the lock ${file}.${name}.lock is no database any more; it keeps nothing but its holder's name: stop every process that uses ${file}, then delete it`;
  return new FatalError(kind, message, { cause, code, context });
}

async function heldError(connection: SqlConnection, file: string, name: string): Promise<unknown> {
  // Another's transaction keeps writers out, not readers; only within its short write is the name not to be had.
  const rows = await connection.all('SELECT holder, pid FROM holder').catch(() => []);
  const [{ holder = 'another process', pid = 0 } = {}] = rows;
  return lockedError(name, file, { holder: String(holder), pid: Number(pid) });
}
