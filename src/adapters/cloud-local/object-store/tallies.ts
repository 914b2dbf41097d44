/**
 * How many bytes came to a store, and went, told by each of its instances in a file of its own.
 *
 * ```
 * usage/base        what was there when the store began to be counted
 * usage/<name>      the tally of an instance: bytes added and removed, told before a put or delete resolves
 * usage/<name>.free the same after its instance has ended
 * ```
 * The sum of all is what the store holds. An instance writes its own file only, so there is nothing to lock, and what is
 * written outlives a process that is killed. One that ends unheard leaves its tally behind: the next instance that has
 * something to tell takes over one that is free, or was not written to for {@link IDLE_MS}, by a rename, and goes on from
 * what it says. So there are about as many files as instances that were ever at work at once. An idle instance that
 * lost its tally so finds that out when it opens it again, which it does every {@link HOLD_MS}, and takes another.
 */
import { randomBytes } from 'node:crypto';
import type { Stats } from 'node:fs';
import { isCoreError } from '../../../contracts/errors.js';
import { type Disk, errnoOf } from './disk.js';
import { type Eventual, type Steps, settle } from './in-place.js';
import type { OpenFile } from './open-file.js';

/** Bytes of all blobs that came, and of all that went. */
export interface Totals {
  readonly added: number;
  readonly removed: number;
}

/** A tally that was not written to for so long may be taken over. */
const IDLE_MS = 10_000;

/** A tally is opened anew after this time, and closed: nobody has to close a store. */
const HOLD_MS = 1_000;

/**
 * A folder that was listed so long after its last change has another time as soon as it changes again: a file system's
 * clock stands still for some ms. One that counts in seconds, as FAT does by twos, is known by its round times.
 */
const SETTLED_MS = 50;
const SETTLED_ROUND_MS = 2_100;

/** Tries to read all, or to find a tally, while others are being taken over. */
const TRIES_MAX = 8;

const NONE: Totals = { added: 0, removed: 0 };

const TALLY_NAME = /^[0-9a-f]{16}(\.free)?$/;

export class Tallies {
  readonly #disk: Disk;
  readonly #folder: string;
  readonly #base: string;
  #isCounted = false;
  /** The own tally: its name, what its file has been told, and what it will say. */
  #name: string | undefined;
  #told = NONE;
  #mine = NONE;
  #file: OpenFile | undefined;
  #openedAtMs = 0;
  #telling: Promise<void> | undefined;
  #next: Promise<void> | undefined;
  #listed: { readonly changedAtMs: number; readonly names: readonly string[] } | undefined;

  constructor(disk: Disk, folder: string) {
    this.#disk = disk;
    this.#folder = folder;
    this.#base = `${folder}/base`;
  }

  /**
   * Makes the store one that is counted.
   * @throws as file calls do; errno `EEXIST` when it is
   */
  async begin(bytes: number): Promise<void> {
    await this.#disk.makeFolder(this.#folder);
    const file = await this.#disk.open(this.#base, 'wx');
    try {
      if (bytes === 0) return;
      await file.write(encode({ added: bytes, removed: 0 }));
      await file.sync();
    } finally {
      await file.close();
    }
  }

  /** Tells of bytes that came and went. Never fails: what cannot be told is told with the next. */
  tell(added: number, removed: number): Eventual<void> {
    this.#mine = plus(this.#mine, { added, removed });
    return this.#tellAll();
  }

  /** One write at a time, or an older one might come last; the next tells for all who came meanwhile. */
  #tellAll(): Eventual<void> {
    if (this.#telling !== undefined) {
      this.#next ??= this.#telling.then(() => {
        this.#next = undefined;
        return this.#tellAll();
      });
      return this.#next;
    }
    const told = settle(this.#tell());
    if (!(told instanceof Promise)) return;
    this.#telling = told.finally(() => {
      this.#telling = undefined;
    });
    return this.#telling;
  }

  *#tell(): Steps<void> {
    try {
      this.#isCounted ||= yield this.#disk.exists(this.#base);
      if (!this.#isCounted) {
        // Whoever begins to count finds it.
        this.#mine = this.#told;
        return;
      }
      const file = yield* this.#own();
      const mine = this.#mine;
      yield file.rewrite(encode(mine));
      this.#told = mine;
    } catch (error) {
      // A full disk, no more descriptors, a folder that is gone.
      if (!isCoreError(error)) throw error;
      this.#isCounted = false;
      yield* this.#letGo();
    }
  }

  /** The own tally, open. */
  *#own(): Steps<OpenFile> {
    if (this.#file !== undefined && Math.abs(Date.now() - this.#openedAtMs) < HOLD_MS) return this.#file;
    yield* this.#letGo();
    for (let tries = 1; ; tries++) {
      try {
        if (this.#name === undefined) yield* this.#take();
        this.#file = (yield this.#disk.open(`${this.#folder}/${this.#name}`, 'r+')) as OpenFile;
        this.#openedAtMs = Date.now();
        this.#letGoSoon();
        return this.#file;
      } catch (error) {
        if (errnoOf(error) !== 'ENOENT' || tries === TRIES_MAX) throw error;
        // Taken over: what it was told is told by another now.
        this.#name = undefined;
      }
    }
  }

  /** Takes over a tally, or makes one. */
  *#take(): Steps<void> {
    const name = randomBytes(8).toString('hex');
    const said = (yield* this.#takeOver(name)) ?? (yield* this.#make(name));
    this.#mine = plus(said, minus(this.#mine, this.#told));
    this.#told = said;
    this.#name = name;
  }

  *#takeOver(name: string): Steps<Totals | null> {
    const left: string[] = yield this.#disk.names(this.#folder);
    for (const each of left.filter((other) => TALLY_NAME.test(other))) {
      const path = `${this.#folder}/${each}`;
      try {
        const stats: Stats | undefined = yield this.#disk.stat(path);
        const isIdle = each.endsWith('.free') || Math.abs(Date.now() - (stats?.mtimeMs ?? 0)) > IDLE_MS;
        if (stats === undefined || !isIdle) continue;
        // Before the rename: whoever looks after it sees a tally that is not idle.
        yield this.#disk.touch(path);
        yield this.#disk.rename(path, `${this.#folder}/${name}`);
      } catch (error) {
        // Another was quicker, or it is another user's.
        if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'EACCES' || errnoOf(error) === 'EPERM') continue;
        throw error;
      }
      return yield* this.#read(name);
    }
    return null;
  }

  *#make(name: string): Steps<Totals> {
    const file: OpenFile = yield this.#disk.open(`${this.#folder}/${name}`, 'wx');
    yield file.close();
    return NONE;
  }

  #letGoSoon(): void {
    const timer = setTimeout(() => {
      if (this.#telling !== undefined) this.#letGoSoon();
      else void settle(this.#letGo());
    }, HOLD_MS);
    timer.unref();
  }

  *#letGo(): Steps<void> {
    const file = this.#file;
    this.#file = undefined;
    try {
      yield file?.close();
    } catch (error) {
      // What it was told is written.
      if (!isCoreError(error)) throw error;
    }
  }

  /** Everything told until now; `null` for a store that is not counted. */
  totals(): Eventual<Totals | null> {
    return settle(this.#totals());
  }

  *#totals(): Steps<Totals | null> {
    for (let tries = 1; ; tries++) {
      const base = yield* this.#read('base');
      if (base === null) return null;
      const sum = yield* this.#sum(base, tries === TRIES_MAX);
      if (sum !== null) return sum;
      this.#listed = undefined;
    }
  }

  /** `null` when a tally was taken over meanwhile, but the last time. */
  *#sum(base: Totals, isLast: boolean): Steps<Totals | null> {
    let sum = base;
    const own = this.#name;
    const names = yield* this.#names();
    for (const name of names) {
      if (name === own) continue;
      const said = yield* this.#read(name);
      if (said === null && !isLast) return null;
      sum = plus(sum, said ?? NONE);
    }
    if (this.#name !== own && !isLast) return null;
    const isOwned = own !== undefined && names.includes(own);
    return plus(sum, isOwned ? this.#mine : minus(this.#mine, this.#told));
  }

  /** The tallies' names, listed anew when the folder has changed. */
  *#names(): Steps<readonly string[]> {
    const folder: Stats | undefined = yield this.#disk.stat(this.#folder);
    const changedAtMs = folder?.mtimeMs ?? 0;
    if (this.#listed?.changedAtMs === changedAtMs) return this.#listed.names;
    const ageMs = Date.now() - changedAtMs;
    const all: string[] = yield this.#disk.names(this.#folder);
    const names = all.filter((name) => TALLY_NAME.test(name));
    const isSettled = ageMs > (changedAtMs % 1_000 === 0 ? SETTLED_ROUND_MS : SETTLED_MS);
    this.#listed = isSettled ? { changedAtMs, names } : undefined;
    return names;
  }

  /** `null` when there is no such tally. */
  *#read(name: string): Steps<Totals | null> {
    const bytes: Uint8Array | undefined = yield this.#disk.readSmall(`${this.#folder}/${name}`, TALLY_BYTES);
    return bytes === undefined ? null : decode(bytes);
  }

  /** Leaves the own tally to whoever comes next. One that is told of something later takes another. */
  async end(): Promise<void> {
    await this.#next;
    await this.#telling;
    await settle(this.#letGo());
    const name = this.#name;
    if (name === undefined) return;
    this.#name = undefined;
    try {
      await this.#disk.rename(`${this.#folder}/${name}`, `${this.#folder}/${name}.free`);
    } catch (error) {
      // It is taken over once it is idle.
      if (!isCoreError(error)) throw error;
    }
  }
}

/** Two numbers of 64 bits. */
const TALLY_BYTES = 16;

function encode({ added, removed }: Totals): Buffer {
  const bytes = Buffer.allocUnsafe(TALLY_BYTES);
  bytes.writeDoubleLE(added, 0);
  bytes.writeDoubleLE(removed, 8);
  return bytes;
}

/** One that a power cut has emptied says nothing. */
function decode(bytes: Uint8Array): Totals {
  if (bytes.byteLength < TALLY_BYTES) return NONE;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  return { added: view.getFloat64(0, true), removed: view.getFloat64(8, true) };
}

function plus(a: Totals, b: Totals): Totals {
  return { added: a.added + b.added, removed: a.removed + b.removed };
}

export function minus(a: Totals, b: Totals): Totals {
  return { added: a.added - b.added, removed: a.removed - b.removed };
}
