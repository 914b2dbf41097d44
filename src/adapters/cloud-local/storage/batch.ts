/** A transaction as it is collected before its commit. Both storage adapters take effect through it. */
import { FatalError } from '../../../contracts/errors.js';
import type {
  CommitOptions,
  StorageChange,
  StorageDurability,
  StorageKey,
  StorageTxn,
} from '../../../contracts/storage.js';
import { keyText } from './keys.js';

export interface Write {
  readonly key: StorageKey;
  /** `null` deletes. */
  readonly value: Uint8Array | null;
}

export interface Check {
  readonly key: StorageKey;
  readonly expected: Uint8Array | null;
}

/** What one commit asks for. */
export interface Batch {
  /** By `keyText`, in the order in which each key was last written. */
  readonly writes: ReadonlyMap<string, Write>;
  readonly checks: readonly Check[];
  /** What it is to survive; `undefined` for what the store promises. */
  readonly durability: StorageDurability | undefined;
}

/** @param take called once, by `commit()`; resolves as the contract says of it */
export function collectBatch(take: (batch: Batch) => Promise<boolean>): StorageTxn {
  const writes = new Map<string, Write>();
  const checks: Check[] = [];
  let ended: 'committed' | 'aborted' | null = null;
  const open = () => {
    if (ended === null) return;
    throw new FatalError('Internal', `this transaction was ${ended} already; begin another`, { code: 'TXN_ENDED' });
  };
  const write = (key: StorageKey, value: Uint8Array | null) => {
    open();
    const text = keyText(key);
    writes.delete(text);
    writes.set(text, { key, value });
  };
  return {
    put: (key, value) => write(key, value),
    delete: (key) => write(key, null),
    check: (key, expected) => {
      open();
      checks.push({ key, expected });
    },
    commit: async ({ durability }: CommitOptions = {}) => {
      open();
      ended = 'committed';
      return take({ writes, checks, durability });
    },
    abort: () => {
      ended ??= 'aborted';
    },
  };
}

/** Whether every check holds, where `holds` tells what a key holds now. */
export function checksHold(checks: readonly Check[], holds: (key: StorageKey) => Uint8Array | null): boolean {
  return checks.every(({ key, expected }) => {
    const found = holds(key);
    return found === null || expected === null ? found === expected : Buffer.compare(found, expected) === 0;
  });
}

export function changesOf(writes: Iterable<Write>): StorageChange[] {
  return Array.from(writes, ({ key, value }) => ({ kind: value === null ? 'delete' : 'put', key }));
}

/** The refusal of a second holder. */
export function lockedError(name: string, place: string, holder: { holder: string; pid: number }): FatalError {
  return new FatalError(
    'ConfigInvalid',
    `"${name}" of ${place} is held by ${holder.holder} (process ${holder.pid}); stop that one, or use another name or file`,
    { code: 'LOCKED', context: { name, ...holder } },
  );
}
