/**
 * File names as they are: bytes. A name need not be UTF-8, and may hold a newline or a terminal's control codes, so it
 * has two texts: one to keep, from which the bytes come back, and one to print, which is safe on a terminal.
 */
import { isUtf8 } from 'node:buffer';
import { sep } from 'node:path';

const SEPARATOR = Buffer.from(sep);

export function joinPath(folder: Buffer, name: Buffer): Buffer {
  return folder.at(-1) === SEPARATOR[0] ? Buffer.concat([folder, name]) : Buffer.concat([folder, SEPARATOR, name]);
}

/** Well-formed text for any path. `%` and the bytes of a name that is not UTF-8 are written `%25`, `%ff`. */
export function pathToText(path: Buffer): string {
  if (isUtf8(path)) return path.toString('utf8').replaceAll('%', '%25');
  return path.toString('latin1').replace(/[%\x80-\xff]/g, percent);
}

/** The bytes that {@link pathToText} was given. */
export function textToPath(text: string): Buffer {
  const bytes = Buffer.from(text, 'utf8').toString('latin1');
  return Buffer.from(
    bytes.replace(/%([0-9a-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))),
    'latin1',
  );
}

/** Control characters, and those that change the direction or the line of what follows them. */
const UNPRINTABLE = /[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;

/** A path for people: what could disturb a terminal is escaped as in JSON, bytes that are not UTF-8 as `\xff`. */
export function printable(path: Buffer): string {
  if (isUtf8(path)) return path.toString('utf8').replace(UNPRINTABLE, (char) => `\\u${hex(char, 4)}`);
  return path.toString('latin1').replace(/[\x00-\x1f\x7f-\xff]/g, (char) => `\\x${hex(char, 2)}`);
}

function percent(char: string): string {
  return `%${hex(char, 2)}`;
}

function hex(char: string, digits: number): string {
  return char.charCodeAt(0).toString(16).padStart(digits, '0');
}
