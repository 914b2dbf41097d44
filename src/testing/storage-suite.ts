/**
 * The conformance suite of {@link Storage}. `open()` gives an empty store; `reopen()`, where state outlives an instance
 * (feature `persistent`), the same one again. Assertions are node:assert's, so any test runner can show them.
 */
import { Storage } from '../contracts/storage.js';
import { defineSuite } from './conformance.js';
import { life, persistent } from './storage-suite/life.js';
import { scans } from './storage-suite/scans.js';
import { transactions } from './storage-suite/transactions.js';
import { values } from './storage-suite/values.js';
import { watches } from './storage-suite/watches.js';

defineSuite(
  Storage,
  (declared) => ({
    ...values,
    ...transactions,
    ...scans,
    ...watches,
    ...life(declared),
    ...(declared.has('persistent') ? persistent : {}),
  }),
  ['persistent'],
);
