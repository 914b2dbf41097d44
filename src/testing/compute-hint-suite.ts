/**
 * Conformance of ComputeHint: that answers are plain data in the units and bounds which the contract
 * says, on whatever machine the cases run. What the figures are is for each adapter's own tests.
 */
import assert from 'node:assert/strict';
import { ComputeHint } from '../contracts/index.js';
import { defineSuite } from './conformance.js';
import { areGpus, isInteger, isPlainData, isReasonOfEmptiness, isText, isUnique } from './gpu-enumerator-suite.js';

defineSuite(
  ComputeHint,
  () => ({
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

    'gpuSources tell of each enumerator, and count every GPU once': async ({ open }) => {
      const { gpus, gpuSources } = await (await open()).inventory();
      for (const { instance, source, gpus: count, reason, driverVersion, warnings } of gpuSources) {
        for (const warning of warnings) isText('a warning of a GPU source', warning);
        for (const [name, value] of Object.entries({ instance, source, reason, driverVersion })) {
          if (value !== null) isText(`${name} of a GPU source`, value);
        }
        isInteger('gpus of a GPU source', count, 0, gpus.length);
        assert.ok(count === 0 || reason === null, `a source of ${count} GPUs has no reason to tell none`);
      }
      const counted = gpuSources.reduce((sum, source) => sum + source.gpus, 0);
      assert.equal(counted, gpus.length, 'the GPUs of all sources are the GPUs of the inventory');
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
  }),
  [],
);
