/** The host of a command: opened from the command line's options, stopped at its end whatever happens. */
import { inspect } from 'node:util';
import type { Logger } from '../contracts/plugin.js';
import { type BindingInfo, createHost, type Host, type HostOptions } from '../registry/index.js';
import type { Cli } from './io.js';
import { tell } from './output.js';

/**
 * What the configuration plans, without activating anything.
 * @throws FatalError ConfigInvalid with every problem found
 */
export async function planOf(cli: Cli, set: Readonly<Record<string, unknown>> = {}): Promise<BindingInfo[]> {
  const host = await createHost({ ...optionsOf(cli, set), logger: SILENT });
  try {
    return host.bindings();
  } finally {
    await host.stop();
  }
}

/** Runs `work` with a host and stops the host, whatever happens. What cannot be stopped makes the exit code 1. */
export async function withHost<T>(
  cli: Cli,
  set: Readonly<Record<string, unknown>>,
  work: (host: Host) => Promise<T>,
): Promise<T> {
  const host = await createHost({ ...optionsOf(cli, set), logger: logger(cli) });
  try {
    return await work(host);
  } finally {
    const { errors } = await host.stop();
    if (errors.length > 0) cli.exitCode = 1;
  }
}

/** `set` replaces what the user has set at the same paths and below: it is made from a plan that has those values. */
function optionsOf(cli: Cli, set: Readonly<Record<string, unknown>>): HostOptions {
  const paths = Object.keys(set);
  const kept = Object.entries(cli.set).filter(([key]) => !paths.some((path) => `${key}.`.startsWith(`${path}.`)));
  const { config, profile, env } = cli;
  const all = { ...Object.fromEntries(kept), ...set };
  return { ...cli.hostOptions, config, ...(profile !== undefined && { profile }), set: all, env };
}

/**
 * The same configuration with Queue instances of the command's own on top, so that it touches nobody's items: for each
 * entry of `copies`, the binding of the instance it names as it is written, with another `name` in the configuration.
 * @throws FatalError ConfigInvalid when an adapter's configuration has no `name`
 */
export async function withQueues(
  cli: Cli,
  plan: readonly BindingInfo[],
  copies: ReadonlyMap<string, BindingInfo>,
): Promise<Record<string, unknown>> {
  // What a host tells of its bindings is without what is sensitive; a copy needs that, too.
  const { loadConfig } = await import('../registry/config.js');
  const bound = loadConfig(optionsOf(cli, {})).value.bindings?.Queue;
  const written = (name: string) => (bound !== undefined && 'instances' in bound ? bound.instances[name] : bound);
  const queues = plan.filter(({ capability }) => capability === 'Queue');
  // What is bound, stays as it is written; what is served without a binding, would not be beside one.
  const unbound = queues.filter(({ place }) => place === null);
  const instances: Record<string, object> = Object.fromEntries(
    unbound.map(({ name, adapter, config }) => [name, { adapter, config }]),
  );
  for (const [copy, { name, adapter }] of copies) {
    const binding = written(name);
    instances[copy] = { adapter, ...binding, config: { ...binding?.config, name: copy } };
  }
  const standard = queues.find(({ isDefault }) => isDefault);
  return { 'bindings.Queue': { ...(standard && { default: standard.name }), instances } };
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

const nothing = () => {};
const SILENT: Logger = { debug: nothing, info: nothing, warn: nothing, error: nothing };

function logger(cli: Cli): Logger {
  const write = (level: string) => (message: string, context?: object) =>
    tell(cli, `${level}: ${message}${cli.verbose && context !== undefined ? ` ${inspect(context)}` : ''}`);
  const debug = cli.verbose ? { debug: write('debug'), info: write('info') } : {};
  return { ...SILENT, ...debug, warn: write('warning'), error: write('error') };
}
