import { hostname, release } from 'node:os';
import { describe, expect, test } from '@jest/globals';
import type { SystemInformation } from '../../../src/adapters/cloud-local/compute/system-information.js';
import { MacosComputeHint, openComputeHint } from '../../../src/adapters/cloud-local/compute-hint.js';
import { ComputeHint, type GpuEnumerator } from '../../../src/contracts/index.js';
import { conformance } from '../../../src/testing/conformance.js';
import '../../../src/testing/compute-hint-suite.js';

/** What systeminformation answers on a laptop with Apple silicon, cut to what is read. */
const M1_PRO: SystemInformation = {
  cpu: async () => ({ cores: 10, manufacturer: 'Apple', brand: 'M1 Pro', flags: '' }),
  mem: async () => ({ total: 34_359_738_368, available: 17_179_869_184 }),
  system: async () => ({ model: 'MacBookPro18,3' }),
};

/** And on one with an Intel processor. */
const INTEL: SystemInformation = {
  cpu: async () => ({ cores: 12, manufacturer: 'Intel®', brand: 'Core™ i7-9750H', flags: 'fpu vme  sse2 ' }),
  mem: async () => ({ total: 17_179_869_184, available: 5_000_000_000 }),
  system: async () => ({ model: 'MacBookPro16,1' }),
};

const hintOf = (answers: Partial<SystemInformation>) =>
  new MacosComputeHint({ systemInformation: async () => ({ ...M1_PRO, ...answers }) });

const rejecting = async () => {
  throw new Error('sysctl is gone');
};

describe('macOS, from recorded answers of systeminformation', () => {
  test('CPU + memory present', async () => {
    expect(await hintOf({}).inventory()).toMatchObject({
      cpuCount: 10,
      memoryMib: 32_768,
      memoryAvailableMib: 16_384,
      cpuModel: 'Apple M1 Pro',
      cpuFlags: [],
      instanceType: 'MacBookPro18,3',
    });
    expect(await hintOf(INTEL).inventory()).toMatchObject({
      cpuCount: 12,
      memoryMib: 16_384,
      memoryAvailableMib: 4_768,
      cpuModel: 'Intel® Core™ i7-9750H',
      cpuFlags: ['fpu', 'vme', 'sse2'],
    });
  });

  test('preemption signal null', async () => {
    expect(await hintOf({}).preemptionSignal()).toBeNull();
  });

  test('"macOS skips GPU inventory entirely": no enumerator is asked, and gpuReason says so', async () => {
    let asked = 0;
    const enumerator: GpuEnumerator = {
      enumerate: async () => {
        asked += 1;
        return { gpus: [], source: 'none', reason: 'x', driverVersion: null };
      },
    };
    const hint = openComputeHint({
      platform: 'darwin',
      enumerators: [enumerator],
      systemInformation: async () => M1_PRO,
    });
    expect(hint).toBeInstanceOf(MacosComputeHint);
    expect(await hint.inventory()).toMatchObject({ gpus: [], gpuReason: 'GPUs are not enumerated on macOS' });
    expect(asked).toBe(0);
  });

  test('there are no limits and no NUMA nodes; the system gives the names', async () => {
    expect(await hintOf({}).inventory()).toMatchObject({
      cpuLimit: null,
      memoryLimitMib: null,
      numaNodes: [],
      arch: process.arch,
      hostname: hostname(),
      kernel: release(),
    });
  });

  test('what is missing beside CPU and memory is null', async () => {
    const gaps: Partial<SystemInformation> = {
      cpu: async () => ({ cores: 8, manufacturer: '', brand: '', flags: '' }),
      mem: async () => ({ total: 2 ** 33, available: Number.NaN }),
      system: async () => ({ model: '' }),
    };
    expect(await hintOf(gaps).inventory()).toMatchObject({
      cpuCount: 8,
      memoryMib: 8192,
      cpuModel: null,
      memoryAvailableMib: null,
      instanceType: null,
    });
    expect(await hintOf({ system: rejecting }).inventory()).toMatchObject({ cpuCount: 10, instanceType: null });
  });

  test.each([
    ['cpu()', { cpu: rejecting }],
    ['mem()', { mem: rejecting }],
  ])('a failing %s is FatalError Internal and says what was asked', async (call, answers) => {
    await expect(hintOf(answers).inventory()).rejects.toMatchObject({
      severity: 'fatal',
      kind: 'Internal',
      message: `could not ask systeminformation for ${call}: sysctl is gone`,
    });
  });

  test.each([
    ['cpu().cores', { cpu: async () => ({ cores: 0, manufacturer: '', brand: '', flags: '' }) }, 0],
    ['mem().total', { mem: async () => ({ total: Number.NaN, available: 0 }) }, Number.NaN],
  ])(
    'when nothing tells %s, the failure is FatalError Internal and says what is missing',
    async (what, answers, it) => {
      await expect(hintOf(answers).inventory()).rejects.toMatchObject({
        severity: 'fatal',
        kind: 'Internal',
        message: `systeminformation answered ${it} for ${what}, and nothing else tells it`,
        context: { what },
      });
    },
  );

  for (const c of conformance(ComputeHint)) test(c.name, () => c.run(async () => hintOf({})));
});

const onMacos = process.platform === 'darwin' ? test : test.skip;

describe('this machine (skipped elsewhere than on macOS: asks its sysctl)', () => {
  onMacos('CPU + memory present', async () => {
    const { cpuCount, memoryMib } = await new MacosComputeHint().inventory();
    expect(cpuCount).toBeGreaterThan(0);
    expect(memoryMib).toBeGreaterThan(0);
  });

  onMacos('preemption signal null', async () => {
    expect(await new MacosComputeHint().preemptionSignal()).toBeNull();
  });

  for (const c of conformance(ComputeHint)) onMacos(c.name, () => c.run(async () => new MacosComputeHint()));
});
