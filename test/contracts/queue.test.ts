import { describe, expect, test } from '@jest/globals';
import { LeaseToken, Queue, QueueItemId } from '../../src/contracts/index.js';
import { call, type Refused, recorder, titled } from './recorder.js';

const ID = QueueItemId.parse('01ARZ3NDEKTSV4RRFFQ69G5FAV');
const TOKEN = LeaseToken.parse('token-1');
const ALL = ['lease', 'delay', 'key', 'dead-letters'];
const DAY_24 = 24 * 24 * 3_600_000;
const bytes = new Uint8Array([1, 2, 3]);
const aborted = AbortSignal.abort(new Error('stopped'));

const REFUSED: Refused[] = [
  ['enqueue', [], 'payload must be a Uint8Array or Buffer, found undefined'],
  ['enqueue', ['text'], 'payload must be a Uint8Array or Buffer, found "text"'],
  ['enqueue', [bytes, 5], 'options must be an object, found 5'],
  [
    'enqueue',
    [bytes, { delayMS: 5 }],
    'unknown option "delayMS" in options. Did you mean "delayMs"? Known: delayMs, key, signal.',
  ],
  ['receive', [{ leaseMs: 1000, waitMs: 0, mx: 1 }], 'unknown option "mx"'],
  ['nack', [ID, TOKEN, { delay: 5 }], 'unknown option "delay"'],
  ['enqueue', [bytes, { delayMs: -1 }], `options.delayMs must be an integer from 0 to ${DAY_24}, found -1`],
  ['enqueue', [bytes, { delayMs: DAY_24 + 1 }], 'options.delayMs must be'],
  ['enqueue', [bytes, { delayMs: '5' }], 'options.delayMs must be'],
  [
    'enqueue',
    [bytes, { key: '' }],
    'options.key must be well-formed text of 1 to 512 characters without NUL, found ""',
  ],
  ['enqueue', [bytes, { key: 'x'.repeat(513) }], 'options.key must be'],
  ['enqueue', [bytes, { key: 'a\0' }], 'options.key must be'],
  ['enqueue', [bytes, { key: 7 }], 'options.key must be'],
  ['enqueue', [bytes, { signal: {} }], 'options.signal must be an AbortSignal'],
  ['enqueueMany', [], 'payloads must be an array, found undefined'],
  ['enqueueMany', [bytes], 'payloads must be an array, found object'],
  ['enqueueMany', [[bytes, 'x']], 'payloads[1] must be a Uint8Array or Buffer, found "x"'],
  ['enqueueMany', [new Array(2)], 'payloads[0] must be a Uint8Array or Buffer, found undefined'],
  ['enqueueMany', [new Array(10_001).fill(bytes)], 'payloads.length must be an integer from 0 to 10000, found 10001'],
  ['enqueueMany', [[bytes], { key: 'k' }], 'options.key must be left out of enqueueMany, found "k"'],
  ['enqueueMany', [[], { delayMs: 0.5 }], 'options.delayMs must be'],
  ['dequeueWithLease', [], 'leaseMs must be an integer from 1 to'],
  ['dequeueWithLease', [0], 'leaseMs must be'],
  ['dequeueWithLease', [DAY_24 + 1], 'leaseMs must be'],
  ['dequeueMany', [0, 1000], 'max must be an integer from 1 to 10000, found 0'],
  ['dequeueMany', [10_001, 1000], 'max must be'],
  ['dequeueMany', [1], 'leaseMs must be'],
  ['receive', [], 'options.waitMs must be an integer from 0 to'],
  ['receive', [{ leaseMs: 1000 }], 'options.waitMs must be'],
  ['receive', [{ waitMs: 0 }], 'leaseMs must be'],
  ['receive', [{ leaseMs: 1000, waitMs: -1 }], 'options.waitMs must be'],
  ['receive', [{ leaseMs: 1000, waitMs: Number.POSITIVE_INFINITY }], 'options.waitMs must be'],
  ['receive', [{ leaseMs: 1000, waitMs: 0, max: 0 }], 'options.max must be'],
  ['receive', [{ leaseMs: 1000, waitMs: 0, signal: 1 }], 'options.signal must be'],
  ['receive', ['now'], 'options must be an object, found "now"'],
  ['extendLease', [], 'undefined is not a QueueItemId'],
  ['extendLease', [ID], 'undefined is not a LeaseToken'],
  ['extendLease', [ID, TOKEN], 'byMs must be an integer from 1 to'],
  ['extendLease', [ID, TOKEN, 0], 'byMs must be'],
  ['ack', ['x'], '"x" is not a QueueItemId: expected a ULID of 26 upper-case characters'],
  ['ack', [ID.toLowerCase()], 'is not a QueueItemId'],
  ['ack', [ID, ''], '"" is not a LeaseToken: expected the token that came with the item'],
  ['ack', [ID, 5], '5 is not a LeaseToken'],
  ['nack', [null], 'null is not a QueueItemId'],
  ['nack', [ID, 'a b'], '"a b" is not a LeaseToken'],
  ['nack', [ID, TOKEN, { delayMs: null }], 'options.delayMs must be'],
  ['nack', [ID, TOKEN, 1000], 'options must be an object, found 1000'],
  ['requeue', [undefined], 'undefined is not a QueueItemId'],
  ['purge', [], 'which must be "pending" or "dead", found undefined'],
  ['purge', ['all'], 'which must be "pending" or "dead", found "all"'],
];

describe('the door of Queue', () => {
  test.each(titled(REFUSED))('%s refuses: %s', async (method, message, args) => {
    const { door, calls } = recorder(Queue, ALL);
    await expect(call(door, method, args)).rejects.toMatchObject({
      severity: 'fatal',
      kind: 'SchemaViolation',
      code: 'ARGUMENT_INVALID',
      message: expect.stringContaining(message),
    });
    expect(calls).toEqual([]);
  });

  test.each([
    ['enqueue', [bytes, { signal: aborted }]],
    ['enqueueMany', [[], { signal: aborted }]],
    ['receive', [{ leaseMs: 1, waitMs: 1, signal: aborted }]],
  ])('%s with an aborted signal rejects with its reason and does nothing', async (method, args) => {
    const { door, calls } = recorder(Queue, ALL);
    await expect(call(door, method, args)).rejects.toBe(aborted.reason);
    expect(calls).toEqual([]);
  });

  test.each([
    ['lease', 'dequeueWithLease', [1000]],
    ['lease', 'dequeueMany', [1, 1000]],
    ['lease', 'receive', [{ leaseMs: 1000, waitMs: 0 }]],
    ['lease', 'extendLease', [ID, TOKEN, 1000]],
    ['delay', 'enqueue', [bytes, { delayMs: 1 }]],
    ['delay', 'enqueueMany', [[bytes], { delayMs: 1 }]],
    ['delay', 'nack', [ID, null, { delayMs: 1 }]],
    ['key', 'enqueue', [bytes, { key: 'k' }]],
    ['dead-letters', 'deadLetters', []],
    ['dead-letters', 'requeue', [ID]],
    ['dead-letters', 'purge', ['dead']],
  ])('feature %s: %s is refused where it is not declared, and passes where it is', async (feature, method, args) => {
    const without = recorder(
      Queue,
      ALL.filter((name) => name !== feature),
    );
    await expect(call(without.door, method, args)).rejects.toMatchObject({
      severity: 'fatal',
      kind: 'ConfigInvalid',
      code: 'FEATURE_UNSUPPORTED',
      message: expect.stringMatching(
        new RegExp(`^adapter test.recorder does not support .+ \\(feature "${feature}"\\); bind an adapter of Queue`),
      ),
      context: { adapter: 'test.recorder', feature, capability: 'Queue@1' },
    });
    expect(without.calls).toEqual([]);
    const declared = recorder(Queue, [feature]);
    await call(declared.door, method, args);
    expect(declared.calls.map(([name]) => name)).toEqual([method]);
  });

  test('what needs no feature passes without any, defaulted', async () => {
    const { door, calls } = recorder(Queue);
    const options = { delayMs: 0, key: undefined, signal: undefined };
    await door.enqueue(bytes);
    await door.enqueue(bytes, { delayMs: 0 });
    await door.enqueueMany([bytes, Buffer.from('b')]);
    await door.dequeue();
    await door.ack(ID);
    await door.ack(ID, null);
    await door.ack(ID, TOKEN);
    await door.nack(ID);
    await door.purge('pending');
    await door.stats();
    expect(calls).toEqual([
      ['enqueue', bytes, options],
      ['enqueue', bytes, options],
      ['enqueueMany', [bytes, new Uint8Array([98])], options],
      ['dequeue'],
      ['ack', ID, null],
      ['ack', ID, null],
      ['ack', ID, TOKEN],
      ['nack', ID, null, { delayMs: 0 }],
      ['purge', 'pending'],
      ['stats'],
    ]);
  });

  test('what needs features passes with them, defaulted', async () => {
    const { door, calls } = recorder(Queue, ALL);
    const { signal } = new AbortController();
    await door.enqueue(bytes, { delayMs: 5, key: 'k', signal });
    await door.dequeueWithLease(1);
    await door.dequeueMany(10_000, DAY_24);
    await door.receive({ leaseMs: 5, waitMs: 0 });
    await door.receive({ leaseMs: 5, waitMs: DAY_24, max: 2, signal });
    await door.extendLease(ID, TOKEN, 5);
    await door.nack(ID, TOKEN, { delayMs: 5 });
    expect(calls).toEqual([
      ['enqueue', bytes, { delayMs: 5, key: 'k', signal }],
      ['dequeueWithLease', 1],
      ['dequeueMany', 10_000, DAY_24],
      ['receive', { leaseMs: 5, max: 1, waitMs: 0, signal: undefined }],
      ['receive', { leaseMs: 5, max: 2, waitMs: DAY_24, signal }],
      ['extendLease', ID, TOKEN, 5],
      ['nack', ID, TOKEN, { delayMs: 5 }],
    ]);
  });

  test('payloads are "copied before the call returns: the buffer stays yours"', async () => {
    const { door, calls } = recorder(Queue);
    const buffer = Buffer.from([1, 2, 3]);
    const one = door.enqueue(buffer);
    const many = door.enqueueMany([buffer]);
    buffer.fill(9);
    await Promise.all([one, many]);
    expect(calls[0]?.[1]).toEqual(bytes);
    expect(calls[1]?.[1]).toEqual([bytes]);
  });

  test('no payloads are answered by the door', async () => {
    const { door, calls } = recorder(Queue);
    expect(await door.enqueueMany([])).toEqual([]);
    expect(calls).toEqual([]);
  });
});
