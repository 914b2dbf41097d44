/** File names are bytes: kept without loss, printed without harm. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { joinPath, pathToText, printable, textToPath } from '../../../src/cli/tour/paths.js';

const bytes = (...values: number[]) => Buffer.from(values);
const name = fc.uint8Array({ minLength: 1, maxLength: 64 }).map((array) => Buffer.from(array.map((byte) => byte || 1)));

describe('the text to keep', () => {
  test('gives back every path, and is well-formed', () => {
    fc.assert(
      fc.property(name, (path) => {
        const text = pathToText(path);
        expect(textToPath(text)).toEqual(path);
        expect(/\p{Surrogate}/u.test(text)).toBe(false);
      }),
    );
  });

  test('is another one for another path', () => {
    const looksAlike = [bytes(0xff), Buffer.from('%ff'), Buffer.from('%25ff'), Buffer.from('\u00ff')];
    expect(new Set(looksAlike.map(pathToText)).size).toBe(looksAlike.length);
  });

  test('is the name itself where that is plain UTF-8', () => {
    expect(pathToText(Buffer.from('/a b/grün 😀\n'))).toBe('/a b/grün 😀\n');
  });
});

describe('the text to print', () => {
  test('has no control character and turns no direction', () => {
    expect(printable(Buffer.from('a\nb\x1b[31m\u202e\u2028c'))).toBe('a\\u000ab\\u001b[31m\\u202e\\u2028c');
    fc.assert(
      fc.property(name, (path) => {
        expect(printable(path)).not.toMatch(/[\x00-\x1f\x7f-\x9f]/);
      }),
    );
  });

  test('shows bytes that are not UTF-8 as such', () => {
    expect(printable(Buffer.concat([Buffer.from('ä-'), bytes(0xff, 0x0a)]))).toBe('\\xc3\\xa4-\\xff\\x0a');
  });

  test('leaves other names as they are', () => {
    expect(printable(Buffer.from('grün 😀.txt'))).toBe('grün 😀.txt');
  });
});

test('a name is joined to the root folder without a second slash', () => {
  expect(joinPath(Buffer.from('/'), Buffer.from('a')).toString()).toBe('/a');
  expect(joinPath(Buffer.from('/b'), Buffer.from('a')).toString()).toBe('/b/a');
});
