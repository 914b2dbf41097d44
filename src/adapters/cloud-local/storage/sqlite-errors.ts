/** Failures of SQLite in the error family, whichever engine met them. */
import { dirname } from 'node:path';
import { FatalError, RecoverableError, systemError } from '../../../contracts/errors.js';
import { descriptorsLacking, isDiskFull, readOnly } from './folder.js';

/** SQLite keeps the errno to itself, so what a failure to open or to write lacked is found out from the folder. */
export async function explained(
  cause: Error & { code?: string },
  file: string,
): Promise<RecoverableError | FatalError> {
  if (cause.code === 'SQLITE_CANTOPEN') {
    const lacking = await descriptorsLacking(dirname(file));
    if (lacking !== null) return systemError(lacking, `open the database ${file}`);
  }
  if (cause.code === 'SQLITE_IOERR') {
    if (await isDiskFull(dirname(file))) return diskFull(cause, file);
    const lacking = await readOnly(dirname(file));
    if (lacking !== null) return systemError(lacking, `write to the database ${file}`);
  }
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

/** Damage that SQLite does not look for. */
export function outOfOrder(file: string): FatalError {
  const message = `the database ${file} is damaged (its keys are out of order); restore it from a copy`;
  return new FatalError('Internal', message, { code: 'STORAGE_CORRUPT', context: { file } });
}

function diskFull(cause: unknown, file: string): RecoverableError {
  const { code: sqlite = '' } = cause as { code?: string };
  return new RecoverableError(
    'Transient',
    `the database ${file} cannot grow: the disk is full; free some space, which opening it and acking need, too`,
    {
      cause,
      code: 'STORAGE_FULL',
      context: { file, sqlite, errno: 'ENOSPC' },
    },
  );
}
