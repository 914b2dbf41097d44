/**
 * The conformance suite of {@link Queue}.
 *
 * An adapter that declares `dead-letters` is opened with at most 10 attempts per item; one that declares `replay` hands
 * over `reopen`. Leases in here are either too long to end or short and waited for, so that a slow machine is no failure.
 */
import { Queue } from '../contracts/queue.js';
import { defineSuite } from './conformance.js';
import * as features from './queue-suite/features.js';
import { ground } from './queue-suite/ground.js';
import { lease, withoutLease } from './queue-suite/leases.js';

defineSuite(Queue, (declared) => ({
  ...ground,
  ...(declared.has('lease') ? lease : withoutLease),
  ...(declared.has('replay') ? features.replay : {}),
  ...(declared.has('delay') ? features.delay : features.withoutDelay),
  ...(declared.has('key') ? features.key : features.withoutKey),
  ...(declared.has('dead-letters') ? features.deadLetters : features.withoutDeadLetters),
  ...(declared.has('dead-letters') && declared.has('lease') ? features.leasedDeadLetters : {}),
}));
