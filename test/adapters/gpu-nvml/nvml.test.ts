/** NVML through the child process, on libraries compiled from fake-nvml.c with one thing wrong each. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { copyFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { NvmlEnumerator, type NvmlEnumeratorOptions } from '../../../src/adapters/gpu-nvml/enumerator.js';
import { ShortChildren } from '../../../src/adapters/gpu-nvml/short-child.js';
import { type GpuEnumeration, GpuEnumerator, type GpuInfo } from '../../../src/contracts/index.js';
import { conformance } from '../../../src/testing/conformance.js';
import '../../../src/testing/gpu-enumerator-suite.js';
import { bundle } from '../../support/bundle.js';
import { fakeLibrary, folderWith, NO_COMPILER, removeFakes, sysWith } from './support.js';

let child: string;
const before = { PATH: process.env.PATH, LD_LIBRARY_PATH: process.env.LD_LIBRARY_PATH };
/** Without nvidia-smi, and without a graphics card, so that NVML is what answers. */
let root: string;

beforeAll(async () => {
  child = await bundle('src/adapters/gpu-nvml/nvml-child.ts');
  root = sysWith([]);
  process.env.PATH = folderWith();
  delete process.env.LD_LIBRARY_PATH;
});
afterAll(() => {
  Object.assign(process.env, before);
  if (before.LD_LIBRARY_PATH === undefined) delete process.env.LD_LIBRARY_PATH;
  removeFakes();
});

function enumerator(options: NvmlEnumeratorOptions, ports: object = {}): NvmlEnumerator {
  return new NvmlEnumerator(
    { timeoutMs: 20_000, ...options },
    { child, root, children: new ShortChildren(), ...ports },
  );
}

const answerOf = (libraryPath: string): Promise<GpuEnumeration> => enumerator({ libraryPath }).enumerate();

const withLibrary = NO_COMPILER === null ? describe : describe.skip;
const why = NO_COMPILER === null ? '' : ` (skipped: ${NO_COMPILER})`;

const H100 = {
  vendor: 'nvidia',
  model: 'NVIDIA H100 80GB HBM3',
  memoryMib: 81_559,
  source: 'nvml',
  index: 0,
  uuid: 'GPU-00000000-0000-0000-0000-00000000000a',
  pciBusId: '00000000:3B:00.0',
  memoryUsedMib: 1_024,
  utilization: 0.37,
  temperatureC: 41,
  computeCapability: '9.0',
  migMode: false,
  migDevices: null,
};

const L4 = {
  ...H100,
  model: 'NVIDIA L4',
  memoryMib: 23_034,
  index: 1,
  uuid: 'GPU-00000000-0000-0000-0000-00000000000b',
  pciBusId: '00000000:AF:00.0',
  memoryUsedMib: 0,
  utilization: 0,
  temperatureC: 33,
  computeCapability: '8.9',
  migMode: null,
};

withLibrary(`a library that works${why}`, () => {
  test('two healthy GPUs: every field, and the version of the driver', async () => {
    expect(await answerOf(fakeLibrary())).toEqual({
      gpus: [H100, L4],
      source: 'nvml',
      reason: null,
      driverVersion: '550.54.15',
      warnings: [],
    });
  });

  test('libraryPath may be the file itself, and the loader finds one through LD_LIBRARY_PATH', async () => {
    expect((await answerOf(join(fakeLibrary(), 'libnvidia-ml.so.1'))).gpus).toHaveLength(2);
    process.env.LD_LIBRARY_PATH = fakeLibrary();
    try {
      expect((await enumerator({}).enumerate()).gpus).toHaveLength(2);
      expect((await answerOf('/nowhere')).gpus).toHaveLength(2);
    } finally {
      delete process.env.LD_LIBRARY_PATH;
    }
  });

  test('a library of old: its functions by their first names, the PCI address where it stood then', async () => {
    const { gpus, source } = await answerOf(fakeLibrary('OLD'));
    expect(source).toBe('nvml');
    expect(gpus).toEqual([
      { ...H100, pciBusId: '0000:3B:00.0', memoryUsedMib: 1_536, migMode: null },
      { ...L4, pciBusId: '0000:AF:00.0', memoryUsedMib: 512 },
    ]);
  });

  test('a library without anything that is not needed: what it does not tell is null', async () => {
    const { gpus, driverVersion } = await answerOf(fakeLibrary('BARE'));
    expect(driverVersion).toBeNull();
    const unknown = Object.fromEntries(Object.keys(H100).map((key) => [key, null]));
    const told = { vendor: 'nvidia', model: 'NVIDIA GPU', memoryMib: 0, source: 'nvml' };
    expect(gpus).toEqual([0, 1].map((index) => ({ ...unknown, ...told, index })));
  });

  test('a GPU in MIG mode, whose use NVML does not tell: what it is cut into, where there is something', async () => {
    const { gpus } = await answerOf(fakeLibrary('MIG'));
    const part = (index: number, uuid: string, profile: string, memoryMib: number) => ({
      ...{
        index,
        uuid: `MIG-00000000-0000-0000-0000-00000000000${uuid}`,
        model: `NVIDIA H100 80GB HBM3 MIG ${profile}`,
      },
      ...{ memoryMib, memoryUsedMib: 100 },
    });
    expect(gpus).toEqual([
      {
        ...{ ...H100, migMode: true, utilization: null },
        migDevices: [part(0, '1', '3g.40gb', 40_448), part(2, '3', '1g.10gb', 9_984)],
      },
      { ...L4, utilization: null },
    ]);
    expect([gpus[0]?.migDevices, gpus[0]?.migDevices?.[0]].every(Object.isFrozen)).toBe(true);
  });

  test('figures beyond their whole are the whole', async () => {
    expect((await answerOf(fakeLibrary('BEYOND'))).gpus[0]).toEqual({ ...H100, memoryUsedMib: 81_559, utilization: 1 });
  });

  test('a lost GPU beside a healthy one: the healthy one, and a warning', async () => {
    expect(await answerOf(fakeLibrary('LOST'))).toMatchObject({
      gpus: [H100],
      reason: null,
      warnings: ['GPU 1: GPU is lost (15)'],
    });
  });

  test('what the library prints disturbs nothing', async () => {
    expect((await answerOf(fakeLibrary('PRINTS'))).gpus).toEqual([H100, L4]);
  });

  test('the child is given LD_LIBRARY_PATH and PATH, and nothing else', async () => {
    process.env.LD_LIBRARY_PATH = '/nowhere';
    try {
      const { driverVersion } = await answerOf(fakeLibrary('TELLS_ENVIRONMENT'));
      expect(driverVersion?.split(' ').sort()).toEqual(['LD_LIBRARY_PATH', 'PATH']);
    } finally {
      delete process.env.LD_LIBRARY_PATH;
    }
  });

  for (const c of conformance(GpuEnumerator)) {
    test(`conformance, two GPUs: ${c.name}`, () => c.run(() => enumerator({ libraryPath: fakeLibrary() })));
    test(`conformance, a lost GPU: ${c.name}`, () => c.run(() => enumerator({ libraryPath: fakeLibrary('LOST') })));
  }
});

describe('no GPU: none, and the reason', () => {
  const NEXT = 'nvidia-smi not found; no AMD GPU in /sys/class/drm';
  const without = (...reasons: (string | RegExp)[]) => ({
    gpus: [],
    source: 'none',
    reason: expect.stringMatching(
      new RegExp(`^${reasons.map((r) => (typeof r === 'string' ? r : r.source)).join('; ')}; ${NEXT}$`),
    ),
    driverVersion: null,
    warnings: [],
  });
  const MISSING = /libnvidia-ml.so.1 not found/;

  // A machine with a driver would find its library where these have none.
  const driverless = process.platform === 'linux' && !hasDriver() ? test : test.skip;

  driverless('no library (skipped on a machine that has one)', async () => {
    expect(await enumerator({}).enumerate()).toEqual(without(MISSING));
    expect(await answerOf('/nowhere')).toEqual(without('/nowhere not found', MISSING));
    const empty = folderWith();
    expect(await answerOf(empty)).toEqual(without(`${empty}/libnvidia-ml.so.1 not found`, MISSING));
  });

  driverless('a file that is no library (skipped on a machine that has one)', async () => {
    const folder = folderWith({ 'libnvidia-ml.so.1': 'text' });
    expect(await answerOf(folder)).toEqual(
      without(/\S+libnvidia-ml.so.1 does not load: (file too short|invalid ELF header)/, MISSING),
    );
  });

  test('koffi is not installed', async () => {
    const folder = folderWith();
    const alone = join(folder, 'nvml-child.mjs');
    copyFileSync(fileURLToPath(child), alone);
    expect(await enumerator({}, { child: `file://${alone}` }).enumerate()).toEqual(
      without(/koffi is not installed \(npm i koffi\)/),
    );
  });

  test('koffi is installed and does not load', async () => {
    const folder = folderWith({
      'node_modules/koffi/package.json': '{ "main": "index.js" }',
      'node_modules/koffi/index.js': 'throw new Error("Cannot find the native Koffi module\\nat all");',
    });
    copyFileSync(fileURLToPath(child), join(folder, 'nvml-child.mjs'));
    expect(await enumerator({}, { child: `file://${folder}/nvml-child.mjs` }).enumerate()).toEqual(
      without('koffi could not be loaded: Cannot find the native Koffi module'),
    );
  });

  test('a child that fails says so', async () => {
    const broken = folderWith({ 'child.mjs': 'throw new TypeError("nonsense")' });
    const { reason } = await enumerator({}, { child: `file://${broken}/child.mjs` }).enumerate();
    expect(reason).toMatch(/^nvml failed with exit code 1: TypeError: nonsense; /);
    const cut = folderWith({ 'child.mjs': 'import { writeSync } from "node:fs"; writeSync(3, "{ \\"gpus\\":");' });
    const { reason: cutShort } = await enumerator({}, { child: `file://${cut}/child.mjs` }).enumerate();
    expect(cutShort).toMatch(/^nvml failed with exit code 0: { "gpus":; /);
  });

  test('other platforms than Linux are asked nothing', async () => {
    const children = new ShortChildren((() => {
      throw new Error('started');
    }) as never);
    expect(await enumerator({}, { platform: 'darwin', children }).enumerate()).toMatchObject({
      source: 'none',
      reason: 'adapter nvml works on Linux, not on darwin',
    });
  });

  withLibrary(`of a library with a defect${why}`, () => {
    test.each([
      ['no GPU', 'GPUS=0', 'NVML counts no GPU'],
      ['an init that fails', 'INIT_FAILS', /nvmlInit: Driver Not Loaded \(9\)/],
      ['a function missing that is needed', 'NO_COUNT', 'libnvidia-ml.so.1 has no nvmlDeviceGetCount'],
      ['a crash', 'CRASHES', /nvml could not be asked: the driver's library crashed \(SIGSEGV\)/],
    ])('%s', async (_, define, reason) => {
      expect(await answerOf(fakeLibrary(define))).toEqual(without(reason));
    });

    test('a library cut short, at every page: SIGBUS or a refusal in the child, a reason here', async () => {
      const whole = readFileSync(join(fakeLibrary(), 'libnvidia-ml.so.1'));
      const reasons: string[] = [];
      for (let bytes = 0x1000; bytes < whole.length; bytes += 0x1000) {
        const cut = folderWith({ 'libnvidia-ml.so.1': whole.subarray(0, bytes) });
        const { gpus, reason } = await answerOf(cut);
        // What is cut off at the end, the loader may not need: then it works.
        if (gpus.length === 0) reasons.push(reason ?? '');
      }
      expect(reasons).toContainEqual(
        expect.stringMatching(/^nvml could not be asked: the driver's library crashed \(SIGBUS\); /),
      );
    });

    for (const c of conformance(GpuEnumerator)) {
      test(`conformance, none: ${c.name}`, () => c.run(() => enumerator({ libraryPath: fakeLibrary('GPUS=0') })));
    }
  });
});

withLibrary(`a driver that hangs${why}`, () => {
  const HUNG = /^nvml did not answer within 150 ms: the driver hangs$/;

  test('costs its timeout once: the answer without GPUs is remembered, and no other source is asked', async () => {
    const started: string[] = [];
    const children = new ShortChildren(((file: string, ...rest: unknown[]) => {
      started.push(file);
      return (spawn as (...args: unknown[]) => ChildProcess)(file, ...rest);
    }) as typeof spawn);
    const hung = enumerator({ libraryPath: fakeLibrary('HANGS'), timeoutMs: 150 }, { children });
    expect(await hung.enumerate()).toMatchObject({ gpus: [], source: 'none', reason: expect.stringMatching(HUNG) });
    expect((await hung.enumerate()).reason).toMatch(HUNG);
    expect(started).toEqual([process.execPath]);
  });

  test('the child is gone afterwards', async () => {
    let pid = 0;
    const children = new ShortChildren(((...args: unknown[]) => {
      const started = (spawn as (...args: unknown[]) => ChildProcess)(...args);
      pid = started.pid ?? 0;
      return started;
    }) as typeof spawn);
    await enumerator({ libraryPath: fakeLibrary('HANGS'), timeoutMs: 150 }, { children }).enumerate();
    expect(pid).toBeGreaterThan(0);
    expect(() => process.kill(pid, 0)).toThrow('ESRCH');
  });

  test('a child that cannot be ended: unknown, and none is started until it has', async () => {
    const started: { child: ChildProcess; kill: ChildProcess['kill'] }[] = [];
    const children = new ShortChildren(((...args: unknown[]) => {
      const it = (spawn as (...args: unknown[]) => ChildProcess)(...args);
      started.push({ child: it, kill: it.kill.bind(it) });
      it.kill = () => true; // as of a process in an uninterruptible call
      return it;
    }) as typeof spawn);
    const hung = enumerator({ libraryPath: fakeLibrary('HANGS'), timeoutMs: 150 }, { children });
    const unknown = {
      gpus: [],
      source: 'unknown',
      reason: expect.stringMatching(/^unknown: process \d+ hangs in the driver and cannot be ended; /),
    };
    expect(await hung.enumerate()).toMatchObject(unknown);
    expect(await hung.enumerate()).toMatchObject(unknown);
    const healthy = enumerator({ libraryPath: fakeLibrary() }, { children });
    expect(await healthy.enumerate()).toMatchObject(unknown);
    expect(started).toHaveLength(1);
    const gone = once(started[0]?.child as ChildProcess, 'close');
    started[0]?.kill('SIGKILL');
    await gone;
    expect((await healthy.enumerate()).gpus).toHaveLength(2);
  });

  /** Runs a script that has an enumerator `hung`, and prints the pid of its child; answers that and what it printed. */
  async function withHung(kill: string, then: string): Promise<{ pid: number; told: string; status: number | null }> {
    const [module, short] = await Promise.all(
      ['enumerator', 'short-child'].map((name) => bundle(`src/adapters/gpu-nvml/${name}.ts`)),
    );
    const script = `import { spawn } from 'node:child_process';
      import { NvmlEnumerator } from ${JSON.stringify(module)};
      import { ShortChildren } from ${JSON.stringify(short)};
      const children = new ShortChildren((...args) => {
        const child = spawn(...args);
        ${kill}
        process.stdout.write(child.pid + ' ');
        return child;
      });
      const options = { libraryPath: ${JSON.stringify(fakeLibrary('HANGS'))}, timeoutMs: 1_000 };
      const hung = new NvmlEnumerator(options, { child: ${JSON.stringify(child)}, children });
      ${then}`;
    const { stdout, stderr, status } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
      encoding: 'utf8',
      timeout: 20_000,
    });
    expect(stderr).toBe('');
    const [pid = '', ...told] = stdout.split(' ');
    return { pid: Number(pid), told: told.join(' '), status };
  }

  test('a process ends by itself though a child of it cannot be ended', async () => {
    const { pid, told, status } = await withHung(
      'child.kill = () => true;',
      `process.stdout.write((await hung.enumerate()).source);`,
    );
    expect({ told, status }).toEqual({ told: 'unknown', status: 0 });
    process.kill(pid, 'SIGKILL'); // it is there still, until now
  });

  test('a process that exits takes the child with it', async () => {
    const { pid, status } = await withHung('', `void hung.enumerate(); setTimeout(() => process.exit(3), 300);`);
    expect(status).toBe(3);
    // Gone, or left to be reaped by whoever is the first process here.
    const isGone = () => {
      try {
        return /^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
      } catch {
        return true;
      }
    };
    // Its alarm would end it after two seconds.
    for (let waits = 0; !isGone() && waits < 40; waits++) await sleep(10);
    expect(isGone()).toBe(true);
  });

  test('all instances of a process wait for one another, unless told otherwise', async () => {
    const order: string[] = [];
    const ask = async (name: string, options: NvmlEnumeratorOptions) => {
      await new NvmlEnumerator(options, { child, root }).enumerate();
      order.push(name);
    };
    await Promise.all([
      ask('hung', { libraryPath: fakeLibrary('HANGS'), timeoutMs: 500 }),
      ask('healthy', { libraryPath: fakeLibrary(), timeoutMs: 20_000 }),
    ]);
    expect(order).toEqual(['hung', 'healthy']);
  });

  test('the kernel ends a child whose parent has died', () => {
    const question = JSON.stringify({ source: 'nvml', libraryPath: fakeLibrary('HANGS'), endsAfterMs: 0 });
    expect(spawnSync(process.execPath, [fileURLToPath(child), question]).signal).toBe('SIGALRM');
  });

  test('stopping the plugin ends the child, and the answer says so', async () => {
    const stop = new AbortController();
    const children = new ShortChildren(((...args: unknown[]) => {
      setTimeout(() => stop.abort(), 50);
      return (spawn as (...args: unknown[]) => ChildProcess)(...args);
    }) as typeof spawn);
    const options = { libraryPath: fakeLibrary('HANGS'), signal: stop.signal };
    const asking = enumerator(options, { children }).enumerate();
    expect(await asking).toMatchObject({
      source: 'unknown',
      reason: 'unknown: the plugin was stopped while nvml was asked',
    });
  });
});

withLibrary(`children and what is remembered${why}`, () => {
  function counting(options: NvmlEnumeratorOptions) {
    let [running, most, count] = [0, 0, 0];
    const children = new ShortChildren(((...args: unknown[]) => {
      const started = (spawn as (...args: unknown[]) => ChildProcess)(...args);
      count += 1;
      running += 1;
      most = Math.max(most, running);
      started.once('exit', () => {
        running -= 1;
      });
      return started;
    }) as typeof spawn);
    const make = () => enumerator(options, { children });
    return { make, count: () => count, most: () => most };
  }

  test('calls that overlap share one child; a remembered answer needs none', async () => {
    const { make, count } = counting({ libraryPath: fakeLibrary() });
    const one = make();
    const [first, second] = await Promise.all([one.enumerate(), one.enumerate()]);
    expect(second).toBe(first);
    expect(await one.enumerate()).toBe(first);
    expect(count()).toBe(1);
  });

  test('a caller that writes to its answer is refused: the remembered one is the same for all', async () => {
    const one = counting({ libraryPath: fakeLibrary('LOST') }).make();
    const { gpus, warnings } = await one.enumerate();
    expect(() => (gpus as GpuInfo[]).pop()).toThrow(TypeError);
    expect(() => (warnings as string[]).pop()).toThrow(TypeError);
    expect(() => Object.assign(gpus[0] ?? {}, { model: 'other' })).toThrow(TypeError);
  });

  test('maxAgeMs and cacheMs: an answer that is too old is asked for anew', async () => {
    const { make, count } = counting({ libraryPath: fakeLibrary(), cacheMs: 0 });
    const one = make();
    await one.enumerate();
    await one.enumerate({ maxAgeMs: 60_000 });
    expect(count()).toBe(1);
    await one.enumerate();
    await one.enumerate({ maxAgeMs: 0 });
    expect(count()).toBe(3);
  });

  test('children of several instances run one at a time', async () => {
    const { make, count, most } = counting({ libraryPath: fakeLibrary() });
    const answers = await Promise.all([make(), make(), make()].map((one) => one.enumerate()));
    expect(answers.map(({ gpus }) => gpus.length)).toEqual([2, 2, 2]);
    expect([count(), most()]).toEqual([3, 1]);
  });

  test('one that gave up waiting for its turn does not let the next in before the first has ended', async () => {
    let [running, most] = [0, 0];
    const children = new ShortChildren(((...args: unknown[]) => {
      most = Math.max(most, ++running);
      return (spawn as (...args: unknown[]) => ChildProcess)(...args).once('exit', () => running--);
    }) as typeof spawn);
    const ask = (script: string, withinMs: number) =>
      children.ask({ file: '/bin/sh', args: ['-c', script], answersOn: 1, deadlineMs: performance.now() + withinMs });
    const first = ask('exec /bin/sleep 0.5', 20_000);
    expect(await ask('echo second', 50)).toEqual({ how: 'late' });
    expect(await ask('echo third', 20_000)).toMatchObject({ answer: 'third\n' });
    expect(await first).toMatchObject({ how: 'ended', code: 0 });
    expect(most).toBe(1);
  });

  test('nothing is left on the process, however often it asks', async () => {
    const before = process.listenerCount('exit');
    const { make } = counting({ libraryPath: fakeLibrary(), cacheMs: 0 });
    const one = make();
    for (let i = 0; i < 3; i++) await one.enumerate();
    const missing = new ShortChildren();
    await missing.ask({ file: '/nowhere', args: [], answersOn: 1, deadlineMs: performance.now() + 20_000 });
    expect(process.listenerCount('exit')).toBe(before);
  });

  test('who waits for a turn waits no longer than its own timeout', async () => {
    const children = new ShortChildren();
    const first = enumerator({ libraryPath: fakeLibrary('HANGS'), timeoutMs: 600 }, { children }).enumerate();
    const second = enumerator({ libraryPath: fakeLibrary(), timeoutMs: 100 }, { children }).enumerate();
    const order: string[] = [];
    await Promise.all([first.then(() => order.push('first')), second.then(() => order.push('second'))]);
    expect(order).toEqual(['second', 'first']);
    expect((await second).reason).toBe('nvml did not answer within 100 ms: the driver hangs');
  });
});

test('out of file descriptors: a reason, and the next question is asked', async () => {
  let isOut = true;
  const children = new ShortChildren(((...args: unknown[]) => {
    if (!isOut) return (spawn as (...args: unknown[]) => ChildProcess)(...args);
    // What spawn returns then: a ChildProcess without pipes, which tells of it by 'error'.
    const child = Object.assign(new EventEmitter(), { stdio: undefined, kill: () => false, unref: () => {} });
    process.nextTick(() => child.emit('error', Object.assign(new Error('spawn EMFILE'), { code: 'EMFILE' })));
    return child;
  }) as typeof spawn);
  const one = enumerator({ cacheMs: 0 }, { children, child: 'file:///nowhere.mjs' });
  expect((await one.enumerate()).reason).toMatch(
    /^nvml could not be asked: spawn EMFILE; nvidia-smi could not be asked: /,
  );
  isOut = false;
  expect((await one.enumerate()).reason).toMatch(
    /^nvml failed with exit code 1: Error.*Cannot find module.*; nvidia-smi not found; /,
  );
});

describe('options', () => {
  test.each([
    [{ timeoutMs: 0 }, 'timeoutMs must be an integer from 1 to 600000, found 0'],
    [{ cacheMs: -1 }, 'cacheMs must be an integer from 0 to 86400000, found -1'],
    [{ libraryPath: '' }, 'libraryPath must be well-formed text of 1 to 4096 characters'],
    [{ path: '/x' }, '"path"'],
  ])('%j is refused', (options, message) => {
    expect(() => new NvmlEnumerator(options as object)).toThrow(message);
  });
});

function hasDriver(): boolean {
  return spawnSync('nvidia-smi', ['-L']).status === 0;
}

const GPU_HERE = process.platform === 'linux' && hasDriver();
const onGpu = GPU_HERE ? describe : describe.skip;

onGpu(`this machine's GPUs${GPU_HERE ? '' : ' (skipped: nvidia-smi finds no GPU here)'}`, () => {
  test('NVML tells what nvidia-smi tells', async () => {
    const { gpus, driverVersion } = await enumerator({}).enumerate();
    const fields = 'index,uuid,pci.bus_id,name,memory.total,compute_cap,driver_version';
    const csv = execFileSync('nvidia-smi', [`--query-gpu=${fields}`, '--format=csv,noheader,nounits'], {
      encoding: 'utf8',
      env: { ...process.env, PATH: before.PATH },
    });
    const told = gpus.map(({ index, uuid, pciBusId, model, memoryMib, computeCapability }) =>
      [index, uuid, pciBusId, model, memoryMib, computeCapability, driverVersion].join(', '),
    );
    expect(told).toEqual(csv.trim().split('\n'));
  });

  for (const c of conformance(GpuEnumerator)) test(c.name, () => c.run(() => enumerator({})));
});
