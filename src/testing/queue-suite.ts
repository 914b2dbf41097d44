/**
 * The conformance suite of {@link Queue}.
 *
 * An adapter that declares `dead-letters` is opened with at most 10 attempts per item; one that declares `replay` hands
 * over `reopen`, and one that declares `multi-process` gives by it the same queue again while it is open. Leases in here are either too long to end or short and waited for, so that a slow machine is no failure.
 */
import { Queue } from '../contracts/queue.js';
import { defineSuite } from './conformance.js';
import * as features from './queue-suite/features.js';
import { ground } from './queue-suite/ground.js';
import { lease, withoutLease } from './queue-suite/leases.js';
import { multiProcess } from './queue-suite/multi-process.js';

defineSuite(
  Queue,
  (declared) => ({
    ...ground,
    ...(declared.has('lease') ? lease : withoutLease),
    ...(declared.has('replay') ? { ...features.replay, ...features.replayedAttempts } : {}),
    ...(declared.has('replay') && declared.has('delay') ? features.replayedDelay : {}),
    ...(declared.has('replay') && declared.has('key') ? features.replayedKey : {}),
    ...(declared.has('replay') && declared.has('dead-letters') ? features.replayedDeadLetters : {}),
    ...(declared.has('multi-process') ? multiProcess : {}),
    ...(declared.has('delay') ? features.delay : features.withoutDelay),
    ...(declared.has('key') ? features.key : features.withoutKey),
    ...(declared.has('dead-letters') ? features.deadLetters : features.withoutDeadLetters),
    ...(declared.has('dead-letters') && declared.has('lease') ? features.leasedDeadLetters : {}),
  }),
  ['lease', 'replay', 'delay', 'key', 'dead-letters', 'multi-process'],
);
