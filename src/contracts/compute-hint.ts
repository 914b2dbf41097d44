/**
 * ComputeHint: what this machine has, for whoever plans work on it; and GpuEnumerator, through which a plugin adds GPUs.
 *
 * Both answer with hints, never guarantees: a value is as the operating system told it at the time of the call.
 */
import { capability } from './capability.js';

export interface GpuInfo {
  /** Who made it, lower case: `nvidia`, `amd`, … */
  readonly vendor: string;
  readonly model: string;
  /** Memory in total, MiB. */
  readonly memoryMib: number;
  /** The enumerator's source that told of it, e.g. `nvml`. */
  readonly source: string;
  /** As the driver numbers it. */
  readonly index?: number | null;
  /** The driver's stable id; what duplicates are told by. */
  readonly uuid?: string | null;
  /** `domain:bus:device.function`; what duplicates are told by where there is no uuid. */
  readonly pciBusId?: string | null;
  readonly memoryUsedMib?: number | null;
  /** Share of the last sample period in which a kernel ran, 0 to 1. */
  readonly utilization?: number | null;
  readonly temperatureC?: number | null;
  /** E.g. `9.0`. */
  readonly computeCapability?: string | null;
  readonly migMode?: boolean | null;
}

export interface NumaNode {
  readonly id: number;
  /** Logical CPUs, by the kernel's number. */
  readonly cpus: readonly number[];
  readonly memoryMib: number | null;
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

export interface ComputeHint {
  /** Never fails because of a GPU: an enumerator that cannot answer costs its GPUs, and `gpuReason` says so. */
  inventory(): Promise<ComputeInventory>;

  /** How long until this machine is taken away, in ms; `null` while nothing says so, or nothing can. */
  preemptionSignal(): Promise<number | null>;
}

export interface GpuEnumeration {
  readonly gpus: readonly GpuInfo[];
  /** Where the answer comes from, e.g. `nvml`, `nvidia-smi`, `none`. */
  readonly source: string;
  /** Why `gpus` is empty, e.g. `libnvidia-ml.so.1 not found`; `null` when it is not. */
  readonly reason: string | null;
  readonly driverVersion: string | null;
}

export interface GpuEnumerator {
  /** The GPUs there are. Without a driver, or with a broken one: none, and the reason; it does not throw for that. */
  enumerate(): Promise<GpuEnumeration>;
}

export const ComputeHint = capability<ComputeHint>('ComputeHint', {
  major: 1,
  door: (impl) => ({
    inventory: async () => impl.inventory(),
    preemptionSignal: async () => impl.preemptionSignal(),
  }),
});

export const GpuEnumerator = capability<GpuEnumerator>('GpuEnumerator', {
  major: 1,
  door: (impl) => ({ enumerate: async () => impl.enumerate() }),
});
