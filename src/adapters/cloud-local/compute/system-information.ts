/**
 * What the compute hints ask of systeminformation, behind a port: recorded answers stand in for it in tests.
 *
 * It starts child processes (its `cpu()` takes about 20 ms on Linux), so it is imported only where it is needed: on
 * macOS, and on Linux where `/proc` is hidden.
 */
import { FatalError, systemError } from '../../../contracts/errors.js';
import { show } from '../../../contracts/ids.js';

/** The methods of systeminformation that are called, and what is read of their answers. */
export interface SystemInformation {
  cpu(): Promise<{
    /** Logical CPUs. */
    readonly cores: number;
    readonly manufacturer: string;
    readonly brand: string;
    /** Separated by spaces; empty on Apple silicon. */
    readonly flags: string;
  }>;
  /** Bytes. */
  mem(): Promise<{ readonly total: number; readonly available: number }>;
  system(): Promise<{ readonly model: string }>;
}

export type OpenSystemInformation = () => Promise<SystemInformation>;

/** The package itself; its import takes about 30 ms the first time. */
export const importSystemInformation: OpenSystemInformation = async () => (await import('systeminformation')).default;

/**
 * Whether systeminformation can be asked. Its cpu() starts processes, and where Node's permission model forbids that,
 * the error is thrown out of reach of any catch and ends this process.
 */
export function mayAsk(): boolean {
  return process.permission?.has('child') ?? true;
}

/**
 * @param otherwise the count where it tells none
 * @throws FatalError Internal when the number of CPUs cannot be had
 */
export async function askCpu(
  open: OpenSystemInformation,
  otherwise?: number,
): Promise<{ count: number; model: string | null; flags: string[] }> {
  const { cores, manufacturer, brand, flags } = await ask('cpu()', async () => (await open()).cpu());
  return {
    count: figure('cpu().cores', cores || (otherwise ?? cores)),
    model: brand ? `${manufacturer} ${brand}`.trim() : null,
    flags: flags.split(/\s+/).filter(Boolean),
  };
}

/** @throws FatalError Internal when the size of the memory cannot be had. */
export async function askMemory(
  open: OpenSystemInformation,
): Promise<{ totalBytes: number; availableBytes: number | null }> {
  const { total, available } = await ask('mem()', async () => (await open()).mem());
  return { totalBytes: figure('mem().total', total), availableBytes: Number.isFinite(available) ? available : null };
}

/** The maker's name for the machine, e.g. `MacBookPro18,3`; `null` when it cannot be had. */
export async function askMachineModel(open: OpenSystemInformation): Promise<string | null> {
  try {
    return (await (await open()).system()).model || null;
  } catch {
    return null;
  }
}

async function ask<T>(call: string, answer: () => Promise<T>): Promise<T> {
  try {
    return await answer();
  } catch (cause) {
    throw systemError(cause, `ask systeminformation for ${call}`);
  }
}

/** A count that no inventory goes without. */
function figure(what: string, value: unknown): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value > 0) return value;
  throw new FatalError('Internal', `systeminformation answered ${show(value)} for ${what}, and nothing else tells it`, {
    context: { what },
  });
}
