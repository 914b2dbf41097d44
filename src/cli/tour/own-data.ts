/**
 * Where the configuration's own data lies: what a tour must not visit. It would chase its own tail, and opening the
 * database of a running Storage would cost that its lock.
 */
import { realpath, stat } from 'node:fs/promises';
import { isAbsolute } from 'node:path';
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
}

export class OwnData {
  readonly #places: readonly FoundPlace[];

  private constructor(places: readonly FoundPlace[]) {
    this.#places = places;
  }

  /** Looks the places up as they are now: call it once their instances are active. */
  static async find(places: readonly DataPlace[]): Promise<OwnData> {
    return new OwnData(await Promise.all(places.map(findPlace)));
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
  const found = await stat(bytes).catch(() => null);
  return { place, bytes, isFile: found?.isFile() === true };
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
