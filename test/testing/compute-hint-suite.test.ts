import { describe, expect, test } from '@jest/globals';
import {
  type Capability,
  ComputeHint,
  type ComputeInventory,
  type GpuEnumeration,
  GpuEnumerator,
  type GpuInfo,
} from '../../src/contracts/index.js';
import { conformance } from '../../src/testing/conformance.js';
import '../../src/testing/compute-hint-suite.js';

const GPU: GpuInfo = {
  vendor: 'nvidia',
  model: 'H200',
  memoryMib: 143_771,
  source: 'nvml',
  index: 0,
  uuid: 'GPU-1',
  pciBusId: '0000:01:00.0',
  memoryUsedMib: 10,
  utilization: 1,
  temperatureC: 40,
  computeCapability: '9.0',
  migMode: false,
};

const AMD: GpuInfo = { vendor: 'amd', model: 'MI300X', memoryMib: 196_592, source: 'drm' };

const INVENTORY: ComputeInventory = {
  cpuCount: 8,
  memoryMib: 16_000,
  gpus: [GPU, AMD],
  instanceType: null,
  gpuReason: null,
  gpuSources: [
    { instance: 'default', source: 'nvml', gpus: 2, reason: null, driverVersion: '550.54', warnings: [] },
    { instance: null, source: 'none', gpus: 0, reason: 'no driver', driverVersion: null, warnings: ['GPU 1: lost'] },
  ],
  cpuLimit: 8,
  memoryLimitMib: 0,
  memoryAvailableMib: 16_000,
  cpuModel: 'EPYC',
  cpuFlags: ['sse2'],
  arch: 'x64',
  numaNodes: [{ id: 0, cpus: [0, 1], memoryMib: null }],
  hostname: 'h',
  kernel: '6.1',
};

async function failures<T extends object>(token: Capability<T>, open: () => Promise<T>): Promise<string[]> {
  const failed: string[] = [];
  for (const c of conformance(token)) await c.run(open).catch(() => failed.push(c.name));
  return failed;
}

const ofInventory = (defect: object, preemptionMs: number | null = null) =>
  failures(ComputeHint, async () => ({
    inventory: async () => ({ ...INVENTORY, ...defect }),
    preemptionSignal: async () => preemptionMs,
  }));

describe('the suite of ComputeHint', () => {
  test('passes answers that keep the contract, with GPUs and without', async () => {
    expect(await ofInventory({})).toEqual([]);
    const bare = { gpus: [], gpuReason: 'no driver', gpuSources: [], numaNodes: [], cpuFlags: [] };
    expect(await ofInventory(bare, 120_000)).toEqual([]);
  });

  const GPUS = 'gpus are well-formed, and gpuReason says why exactly when there is none';
  const TEXTS = 'texts are text, and null rather than empty where nothing tells them';
  const NUMA = 'NUMA nodes have distinct ids, CPU numbers, and memory or null';
  const SOURCES = 'gpuSources tell of each enumerator, and count every GPU once';
  const SOURCE = { instance: null, source: 'nvml', gpus: 2, reason: null, driverVersion: null, warnings: [] };
  const LIMITS = 'limits are null or within the machine';

  test.each<[string, object, string]>([
    ['no CPUs', { cpuCount: 0, cpuLimit: null }, 'the inventory counts at least one CPU and one MiB, both whole'],
    ['half a MiB', { memoryMib: 16_000.5 }, 'the inventory counts at least one CPU and one MiB, both whole'],
    ['a CPU limit beyond the machine', { cpuLimit: 9 }, LIMITS],
    ['a CPU limit of none', { cpuLimit: 0 }, LIMITS],
    ['a memory limit beyond the machine', { memoryLimitMib: 16_001 }, LIMITS],
    ['more memory available than there is', { memoryAvailableMib: 16_001 }, LIMITS],
    ['an empty model', { cpuModel: '' }, TEXTS],
    ['an empty instance type', { instanceType: '' }, TEXTS],
    ['no host name', { hostname: '' }, TEXTS],
    ['an empty flag', { cpuFlags: [''] }, TEXTS],
    ['a node twice', { numaNodes: [...INVENTORY.numaNodes, ...INVENTORY.numaNodes] }, NUMA],
    ['a CPU without a number', { numaNodes: [{ id: 0, cpus: [-1], memoryMib: null }] }, NUMA],
    ['GPUs and a reason', { gpuReason: 'no driver' }, GPUS],
    ['neither GPUs nor a reason', { gpus: [], gpuSources: [] }, GPUS],
    ['a GPU twice', { gpus: [GPU, GPU] }, GPUS],
    ['a GPU of no source', { gpuSources: [] }, SOURCES],
    ['a source without a name', { gpuSources: [{ ...SOURCE, source: '' }] }, SOURCES],
    ['a source with an empty warning', { gpuSources: [{ ...SOURCE, warnings: [''] }] }, SOURCES],
    ['a source of GPUs that says why there are none', { gpuSources: [{ ...SOURCE, reason: 'x' }] }, SOURCES],
    ['a GPU vendor in capitals', { gpus: [{ ...GPU, vendor: 'NVIDIA' }, AMD] }, GPUS],
    ['a GPU without a source', { gpus: [{ ...GPU, source: '' }, AMD] }, GPUS],
    ['GPU memory in fractions', { gpus: [{ ...GPU, memoryMib: 0.5 }, AMD] }, GPUS],
    ['more GPU memory used than there is', { gpus: [{ ...GPU, memoryUsedMib: 143_772 }, AMD] }, GPUS],
    ['GPU utilization in percent', { gpus: [{ ...GPU, utilization: 100 }, AMD] }, GPUS],
    ['a GPU temperature in words', { gpus: [{ ...GPU, temperatureC: 'hot' }, AMD] }, GPUS],
    ['a PCI address in another form', { gpus: [{ ...GPU, pciBusId: 'PCI:1:0:0' }, AMD] }, GPUS],
    ['a compute capability without its minor', { gpus: [{ ...GPU, computeCapability: '9' }, AMD] }, GPUS],
    ['an empty uuid', { gpus: [{ ...GPU, uuid: '' }, AMD] }, GPUS],
    ['a negative GPU index', { gpus: [{ ...GPU, index: -1 }, AMD] }, GPUS],
    [
      'more memory used of a partition than it has',
      {
        gpus: [{ ...GPU, migDevices: [{ index: 0, uuid: null, model: null, memoryMib: 1, memoryUsedMib: 2 }] }, AMD],
      },
      GPUS,
    ],
    ['a MIG mode in words', { gpus: [{ ...GPU, migMode: 'on' }, AMD] }, GPUS],
    ['what JSON loses', { bootedAt: new Date(0) }, 'the inventory is plain data: it survives JSON'],
    ['a key without a value', { cpuModelName: undefined }, 'the inventory is plain data: it survives JSON'],
  ])('tells %s', async (_, defect, name) => {
    expect(await ofInventory(defect)).toEqual([name]);
  });

  test('tells a preemption signal that is no lead time', async () => {
    expect(await ofInventory({}, -1)).toEqual(['preemptionSignal is null, or a lead time in ms']);
    expect(await ofInventory({}, Number.NaN)).toEqual(['preemptionSignal is null, or a lead time in ms']);
  });

  test('tells answers that disagree', async () => {
    let cpuCount = 8;
    const open = async () => ({
      inventory: async () => ({ ...INVENTORY, cpuCount: cpuCount++ }),
      preemptionSignal: async () => null,
    });
    expect(await failures(ComputeHint, open)).toEqual(['calls may overlap, and agree on what the machine is']);
  });
});

describe('the suite of GpuEnumerator', () => {
  const NAMED = 'the source is named, the driver version is text or null, warnings are text';
  const FOUND: GpuEnumeration = { gpus: [GPU], source: 'nvml', reason: null, driverVersion: '550.54' };
  const of = (answer: object) =>
    failures(GpuEnumerator, async () => ({
      enumerate: async () => structuredClone({ ...FOUND, ...answer }) as GpuEnumeration,
    }));

  test('passes answers that keep the contract, with GPUs and without', async () => {
    expect(await of({})).toEqual([]);
    expect(await of({ gpus: [], source: 'none', reason: 'no driver', driverVersion: null })).toEqual([]);
  });

  test.each<[string, object, string]>([
    [
      'neither GPUs nor a reason',
      { gpus: [] },
      'enumerate answers well-formed GPUs, and a reason exactly when there is none',
    ],
    [
      'GPUs and a reason',
      { reason: 'x' },
      'enumerate answers well-formed GPUs, and a reason exactly when there is none',
    ],
    ['no source', { source: '' }, NAMED],
    ['an empty driver version', { driverVersion: '' }, NAMED],
    ['a driver version that is left out', { driverVersion: undefined }, NAMED],
    ['an empty warning', { warnings: [''] }, NAMED],
    ['what JSON loses', { handle: 1n }, 'the answer is plain data: it survives JSON'],
  ])('tells %s', async (_, answer, name) => {
    expect(await of(answer)).toContain(name);
  });

  test('tells answers that disagree', async () => {
    let calls = 0;
    const open = async () => ({
      enumerate: async () => ({ ...FOUND, gpus: [{ ...GPU, uuid: `GPU-${calls++}` }] }),
    });
    expect(await failures(GpuEnumerator, open)).toEqual(['calls may overlap, and agree']);
  });

  test('tells one whose remembered answer its callers can write to, and leaves it as it was', async () => {
    const OWN = 'an answer is the caller’s own, or cannot be written to: the next one is as the driver tells it';
    for (const shared of [FOUND, { ...FOUND, gpus: [], reason: 'no driver' }]) {
      const before = structuredClone(shared);
      expect(await failures(GpuEnumerator, async () => ({ enumerate: async () => shared }))).toEqual([OWN]);
      expect(shared).toEqual(before);
    }
    const renamed = { ...FOUND, gpus: [{ ...GPU }] };
    const open = async () => ({ enumerate: async () => ({ ...renamed, gpus: [...renamed.gpus] }) });
    expect(await failures(GpuEnumerator, open)).toEqual([OWN]);
    const frozen = { ...FOUND, gpus: Object.freeze([Object.freeze({ ...GPU })]) };
    expect(await failures(GpuEnumerator, async () => ({ enumerate: async () => frozen }))).toEqual([]);
  });

  test('tells one that has nothing but what it remembers', async () => {
    const open = async () => ({
      enumerate: async ({ maxAgeMs }: { maxAgeMs?: number } = {}) =>
        structuredClone(maxAgeMs === 0 ? { ...FOUND, gpus: [] } : FOUND),
    });
    expect(await failures(GpuEnumerator, open)).toEqual(['an answer that must not be a remembered one is as good']);
  });
});
