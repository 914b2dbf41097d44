import { describe, expect, test } from '@jest/globals';
import { Storage, type StorageTxn } from '../../src/contracts/index.js';
import { type Call, call, type Refused, recorder, titled } from './recorder.js';

const KEY = { namespace: 'ns', path: ['a', 'b'] };
const ALL = { namespace: 'ns', path: [] };
const bytes = new Uint8Array([1, 2, 3]);
const TOO_DEEP = { namespace: 'ns', path: new Array(33).fill('a') };

/** What is wrong with a key, and how it is said; `KEY` stands for the argument's name. */
const BAD_KEYS: [found: unknown, message: string][] = [
  [undefined, 'KEY must be { namespace, path: [segment, …] }, found undefined'],
  [null, 'KEY must be { namespace, path: [segment, …] }, found null'],
  ['ns/a', 'KEY must be { namespace, path: [segment, …] }, found "ns/a"'],
  [{ namespace: 'ns' }, 'KEY must be { namespace, path: [segment, …] }, found object'],
  [{ namespace: 'ns', path: 'a' }, 'KEY must be { namespace, path: [segment, …] }, found object'],
  [{ path: ['a'] }, 'KEY.namespace must be well-formed text of 1 to 200 characters without NUL, found undefined'],
  [{ namespace: '', path: ['a'] }, 'KEY.namespace must be'],
  [{ namespace: 'x'.repeat(201), path: ['a'] }, 'KEY.namespace must be'],
  [{ namespace: 'a\0', path: ['a'] }, 'KEY.namespace must be'],
  [ALL, 'KEY.path.length must be an integer from 1 to 32, found 0'],
  [TOO_DEEP, 'KEY.path.length must be an integer from 1 to 32, found 33'],
  [{ namespace: 'ns', path: ['a', 5] }, 'a segment of KEY.path must be well-formed text of 0 to 1024 characters'],
  [{ namespace: 'ns', path: ['\udc00'] }, 'a segment of KEY.path must be'],
  [{ namespace: 'ns', path: ['a\0b'] }, 'a segment of KEY.path must be'],
  [{ namespace: 'ns', path: ['x'.repeat(1025)] }, 'a segment of KEY.path must be'],
  [{ namespace: 'ns', path: new Array(1) }, 'a segment of KEY.path must be'],
];

/** Every bad key in one place of one call, where the message calls it `name`. */
const badKeys = (method: string, name: string, args: (key: unknown) => unknown[]): Refused[] =>
  BAD_KEYS.map(([key, message]) => [method, args(key), message.replace('KEY', name)]);

const REFUSED: Refused[] = [
  ...badKeys('get', 'key', (key) => [key]),
  ...badKeys('getMany', 'keys[1]', (key) => [[KEY, key]]),
  // All but the first of the bad keys: `after` may be left out.
  ...badKeys('scan', 'options.after', (after) => [{ prefix: ALL, after }]).slice(1),
  ['getMany', [KEY], 'keys must be an array, found object'],
  ['getMany', [new Array(10_001).fill(KEY)], 'keys.length must be an integer from 0 to 10000, found 10001'],
  ['getMany', [new Array(1)], 'keys[0] must be { namespace, path: [segment, …] }, found undefined'],
  ['scan', [], 'options.prefix must be { namespace, path: [segment, …] }, found undefined'],
  ['scan', ['ns'], 'options must be an object, found "ns"'],
  ['scan', [{ prefix: TOO_DEEP }], 'options.prefix.path.length must be an integer from 0 to 32, found 33'],
  ['scan', [{ prefix: { namespace: 7, path: [] } }], 'options.prefix.namespace must be'],
  ['scan', [{ prefix: ALL, limit: -1 }], 'options.limit must be an integer of at least 0, found -1'],
  ['scan', [{ prefix: ALL, limit: '1' }], 'options.limit must be'],
  [
    'scan',
    [{ prefix: ALL, limt: 5 }],
    'unknown option "limt" in options. Did you mean "limit"? Known: after, limit, prefix.',
  ],
  ['watch', [ALL, { signl: 5 }], 'unknown option "signl" in options. Did you mean "signal"? Known: signal.'],
  ['lock', ['a', { holdr: 'x' }], 'unknown option "holdr"'],
  ['watch', [], 'prefix must be { namespace, path: [segment, …] }, found undefined'],
  ['watch', [TOO_DEEP], 'prefix.path.length must be'],
  ['watch', [ALL, 5], 'options must be an object, found 5'],
  ['watch', [ALL, { signal: {} }], 'options.signal must be an AbortSignal, found object'],
  ['lock', [], 'name must be 1 to 64 of A–Z a–z 0–9 _ - ., found undefined'],
  ['lock', ['a/b', { holder: 'x' }], 'name must be'],
  ['lock', ['', { holder: 'x' }], 'name must be'],
  ['lock', ['x'.repeat(65), { holder: 'x' }], 'name must be'],
  ['lock', ['a'], 'options.holder must be well-formed text of 1 to 200 characters without NUL, found undefined'],
  ['lock', ['a', 'me'], 'options must be an object, found "me"'],
  ['lock', ['a', { holder: '' }], 'options.holder must be'],
];

const refusal = (message: string) => ({
  severity: 'fatal',
  kind: 'SchemaViolation',
  code: 'ARGUMENT_INVALID',
  message: expect.stringContaining(message),
});

describe('the door of Storage', () => {
  test.each(titled(REFUSED))('%s refuses: %s', async (method, message, args) => {
    const { door, calls } = recorder(Storage);
    await expect(call(door, method, args)).rejects.toMatchObject(refusal(message));
    expect(calls).toEqual([]);
  });

  test('the adapter receives what was asked, options in full', async () => {
    const { door, calls } = recorder(Storage);
    const { signal } = new AbortController();
    await door.get(KEY);
    await door.getMany([]);
    await door.getMany([KEY, KEY]);
    door.scan({ prefix: ALL });
    door.scan({ prefix: KEY, limit: 0, after: KEY });
    door.watch(ALL);
    door.watch(KEY, { signal });
    await door.lock('queue-1_x.Y', { holder: 'queue tour' });
    await door.ping();
    expect(calls).toEqual([
      ['get', KEY],
      ['getMany', []],
      ['getMany', [KEY, KEY]],
      ['scan', { prefix: ALL, limit: undefined, after: undefined }],
      ['scan', { prefix: KEY, limit: 0, after: KEY }],
      ['watch', ALL, { signal: undefined }],
      ['watch', KEY, { signal }],
      ['lock', 'queue-1_x.Y', { holder: 'queue tour' }],
      ['ping'],
    ]);
  });

  test('the longest names, paths and segments pass', async () => {
    const { door, calls } = recorder(Storage);
    const key = { namespace: 'n'.repeat(200), path: ['', ...new Array(31).fill('\u{1F5DD}'.repeat(512))] };
    await door.get(key);
    expect(calls).toEqual([['get', key]]);
  });
});

describe('the door of a transaction', () => {
  function begin(): { txn: StorageTxn; calls: Call[] } {
    const calls: Call[] = [];
    const keep =
      (name: string) =>
      (...args: unknown[]) => {
        calls.push([name, ...args]);
      };
    const methods = ['put', 'delete', 'check', 'commit', 'abort'].map((name) => [name, keep(name)]);
    const txn = Object.fromEntries(methods) as StorageTxn;
    return { txn: recorder(Storage, [], { begin: () => txn }).door.begin(), calls };
  }

  const REFUSED_AT_ONCE: Refused[] = [
    ...badKeys('put', 'key', (key) => [key, bytes]),
    ['put', [KEY], 'value must be a Uint8Array or Buffer, found undefined'],
    ['put', [KEY, 'text'], 'value must be a Uint8Array or Buffer, found "text"'],
    ['delete', [ALL], 'key.path.length must be'],
    ['check', [ALL, null], 'key.path.length must be'],
    ['check', [KEY], 'expected must be a Uint8Array or Buffer, found undefined'],
    ['check', [KEY, 'text'], 'expected must be a Uint8Array or Buffer, found "text"'],
  ];

  test.each(titled(REFUSED_AT_ONCE))('%s throws at once: %s', (method, message, args) => {
    const { txn, calls } = begin();
    const refused = () => (txn as never as Record<string, (...args: unknown[]) => void>)[method]?.(...args);
    expect(refused).toThrow(expect.objectContaining(refusal(message)));
    expect(calls).toEqual([]);
  });

  test.each([
    ['full please', 'options must be an object, found "full please"'],
    [{ durability: 'most' }, 'options.durability must be "full", "normal" or "off", found "most"'],
  ])('commit refuses %j', async (options, message) => {
    const { txn, calls } = begin();
    await expect(txn.commit(options as never)).rejects.toMatchObject(refusal(message));
    expect(calls).toEqual([]);
  });

  test('values are copied before the call returns, and a check of absence stays null', async () => {
    const { txn, calls } = begin();
    const buffer = Buffer.from([1, 2, 3]);
    txn.put(KEY, buffer);
    txn.check(KEY, buffer);
    buffer.fill(9);
    txn.check(KEY, null);
    txn.delete(KEY);
    await txn.commit();
    await txn.commit({ durability: 'off' });
    txn.abort();
    expect(calls).toEqual([
      ['put', KEY, bytes],
      ['check', KEY, bytes],
      ['check', KEY, null],
      ['delete', KEY],
      ['commit', { durability: undefined }],
      ['commit', { durability: 'off' }],
      ['abort'],
    ]);
  });
});
