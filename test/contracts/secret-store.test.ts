import { Console } from 'node:console';
import { Writable } from 'node:stream';
import { format, inspect } from 'node:util';
import { describe, expect, test } from '@jest/globals';
import { SecretStore, SecretValue } from '../../src/contracts/index.js';
import { call, recorder } from './recorder.js';

const TEXT = 'open sesame';
const secret = new SecretValue(TEXT);

/** What a method of the console prints. */
function printed(print: (console: Console) => void): string {
  const chunks: string[] = [];
  const stream = new Writable({
    write(chunk, _encoding, done) {
      chunks.push(String(chunk));
      done();
    },
  });
  print(new Console(stream, stream));
  return chunks.join('');
}

describe('SecretValue', () => {
  test('is of text, and what is none is refused without being shown', () => {
    const refused = { code: 'ARGUMENT_INVALID', message: 'the secret must be text, found "number"' };
    expect(() => new SecretValue(1234 as never)).toThrow(expect.objectContaining(refused));
  });

  test('reveal() answers the text, which may be empty', () => {
    expect(secret.reveal()).toBe(TEXT);
    expect(new SecretValue('').reveal()).toBe('');
  });

  test.each<[string, () => string]>([
    ['console.log', () => printed((console) => console.log(secret))],
    ['console.log of an object that holds it', () => printed((console) => console.log({ a: [{ secret }] }))],
    ['console.log with %s', () => printed((console) => console.log('%s', secret))],
    ['console.log with %o', () => printed((console) => console.log('%o', secret))],
    ['console.log with %j', () => printed((console) => console.log('%j', secret))],
    ['console.error', () => printed((console) => console.error(secret))],
    ['console.table', () => printed((console) => console.table([{ secret }]))],
    ['util.inspect', () => inspect(secret)],
    ['util.format', () => format(secret)],
    ['JSON.stringify', () => JSON.stringify({ secret })],
    ['string concatenation', () => `token ${''}`.concat(secret as never)],
    // biome-ignore lint/style/useTemplate: the operator is what is tested.
    ['the + operator', () => 'token ' + (secret as never)],
    ['a template', () => `token ${secret}`],
    ['String()', () => String(secret)],
    ['toString()', () => secret.toString()],
    ['Array.join', () => [secret].join()],
    ['the message of an error', () => new Error(secret as never).message],
  ])('%s prints [redacted]', (_, print) => {
    expect(print()).toContain('[redacted]');
    expect(print()).not.toContain(TEXT);
  });

  test.each<[string, () => string]>([
    ['console.dir, which asks no object how to be printed', () => printed((console) => console.dir(secret))],
    ['inspect with everything shown', () => inspect(secret, { customInspect: false, showHidden: true, depth: 10 })],
    ['the own keys', () => JSON.stringify([Reflect.ownKeys(secret), { ...secret }, Object.entries(secret)])],
    ['a structured clone', () => inspect(structuredClone(secret))],
    ['a number', () => String(Number(secret))],
  ])('%s does not tell the text', (_, print) => {
    expect(print()).not.toContain(TEXT);
  });
});

describe('the door of SecretStore', () => {
  test.each([[], [''], ['x'.repeat(513)], ['a\0b'], ['\ud800'], [42], [null]])(
    'get refuses the name %p',
    async (...args) => {
      const { door, calls } = recorder(SecretStore);
      await expect(call(door, 'get', args)).rejects.toMatchObject({
        kind: 'SchemaViolation',
        code: 'ARGUMENT_INVALID',
        message: expect.stringMatching(/^name must be well-formed text of 1 to 512 characters without NUL, found /),
      });
      expect(calls).toEqual([]);
    },
  );

  test('put reaches the adapter whatever its arguments: a read-only store answers before it looks at any', async () => {
    const { door, calls } = recorder(SecretStore);
    for (const args of [[], [''], [42, null], ['NAME', TEXT]]) await call(door, 'put', args);
    expect(calls).toEqual([
      ['put', undefined, undefined],
      ['put', '', undefined],
      ['put', 42, null],
      ['put', 'NAME', TEXT],
    ]);
  });

  test('get and names pass', async () => {
    const { door, calls } = recorder(SecretStore);
    await door.get('x'.repeat(512));
    await door.names();
    expect(calls).toEqual([['get', 'x'.repeat(512)], ['names']]);
  });
});
