/**
 * A Storage whose commits fail, to test what stands on one.
 *
 * Fault model. Each commit, as the seed draws it: works; or is refused, and nothing of it is written; or takes effect,
 * and rejects all the same, as when a connection breaks before the answer. Each answer may be late by some turns of the
 * event loop, so answers come out of order. No clock is involved: the same calls with the same seed fail the same way.
 * Never: a batch written in part, commits that take effect out of order or after their answer, wrong or failing reads,
 * locks that two holders have.
 */
import * as check from '../contracts/arguments.js';
import { RecoverableError } from '../contracts/errors.js';
import type { CommitOptions, Storage, StorageTxn } from '../contracts/storage.js';

export interface FaultOptions {
  /** Which faults: an integer from 0 to 2^32 - 1. */
  readonly seed: number;
  /** Share of commits that write nothing and reject, 0 to 1. Default 0.1. */
  readonly refusedShare?: number;
  /** Share of commits that take effect and reject, 0 to 1. Default 0.1. */
  readonly unansweredShare?: number;
  /** By how many turns of the event loop an answer is late, at most 1,000. Default 3. */
  readonly lateTurnsMax?: number;
}

/** `storage` with faults. Closing either closes both. What a fault rejects with is a RecoverableError Transient. */
export function faultyStorage(storage: Storage, options: FaultOptions): Storage {
  const { seed, refusedShare, unansweredShare, lateTurnsMax } = faultOptions(options);
  const random = randomOf(seed);

  /** The commit is begun in the turn of the call: that is what orders commits. */
  const commit = async (txn: StorageTxn, options?: CommitOptions): Promise<boolean> => {
    const fault = random();
    const isRefused = fault < refusedShare;
    const isUnanswered = !isRefused && fault < refusedShare + unansweredShare;
    const lateTurns = Math.floor(random() * (lateTurnsMax + 1));
    if (isRefused) txn.abort();
    try {
      const done = isRefused ? false : await txn.commit(options);
      if (isRefused || isUnanswered) throw broken(isRefused ? 'nothing was written' : 'it had taken effect', seed);
      return done;
    } finally {
      for (let turn = 0; turn < lateTurns; turn += 1) await nextTurn();
    }
  };

  return {
    get: (key) => storage.get(key),
    getMany: (keys) => storage.getMany(keys),
    scan: (options) => storage.scan(options),
    begin: () => {
      const txn = storage.begin();
      return {
        put: (key, value) => txn.put(key, value),
        delete: (key) => txn.delete(key),
        check: (key, expected) => txn.check(key, expected),
        commit: (options) => commit(txn, options),
        abort: () => txn.abort(),
      };
    },
    watch: (prefix, options) => storage.watch(prefix, options),
    lock: (name, options) => storage.lock(name, options),
    durability: storage.durability,
    ping: () => storage.ping(),
    close: () => storage.close(),
    [Symbol.asyncDispose]: () => storage.close(),
  };
}

function faultOptions(given: FaultOptions): Required<FaultOptions> {
  const names = ['seed', 'refusedShare', 'unansweredShare', 'lateTurnsMax'] as const;
  const options: Partial<FaultOptions> = check.known('options', given, names);
  const share = (name: 'refusedShare' | 'unansweredShare'): number => {
    const value = options[name] ?? 0.1;
    if (typeof value === 'number' && value >= 0 && value <= 1) return value;
    throw check.invalid(`options.${name}`, 'a number from 0 to 1', value);
  };
  return {
    seed: check.integer('options.seed', options.seed, 0, 2 ** 32 - 1),
    refusedShare: share('refusedShare'),
    unansweredShare: share('unansweredShare'),
    lateTurnsMax: check.integer('options.lateTurnsMax', options.lateTurnsMax ?? 3, 0, 1_000),
  };
}

function broken(what: string, seed: number): RecoverableError {
  return new RecoverableError('Transient', `a fault of seed ${seed} failed the commit; ${what}`, {
    code: 'IO_ERROR',
    context: { seed },
  });
}

/** Numbers from 0 to under 1: a Weyl sequence, each step mixed as in MurmurHash3's finalizer. */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x9e3779b9) >>> 0;
    let mixed = state;
    mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
    mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
    return ((mixed ^ (mixed >>> 16)) >>> 0) / 2 ** 32;
  };
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
