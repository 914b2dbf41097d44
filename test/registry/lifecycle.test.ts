/** What an instance, a plugin and a host go through, and what they tell of it. */
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { inject } from 'inversify';
import { ObjectStore, Queue, SecretStore, Storage } from '../../src/contracts/index.js';
import { retryDelayMs } from '../../src/registry/backoff.js';
import type { Host, HostOptions } from '../../src/registry/index.js';
import { Workspace } from '../support/workspace.js';

let space: Workspace;
beforeEach(() => {
  space = new Workspace();
});
afterEach(() => space[Symbol.asyncDispose]());

const PROVIDES = {
  storage: 'Storage@1',
  queue: 'Queue@1',
  objects: 'ObjectStore@1',
  secrets: 'SecretStore@1',
} as const;
type Part = keyof typeof PROVIDES;

interface PartOptions {
  readonly requires?: string[];
  readonly timeouts?: object;
  /** What the factory does before it answers `instance(more)`. */
  readonly code?: string;
}

/** A host on one plugin; each part is an adapter `x.<part>` that logs when it is made, drained and disposed. */
function hostOf(
  parts: Partial<Record<Part, PartOptions | string>>,
  options: HostOptions = {},
  config: object = {},
  manifest: Record<string, unknown> = {},
): Promise<Host> {
  const entries = Object.entries(parts).map(([part, given]) => {
    const { requires = [], timeouts = {}, code = '' } = typeof given === 'string' ? { code: given } : given;
    return { id: `x.${part}`, provides: PROVIDES[part as Part], requires, timeouts, code };
  });
  const use = space.plugin({
    id: 'acme.x',
    manifest,
    adapters: entries.map(({ code: _, ...adapter }) => adapter),
    code: `
      const shared = globalThis[${JSON.stringify(`${space.folder}/shared`)}] ??= { calls: {} };
      const make = (body) => async (ctx) => {
        const call = shared.calls[ctx.id] = (shared.calls[ctx.id] ?? 0) + 1;
        const instance = (more = {}) => {
          log('made ' + ctx.id);
          return new Proxy(more, { get: (_, key) => key in more ? more[key] : key === 'then' || key === 'health' || key === 'drain' ? undefined
            : key === 'close' || key === Symbol.asyncDispose ? async () => { log('disposed ' + ctx.id); } : async () => {} });
        };
        return (await body(ctx, { call, instance, shared })) ?? instance();
      };
      export default definePlugin({ adapters: {
        ${entries.map(({ id, code }) => `'${id}': make(async (ctx, { call, instance, shared }) => { ${code} })`).join(',\n')}
      } });`,
  });
  return space.host({ plugins: [use], ...config }, options);
}

/** What the plugin's code shares with the test. */
function shared(): Record<string, unknown> {
  const key = `${space.folder}/shared`;
  const all = globalThis as unknown as Record<string, Record<string, unknown>>;
  all[key] ??= { calls: {} };
  return all[key];
}

afterEach(() => {
  delete (globalThis as Record<string, unknown>)[`${space.folder}/shared`];
});

const stateOf = (host: Host, key: string) => host.report().instances.find(({ instance }) => instance === key);
const rejection = (promise: Promise<unknown>) =>
  promise.then(
    () => {
      throw new Error('it resolved');
    },
    (error) => error as Error & { code: string; retry: { kind: string; delayMs: number }; cause: Error },
  );

describe('an instance that fails', () => {
  test('is left alone for longer after each failure, and a demand meanwhile is refused with the last cause', async () => {
    const host = await hostOf(
      { storage: `if (call < 4) throw new Error('no disk ' + call);` },
      { retry: { baseMs: 200, maxMs: 300 } },
    );
    jest.useFakeTimers({ doNotFake: ['nextTick', 'queueMicrotask', 'setImmediate'] });
    try {
      await expect(host.get(Storage)).rejects.toMatchObject({ code: 'RC1303', cause: { message: 'no disk 1' } });
      // The first retry may come at once.
      await expect(host.get(Storage)).rejects.toMatchObject({ code: 'RC1303', cause: { message: 'no disk 2' } });
      const refused = await rejection(host.get(Storage));
      expect(refused).toMatchObject({
        kind: 'Transient',
        code: 'RC1307',
        retry: { kind: 'after', delayMs: 200 },
        message: expect.stringMatching(
          /^RC1307 Storage#default \(adapter x\.storage\) failed 2 times in a row and is tried again on a demand after .*Z, in 200 ms\. The last cause: .*no disk 2$/,
        ),
        cause: { code: 'RC1303' },
      });
      expect(stateOf(host, 'Storage#default')).toMatchObject({
        state: 'failed',
        attempts: 2,
        reason: expect.stringContaining('no disk 2'),
      });
      jest.advanceTimersByTime(200);
      await expect(host.get(Storage)).rejects.toMatchObject({ cause: { message: 'no disk 3' } });
      expect((await rejection(host.get(Storage))).retry).toEqual({ kind: 'after', delayMs: 300 });
      jest.advanceTimersByTime(300);
      await host.get(Storage);
      expect(stateOf(host, 'Storage#default')).toMatchObject({
        state: 'active',
        attempts: 0,
        reason: null,
        retryAtMs: null,
      });
    } finally {
      jest.useRealTimers();
    }
  });

  test.each([
    [1, {}, 0],
    [2, {}, 100],
    [3, {}, 200],
    [4, {}, 400],
    [50, {}, 30_000],
    [1, { severity: 'recoverable', retry: { kind: 'after', delayMs: 5_000 } }, 5_000],
  ])('after %d failures with %j it waits for %d ms', (attempts, hint, expected) => {
    const error = Object.assign(new Error('x'), hint, { [Symbol.for('rollout-cloud/CoreError')]: true });
    expect(retryDelayMs(attempts, { baseMs: 100, maxMs: 30_000 }, error)).toBe(expected);
  });

  test('is tried again in time when the machine’s time is set back meanwhile', async () => {
    const host = await hostOf({ storage: `if (call < 3) throw new Error('no disk');` }, { retry: { baseMs: 20 } });
    for (let i = 0; i < 2; i++) await rejection(host.get(Storage));
    const now = Date.now();
    jest.spyOn(Date, 'now').mockImplementation(() => now - 3_600_000);
    try {
      await new Promise((resolve) => setTimeout(resolve, 30));
      await host.get(Storage);
    } finally {
      jest.restoreAllMocks();
    }
  });

  test('makes those that need it wait no longer than itself', async () => {
    const host = await hostOf(
      {
        storage: `throw new Error('no disk');`,
        queue: { requires: ['Storage'], code: 'await ctx.get(Storage);' },
      },
      { retry: { baseMs: 60_000, maxMs: 60_000 } },
    );
    await rejection(host.get(Storage));
    await rejection(host.get(Storage));
    const due = stateOf(host, 'Storage#default')?.retryAtMs;
    for (let i = 0; i < 2; i++) await expect(host.get(Queue)).rejects.toMatchObject({ code: 'RC1307' });
    expect(stateOf(host, 'Queue#default')).toMatchObject({ attempts: 1, retryAtMs: due });
  });
});

describe('who demanded what', () => {
  test('is told by an activation that takes too long, along the chain', async () => {
    class App {
      constructor(@inject(ObjectStore.key) readonly store: ObjectStore) {}
    }
    const host = await hostOf({
      queue: { timeouts: { activateMs: 20 }, code: 'await new Promise(() => {});' },
      objects: { requires: ['Queue'], code: 'await ctx.get(Queue);' },
    });
    await expect(host.make(App)).rejects.toThrow(
      'RC1302 activation of Queue#default (adapter x.queue) did not finish within 20 ms; demanded by ObjectStore#default <- App. Its signal was aborted.',
    );
    expect(stateOf(host, 'Queue#default')?.demandedBy).toBe('ObjectStore#default <- App');
    expect(stateOf(host, 'ObjectStore#default')?.demandedBy).toBe('App');
  });

  test('a circle that no manifest shows is refused with its path, and nobody hangs', async () => {
    const host = await hostOf({
      storage: `await shared.host.get(Queue);`,
      queue: { requires: ['ObjectStore'], code: 'await ctx.get(ObjectStore);' },
      objects: { requires: ['Storage'], code: 'await ctx.get(Storage);' },
    });
    shared().host = host;
    await expect(host.get(Queue)).rejects.toMatchObject({
      kind: 'PluginContract',
      code: 'RC1202',
      message: expect.stringContaining(
        'Storage#default -> Queue#default -> ObjectStore#default -> Storage#default; let one of them ask later',
      ),
    });
  });

  test('a circle that closes between two demands at once is refused, too', async () => {
    const host = await hostOf({
      storage: `await new Promise((r) => setTimeout(r, 5)); await shared.host.get(Queue).catch((e) => log(e.code));`,
      queue: `await new Promise((r) => setTimeout(r, 5)); await shared.host.get(Storage).catch((e) => log(e.code));`,
    });
    shared().host = host;
    await Promise.all([host.get(Queue), host.get(Storage)]);
    expect(space.log.filter((line) => line === 'RC1202')).toHaveLength(1);
  });

  test('a class that is constructed on the way is in the path', async () => {
    class Cache {
      constructor(@inject(Storage.key) readonly storage: Storage) {}
    }
    const host = await hostOf({ storage: `await shared.host.make(shared.Cache);` });
    Object.assign(shared(), { host, Cache });
    await expect(host.get(Storage)).rejects.toThrow('Cache -> Storage#default -> Cache');
  });

  test('a plugin whose activate() waits for its own adapter is refused', async () => {
    const use = space.plugin({
      id: 'acme.x',
      adapters: [{ id: 'x.storage', provides: 'Storage@1' }],
      code: `export default definePlugin({
        activate: () => globalThis[${JSON.stringify(`${space.folder}/shared`)}].host.get(Storage),
        adapters: { 'x.storage': () => ({}) } });`,
    });
    const host = await space.host({ plugins: [use] });
    shared().host = host;
    await expect(host.get(Storage)).rejects.toThrow(/RC1202 .*plugin acme\.x/);
  });

  test('what an active instance asks for later is no circle', async () => {
    const host = await hostOf({
      storage: `return instance({ get: () => shared.host.get(Queue) });`,
      queue: { requires: ['Storage'], code: 'await (await ctx.get(Storage)).ping(); ' },
    });
    shared().host = host;
    const storage = await host.get(Storage);
    await expect(storage.get({ namespace: 'n', path: ['p'] })).resolves.toBeDefined();
  });
});

describe('health', () => {
  test('moves an instance between active and degraded, and each move is an event', async () => {
    const host = await hostOf({ storage: `return instance({ health: async () => shared.health });` });
    const moves: unknown[] = [];
    const off = host.on('instance', ({ instance, from, to, reason }) => moves.push([instance, from, to, reason]));
    shared().health = { status: 'degraded', reason: 'one replica of three' };
    await host.get(Storage);
    expect(stateOf(host, 'Storage#default')).toMatchObject({ state: 'degraded', reason: 'one replica of three' });
    shared().health = { status: 'ok' };
    expect((await host.checkHealth()).instances[0]).toMatchObject({ state: 'active', reason: null });
    expect(moves).toEqual([
      ['Storage#default', 'planned', 'activating', undefined],
      ['Storage#default', 'activating', 'active', undefined],
      ['Storage#default', 'active', 'degraded', 'one replica of three'],
      ['Storage#default', 'degraded', 'active', undefined],
    ]);
    off();
    shared().health = { status: 'degraded' };
    await host.checkHealth();
    expect(moves).toHaveLength(4);
  });

  test('is asked by itself where the host was told to, one round at a time, until the host stops', async () => {
    const storage = `return instance({ health: async () => {
      shared.asked = (shared.asked ?? 0) + 1;
      shared.under = (shared.under ?? 0) + 1;
      shared.most = Math.max(shared.most ?? 0, shared.under);
      await shared.gate;
      shared.under -= 1;
      return shared.health;
    } });`;
    const host = await hostOf({ storage }, { healthEveryMs: 1 });
    const moved = (to: string) =>
      new Promise((resolve) => {
        const off = host.on('instance', (event) => {
          if (event.to !== to) return;
          off();
          resolve(event.reason);
        });
      });
    await host.get(Storage);
    const degraded = moved('degraded');
    shared().health = { status: 'degraded', reason: 'one replica of three' };
    expect(await degraded).toBe('one replica of three');
    const active = moved('active');
    shared().health = { status: 'ok' };
    await active;

    let open = () => {};
    shared().gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    await new Promise((resolve) => setTimeout(resolve, 20));
    open();
    await host.stop();
    expect(shared().most).toBe(1);
    const { asked } = shared();
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(shared().asked).toBe(asked);
    await expect(hostOf({ storage: '' }, { healthEveryMs: 0 })).rejects.toThrow('options.healthEveryMs must be');
  });

  test('one that cannot say how it is fails its activation; one that is active is degraded', async () => {
    const host = await hostOf({
      storage: `return instance({ health: async () => { if (shared.down) throw new Error('no answer'); } });`,
    });
    shared().down = true;
    await expect(host.get(Storage)).rejects.toThrow('no answer');
    expect(space.log).toEqual(['made x.storage', 'disposed x.storage']);
    shared().down = false;
    await host.get(Storage);
    shared().down = true;
    expect((await host.checkHealth()).instances[0]).toMatchObject({ state: 'degraded', reason: 'no answer' });
    await host.get(Storage);
  });

  test('a storage that says nothing of its health is pinged', async () => {
    const host = await hostOf({
      storage: `return instance({ ping: async () => { if (shared.down) throw new Error('disk gone'); } });`,
    });
    await host.get(Storage);
    expect((await host.checkHealth()).instances[0]?.state).toBe('active');
    shared().down = true;
    expect((await host.checkHealth()).instances[0]).toMatchObject({ state: 'degraded', reason: 'disk gone' });
    shared().down = false;
    expect((await host.checkHealth()).instances[0]?.state).toBe('active');
  });

  test('an answer that is none is the plugin’s defect', async () => {
    const host = await hostOf({ storage: `return instance({ health: async () => ({ status: 'fine' }) });` });
    await expect(host.get(Storage)).rejects.toMatchObject({ kind: 'PluginContract', code: 'RC1303' });
  });

  test('an instance that is gone is disposed, those that hold it are degraded, and the next demand makes a new one', async () => {
    const host = await hostOf({
      storage: `shared.report = ctx.report;`,
      queue: { requires: ['Storage'], code: 'await ctx.get(Storage);' },
    });
    await host.get(Queue);
    const first = await host.get(Storage);
    (shared().report as (health: object) => void)({ status: 'lost', reason: 'the process ended' });
    expect(stateOf(host, 'Storage#default')).toMatchObject({
      state: 'failed',
      reason: 'RC1308 Storage#default (adapter x.storage) is gone: the process ended',
    });
    expect(stateOf(host, 'Queue#default')).toMatchObject({
      state: 'degraded',
      reason: 'Storage#default, which it holds, is gone: the process ended',
    });
    expect(await host.get(Storage)).not.toBe(first);
    expect(space.log).toEqual(['made x.storage', 'made x.queue', 'disposed x.storage', 'made x.storage']);
    // It still holds the first.
    await host.checkHealth();
    expect(stateOf(host, 'Queue#default')?.state).toBe('degraded');
  });

  test('one that holds what is gone is well again once it has asked for it again', async () => {
    const host = await hostOf({
      storage: `shared.report = ctx.report;`,
      queue: { requires: ['Storage'], code: 'await ctx.get(Storage); shared.again = () => ctx.get(Storage);' },
    });
    await host.get(Queue);
    (shared().report as (health: object) => void)({ status: 'lost', reason: 'the process ended' });
    expect(stateOf(host, 'Queue#default')?.state).toBe('degraded');
    await (shared().again as () => Promise<unknown>)();
    expect(stateOf(host, 'Queue#default')).toMatchObject({ state: 'active', reason: null });
  });

  test('what an instance reports stays while it cannot be asked; one that can be, and complains no more, is well', async () => {
    const host = await hostOf({
      secrets: `shared.report = ctx.report;`,
      queue: `return instance({ health: async () => { if (shared.down) throw new Error('no answer'); } });`,
    });
    await host.start({ activate: 'all' });
    (shared().report as (health: object) => void)({ status: 'degraded', reason: 'slow' });
    shared().down = true;
    await host.checkHealth();
    const reasons = () => ['SecretStore#default', 'Queue#default'].map((key) => stateOf(host, key)?.reason);
    expect(reasons()).toEqual(['slow', 'no answer']);
    shared().down = false;
    await host.checkHealth();
    expect(reasons()).toEqual(['slow', null]);
  });

  test.each([
    ['a status that is none', { status: 'fine' }],
    ['a text', 'degraded'],
    ['nothing', undefined],
    ['a loss without a reason', { status: 'lost' }],
  ])('a report of %s changes nothing, and is in the log', async (_, report) => {
    const host = await hostOf({ storage: `shared.report = ctx.report;` });
    await host.get(Storage);
    const tell = shared().report as (report: unknown) => void;
    tell({ status: 'degraded', reason: 'slow' });
    tell(report);
    expect(stateOf(host, 'Storage#default')).toMatchObject({ state: 'degraded', reason: 'slow' });
    expect(space.logged).toContain(
      "error RC1303 Storage#default (adapter x.storage) reported neither { status: 'ok' }, 'degraded' nor 'lost' with a reason",
    );
  });

  test('one that is lost right after it is made, again and again, is left alone for longer and longer', async () => {
    const host = await hostOf({ storage: `shared.report = ctx.report;` }, { retry: { baseMs: 60_000, maxMs: 60_000 } });
    for (let i = 0; i < 2; i++) {
      await host.get(Storage);
      (shared().report as (health: object) => void)({ status: 'lost', reason: 'crashed' });
    }
    await expect(host.get(Storage)).rejects.toMatchObject({ code: 'RC1307', cause: { code: 'RC1308' } });
  });
});

describe('starting', () => {
  test('activates what wants to be there on start-up, and reports how long each part took', async () => {
    const host = await hostOf(
      { storage: '', queue: { requires: ['Storage'], code: 'await ctx.get(Storage);' } },
      {},
      {},
      { activation: 'onStartup' },
    );
    const states: string[] = [];
    host.on('host', ({ to }) => states.push(to));
    const report = await host.start();
    expect(report).toMatchObject({
      started: [
        {
          instance: 'Storage#default',
          state: 'active',
          timings: { loadMs: expect.any(Number), factoryMs: expect.any(Number), healthMs: expect.any(Number) },
        },
        { instance: 'Queue#default', state: 'active', demandedBy: 'host.start()' },
      ],
      failed: [],
    });
    expect(await host.start()).toBe(report);
    await host.stop();
    expect(states).toEqual(['starting', 'running', 'stopping', 'stopped']);
  });

  test('on demand, nothing is activated but what is asked for', async () => {
    const host = await hostOf({
      storage: '',
      secrets: '',
      queue: { requires: ['Storage'], code: 'await ctx.get(Storage);' },
    });
    expect((await host.start()).started).toEqual([]);
    expect(space.imported).toEqual([]);
    const other = await hostOf({
      storage: '',
      secrets: '',
      queue: { requires: ['Storage'], code: 'await ctx.get(Storage);' },
    });
    const { started } = await other.start({ activate: [Queue] });
    expect(started.map(({ instance }) => instance)).toEqual(['Queue#default']);
    expect(space.log).toEqual(['made x.storage', 'made x.queue']);
  });

  test('no module of a plugin is imported before one of its instances is asked for', async () => {
    const count = `globalThis[${JSON.stringify(space.folder)}]('module');`;
    const modules = ['a', 'b', 'c'].map((name) => space.write(`plugins/acme.many/${name}.mjs`, count));
    const use = space.plugin({
      id: 'acme.many',
      manifest: { contributes: { adapters: [{ id: 'many', provides: 'SecretStore@1' }] } },
      adapters: [],
      code: `${modules.map((file) => `import ${JSON.stringify(file)};`).join('\n')} ${count}
        export default definePlugin({ adapters: { many: () => ({ get() {}, put() {}, names() {} }) } });`,
    });
    const host = await space.host({
      plugins: [use, 'rollout.cloud-local'],
      bindings: { SecretStore: { adapter: 'many' }, Storage: { adapter: 'local.memory' } },
    });
    host.bindings();
    host.report();
    host.has(SecretStore);
    await host.checkHealth();
    await host.start();
    await host.get(Storage);
    expect(space.log).toEqual([]);
    await host.get(SecretStore);
    expect(space.log).toEqual(['module', 'module', 'module', 'module']);
  });

  test('a later call activates what it asks for on top', async () => {
    const host = await hostOf({ storage: '', secrets: '' });
    await host.start();
    expect((await host.start({ activate: [Storage] })).started).toHaveLength(1);
    expect((await host.start({ activate: 'all' })).started).toHaveLength(2);
    await expect(host.start({ actvate: 'all' } as never)).rejects.toThrow('Did you mean "activate"?');
    await expect(host.start({ activate: 'everything' as never })).rejects.toThrow('options.activate must be');
  });

  test('a call that asks for what there is not is no start: the next one is', async () => {
    const host = await hostOf({ storage: '' });
    await expect(host.start({ activate: 'everything' as never })).rejects.toThrow('options.activate must be');
    await expect(host.start({ activate: [ObjectStore] })).rejects.toMatchObject({
      code: expect.stringMatching('RC11'),
    });
    expect(await host.start()).toMatchObject({ started: [], failed: [] });
    expect(host.report().state).toBe('running');
  });

  test('a plugin that never comes to its end is in the report, after its time', async () => {
    const use = space.plugin({
      id: 'acme.hangs',
      manifest: { activation: 'onStartup', contributes: { adapters: [], middleware: [{ id: 'm', wraps: ['*'] }] } },
      adapters: [],
      code: `export default definePlugin({ adapters: {}, middleware: { m: (it) => it }, activate: () => new Promise(() => {}) });`,
    });
    const host = await space.host({ plugins: [use] });
    jest.useFakeTimers({ doNotFake: ['nextTick', 'queueMicrotask', 'setImmediate', 'performance'] });
    try {
      const starting = host.start();
      await jest.advanceTimersByTimeAsync(10_000);
      const { failed } = await starting;
      expect(failed.map(({ instance, error }) => [instance, (error as Error).message])).toEqual([
        [
          'plugin acme.hangs',
          'RC1302 loading plugin acme.hangs did not finish within 10000 ms; demanded by host.start().',
        ],
      ]);
      const stopping = host.stop();
      await jest.advanceTimersByTimeAsync(5_000);
      await stopping;
    } finally {
      jest.useRealTimers();
    }
  });

  test('a stop while it is under way ends it, as a stop', async () => {
    const host = await hostOf({
      storage: `await new Promise((_, reject) => ctx.signal.addEventListener('abort', () => reject(ctx.signal.reason)));`,
    });
    const starting = rejection(host.start({ activate: 'all' }));
    await new Promise((resolve) => setTimeout(resolve, 10));
    await host.stop();
    expect((await starting).code).toBe('CLOSED');
  });

  test('a failure that the binding does not tolerate stops the host, and says what to do', async () => {
    const bindings = { Storage: { adapter: 'x.storage' }, SecretStore: { adapter: 'x.secrets' } };
    const host = await hostOf({ storage: '', secrets: `await null; throw new Error('no vault');` }, {}, { bindings });
    await expect(host.start({ activate: 'all' })).rejects.toMatchObject({
      code: 'RC1309',
      message: expect.stringMatching(
        /^RC1309 start-up failed, .*"onFailure": "continue":\nSecretStore#default: .*no vault$/,
      ),
    });
    expect(space.log).toEqual(['made x.storage', 'disposed x.storage']);
    expect(host.report()).toMatchObject({ state: 'stopped', isReady: false });
  });

  test('the host is ready when what start was to activate is there, whoever asked for something meanwhile', async () => {
    const bindings = { Storage: { adapter: 'x.storage' }, SecretStore: { adapter: 'x.secrets' } };
    const host = await hostOf(
      { storage: '', secrets: `await new Promise((open) => { shared.open = open; });` },
      {},
      { bindings },
    );
    const isReady = () => host.report().isReady;
    expect(isReady()).toBe(true);
    await host.get(Storage);
    expect(isReady()).toBe(true);
    const starting = host.start({ activate: 'all' });
    expect(isReady()).toBe(false);
    while (shared().open === undefined) await new Promise((resolve) => setImmediate(resolve));
    expect(isReady()).toBe(false);
    (shared().open as () => void)();
    await starting;
    expect(isReady()).toBe(true);
    await host.start({ activate: [Storage] });
    expect(isReady()).toBe(true);
    const stopping = host.stop();
    expect(isReady()).toBe(false);
    await stopping;
  });

  test('one that it tolerates is in the report, and the host runs', async () => {
    const bindings = {
      Storage: { adapter: 'x.storage' },
      SecretStore: { adapter: 'x.secrets', onFailure: 'continue' },
    };
    const host = await hostOf({ storage: '', secrets: `throw new Error('no vault');` }, {}, { bindings });
    const { started, failed } = await host.start({ activate: 'all' });
    expect(started.map(({ instance }) => instance)).toEqual(['Storage#default']);
    expect(failed).toEqual([{ instance: 'SecretStore#default', error: expect.objectContaining({ code: 'RC1303' }) }]);
    expect(host.report().state).toBe('running');
    expect(space.logged).toContainEqual(
      expect.stringMatching(/^warn going on without SecretStore#default: .*no vault$/),
    );
  });

  test('one that no binding asks for is one to do without', async () => {
    const host = await hostOf({ storage: '', secrets: `throw new Error('no vault');` });
    expect((await host.start({ activate: 'all' })).failed).toMatchObject([{ instance: 'SecretStore#default' }]);
    expect(host.report().state).toBe('running');
  });

  test('plugins that a plugin depends on are loaded first', async () => {
    const base = space.plugin({
      id: 'acme.base',
      adapters: [],
      code: `log('base'); export default definePlugin({ adapters: {} });`,
    });
    const use = space.plugin({
      id: 'acme.x',
      manifest: { dependsOn: ['acme.base'] },
      adapters: [{ id: 'x.secrets', provides: 'SecretStore@1' }],
      code: `log('x'); export default definePlugin({ adapters: { 'x.secrets': () => ({ get() {}, put() {}, names() {} }) } });`,
    });
    const host = await space.host({ plugins: [use, base], bindings: { SecretStore: { adapter: 'x.secrets' } } });
    await host.get(SecretStore);
    expect(space.log).toEqual(['base', 'x']);
  });
});

describe('stopping', () => {
  const DRAINING = (part: Part) =>
    `return instance({ drain: async (signal) => { log('drained x.${part}'); }, close: async () => { log('disposed x.${part}'); } });`;

  test('drains each instance while what it requires still works, then disposes it', async () => {
    const host = await hostOf({
      storage: DRAINING('storage'),
      queue: { requires: ['Storage'], code: `await ctx.get(Storage); ${DRAINING('queue')}` },
    });
    await host.get(Queue);
    space.log.length = 0;
    const states: string[] = [];
    host.on('instance', ({ instance, to }) => states.push(`${instance} ${to}`));
    await host.stop();
    expect(space.log).toEqual(['drained x.queue', 'disposed x.queue', 'drained x.storage', 'disposed x.storage']);
    expect(states.slice(0, 3)).toEqual(['Queue#default draining', 'Queue#default disposing', 'Queue#default stopped']);
  });

  test('who still holds an instance is refused by its door', async () => {
    const host = await hostOf({
      secrets: `return { get: async () => log('served'), put: async () => {}, names: async () => [], close() {} };`,
    });
    const secrets = await host.get(SecretStore);
    await host.stop();
    await expect(secrets.get('k')).rejects.toMatchObject({ code: 'CLOSED' });
    expect(space.log).toEqual([]);
  });

  test('what a factory was given by the host itself is disposed after it, too', async () => {
    const host = await hostOf({ storage: '', secrets: `await shared.host.get(Storage);` });
    shared().host = host;
    await host.get(SecretStore);
    expect((await host.stop()).stopped).toEqual(['SecretStore#default', 'Storage#default']);
  });

  test('the total is bounded: when it is used up, the others are still asked to end', async () => {
    const hangs = {
      timeouts: { disposeMs: 5_000 },
      code: `return instance({ close: () => new Promise(() => {}) });`,
    };
    const host = await hostOf(
      { storage: '', queue: { ...hangs, requires: ['Storage'], code: `await ctx.get(Storage); ${hangs.code}` } },
      { stopMs: 30 },
    );
    await host.get(Queue);
    const { errors } = await host.stop();
    expect(errors.map(({ instance, error }) => [instance, (error as { code: string }).code])).toContainEqual([
      'Queue#default',
      'RC1305',
    ]);
    expect(space.log).toContain('disposed x.storage');
    expect(host.report().state).toBe('stopped');
  });

  test('an activation under way is waited for until it has ended, and what it made is disposed first', async () => {
    const host = await hostOf({
      storage: '',
      queue: {
        requires: ['Storage'],
        code: `await ctx.get(Storage); await new Promise((r) => ctx.signal.addEventListener('abort', () => setTimeout(r, 20)));`,
      },
    });
    const asked = rejection(host.get(Queue));
    while (space.log.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    // It never was active, so it is not among what was.
    expect((await host.stop()).stopped).toEqual(['Storage#default']);
    expect((await asked).code).toBe('CLOSED');
    expect(space.log).toEqual(['made x.storage', 'made x.queue', 'disposed x.queue', 'disposed x.storage']);
  });
});

describe('events', () => {
  test('tell of plugins, too, and a listener that throws keeps nobody', async () => {
    const host = await hostOf({ storage: '' });
    const seen: string[] = [];
    host.on('plugin', () => {
      throw new Error('mine');
    });
    host.on('host', async () => {
      throw new Error('mine, later');
    });
    host.on('plugin', ({ plugin, from, to, atMs }) => seen.push(`${plugin} ${from} ${to} ${typeof atMs}`));
    await host.get(Storage);
    await host.stop();
    expect(seen).toEqual([
      'acme.x ready loading number',
      'acme.x loading loaded number',
      'acme.x loaded stopped number',
    ]);
    expect(space.logged).toContain('error a listener of "plugin" events threw: mine');
    // Were it not caught, it would end the process.
    expect(space.logged).toContain('error a listener of "host" events threw: mine, later');
  });

  test('a slip in the name of one is refused', async () => {
    const host = await hostOf({ storage: '' });
    expect(() => host.on('instnace' as never, () => {})).toThrow('event must be one of instance, plugin, host');
    expect(() => host.on('instance', null as never)).toThrow('listener must be a function');
  });
});
