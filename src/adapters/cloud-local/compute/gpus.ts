/**
 * Asks every GpuEnumerator at once and merges what they found, in the enumerators' order. Never rejects: one that
 * throws, answers nonsense or does not answer in time costs its own GPUs, and says so in its source's reason.
 */
import * as check from '../../../contracts/arguments.js';
import type {
  EnumerateOptions,
  GpuEnumerator,
  GpuInfo,
  GpuSource,
  MigDevice,
} from '../../../contracts/compute-hint.js';
import { show } from '../../../contracts/ids.js';
import type { Instances } from '../../../contracts/plugin.js';

/** A plain list, or what a factory's `ctx.getAll(GpuEnumerator)` answers: with names, and with those that failed. */
type Enumerators = readonly GpuEnumerator[] | Instances<GpuEnumerator>;

/**
 * The list, or how to come by it at each inventory, so that an enumerator that failed is tried again. Those that are not
 * there within `withinMs` are to be left out: one that hangs must not keep the others.
 */
export type GpuEnumerators = Enumerators | ((withinMs: number) => Promise<Enumerators>);

export interface MergedGpus {
  readonly gpus: readonly GpuInfo[];
  /** Why there is none; `null` when there is one. */
  readonly reason: string | null;
  readonly sources: readonly GpuSource[];
}

const WHAT_TO_LIST = 'list a plugin that has one under "plugins" in plugins.json, e.g. "rollout.gpu-nvml"';

/** What is given on top to a function that does not keep to `withinMs` itself, before all of its enumerators are left out. */
const GRACE_MS = 1_000;

/** @param timeoutMs how long each enumerator may take to be activated, and then to answer */
export async function mergeGpus(
  from: GpuEnumerators,
  timeoutMs: number,
  options: EnumerateOptions,
): Promise<MergedGpus> {
  const enumerators = await inTime('GpuEnumerators were not activated', timeoutMs + GRACE_MS, async () =>
    typeof from === 'function' ? from(timeoutMs) : from,
  ).catch((error: unknown) => Object.assign([], { failed: [{ name: null, error }] }));
  const { names = [], failed = [], absent } = enumerators as Partial<Instances<GpuEnumerator>>;
  const answers = await Promise.all(
    enumerators.map((enumerator, i) => ask(enumerator, names[i] ?? null, timeoutMs, options)),
  );
  const gpus: GpuInfo[] = [];
  const sources: GpuSource[] = answers.map(({ gpus: found, ...source }) => {
    const before = gpus.length;
    for (const gpu of found) if (!gpus.some((kept) => isSame(kept, gpu))) gpus.push(gpu);
    return { ...source, gpus: gpus.length - before };
  });
  for (const { name, error } of failed) {
    const who = name === null ? 'GpuEnumerators' : `GpuEnumerator#${name}`;
    sources.push(unanswered(name, `${who} could not be activated: ${messageOf(error)}`));
  }
  const reason =
    sources.map((source) => source.reason).join('; ') || `no GpuEnumerator is bound: ${absent ?? WHAT_TO_LIST}`;
  return { gpus, reason: gpus.length > 0 ? null : reason, sources };
}

type Answer = Omit<GpuSource, 'gpus'> & { readonly gpus: readonly GpuInfo[] };

async function ask(
  enumerator: GpuEnumerator,
  instance: string | null,
  timeoutMs: number,
  options: EnumerateOptions,
): Promise<Answer> {
  const who = instance === null ? 'a GpuEnumerator' : `GpuEnumerator#${instance}`;
  try {
    return await inTime('no answer', timeoutMs, () => enumerate(enumerator, instance, options));
  } catch (error) {
    return { ...unanswered(instance, `${who} failed: ${messageOf(error)}`), gpus: [] };
  }
}

/** @throws what `work` throws, and an Error that says `what` within the time */
async function inTime<T>(what: string, timeoutMs: number, work: () => Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const tooLate = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} within ${timeoutMs} ms`)), timeoutMs);
  });
  try {
    return await Promise.race([work(), tooLate]);
  } finally {
    clearTimeout(timer);
  }
}

async function enumerate(
  enumerator: GpuEnumerator,
  instance: string | null,
  options: EnumerateOptions,
): Promise<Answer> {
  const answer = await enumerator.enumerate(options);
  // Read and copied here, so that a plugin's nonsense fails within `ask` and not where the inventory is used.
  const source = text('source', answer.source);
  const gpus = answer.gpus.map((gpu, i) => checked(`gpus[${i}]`, gpu));
  return {
    instance,
    gpus,
    source,
    reason: gpus.length > 0 ? null : (orNull(text)('reason', answer.reason ?? null) ?? `${source} found no GPU`),
    driverVersion: orNull(text)('driverVersion', answer.driverVersion ?? null),
    warnings: Array.from(answer.warnings ?? [], (warning, i) => text(`warnings[${i}]`, warning)),
  };
}

type Check<T> = (what: string, value: unknown) => T;

const text: Check<string> = (what, value) => {
  if (typeof value === 'string' && value !== '') return value;
  throw check.invalid(what, 'text', value);
};
const count: Check<number> = (what, value) => check.integer(what, value, 0);
const orNull =
  <T>(one: Check<T>): Check<T | null> =>
  (what, value) =>
    value === null ? null : one(what, value);

const CHECKS: { readonly [K in keyof GpuInfo]-?: Check<GpuInfo[K]> } = {
  vendor: text,
  model: text,
  memoryMib: count,
  source: text,
  index: orNull(count),
  uuid: orNull(text),
  pciBusId: orNull(text),
  memoryUsedMib: orNull(count),
  utilization: orNull((what, value) => {
    if (typeof value === 'number' && value >= 0 && value <= 1) return value;
    throw check.invalid(what, 'a share from 0 to 1', value);
  }),
  temperatureC: orNull((what, value) => {
    if (typeof value === 'number' && Number.isFinite(value)) return value;
    throw check.invalid(what, 'a number', value);
  }),
  computeCapability: orNull(text),
  migMode: orNull((what, value) => {
    if (typeof value === 'boolean') return value;
    throw check.invalid(what, 'true or false', value);
  }),
  migDevices: orNull((what, value) => {
    if (!Array.isArray(value)) throw check.invalid(what, 'a list', value);
    return value.map((device: MigDevice, i) => checkedMig(`${what}[${i}]`, device));
  }),
};

function checkedMig(what: string, device: MigDevice): MigDevice {
  if (typeof device !== 'object' || device === null) throw check.invalid(what, 'an object', device);
  return {
    index: count(`${what}.index`, device.index),
    uuid: orNull(text)(`${what}.uuid`, device.uuid ?? null),
    model: orNull(text)(`${what}.model`, device.model ?? null),
    memoryMib: orNull(count)(`${what}.memoryMib`, device.memoryMib ?? null),
    memoryUsedMib: orNull(count)(`${what}.memoryUsedMib`, device.memoryUsedMib ?? null),
  };
}

const REQUIRED: ReadonlySet<string> = new Set<keyof GpuInfo>(['vendor', 'model', 'memoryMib', 'source']);

/** A copy of what the contract knows of a GPU. */
function checked(what: string, gpu: GpuInfo): GpuInfo {
  if (typeof gpu !== 'object' || gpu === null) throw check.invalid(what, 'an object', gpu);
  const entries = Object.entries(CHECKS).flatMap(([key, one]) => {
    const value: unknown = gpu[key as keyof GpuInfo];
    return value === undefined && !REQUIRED.has(key) ? [] : [[key, one(`${what}.${key}`, value)]];
  });
  return Object.fromEntries(entries) as GpuInfo;
}

function unanswered(instance: string | null, reason: string): GpuSource {
  return { instance, source: null, gpus: 0, reason, driverVersion: null, warnings: [] };
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
