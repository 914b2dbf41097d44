/** Who may settle an item: the rules of `ack`, `nack` and `extendLease`, and their refusals. */
import { FatalError, RecoverableError } from '../../../contracts/errors.js';
import type { LeaseToken, QueueItemId } from '../../../contracts/ids.js';
import type { Item, ItemState } from './items.js';

/** What is asked of an item that somebody wants to settle. A dead letter is held by nobody, whatever token is shown. */
type Settled = Pick<Item, 'id' | 'token'> & { readonly state: ItemState | 'a dead letter' };

/**
 * Refuses whoever does not hold the item. A token proves a hold only while its lease is the item's, and nothing is being
 * written for it; without a token, only an item in flight without a lease can be settled.
 */
export function requireHeld(item: Settled, token: LeaseToken | null): void {
  if (token !== null) {
    if (item.state !== 'inFlight' || item.token !== token) throw leaseLost(item.id);
    return;
  }
  if (item.token !== null) {
    throw new FatalError('SchemaViolation', `queue item ${item.id} is leased; pass the token that came with it`, {
      code: 'LEASE_TOKEN_REQUIRED',
      context: { id: item.id },
    });
  }
  if (item.state !== 'inFlight') {
    throw new FatalError(
      'Internal',
      `queue item ${item.id} is ${item.state}; only an item that was taken can be settled`,
      {
        code: 'ITEM_NOT_LEASED',
        context: { id: item.id, state: item.state },
      },
    );
  }
}

export function leaseLost(id: QueueItemId): RecoverableError {
  return new RecoverableError('Transient', `the lease of queue item ${id} has ended; stop working on it`, {
    code: 'LEASE_LOST',
    retry: { kind: 'never' },
    context: { id },
  });
}

export function itemUnknown(id: QueueItemId, where: string): FatalError {
  return new FatalError('Internal', `${id} is not ${where}`, { code: 'ITEM_UNKNOWN', context: { id } });
}

/** Rows that the queue knows of, and somebody else deleted. */
export function rowMissing(id: QueueItemId, count: number): FatalError {
  const others = count > 1 ? ` (and ${count - 1} more)` : '';
  return new FatalError('Internal', `the storage no longer holds queue item ${id}${others}: it was deleted by others`, {
    code: 'STORAGE_FORMAT',
    context: { id, count },
  });
}
