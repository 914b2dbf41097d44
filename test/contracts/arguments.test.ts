import { expect, test } from '@jest/globals';
import { copyOf } from '../../src/contracts/arguments.js';

test('copies for an implementation are its own bytes, short or long, one beside the other', () => {
  const sources = [0, 1, 255, 1_023, 1_024, 1_025, 20_000].flatMap((length) =>
    Array.from({ length: 40 }, (_, i) => new Uint8Array(length).fill(i + 1)),
  );
  const copies = sources.map(copyOf);
  const before = sources.map((source) => [...source]);
  for (const source of sources) source.fill(0);
  expect(copies.map((copy) => [...copy])).toEqual(before);
  for (const copy of copies) copy.fill(200);
  expect(sources.every((source) => source.every((byte) => byte === 0))).toBe(true);
  const part = Uint8Array.of(1, 2, 3, 4).subarray(1, 3);
  expect(copyOf(part)).toEqual(Uint8Array.of(2, 3));
});
