/**
 * Where the configuration's own data lies: what a tour must not visit. It would chase its own tail, and opening a file of
 * a running Storage would cost that its locks: the kernel drops those that a process has on a file when the process
 * closes any descriptor of it, by whatever name it was opened. So such files are known by name and, for hard links and
 * bind mounts, by number.
 */
import type { BigIntStats } from 'node:fs';
import { readdir, realpath, stat } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join } from 'node:path';
import type { BindingInfo } from '../../registry/index.js';
import { joinPath } from './paths.js';

/** An instance and a path that its configuration names. */
export interface DataPlace {
  /** `<Capability>#<name>` */
  readonly instance: string;
  /** Absolute. */
  readonly path: string;
}

/** Every absolute path in the configuration of the instances: the host has made paths absolute, and only those. */
export function dataPlaces(bindings: readonly BindingInfo[]): DataPlace[] {
  return bindings.flatMap(({ capability, name, config }) =>
    pathsIn(config).map((path) => ({ instance: `${capability}#${name}`, path })),
  );
}

interface FoundPlace {
  readonly place: DataPlace;
  /** Its path, symbolic links resolved. */
  readonly bytes: Buffer;
  readonly isFile: boolean;
  /** {@link numberOf} the files that it is made of. */
  readonly numbers: readonly string[];
}

export class OwnData {
  readonly #places: readonly FoundPlace[];
  readonly #numbers: ReadonlySet<string>;

  private constructor(places: readonly FoundPlace[]) {
    this.#places = places;
    this.#numbers = new Set(places.flatMap(({ numbers }) => numbers));
  }

  /** Looks the places up as they are now: call it once their instances are active and have their files open. */
  static async find(places: readonly DataPlace[]): Promise<OwnData> {
    return new OwnData(await Promise.all(places.map(findPlace)));
  }

  /** Whether the file is one of those that must not be opened, whatever it is called. */
  isOneOf(file: BigIntStats): boolean {
    return this.#numbers.has(numberOf(file));
  }

  /** Whether `path` is such a place, or one of the files that go with one (`rollout.db-wal` with `rollout.db`). */
  has(path: Buffer): boolean {
    return this.#places.some(({ bytes, isFile }) => {
      if (!startsWith(path, bytes)) return false;
      const next = path.at(bytes.length);
      return next === undefined || (isFile && (next === DASH || next === DOT));
    });
  }

  /** The place that `folder` is or lies in. */
  around(folder: Buffer): DataPlace | undefined {
    const inside = joinPath(folder, Buffer.alloc(0));
    return this.#places.find(({ bytes }) => startsWith(inside, joinPath(bytes, Buffer.alloc(0))))?.place;
  }
}

async function findPlace(place: DataPlace): Promise<FoundPlace> {
  const bytes = await realpath(place.path, 'buffer').catch(() => Buffer.from(place.path));
  const found = await stat(bytes, { bigint: true }).catch(() => null);
  if (found?.isFile() !== true) return { place, bytes, isFile: false, numbers: [] };
  // SQLite keeps its files beside the database itself, locks lie beside the configured path: a link tells them apart.
  const paths = new Set([place.path, bytes.toString()]);
  const beside = await Promise.all([...paths].map(numbersBeside));
  return { place, bytes, isFile: true, numbers: [numberOf(found), ...beside.flat()] };
}

/** The numbers of the files that go with one: of `rollout.db-wal` and `rollout.db.queue.lock` for `rollout.db`. */
async function numbersBeside(path: string): Promise<string[]> {
  const names = await readdir(dirname(path)).catch(() => []);
  const own = names.filter((name) => ['-', '.'].some((mark) => name.startsWith(`${basename(path)}${mark}`)));
  const files = own.map((name) => stat(join(dirname(path), name), { bigint: true }).catch(() => null));
  return (await Promise.all(files)).flatMap((file) => (file === null ? [] : [numberOf(file)]));
}

/** What the names of one file have in common. */
function numberOf({ dev, ino }: BigIntStats): string {
  return `${dev}:${ino}`;
}

function startsWith(path: Buffer, beginning: Buffer): boolean {
  return path.length >= beginning.length && path.subarray(0, beginning.length).equals(beginning);
}

const DASH = '-'.charCodeAt(0);
const DOT = '.'.charCodeAt(0);

function pathsIn(value: unknown): string[] {
  if (typeof value === 'string') return isAbsolute(value) ? [value] : [];
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(pathsIn) : [];
}
