/**
 * Plain data that knows where each part of it was written: a JSON file, or values from elsewhere. Its depth and size are
 * bounded, as everything that walks it recurses.
 */
import { closeSync, fstatSync, openSync, readFileSync, readSync } from 'node:fs';
import jsonc, { type Node } from 'jsonc-parser';
import { show } from '../contracts/ids.js';
import { type Place, problemsError, showPlace } from './problems.js';

/** Arrays and objects within one another: past this a file is damaged or hostile. */
export const DEPTH_MAX = 100;

/** A configuration or manifest is read whole; a thousand instances take about 200 KiB. */
export const FILE_BYTES_MAX = 4 * 1024 * 1024;

/** Where a value comes from, lowest rank first: each is put on top of those before it. */
export type Layer = 'file' | 'profile' | 'local' | 'environment' | 'set' | 'options';

export interface Origin {
  readonly layer: Layer;
  readonly place: () => Place;
  /** Environment variables whose values are part of the value. */
  readonly variables?: readonly string[];
}

/** A value and its origin: with `fields` an object, with `items` an array, else what `value` says. */
export interface Written {
  readonly value: unknown;
  readonly fields?: ReadonlyMap<string, Written>;
  readonly items?: readonly Written[];
  readonly origin: Origin;
  /** Where the key before it stands, in a file. */
  readonly keyPlace?: () => Place;
  /** Of an adapter's configuration: other adapters that a layer below wrote it for, too. What they alone know is theirs. */
  readonly beside?: readonly string[];
  /** An object that stands only because something was set beneath it by path; it may mean an array, too. */
  readonly implied?: true;
}

export type ConfigPath = readonly (string | number)[];

/** @throws NodeJS.ErrnoException; RangeError when the file has more than {@link FILE_BYTES_MAX} bytes, or is UTF-16 */
export function readText(file: string): string {
  const descriptor = openSync(file, 'r');
  try {
    const stat = fstatSync(descriptor);
    if (stat.size > FILE_BYTES_MAX) throw tooLong();
    const bytes = stat.isFile() ? readFileSync(descriptor) : readStream(descriptor);
    if (bytes.length > FILE_BYTES_MAX) throw tooLong();
    if (isUtf16(bytes)) throw new RangeError('it is written in UTF-16; save it as UTF-8');
    return bytes.toString('utf8').replace(/^\uFEFF/, '');
  } finally {
    closeSync(descriptor);
  }
}

/** What has no size, as what a shell puts in the place of `<(command)`. */
function readStream(descriptor: number): Buffer {
  const chunks: Buffer[] = [];
  for (let size = 0; size <= FILE_BYTES_MAX; ) {
    const chunk = Buffer.allocUnsafe(64 * 1024);
    const read = readSync(descriptor, chunk);
    if (read === 0) break;
    size += read;
    chunks.push(chunk.subarray(0, read));
  }
  return Buffer.concat(chunks);
}

function tooLong(): RangeError {
  return new RangeError(`it has more than ${FILE_BYTES_MAX} bytes; make it shorter`);
}

/** As some shells of Windows write it: by its mark, or by the zero in each of its first two letters. */
function isUtf16(bytes: Buffer): boolean {
  const [a, b, c, d] = bytes;
  return (a === 0xff && b === 0xfe) || (a === 0xfe && b === 0xff) || (b === 0 && d === 0) || (a === 0 && c === 0);
}

/** The parser's errors in words. */
const SLIPS: Readonly<Record<string, string>> = {
  InvalidSymbol: 'a text or key is written in double quotes',
  InvalidNumberFormat: 'a number is not written like this',
  PropertyNameExpected: 'a key in double quotes was expected',
  ValueExpected: 'a value was expected',
  ColonExpected: 'a colon was expected',
  CommaExpected: 'a comma was expected',
  CloseBraceExpected: 'a closing } was expected',
  CloseBracketExpected: 'a closing ] was expected',
  EndOfFileExpected: 'the end of the file was expected',
  InvalidCommentToken: 'comments are not allowed here',
  UnexpectedEndOfComment: 'a comment is not closed',
  UnexpectedEndOfString: 'a text is not closed',
  UnexpectedEndOfNumber: 'a number is not complete',
  InvalidUnicode: 'after \\u come four hexadecimal digits',
  InvalidEscapeCharacter: 'a backslash is written \\\\',
  InvalidCharacter: 'a text has a character that is written with a backslash, such as \\n',
};

export interface ParsedDocument {
  readonly root: Written;
  /** Keys that stand twice, at the place of the second. */
  readonly doubles: readonly { readonly path: ConfigPath; readonly place: Place; readonly message: string }[];
}

/**
 * Parses JSON, with comments and trailing commas unless `strict`.
 * @param source the file's name as it is shown
 * @throws FatalError ConfigInvalid `RC1002`: where it ends to be JSON, or is nested too deep
 */
export function parseDocument(text: string, source: string, layer: Layer = 'file', strict = false): ParsedDocument {
  const placeAt = placesIn(text, source);
  const wrong = (offset: number, message: string) =>
    problemsError([{ code: 'RC1002', place: placeAt(offset), message }]);
  if (text.trim() === '') throw wrong(0, `the file is empty; write at least ${strict ? '{}' : '{ "bindings": {} }'}`);
  const tooDeep = nestedTooDeep(text);
  if (tooDeep !== null) throw wrong(tooDeep, `arrays and objects are nested deeper than ${DEPTH_MAX} levels here`);

  const errors: jsonc.ParseError[] = [];
  const root = jsonc.parseTree(text, errors, { allowTrailingComma: !strict, disallowComments: strict });
  const [error] = errors;
  if (error !== undefined || root === undefined) {
    const name = error === undefined ? 'ValueExpected' : jsonc.printParseErrorCode(error.error);
    const what = SLIPS[name] ?? name;
    throw wrong(error?.offset ?? 0, `this is not JSON${strict ? '' : ' (comments are allowed)'}: ${what}`);
  }
  const doubles: { path: ConfigPath; place: Place; message: string }[] = [];
  return { root: convert(root, layer, undefined, []), doubles };

  function convert(node: Node, layer: Layer, key: Node | undefined, path: ConfigPath): Written {
    const common = {
      origin: { layer, place: () => placeAt(node.offset) },
      ...(key && { keyPlace: () => placeAt(key.offset) }),
    };
    if (node.type === 'array') {
      const items = (node.children ?? []).map((child, i) => convert(child, layer, undefined, [...path, i]));
      return { ...common, value: null, items };
    }
    if (node.type !== 'object') return { ...common, value: node.value };
    const fields = new Map<string, Written>();
    for (const { children: [name, value] = [] } of node.children ?? []) {
      if (name === undefined || value === undefined) continue;
      const at = [...path, name.value];
      const first = fields.get(name.value)?.keyPlace?.();
      if (first !== undefined) {
        const message = `the key ${show(name.value)} stands here again, it stands at ${showPlace(first)} already; keep one`;
        doubles.push({ path: at, place: placeAt(name.offset), message });
      }
      const isProfile = layer === 'file' && node === root && name.value === 'profiles';
      fields.set(name.value, convert(value, isProfile ? 'profile' : layer, name, at));
    }
    return { ...common, value: null, fields };
  }
}

/** Finds a place by its offset: by halving, as a damaged file has many faults and many lines. */
function placesIn(text: string, source: string): (offset: number) => Place {
  let starts: number[] | undefined;
  return (offset) => {
    if (starts === undefined) {
      starts = [0];
      for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) starts.push(at + 1);
    }
    let [low, high] = [0, starts.length];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if ((starts[middle] as number) <= offset) low = middle;
      else high = middle;
    }
    return { source, line: low + 1, column: offset - (starts[low] as number) + 1 };
  };
}

/**
 * Whether a key stands twice in an object of a JSON text: then it has more colons than `value`, which was parsed from it,
 * has keys. Cheap, as most texts have none.
 */
export function hasKeyTwice(text: string, value: unknown): boolean {
  return (text.replace(/"(?:[^"\\]|\\.)*"/g, '').match(/:/g)?.length ?? 0) > keysIn(value);
}

function keysIn(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0;
  const inner = Object.values(value).reduce<number>((sum, each) => sum + keysIn(each), 0);
  return inner + (Array.isArray(value) ? 0 : Object.keys(value).length);
}

/** The offset of the first bracket past {@link DEPTH_MAX}, or `null`. Parsers recurse: this has to be found without one. */
export function nestedTooDeep(text: string): number | null {
  let depth = 0;
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case 0x22: // a string, up to its end or that of the line
        for (at++; at < text.length; at++) {
          const code = text.charCodeAt(at);
          if (code === 0x22 || code === 0x0a) break;
          if (code === 0x5c) at++;
        }
        break;
      case 0x2f: // a comment
        if (text[at + 1] === '/') at = endOf('\n', at);
        else if (text[at + 1] === '*') at = endOf('*/', at + 2);
        break;
      case 0x5b:
      case 0x7b:
        if (++depth > DEPTH_MAX) return at;
        break;
      case 0x5d:
      case 0x7d:
        depth--;
    }
  }
  return null;

  function endOf(mark: string, from: number): number {
    const end = text.indexOf(mark, from);
    return end < 0 ? text.length : end + mark.length - 1;
  }
}

/**
 * Plain data as it was handed over.
 * @param place of the value at a path
 * @throws RangeError when it is nested deeper than {@link DEPTH_MAX}, as anything that holds itself is; TypeError for what
 * is neither an array nor a plain object, as a Map
 */
export function fromValue(value: unknown, layer: Layer, place: (path: ConfigPath) => Place): Written {
  const convert = (value: unknown, path: ConfigPath): Written => {
    if (path.length > DEPTH_MAX) throw new RangeError(`it is nested deeper than ${DEPTH_MAX} levels`);
    const origin = { layer, place: () => place(path) };
    if (Array.isArray(value)) {
      return { value: null, origin, items: value.map((each, i) => convert(each, [...path, i])) };
    }
    if (typeof value !== 'object' || value === null) return { value, origin };
    // Of a Map or a Date, and its like, nothing would be left.
    const kind = Object.prototype.toString.call(value).slice('[object '.length, -1);
    if (kind !== 'Object') throw new TypeError(`${path.join('.') || 'the whole value'} is a ${kind}`);
    const entries = Object.entries(value).filter(([, each]) => each !== undefined);
    return { value: null, origin, fields: new Map(entries.map(([key, each]) => [key, convert(each, [...path, key])])) };
  };
  return convert(value, []);
}

/** Plain data without prototypes, so that a key like `__proto__` is a key. */
export function toValue({ value, fields, items }: Written): unknown {
  if (items !== undefined) return items.map(toValue);
  if (fields === undefined) return value;
  const object = Object.create(null);
  for (const [key, field] of fields) object[key] = toValue(field);
  return object;
}

/** The text with `$schema` pointing at `target`; comments and layout stay. */
export function withSchema(text: string, target: string): string {
  const mark = text.startsWith('\uFEFF') ? '\uFEFF' : '';
  const own = text.slice(mark.length);
  const edits = jsonc.modify(own, ['$schema'], target, {
    getInsertionIndex: () => 0,
    formattingOptions: { insertSpaces: true, tabSize: 2, eol: own.includes('\r\n') ? '\r\n' : '\n' },
  });
  return mark + jsonc.applyEdits(own, edits);
}

/** What is written at a path, where anything is. */
export function exactlyAt(root: Written, path: ConfigPath): Written | undefined {
  const steps = walk(root, path);
  return steps.length === path.length + 1 ? steps.at(-1) : undefined;
}

/** Where the value at a path stands, or its nearest ancestor that is there; `key` for the key before it. */
export function placeIn(root: Written, path: ConfigPath, what: 'key' | 'value' = 'value'): Place {
  const node = walk(root, path).at(-1) ?? root;
  return what === 'key' && node.keyPlace !== undefined ? node.keyPlace() : node.origin.place();
}

/** From the root on, as far as the path leads. */
function walk(root: Written, path: ConfigPath): Written[] {
  const steps = [root];
  let node = root;
  for (const step of path) {
    const next = node.items === undefined ? node.fields?.get(String(step)) : node.items[Number(step)];
    if (next === undefined) break;
    steps.push(next);
    node = next;
  }
  return steps;
}
