/**
 * Asks every GpuEnumerator at once and merges what they found, in the enumerators' order. Never rejects: one that
 * throws, answers nonsense or does not answer in time costs its own GPUs, and says so in `reason`.
 */
import type { GpuEnumerator, GpuInfo } from '../../../contracts/compute-hint.js';
import { show } from '../../../contracts/ids.js';
import type { Instances } from '../../../contracts/plugin.js';

/** A plain list, or what a factory's `ctx.getAll(GpuEnumerator)` answers: then those that failed give a reason too. */
type Enumerators = readonly GpuEnumerator[] | Instances<GpuEnumerator>;

/** The list, or how to come by it at each inventory, so that an enumerator that failed is tried again. */
export type GpuEnumerators = Enumerators | (() => Promise<Enumerators>);

export interface GpuAnswer {
  readonly gpus: readonly GpuInfo[];
  /** Why there is none; `null` when there is one. */
  readonly reason: string | null;
}

const NO_ENUMERATOR = 'no GpuEnumerator is bound: list a plugin that has one under "plugins" in plugins.json';

/** @param timeoutMs how long each enumerator may take */
export async function mergeGpus(from: GpuEnumerators, timeoutMs: number): Promise<GpuAnswer> {
  const enumerators = typeof from === 'function' ? await from() : from;
  const failed = 'failed' in enumerators ? enumerators.failed : [];
  const answers = await Promise.all(enumerators.map((enumerator) => ask(enumerator, timeoutMs)));
  const gpus: GpuInfo[] = [];
  for (const gpu of answers.flatMap((answer) => answer.gpus)) {
    if (!gpus.some((kept) => isSame(kept, gpu))) gpus.push(gpu);
  }
  if (gpus.length > 0) return { gpus, reason: null };
  const reasons = [
    ...answers.map(({ reason }) => reason),
    ...failed.map(({ name, error }) => `GpuEnumerator#${name} could not be activated: ${messageOf(error)}`),
  ];
  return { gpus, reason: reasons.join('; ') || NO_ENUMERATOR };
}

async function ask(enumerator: GpuEnumerator, timeoutMs: number): Promise<GpuAnswer> {
  let timer: NodeJS.Timeout | undefined;
  const tooLate = new Promise<GpuAnswer>((resolve) => {
    const reason = `a GpuEnumerator did not answer within ${timeoutMs} ms`;
    timer = setTimeout(() => resolve({ gpus: [], reason }), timeoutMs);
  });
  try {
    return await Promise.race([enumerate(enumerator), tooLate]);
  } catch (error) {
    return { gpus: [], reason: `a GpuEnumerator failed: ${messageOf(error)}` };
  } finally {
    clearTimeout(timer);
  }
}

async function enumerate(enumerator: GpuEnumerator): Promise<GpuAnswer> {
  const { gpus, source, reason } = await enumerator.enumerate();
  // A copy, and the reading of every key here, so that a plugin's nonsense fails within `ask`.
  return { gpus: gpus.map((gpu) => ({ ...gpu })), reason: reason ?? `${source} found no GPU` };
}

/** By uuid where both have one: the instances of a partitioned GPU (MIG) share its PCI address. */
function isSame(a: GpuInfo, b: GpuInfo): boolean {
  if (a.uuid && b.uuid) return a.uuid === b.uuid;
  return !!a.pciBusId && !!b.pciBusId && pciAddress(a.pciBusId) === pciAddress(b.pciBusId);
}

/** One spelling: NVML writes `00000000:3B:00.0` where sysfs has `0000:3b:00.0`. */
function pciAddress(busId: string): string {
  return busId.toLowerCase().replace(/^0+(?=[0-9a-f]*:[0-9a-f]+:)/, '');
}

function messageOf(error: unknown): string {
  const { message } = (error ?? {}) as Partial<Error>;
  return typeof message === 'string' ? message : show(error);
}
