/** The machine and the secrets, as `tour` and `doctor` tell of them. No secret's value is looked at or kept. */
import { ComputeHint, type ComputeInventory } from '../contracts/compute-hint.js';
import { FatalError, isCoreError } from '../contracts/errors.js';
import { SecretStore } from '../contracts/secret-store.js';
import type { Host } from '../registry/index.js';
import { messageOf } from './host.js';
import { plural } from './output.js';
import { within } from './time.js';

/** Enumerating GPUs may take 15 s where a driver is slow. */
const ANSWER_MS_MAX = 20_000;

/** Of a secret it is told whether it is set, never its value. */
export interface SecretState {
  readonly name: string;
  readonly state: 'set' | 'not set' | 'unknown';
  /** Why it is unknown. */
  readonly reason?: string;
}

/** The machine, or why nothing is known of it. */
export type Machine = ComputeInventory | { readonly reason: string };

export async function machineOf(host: Host): Promise<Machine> {
  try {
    return await within(ANSWER_MS_MAX, async () => (await host.get(ComputeHint)).inventory());
  } catch (error) {
    return { reason: messageOf(error) };
  }
}

/** The state of each name that may be asked for, or why nothing is known of any. */
export async function secretsOf(host: Host): Promise<SecretState[] | { readonly reason: string }> {
  try {
    return await within(ANSWER_MS_MAX, async () => secretStates(await host.get(SecretStore)));
  } catch (error) {
    return { reason: messageOf(error) };
  }
}

export async function secretStates(secrets: SecretStore): Promise<SecretState[]> {
  const names: unknown = await secrets.names();
  if (Array.isArray(names) && names.every((name) => typeof name === 'string'))
    return Promise.all(names.map((name) => secretState(secrets, name)));
  const message = 'names() of the SecretStore answered what is no list of names: a defect of its plugin';
  throw new FatalError('PluginContract', message, { code: 'ANSWER_INVALID' });
}

async function secretState(secrets: SecretStore, name: string): Promise<SecretState> {
  try {
    await secrets.get(name);
    return { name, state: 'set' };
  } catch (error) {
    if (isCoreError(error) && error.code === 'SECRET_UNSET') return { name, state: 'not set' };
    return { name, state: 'unknown', reason: messageOf(error) };
  }
}

/** `2 of 16 cpus, 3.9 of 15.6 GiB memory, no gpus (why)` */
export function describeMachine(machine: Machine): string {
  if ('reason' in machine) return `unknown: ${machine.reason}`;
  const { cpuCount, cpuLimit, memoryMib, memoryLimitMib, gpus, gpuReason } = machine;
  const gib = (mib: number) => (mib / 1024).toFixed(1);
  const cpus = cpuLimit === null ? plural(cpuCount, 'cpu') : `${cpuLimit} of ${plural(cpuCount, 'cpu')}`;
  const memory = `${memoryLimitMib === null ? '' : `${gib(memoryLimitMib)} of `}${gib(memoryMib)} GiB memory`;
  const names = gpus.map(({ model, memoryMib: mib }) => `${model} ${gib(mib)} GiB`).join(', ');
  return `${cpus}, ${memory}, ${gpus.length === 0 ? `no gpus (${gpuReason})` : `${plural(gpus.length, 'gpu')}: ${names}`}`;
}

/** `A set, B not set` */
export function describeSecrets(secrets: readonly SecretState[]): string {
  if (secrets.length === 0) return 'no name may be asked for';
  return secrets.map(({ name, state, reason }) => `${name} ${state}${reason ? ` (${reason})` : ''}`).join(', ');
}
