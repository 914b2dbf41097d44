/** Ends a host in order when the process is asked to end. Opt-in: a library does not take an application's signals. */
import { constants } from 'node:os';
import * as check from '../contracts/arguments.js';
import type { Logger } from '../contracts/plugin.js';
import { messageOf } from './ending.js';
import type { Unsubscribe } from './events.js';
import type { StopReport } from './shutdown.js';

/** What asks for an orderly end. SIGHUP: the terminal was closed. */
const SIGNALS: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP'];
const UNHANDLED: readonly string[] = ['SIGKILL', 'SIGSTOP'];

export interface SignalOptions {
  /** Default SIGINT, SIGTERM and SIGHUP. */
  readonly signals?: readonly NodeJS.Signals[];
  /**
   * Called once the host has stopped. By default, and after it, the signal is raised again without a handler, so that the
   * process ends as whoever sent it expects; a process that has other handlers of the signal ends by them. Process 1 of a container, which such a signal does not
   * end, exits with 128 and the signal's number.
   */
  readonly onStopped?: (report: StopReport, signal: NodeJS.Signals) => void | Promise<void>;
}

/**
 * @param stop stops the host
 * @returns what takes the handlers away again
 * @throws FatalError SchemaViolation: an unknown option, a signal that there is none of or that cannot be handled
 */
export function handleSignals(
  stop: () => Promise<StopReport>,
  logger: Logger,
  options: SignalOptions = {},
): Unsubscribe {
  const { signals = SIGNALS, onStopped } = check.known('options', options, ['signals', 'onStopped']);
  if (!Array.isArray(signals)) throw check.invalid('options.signals', 'a list of signals', signals);
  for (const signal of signals) {
    if (Object.hasOwn(constants.signals, signal) && !UNHANDLED.includes(signal)) continue;
    throw check.invalid('options.signals', `signals that can be handled, e.g. ${SIGNALS.join(', ')}`, signal);
  }
  if (onStopped !== undefined && typeof onStopped !== 'function') {
    throw check.invalid('options.onStopped', 'a function', onStopped);
  }
  let stopping = false;
  const off = () => {
    for (const signal of signals) process.removeListener(signal, handle);
  };
  const raise = (signal: NodeJS.Signals) => {
    off();
    process.kill(process.pid, signal);
    // The kernel drops a signal to process 1 that nothing handles: it would go on until it is killed.
    if (process.pid === 1 && process.listenerCount(signal) === 0) process.exit(128 + constants.signals[signal]);
  };
  const handle = (signal: NodeJS.Signals) => {
    if (stopping) {
      logger.warn(`${signal} again: not waiting for the host to stop`);
      raise(signal);
      return;
    }
    stopping = true;
    logger.info(`${signal}: stopping; once more to end at once`);
    stop()
      .then((report) => onStopped?.(report, signal))
      .catch((error) => logger.error(`after ${signal}: ${messageOf(error)}`, { error }))
      .finally(() => raise(signal));
  };
  for (const signal of signals) process.on(signal, handle);
  return Object.assign(off, { [Symbol.dispose]: off });
}
