import { describe, expect, test } from '@jest/globals';
import { FatalError, isCoreError, RecoverableError, systemError } from '../../src/contracts/errors.js';

describe('the error family', () => {
  test('the two classes are told apart by severity and kind, and carry code, context and cause', () => {
    const cause = new Error('below');
    const fatal = new FatalError('ConfigInvalid', 'not in allowlist', { code: 'SECRET_NOT_ALLOWED', cause });
    expect(fatal).toMatchObject({ severity: 'fatal', kind: 'ConfigInvalid', code: 'SECRET_NOT_ALLOWED', cause });
    const passing = new RecoverableError('Transient', 'busy', { retry: { kind: 'after', delayMs: 5 } });
    expect(passing).toMatchObject({ severity: 'recoverable', code: 'TRANSIENT', retry: { kind: 'after', delayMs: 5 } });
    expect(new FatalError('PluginContract', 'x').code).toBe('PLUGIN_CONTRACT');
  });

  test('isCoreError knows an error made by another copy of the package', async () => {
    const copy = { [Symbol.for('rollout-cloud/CoreError')]: true };
    expect(isCoreError(copy)).toBe(true);
    expect(isCoreError(new Error('x'))).toBe(false);
    expect(isCoreError(null)).toBe(false);
  });

  test.each([
    ['ENOSPC', 'recoverable', 'Transient', 'IO_ERROR'],
    ['EMFILE', 'recoverable', 'Transient', 'IO_ERROR'],
    ['EIO', 'recoverable', 'Transient', 'IO_ERROR'],
    ['EACCES', 'fatal', 'ConfigInvalid', 'IO_DENIED'],
    ['ENOTDIR', 'fatal', 'ConfigInvalid', 'IO_DENIED'],
    ['ELOOP', 'fatal', 'ConfigInvalid', 'IO_DENIED'],
    ['EXDEV', 'fatal', 'ConfigInvalid', 'IO_DENIED'],
    ['ENOSYS', 'fatal', 'Internal', 'IO_ERROR'],
  ])('%s becomes %s %s with the errno in context', (errno, severity, kind, code) => {
    const error = systemError(Object.assign(new Error('boom'), { code: errno }), 'write ./x');
    expect(error).toMatchObject({ severity, kind, code, context: { errno, doing: 'write ./x' } });
    expect(error.message).toContain(`could not write ./x: ${errno}`);
  });

  test('systemError returns an error of the family as it is', () => {
    const error = new FatalError('Internal', 'x');
    expect(systemError(error, 'write')).toBe(error);
  });

  test('toJSON is plain data, the retry hint included', () => {
    expect(JSON.parse(JSON.stringify(new RecoverableError('Throttled', 'slow down', { context: { a: 1 } })))).toEqual({
      name: 'RecoverableError',
      severity: 'recoverable',
      kind: 'Throttled',
      code: 'THROTTLED',
      message: 'slow down',
      context: { a: 1 },
      retry: { kind: 'backoff', baseMs: 100, maxMs: 10_000 },
    });
  });
});
