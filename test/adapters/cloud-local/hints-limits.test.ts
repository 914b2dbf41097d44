import { afterAll, describe, expect, test } from '@jest/globals';
import { LinuxComputeHint } from '../../../src/adapters/cloud-local/compute-hint.js';
import {
  layOut,
  MACHINE,
  mib,
  type RecordedFiles,
  removeTrees,
  V1_UNLIMITED,
  withAffinity,
  withCgroup1,
  withCgroup2,
} from './recorded-linux.js';

afterAll(removeTrees);

async function limitsOf(files: RecordedFiles): Promise<[cpuLimit: number | null, memoryLimitMib: number | null]> {
  const { cpuLimit, memoryLimitMib } = await new LinuxComputeHint({ root: layOut(files) }).inventory();
  return [cpuLimit, memoryLimitMib];
}

describe('limits of this process', () => {
  test('bare metal without cgroups: none', async () => {
    expect(await limitsOf(MACHINE)).toEqual([null, null]);
  });

  test('cgroup v2 with "max" everywhere, a weight and a full cpuset: none', async () => {
    const files = withCgroup2('/user.slice', {
      'user.slice/cpu.max': 'max 100000\n',
      'user.slice/cpu.weight': '10\n',
      'user.slice/cpuset.cpus.effective': '0-7\n',
      'user.slice/memory.max': 'max\n',
    });
    expect(await limitsOf(files)).toEqual([null, null]);
  });

  test.each([
    ['exactly two CPUs', '200000 100000', 2],
    ['a fraction, rounded up', '150000 100000', 2],
    ['less than one CPU, which is still one', '1000 100000', 1],
    ['another period', '120000 50000', 3],
    ['the whole machine, which is no limit', '800000 100000', null],
    ['more than the machine, which is no limit', '6400000 100000', null],
  ])('cgroup v2 quota: %s', async (_, quota, cpuLimit) => {
    expect(await limitsOf(withCgroup2('/a', { 'a/cpu.max': `${quota}\n` }))).toEqual([cpuLimit, null]);
  });

  test('cgroup v2 memory limit in MiB; one of MemTotal or more means none', async () => {
    expect(await limitsOf(withCgroup2('/a', { 'a/memory.max': mib(512) }))).toEqual([null, 512]);
    expect(await limitsOf(withCgroup2('/a', { 'a/memory.max': mib(16_000) }))).toEqual([null, null]);
    expect(await limitsOf(withCgroup2('/a', { 'a/memory.max': mib(15_999) }))).toEqual([null, 15_999]);
  });

  test('nested limits: the smallest over all ancestors binds, wherever it stands', async () => {
    const files = withCgroup2('/pods/pod1/app', {
      'cpu.max': '700000 100000\n',
      'pods/cpu.max': '300000 100000\n',
      'pods/pod1/cpu.max': 'max 100000\n',
      'pods/pod1/app/cpu.max': '500000 100000\n',
      'pods/memory.max': mib(4096),
      'pods/pod1/memory.max': mib(1024),
      'pods/pod1/app/memory.max': 'max\n',
    });
    expect(await limitsOf(files)).toEqual([3, 1024]);
  });

  test('a cgroup beside the path binds nothing', async () => {
    const files = withCgroup2('/a', { 'b/cpu.max': '100000 100000\n', 'b/memory.max': mib(1) });
    expect(await limitsOf(files)).toEqual([null, null]);
  });

  test('cpuset and affinity count CPUs; the smaller of quota, cpuset and affinity binds', async () => {
    expect(await limitsOf(withAffinity('0,2-3'))).toEqual([3, null]);
    expect(await limitsOf(withAffinity('0-127'))).toEqual([null, null]);
    const cpuset = withCgroup2('/a', { 'a/cpuset.cpus.effective': '1,6-7\n', 'a/cpu.max': '600000 100000\n' });
    expect(await limitsOf(cpuset)).toEqual([3, null]);
    const status = withAffinity('5')['/proc/self/status'] as string;
    expect(await limitsOf({ ...cpuset, '/proc/self/status': status })).toEqual([1, null]);
  });

  test('CPU lists of large machines with interleaved nodes are long', async () => {
    const even = Array.from({ length: 2048 }, (_, i) => 2 * i);
    const files = {
      ...withCgroup2('/a', { 'a/cpuset.cpus.effective': `${even.join()}\n` }),
      '/proc/self/status': 'Cpus_allowed_list:\t0-4095\n',
      '/proc/cpuinfo': Array.from({ length: 4096 }, (_, i) => `processor\t: ${i}\n`).join(''),
      '/sys/devices/system/node/node0/cpulist': `${even.join()}\n`,
    };
    const { cpuCount, cpuLimit, numaNodes } = await new LinuxComputeHint({ root: layOut(files) }).inventory();
    expect([cpuCount, cpuLimit]).toEqual([4096, 2048]);
    expect(numaNodes[0]?.cpus).toEqual(even);
  });

  test('cgroup v1 on a host: quota, cpuset and memory of each hierarchy and its ancestors; shares are no limit', async () => {
    const files = withCgroup1('/batch/job', '/', {
      'cpu,cpuacct/batch/job/cpu.cfs_quota_us': '-1\n',
      'cpu,cpuacct/batch/job/cpu.cfs_period_us': '100000\n',
      'cpu,cpuacct/batch/job/cpu.shares': '2\n',
      'cpu,cpuacct/batch/cpu.cfs_quota_us': '250000\n',
      'cpu,cpuacct/batch/cpu.cfs_period_us': '100000\n',
      'cpuset/batch/job/cpuset.cpus': '0-3\n',
      'memory/batch/job/memory.limit_in_bytes': V1_UNLIMITED,
      'memory/batch/memory.limit_in_bytes': mib(2048),
    });
    expect(await limitsOf(files)).toEqual([3, 2048]);
  });

  test('cgroup v1 without limits: -1 and the largest number mean none', async () => {
    const files = withCgroup1('/', '/', {
      'cpu,cpuacct/cpu.cfs_quota_us': '-1\n',
      'cpu,cpuacct/cpu.cfs_period_us': '100000\n',
      'cpuset/cpuset.cpus': '0-7\n',
      'memory/memory.limit_in_bytes': V1_UNLIMITED,
    });
    expect(await limitsOf(files)).toEqual([null, null]);
  });

  test('cgroup v1 in a container: its own cgroup is the mount, though the path is the host’s', async () => {
    const files = withCgroup1('/docker/1f', '/docker/1f', {
      'cpuset/cpuset.cpus': '2-3\n',
      'memory/memory.limit_in_bytes': mib(256),
    });
    expect(await limitsOf(files)).toEqual([2, 256]);
  });

  test('cgroup v1 in a container, in a cgroup of its own making below the mount', async () => {
    const files = withCgroup1('/docker/1f/worker', '/docker/1f', {
      'cpuset/worker/cpuset.cpus': '4\n',
      'memory/memory.limit_in_bytes': mib(256),
    });
    expect(await limitsOf(files)).toEqual([1, 256]);
  });

  test.each([
    ['the namespace’s root', '/'],
    ['a host path that is not below the mount', '/kubepods/pod1/app'],
    ['a cgroup outside the namespace', '/../other'],
  ])('cgroup v2 in a namespaced container falls back to the mount’s root: %s', async (_, path) => {
    const files = { 'cpu.max': '200000 100000\n', 'memory.max': mib(512), 'other/memory.max': mib(1) };
    expect(await limitsOf(withCgroup2(path, files))).toEqual([2, 512]);
  });

  test('a mount that shows the cgroup is preferred to one that shows another', async () => {
    const mountinfo =
      '40 30 0:26 /other /elsewhere rw - cgroup2 cgroup2 rw\n' +
      '41 30 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n' +
      '42 30 0:26 /ap /prefix rw - cgroup2 cgroup2 rw\n';
    const files = withCgroup2('/app', { 'app/memory.max': mib(300) }, mountinfo);
    expect(await limitsOf({ ...files, '/elsewhere/memory.max': mib(1), '/prefix/memory.max': mib(2) })).toEqual([
      null,
      300,
    ]);
  });

  test('a mount that shows another cgroup only stands for the container’s own', async () => {
    const mountinfo = '40 30 0:26 /pod9 /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n';
    const files = { 'memory.max': mib(400), 'app/memory.max': mib(1) };
    expect(await limitsOf(withCgroup2('/app', files, mountinfo))).toEqual([null, 400]);
  });

  test('a mount point with spaces, which the kernel escapes', async () => {
    const mountinfo = '40 30 0:26 / /mnt/c\\040groups rw - cgroup2 cgroup2 rw\n';
    const files = withCgroup2('/a', {}, mountinfo);
    expect(await limitsOf({ ...files, '/mnt/c groups/a/memory.max': mib(128) })).toEqual([null, 128]);
  });

  test('a hybrid machine: version 1 limits bind where version 2 is mounted beside them', async () => {
    const v1 = withCgroup1('/a', '/', { 'memory/a/memory.limit_in_bytes': mib(700) });
    const files = {
      ...v1,
      '/proc/self/cgroup': `${v1['/proc/self/cgroup']}0::/b\n`,
      '/proc/self/mountinfo': `${v1['/proc/self/mountinfo']}50 25 0:40 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n`,
      '/sys/fs/cgroup/unified/b/cpu.max': '400000 100000\n',
    };
    expect(await limitsOf(files)).toEqual([4, 700]);
  });

  test('without the list of mounts, cgroups are looked for where container runtimes mount them', async () => {
    const { '/proc/self/mountinfo': _, ...v2 } = withCgroup2('/app', {
      'cpu.max': '300000 100000\n',
      'app/cpu.max': '100000 100000\n',
      'memory.max': mib(512),
    });
    expect(await limitsOf(v2)).toEqual([1, 512]);
    const v1 = {
      ...MACHINE,
      '/proc/self/cgroup': '4:cpu,cpuacct:/docker/1f\n5:memory:/docker/1f\n',
      '/sys/fs/cgroup/cpu/cpu.cfs_quota_us': '200000\n',
      '/sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000\n',
      '/sys/fs/cgroup/memory/memory.limit_in_bytes': mib(256),
    };
    expect(await limitsOf(v1)).toEqual([2, 256]);
  });

  test('a membership whose hierarchy is not mounted binds nothing', async () => {
    expect(await limitsOf({ ...MACHINE, '/proc/self/cgroup': '0::/a\n5:memory:/a\n' })).toEqual([null, null]);
  });
});
