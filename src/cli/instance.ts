/** One instance of a capability, for the length of a command. */
import type { Capability } from '../contracts/capability.js';
import { withHost } from './host.js';
import type { Cli } from './io.js';

/** Options of every command that works on one instance. */
export interface InstanceOptions {
  /** Its name; default the default one. */
  readonly instance?: string;
}

/** Runs `work` with the instance asked for; the host is stopped at its end, whatever happens. */
export function withInstance<T extends object, R>(
  cli: Cli,
  token: Capability<T>,
  { instance }: InstanceOptions,
  work: (instance: T) => Promise<R>,
): Promise<R> {
  return withHost(cli, {}, async (host) => work(await host.get(token, instance)));
}
