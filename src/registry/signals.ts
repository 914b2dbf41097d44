/** Ends a host in order when the process is asked to end. Opt-in: a library does not take an application's signals. */
import type { Logger } from '../contracts/plugin.js';
import type { Unsubscribe } from './events.js';
import type { StopReport } from './shutdown.js';

/** What asks for an orderly end. SIGHUP: the terminal was closed. */
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

export interface SignalOptions {
  /** Default SIGINT, SIGTERM and SIGHUP. */
  readonly signals?: readonly NodeJS.Signals[];
  /**
   * Called once the host has stopped. By default, and after it, the signal is raised again without a handler, so that the
   * process ends as whoever sent it expects; a process that has other handlers of the signal ends by them.
   */
  readonly onStopped?: (report: StopReport, signal: NodeJS.Signals) => void | Promise<void>;
}

/**
 * @param stop stops the host
 * @returns what takes the handlers away again
 */
export function handleSignals(
  stop: () => Promise<StopReport>,
  logger: Logger,
  { signals = SIGNALS, onStopped }: SignalOptions = {},
): Unsubscribe {
  let stopping = false;
  const off = () => {
    for (const signal of signals) process.removeListener(signal, handle);
  };
  const raise = (signal: NodeJS.Signals) => {
    off();
    process.kill(process.pid, signal);
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
      .catch((error) => logger.error(`after ${signal}: ${error instanceof Error ? error.message : error}`, { error }))
      .finally(() => raise(signal));
  };
  for (const signal of signals) process.on(signal, handle);
  return Object.assign(off, { [Symbol.dispose]: off });
}
