/**
 * What a call into a plugin's process costs: `npm run bench:isolation [-- rounds]`, on the built package.
 *
 * Beside it stands the least that it could cost, a bare `process.send` there and back of the same bytes with the same
 * serialisation. Both take turns in one run; figures are medians over rounds, per call. A second pair has 64 calls under
 * way at a time, and the third reads a stream of 32 MiB, beside messages of 64 KiB as fast as they are asked for. The
 * last reads what goes in batches, a stream of small chunks and the ids of an object store, beside a message for each.
 * Results go to bench/results/isolation.json, by version of Node.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { performance } from 'node:perf_hooks';
import { pathToFileURL } from 'node:url';
import { keepResults, median } from './results.js';

const ROUNDS = Math.max(5, Number(process.argv[2] ?? 15));
const CALLS_PER_ROUND = 2_000;
const AT_ONCE = 64;
const CALL_BYTES = 1_024;
const CHUNK_BYTES = 64 * 1_024;
const CHUNKS = 512;
const SMALL_BYTES = 1_024;
const ITEMS = 4_096;
const RESULTS = 'bench/results/isolation.json';

const DIST = pathToFileURL(resolve('dist')).href;
const folder = realpathSync(mkdtempSync(join(tmpdir(), 'rollout-bench-')));

interface Echo {
  echo(bytes: Uint8Array): Promise<Uint8Array>;
  stream(): Promise<ReadableStream<Uint8Array>>;
  small(): Promise<ReadableStream<Uint8Array>>;
}
interface Objects {
  list(): AsyncIterable<string>;
}
interface Built {
  readonly ObjectStore: object;
  capability(name: string, options: { major: number }): object;
  createHost(options: object): Promise<{ get<T>(token: object): Promise<T>; stop(): Promise<unknown> }>;
}

const PLUGIN = `
  import { definePlugin } from '${DIST}/contracts/index.js';
  const chunks = (left, bytes) => {
    const chunk = new Uint8Array(bytes);
    return new ReadableStream({ pull: (c) => (left-- > 0 ? c.enqueue(chunk) : c.close()) });
  };
  const not = async () => { throw new Error('not measured'); };
  const methods = ['putBytes', 'putStream', 'getBytes', 'getStream', 'exists', 'stat', 'delete', 'existsMany', 'statMany'];
  export default definePlugin({ adapters: {
    'bench.echo': () => ({
      echo: async (bytes) => bytes,
      stream: async () => chunks(${CHUNKS}, ${CHUNK_BYTES}),
      small: async () => chunks(${ITEMS}, ${SMALL_BYTES}),
    }),
    'bench.objects': () => ({
      ...Object.fromEntries(methods.map((method) => [method, not])),
      async *list() {
        for (let i = 0; i < ${ITEMS}; i++) yield i.toString(16).padStart(64, '0');
      },
    }),
  } });`;
const BARE = `
  const chunk = new Uint8Array(${CHUNK_BYTES});
  process.on('message', (message) => process.send(message === 'chunk' ? chunk : message));`;

/** A plugin's folder; `run` says where it runs. */
function plugin(run: 'inprocess' | 'process'): string {
  const root = join(folder, run);
  mkdirSync(root);
  const adapters = [
    { id: 'bench.echo', provides: 'bench.echo/Echo@1' },
    { id: 'bench.objects', provides: 'ObjectStore@1' },
  ];
  const manifest = {
    id: 'bench.echo',
    version: '1.0.0',
    main: './index.mjs',
    run,
    contributes: { adapters },
  };
  writeFileSync(join(root, 'plugin.json'), JSON.stringify(manifest));
  writeFileSync(join(root, 'index.mjs'), PLUGIN);
  return root;
}

/** A message there and back, in order, with as many on the way as are asked for. */
class BareChild {
  readonly #child: ChildProcess;
  readonly #waiting: ((answer: unknown) => void)[] = [];

  constructor() {
    const file = join(folder, 'bare.mjs');
    writeFileSync(file, BARE);
    this.#child = spawn(process.execPath, [file], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      serialization: 'advanced',
    });
    this.#child.on('message', (answer) => this.#waiting.shift()?.(answer));
  }

  ask(message: string | Uint8Array): Promise<unknown> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      this.#child.send(message);
    });
  }

  end(): void {
    this.#child.disconnect();
  }
}

const built = (await import(`${DIST}/index.js`)) as Built;
const Token = built.capability('bench.echo/Echo', { major: 1 });
const hostOf = (run: 'inprocess' | 'process') =>
  built.createHost({
    config: {
      plugins: [plugin(run)],
      bindings: { 'bench.echo/Echo': { adapter: 'bench.echo' }, ObjectStore: { adapter: 'bench.objects' } },
    },
  });
const hosts = [await hostOf('inprocess'), await hostOf('process')] as const;
const bare = new BareChild();
try {
  const [inProcess, isolated] = [await hosts[0].get<Echo>(Token), await hosts[1].get<Echo>(Token)];
  const objects = await hosts[1].get<Objects>(built.ObjectStore);
  const bytes = new Uint8Array(CALL_BYTES).fill(7);
  const oneByOne = (call: () => Promise<unknown>) => async () => {
    for (let i = 0; i < CALLS_PER_ROUND; i++) await call();
  };
  const atOnce = (call: () => Promise<unknown>) => async () => {
    let left = CALLS_PER_ROUND;
    const work = async () => {
      while (left-- > 0) await call();
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
  };
  const streamed = async () => {
    let size = 0;
    for await (const chunk of await isolated.stream()) size += chunk.byteLength;
    if (size !== CHUNKS * CHUNK_BYTES) throw new Error(`the stream had ${size} bytes`);
  };
  const small = async () => {
    let count = 0;
    for await (const _ of await isolated.small()) count += 1;
    if (count !== ITEMS) throw new Error(`the stream had ${count} chunks`);
  };
  const listed = async () => {
    let count = 0;
    for await (const _ of objects.list()) count += 1;
    if (count !== ITEMS) throw new Error(`the list had ${count} ids`);
  };
  const chunks = async () => {
    for (let i = 0; i < CHUNKS; i++) await bare.ask('chunk');
  };

  /** Each is compared with the one that `beside` names. */
  const cases = [
    { name: 'call in the host’s process', run: oneByOne(() => inProcess.echo(bytes)), per: CALLS_PER_ROUND },
    { name: 'bare process.send, 1 KiB', run: oneByOne(() => bare.ask(bytes)), per: CALLS_PER_ROUND },
    { name: 'call, 1 KiB', run: oneByOne(() => isolated.echo(bytes)), per: CALLS_PER_ROUND, beside: 1 },
    { name: 'bare process.send, 64 at once', run: atOnce(() => bare.ask(bytes)), per: CALLS_PER_ROUND },
    { name: 'calls, 64 at once', run: atOnce(() => isolated.echo(bytes)), per: CALLS_PER_ROUND, beside: 3 },
    { name: 'bare process.send, chunks of 64 KiB', run: chunks, per: CHUNKS },
    { name: 'stream, chunks of 64 KiB', run: streamed, per: CHUNKS, beside: 5 },
    { name: 'stream, chunks of 1 KiB', run: small, per: ITEMS, beside: 1 },
    { name: 'list of an object store, each id', run: listed, per: ITEMS, beside: 1 },
  ] as const;
  const times: number[][] = cases.map(() => []);
  for (let round = 0; round <= ROUNDS; round++) {
    for (const [i, { run, per }] of cases.entries()) {
      const startedAt = performance.now();
      await run();
      // The first round warms the code up, and is not counted.
      if (round > 0) times[i]?.push(((performance.now() - startedAt) * 1_000) / per);
    }
  }
  const medians = times.map(median);
  const results = cases.map((each, i) => {
    const base = 'beside' in each ? medians[each.beside] : undefined;
    const ratio = base === undefined ? null : Number(((medians[i] ?? Number.NaN) / base).toFixed(2));
    return { name: each.name, medianUs: Number(medians[i]?.toFixed(1)), ratio };
  });
  console.log(`node ${process.version}, ${ROUNDS} rounds, medians`);
  console.table(results);
  keepResults(RESULTS, { rounds: ROUNDS, results });
} finally {
  bare.end();
  for (const host of hosts) await host.stop();
  rmSync(folder, { recursive: true, force: true });
}
