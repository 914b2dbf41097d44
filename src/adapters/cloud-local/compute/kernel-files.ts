/**
 * Reads the small files in which Linux tells about itself, under `/proc` and `/sys` of some root.
 *
 * What cannot be read, or is not written as it should be, is `null` or empty: containers hide files, and a hint that
 * fails is worth less than one with a gap. The reads are synchronous: the kernel makes these files up in memory.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** What the files tell at one time: each is read once. */
export class KernelFiles {
  readonly #root: string;
  readonly #texts = new Map<string, string | null>();

  /** @param root where `proc` and `sys` are found */
  constructor(root: string) {
    this.#root = root;
  }

  /** The whole text of a file. */
  text(path: string): string | null {
    const known = this.#texts.get(path);
    if (known !== undefined) return known;
    const text = this.#read(path);
    this.#texts.set(path, text);
    return text;
  }

  #read(path: string): string | null {
    const file = join(this.#root, path);
    try {
      // A third of the files are not there on any one machine, and an error with its stack takes ten times the look.
      // Under Node's permission model even the look throws.
      return existsSync(file) ? readFileSync(file, 'utf8') : null;
    } catch {
      return null;
    }
  }

  /** A file that holds one short line of printable text: a name or a number, not a list. */
  line(path: string): string | null {
    const line = this.text(path)?.trim() ?? '';
    return /^[^\x00-\x1f\x7f-\x9f\ufffd]{1,256}$/.test(line) ? line : null;
  }

  /** Names in a folder; empty when it cannot be read. */
  names(path: string): string[] {
    try {
      return readdirSync(join(this.#root, path));
    } catch {
      return [];
    }
  }
}

/** What follows `key:` at the first line that begins so, e.g. `MemTotal`; spaces before the colon do not matter. */
export function field(text: string | null, key: string): string | null {
  return text?.match(new RegExp(`^${key}[ \\t]*:[ \\t]*(.*)$`, 'm'))?.[1]?.trim() ?? null;
}

/** Bytes of a field written in `kB`, as in `/proc/meminfo`. */
export function bytesOf(text: string | null): number | null {
  const digits = text?.match(/^(\d{1,15}) kB$/)?.[1];
  return digits === undefined ? null : Number(digits) * 1024;
}

/** As many CPUs as a Linux kernel can be built for (x86: NR_CPUS up to 8192). */
const CPUS_MAX = 8192;

/** CPU numbers of a list such as `0-3,8`; `null` unless it is one, and names a CPU. */
export function cpuList(text: string | null): number[] | null {
  if (text === null) return null;
  const cpus: number[] = [];
  for (const part of text.trim().split(',', CPUS_MAX)) {
    const [, first, last = first] = part.match(/^(\d{1,5})(?:-(\d{1,5}))?$/) ?? [];
    if (first === undefined || Number(last) >= CPUS_MAX) return null;
    for (let cpu = Number(first); cpu <= Number(last); cpu++) cpus.push(cpu);
    if (cpus.length > CPUS_MAX) return null;
  }
  return cpus.length === 0 ? null : cpus;
}
