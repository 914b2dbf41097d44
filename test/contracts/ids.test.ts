import { describe, expect, test } from '@jest/globals';
import { show } from '../../src/contracts/ids.js';
import { ContentId, LeaseToken, QueueItemId } from '../../src/contracts/index.js';

const HEX = 'af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262';
const ULID = '01ARZ3NDEKTSV4RRFFQ69G5FAV';

const KINDS = {
  ContentId: {
    kind: ContentId,
    form: '64 lower-case hexadecimal characters',
    good: [HEX, '0'.repeat(64)],
    bad: ['', HEX.toUpperCase(), HEX.slice(1), `${HEX}0`, `${HEX.slice(1)}g`, `${HEX}\n`, ` ${HEX.slice(1)}`],
  },
  QueueItemId: {
    kind: QueueItemId,
    form: 'a ULID of 26 upper-case characters',
    good: [ULID, '00000000000000000000000000', '7ZZZZZZZZZZZZZZZZZZZZZZZZZ'],
    bad: ['', ULID.toLowerCase(), `8${ULID.slice(1)}`, ULID.slice(1), `${ULID}0`, `${ULID.slice(1)}U`, `${ULID}\n`],
  },
  LeaseToken: {
    kind: LeaseToken,
    form: 'the token that came with the item',
    good: ['1', 'a.b~c', 'x'.repeat(200)],
    bad: ['', 'a b', 'a\n', 'ä', 'x'.repeat(201)],
  },
};
const NO_TEXT = [undefined, null, 42, {}, [HEX], Symbol('x')];

describe.each(Object.entries(KINDS))('%s', (name, { kind, form, good, bad }) => {
  test.each(good)('parse answers %j itself, and is() says yes', (text) => {
    expect(kind.parse(text)).toBe(text);
    expect(kind.is(text)).toBe(true);
  });

  test.each([...bad, ...NO_TEXT])('parse refuses %p with a sentence, and is() says no', (value) => {
    expect(kind.is(value)).toBe(false);
    expect(() => kind.parse(value)).toThrow(
      expect.objectContaining({
        severity: 'fatal',
        kind: 'SchemaViolation',
        code: 'ARGUMENT_INVALID',
        message: `${show(value)} is not a ${name}: expected ${form}`,
        context: { expected: form },
      }),
    );
  });

  test('cannot be tampered with', () => {
    expect(Object.isFrozen(kind)).toBe(true);
  });
});

describe('show, a value as it may stand in a message', () => {
  test.each([
    ['plain', '"plain"'],
    ['with "quotes"', '"with \\"quotes\\""'],
    ['a\nb\x1b[31m', '"a\\nb\\u001b[31m"'],
    ['\x7f\x9b31m\u2028', '"\\u007f\\u009b31m\\u2028"'],
    ['\ud800', '"\\ud800"'],
    ['ünï', '"ünï"'],
    [undefined, 'undefined'],
    [null, 'null'],
    [-1.5, '-1.5'],
    [Number.NaN, 'NaN'],
    [false, 'false'],
    [{ secret: 'x' }, 'object'],
    [['x'], 'an array'],
    [() => {}, 'function'],
    [5n, 'bigint'],
    [Symbol('x'), 'symbol'],
  ])('%p', (value, shown) => {
    expect(show(value)).toBe(shown);
  });

  test('text is cut at 80 characters, quotes included', () => {
    expect(show('x'.repeat(78))).toBe(`"${'x'.repeat(78)}"`);
    expect(show('x'.repeat(79))).toBe(`"${'x'.repeat(75)}…"`);
    expect(show('\n'.repeat(10_000)).length).toBeLessThanOrEqual(80);
  });
});
