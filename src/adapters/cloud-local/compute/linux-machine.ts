/**
 * What `/proc` and `/sys` tell of a Linux machine as a whole. Not of the container: lxcfs aside, these files show the
 * host's CPUs and memory to everybody; see linux-limits.ts for what binds this process.
 */
import type { NumaNode } from '../../../contracts/compute-hint.js';
import { bytesOf, cpuList, field, type KernelFiles } from './kernel-files.js';

/** `null` or empty: the machine does not tell, or not in a form that is known. */
export interface LinuxMachine {
  /** Entries of `/proc/cpuinfo` that begin with `processor`: the logical CPUs that are online. */
  readonly cpuCount: number | null;
  /** `MemTotal` of `/proc/meminfo`: physical memory less what the kernel took at boot. */
  readonly memoryBytes: number | null;
  /** `MemAvailable` of `/proc/meminfo`, the kernel's estimate; since Linux 3.14. */
  readonly memoryAvailableBytes: number | null;
  /** `model name` of `/proc/cpuinfo`. ARM kernels do not write one. */
  readonly cpuModel: string | null;
  /** `flags` of `/proc/cpuinfo`, which ARM kernels call `Features`. */
  readonly cpuFlags: readonly string[];
  /** `/sys/class/dmi/id/product_name`: `m5.large` on EC2, the board's name on bare metal, absent on most of ARM. */
  readonly instanceType: string | null;
  /** `cpulist` and `meminfo` of each `/sys/devices/system/node/node<id>`. */
  readonly numaNodes: readonly NumaNode[];
  /** `/proc/sys/kernel/hostname`: of this process's UTS namespace. */
  readonly hostname: string | null;
  /** `/proc/sys/kernel/osrelease`, as `uname -r` prints. */
  readonly kernel: string | null;
}

type LinuxCpus = Pick<LinuxMachine, 'cpuCount' | 'cpuModel' | 'cpuFlags'>;

/**
 * What `/proc/cpuinfo` tells, read again when other CPUs are online or allowed than before. It is the one slow file: the
 * kernel writes 1.5 KB for each CPU, and may ask each for its frequency.
 */
export class CpuInfo {
  #seen: { readonly key: string; readonly cpus: LinuxCpus } | null = null;

  read(files: KernelFiles): LinuxCpus {
    const online = files.line('/sys/devices/system/cpu/online');
    const allowed = field(files.text('/proc/self/status'), 'Cpus_allowed_list');
    const key = online === null ? null : `${online} ${allowed}`;
    if (key !== null && this.#seen?.key === key) return this.#seen.cpus;
    const cpus = readCpus(files);
    this.#seen = key === null ? null : { key, cpus };
    return cpus;
  }
}

function readCpus(files: KernelFiles): LinuxCpus {
  const cpuinfo = files.text('/proc/cpuinfo');
  return {
    // On s390 the number stands before the colon: `processor 0: version = FF, …`.
    cpuCount: cpuinfo?.match(/^processor(?:[ \t]*:[ \t]*\d+| \d+:)/gm)?.length ?? null,
    cpuModel: field(cpuinfo, 'model name') || null,
    cpuFlags: (field(cpuinfo, 'flags') ?? field(cpuinfo, 'Features'))?.split(/\s+/).filter(Boolean) ?? [],
  };
}

export function readMachine(files: KernelFiles, cpuInfo: CpuInfo): LinuxMachine {
  const meminfo = files.text('/proc/meminfo');
  return {
    ...cpuInfo.read(files),
    memoryBytes: bytesOf(field(meminfo, 'MemTotal')) || null,
    memoryAvailableBytes: bytesOf(field(meminfo, 'MemAvailable')),
    instanceType: files.line('/sys/class/dmi/id/product_name'),
    numaNodes: numaNodes(files),
    hostname: files.line('/proc/sys/kernel/hostname'),
    kernel: files.line('/proc/sys/kernel/osrelease'),
  };
}

/** In order of their ids. A node may have memory and no CPUs (CXL), or CPUs and no memory. */
function numaNodes(files: KernelFiles): NumaNode[] {
  const folder = '/sys/devices/system/node';
  const ids = files.names(folder).flatMap((name) => name.match(/^node(\d{1,4})$/)?.[1] ?? []);
  return ids
    .map(Number)
    .sort((a, b) => a - b)
    .map((id) => {
      const memoryBytes = bytesOf(field(files.text(`${folder}/node${id}/meminfo`), `Node ${id} MemTotal`));
      return {
        id,
        cpus: cpuList(files.text(`${folder}/node${id}/cpulist`)) ?? [],
        memoryMib: memoryBytes === null ? null : Math.floor(memoryBytes / 2 ** 20),
      };
    });
}
