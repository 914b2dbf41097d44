/**
 * Conformance of GpuEnumerator: that answers are plain data in the units and bounds which the contract says, with GPUs
 * and without. What the figures are is for each adapter's own tests.
 */
import assert from 'node:assert/strict';
import { GpuEnumerator, type GpuInfo, type MigDevice } from '../contracts/index.js';
import { defineSuite } from './conformance.js';

defineSuite(
  GpuEnumerator,
  () => ({
    'enumerate answers well-formed GPUs, and a reason exactly when there is none': async ({ open }) => {
      const { gpus, reason } = await (await open()).enumerate();
      areGpus(gpus);
      isReasonOfEmptiness('reason', reason, gpus);
    },

    'the source is named, the driver version is text or null, warnings are text': async ({ open }) => {
      const { source, driverVersion, warnings = [] } = await (await open()).enumerate();
      isText('source', source);
      for (const warning of warnings) isText('a warning', warning);
      if (driverVersion !== null) isText('driverVersion', driverVersion);
    },

    'the answer is plain data: it survives JSON': async ({ open }) => {
      isPlainData('answer', await (await open()).enumerate());
    },

    'an answer that must not be a remembered one is as good': async ({ open }) => {
      const { gpus, reason } = await (await open()).enumerate({ maxAgeMs: 0 });
      areGpus(gpus);
      isReasonOfEmptiness('reason', reason, gpus);
    },

    'an answer is the caller’s own, or cannot be written to: the next one is as the driver tells it': async ({
      open,
    }) => {
      const enumerator = await open();
      const gpus = (await enumerator.enumerate()).gpus as GpuInfo[];
      const [before, model] = [gpus.length, gpus[0]?.model];
      const wasWritten = isWritten(() => gpus.push({ vendor: 'x', model: 'x', memoryMib: 0, source: 'x' }));
      const wasRenamed = isWritten(() => Object.assign(gpus[0] ?? {}, { model: 'written by a caller' }));
      const next = (await enumerator.enumerate()).gpus;
      const found = [next.length, next[0]?.model];
      if (wasRenamed) Object.assign(gpus[0] ?? {}, { model });
      if (wasWritten) gpus.pop();
      assert.deepEqual(found, [before, model], 'what a caller wrote to its answer is in the next one');
    },

    'an age that is no number of ms is refused': async ({ open }) => {
      const enumerator = await open();
      for (const maxAgeMs of [-1, 0.5, '1' as unknown as number]) {
        await assert.rejects(enumerator.enumerate({ maxAgeMs }), { kind: 'SchemaViolation', code: 'ARGUMENT_INVALID' });
      }
    },

    'calls may overlap, and agree': async ({ open }) => {
      const enumerator = await open();
      const [first, second] = await Promise.all([enumerator.enumerate(), enumerator.enumerate()]);
      assert.deepEqual(
        first.gpus.map(({ uuid }) => uuid),
        second.gpus.map(({ uuid }) => uuid),
      );
    },
  }),
  [],
);

/** Whether that could be done to an answer: one that is frozen throws a TypeError. */
function isWritten(write: () => void): boolean {
  try {
    write();
    return true;
  } catch (error) {
    if (error instanceof TypeError) return false;
    throw error;
  }
}

const PCI_ADDRESS = /^([0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}(\.[0-7])?$/i;

/** The checks that GPUs of an enumerator and of an inventory share. */
export function areGpus(gpus: readonly GpuInfo[]): void {
  isUnique('gpus[].uuid', gpus.map(({ uuid }) => uuid).filter(Boolean));
  for (const gpu of gpus) {
    for (const key of ['vendor', 'model', 'source'] as const) isText(key, gpu[key]);
    assert.equal(gpu.vendor, gpu.vendor.toLowerCase(), 'vendor is written in lower case');
    isInteger('memoryMib', gpu.memoryMib, 0);
    for (const key of ['uuid', 'pciBusId', 'computeCapability'] as const) {
      const value = gpu[key] ?? null;
      if (value !== null) isText(key, value);
    }
    if (gpu.pciBusId) assert.match(gpu.pciBusId, PCI_ADDRESS, 'pciBusId is domain:bus:device.function');
    if (gpu.computeCapability) assert.match(gpu.computeCapability, /^\d+\.\d+$/, 'computeCapability is major.minor');
    if ((gpu.index ?? null) !== null) isInteger('index', gpu.index, 0);
    if ((gpu.memoryUsedMib ?? null) !== null) isInteger('memoryUsedMib', gpu.memoryUsedMib, 0, gpu.memoryMib);
    const utilization = gpu.utilization ?? 0;
    assert.ok(utilization >= 0 && utilization <= 1, `utilization must be a share from 0 to 1, found ${utilization}`);
    assert.ok(Number.isFinite(gpu.temperatureC ?? 0), `temperatureC must be a number, found ${gpu.temperatureC}`);
    assert.ok([true, false, null].includes(gpu.migMode ?? null), `migMode must be a truth value, found ${gpu.migMode}`);
    for (const device of gpu.migDevices ?? []) isMigDevice(device);
  }
}

function isMigDevice({ index, uuid, model, memoryMib, memoryUsedMib }: MigDevice): void {
  isInteger('migDevices[].index', index, 0);
  for (const [name, value] of Object.entries({ uuid, model }))
    if (value !== null) isText(`migDevices[].${name}`, value);
  if (memoryMib !== null) isInteger('migDevices[].memoryMib', memoryMib, 0);
  if (memoryUsedMib !== null) isInteger('migDevices[].memoryUsedMib', memoryUsedMib, 0, memoryMib ?? undefined);
}

export function isReasonOfEmptiness(name: string, reason: unknown, gpus: readonly GpuInfo[]): void {
  if (gpus.length === 0) isText(name, reason);
  else assert.equal(reason, null, `${name} must be null where there are GPUs`);
}

/** By kind, not by prototype: test runners that isolate files have an `Object` of their own in each. */
export function isPlainData(name: string, value: unknown): void {
  if (value === null || typeof value === 'string' || typeof value === 'boolean' || Number.isFinite(value)) return;
  const kind = Object.prototype.toString.call(value);
  assert.ok(kind === '[object Object]' || kind === '[object Array]', `${name} is lost in JSON, found ${kind}`);
  for (const [key, inner] of Object.entries(value as object)) isPlainData(`${name}.${key}`, inner);
}

export function isText(name: string, value: unknown): void {
  assert.ok(typeof value === 'string' && value.length > 0, `${name} must be text, found ${value}`);
}

export function isInteger(name: string, value: unknown, min: number, max = Number.MAX_SAFE_INTEGER): void {
  const fits = typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max;
  assert.ok(fits, `${name} must be an integer from ${min} to ${max}, found ${value}`);
}

export function isUnique(name: string, values: readonly unknown[]): void {
  assert.equal(new Set(values).size, values.length, `${name} must be distinct, found ${values}`);
}
