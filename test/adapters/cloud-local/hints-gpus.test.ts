import { afterAll, describe, expect, jest, test } from '@jest/globals';
import { LinuxComputeHint, openComputeHint } from '../../../src/adapters/cloud-local/compute-hint.js';
import { ComputeHint, type GpuEnumeration, GpuEnumerator, type GpuInfo } from '../../../src/contracts/index.js';
import { conformance } from '../../../src/testing/conformance.js';
import '../../../src/testing/compute-hint-suite.js';
import { layOut, MACHINE, removeTrees } from './recorded-linux.js';

const root = layOut(MACHINE);
afterAll(removeTrees);

const gpu = (more: Partial<GpuInfo>): GpuInfo => ({
  vendor: 'nvidia',
  model: 'H200',
  memoryMib: 143_771,
  source: 'nvml',
  ...more,
});

const finding = (...gpus: GpuInfo[]): GpuEnumerator => ({
  enumerate: async () => structuredClone({ gpus, source: 'nvml', reason: null, driverVersion: '550.54' }),
});

const answering = (answer: unknown): GpuEnumerator => ({
  enumerate: async () => structuredClone(answer) as GpuEnumeration,
});

const without = (reason: string | null, source = 'none'): GpuEnumerator =>
  answering({ gpus: [], source, reason, driverVersion: null });

const failing = (error: unknown): GpuEnumerator => ({
  enumerate: async () => {
    throw error;
  },
});

async function gpusOf(enumerators: readonly GpuEnumerator[]): Promise<[readonly GpuInfo[], string | null]> {
  const { gpus, gpuReason } = await new LinuxComputeHint({ root, enumerators }).inventory();
  return [gpus, gpuReason];
}

describe('several enumerators are merged', () => {
  test('in their order, whichever answers first', async () => {
    const slow: GpuEnumerator = {
      enumerate: async () => {
        await new Promise((resolve) => setImmediate(resolve));
        return finding(gpu({ uuid: 'GPU-1' })).enumerate();
      },
    };
    expect(await gpusOf([slow, finding(gpu({ uuid: 'GPU-2' }))])).toEqual([
      [gpu({ uuid: 'GPU-1' }), gpu({ uuid: 'GPU-2' })],
      null,
    ]);
  });

  test('duplicates are told by uuid: the first counts', async () => {
    const first = gpu({ uuid: 'GPU-1', pciBusId: '0000:01:00.0' });
    const again = gpu({ uuid: 'GPU-1', pciBusId: '0000:02:00.0', source: 'nvidia-smi' });
    expect(await gpusOf([finding(first), finding(again)])).toEqual([[first], null]);
  });

  test('duplicates are told by PCI address where one has no uuid, however the address is spelled', async () => {
    const first = gpu({ uuid: 'GPU-1', pciBusId: '00000000:3B:00.0' });
    const again = gpu({ uuid: null, pciBusId: '0000:3b:00.0', source: 'drm' });
    const short = gpu({ pciBusId: '3B:00.0', source: 'lspci' });
    const other = gpu({ pciBusId: '0001:3b:00.0', source: 'drm' });
    expect(await gpusOf([finding(first), finding(again, short, other)])).toEqual([[first, other], null]);
  });

  test('parts of one GPU share its PCI address and stay apart by uuid', async () => {
    const parts = [
      gpu({ uuid: 'MIG-1', pciBusId: '0000:01:00.0', migMode: true }),
      gpu({ uuid: 'MIG-2', pciBusId: '0000:01:00.0', migMode: true }),
    ];
    expect(await gpusOf([finding(...parts)])).toEqual([parts, null]);
  });

  test('GPUs with neither uuid nor PCI address are all kept', async () => {
    expect(await gpusOf([finding(gpu({}), gpu({}))])).toEqual([[gpu({}), gpu({})], null]);
  });
});

describe('each source is reported', () => {
  const sourcesOf = async (enumerators: readonly GpuEnumerator[]) =>
    (await new LinuxComputeHint({ root, enumerators }).inventory()).gpuSources;

  test('in order: how many GPUs it added, why it has none, the version of its driver', async () => {
    const failed = [{ name: 'vendor', error: new Error('no koffi') }];
    const names = ['a', 'b', 'c', 'd', 'e'];
    const enumerators = Object.assign(
      [
        finding(gpu({ uuid: 'GPU-1' }), gpu({ uuid: 'GPU-2' })),
        finding(gpu({ uuid: 'GPU-2' }), gpu({ uuid: 'GPU-3' })),
        finding(gpu({ uuid: 'GPU-1' })),
        answering({ ...(await without('no driver').enumerate()), warnings: ['GPU 1: lost'] }),
        failing(new Error('broken')),
      ],
      { names, failed, absent: null },
    );
    expect(await sourcesOf(enumerators)).toEqual([
      { instance: 'a', source: 'nvml', gpus: 2, reason: null, driverVersion: '550.54', warnings: [] },
      { instance: 'b', source: 'nvml', gpus: 1, reason: null, driverVersion: '550.54', warnings: [] },
      { instance: 'c', source: 'nvml', gpus: 0, reason: null, driverVersion: '550.54', warnings: [] },
      { instance: 'd', source: 'none', gpus: 0, reason: 'no driver', driverVersion: null, warnings: ['GPU 1: lost'] },
      {
        instance: 'e',
        source: null,
        gpus: 0,
        reason: 'GpuEnumerator#e failed: broken',
        driverVersion: null,
        warnings: [],
      },
      {
        instance: 'vendor',
        source: null,
        gpus: 0,
        reason: 'GpuEnumerator#vendor could not be activated: no koffi',
        driverVersion: null,
        warnings: [],
      },
    ]);
  });

  test('none is bound: no source', async () => {
    expect(await sourcesOf([])).toEqual([]);
  });

  test('the age that an answer may have is handed on', async () => {
    const asked: unknown[] = [];
    const enumerator: GpuEnumerator = {
      enumerate: async (options) => {
        asked.push(options);
        return finding().enumerate();
      },
    };
    const hint = new LinuxComputeHint({ root, enumerators: [enumerator] });
    await hint.inventory();
    await hint.inventory({ gpuMaxAgeMs: 0 });
    expect(asked).toEqual([{}, { maxAgeMs: 0 }]);
  });
});

describe('an enumerator that cannot answer costs its GPUs, and inventory() does not fail', () => {
  test('one that finds none gives its reason', async () => {
    expect(await gpusOf([without('libnvidia-ml.so.1 not found')])).toEqual([[], 'libnvidia-ml.so.1 not found']);
  });

  test('one that finds none and gives no reason is named by its source', async () => {
    expect(await gpusOf([without(null, 'nvidia-smi')])).toEqual([[], 'nvidia-smi found no GPU']);
  });

  test.each([
    ['an Error', new Error('driver is gone'), 'driver is gone'],
    ['text', 'driver is gone', '"driver is gone"'],
    ['nothing', undefined, 'undefined'],
    ['an object that cannot be made text', Object.create(null), 'object'],
  ])('one that rejects with %s adds its reason', async (_, error, message) => {
    expect(await gpusOf([failing(error)])).toEqual([[], `a GpuEnumerator failed: ${message}`]);
  });

  test('one that throws at once adds its reason', async () => {
    const throwing = {
      enumerate: () => {
        throw new Error('broken');
      },
    };
    expect(await gpusOf([throwing])).toEqual([[], 'a GpuEnumerator failed: broken']);
  });

  test.each([
    ['nothing', undefined],
    ['no list', { source: 'x', reason: null }],
    ['a list of nothing', { gpus: { 0: null }, source: 'x', reason: null }],
  ])('one that answers %s adds its reason', async (_, answer) => {
    const [gpus, reason] = await gpusOf([answering(answer)]);
    expect(gpus).toEqual([]);
    expect(reason).toMatch(/^a GpuEnumerator failed: /);
  });

  test.each([
    ['a GPU that is none', { gpus: [null], source: 'x' }, /^gpus\[0\] must be an object, found null$/],
    [
      'a GPU without a model',
      { gpus: [{ ...gpu({}), model: undefined }], source: 'x' },
      /^gpus\[0\]\.model must be text, found undefined$/,
    ],
    [
      'memory as text',
      { gpus: [gpu({}), { ...gpu({}), memoryMib: '8' }], source: 'x' },
      /^gpus\[1\]\.memoryMib must be/,
    ],
    [
      'a share in percent',
      { gpus: [gpu({ utilization: 37 })], source: 'x' },
      /^gpus\[0\]\.utilization must be a share/,
    ],
    ['heat in words', { gpus: [{ ...gpu({}), temperatureC: 'hot' }], source: 'x' }, /^gpus\[0\]\.temperatureC must be/],
    [
      'partitions that are no list',
      { gpus: [{ ...gpu({}), migDevices: 7 }], source: 'x' },
      /^gpus\[0\]\.migDevices must be a list/,
    ],
    [
      'a partition without a number',
      { gpus: [{ ...gpu({}), migDevices: [{}] }], source: 'x' },
      /^gpus\[0\]\.migDevices\[0\]\.index must be an integer/,
    ],
    ['a mode in words', { gpus: [{ ...gpu({}), migMode: 'on' }], source: 'x' }, /^gpus\[0\]\.migMode must be true or/],
    ['no source', { gpus: [gpu({})], reason: null }, /^source must be/],
    ['a reason that is a number', { gpus: [], source: 'x', reason: 7 }, /^reason must be/],
    ['warnings that are not text', { gpus: [gpu({})], source: 'x', warnings: [7] }, /^warnings\[0\] must be/],
  ])('one that answers %s: none of its GPUs, and what is wrong with its answer', async (_, answer, message) => {
    const [gpus, reason] = await gpusOf([answering(answer)]);
    expect(gpus).toEqual([]);
    expect(reason).toMatch(/^a GpuEnumerator failed: /);
    expect(reason?.replace('a GpuEnumerator failed: ', '')).toMatch(message);
  });

  test('what the contract does not know of a GPU is left out: the inventory stays plain data', async () => {
    const [gpus] = await gpusOf([answering({ gpus: [{ ...gpu({}), handle: 7n }], source: 'x' })]);
    expect(gpus).toEqual([gpu({})]);
  });

  test.each([
    [{ gpuTimeoutMs: 0 }, 'gpuTimeoutMs must be an integer from 1 to 600000, found 0'],
    // A timer of Node fires at once for as much.
    [{ gpuTimeoutMs: 3_000_000_000 }, 'gpuTimeoutMs must be an integer from 1 to 600000, found 3000000000'],
    [{ root: 7 }, 'root must be'],
  ])('%j is refused', (options, message) => {
    expect(() => new LinuxComputeHint(options as object)).toThrow(message);
  });

  test('one that never answers is left after gpuTimeoutMs', async () => {
    const silent: GpuEnumerator = { enumerate: () => new Promise(() => {}) };
    const hint = new LinuxComputeHint({ root, enumerators: [silent], gpuTimeoutMs: 20 });
    expect(await hint.inventory()).toMatchObject({
      gpus: [],
      gpuReason: 'a GpuEnumerator failed: no answer within 20 ms',
    });
  });

  test.each([
    ['are never activated', () => new Promise<never>(() => {}), 'GpuEnumerators were not activated within 1020 ms'],
    ['cannot be had', () => Promise.reject(new Error('the host is closed')), 'the host is closed'],
  ])('enumerators that %s cost their GPUs, no more', async (_, enumerators, why) => {
    const hint = new LinuxComputeHint({ root, enumerators, gpuTimeoutMs: 20 });
    const reason = `GpuEnumerators could not be activated: ${why}`;
    expect(await hint.inventory()).toMatchObject({ cpuCount: 8, gpus: [], gpuReason: reason });
  });

  test('whoever has the enumerators is told how long each may take to be activated', async () => {
    const asked: number[] = [];
    const enumerators = async (withinMs: number) => {
      asked.push(withinMs);
      return [finding(gpu({}))];
    };
    await new LinuxComputeHint({ root, enumerators, gpuTimeoutMs: 20 }).inventory();
    expect(asked).toEqual([20]);
  });

  test('one that answered leaves no timer behind', async () => {
    const cleared = jest.spyOn(globalThis, 'clearTimeout');
    const started = jest.spyOn(globalThis, 'setTimeout');
    await gpusOf([finding(gpu({})), failing(new Error('x'))]);
    const timers = started.mock.results.map(({ value }) => value as NodeJS.Timeout);
    expect(timers).toHaveLength(3); // one for both to be activated

    for (const timer of timers) expect(cleared).toHaveBeenCalledWith(timer);
    jest.restoreAllMocks();
  });

  test('the others’ GPUs stay, and then there is no reason to give', async () => {
    expect(await gpusOf([failing(new Error('x')), finding(gpu({})), without('y')])).toEqual([[gpu({})], null]);
  });

  test('several reasons are all given', async () => {
    expect(await gpusOf([without('no driver'), failing(new Error('broken'))])).toEqual([
      [],
      'no driver; a GpuEnumerator failed: broken',
    ]);
  });

  test('those that could not even be activated are named with their errors', async () => {
    const none = Object.assign([without('no driver')], { failed: [{ name: 'vendor', error: new Error('no koffi') }] });
    expect(await gpusOf(none)).toEqual([[], 'no driver; GpuEnumerator#vendor could not be activated: no koffi']);
    const alone = Object.assign([], { failed: [{ name: 'default', error: new Error('no koffi') }] });
    expect(await gpusOf(alone)).toEqual([[], 'GpuEnumerator#default could not be activated: no koffi']);
  });
});

describe('conformance with enumerators', () => {
  const enumerators = [finding(gpu({ uuid: 'GPU-1', index: 0, utilization: 0.5, memoryUsedMib: 9 })), without('none')];
  for (const c of conformance(ComputeHint)) {
    test(c.name, () => c.run(async () => openComputeHint({ platform: 'linux', root, enumerators })));
  }
  for (const c of conformance(GpuEnumerator)) {
    test(`an enumerator that finds some: ${c.name}`, () => c.run(async () => finding(gpu({ uuid: 'GPU-1' }))));
    test(`an enumerator that finds none: ${c.name}`, () => c.run(async () => without('no driver')));
  }
});
