import { describe, expect, test } from '@jest/globals';
import { BlockStore, ComputeHint, GpuEnumerator } from '../../src/contracts/index.js';
import { call, type Refused, recorder, titled } from './recorder.js';

describe('the doors of ComputeHint and GpuEnumerator', () => {
  test('pass the calls on, and make a promise of whatever is thrown', async () => {
    const hint = recorder(ComputeHint);
    await hint.door.inventory();
    await hint.door.preemptionSignal();
    expect(hint.calls).toEqual([['inventory'], ['preemptionSignal']]);
    const enumerator = recorder(GpuEnumerator, [], {
      enumerate: () => {
        throw new Error('at once');
      },
    });
    await expect(enumerator.door.enumerate()).rejects.toThrow('at once');
  });
});

describe('the door of BlockStore', () => {
  const REFUSED: Refused[] = [
    ['attach', [], 'volumeId must be well-formed text of 1 to 512 characters without NUL, found undefined'],
    ['attach', ['vol-1', 'read-only'], 'options must be an object, found "read-only"'],
    ['detach', [''], 'volumeId must be'],
    ['snapshot', [7], 'volumeId must be'],
    ['snapshot', ['vol-1', 'label'], 'options must be an object, found "label"'],
  ];

  test.each(titled(REFUSED))('%s refuses: %s', async (method, message, args) => {
    const { door, calls } = recorder(BlockStore);
    await expect(call(door, method, args)).rejects.toMatchObject({
      kind: 'SchemaViolation',
      code: 'ARGUMENT_INVALID',
      message: expect.stringContaining(message),
    });
    expect(calls).toEqual([]);
  });

  test('the adapter receives the rest', async () => {
    const { door, calls } = recorder(BlockStore);
    await door.attach('vol-1', { readOnly: true });
    await door.detach('vol-1');
    await door.snapshot('vol-1');
    expect(calls).toEqual([
      ['attach', 'vol-1', { readOnly: true }],
      ['detach', 'vol-1'],
      ['snapshot', 'vol-1', {}],
    ]);
  });
});
