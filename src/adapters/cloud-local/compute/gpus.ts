/**
 * Asks every GpuEnumerator at once and merges what they found, in the enumerators' order. Never rejects: one that
 * throws, answers nonsense or does not answer in time costs its own GPUs, and says so in its source's reason.
 */
import type { EnumerateOptions, GpuEnumerator, GpuInfo, GpuSource } from '../../../contracts/compute-hint.js';
import { show } from '../../../contracts/ids.js';
import type { Instances } from '../../../contracts/plugin.js';

/** A plain list, or what a factory's `ctx.getAll(GpuEnumerator)` answers: then those that failed give a reason too. */
type Enumerators = readonly GpuEnumerator[] | Instances<GpuEnumerator>;

/** The list, or how to come by it at each inventory, so that an enumerator that failed is tried again. */
export type GpuEnumerators = Enumerators | (() => Promise<Enumerators>);

export interface MergedGpus {
  readonly gpus: readonly GpuInfo[];
  /** Why there is none; `null` when there is one. */
  readonly reason: string | null;
  readonly sources: readonly GpuSource[];
}

const NO_ENUMERATOR =
  'no GpuEnumerator is bound: list a plugin that has one under "plugins" in plugins.json, e.g. "rollout.gpu-nvml"';

/** @param timeoutMs how long each enumerator may take */
export async function mergeGpus(
  from: GpuEnumerators,
  timeoutMs: number,
  options: EnumerateOptions,
): Promise<MergedGpus> {
  const enumerators = typeof from === 'function' ? await from() : from;
  const failed = 'failed' in enumerators ? enumerators.failed : [];
  const answers = await Promise.all(enumerators.map((enumerator) => ask(enumerator, timeoutMs, options)));
  const gpus: GpuInfo[] = [];
  const sources: GpuSource[] = answers.map(({ gpus: found, ...source }) => {
    const before = gpus.length;
    for (const gpu of found) if (!gpus.some((kept) => isSame(kept, gpu))) gpus.push(gpu);
    return { ...source, gpus: gpus.length - before };
  });
  for (const { name, error } of failed) {
    sources.push(unanswered(`GpuEnumerator#${name} could not be activated: ${messageOf(error)}`));
  }
  const reason = sources.map((source) => source.reason).join('; ') || NO_ENUMERATOR;
  return { gpus, reason: gpus.length > 0 ? null : reason, sources };
}

type Answer = Omit<GpuSource, 'gpus'> & { readonly gpus: readonly GpuInfo[] };

async function ask(enumerator: GpuEnumerator, timeoutMs: number, options: EnumerateOptions): Promise<Answer> {
  let timer: NodeJS.Timeout | undefined;
  const tooLate = new Promise<Answer>((resolve) => {
    const answer = { ...unanswered(`a GpuEnumerator did not answer within ${timeoutMs} ms`), gpus: [] };
    timer = setTimeout(() => resolve(answer), timeoutMs);
  });
  try {
    return await Promise.race([enumerate(enumerator, options), tooLate]);
  } catch (error) {
    return { ...unanswered(`a GpuEnumerator failed: ${messageOf(error)}`), gpus: [] };
  } finally {
    clearTimeout(timer);
  }
}

async function enumerate(enumerator: GpuEnumerator, options: EnumerateOptions): Promise<Answer> {
  const { gpus, source, reason, driverVersion = null, warnings = [] } = await enumerator.enumerate(options);
  // A copy, and the reading of every key here, so that a plugin's nonsense fails within `ask`.
  const copies = gpus.map((gpu) => ({ ...gpu }));
  return {
    gpus: copies,
    source,
    reason: copies.length > 0 ? null : (reason ?? `${source} found no GPU`),
    driverVersion,
    warnings: [...warnings],
  };
}

function unanswered(reason: string): GpuSource {
  return { source: null, gpus: 0, reason, driverVersion: null, warnings: [] };
}

/** By uuid where both have one: the instances of a partitioned GPU (MIG) share its PCI address. */
function isSame(a: GpuInfo, b: GpuInfo): boolean {
  if (a.uuid && b.uuid) return a.uuid === b.uuid;
  return !!a.pciBusId && !!b.pciBusId && pciAddress(a.pciBusId) === pciAddress(b.pciBusId);
}

/** One spelling: NVML writes `00000000:3B:00.0` where sysfs has `0000:3b:00.0`, and lspci `3b:00.0`. */
function pciAddress(busId: string): string {
  const [, domain = '', rest] =
    /^(?:0*([0-9a-f]*):)?([0-9a-f]+:[0-9a-f]+(?:\.[0-7])?)$/.exec(busId.toLowerCase()) ?? [];
  return rest === undefined ? busId.toLowerCase() : `${domain}:${rest}`;
}

function messageOf(error: unknown): string {
  const { message } = (error ?? {}) as Partial<Error>;
  return typeof message === 'string' ? message : show(error);
}
