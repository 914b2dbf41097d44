/**
 * ComputeHint of this machine (`local.compute`): what it has, and what of it this process may use.
 *
 * On Linux `/proc` and `/sys` are read directly at each call, in well under a millisecond (bench/compute.ts), and
 * systeminformation stands in where the two figures that every inventory must have are hidden. On macOS
 * systeminformation answers, and GPUs are not enumerated. GPUs come from the GpuEnumerators that are bound, never
 * from here; none of them can make `inventory()` fail.
 */
import { availableParallelism, hostname, release, totalmem } from 'node:os';
import * as check from '../../contracts/arguments.js';
import { checked } from '../../contracts/capability.js';
import { ComputeHint, type ComputeInventory, type InventoryOptions } from '../../contracts/compute-hint.js';
import { FatalError } from '../../contracts/errors.js';
import { show } from '../../contracts/ids.js';
import { type GpuEnumerators, mergeGpus } from './compute/gpus.js';
import { KernelFiles } from './compute/kernel-files.js';
import { readLimits } from './compute/linux-limits.js';
import { CpuInfo, readMachine } from './compute/linux-machine.js';
import {
  askCpu,
  askMachineModel,
  askMemory,
  importSystemInformation,
  mayAsk,
  type OpenSystemInformation,
} from './compute/system-information.js';

export interface MacosComputeHintOptions {
  /** Where systeminformation comes from. Default: imported when first needed. */
  readonly systemInformation?: OpenSystemInformation;
}

export interface LinuxComputeHintOptions extends MacosComputeHintOptions {
  /** Folder under which `/proc` and `/sys` are found. Default `/`. */
  readonly root?: string;
  /** Default: none, so no GPUs. */
  readonly enumerators?: GpuEnumerators;
  /**
   * How long each enumerator may take to be activated, and then to answer, before its GPUs are left out, ms; 600,000 at
   * most. Default 15,000: more than a host gives an activation, and three times what `nvml` allows itself.
   */
  readonly gpuTimeoutMs?: number;
}

export interface OpenComputeHintOptions extends LinuxComputeHintOptions {
  /** Default: `process.platform`. */
  readonly platform?: NodeJS.Platform;
}

/**
 * The compute hint for a platform. One that does not know an option, as macOS does none of GPUs, goes without it.
 * @throws FatalError ConfigInvalid, code `PLATFORM_UNSUPPORTED`, for any but Linux and macOS. FatalError SchemaViolation
 * for an option that neither knows
 */
export function openComputeHint(given: OpenComputeHintOptions = {}): ComputeHint {
  const { platform = process.platform, ...options } = check.known('options', given, ['platform', ...LINUX_OPTIONS]);
  if (platform === 'linux') return new LinuxComputeHint(options);
  if (platform === 'darwin') return new MacosComputeHint({ systemInformation: options.systemInformation });
  throw new FatalError(
    'ConfigInvalid',
    `adapter local.compute works on Linux and macOS, not on ${show(platform)}; bind another adapter of ComputeHint`,
    { code: 'PLATFORM_UNSUPPORTED', context: { platform } },
  );
}

const LINUX_OPTIONS = ['root', 'enumerators', 'gpuTimeoutMs', 'systemInformation'] as const;

export class LinuxComputeHint implements ComputeHint {
  readonly #root: string;
  readonly #cpuInfo = new CpuInfo();
  readonly #enumerators: GpuEnumerators;
  readonly #gpuTimeoutMs: number;
  readonly #systemInformation: OpenSystemInformation;

  constructor(given: LinuxComputeHintOptions = {}) {
    const options = check.known('options', given, LINUX_OPTIONS);
    this.#root = check.text('root', options.root ?? '/', 1, 4096);
    this.#enumerators = options.enumerators ?? [];
    this.#gpuTimeoutMs = check.integer('gpuTimeoutMs', options.gpuTimeoutMs ?? 15_000, 1, 600_000);
    this.#systemInformation = options.systemInformation ?? importSystemInformation;
    // biome-ignore lint/correctness/noConstructorReturn: `new` must give the contract's argument checks, as openers do.
    return checked(ComputeHint, this, { adapter: 'local.compute' });
  }

  async inventory({ gpuMaxAgeMs }: InventoryOptions = {}): Promise<ComputeInventory> {
    const age = gpuMaxAgeMs === undefined ? {} : { maxAgeMs: gpuMaxAgeMs };
    const { gpus, reason, sources } = await mergeGpus(this.#enumerators, this.#gpuTimeoutMs, age);
    const files = new KernelFiles(this.#root);
    const machine = readMachine(files, this.#cpuInfo);
    const limits = readLimits(files);
    const cpuCount = machine.cpuCount ?? (await this.#cpuCountWithoutProc());
    const memoryBytes = machine.memoryBytes ?? (await this.#memoryBytesWithoutProc());
    return {
      cpuCount,
      memoryMib: mebibytes(memoryBytes),
      gpus,
      instanceType: machine.instanceType,
      gpuReason: reason,
      gpuSources: sources,
      cpuLimit: limits.cpus !== null && limits.cpus < cpuCount ? limits.cpus : null,
      memoryLimitMib:
        limits.memoryBytes !== null && limits.memoryBytes < memoryBytes ? mebibytes(limits.memoryBytes) : null,
      memoryAvailableMib: machine.memoryAvailableBytes === null ? null : mebibytes(machine.memoryAvailableBytes),
      cpuModel: machine.cpuModel,
      cpuFlags: [...machine.cpuFlags],
      arch: process.arch,
      numaNodes: machine.numaNodes,
      hostname: machine.hostname ?? hostname(),
      kernel: machine.kernel ?? release(),
    };
  }

  /**
   * systeminformation counts by /proc, too: where all of it is hidden, and not a file of it alone, only the kernel is
   * left to ask. It tells how many CPUs this process may run on.
   */
  async #cpuCountWithoutProc(): Promise<number> {
    return mayAsk() ? (await askCpu(this.#systemInformation, availableParallelism())).count : availableParallelism();
  }

  async #memoryBytesWithoutProc(): Promise<number> {
    return mayAsk() ? (await askMemory(this.#systemInformation)).totalBytes : totalmem();
  }

  /** Always `null`: nothing on a machine of one's own announces that it is taken away. */
  async preemptionSignal(): Promise<null> {
    return null;
  }
}

export class MacosComputeHint implements ComputeHint {
  readonly #systemInformation: OpenSystemInformation;

  constructor(given: MacosComputeHintOptions = {}) {
    const { systemInformation } = check.known('options', given, ['systemInformation']);
    this.#systemInformation = systemInformation ?? importSystemInformation;
    // biome-ignore lint/correctness/noConstructorReturn: `new` must give the contract's argument checks, as openers do.
    return checked(ComputeHint, this, { adapter: 'local.compute' });
  }

  async inventory(): Promise<ComputeInventory> {
    const [cpu, memory, instanceType] = await Promise.all([
      askCpu(this.#systemInformation),
      askMemory(this.#systemInformation),
      askMachineModel(this.#systemInformation),
    ]);
    return {
      cpuCount: cpu.count,
      memoryMib: mebibytes(memory.totalBytes),
      gpus: [],
      instanceType,
      gpuReason: 'GPUs are not enumerated on macOS',
      gpuSources: [],
      // macOS has neither cgroups nor affinity masks, and no NUMA.
      cpuLimit: null,
      memoryLimitMib: null,
      memoryAvailableMib: memory.availableBytes === null ? null : mebibytes(memory.availableBytes),
      cpuModel: cpu.model,
      cpuFlags: cpu.flags,
      arch: process.arch,
      numaNodes: [],
      hostname: hostname(),
      kernel: release(),
    };
  }

  /** Always `null`, as on Linux. */
  async preemptionSignal(): Promise<null> {
    return null;
  }
}

/** Whole MiB, rounded down: a hint should not promise what is not there. */
function mebibytes(bytes: number): number {
  return Math.floor(bytes / 2 ** 20);
}
