/**
 * How much of a Linux machine this process may use: its CPU affinity, and the limits of its cgroup and all ancestors.
 *
 * A process is a member of one cgroup in each hierarchy, and every ancestor's limit binds it too. Both versions of
 * cgroups are read, since hybrid machines run both: in version 2 all controllers share a hierarchy, in version 1 each
 * has its own. Shares and weights are never a limit: they count only while others compete.
 */
import { posix } from 'node:path';
import { cpuList, field, type KernelFiles } from './kernel-files.js';

/** The smallest limit of each kind that is written anywhere, whether or not it is smaller than the machine. */
export interface LinuxLimits {
  readonly cpus: number | null;
  readonly memoryBytes: number | null;
}

/** @see https://docs.kernel.org/admin-guide/cgroup-v2.html and, for version 1, its sibling cgroup-v1/ */
export function readLimits(files: KernelFiles): LinuxLimits {
  const known = memberships(files);
  const mounts = cgroupMounts(files) ?? USUAL_MOUNTS;
  const cpus = [listed(field(files.text('/proc/self/status'), 'Cpus_allowed_list'))];
  const memoryBytes: (number | null)[] = [];
  for (const { controllers, path } of known.length > 0 ? known : USUAL_MEMBERSHIPS) {
    for (const folder of lineage(mounts, controllers, path)) {
      const line = (name: string) => files.line(`${folder}/${name}`);
      if (controllers.includes('')) {
        const [quotaUs, periodUs] = line('cpu.max')?.split(' ') ?? [];
        cpus.push(quotaCpus(quotaUs, periodUs), listed(files.text(`${folder}/cpuset.cpus.effective`)));
        memoryBytes.push(positive(line('memory.max')));
      }
      if (controllers.includes('cpu')) cpus.push(quotaCpus(line('cpu.cfs_quota_us'), line('cpu.cfs_period_us')));
      if (controllers.includes('cpuset')) cpus.push(listed(files.text(`${folder}/cpuset.cpus`)));
      if (controllers.includes('memory')) memoryBytes.push(positive(line('memory.limit_in_bytes')));
    }
  }
  return { cpus: smallest(cpus), memoryBytes: smallest(memoryBytes) };
}

interface Membership {
  /** Controllers of a version 1 hierarchy; one empty name for version 2, as the kernel writes it. */
  readonly controllers: readonly string[];
  readonly path: string;
}

/** Lines of `/proc/self/cgroup`: `4:cpu,cpuacct:/docker/1f…`, and `0::/user.slice` for version 2. */
function memberships(files: KernelFiles): Membership[] {
  const lines = files.text('/proc/self/cgroup')?.split('\n') ?? [];
  return lines.flatMap((line) => {
    const [, controllers, path] = line.match(/^\d+:([^:]*):(\/.*)$/) ?? [];
    return controllers === undefined || path === undefined ? [] : [{ controllers: controllers.split(','), path }];
  });
}

interface CgroupMount {
  readonly controllers: readonly string[];
  /** The cgroup that is seen at the mount point: not `/` where a container is shown its own cgroup only. */
  readonly top: string;
  readonly at: string;
}

/** Of version 2, and of a version 1 container. The root of a machine has no limits there, a container's has its own. */
const USUAL_MOUNTS: readonly CgroupMount[] = [
  { controllers: [''], top: '/', at: '/sys/fs/cgroup' },
  ...['cpu', 'cpuset', 'memory'].map((name) => ({ controllers: [name], top: '/', at: `/sys/fs/cgroup/${name}` })),
];

const USUAL_MEMBERSHIPS: readonly Membership[] = USUAL_MOUNTS.map(({ controllers }) => ({ controllers, path: '/' }));

/**
 * Lines of `/proc/self/mountinfo`: `33 31 0:30 /docker/1f /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct`, with
 * any number of optional fields before the dash. `null` where it is hidden: the place that every container runtime
 * mounts is all there is to go by then.
 */
function cgroupMounts(files: KernelFiles): CgroupMount[] | null {
  const lines = files.text('/proc/self/mountinfo')?.split('\n');
  if (lines === undefined) return null;
  return lines.flatMap((line) => {
    const [mount = '', fileSystem = ''] = line.split(' - ', 2);
    const [, , , top, at] = mount.split(' ').map(unescapeOctal);
    const [type, , options = ''] = fileSystem.split(' ');
    if (top === undefined || at === undefined || (type !== 'cgroup' && type !== 'cgroup2')) return [];
    return [{ controllers: type === 'cgroup2' ? [''] : options.split(','), top, at }];
  });
}

/** The kernel writes space, tab, newline and backslash of a path as three octal digits. */
function unescapeOctal(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}

/**
 * The folders of a cgroup and its ancestors, as far up as they are mounted. Where the path does not lie below what is
 * mounted (a container that sees host paths, or a cgroup outside its namespace, written `/../…`), the mount point alone:
 * it is the container's own cgroup. A path that is not there costs nothing, its files are just unreadable.
 */
function lineage(mounts: readonly CgroupMount[], controllers: readonly string[], path: string): string[] {
  const candidates = mounts.filter((mount) => controllers.some((name) => mount.controllers.includes(name)));
  const mount = candidates.find(({ top }) => isBelow(path, top)) ?? candidates[0];
  if (mount === undefined) return [];
  const folders = [mount.at];
  // Bounded by the longest path that the kernel writes, 4096 bytes.
  for (const name of isBelow(path, mount.top) ? posix.relative(mount.top, path).split('/').filter(Boolean) : []) {
    folders.push(`${folders.at(-1)}/${name}`);
  }
  return folders;
}

function isBelow(path: string, top: string): boolean {
  return !path.split('/').includes('..') && (top === '/' || path === top || path.startsWith(`${top}/`));
}

function listed(cpus: string | null): number | null {
  return cpuList(cpus)?.length ?? null;
}

/** Whole CPUs that a quota of run time per period comes to, rounded up; `max` and `-1` mean that there is none. */
function quotaCpus(quotaUs: string | null | undefined, periodUs: string | null | undefined): number | null {
  const quota = positive(quotaUs);
  const period = positive(periodUs);
  return quota === null || period === null ? null : Math.max(1, Math.ceil(quota / period));
}

/** A decimal above 0. Past 2^53 it loses digits, which no limit that binds has. */
function positive(digits: string | null | undefined): number | null {
  return /^\d{1,20}$/.test(digits ?? '') ? Number(digits) || null : null;
}

function smallest(limits: readonly (number | null)[]): number | null {
  const known = limits.filter((limit) => limit !== null);
  return known.length === 0 ? null : Math.min(...known);
}
