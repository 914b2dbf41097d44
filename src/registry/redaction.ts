/**
 * Keeps the secrets that an instance was given out of what it throws, reports and logs: drivers put the URL that they were
 * given into their errors. What contains none of them passes as it is.
 */
import { inspect, types } from 'node:util';
import type { Logger } from '../contracts/plugin.js';

/** Shorter ones are left: they are parts of words, and a message without those says nothing any more. */
const CHARACTERS_MIN = 4;
/** How much of one error or log entry is looked through; what lies beyond is not shown. */
const PARTS_MAX = 1_000;

const REDACTED = '[redacted]';
/** Of an error: what programs act on is no text of the plugin's making. */
const KEPT_OF_ERRORS: ReadonlySet<PropertyKey> = new Set(['name', 'code', 'kind', 'severity', 'retry']);

export class Redactor {
  /** Longest first: one may be part of another. */
  #texts: readonly string[] = [];

  /** Learns a secret: its text, and as it stands within JSON and within a URL. */
  readonly learn = (secret: string): void => {
    const forms = [secret, JSON.stringify(secret).slice(1, -1), inUrl(secret)];
    const known = forms.filter(({ length }) => length >= CHARACTERS_MIN);
    this.#texts = [...new Set([...this.#texts, ...known])].sort((a, b) => b.length - a.length);
  };

  text(text: string): string {
    return this.#texts.reduce((left, secret) => left.replaceAll(secret, REDACTED), text);
  }

  /** An error, or data of any kind: itself where no secret is in it, else a copy without. */
  clear<T>(value: T): T {
    if (this.#texts.length === 0) return value;
    if (typeof value === 'string') return this.text(value) as T;
    return this.#isIn(value, new Set()) ? (this.#copy(value, new Map()) as T) : value;
  }

  logger(logger: Logger): Logger {
    const at =
      (level: keyof Logger) =>
      (message: string, ...context: [] | [object]) =>
        // Read when it is called: a plugin's slip in its arguments is the logger's to take.
        logger[level](this.clear(message), ...(context.map((each) => this.clear(each)) as [] | [object]));
    return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
  }

  #isIn(value: unknown, seen: Set<object>): boolean {
    if (typeof value === 'string') return this.text(value) !== value;
    if (!hasParts(value) || seen.has(value)) return false;
    if (seen.size >= PARTS_MAX) return true;
    seen.add(value);
    if (partsOf(value).some(([key, part]) => !isKept(value, key) && this.#isIn(part, seen))) return true;
    // A URL shows what is no property of its own, and what a map holds is none either.
    return !isPlain(value) && (this.#isShown(value) || collected(value).some((part) => this.#isIn(part, seen)));
  }

  #isShown(value: object): boolean {
    try {
      const shown = inspect(value, { depth: 0 });
      return this.text(shown) !== shown;
    } catch {
      // It has a way of its own to be shown, which fails for whoever logs it, too.
      return false;
    }
  }

  #copy(value: unknown, copies: Map<object, unknown>): unknown {
    if (typeof value === 'string') return this.text(value);
    if (!hasParts(value)) return value;
    const known = copies.get(value);
    if (known !== undefined) return known;
    if (copies.size >= PARTS_MAX) return '[not shown]';
    // Others may be nothing without what only they themselves can read.
    if (!isPlain(value)) return this.#isIn(value, new Set()) ? REDACTED : value;
    const empty: object = Array.isArray(value) ? [] : value instanceof Error ? new Error() : {};
    const copy: object = Object.setPrototypeOf(empty, Object.getPrototypeOf(value));
    copies.set(value, copy);
    for (const [key, part] of partsOf(value)) {
      Object.defineProperty(copy, key, {
        value: isKept(value, key) ? part : this.#copy(part, copies),
        enumerable: Object.prototype.propertyIsEnumerable.call(value, key),
        writable: true,
        configurable: true,
      });
    }
    return copy;
  }
}

/** A lone surrogate, which has no place in a URL, is another character by way of bytes. */
function inUrl(text: string): string {
  return encodeURIComponent(Buffer.from(text).toString());
}

/** An error, a list, or an object of no class. */
function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  // By where the chain ends: that of another realm is plain, too.
  const isBare = prototype === null || Object.getPrototypeOf(prototype) === null;
  return isBare || Array.isArray(value) || value instanceof Error;
}

function isKept(value: object, key: PropertyKey): boolean {
  return value instanceof Error && KEPT_OF_ERRORS.has(key);
}

/** The items of a map or set, keys included. */
function collected(value: object): unknown[] {
  if (types.isMap(value)) return [...value].flat();
  return types.isSet(value) ? [...value] : [];
}

/** Of bytes, nothing is text. */
function hasParts(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !ArrayBuffer.isView(value);
}

/** Its own properties, an error's message, stack and cause among them. */
function partsOf(value: object): [PropertyKey, unknown][] {
  const keys = Reflect.ownKeys(value).filter((key) => !(Array.isArray(value) && key === 'length'));
  return keys.map((key) => [key, read(value, key)]);
}

function read(value: object, key: PropertyKey): unknown {
  try {
    return Reflect.get(value, key);
  } catch {
    // A getter of the plugin's that throws has nothing to show.
    return undefined;
  }
}
