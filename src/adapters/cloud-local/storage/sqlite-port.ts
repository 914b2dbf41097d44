/**
 * The few calls of the `sqlite3` package that are used, as promises, and its failures in the error family. Another engine
 * would be another file of this shape.
 *
 * A connection's calls must not overlap: the package runs them on several threads, and `serialize()` does not order
 * prepared statements. Whoever owns a connection awaits each call.
 */
import { dirname } from 'node:path';
import type { Database, Statement } from 'sqlite3';
import { FatalError, RecoverableError, systemError } from '../../../contracts/errors.js';
import { descriptorsLacking, isDiskFull } from './folder.js';

export type SqlValue = string | number | Uint8Array | null;
export type Row = Readonly<Record<string, SqlValue>>;

export interface SqliteStatement {
  run(...values: SqlValue[]): Promise<void>;
  all(...values: SqlValue[]): Promise<Row[]>;
}

export interface SqliteConnection {
  exec(sql: string): Promise<void>;
  all(sql: string, ...values: SqlValue[]): Promise<Row[]>;
  prepare(sql: string): Promise<SqliteStatement>;
  /** Finalises its statements. Once. */
  close(): Promise<void>;
}

/** Opens a database file, made when it is not there; its folder must be. The engine is loaded by the first call. */
export async function openSqlite(file: string): Promise<SqliteConnection> {
  const { default: sqlite3 } = await import('sqlite3');
  const database = await settle<Database>(file, (done) => {
    const opened: Database = new sqlite3.Database(file, (error) => done(error, opened));
  });
  const statements: Statement[] = [];
  return {
    exec: (sql) => settle(file, (done) => database.exec(sql, done)),
    all: (sql, ...values) => settle(file, (done) => database.all(sql, values, done)),
    prepare: async (sql) => {
      const statement = await settle<Statement>(file, (done) => {
        const prepared = database.prepare(sql, (error: Error | null) => done(error, prepared));
      });
      statements.push(statement);
      return {
        run: (...values) =>
          orReset(
            settle(file, (done) => statement.run(values, done)),
            statement,
          ),
        all: (...values) =>
          orReset(
            settle(file, (done) => statement.all(values, done)),
            statement,
          ),
      };
    },
    close: async () => {
      for (const statement of statements.splice(0)) {
        await settle(file, (done) => statement.finalize(() => done(null)));
      }
      await settle(file, (done) => database.close(done));
    },
  };
}

/**
 * A statement that failed is still active until it is reset, which the package leaves to the next call with parameters.
 * While a write is active, SQLite commits no other: a later commit would be reported done and be lost.
 */
async function orReset<T>(result: Promise<T>, statement: Statement): Promise<T> {
  try {
    return await result;
  } catch (error) {
    await new Promise<void>((resolve) => statement.reset(() => resolve()));
    throw error;
  }
}

type Done<T> = (error: Error | null, result?: T) => void;

function settle<T = void>(file: string, call: (done: Done<T>) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    call((error, result) => {
      if (error === null || error === undefined) resolve(result as T);
      else void explained(error, file).then(reject);
    });
  });
}

/** SQLite keeps the errno to itself, so what a failure to open or to write lacked is found out from the folder. */
async function explained(cause: Error & { code?: string }, file: string): Promise<RecoverableError | FatalError> {
  if (cause.code === 'SQLITE_CANTOPEN') {
    const lacking = await descriptorsLacking(dirname(file));
    if (lacking !== null) return systemError(lacking, `open the database ${file}`);
  }
  if (cause.code === 'SQLITE_IOERR' && (await isDiskFull(dirname(file)))) return diskFull(cause, file);
  return sqliteError(cause, file);
}

/** What each result code of SQLite means to the caller: https://sqlite.org/rescode.html */
export function sqliteError(cause: unknown, file: string): RecoverableError | FatalError {
  const { code = '', message } = cause as Error & { code?: string };
  const options = { cause, context: { file, sqlite: code } };
  switch (code) {
    case 'SQLITE_BUSY':
    case 'SQLITE_LOCKED':
      return new RecoverableError('Transient', `the database ${file} is busy: another process is writing to it`, {
        ...options,
        code: 'STORAGE_BUSY',
      });
    case 'SQLITE_FULL':
      return diskFull(cause, file);
    case 'SQLITE_IOERR':
    case 'SQLITE_NOMEM':
      return new RecoverableError('Transient', `the database ${file} failed: ${message}`, {
        ...options,
        code: 'IO_ERROR',
        context: { ...options.context, errno: code === 'SQLITE_IOERR' ? 'EIO' : 'ENOMEM' },
      });
    case 'SQLITE_NOTADB':
      return new FatalError('ConfigInvalid', `${file} is not a database; configure another path, or move it`, {
        ...options,
        code: 'STORAGE_FORMAT',
      });
    case 'SQLITE_CANTOPEN':
    case 'SQLITE_READONLY':
    case 'SQLITE_PERM':
      return new FatalError(
        'ConfigInvalid',
        `${file} cannot be opened for writing: ${message}; configure another path`,
        {
          ...options,
          code: 'IO_DENIED',
        },
      );
    case 'SQLITE_CORRUPT':
      return new FatalError('Internal', `the database ${file} is damaged (${message}); restore it from a copy`, {
        ...options,
        code: 'STORAGE_CORRUPT',
      });
    default:
      return new FatalError('Internal', `the database ${file} failed: ${message}`, options);
  }
}

function diskFull(cause: unknown, file: string): RecoverableError {
  const { code: sqlite = '' } = cause as { code?: string };
  return new RecoverableError('Transient', `the database ${file} cannot grow: the disk is full; free some space`, {
    cause,
    code: 'STORAGE_FULL',
    context: { file, sqlite, errno: 'ENOSPC' },
  });
}
