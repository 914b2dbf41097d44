/**
 * The plugin rollout.gpu-nvml in a packed install, as `compute` shows it: listed, unlisted, disabled and broken in turn, on
 * a driver that is a library compiled for this test and found by the loader. `SHOW=1` prints what was printed.
 */
import { readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { fakeLibrary, folderWith, NO_COMPILER, removeFakes } from '../adapters/gpu-nvml/support.js';
import { InstalledPackage, PACKAGE, type Ran, ROOT } from './installed.js';

let app: InstalledPackage;
const before = { PATH: process.env.PATH, LD_LIBRARY_PATH: process.env.LD_LIBRARY_PATH };

/** Each time the plugin's module is imported, it leaves a line here. */
const imports = () => join(app.folder, 'imports');

beforeAll(() => {
  app = new InstalledPackage();
  // What `npm i koffi` adds, and that nothing else of the user's install brings.
  symlinkSync(join(ROOT, 'node_modules/koffi'), join(app.folder, 'node_modules/koffi'));
  const module = join(app.root, 'dist/adapters/gpu-nvml/index.js');
  const note = `import { appendFileSync } from 'node:fs';\nappendFileSync(${JSON.stringify(imports())}, 'once\\n');\n`;
  writeFileSync(module, note + readFileSync(module, 'utf8'));
});
afterAll(() => {
  Object.assign(process.env, before);
  if (before.LD_LIBRARY_PATH === undefined) delete process.env.LD_LIBRARY_PATH;
  app.remove();
  removeFakes();
});
beforeEach(() => {
  writeFileSync(imports(), '');
  // Without nvidia-smi.
  process.env.PATH = folderWith();
});

/** `compute` on a configuration that lists these plugins beside the local ones, with the driver's library in `library`. */
async function compute(plugins: readonly unknown[], library: string, ...args: string[]): Promise<Ran> {
  const bindings = { ComputeHint: { adapter: 'local.compute' } };
  app.write('plugins.json', { version: 1, plugins: ['rollout.cloud-local', ...plugins], bindings });
  process.env.LD_LIBRARY_PATH = library;
  const ran = await app.node(join(app.root, PACKAGE.bin['rollout-cloud'] ?? ''), 'compute', ...args);
  if (process.env.SHOW) process.stderr.write(`${JSON.stringify(plugins)}\n${ran.stdout}${ran.stderr}\n`);
  return ran;
}

const gpuRows = (stdout: string) => /^gpus {2,}([\s\S]*?)^preemption/m.exec(stdout)?.[1]?.trim().split(/\n\s*/) ?? [];
const imported = () => readFileSync(imports(), 'utf8').split('\n').length - 1;

const PLUGIN = { use: 'rollout.gpu-nvml', optional: true };
const withLibrary = NO_COMPILER === null ? describe : describe.skip;

withLibrary(`the plugin${NO_COMPILER === null ? '' : ` (skipped: ${NO_COMPILER})`}`, () => {
  test('listed: its GPUs, their source, the version of the driver', async () => {
    const { code, stdout, stderr } = await compute([PLUGIN], fakeLibrary());
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(gpuRows(stdout).map((row) => row.replace(/ {2,}/g, ' | '))).toEqual([
      '0: NVIDIA H100 80GB HBM3 | ████░░░░░░ | 37 % busy | ░░░░░░░░░░ 1.0 GiB of 79.6 GiB | 41 °C | compute 9.0, told by nvml',
      '1: NVIDIA L4 | ░░░░░░░░░░ | 0 % busy | ░░░░░░░░░░ 0 B of 22.5 GiB | 33 °C | compute 8.9, told by nvml',
      'gpu sources | nvml: 2 GPUs, driver 550.54.15',
    ]);
    expect(imported()).toBe(1);
  });

  test('listed, it is imported when it is asked, and not before', async () => {
    await compute([PLUGIN], fakeLibrary());
    writeFileSync(imports(), '');
    const program = join(app.root, PACKAGE.bin['rollout-cloud'] ?? '');
    expect(await app.node(program, 'plugins', 'list')).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('nvml'),
    });
    expect(imported()).toBe(0);
  });

  test.each([
    ['unlisted', [], 'is built in and not listed; list it under "plugins"'],
    ['disabled', [{ ...PLUGIN, enabled: false }], 'is disabled'],
  ])('%s: no GPU, why, and nothing of it is imported', async (_, plugins, why) => {
    const { code, stdout, stderr } = await compute(plugins, fakeLibrary());
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(gpuRows(stdout)).toEqual([
      `none: no GpuEnumerator is bound: plugin "rollout.gpu-nvml", which has it, ${why}`,
    ]);
    expect(imported()).toBe(0);
  });

  test('broken: a driver library that is cut short costs its child, and the reason is told', async () => {
    const whole = readFileSync(join(fakeLibrary(), 'libnvidia-ml.so.1'));
    // At some page it loads so far that the loader reads where the file has ended.
    const reasons: string[] = [];
    for (let bytes = 0x1000; bytes < whole.length; bytes += 0x1000) {
      const { code, stdout, stderr } = await compute(
        [PLUGIN],
        folderWith({ 'libnvidia-ml.so.1': whole.subarray(0, bytes) }),
      );
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      reasons.push(...gpuRows(stdout));
    }
    expect(reasons).toContain(
      "none: nvml could not be asked: the driver's library crashed (SIGBUS); nvidia-smi not found; no AMD GPU in /sys/class/drm",
    );
  }, 60_000);

  test('broken: a driver that hangs costs its timeout, and the process ends by itself with every thread of its pool', async () => {
    const script = `
      import { pbkdf2 } from 'node:crypto';
      import { promisify } from 'node:util';
      import { createHost, ComputeHint } from 'rollout-cloud';
      const GpuEnumerator = { adapter: 'nvml', config: { timeoutMs: 300 } };
      const bindings = { GpuEnumerator, ComputeHint: { adapter: 'local.compute' } };
      const plugins = ['rollout.cloud-local', 'rollout.gpu-nvml'];
      const host = await createHost({ config: { plugins, bindings } });
      const asking = (await host.get(ComputeHint)).inventory();
      const work = () => promisify(pbkdf2)('x', 'y', 1, 8, 'sha1');
      await Promise.all([work(), work(), work(), work()]);
      const { gpus, gpuReason } = await asking;
      await Promise.all([work(), work(), work(), work()]);
      console.log(gpus.length, gpuReason);`;
    process.env.LD_LIBRARY_PATH = fakeLibrary('HANGS');
    // The host is not even stopped.
    expect(await app.module('hanging.js', script)).toBe('0 nvml did not answer within 300 ms: the driver hangs\n');
  });
});

describe('the plugin, broken', () => {
  test('koffi is not installed', async () => {
    const koffi = join(app.folder, 'node_modules/koffi');
    renameSync(koffi, `${koffi}-away`);
    const { code, stdout, stderr } = await compute([PLUGIN], '');
    renameSync(`${koffi}-away`, koffi);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(gpuRows(stdout)[0]).toMatch(/^none: koffi is not installed \(npm i koffi\); nvidia-smi not found; /);
  });

  test('its module cannot be imported', async () => {
    const module = join(app.root, 'dist/adapters/gpu-nvml/index.js');
    const text = readFileSync(module);
    writeFileSync(module, 'throw new Error("out of order");');
    const { code, stdout } = await compute([PLUGIN], '', '--json');
    writeFileSync(module, text);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      gpus: [],
      gpuReason: expect.stringMatching(/^GpuEnumerator#default could not be activated: .*out of order/),
    });
  });
});
