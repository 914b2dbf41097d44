/**
 * How many bytes the blobs of a store take together, known to every process without counting them: the sum of what each
 * has told (tallies.ts). Exact to the byte, but for what is being put or deleted in this moment; a process that is killed
 * takes that with it, and a power cut what was told in the last seconds. `verify()` and `gc()` count, and correct it.
 */
import { RecoverableError } from '../../../contracts/errors.js';
import { type Disk, errnoOf } from './disk.js';
import { type Eventual, type Steps, settle } from './in-place.js';
import type { Layout } from './layout.js';
import { minus, Tallies, type Totals } from './tallies.js';

export class Usage {
  readonly #tallies: Tallies;
  /** The most bytes that blobs may take; `undefined` for no limit. */
  readonly #maxBytes: number | undefined;
  /** Counts a store that was never counted: one of an earlier version. */
  readonly #count: () => Promise<number>;
  #counting: Promise<void> | undefined;
  /** Bytes of this process that are being put. */
  #heldBytes = 0;

  constructor(disk: Disk, { usage }: Layout, maxBytes: number | undefined, count: () => Promise<number>) {
    this.#tallies = new Tallies(disk, usage);
    this.#maxBytes = maxBytes;
    this.#count = count;
  }

  /** Bytes of all blobs, within the bounds above; `null` for a store that was never counted. */
  async used(): Promise<number | null> {
    const totals = await this.totals();
    return totals && usedOf(totals);
  }

  /** What has come and gone until now, for {@link correct}. */
  async totals(): Promise<Totals | null> {
    return this.#tallies.totals();
  }

  /** Tells of a blob that is there now. Never fails. */
  add(bytes: number): Eventual<void> {
    return this.#tallies.tell(bytes, 0);
  }

  /** Tells of a blob that is gone. Never fails. */
  remove(bytes: number): Eventual<void> {
    return this.#tallies.tell(0, bytes);
  }

  /**
   * Keeps room for `bytes` more, until {@link release}.
   * @throws RecoverableError Throttled, code `STORE_FULL`, when they do not fit below the limit
   */
  hold(bytes: number): Eventual<void> {
    if (this.#maxBytes !== undefined) return settle(this.#hold(bytes, this.#maxBytes));
  }

  *#hold(bytes: number, maxBytes: number): Steps<void> {
    let totals: Totals | null = yield this.#tallies.totals();
    if (totals === null) {
      this.#counting ??= this.#start();
      yield this.#counting;
      totals = yield this.#tallies.totals();
    }
    const used = totals === null ? 0 : usedOf(totals);
    if (used + this.#heldBytes + bytes > maxBytes) throw storeFull(maxBytes, used, bytes);
    this.#heldBytes += bytes;
  }

  release(bytes: number): void {
    if (this.#maxBytes !== undefined) this.#heldBytes -= bytes;
  }

  /** Begins the count of a store that is empty, or that was counted otherwise. */
  begin(bytes: number): Promise<void> {
    return this.#tallies.begin(bytes);
  }

  /**
   * Corrects the sum by what a walk over all blobs has found, as far as nothing that changed meanwhile explains the
   * difference: where nothing did, to the byte.
   * @param before {@link totals} when the walk began
   * @param found bytes of the blobs that it left in their place
   * @param removedBytes what the walk itself has removed, and told of
   */
  async correct(before: Totals | null, found: number, removedBytes: number): Promise<void> {
    const now = await this.totals();
    if (before === null || now === null) return;
    const others = minus(now, before);
    const [least, most] = [found - (others.removed - removedBytes), found + others.added];
    const told = now.added - now.removed;
    if (told > most) await this.remove(told - most);
    if (told < least) await this.add(least - told);
  }

  /** Nothing is told any more: what this process has told is anybody's to go on from. */
  end(): Promise<void> {
    return this.#tallies.end();
  }

  async #start(): Promise<void> {
    try {
      await this.begin(await this.#count());
    } catch (error) {
      this.#counting = undefined;
      // Somebody else has begun.
      if (errnoOf(error) !== 'EEXIST') throw error;
    }
  }
}

/** What was lost in a power cut may make the sum too low, even below 0. */
function usedOf({ added, removed }: Totals): number {
  return Math.max(0, added - removed);
}

function storeFull(maxStoreBytes: number, used: number, bytes: number): RecoverableError {
  return new RecoverableError(
    'Throttled',
    `the store is full: ${used} of ${maxStoreBytes} bytes (maxStoreBytes) are used, and ${bytes} more do not fit; ` +
      'remove objects, collect what nobody keeps (gc), or raise the limit',
    { code: 'STORE_FULL', context: { maxStoreBytes, used, bytes } },
  );
}
