/**
 * Conformance of ComputeHint and GpuEnumerator: that answers are plain data in the units and bounds which the contract
 * says, on whatever machine the cases run. What the figures are is for each adapter's own tests.
 */
import assert from 'node:assert/strict';
import { ComputeHint, GpuEnumerator, type GpuInfo } from '../contracts/index.js';
import { defineSuite } from './conformance.js';

defineSuite(ComputeHint, () => ({
  'the inventory counts at least one CPU and one MiB, both whole': async ({ open }) => {
    const { cpuCount, memoryMib } = await (await open()).inventory();
    isInteger('cpuCount', cpuCount, 1);
    isInteger('memoryMib', memoryMib, 1);
  },

  'limits are null or within the machine': async ({ open }) => {
    const inventory = await (await open()).inventory();
    const { cpuCount, memoryMib, cpuLimit, memoryLimitMib, memoryAvailableMib } = inventory;
    if (cpuLimit !== null) isInteger('cpuLimit', cpuLimit, 1, cpuCount);
    if (memoryLimitMib !== null) isInteger('memoryLimitMib', memoryLimitMib, 0, memoryMib);
    if (memoryAvailableMib !== null) isInteger('memoryAvailableMib', memoryAvailableMib, 0, memoryMib);
  },

  'texts are text, and null rather than empty where nothing tells them': async ({ open }) => {
    const { instanceType, cpuModel, arch, hostname, kernel, cpuFlags } = await (await open()).inventory();
    for (const [name, value] of Object.entries({ arch, hostname, kernel })) isText(name, value);
    for (const [name, value] of Object.entries({ instanceType, cpuModel })) if (value !== null) isText(name, value);
    for (const flag of cpuFlags) isText('a CPU flag', flag);
  },

  'NUMA nodes have distinct ids, CPU numbers, and memory or null': async ({ open }) => {
    const { numaNodes } = await (await open()).inventory();
    isUnique(
      'numaNodes[].id',
      numaNodes.map(({ id }) => id),
    );
    for (const { id, cpus, memoryMib } of numaNodes) {
      isInteger('id of a NUMA node', id, 0);
      for (const cpu of cpus) isInteger(`a CPU of NUMA node ${id}`, cpu, 0);
      if (memoryMib !== null) isInteger(`memoryMib of NUMA node ${id}`, memoryMib, 0);
    }
  },

  'gpus are well-formed, and gpuReason says why exactly when there is none': async ({ open }) => {
    const { gpus, gpuReason } = await (await open()).inventory();
    areGpus(gpus);
    isReasonOfEmptiness('gpuReason', gpuReason, gpus);
  },

  'the inventory is plain data: it survives JSON': async ({ open }) => {
    isPlainData('inventory', await (await open()).inventory());
  },

  'preemptionSignal is null, or a lead time in ms': async ({ open }) => {
    const leadMs = await (await open()).preemptionSignal();
    assert.ok(leadMs === null || (Number.isFinite(leadMs) && leadMs >= 0), `found ${leadMs}`);
  },

  'calls may overlap, and agree on what the machine is': async ({ open }) => {
    const hint = await open();
    const [first, second] = await Promise.all([hint.inventory(), hint.inventory()]);
    assert.deepEqual([first.cpuCount, first.memoryMib], [second.cpuCount, second.memoryMib]);
  },
}));

defineSuite(GpuEnumerator, () => ({
  'enumerate answers well-formed GPUs, and a reason exactly when there is none': async ({ open }) => {
    const { gpus, reason } = await (await open()).enumerate();
    areGpus(gpus);
    isReasonOfEmptiness('reason', reason, gpus);
  },

  'the source is named, the driver version is text or null': async ({ open }) => {
    const { source, driverVersion } = await (await open()).enumerate();
    isText('source', source);
    if (driverVersion !== null) isText('driverVersion', driverVersion);
  },

  'the answer is plain data: it survives JSON': async ({ open }) => {
    isPlainData('answer', await (await open()).enumerate());
  },

  'calls may overlap, and agree': async ({ open }) => {
    const enumerator = await open();
    const [first, second] = await Promise.all([enumerator.enumerate(), enumerator.enumerate()]);
    assert.deepEqual(
      first.gpus.map(({ uuid }) => uuid),
      second.gpus.map(({ uuid }) => uuid),
    );
  },
}));

function areGpus(gpus: readonly GpuInfo[]): void {
  isUnique('gpus[].uuid', gpus.map(({ uuid }) => uuid).filter(Boolean));
  for (const gpu of gpus) {
    for (const key of ['vendor', 'model', 'source'] as const) isText(key, gpu[key]);
    assert.equal(gpu.vendor, gpu.vendor.toLowerCase(), 'vendor is written in lower case');
    isInteger('memoryMib', gpu.memoryMib, 0);
    for (const key of ['uuid', 'pciBusId', 'computeCapability'] as const) {
      const value = gpu[key] ?? null;
      if (value !== null) isText(key, value);
    }
    if ((gpu.index ?? null) !== null) isInteger('index', gpu.index, 0);
    if ((gpu.memoryUsedMib ?? null) !== null) isInteger('memoryUsedMib', gpu.memoryUsedMib, 0, gpu.memoryMib);
    const utilization = gpu.utilization ?? 0;
    assert.ok(utilization >= 0 && utilization <= 1, `utilization must be a share from 0 to 1, found ${utilization}`);
    assert.ok(Number.isFinite(gpu.temperatureC ?? 0), `temperatureC must be a number, found ${gpu.temperatureC}`);
    assert.ok([true, false, null].includes(gpu.migMode ?? null), `migMode must be a truth value, found ${gpu.migMode}`);
  }
}

function isReasonOfEmptiness(name: string, reason: unknown, gpus: readonly GpuInfo[]): void {
  if (gpus.length === 0) isText(name, reason);
  else assert.equal(reason, null, `${name} must be null where there are GPUs`);
}

/** By kind, not by prototype: test runners that isolate files have an `Object` of their own in each. */
function isPlainData(name: string, value: unknown): void {
  if (value === null || typeof value === 'string' || typeof value === 'boolean' || Number.isFinite(value)) return;
  const kind = Object.prototype.toString.call(value);
  assert.ok(kind === '[object Object]' || kind === '[object Array]', `${name} is lost in JSON, found ${kind}`);
  for (const [key, inner] of Object.entries(value as object)) isPlainData(`${name}.${key}`, inner);
}

function isText(name: string, value: unknown): void {
  assert.ok(typeof value === 'string' && value.length > 0, `${name} must be text, found ${value}`);
}

function isInteger(name: string, value: unknown, min: number, max = Number.MAX_SAFE_INTEGER): void {
  const fits = typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max;
  assert.ok(fits, `${name} must be an integer from ${min} to ${max}, found ${value}`);
}

function isUnique(name: string, values: readonly unknown[]): void {
  assert.equal(new Set(values).size, values.length, `${name} must be distinct, found ${values}`);
}
