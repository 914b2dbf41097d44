/** The sources after NVML: nvidia-smi, as scripts that print what it has been seen to print, and amdgpu's files in /sys. */
import { type ChildProcess, spawn } from 'node:child_process';
import { copyFileSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { NvmlEnumerator } from '../../../src/adapters/gpu-nvml/enumerator.js';
import { parse, QUERIES } from '../../../src/adapters/gpu-nvml/nvidia-smi.js';
import { ShortChildren } from '../../../src/adapters/gpu-nvml/short-child.js';
import { type GpuEnumeration, GpuEnumerator } from '../../../src/contracts/index.js';
import { conformance } from '../../../src/testing/conformance.js';
import '../../../src/testing/gpu-enumerator-suite.js';
import { bundle } from '../../support/bundle.js';
import { folderWith, removeFakes, sysWith } from './support.js';

/** The child process in a folder of its own, where it finds no koffi: NVML answers nowhere, on no machine. */
let child: string;
const path = process.env.PATH;

beforeAll(async () => {
  child = `file://${folderWith()}/nvml-child.mjs`;
  copyFileSync(fileURLToPath(await bundle('src/adapters/gpu-nvml/nvml-child.ts')), fileURLToPath(child));
});
afterAll(() => {
  process.env.PATH = path;
  removeFakes();
});

/** An enumerator beside an nvidia-smi that is this script of sh, or none, and these graphics cards. */
function enumerator(script: string | null, cards: Parameters<typeof sysWith>[0] = [], timeoutMs = 20_000) {
  process.env.PATH = folderWith(script === null ? {} : { 'nvidia-smi': `#!/bin/sh\n${script}\n` });
  return new NvmlEnumerator({ timeoutMs }, { child, root: sysWith(cards), children: new ShortChildren() });
}

const answerOf = (...args: Parameters<typeof enumerator>): Promise<GpuEnumeration> => enumerator(...args).enumerate();

const onLinux = process.platform === 'linux' ? describe : describe.skip;

const UUID = 'GPU-5f0a9c1e-0000-0000-0000-000000000000';
const NO_KOFFI = 'koffi is not installed (npm i koffi)';
const NO_AMD = 'no AMD GPU in /sys/class/drm';

/** Prints its lines for the query of all fields. */
const printing = (...lines: string[]) => `cat <<'END'\n${lines.join('\n')}\nEND`.replace(/^cat/, '/bin/cat');

onLinux('nvidia-smi (skipped elsewhere than on Linux)', () => {
  const H100 = `0, ${UUID}, 00000000:04:00.0, NVIDIA H100 80GB HBM3, 81559, 527, 37, 41, 550.54.15, Disabled, 9.0`;

  test('every field', async () => {
    expect(await answerOf(printing(H100))).toEqual({
      gpus: [
        {
          vendor: 'nvidia',
          model: 'NVIDIA H100 80GB HBM3',
          memoryMib: 81_559,
          source: 'nvidia-smi',
          index: 0,
          uuid: UUID,
          pciBusId: '00000000:04:00.0',
          memoryUsedMib: 527,
          utilization: 0.37,
          temperatureC: 41,
          computeCapability: '9.0',
          migMode: false,
          migDevices: null,
        },
      ],
      source: 'nvidia-smi',
      reason: null,
      driverVersion: '550.54.15',
      warnings: [],
    });
  });

  test('a GPU in MIG mode: what it is cut into, from the other listing', async () => {
    const mig = H100.replace('Disabled', 'Enabled');
    const list = [
      `GPU 0: NVIDIA H100 80GB HBM3 (UUID: ${UUID})`,
      '  MIG 3g.40gb     Device  0: (UUID: MIG-c7384736-a75d-5afc-978f-d2f1294409fd)',
      '  MIG 1g.10gb+me  Device  1: (UUID: MIG-GPU-5f0a9c1e/7/0)',
      'GPU 1: NVIDIA L4 (UUID: GPU-other)',
    ];
    const both = (other: string) => `case "$1" in -L)\n${other}\n;; *)\n${printing(mig)}\n;; esac`;
    const { gpus, warnings } = await answerOf(both(printing(...list)));
    const unknown = { memoryMib: null, memoryUsedMib: null };
    expect(gpus[0]?.migDevices).toEqual([
      { index: 0, uuid: 'MIG-c7384736-a75d-5afc-978f-d2f1294409fd', model: 'MIG 3g.40gb', ...unknown },
      { index: 1, uuid: 'MIG-GPU-5f0a9c1e/7/0', model: 'MIG 1g.10gb+me', ...unknown },
    ]);
    expect(warnings).toEqual([]);
    const failed = await answerOf(both('echo broken >&2; exit 4'));
    expect(failed.gpus[0]).toMatchObject({ migMode: true, migDevices: null });
    expect(failed.warnings).toEqual(['MIG devices: nvidia-smi -L failed with exit code 4: broken']);
  });

  test('it is asked for those fields, as csv without header and units', async () => {
    const { reason } = await answerOf('echo "$@" >&2; exit 3');
    expect(reason).toContain(
      'nvidia-smi failed with exit code 3: --query-gpu=index,uuid,pci.bus_id,name,memory.total,memory.used,' +
        'utilization.gpu,temperature.gpu,driver_version,mig.mode.current,compute_cap --format=csv,noheader,nounits',
    );
  });

  test('what a GPU does not support is null', async () => {
    const bare = `1, ${UUID}, 00000000:04:00.0, NVIDIA GB10, [N/A], [N/A], [N/A], [Not Supported], 580.1, [N/A], [N/A]`;
    const { gpus } = await answerOf(printing(bare));
    expect(gpus[0]).toMatchObject({ model: 'NVIDIA GB10', memoryMib: 0, memoryUsedMib: null, utilization: null });
    expect(gpus[0]).toMatchObject({ temperatureC: null, migMode: null, computeCapability: null });
  });

  test('a GPU that is lost: the others, and its line as a warning, though it exits with an error', async () => {
    const lost = 'Unable to determine the device handle for GPU0000:05:00.0: GPU is lost.  Reboot the system.';
    const answer = await answerOf(`${printing(H100, lost)}\nexit 15`);
    expect(answer).toMatchObject({ gpus: [{ uuid: UUID }], reason: null, warnings: [`nvidia-smi: ${lost}`] });
  });

  test('an old one that refuses newer fields is asked for those of old', async () => {
    const old = `case "$1" in *compute_cap*) echo 'Field "compute_cap" is not a valid field to query.'; exit 2;; esac
      echo '0, ${UUID}, 00000000:04:00.0, Tesla K80, 11441, 0, 0, 30, 418.67'`;
    expect(await answerOf(old)).toMatchObject({
      gpus: [{ model: 'Tesla K80', memoryMib: 11_441, temperatureC: 30, computeCapability: null, migMode: null }],
      driverVersion: '418.67',
    });
  });

  const FAILED = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.";
  test.each([
    ['there is none', null, 'nvidia-smi not found'],
    ['it cannot reach the driver', `echo "${FAILED}"; exit 9`, `nvidia-smi failed with exit code 9: ${FAILED}`],
    ['it lists nothing', 'exit 0', 'nvidia-smi lists no GPU'],
    ['it prints what is no list', 'echo No devices were found', 'nvidia-smi: No devices were found'],
    ['it crashes', 'kill -SEGV $$', "nvidia-smi could not be asked: the driver's library crashed (SIGSEGV)"],
    ['it never ends printing', 'while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done', 'crashed (SIGKILL)'],
  ])('%s: no GPU, and the reason', async (_, script, reason) => {
    const answer = await answerOf(script);
    expect(answer).toMatchObject({ gpus: [], source: 'none', driverVersion: null });
    expect(answer.reason).toContain(reason);
    expect(answer.reason).toMatch(/^koffi is not installed.*; no AMD GPU in \/sys\/class\/drm$/);
  });

  test('a process that it leaves behind, with its output open, is not waited for', async () => {
    const { gpus } = await answerOf(`/bin/sleep 5 & echo "${H100}"`);
    expect(gpus).toHaveLength(1);
    const { reason } = await answerOf('/bin/sleep 5 & exec /bin/sleep 5', [], 1_500);
    expect(reason).toBe(`${NO_KOFFI}; nvidia-smi did not answer within 1500 ms: the driver hangs`);
  });

  test('a stop just after it has ended, while such a process holds its output: nothing is stuck', async () => {
    const stop = new AbortController();
    const children = new ShortChildren(((...args: unknown[]) => {
      const started = (spawn as (...args: unknown[]) => ChildProcess)(...args);
      return started.once('exit', () => setImmediate(() => stop.abort()));
    }) as typeof spawn);
    const [file, answersOn] = ['/bin/sh', 1] as const;
    const deadlineMs = performance.now() + 20_000;
    const first = { file, answersOn, deadlineMs, args: ['-c', '/bin/sleep 2 & echo answer'], signal: stop.signal };
    expect(await children.ask(first)).toMatchObject({ how: 'ended', code: 0, answer: 'answer\n' });
    expect(await children.ask({ file, answersOn, deadlineMs, args: ['-c', 'echo next'] })).toMatchObject({
      answer: 'next\n',
    });
  });

  test('one that cannot be run is a reason, too', async () => {
    process.env.PATH = folderWith({ 'nvidia-smi': 'neither a script nor executable' });
    const { reason } = await new NvmlEnumerator(
      {},
      { child, root: sysWith([]), children: new ShortChildren() },
    ).enumerate();
    expect(reason).toBe(`${NO_KOFFI}; nvidia-smi could not be asked: spawn nvidia-smi EACCES; ${NO_AMD}`);
  });

  test('one that hangs takes what is left of the time, and nothing is asked after it', async () => {
    const { reason } = await answerOf('exec /bin/sleep 60', [AMD], 1_500);
    expect(reason).toBe(`${NO_KOFFI}; nvidia-smi did not answer within 1500 ms: the driver hangs`);
  });

  test('whatever it prints, the answer keeps the contract (1,000 outputs, drawn at random)', async () => {
    const value = fc.constantFrom(
      '0',
      '1',
      '99',
      '[N/A]',
      '',
      ' ',
      '-1',
      '1e9',
      'NVIDIA',
      '9.0',
      '00000000:04:00.0',
      'x',
      '\u0000',
      '[GPU is lost]',
    );
    const line = fc.array(value, { minLength: 9, maxLength: 12 }).map((values) => values.join(', '));
    const output = fc.array(fc.oneof(line, fc.string()), { maxLength: 4 }).map((lines) => lines.join('\n'));
    await fc.assert(
      fc.asyncProperty(output, fc.constantFrom(...QUERIES), async (text, fields) => {
        const answer = { ...parse(text, fields), source: 'nvidia-smi' };
        // Two GPUs of one uuid are the driver's doing.
        const gpus = answer.gpus.map((gpu) => ({ ...gpu, uuid: null }));
        for (const c of conformance(GpuEnumerator))
          await c.run(() => ({ enumerate: async () => structuredClone({ ...answer, gpus }) }));
      }),
      { numRuns: 1_000 },
    );
  });

  for (const c of conformance(GpuEnumerator))
    test(`conformance: ${c.name}`, () => c.run(() => enumerator(printing(H100))));
});

/** An MI210 as Linux 6 shows it, cut to what is read. */
const AMD = {
  vendor: '0x1002\n',
  device: '0x740f\n',
  product_name: 'AMD INSTINCT MI210\n',
  mem_info_vram_total: '68702699520\n',
  mem_info_vram_used: '6995968\n',
  gpu_busy_percent: '12\n',
  'hwmon/hwmon4/temp1_input': '38500\n',
  'driver/module/version': '6.7.0\n',
};

onLinux('sysfs of AMD (skipped elsewhere than on Linux)', () => {
  const MI210 = {
    vendor: 'amd',
    model: 'AMD INSTINCT MI210',
    memoryMib: 65_520,
    source: 'drm',
    index: null,
    uuid: null,
    pciBusId: '0000:00:00.0',
    memoryUsedMib: 6,
    utilization: 0.12,
    temperatureC: 38.5,
    computeCapability: null,
    migMode: null,
  };

  test('every field that there is', async () => {
    expect(await answerOf(null, [AMD])).toEqual({
      gpus: [MI210],
      source: 'drm',
      reason: null,
      driverVersion: '6.7.0',
      warnings: [],
    });
  });

  test('figures beyond their whole are the whole', async () => {
    const beyond = { ...AMD, mem_info_vram_used: '68702699521000\n', gpu_busy_percent: '120\n' };
    expect((await answerOf(null, [beyond])).gpus).toEqual([{ ...MI210, memoryUsedMib: 65_520, utilization: 1 }]);
  });

  test('cards of others are left out, and the order is that of their numbers', async () => {
    const cards = Array.from({ length: 11 }, (_, n) => (n === 2 || n === 10 ? AMD : { vendor: '0x8086\n' }));
    // card10 stands at 0000:010:00.0 in this tree, which is no PCI address.
    expect((await answerOf(null, cards)).gpus.map(({ pciBusId }) => pciBusId)).toEqual(['0000:02:00.0', null]);
  });

  test('one that says next to nothing', async () => {
    const garbage = { ...AMD, product_name: '\u0000', mem_info_vram_total: 'many\n', gpu_busy_percent: '-1\n' };
    const { gpus } = await answerOf(null, [{ vendor: '0x1002\n' }, { ...garbage, 'hwmon/hwmon4/temp1_input': '' }]);
    const unknown = { ...MI210, memoryMib: 0, memoryUsedMib: null, utilization: null, temperatureC: null };
    expect(gpus).toEqual([
      { ...unknown, model: 'GPU 1002:?' },
      { ...unknown, model: 'GPU 1002:740f', pciBusId: '0000:01:00.0' },
    ]);
  });

  for (const c of conformance(GpuEnumerator))
    test(`conformance: ${c.name}`, () => c.run(() => enumerator(null, [AMD, AMD])));
});
