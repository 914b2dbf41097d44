/**
 * Recorded trees of `/proc` and `/sys`: files by path, as kernels write them, shortened to what is read and a little
 * of what is not. A test lays one out in a folder and gives the folder to LinuxComputeHint as its root.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

export type RecordedFiles = Readonly<Record<string, string | Buffer>>;

const made: string[] = [];

/** Lays the files out in a new folder and answers its path. {@link removeTrees} removes it. */
export function layOut(files: RecordedFiles): string {
  const root = mkdtempSync(join(tmpdir(), 'rollout-linux-'));
  made.push(root);
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(join(root, dirname(path)), { recursive: true });
    writeFileSync(join(root, path), content);
  }
  return root;
}

export function removeTrees(): void {
  for (const root of made.splice(0)) rmSync(root, { recursive: true, force: true });
}

const xeon = (processor: number) => `processor\t: ${processor}
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 85
model name\t: Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz
physical id\t: ${processor >> 2}
siblings\t: 4
core id\t\t: ${processor & 3}
flags\t\t: fpu vme sse2 avx2 avx512f
vmx flags\t: vnmi preemption_timer
bugs\t\t: spectre_v1
power management:

`;

const status = (cpus: string) => `Name:\tnode
Umask:\t0022
State:\tR (running)
Cpus_allowed:\tff
Cpus_allowed_list:\t${cpus}
Mems_allowed_list:\t0-1
`;

const MEMINFO = `MemTotal:       16384000 kB
MemFree:         1024000 kB
MemAvailable:    8192000 kB
HugePages_Total:       0
`;

const nodeMeminfo = (node: number, kilobytes: number) => `
Node ${node} MemTotal:       ${kilobytes} kB
Node ${node} MemFree:         102400 kB
`;

/** 8 CPUs on two NUMA nodes and a third of memory only, 16,000 MiB, no cgroups mounted, no affinity set. */
export const MACHINE: RecordedFiles = {
  '/proc/cpuinfo': [0, 1, 2, 3, 4, 5, 6, 7].map(xeon).join(''),
  '/proc/meminfo': MEMINFO,
  '/proc/self/status': status('0-7'),
  '/proc/sys/kernel/hostname': 'rack-7\n',
  '/proc/sys/kernel/osrelease': '6.1.0-18-amd64\n',
  '/sys/class/dmi/id/product_name': 'PowerEdge R740\n',
  '/sys/devices/system/node/online': '0-1,10\n',
  '/sys/devices/system/node/node10/cpulist': '\n',
  '/sys/devices/system/node/node10/meminfo': nodeMeminfo(10, 2_048_000),
  '/sys/devices/system/node/node0/cpulist': '0-2,4\n',
  '/sys/devices/system/node/node0/meminfo': nodeMeminfo(0, 8_192_000),
  '/sys/devices/system/node/node1/cpulist': '3,5-7\n',
  '/sys/devices/system/node/node1/meminfo': nodeMeminfo(1, 8_192_000),
};

/** The machine with this process allowed on some of its CPUs only, as `taskset` does. */
export const withAffinity = (cpus: string): RecordedFiles => ({ ...MACHINE, '/proc/self/status': status(cpus) });

/** An arm64 instance: `Features` for flags, and no model name. */
export const ARM: RecordedFiles = {
  ...MACHINE,
  '/proc/cpuinfo': [0, 1]
    .map(
      (processor) => `processor\t: ${processor}
BogoMIPS\t: 243.75
Features\t: fp asimd aes sha2
CPU implementer\t: 0x41
CPU part\t: 0xd0c

`,
    )
    .join(''),
  '/sys/class/dmi/id/product_name': 'm6g.large\n',
};

/** An IBM mainframe: the number stands before the colon. */
export const S390: RecordedFiles = {
  ...MACHINE,
  '/proc/cpuinfo': `vendor_id       : IBM/S390
# processors    : 2
features\t: esan3 zarch
processor 0: version = FF,  identification = 16F7A8,  machine = 8561
processor 1: version = FF,  identification = 16F7A8,  machine = 8561
`,
};

const V2_MOUNT = '30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n';

/**
 * The machine with cgroups of version 2 and this process in `path`.
 * @param files by path below `/sys/fs/cgroup`
 */
export function withCgroup2(path: string, files: RecordedFiles, mountinfo = V2_MOUNT): RecordedFiles {
  return {
    ...MACHINE,
    '/proc/self/cgroup': `0::${path}\n`,
    '/proc/self/mountinfo': `24 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n${mountinfo}`,
    ...under('/sys/fs/cgroup', files),
  };
}

/**
 * The machine with cgroups of version 1 and this process in `path` of each hierarchy.
 * @param top the cgroup that is mounted: `/` on a host, the container's own in a container
 * @param files by path below `/sys/fs/cgroup`, e.g. `memory/app/memory.limit_in_bytes`
 */
export function withCgroup1(path: string, top: string, files: RecordedFiles): RecordedFiles {
  return {
    ...MACHINE,
    '/proc/self/cgroup': `11:cpuset:${path}\n9:memory:${path}\n4:cpu,cpuacct:${path}\n1:name=systemd:${path}\n`,
    '/proc/self/mountinfo': [
      `31 25 0:27 ${top} /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd`,
      `34 25 0:30 ${top} /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:10 master:2 - cgroup cgroup rw,cpu,cpuacct`,
      `35 25 0:31 ${top} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory`,
      `36 25 0:32 ${top} /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset`,
      '',
    ].join('\n'),
    ...under('/sys/fs/cgroup', files),
  };
}

/** What the kernel shows of a version 1 memory limit that is not set. */
export const V1_UNLIMITED = '9223372036854771712\n';

/**
 * A container of a burstable pod (requests below limits) on Kubernetes, version 2: a cgroup namespace, so that its own
 * cgroup is `/`. The request of 0.25 CPUs is a weight, the limit of 1.5 a quota.
 */
export const KUBERNETES_BURSTABLE: RecordedFiles = {
  ...withCgroup2('/', {
    'cpu.max': '150000 100000\n',
    'cpu.weight': '10\n',
    'cpuset.cpus.effective': '0-7\n',
    'memory.max': '1073741824\n',
    'memory.high': 'max\n',
    'memory.min': '0\n',
  }),
  '/proc/self/mountinfo': `1205 1185 0:250 / / rw,relatime master:352 - overlay overlay rw,lowerdir=/var/lib/containerd/1
1206 1205 0:252 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
1211 1205 0:26 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw
`,
};

const POD = '/kubepods/burstable/pod8f7a6f0e-5d0c-4b8e-9f0e-3b1a2c4d5e6f';

/** The same on version 1, in no cgroup namespace: the paths are the host's, and each mount shows the container's own. */
export const KUBERNETES_BURSTABLE_V1: RecordedFiles = withCgroup1(`${POD}/4c5d`, `${POD}/4c5d`, {
  'cpu,cpuacct/cpu.cfs_quota_us': '150000\n',
  'cpu,cpuacct/cpu.cfs_period_us': '100000\n',
  'cpu,cpuacct/cpu.shares': '256\n',
  'cpuset/cpuset.cpus': '0-7\n',
  'memory/memory.limit_in_bytes': '1073741824\n',
});

/** One without limits: with requests alone it may use the whole node while others leave it. */
export const KUBERNETES_REQUESTS_ONLY: RecordedFiles = {
  ...KUBERNETES_BURSTABLE,
  '/sys/fs/cgroup/cpu.max': 'max 100000\n',
  '/sys/fs/cgroup/memory.max': 'max\n',
};

/**
 * An LXC container with two of the host's CPUs and 2 GiB: lxcfs writes `/proc/cpuinfo` and `/proc/meminfo` for it alone,
 * with CPUs numbered anew, while `/sys` and the CPU lists show the host's numbers.
 */
export const LXC: RecordedFiles = {
  ...withCgroup2('/.lxc', {
    'cpuset.cpus.effective': '2,5\n',
    'memory.max': '2147483648\n',
    'cpu.max': 'max 100000\n',
    '.lxc/cpuset.cpus.effective': '2,5\n',
    '.lxc/memory.max': 'max\n',
  }),
  '/proc/self/mountinfo': `612 588 0:52 /proc/cpuinfo /proc/cpuinfo rw,nosuid,nodev,relatime - fuse.lxcfs lxcfs rw,user_id=0
613 588 0:52 /proc/meminfo /proc/meminfo rw,nosuid,nodev,relatime - fuse.lxcfs lxcfs rw,user_id=0
601 588 0:29 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime - cgroup2 none rw,nsdelegate
`,
  '/proc/cpuinfo': [0, 1].map(xeon).join(''),
  '/proc/meminfo': `MemTotal:        2097152 kB
MemFree:         1900000 kB
MemAvailable:    2000000 kB
`,
  '/proc/self/status': status('2,5'),
  '/proc/sys/kernel/hostname': 'ct101\n',
};

/** WSL 2: one virtual machine with hybrid cgroups, without DMI tables and without NUMA. */
export const WSL: RecordedFiles = {
  '/proc/cpuinfo': [0, 1, 2, 3].map(xeon).join(''),
  '/proc/meminfo': `MemTotal:        8033012 kB
MemFree:         6321040 kB
MemAvailable:    7088540 kB
`,
  '/proc/self/status': status('0-3'),
  '/proc/self/cgroup': `14:misc:/
6:memory:/
3:cpuacct:/
2:cpu:/
1:cpuset:/
0::/
`,
  '/proc/self/mountinfo': `69 66 0:28 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime - tmpfs tmpfs rw,mode=755
70 69 0:29 / /sys/fs/cgroup/unified rw,nosuid,nodev,noexec,relatime - cgroup2 cgroup2 rw,nsdelegate
71 69 0:30 / /sys/fs/cgroup/cpuset rw,nosuid,nodev,noexec,relatime - cgroup cgroup rw,cpuset
72 69 0:31 / /sys/fs/cgroup/cpu rw,nosuid,nodev,noexec,relatime - cgroup cgroup rw,cpu
75 69 0:34 / /sys/fs/cgroup/memory rw,nosuid,nodev,noexec,relatime - cgroup cgroup rw,memory
`,
  '/sys/fs/cgroup/cpuset/cpuset.cpus': '0-3\n',
  '/sys/fs/cgroup/memory/memory.limit_in_bytes': V1_UNLIMITED,
  '/proc/sys/kernel/hostname': 'DESKTOP-7\n',
  '/proc/sys/kernel/osrelease': '5.15.153.1-microsoft-standard-WSL2\n',
};

/** A sandbox that shows nothing of /proc, with a cgroup of its own in /sys. */
export const NO_PROC: RecordedFiles = {
  '/sys/fs/cgroup/cpu.max': '200000 100000\n',
  '/sys/fs/cgroup/memory.max': '536870912\n',
};

/** The same on version 1. */
export const NO_PROC_V1: RecordedFiles = {
  '/sys/fs/cgroup/cpu/cpu.cfs_quota_us': '200000\n',
  '/sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000\n',
  '/sys/fs/cgroup/memory/memory.limit_in_bytes': '536870912\n',
};

/** A memory limit as cgroup files write it. */
export const mib = (count: number): string => `${count * 2 ** 20}\n`;

function under(folder: string, files: RecordedFiles): RecordedFiles {
  return Object.fromEntries(Object.entries(files).map(([path, content]) => [join(folder, path), content]));
}
