import { writeFileSync } from 'node:fs';
import { availableParallelism, cpus, hostname, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from '@jest/globals';
import {
  LinuxComputeHint,
  type LinuxComputeHintOptions,
  openComputeHint,
} from '../../../src/adapters/cloud-local/compute-hint.js';
import { ComputeHint, type ComputeInventory } from '../../../src/contracts/index.js';
import { conformance } from '../../../src/testing/conformance.js';
import '../../../src/testing/compute-hint-suite.js';
import { ARM, layOut, MACHINE, mib, type RecordedFiles, removeTrees, S390, withCgroup1 } from './recorded-linux.js';

/** systeminformation as it answers on a machine of 3 CPUs and 3,000 MiB, so that its figures are told from others. */
const recorded = {
  cpu: async () => ({ cores: 3, manufacturer: 'Intel', brand: 'Xeon', flags: 'sse2' }),
  mem: async () => ({ total: 3000 * 2 ** 20, available: 1000 * 2 ** 20 }),
  system: async () => ({ model: 'unused' }),
};

const unreachable = async () => {
  throw new Error('systeminformation must not be asked');
};

async function inventoryOf(files: RecordedFiles, options: LinuxComputeHintOptions = {}): Promise<ComputeInventory> {
  return new LinuxComputeHint({ root: layOut(files), systemInformation: unreachable, ...options }).inventory();
}

afterAll(removeTrees);

describe('the machine, from recorded /proc and /sys', () => {
  test('/proc/cpuinfo parse: logical CPUs, model and flags', async () => {
    expect(await inventoryOf(MACHINE)).toMatchObject({
      cpuCount: 8,
      cpuModel: 'Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz',
      cpuFlags: ['fpu', 'vme', 'sse2', 'avx2', 'avx512f'],
    });
  });

  test('/proc/meminfo parse: MemTotal and MemAvailable in MiB', async () => {
    expect(await inventoryOf(MACHINE)).toMatchObject({ memoryMib: 16_000, memoryAvailableMib: 8_000 });
  });

  test('MiB are rounded down', async () => {
    const files = { ...MACHINE, '/proc/meminfo': 'MemTotal: 2047 kB\nMemAvailable: 1023 kB\n' };
    expect(await inventoryOf(files)).toMatchObject({ memoryMib: 1, memoryAvailableMib: 0 });
  });

  test('no GPUs without the nvml plugin, and gpuReason says what to list in plugins.json', async () => {
    const { gpus, gpuReason } = await inventoryOf(MACHINE);
    expect(gpus).toEqual([]);
    expect(gpuReason).toBe(
      'no GpuEnumerator is bound: list a plugin that has one under "plugins" in plugins.json, e.g. "rollout.gpu-nvml"',
    );
  });

  test('instance type from DMI, host name, kernel and architecture', async () => {
    expect(await inventoryOf(MACHINE)).toMatchObject({
      instanceType: 'PowerEdge R740',
      hostname: 'rack-7',
      kernel: '6.1.0-18-amd64',
      arch: process.arch,
    });
  });

  test('NUMA nodes in the order of their ids, one of memory only among them', async () => {
    expect((await inventoryOf(MACHINE)).numaNodes).toEqual([
      { id: 0, cpus: [0, 1, 2, 4], memoryMib: 8_000 },
      { id: 1, cpus: [3, 5, 6, 7], memoryMib: 8_000 },
      { id: 10, cpus: [], memoryMib: 2_000 },
    ]);
  });

  test('ARM: Features are the flags, and there is no model name', async () => {
    expect(await inventoryOf(ARM)).toMatchObject({
      cpuCount: 2,
      cpuModel: null,
      cpuFlags: ['fp', 'asimd', 'aes', 'sha2'],
      instanceType: 'm6g.large',
    });
  });

  test('s390: a processor number before the colon is counted', async () => {
    expect(await inventoryOf(S390)).toMatchObject({ cpuCount: 2, cpuModel: null, cpuFlags: [] });
  });

  test('preemptionSignal is null', async () => {
    expect(await new LinuxComputeHint().preemptionSignal()).toBeNull();
  });

  test('/proc/cpuinfo is read again when other CPUs are online, or allowed; where that is hidden, each time', async () => {
    const files = (online: string, allowed: string): RecordedFiles => ({
      '/sys/devices/system/cpu/online': online,
      '/proc/self/status': `Cpus_allowed_list:\t${allowed}\n`,
    });
    const cpus = (count: number) => ({ '/proc/cpuinfo': 'processor\t: 0\n'.repeat(count) });
    const root = layOut({ ...MACHINE, ...files('0-7\n', '0-7'), ...cpus(8) });
    const hint = new LinuxComputeHint({ root, systemInformation: unreachable });
    const counts: number[] = [];
    const then = async (changed: RecordedFiles) => {
      for (const [path, content] of Object.entries(changed)) writeFileSync(join(root, path), content);
      counts.push((await hint.inventory()).cpuCount);
    };
    await then({});
    await then(cpus(7)); // not as a kernel would: nothing else tells of it
    await then(files('0-6\n', '0-7'));
    await then({ ...cpus(2), ...files('0-6\n', '3,5') });
    await then({ ...cpus(3), '/sys/devices/system/cpu/online': '' });
    await then(cpus(4));
    expect(counts).toEqual([8, 8, 7, 2, 3, 4]);
  });

  test('each call reads anew', async () => {
    const hint = new LinuxComputeHint({ root: layOut(MACHINE) });
    const [first, second] = [await hint.inventory(), await hint.inventory()];
    expect(second).toEqual(first);
    expect(second.numaNodes).not.toBe(first.numaNodes);
  });
});

describe('garbage and gaps', () => {
  const limited: RecordedFiles = {
    ...withCgroup1('/a', '/', {
      'cpu,cpuacct/a/cpu.cfs_quota_us': '200000\n',
      'cpu,cpuacct/a/cpu.cfs_period_us': '100000\n',
      'cpuset/a/cpuset.cpus': '0-5\n',
      'memory/a/memory.limit_in_bytes': mib(700),
    }),
    '/sys/fs/cgroup/unified/a/cpu.max': '300000 100000\n',
    '/sys/fs/cgroup/unified/a/cpuset.cpus.effective': '0-6\n',
    '/sys/fs/cgroup/unified/a/memory.max': mib(800),
  };
  const files: RecordedFiles = {
    ...limited,
    '/proc/self/cgroup': `${limited['/proc/self/cgroup']}0::/a\n`,
    '/proc/self/mountinfo': `${limited['/proc/self/mountinfo']}50 25 0:40 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n`,
  };
  const GARBAGE: Record<string, string | Buffer> = {
    nothing: '',
    'a blank line': '\n',
    bytes: Buffer.from([0, 255, 254, 27, 10, 128, 58, 9, 45, 10]),
    words: 'none of this : is - a number , at all /\n',
    'a negative number': '-5\n',
    zero: '0 0\n',
    'a fraction': '1.5\n',
    'a number beyond all bounds': `${'9'.repeat(40)}\n`,
    'a list that runs backwards': '3-1\n',
    'a list without end': '0-99999\n',
    'a list that repeats itself': `${'0-8191,'.repeat(9000)}0\n`,
    'the right fields without values': 'processor\t:\nMemTotal:\nCpus_allowed_list:\n0::\n1 2 3 - cgroup2\n',
    'the right fields with wrong ones':
      'processor\t: x\nMemTotal: many kB\nMemAvailable: -1 kB\nCpus_allowed_list: 0-x\n',
    'a long text': 'x'.repeat(100_000),
  };
  test('the tree that the garbage goes into has every limit', async () => {
    expect(await inventoryOf(files)).toMatchObject({ cpuLimit: 2, memoryLimitMib: 700 });
  });

  test.each(Object.keys(files))('garbage of every kind in %s: the inventory keeps the contract', async (path) => {
    for (const content of Object.values(GARBAGE)) {
      const root = layOut({ ...files, [path]: content });
      const open = async () => new LinuxComputeHint({ root, systemInformation: async () => recorded });
      for (const c of conformance(ComputeHint)) await c.run(open);
    }
  });

  test.each(Object.keys(GARBAGE))(
    '%s in every file at once: systeminformation counts, the rest is empty',
    async (kind) => {
      const garbage = Object.fromEntries(Object.keys(files).map((path) => [path, GARBAGE[kind] ?? '']));
      const inventory = await inventoryOf(garbage, { systemInformation: async () => recorded });
      expect(inventory).toMatchObject({ cpuCount: 3, memoryMib: 3000, cpuLimit: null, memoryLimitMib: null });
      expect(inventory).toMatchObject({ memoryAvailableMib: null, cpuModel: null, cpuFlags: [] });
      expect(inventory.numaNodes.every(({ memoryMib }) => memoryMib === null)).toBe(true);
    },
  );

  test('no /proc and no /sys: systeminformation gives the two required figures, the system the names', async () => {
    expect(await inventoryOf({}, { systemInformation: async () => recorded })).toEqual({
      cpuCount: 3,
      memoryMib: 3000,
      gpus: [],
      instanceType: null,
      gpuReason: expect.stringContaining('no GpuEnumerator is bound'),
      gpuSources: [],
      cpuLimit: null,
      memoryLimitMib: null,
      memoryAvailableMib: null,
      cpuModel: null,
      cpuFlags: [],
      arch: process.arch,
      numaNodes: [],
      hostname: hostname(),
      kernel: release(),
    });
  });

  test('no /proc: the real systeminformation answers by default', async () => {
    const { cpuCount, memoryMib } = await new LinuxComputeHint({ root: layOut({}) }).inventory();
    expect([cpuCount, memoryMib]).toEqual([cpus().length, Math.floor(totalmem() / 2 ** 20)]);
  });

  test('where systeminformation counts no CPU either, as without the real /proc, the kernel tells how many may be used', async () => {
    const answers = { ...recorded, cpu: async () => ({ ...(await recorded.cpu()), cores: 0 }) };
    const { cpuCount, memoryMib } = await inventoryOf({}, { systemInformation: async () => answers });
    expect([cpuCount, memoryMib]).toEqual([availableParallelism(), 3000]);
  });

  test('when nothing tells mem().total, the failure is FatalError Internal and says what is missing', async () => {
    const answers = { ...recorded, mem: async () => ({ total: Number.NaN, available: 0 }) };
    await expect(inventoryOf({}, { systemInformation: async () => answers })).rejects.toMatchObject({
      severity: 'fatal',
      kind: 'Internal',
      message: 'systeminformation answered NaN for mem().total, and nothing else tells it',
      context: { what: 'mem().total' },
    });
  });
});

describe('conformance of LinuxComputeHint', () => {
  for (const c of conformance(ComputeHint)) {
    test(`on a recorded machine: ${c.name}`, () => c.run(async () => new LinuxComputeHint({ root: layOut(MACHINE) })));
  }
});

const onLinux = process.platform === 'linux' ? test : test.skip;

describe('this machine (skipped elsewhere than on Linux: reads its /proc)', () => {
  onLinux('agrees with what Node tells of CPUs, memory, host name and kernel', async () => {
    const inventory = await openComputeHint({ systemInformation: unreachable }).inventory();
    expect(inventory).toMatchObject({
      cpuCount: cpus().length,
      memoryMib: Math.floor(totalmem() / 2 ** 20),
      hostname: hostname(),
      kernel: release(),
      gpus: [],
    });
    // Node's figure heeds affinity, and from Node 22 on quotas too.
    expect(inventory.cpuLimit ?? inventory.cpuCount).toBeLessThanOrEqual(availableParallelism());
  });

  for (const c of conformance(ComputeHint)) onLinux(c.name, () => c.run(async () => new LinuxComputeHint()));
});

describe('openComputeHint', () => {
  test('Linux gets LinuxComputeHint; this platform is the default', () => {
    expect(openComputeHint({ platform: 'linux' })).toBeInstanceOf(LinuxComputeHint);
  });

  test('other platforms get a clear FatalError ConfigInvalid', () => {
    expect(() => openComputeHint({ platform: 'win32' })).toThrow(
      expect.objectContaining({
        severity: 'fatal',
        kind: 'ConfigInvalid',
        code: 'PLATFORM_UNSUPPORTED',
        message: 'adapter local.compute works on Linux and macOS, not on "win32"; bind another adapter of ComputeHint',
      }),
    );
  });
});
