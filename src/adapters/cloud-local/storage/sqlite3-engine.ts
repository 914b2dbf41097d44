/**
 * The engine of `local.sqlite`: the `sqlite3` package, whose every call is a hop to a thread and back.
 *
 * The package runs a connection's calls on several threads, and `serialize()` does not order prepared statements.
 */
import type { Database, Statement } from 'sqlite3';
import { FatalError } from '../../../contracts/errors.js';
import { BUSY_RETRY_MS, type SqlConnection, type SqlEngine } from './engine.js';
import { explained } from './sqlite-errors.js';

export const SQLITE3: SqlEngine = { adapter: 'local.sqlite', newer: 'install a sqlite3 package', open };

/** The package compiles SQLite, or fetches it, when it is installed: which npm may be told not to let it, and pnpm is. */
async function load(): Promise<typeof import('sqlite3')> {
  try {
    return (await import('sqlite3')).default;
  } catch (cause) {
    // Of a part that is missing, without the thirteen places where it was looked for.
    const [why] = String((cause as Error).message).split(/\.? Tried:|\n/);
    throw new FatalError(
      'ConfigInvalid',
      `the sqlite3 package cannot be loaded (${why}); if its install script has not run, run "npm rebuild sqlite3" ("pnpm approve-builds" with pnpm), or use node:sqlite of Node 22.13 or newer (adapter local.node-sqlite; "engine": "node" of local.sqlite-queue)`,
      { code: 'PLATFORM_UNSUPPORTED', cause },
    );
  }
}

async function open(file: string, busyTimeoutMs: number): Promise<SqlConnection> {
  const sqlite3 = await load();
  const database = await settle<Database>(file, (done) => {
    const opened: Database = new sqlite3.Database(file, (error) => done(error, opened));
  });
  // Waited for here: see BUSY_RETRY_MS.
  database.configure('busyTimeout', 0);
  const call = <T = void>(run: (done: Done<T>) => void, statement?: Statement) =>
    settle(file, run, { statement, busyTimeoutMs });
  const statements: Statement[] = [];
  return {
    threaded: true,
    exec: (sql) => call((done) => database.exec(sql, done)),
    all: (sql, ...values) => call((done) => database.all(sql, values, done)),
    prepare: async (sql) => {
      const statement = await call<Statement>((done) => {
        const prepared = database.prepare(sql, (error: Error | null) => done(error, prepared));
      });
      statements.push(statement);
      return {
        run: (...values) => call((done) => statement.run(values, done), statement),
        all: (...values) => call((done) => statement.all(values, done), statement),
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

type Done<T> = (error: Error | null, result?: T) => void;

interface SettleOptions {
  readonly statement?: Statement | undefined;
  /** How long a call that meets another process's write is tried again. Default 0. */
  readonly busyTimeoutMs?: number;
}

/**
 * A statement that failed is still active until it is reset, which the package leaves to the next call with parameters.
 * While a write is active, SQLite commits no other: a later commit would be reported done and be lost.
 */
function settle<T = void>(
  file: string,
  call: (done: Done<T>) => void,
  { statement, busyTimeoutMs = 0 }: SettleOptions = {},
): Promise<T> {
  return new Promise((resolve, reject) => {
    const untilMs = performance.now() + busyTimeoutMs;
    const attempt = () =>
      call((error, result) => {
        if (error === null || error === undefined) return resolve(result as T);
        const refuse = () => {
          const { code } = error as { code?: string };
          if (code === 'SQLITE_BUSY' && performance.now() < untilMs) setTimeout(attempt, BUSY_RETRY_MS);
          else void explained(error, file).then(reject);
        };
        if (statement === undefined) refuse();
        else statement.reset(refuse);
      });
    attempt();
  });
}
