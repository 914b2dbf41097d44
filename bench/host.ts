/**
 * What the host costs: `npm run bench:host [-- rounds]`, on the built package.
 *
 * In this process, warm: a plan of 20 plugins and 50 instances, read from disk at each round, and `host.get` of an active
 * instance beside a bare `Map.get`; and a call of an adapter bare and behind each of the middleware. In processes of their own, cold, each timed from spawn to exit and compared with a
 * bare `node -e 0` of the same rounds: a host on a local adapter with 50 bindings beside Inversify alone with as many, one
 * of them resolved in both. The cases take turns, so that whatever else the machine does falls on all alike. Results go to bench/results/host.json, by version of Node.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { pathToFileURL } from 'node:url';
import { keepResults, median } from './results.js';

const ROUNDS = Math.max(15, Number(process.argv[2] ?? 25));
const RESULTS = 'bench/results/host.json';
const PLUGINS = 20;
const INSTANCES = 50;
const GETS = 100_000;
/** Rounds until the compiler has done its work on all that a plan runs through. */
const WARM_UP = 100;
const CALLS = 5_000;
/** Around a Storage in memory, whose `get` does next to nothing. `otel` without an SDK. */
const LAYERS: readonly (readonly string[])[] = [[], ['retry'], ['timeout'], ['otel'], ['otel', 'retry', 'timeout']];

/** Of the package, what is measured here. */
interface Package {
  createHost(options: { config: string | object }): Promise<{
    get(capability: object, name?: string): Promise<object>;
    bindings(): readonly object[];
    stop(): Promise<unknown>;
  }>;
  readonly SecretStore: { readonly key: symbol };
  readonly Storage: { readonly key: symbol };
}
const built = pathToFileURL(join(process.cwd(), 'dist/index.js')).href;
const { createHost, SecretStore, Storage } = (await import(built)) as Package;

const folder = mkdtempSync(join(tmpdir(), 'rollout-bench-'));
const config = join(folder, 'plugins.json');
try {
  writePlugins();
  const planMs = await warmPlans();
  const [hostGetNs, mapGetNs] = await gets();
  const layered = await layers();
  const cold = colds();

  const rows = [
    row(`plan and container, ${PLUGINS} plugins, ${INSTANCES} instances, warm`, planMs, 'ms', '< 10', planMs < 10),
    row('Map.get', mapGetNs, 'ns'),
    row('await host.get, active instance', hostGetNs, 'ns', '< 1000 above Map.get', hostGetNs - mapGetNs < 1000),
    ...layered.map(({ layer, callNs }) => row(`Storage.get in memory${layer}`, callNs, 'ns')),
    row('bare node', cold.bare, 'ms'),
    row("import 'rollout-cloud'", cold.imported, 'ms', '< 40 above bare', cold.imported - cold.bare < 40),
    row(`inversify, ${INSTANCES} bindings, cold`, cold.inversify, 'ms'),
    row(`host, ${INSTANCES} bindings, cold`, cold.host, 'ms'),
    row(
      'host over inversify, both less bare node',
      (cold.host - cold.bare) / (cold.inversify - cold.bare),
      'x',
      '< 2',
      cold.host - cold.bare < 2 * (cold.inversify - cold.bare),
    ),
  ];
  console.log(`node ${process.version}, ${ROUNDS} rounds, medians`);
  console.table(rows);
  keepResults(RESULTS, { rounds: ROUNDS, results: rows });
} finally {
  rmSync(folder, { recursive: true, force: true });
}

/** Plugins with a schema for their configuration; instances in turn, each fifth one requiring the one before it. */
function writePlugins(): void {
  for (let i = 0; i < PLUGINS; i++) {
    const plugin = join(folder, 'plugins', `p${i}`);
    mkdirSync(plugin, { recursive: true });
    const properties = { url: { type: 'string' }, retries: { type: 'integer', default: 3 } };
    const adapters = [
      { id: `p${i}.plain`, provides: 'SecretStore@1', config: { required: ['url'], properties } },
      { id: `p${i}.linked`, provides: 'SecretStore@1', requires: ['SecretStore#s0'], config: { properties } },
    ];
    const manifest = { id: `p${i}`, version: '1.0.0', main: './index.mjs', contributes: { adapters } };
    writeFileSync(join(plugin, 'plugin.json'), JSON.stringify(manifest));
    const store = '() => ({ get: async () => null, put: async () => {}, names: async () => [] })';
    const factories = `{ 'p${i}.plain': ${store}, 'p${i}.linked': ${store} }`;
    const brand = `[Symbol.for('rollout-cloud/plugin')]: true`;
    writeFileSync(join(plugin, 'index.mjs'), `export default { ${brand}, adapters: ${factories} };`);
  }
  const instances = Object.fromEntries(
    Array.from({ length: INSTANCES }, (_, i) => {
      const kind = i > 0 && i % 5 === 0 ? 'linked' : 'plain';
      return [`s${i}`, { adapter: `p${i % PLUGINS}.${kind}`, config: { url: `https://example.org/${i}` } }];
    }),
  );
  const plugins = Array.from({ length: PLUGINS }, (_, i) => `./plugins/p${i}`);
  writeFileSync(config, JSON.stringify({ plugins, bindings: { SecretStore: { default: 's0', instances } } }, null, 2));
}

async function warmPlans(): Promise<number> {
  const times: number[] = [];
  for (let round = 0; round < WARM_UP + ROUNDS; round++) {
    const startedAt = performance.now();
    const host = await createHost({ config });
    times.push(performance.now() - startedAt);
    if (host.bindings().length < INSTANCES) throw new Error('not all are planned');
    await host.stop();
  }
  return median(times.slice(WARM_UP));
}

/** Nanoseconds of one `await host.get` and of one `Map.get`, in turns. */
async function gets(): Promise<[number, number]> {
  const host = await createHost({ config });
  const active = await host.get(SecretStore);
  const map = new Map<symbol, object>([[SecretStore.key, active]]);
  const times: [number[], number[]] = [[], []];
  let found = 0;
  for (let round = 0; round < ROUNDS; round++) {
    let startedAt = performance.now();
    for (let i = 0; i < GETS; i++) if ((await host.get(SecretStore)) === active) found++;
    times[0].push(((performance.now() - startedAt) * 1e6) / GETS);
    startedAt = performance.now();
    for (let i = 0; i < GETS; i++) if (map.get(SecretStore.key) === active) found++;
    times[1].push(((performance.now() - startedAt) * 1e6) / GETS);
  }
  if (found !== 2 * GETS * ROUNDS) throw new Error('another instance was found');
  await host.stop();
  return [median(times[0]), median(times[1])];
}

/** What one call takes behind each of {@link LAYERS}. */
async function layers(): Promise<{ layer: string; callNs: number }[]> {
  const key = { namespace: 'bench', path: ['a'] };
  const cases = await Promise.all(
    LAYERS.map(async (middleware) => {
      const host = await createHost({ config: { bindings: { Storage: { adapter: 'local.memory', middleware } } } });
      const storage = (await host.get(Storage)) as { get(at: typeof key): Promise<unknown> };
      return {
        host,
        storage,
        layer: middleware.length === 0 ? '' : ` behind ${middleware.join(', ')}`,
        ns: [] as number[],
      };
    }),
  );
  for (let round = 0; round <= ROUNDS; round++) {
    for (const { storage, ns } of cases) {
      const startedAt = performance.now();
      for (let i = 0; i < CALLS; i++) await storage.get(key);
      // The first round is for the compiler.
      if (round > 0) ns.push(((performance.now() - startedAt) / CALLS) * 1e6);
    }
  }
  for (const { host } of cases) await host.stop();
  return cases.map(({ layer, ns }) => ({ layer, callNs: median(ns) }));
}

function colds(): Record<'bare' | 'imported' | 'inversify' | 'host', number> {
  const script = (code: string) => ['--input-type=module', '-e', code];
  const cases = {
    bare: ['-e', '0'],
    imported: script(`import ${JSON.stringify(built)};`),
    inversify: script(`import 'reflect-metadata/lite'; import { Container } from 'inversify';
      const container = new Container();
      for (let i = 0; i < ${INSTANCES}; i++) {
        container.bind(Symbol.for('s')).toDynamicValue(() => ({})).when((request) => request.name === 's' + i);
      }
      await container.getAsync(Symbol.for('s'), { name: 's0' });`),
    host: script(`import { createHost, Storage } from ${JSON.stringify(built)};
      const entries = Array.from({ length: ${INSTANCES} }, (_, i) => ['s' + i, { adapter: 'local.memory' }]);
      const host = await createHost({ config: { bindings: { Storage: { instances: Object.fromEntries(entries) } } } });
      await host.get(Storage, 's0');
      await host.stop();`),
  };
  const times = Object.fromEntries(Object.keys(cases).map((name) => [name, [] as number[]]));
  for (let round = 0; round <= ROUNDS; round++) {
    for (const [name, args] of Object.entries(cases)) {
      const startedAt = performance.now();
      const { status, stderr } = spawnSync(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] });
      if (status !== 0) throw new Error(`${name} exited with ${status}: ${stderr}`);
      // The first round warms the disk's cache.
      if (round > 0) times[name]?.push(performance.now() - startedAt);
    }
  }
  const of = (name: string) => median(times[name] ?? []);
  return { bare: of('bare'), imported: of('imported'), inversify: of('inversify'), host: of('host') };
}

function row(what: string, value: number, unit: string, goal = '', met: boolean | null = null) {
  return { what, median: Number(value.toPrecision(3)), unit, goal, met };
}
