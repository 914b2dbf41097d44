/** `compute`, `plugins list` and `secrets`: what there is, for people and as JSON. */
import { readFileSync } from 'node:fs';
import { stripVTControlCharacters } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { plan } from '../../src/registry/index.js';
import { bindOdd } from './odd-plugin.js';
import { LOCAL, Place } from './support.js';

let place: Place;
beforeEach(() => {
  place = new Place();
});
afterEach(() => Place.removeAll());

/** The secrets of the local configuration: environment variables of this process, as the adapter reads them. */
const VARIABLE = 'ROLLOUT_SECRET_TOUR_TEST_SET';
afterEach(() => {
  delete process.env[VARIABLE];
});

const INVENTORY = {
  cpuCount: 64,
  memoryMib: 262_144,
  gpus: [
    {
      vendor: 'nvidia',
      model: 'H200',
      memoryMib: 143_771,
      source: 'nvml',
      index: 0,
      memoryUsedMib: 113_000,
      utilization: 0.25,
      temperatureC: 41.4,
      computeCapability: '9.0',
      migMode: true,
      migDevices: [
        { index: 0, uuid: 'MIG-1', model: 'H200 MIG 1g.18gb', memoryMib: 16_384, memoryUsedMib: 8_192 },
        { index: 3, uuid: 'MIG-4', model: null, memoryMib: null, memoryUsedMib: null },
      ],
    },
    { vendor: 'amd', model: 'MI300X', memoryMib: 196_608, source: 'rocm' },
  ],
  instanceType: 'p5en.48xlarge',
  gpuReason: null,
  gpuSources: [
    {
      instance: 'default',
      source: 'nvml',
      gpus: 1,
      reason: null,
      driverVersion: '550.54',
      warnings: ['GPU 1: GPU is lost (15)'],
    },
    { instance: 'rocm', source: 'rocm', gpus: 1, reason: null, driverVersion: null, warnings: [] },
    {
      instance: 'odd',
      source: null,
      gpus: 0,
      reason: 'GpuEnumerator#odd failed: broken',
      driverVersion: null,
      warnings: [],
    },
  ],
  cpuLimit: 8,
  memoryLimitMib: 65_536,
  memoryAvailableMib: 60_000,
  cpuModel: 'Some CPU',
  cpuFlags: ['avx2'],
  arch: 'x64',
  numaNodes: [
    { id: 0, cpus: [0, 1], memoryMib: 131_072 },
    { id: 1, cpus: [2], memoryMib: null },
  ],
  hostname: 'box',
  kernel: '6.1.0',
};

describe('compute', () => {
  test('the machine that this runs on', async () => {
    const { code, stdout, stderr } = await place.run(['compute', '--json']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(JSON.parse(stdout)).toMatchObject({
      cpuCount: expect.any(Number),
      arch: process.arch,
      preemptionLeadMs: null,
    });
    const text = (await place.run(['compute'])).stdout;
    expect(text).toMatch(
      /^host +.+\ninstance type +.+\ncpus +\d+.*\nmemory +.+\n +[█░]{10} .+ used, .+ available\ngpus +none: .+\n/,
    );
    expect(text).toMatch(/\npreemption +no notice\n$/);
  });

  test('one with GPUs, limits and NUMA nodes', async () => {
    bindOdd(place, {
      provides: 'ComputeHint@1',
      factory: `() => ({ inventory: async () => (${JSON.stringify(INVENTORY)}), preemptionSignal: async () => 120000 })`,
    });
    const { stdout } = await place.run(['compute']);
    const rows = stdout
      .trimEnd()
      .split('\n')
      .map((line) => line.trim().replace(/ {2,}/g, ' | '));
    expect(rows).toEqual([
      'host | box, 6.1.0, x64',
      'instance type | p5en.48xlarge',
      'cpus | 8 (limit) of 64, Some CPU',
      'memory | 64.0 GiB (limit) of 256 GiB',
      '████████░░ 197 GiB used, 58.6 GiB available',
      'gpus | 0: nvidia H200 | ███░░░░░░░ | 25 % busy | ████████░░ 110 GiB of 140 GiB | 41 °C | compute 9.0, MIG, told by nvml',
      '0: H200 MIG 1g.18gb | █████░░░░░ 8.0 GiB of 16.0 GiB | MIG-1',
      '3: MIG device | MIG-4',
      'amd MI300X | 192 GiB | told by rocm',
      'gpu sources | nvml: 1 GPU, driver 550.54',
      'warning: GPU 1: GPU is lost (15)',
      'rocm (rocm): 1 GPU',
      'odd (no answer): GpuEnumerator#odd failed: broken',
      'numa nodes | node 0 | 2 cpus | 128 GiB',
      'node 1 | 1 cpu',
      'preemption | in 120 s',
    ]);
    expect(JSON.parse((await place.run(['compute', '--json'])).stdout)).toEqual({
      ...INVENTORY,
      preemptionLeadMs: 120_000,
    });
  });

  test('what could disturb a terminal is escaped, wherever it comes from', async () => {
    const odd = { ...INVENTORY, gpus: [], gpuReason: 'nvidia-smi: \x1b[2J', gpuSources: [], hostname: 'a\u202eb' };
    bindOdd(place, {
      provides: 'ComputeHint@1',
      factory: `() => ({ inventory: async () => (${JSON.stringify(odd)}), preemptionSignal: async () => null })`,
    });
    const { stdout } = await place.run(['compute']);
    expect(stdout).toContain('none: nvidia-smi: \\u001b[2J');
    expect(stdout).toContain('a\\u202eb, 6.1.0');
  });

  /** A hint whose figures tell how often it has been asked, and with which options. */
  const COUNTING = `(() => {
    let count = 0;
    return () => ({
      inventory: async (options) => ({ ...${JSON.stringify(INVENTORY)}, cpuCount: ++count, cpuModel: JSON.stringify(options) }),
      preemptionSignal: async () => null,
    });
  })()`;

  /** Aborts once that much of what was asked for has been told. */
  async function watched(args: readonly string[], readings: number, tty = false, size?: readonly [number, number]) {
    bindOdd(place, { provides: 'ComputeHint@1', factory: COUNTING });
    const stop = new AbortController();
    const running = place.run(['compute', ...args], {
      tty,
      ...(size && { size }),
      signal: stop.signal,
      onStdout: (text) => {
        if (text.split('Ctrl-C ends').length > readings || text.split('preemption').length > readings) stop.abort();
      },
    });
    return running;
  }

  test('--watch --json: a document a line, each read anew, until the signal; GPUs are no older than half a pause', async () => {
    const { code, stdout, stderr } = await watched(['--watch', '0.1', '--json'], 3);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const told = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as { cpuCount: number; cpuModel: string });
    expect(told.map(({ cpuCount }) => cpuCount)).toEqual([1, 2, 3]);
    expect(told.map(({ cpuModel }) => JSON.parse(cpuModel))).toEqual(Array(3).fill({ gpuMaxAgeMs: 50 }));
  });

  test('--watch into a pipe: block after block, an empty line between', async () => {
    const { stdout } = await watched(['--watch', '0.1'], 2);
    const blocks = stdout.split('\n\n');
    expect(blocks.map((block) => /^cpus +8 \(limit\) of (\d+)/m.exec(block)?.[1])).toEqual(['1', '2']);
    expect(stdout).not.toContain('\x1b');
  });

  test('--watch on a terminal: redrawn from the corner, cleared once, each line and what is below it wiped', async () => {
    const { stdout } = await watched(['--watch', '0.1'], 2, true);
    const frames = stdout.split('\x1b[H');
    expect(frames).toHaveLength(3);
    expect(frames[0]).toBe('\x1b[2J');
    for (const frame of frames.slice(1)) {
      expect(frame).toMatch(/^\S*\d\d:\d\d:\d\d, every 0.1 s; Ctrl-C ends/);
      expect(
        frame
          .split('\n')
          .slice(0, -1)
          .every((line) => line.endsWith('\x1b[K')),
      ).toBe(true);
      expect(frame.endsWith('\n\x1b[J')).toBe(true);
    }
  });

  test('--watch on a terminal that is too small: what has room, and how much has not', async () => {
    const frame = async (size: readonly [number, number]) => {
      const { stdout } = await watched(['--watch', '0.1'], 1, true, size);
      return stripVTControlCharacters(stdout).split('\n').slice(0, -1);
    };
    const whole = await frame([200, 100]);
    expect(whole.at(-1)).toMatch(/^preemption/);
    expect(await frame([200, whole.length + 1])).toHaveLength(whole.length);
    const short = await frame([200, 6]);
    expect(short).toHaveLength(5);
    expect(short.slice(1, 3)).toEqual(whole.slice(1, 3));
    expect(short.slice(3)).toEqual([expect.stringMatching(/^cpus/), `… ${whole.length - 4} more lines`]);
    // A line that is longer than the terminal is wide takes two.
    const wide = Math.max(...whole.map((line) => line.length));
    expect((await frame([wide - 1, whole.length + 1])).length).toBeLessThan(whole.length);
  });

  test('--watch ends at once in a reading that does not', async () => {
    bindOdd(place, {
      provides: 'ComputeHint@1',
      factory: '() => ({ inventory: () => new Promise(() => {}), preemptionSignal: async () => null })',
    });
    const { code, stdout } = await place.run(['compute', '--watch'], { signal: AbortSignal.timeout(50) });
    expect({ code, stdout }).toEqual({ code: 0, stdout: '' });
  });

  test.each(['0', '0.05', '86401', 'often', '-1'])('--watch=%s is wrong usage', async (text) => {
    const { code, stderr } = await place.run(['compute', `--watch=${text}`]);
    expect({ code, stderr }).toEqual({
      code: 2,
      stderr: expect.stringMatching(`^rollout-cloud: --watch must be seconds from 0.1 to 86400, found "${text}"\n`),
    });
  });

  test('bold on a terminal, unless NO_COLOR is set', async () => {
    expect((await place.run(['compute'], { tty: true })).stdout).toMatch(/^\x1b\[1mhost\x1b\[22m/);
    expect((await place.run(['compute'], { tty: true, env: { NO_COLOR: '1' } })).stdout).toMatch(/^host/);
    expect((await place.run(['compute'])).stdout).not.toContain('\x1b');
  });
});

describe('plugins list', () => {
  test('every instance: adapter, plugin and version, state, configuration with its defaults', async () => {
    const { code, stdout, stderr } = await place.run(['plugins', 'list', '--json']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const { instances, warnings } = JSON.parse(stdout);
    expect(warnings).toEqual([]);
    expect(instances).toHaveLength(5);
    expect(instances[1]).toEqual({
      capability: 'ObjectStore',
      name: 'default',
      isDefault: true,
      middleware: [],
      adapter: 'local.fs',
      plugin: 'rollout.cloud-local',
      pluginVersion: expect.stringMatching(/^\d+\.\d+\.\d+$/),
      provides: 'ObjectStore@1',
      state: 'planned',
      place: { source: expect.stringMatching(/plugins\.json$/), line: 10, column: 18 },
      config: { root: place.path('data/object-store'), durability: 'full', io: 'auto' },
    });
  });

  test('for people, with a mark at the default one', async () => {
    const store = (root: string) => ({ adapter: 'local.fs', config: { root } });
    const instances = { first: store('./first'), second: store('./second') };
    const bindings = { ...LOCAL.bindings, ObjectStore: { default: 'second', instances } };
    place.write('plugins.json', JSON.stringify({ bindings }));
    const { stdout } = await place.run(['plugins', 'list']);
    expect(stdout).toMatch(
      /^ {3}ObjectStore#first +local\.fs +rollout\.cloud-local \S+ +planned +root=".*first" durability="full" io="auto"$/m,
    );
    expect(stdout).toMatch(/^\* {2}ObjectStore#second /m);
    expect(stdout).toMatch(/^\* {2}SecretStore#default .* allowlist=\["TOUR_TEST_SET","TOUR_TEST_UNSET"\]$/m);
  });

  test('warns of an optional plugin that is not there', async () => {
    place.write('plugins.json', JSON.stringify({ plugins: [{ use: './nowhere', optional: true }], bindings: {} }));
    const { code, stdout, stderr } = await place.run(['plugins', 'list', '--json']);
    expect({ code, stderr }).toEqual({
      code: 0,
      stderr: expect.stringMatching(/^rollout-cloud: warning: .*nowhere.*\n$/),
    });
    const { plugins, ...rest } = JSON.parse(stdout);
    expect(rest).toEqual({ instances: [], warnings: [expect.stringContaining('nowhere')] });
    expect(plugins[0]).toMatchObject({ use: './nowhere', state: 'missing', source: 'listed', optional: true });
    expect((await place.run(['plugins', 'list'])).stdout).toMatch(
      /^\.\/nowhere +missing +listed +plugin "\.\/nowhere": there is no folder/,
    );
  });

  test('runs nothing of a plugin', async () => {
    bindOdd(place, { provides: 'ComputeHint@1', factory: '(() => { throw new Error("imported"); })()' });
    expect(await place.run(['plugins', 'list'])).toMatchObject({
      code: 0,
      stderr: '',
      stdout: expect.stringContaining('odd.one'),
    });
  });
});

describe('plugins list, of plugins', () => {
  test('tells the state of each, and why one is not ready', async () => {
    bindOdd(place, { provides: 'ComputeHint@1', factory: '{}' });
    const { plugins } = JSON.parse(readFileSync(place.path('plugins.json'), 'utf8'));
    const config = { ...LOCAL, plugins: [...plugins, { use: 'rollout.gpu-nvml', enabled: false }] };
    place.write('plugins.json', JSON.stringify(config));
    const { stdout } = await place.run(['plugins', 'list']);
    expect(stdout).toMatch(/^rollout\.cloud-local \S+ +ready +listed$/m);
    expect(stdout).toMatch(/^odd 1\.0\.0 +ready +listed$/m);
    expect(stdout).toMatch(/^rollout\.gpu-nvml \S+ +disabled +listed +it is disabled$/m);
    expect(stdout).toMatch(/^rollout\.middleware \S+ +discovered +built-in +it is built in and not listed$/m);
  });

  test('a built-in one that is not listed is ready where its middleware is used', async () => {
    const bindings = { ...LOCAL.bindings, Storage: { adapter: 'local.memory', middleware: ['retry'] } };
    place.write('plugins.json', JSON.stringify({ bindings }));
    expect((await place.run(['plugins', 'list'])).stdout).toMatch(/^rollout\.middleware \S+ +ready +built-in$/m);
    const { plugins } = await plan({ config: place.path('plugins.json') });
    expect(plugins.find(({ id }) => id === 'rollout.middleware')).toMatchObject({ state: 'ready', reason: null });
  });

  test('of one that is broken the reason, and what else is there', async () => {
    place.write(
      'plugins/new/plugin.json',
      '{ "id": "new", "version": "1.0.0", "main": "./dist/index.js", "contributes": {} }',
    );
    const { code, stdout, stderr } = await place.run(['plugins', 'list']);
    expect(code).toBe(0);
    expect(stdout).toMatch(
      /^new 1\.0\.0 +invalid +folder +main "\.\/dist\/index\.js" is not there; build the plugin first$/m,
    );
    expect(stderr).toMatch(/^rollout-cloud: warning: plugin ".*new" is left out: RC1107 /);
  });
});

describe('plugins explain', () => {
  const explained = (bindings: object, more: object = {}) => {
    place.write('plugins.json', JSON.stringify({ bindings, ...more }, null, 2));
    return place.run(['plugins', 'explain', 'Storage'], { env: { DB: './x.db' } });
  };
  const SQLITE = { adapter: ['local.sqlite', 'local.memory'], config: { path: '${env:DB}', busyTimeoutMs: 7 } };

  test('the adapter, those that lost, each setting with where it is from, and who needs it', async () => {
    const { code, stdout, stderr } = await explained({ Storage: SQLITE, Queue: { adapter: 'local.in-mem' } });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const lines = stdout
      .split('\n')
      .map((line) => line.replace(/ {2,}/g, '  ').replace(/\S*plugins\.json/g, 'plugins.json'));
    expect(lines).toEqual([
      expect.stringMatching(/^Storage#default \(default\): local\.sqlite of rollout\.cloud-local \S+, planned$/),
      '',
      'adapters',
      '  *  local.sqlite  rollout.cloud-local  it is named at plugins.json:5:9',
      '  local.node-sqlite  rollout.cloud-local  the binding does not name it',
      '  local.memory  rollout.cloud-local  the binding does not name it',
      '',
      'config',
      `  path  "${place.path('x.db')}"  plugins.json:9:17 with env DB`,
      '  busyTimeoutMs  7  plugins.json:10:26',
      '  durability  "full"  default',
      expect.stringMatching(/^ {2}maxUnflushedBytes {2}\d+ {2}default$/),
      '',
      'needed by  Queue#default',
      '',
    ]);
  });

  test('as JSON, with middleware, the report, and secrets by their names', async () => {
    const store = { SecretStore: { adapter: 'local.env' } };
    const ran = await explained({
      Storage: { ...SQLITE, config: { path: { $secret: 'DB' } }, middleware: ['retry'] },
      ...store,
    });
    expect(ran.stdout).toMatch(/path +secret "DB" +/);
    expect(ran.stdout).toMatch(/^middleware retry of rollout\.middleware\n {2}\S+ +\d+ +default$/m);
    expect(ran.stdout).toMatch(/^needs +SecretStore#default$/m);
    const { stdout } = await place.run(['--json', 'plugins', 'explain', 'Storage#default']);
    expect(JSON.parse(stdout)).toMatchObject({
      instance: 'Storage#default',
      settings: expect.arrayContaining([
        { path: 'path', value: { $secret: 'DB' }, origin: expect.objectContaining({ layer: 'file' }) },
      ]),
      report: { state: 'planned', demandedBy: null },
    });
  });

  test('what is not there is told with what is', async () => {
    const { code, stderr } = await place.run(['plugins', 'explain', 'Strage']);
    expect({ code, stderr }).toEqual({
      code: 2,
      stderr: expect.stringMatching(/^rollout-cloud: RC1121 there is no capability Strage\. Did you mean "Storage"\?/),
    });
    expect((await place.run(['plugins', 'explain', 'Queue#x'])).stderr).toContain('RC1122 Queue has no instance "x"');
  });
});

describe('plugins graph', () => {
  beforeEach(() => {
    const bindings = {
      Storage: { adapter: 'local.sqlite', config: { path: { $secret: 'DB' } } },
      Queue: { instances: { a: { adapter: 'local.in-mem' }, b: { adapter: 'local.in-mem', middleware: ['retry'] } } },
      SecretStore: { adapter: 'local.env' },
    };
    place.write('plugins.json', JSON.stringify({ bindings }));
  });

  test('as a tree: what nothing needs, and below it what it needs', async () => {
    const { code, stdout, stderr } = await place.run(['plugins', 'graph']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toBe(
      [
        'ComputeHint#default  local.compute',
        'ObjectStore#default  local.fs',
        'Queue#a  local.in-mem',
        '└─ Storage#default  local.sqlite',
        '   └─ SecretStore#default  local.env for a secret',
        'Queue#b  retry > local.in-mem',
        '└─ Storage#default  local.sqlite (see above)',
        '',
      ].join('\n'),
    );
  });

  test('as a Mermaid flowchart, and as JSON', async () => {
    const { stdout } = await place.run(['plugins', 'graph', '--mermaid']);
    expect(stdout.split('\n')).toEqual([
      'flowchart LR',
      '  n0["ComputeHint#35;default<br/>local.compute"]',
      '  n1["ObjectStore#35;default<br/>local.fs"]',
      '  n2["Queue#35;a<br/>local.in-mem"]',
      '  n3["Queue#35;b<br/>retry > local.in-mem"]',
      '  n4["SecretStore#35;default<br/>local.env"]',
      '  n5["Storage#35;default<br/>local.sqlite"]',
      '  n2 --> n5',
      '  n3 --> n5',
      '  n5 -. secret .-> n4',
      '',
    ]);
    const { edges } = JSON.parse((await place.run(['plugins', 'graph', '--json'])).stdout);
    expect(edges).toContainEqual({
      from: 'Storage#default',
      to: 'SecretStore#default',
      kind: 'secret',
      by: 'local.sqlite',
    });
  });
});

describe('secrets', () => {
  test('a plugin’s console is not data: stdout is one document all the same', async () => {
    const factory = `() => {
      console.log('hi'); console.info('from'); console.table([1]); console.dir({ a: 1 });
      return more({ names: async () => [] });
    }`;
    bindOdd(place, { provides: 'SecretStore@1', factory });
    const { code, stdout, stderr } = await place.program(['secrets', 'list', '--json']);
    expect({ code, document: JSON.parse(stdout) }).toEqual({ code: 0, document: [] });
    expect(stderr).toMatch(/^hi\nfrom\n[\s\S]*\{ a: 1 \}\n$/);
  });

  test.each(["'A,B'", '[1]', 'undefined'])(
    'names that are none, %s, are told as a defect of the plugin',
    async (names) => {
      bindOdd(place, { provides: 'SecretStore@1', factory: `() => more({ names: async () => ${names} })` });
      expect(await place.run(['secrets', 'list'])).toEqual({
        ...{ code: 1, stdout: '' },
        stderr: 'rollout-cloud: names() of the SecretStore answered what is no list of names: a defect of its plugin\n',
      });
    },
  );

  test('an error of the family that ends an activation is told with whose it is', async () => {
    const factory = `() => { throw coreError('Transient', 'NO_SERVER', 'the url is not reachable'); }`;
    bindOdd(place, { provides: 'SecretStore@1', factory });
    const { code, stderr } = await place.run(['secrets', 'list']);
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: 'rollout-cloud: SecretStore#default (adapter odd.one): the url is not reachable\n',
    });
    const { stdout } = await place.run(['secrets', 'list', '--json']);
    expect(JSON.parse(stdout)).toMatchObject({
      error: { code: 'NO_SERVER', message: 'SecretStore#default (adapter odd.one): the url is not reachable' },
    });
  });

  beforeEach(() => {
    process.env[VARIABLE] = 'hunter2';
  });

  test('list: names and whether they are set, never a value', async () => {
    const { code, stdout, stderr } = await place.run(['secrets', 'list']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toBe('TOUR_TEST_SET    set\nTOUR_TEST_UNSET  not set\n');
    const json = await place.run(['secrets', 'list', '--json']);
    expect(JSON.parse(json.stdout)).toEqual([
      { name: 'TOUR_TEST_SET', state: 'set' },
      { name: 'TOUR_TEST_UNSET', state: 'not set' },
    ]);
    expect(stdout + json.stdout).not.toContain('hunter2');
  });

  test('list: names that could disturb a terminal are escaped; none prints nothing', async () => {
    const allow = (...allowlist: string[]) =>
      place.write(
        'plugins.json',
        JSON.stringify({ bindings: { SecretStore: { adapter: 'local.env', config: { allowlist } } } }),
      );
    allow('a\u001b[31m');
    expect((await place.run(['secrets', 'list'])).stdout).toMatch(/^a\\u001b\[31m {2}/);
    allow();
    expect(await place.run(['secrets', 'list'])).toEqual({ code: 0, stdout: '', stderr: '' });
  });

  test('list: one of which nothing can be known is told with the reason: exit 1', async () => {
    bindOdd(place, {
      provides: 'SecretStore@1',
      factory: `() => ({ names: async () => ['A'], put: async () => {}, get: async () => { throw new Error('no vault'); } })`,
    });
    expect(await place.run(['secrets', 'list'])).toMatchObject({ code: 1, stdout: 'A  unknown: no vault\n' });
  });

  test('get: that it is set; its value only with --reveal', async () => {
    const get = (...options: string[]) => place.run(['secrets', 'get', 'TOUR_TEST_SET', ...options]);
    expect(await get()).toEqual({ code: 0, stdout: '[redacted] (set)\n', stderr: '' });
    expect(await get('--reveal')).toEqual({ code: 0, stdout: 'hunter2\n', stderr: '' });
    expect(JSON.parse((await get('--json')).stdout)).toEqual({
      name: 'TOUR_TEST_SET',
      state: 'set',
      value: '[redacted]',
    });
    expect(JSON.parse((await get('--json', '--reveal')).stdout).value).toBe('hunter2');
  });

  test.each([
    ['TOUR_TEST_UNSET', 1, /^rollout-cloud: secret "TOUR_TEST_UNSET" is not set .*\n$/],
    ['OTHER', 2, /^rollout-cloud: .*not in allowlist.*\n$/],
    ['', 2, /^rollout-cloud: a name has 1 to 512 characters, found 0\n$/],
  ])('get %j: exit %d', async (name, expected, reason) => {
    const { code, stdout, stderr } = await place.run(['secrets', 'get', name]);
    expect({ code, stdout, stderr }).toEqual({ code: expected, stdout: '', stderr: expect.stringMatching(reason) });
  });

  test('--instance names another store', async () => {
    const store = (...allowlist: string[]) => ({ adapter: 'local.env', config: { allowlist } });
    const SecretStore = { default: 'a', instances: { a: store('A'), b: store('B') } };
    place.write('plugins.json', JSON.stringify({ bindings: { SecretStore } }));
    expect((await place.run(['secrets', 'list', '--instance', 'b'])).stdout).toBe('B  not set\n');
  });
});
