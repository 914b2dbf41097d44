/**
 * What ObjectStore means, as cases for every adapter of it. Bytes are derived from seeds, so a failure repeats.
 */
import { ObjectStore } from '../contracts/object-store.js';
import { defineSuite } from './conformance.js';
import { keeping, overlapping } from './object-store-suite/life.js';
import { putting, streaming } from './object-store-suite/puts.js';
import { noRanges, ranges, reading } from './object-store-suite/reads.js';
import { refusing } from './object-store-suite/refusals.js';

defineSuite(
  ObjectStore,
  (features) => ({
    ...putting,
    ...streaming,
    ...reading,
    ...(features.has('range') ? ranges : noRanges),
    ...keeping,
    ...overlapping,
    ...refusing,
  }),
  ['range'],
);
