/** Containers and sandboxes as they are met: recorded ones, and a real cgroup where this machine lets one be made. */
import { spawnSync } from 'node:child_process';
import { accessSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, hostname, totalmem } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from '@jest/globals';
import { LinuxComputeHint } from '../../../src/adapters/cloud-local/compute-hint.js';
import { ComputeHint, type ComputeInventory } from '../../../src/contracts/index.js';
import { conformance } from '../../../src/testing/conformance.js';
import '../../../src/testing/compute-hint-suite.js';
import { bundle } from '../../support/bundle.js';
import {
  KUBERNETES_BURSTABLE,
  KUBERNETES_BURSTABLE_V1,
  KUBERNETES_REQUESTS_ONLY,
  LXC,
  layOut,
  NO_PROC,
  NO_PROC_V1,
  type RecordedFiles,
  removeTrees,
  WSL,
} from './recorded-linux.js';

afterAll(removeTrees);

const ROOT = fileURLToPath(new URL('../../..', import.meta.url)).replace(/\/$/, '');
const onLinux = process.platform === 'linux' ? test : test.skip;

/** systeminformation on a host of 4 CPUs and 4,000 MiB. */
const systemInformation = async () => ({
  cpu: async () => ({ cores: 4, manufacturer: '', brand: '', flags: '' }),
  mem: async () => ({ total: 4000 * 2 ** 20, available: 0 }),
  system: async () => ({ model: '' }),
});

const HOST = { cpuCount: 8, memoryMib: 16_000 };

const MACHINES: [string, RecordedFiles, Partial<ComputeInventory>][] = [
  ['Kubernetes, burstable: its limits', KUBERNETES_BURSTABLE, { ...HOST, cpuLimit: 2, memoryLimitMib: 1024 }],
  ['Kubernetes on cgroup v1, burstable', KUBERNETES_BURSTABLE_V1, { ...HOST, cpuLimit: 2, memoryLimitMib: 1024 }],
  ['Kubernetes, requests alone: no limit', KUBERNETES_REQUESTS_ONLY, { ...HOST, cpuLimit: null, memoryLimitMib: null }],
  [
    'LXC: the machine is the container, and nothing binds beyond that',
    LXC,
    { cpuCount: 2, memoryMib: 2048, cpuLimit: null, memoryLimitMib: null, memoryAvailableMib: 1953, hostname: 'ct101' },
  ],
  [
    'WSL: no limit, no DMI, no NUMA',
    WSL,
    {
      cpuCount: 4,
      memoryMib: 7844,
      cpuLimit: null,
      memoryLimitMib: null,
      instanceType: null,
      numaNodes: [],
      kernel: '5.15.153.1-microsoft-standard-WSL2',
    },
  ],
  [
    'a sandbox without /proc: the limits of its own cgroup still bind',
    NO_PROC,
    { cpuCount: 4, memoryMib: 4000, cpuLimit: 2, memoryLimitMib: 512, memoryAvailableMib: null },
  ],
  ['the same on cgroup v1', NO_PROC_V1, { cpuCount: 4, memoryMib: 4000, cpuLimit: 2, memoryLimitMib: 512 }],
];

describe('recorded containers', () => {
  test.each(MACHINES)('%s', async (_, files, expected) => {
    expect(await new LinuxComputeHint({ root: layOut(files), systemInformation }).inventory()).toMatchObject(expected);
  });

  test.each(MACHINES)('conformance: %s', async (_, files) => {
    const root = layOut(files);
    for (const c of conformance(ComputeHint)) await c.run(() => new LinuxComputeHint({ root, systemInformation }));
  });
});

/** The inventory of a new process that is started by `command`, its last arguments being Node's. */
async function inventoryBy(command: string, args: readonly string[]): Promise<ComputeInventory> {
  const module = await bundle('src/adapters/cloud-local/compute-hint.ts');
  const script = `const { LinuxComputeHint } = await import(${JSON.stringify(module)});
    console.log(JSON.stringify(await new LinuxComputeHint().inventory()));`;
  const node = ['--disable-warning=ExperimentalWarning', '--input-type=module', '-e', script];
  const { stdout, stderr } = spawnSync(command, [...args, ...node], { encoding: 'utf8' });
  expect(stderr).toBe('');
  return JSON.parse(stdout) as ComputeInventory;
}

/** What every process is told, by system calls, of this machine. */
const TOLD = { cpuCount: availableParallelism(), memoryMib: Math.floor(totalmem() / 2 ** 20) };

/** In a mount namespace of its own, with an empty folder where /proc was. */
const HIDING = ['-rm', 'sh', '-c', 'mount -t tmpfs none /proc && exec "$0" "$@"', process.execPath];
const hiding = spawnSync('unshare', [...HIDING, '--version'], { encoding: 'utf8' });
const NO_HIDING = hiding.status === 0 ? null : (hiding.error?.message ?? hiding.stderr.trim());
const whereHidden = NO_HIDING === null ? test : test.skip;

whereHidden(`/proc is hidden for real${NO_HIDING === null ? '' : ` (skipped: ${NO_HIDING})`}`, async () => {
  expect(await inventoryBy('unshare', HIDING)).toMatchObject({ ...TOLD, cpuModel: null, hostname: hostname() });
});

const PERMISSION = ['--permission', '--experimental-permission'].find((flag) =>
  process.allowedNodeEnvironmentFlags.has(flag),
);

onLinux(
  "Node's permission model, without leave to read /proc or to start processes (skipped but on Linux)",
  async () => {
    const args = [PERMISSION ?? '', `--allow-fs-read=${ROOT}/`];
    expect(await inventoryBy(process.execPath, args)).toMatchObject({ ...TOLD, memoryAvailableMib: null });
  },
);

/** The files in which a version has a limit, the quota before its period. */
const KINDS = [
  { version: 2, folders: [''], limits: { 'memory.max': '536870912', 'cpu.max': '50000 100000' } },
  {
    version: 1,
    folders: ['memory', 'cpu'],
    limits: { 'memory.limit_in_bytes': '536870912', 'cpu.cfs_period_us': '100000', 'cpu.cfs_quota_us': '50000' },
  },
];

/** Folders of a new cgroup below this process's own in each hierarchy, with limits set; else why there is none. */
function makeCgroup(): { folders: string[]; remove(): void } | string {
  if (process.platform !== 'linux') return 'not Linux';
  const own = readFileSync('/proc/self/cgroup', 'utf8');
  const reasons: string[] = [];
  for (const { version, folders: names, limits } of KINDS) {
    const made: string[] = [];
    const remove = () => {
      for (const folder of made.splice(0)) rmdirSync(folder);
    };
    try {
      for (const name of names) {
        const path = new RegExp(`^\\d+:${name}:(/.*)$`, 'm').exec(own)?.[1];
        if (path === undefined) throw new Error(`no hierarchy ${name}`);
        const folder = join('/sys/fs/cgroup', name, path, `rollout-test-${process.pid}`);
        mkdirSync(folder);
        made.push(folder);
        for (const [file, limit] of Object.entries(limits)) {
          if (name !== '' && !file.startsWith(`${name}.`)) continue;
          accessSync(join(folder, file));
          writeFileSync(join(folder, file), limit);
        }
      }
      return { folders: [...made], remove };
    } catch (error) {
      reasons.push(`version ${version}: ${(error as Error).message}`);
      remove();
    }
  }
  return reasons.join('; ');
}

const cgroup = makeCgroup();
if (typeof cgroup !== 'string') cgroup.remove();
const inCgroup = typeof cgroup === 'string' ? describe.skip : describe;

inCgroup(`a real cgroup${typeof cgroup === 'string' ? ` (skipped: ${cgroup})` : ''}`, () => {
  test('of half a CPU and 512 MiB: the limits that a process in it has', async () => {
    const { folders, remove } = makeCgroup() as Exclude<typeof cgroup, string>;
    const enter = folders.map((folder) => `echo $$ > ${folder}/cgroup.procs`).join(' && ');
    const inventory = await inventoryBy('sh', ['-c', `${enter} && exec "$0" "$@"`, process.execPath]).finally(remove);
    const { cpuCount, memoryMib, cpuLimit, memoryLimitMib } = inventory;
    expect({ cpuCount, memoryMib }).toEqual({ cpuCount: cpus().length, memoryMib: Math.floor(totalmem() / 2 ** 20) });
    expect({ cpuLimit, memoryLimitMib }).toEqual({ cpuLimit: cpus().length === 1 ? null : 1, memoryLimitMib: 512 });
  });
});
