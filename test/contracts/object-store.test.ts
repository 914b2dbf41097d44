import { describe, expect, test } from '@jest/globals';
import { ContentId, ObjectStore } from '../../src/contracts/index.js';
import { call, type Refused, recorder, titled } from './recorder.js';

const ID = ContentId.parse('af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262');
const bytes = new Uint8Array([1, 2, 3]);
const aborted = AbortSignal.abort(new Error('stopped'));

async function* source(...chunks: unknown[]): AsyncGenerator<Uint8Array> {
  yield* chunks as Uint8Array[];
}

const REFUSED: Refused[] = [
  ['putBytes', [], 'bytes must be a Uint8Array or Buffer, found undefined'],
  ['putBytes', ['text'], 'bytes must be a Uint8Array or Buffer, found "text"'],
  ['putBytes', [[1, 2]], 'bytes must be a Uint8Array or Buffer, found an array'],
  ['putBytes', [new ArrayBuffer(1)], 'bytes must be a Uint8Array or Buffer, found object'],
  ['putBytes', [new Uint16Array(1)], 'bytes must be a Uint8Array or Buffer, found object'],
  ['putBytes', [bytes, 'text/plain'], 'hint must be an object, found "text/plain"'],
  ['putBytes', [bytes, null], 'hint must be an object, found null'],
  ['putBytes', [bytes, []], 'hint must be an object, found an array'],
  [
    'putBytes',
    [bytes, { contentType: '' }],
    'hint.contentType must be 1 to 255 characters without control characters, found ""',
  ],
  ['putBytes', [bytes, { contentType: 'a\nb' }], 'hint.contentType must be'],
  ['putBytes', [bytes, { contentType: 'x'.repeat(256) }], 'hint.contentType must be'],
  ['putBytes', [bytes, { contentType: 7 }], 'hint.contentType must be'],
  ['putBytes', [bytes, { expectedSize: -1 }], 'hint.expectedSize must be an integer of at least 0, found -1'],
  ['putBytes', [bytes, { expectedSize: 1.5 }], 'hint.expectedSize must be'],
  ['putBytes', [bytes, { expectedSize: 2 }], 'bytes must be 2 bytes long, as expectedSize says, found 3'],
  ['putBytes', [bytes, { signal: {} }], 'hint.signal must be an AbortSignal, found object'],
  ['putStream', [], 'source must be a stream or an async iterable of Uint8Array, found undefined'],
  ['putStream', [null], 'source must be a stream or an async iterable of Uint8Array, found null'],
  ['putStream', [[bytes]], 'source must be a stream or an async iterable of Uint8Array, found an array'],
  ['putStream', [source(), { expectedSize: Number.NaN }], 'hint.expectedSize must be'],
  ['putStream', [source(), { signal: 1 }], 'hint.signal must be an AbortSignal, found 1'],
  ['getBytes', [], 'undefined is not a ContentId'],
  ['getBytes', [ID.toUpperCase()], 'is not a ContentId: expected 64 lower-case hexadecimal characters'],
  ['getBytes', [ID, 7], 'options must be an object, found 7'],
  ['getBytes', [ID, { verify: 'no' }], 'options.verify must be true or false, found "no"'],
  ['getBytes', [ID, { signal: 'x' }], 'options.signal must be an AbortSignal, found "x"'],
  ['getBytes', [ID, { range: 5 }], 'options.range must be an object, found 5'],
  ['getBytes', [ID, { range: {} }], 'options.range.start must be an integer of at least 0, found undefined'],
  ['getBytes', [ID, { range: { start: -1 } }], 'options.range.start must be'],
  ['getBytes', [ID, { range: { start: 5, end: 4 } }], 'options.range.end must be an integer of at least 5, found 4'],
  ['getStream', ['../etc/passwd'], '"../etc/passwd" is not a ContentId'],
  ['getStream', [ID, { range: { start: 0, end: 0.5 } }], 'options.range.end must be'],
  ['exists', [`${ID}0`], 'is not a ContentId'],
  ['stat', [{}], 'object is not a ContentId'],
  ['delete', [''], '"" is not a ContentId'],
  ['list', [{ prefix: 'AB' }], 'options.prefix must be 0 to 64 lower-case hexadecimal characters, found "AB"'],
  ['list', [{ prefix: 'a'.repeat(65) }], 'options.prefix must be'],
  ['list', [{ prefix: null }], 'options.prefix must be'],
  ['list', [{ signal: true }], 'options.signal must be an AbortSignal, found true'],
  ['list', ['ab'], 'options must be an object, found "ab"'],
];

describe('the door of ObjectStore', () => {
  test.each(titled(REFUSED))('%s refuses: %s', async (method, message, args) => {
    const { door, calls } = recorder(ObjectStore, ['range']);
    await expect(call(door, method, args)).rejects.toMatchObject({
      severity: 'fatal',
      kind: 'SchemaViolation',
      code: 'ARGUMENT_INVALID',
      message: expect.stringContaining(message),
    });
    expect(calls).toEqual([]);
  });

  test.each([
    ['putBytes', [bytes, { signal: aborted }]],
    ['putStream', [source(), { signal: aborted }]],
    ['getBytes', [ID, { signal: aborted }]],
    ['getStream', [ID, { signal: aborted }]],
    ['list', [{ signal: aborted }]],
  ])('%s with an aborted signal rejects with its reason and does nothing', async (method, args) => {
    const { door, calls } = recorder(ObjectStore);
    await expect(call(door, method, args)).rejects.toBe(aborted.reason);
    expect(calls).toEqual([]);
  });

  test('the adapter receives every option, defaulted', async () => {
    const { door, calls } = recorder(ObjectStore, ['range']);
    const { signal } = new AbortController();
    await door.putBytes(bytes);
    await door.putBytes(Buffer.from('abc'), { contentType: 'text/plain', expectedSize: 3, signal });
    await door.getBytes(ID);
    await door.getStream(ID, { verify: false, signal });
    await door.getBytes(ID, { range: { start: 2 }, verify: true });
    await door.getBytes(ID, { range: { start: 2, end: 2 } });
    await door.exists(ID);
    await door.stat(ID);
    await door.delete(ID);
    door.list();
    door.list({ prefix: 'ab', signal });
    const nothing = { contentType: undefined, expectedSize: undefined, signal: undefined };
    expect(calls).toEqual([
      ['putBytes', bytes, nothing],
      ['putBytes', Buffer.from('abc'), { contentType: 'text/plain', expectedSize: 3, signal }],
      ['getBytes', ID, { verify: true, signal: undefined }],
      ['getStream', ID, { verify: false, signal }],
      // A range cannot be checked: whatever was asked, the adapter is not to try.
      ['getBytes', ID, { range: { start: 2, end: undefined }, verify: false, signal: undefined }],
      ['getBytes', ID, { range: { start: 2, end: 2 }, verify: false, signal: undefined }],
      ['exists', ID],
      ['stat', ID],
      ['delete', ID],
      ['list', { prefix: '', signal: undefined }],
      ['list', { prefix: 'ab', signal }],
    ]);
    expect(calls[0]?.[1]).toBe(bytes);
  });

  test('a range is refused where the feature is not declared', async () => {
    const { door, calls } = recorder(ObjectStore);
    for (const method of ['getBytes', 'getStream']) {
      await expect(call(door, method, [ID, { range: { start: 0 } }])).rejects.toMatchObject({
        kind: 'ConfigInvalid',
        code: 'FEATURE_UNSUPPORTED',
        message: expect.stringContaining('feature "range"'),
      });
    }
    expect(calls).toEqual([]);
  });
});
