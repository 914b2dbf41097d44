/**
 * ComputeHint: what this machine has, for whoever plans work on it; and GpuEnumerator, through which a plugin adds GPUs.
 *
 * Both answer with hints, never guarantees: a value is as the operating system told it at the time of the call.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import * as check from './arguments.js';
import { capability } from './capability.js';
import { isCoreError } from './errors.js';
import { onAbort } from './on-abort.js';

/** A partition of a GPU (MIG device): what a process can be given of one that is in MIG mode. */
export interface MigDevice {
  /** Among the GPU's; a number may be missing. The index of nvmlDeviceGetMigDeviceHandleByIndex. */
  readonly index: number;
  /** What `CUDA_VISIBLE_DEVICES` takes. nvmlDeviceGetUUID. */
  readonly uuid: string | null;
  /** With its profile, e.g. `NVIDIA H100 80GB HBM3 MIG 1g.10gb`. nvmlDeviceGetName. */
  readonly model: string | null;
  /** MiB. As {@link GpuInfo.memoryMib}, of the partition. */
  readonly memoryMib: number | null;
  /** MiB. */
  readonly memoryUsedMib: number | null;
}

/** One GPU. Beside each field, the call of NVIDIA's NVML that the adapter `nvml` has it from. */
export interface GpuInfo {
  /** Who made it, lower case: `nvidia`, `amd`, … */
  readonly vendor: string;
  /** As the maker names it, e.g. `NVIDIA H100 80GB HBM3`. nvmlDeviceGetName. */
  readonly model: string;
  /**
   * Memory in total, MiB; 0 where it has none of its own, or the driver does not tell. nvmlDeviceGetMemoryInfo_v2, else
   * nvmlDeviceGetMemoryInfo, `total`.
   */
  readonly memoryMib: number;
  /** The enumerator's source that told of it, e.g. `nvml`. */
  readonly source: string;
  /** As the driver numbers it: the index of nvmlDeviceGetHandleByIndex. */
  readonly index?: number | null;
  /** The driver's stable id; what duplicates are told by. nvmlDeviceGetUUID. */
  readonly uuid?: string | null;
  /** `domain:bus:device.function`; what duplicates are told by where there is no uuid. nvmlDeviceGetPciInfo, `busId`. */
  readonly pciBusId?: string | null;
  /** MiB. The same call as `memoryMib`, `used`; the older one counts what the driver keeps for itself, too. */
  readonly memoryUsedMib?: number | null;
  /**
   * Share of the last sample period in which a kernel ran, 0 to 1. Not occupancy: one tiny kernel reads as busy.
   * nvmlDeviceGetUtilizationRates, `gpu` (percent) / 100; `null` for a GPU in MIG mode.
   */
  readonly utilization?: number | null;
  /** Of the die, °C. nvmlDeviceGetTemperature, sensor NVML_TEMPERATURE_GPU. */
  readonly temperatureC?: number | null;
  /** E.g. `9.0`. nvmlDeviceGetCudaComputeCapability. */
  readonly computeCapability?: string | null;
  /** Whether it is partitioned (Multi-Instance GPU) now. nvmlDeviceGetMigMode, `currentMode`; `null`: it cannot be. */
  readonly migMode?: boolean | null;
  /**
   * Its partitions, where it is in MIG mode; their memory is part of its own. nvmlDeviceGetMaxMigDeviceCount and
   * nvmlDeviceGetMigDeviceHandleByIndex. `null`: it is not partitioned, or the source does not tell.
   */
  readonly migDevices?: readonly MigDevice[] | null;
}

export interface NumaNode {
  readonly id: number;
  /** Logical CPUs, by the kernel's number. */
  readonly cpus: readonly number[];
  readonly memoryMib: number | null;
}

/** How one GpuEnumerator answered. */
export interface GpuSource {
  /** Name of the enumerator's instance in `bindings`; `null` for one that was handed over without a host. */
  readonly instance: string | null;
  /** As {@link GpuEnumeration.source}; `null` for an enumerator that did not answer. */
  readonly source: string | null;
  /** How many of the inventory's `gpus` are from here: those that an enumerator before it had told of are not. */
  readonly gpus: number;
  /** Why it told of none; `null` when it told of one, new or not. */
  readonly reason: string | null;
  readonly driverVersion: string | null;
  /** As {@link GpuEnumeration.warnings}. */
  readonly warnings: readonly string[];
}

export interface ComputeInventory {
  /** Logical CPUs of the machine, not of the container: see `cpuLimit`. */
  readonly cpuCount: number;
  /** Memory of the machine, MiB, not of the container: see `memoryLimitMib`. */
  readonly memoryMib: number;
  /** Empty where no enumerator is bound, or none found any: `gpuReason` says why. */
  readonly gpus: readonly GpuInfo[];
  /** The cloud's or maker's name for this kind of machine, or `null` where nothing tells it. */
  readonly instanceType: string | null;
  /** Why `gpus` is empty; `null` when it is not. */
  readonly gpuReason: string | null;
  /** One for each enumerator that is bound, those that failed included, in the order in which `gpus` were merged. */
  readonly gpuSources: readonly GpuSource[];
  /** CPUs that this process may use: the smallest of affinity, cpuset and quota (rounded up). `null`: no limit binds. */
  readonly cpuLimit: number | null;
  /** The smallest memory limit over this process's cgroup and its ancestors, MiB. `null`: no limit binds. */
  readonly memoryLimitMib: number | null;
  /** What can be allocated without swapping, by the kernel's estimate, MiB. */
  readonly memoryAvailableMib: number | null;
  readonly cpuModel: string | null;
  readonly cpuFlags: readonly string[];
  /** As `process.arch`. */
  readonly arch: string;
  readonly numaNodes: readonly NumaNode[];
  readonly hostname: string;
  readonly kernel: string;
}

export interface InventoryOptions {
  /** Handed to each enumerator, as {@link EnumerateOptions.maxAgeMs}. */
  readonly gpuMaxAgeMs?: number;
}

export interface ComputeHint {
  /** Never fails because of a GPU: an enumerator that cannot answer costs its GPUs, and `gpuReason` says so. */
  inventory(options?: InventoryOptions): Promise<ComputeInventory>;

  /** How long until this machine is taken away, in ms; `null` while nothing says so, or nothing can. */
  preemptionSignal(): Promise<number | null>;
}

export interface GpuEnumeration {
  readonly gpus: readonly GpuInfo[];
  /** Where the answer comes from, e.g. `nvml`, `nvidia-smi`, `none`. */
  readonly source: string;
  /** Why `gpus` is empty, e.g. `libnvidia-ml.so.1 not found`; `null` when it is not. */
  readonly reason: string | null;
  /** Of the host's GPU driver. nvmlSystemGetDriverVersion. */
  readonly driverVersion: string | null;
  /** About GPUs that are left out, e.g. `GPU 1: GPU is lost (15)`. Default: none. */
  readonly warnings?: readonly string[];
}

export interface EnumerateOptions {
  /**
   * How old a remembered answer may be, ms; 0 asks the driver anew. Default: what the enumerator is configured to. It
   * makes figures that change, such as `utilization`, as fresh as they are needed.
   */
  readonly maxAgeMs?: number;
}

export interface GpuEnumerator {
  /** The GPUs there are. Without a driver, or with a broken one: none, and the reason; it does not throw for that. */
  enumerate(options?: EnumerateOptions): Promise<GpuEnumeration>;
}

export const ComputeHint = capability<ComputeHint>('ComputeHint', {
  major: 1,
  door: (impl) => ({
    inventory: async (given) => {
      const { gpuMaxAgeMs, ...rest } = check.known('options', given, ['gpuMaxAgeMs']);
      return impl.inventory({ ...rest, ...ageOption('gpuMaxAgeMs', gpuMaxAgeMs) });
    },
    preemptionSignal: async () => impl.preemptionSignal(),
  }),
});

export const GpuEnumerator = capability<GpuEnumerator>('GpuEnumerator', {
  major: 1,
  door: (impl) => ({
    enumerate: async (given) => {
      const { maxAgeMs, ...rest } = check.known('options', given, ['maxAgeMs']);
      return impl.enumerate({ ...rest, ...ageOption('maxAgeMs', maxAgeMs) });
    },
  }),
});

function ageOption<K extends string>(name: K, value: number | undefined): { readonly [P in K]?: number } {
  return (value === undefined ? {} : { [name]: check.integer(name, value, 0) }) as { readonly [P in K]?: number };
}

/** What {@link watchPreemption} tells. */
export interface PreemptionNotice {
  /** How long until the machine is taken away, ms; `null`: an earlier notice was withdrawn. */
  readonly leadMs: number | null;
  /** The same as a time of `Date.now()`. */
  readonly atMs: number | null;
}

export interface WatchPreemptionOptions {
  /** Ends the watch. */
  readonly signal?: AbortSignal;
  /**
   * Pause between two readings, 1 ms to a day. Default 5,000: as often as EC2 asks to look for its notice of two minutes
   * (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html).
   */
  readonly pollMs?: number;
}

/**
 * Notices that this machine is taken away: one when the signal first tells of it, one whenever the time has moved by more
 * than a poll and a second, one when it is withdrawn. A lead that stays the same is one notice, too: some clouds tell no
 * time, and their adapters answer with the least that is promised. The first reading is made at once. A comfort over
 * {@link ComputeHint}: an adapter supplies `preemptionSignal()` alone.
 *
 * Ends when `signal` aborts; a reading under way is not waited for. A reading that fails with a RecoverableError is
 * made again after the pause.
 * @throws what else `preemptionSignal` threw; FatalError SchemaViolation for an option that is not as it should be, and for
 * an answer that is neither a number nor null
 */
export async function* watchPreemption(
  hint: Pick<ComputeHint, 'preemptionSignal'>,
  options: WatchPreemptionOptions = {},
): AsyncGenerator<PreemptionNotice, void, void> {
  const given = check.known('options', options, ['signal', 'pollMs']);
  const signal = check.signal('signal', given.signal);
  const pollMs = check.integer('pollMs', given.pollMs ?? 5_000, 1, POLL_MS_MAX);
  let told: PreemptionNotice = { leadMs: null, atMs: null };
  while (!signal?.aborted) {
    const leadMs = await reading(hint, signal);
    if (signal?.aborted) return;
    if (leadMs !== undefined) {
      const notice = { leadMs, atMs: leadMs === null ? null : Date.now() + leadMs };
      const movedMs = Math.abs((notice.atMs ?? Number.POSITIVE_INFINITY) - (told.atMs ?? Number.POSITIVE_INFINITY));
      if (leadMs !== told.leadMs && movedMs > pollMs + 1_000) {
        told = notice;
        yield notice;
      }
    }
    // The only thing that this pause rejects for is the signal, which the loop looks at.
    await sleep(pollMs, undefined, signal && { signal }).catch(() => {});
  }
}

/** A day: a notice that is looked for less often than that is none. */
const POLL_MS_MAX = 86_400_000;

/** `undefined`: nothing could be told this time, or the watch is over. */
async function reading(
  hint: Pick<ComputeHint, 'preemptionSignal'>,
  signal: AbortSignal | undefined,
): Promise<number | null | undefined> {
  let stop = (): void => {};
  const stopped = new Promise<undefined>((resolve) => {
    stop = onAbort(signal, () => resolve(undefined));
  });
  try {
    const leadMs = await Promise.race([hint.preemptionSignal(), stopped]);
    if (leadMs === null || leadMs === undefined) return leadMs;
    // What is no number would compare as no notice, for ever.
    if (!Number.isFinite(leadMs)) throw check.invalid('what preemptionSignal() answers', 'ms or null', leadMs);
    // The difference of two clocks: a time that has passed is now.
    return Math.max(0, leadMs);
  } catch (error) {
    if (isCoreError(error) && error.severity === 'recoverable') return undefined;
    throw error;
  } finally {
    stop();
  }
}
