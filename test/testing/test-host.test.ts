import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import {
  BlockStore,
  type Capability,
  ComputeHint,
  capability,
  GpuEnumerator,
  ObjectStore,
  Queue,
  RecoverableError,
  SecretStore,
  Storage,
  synchronous,
} from '../../src/contracts/index.js';
import {
  createTestHost,
  fake,
  memoryObjectStore,
  type TestHost,
  type TestHostOptions,
} from '../../src/testing/index.js';
import { importModule } from '../support/import-module.js';
import { Workspace } from '../support/workspace.js';

let space: Workspace;
beforeEach(() => {
  space = new Workspace();
});
afterEach(() => space[Symbol.asyncDispose]());

const BINDINGS = {
  Storage: { adapter: 'local.memory' },
  Queue: { adapter: 'local.in-mem' },
  ObjectStore: {
    instances: { a: { adapter: 'local.fs', config: { root: './a' } }, b: { adapter: 'local.fs' } },
    default: 'a',
  },
};

function testHost({ config, ...options }: TestHostOptions & { config?: object } = {}): Promise<TestHost> {
  const file = space.write('plugins.json', config ?? { bindings: BINDINGS });
  return createTestHost({ importModule, config: file, ...options });
}

const io = new RecoverableError('Transient', 'the disk had a moment', { code: 'IO_ERROR' });

describe('a test host', () => {
  test('takes what a host takes: profiles, values on top, a logger', async () => {
    const config = {
      bindings: { Storage: { adapter: 'local.sqlite' }, Queue: { adapter: 'local.in-mem' } },
      profiles: { test: { bindings: { Storage: { adapter: 'local.memory' } } } },
    };
    const t = await testHost({ config, profile: 'test', set: { 'bindings.Queue.config.maxAttempts': 2 } });
    const of = (capability: string) => t.bindings().find((it) => it.capability === capability);
    expect([of('Storage')?.adapter, of('Queue')?.config.maxAttempts]).toEqual(['local.memory', 2]);
    await t.stop();
  });

  test('is a host on the real adapters, with their calls recorded', async () => {
    const t = await testHost();
    const queue = await t.get(Queue);
    const id = await queue.enqueue(Buffer.from('x'));
    expect(t.calls(Queue)).toMatchObject([{ method: 'enqueue', answer: id }]);
    expect(t.calls(Storage).map(({ method }) => method)).toContain('commit');
    expect(t.has(SecretStore)).toBe(true);
    expect(t.bindings().find(({ capability: of }) => of === 'Queue')).toMatchObject({ state: 'active' });
    expect(await t.stop()).toMatchObject({ errors: [] });
    t.assertAllDisposed();
  });

  test('lets an instance serve in the place of an adapter, by name, behind the contract’s checks', async () => {
    const t = await testHost();
    const mine = memoryObjectStore();
    t.override(ObjectStore, mine, 'b');
    const id = await (await t.get(ObjectStore, 'b')).putBytes(Buffer.from('x'));
    expect(await mine.exists(id)).toBe(true);
    expect(t.bindings().find(({ name }) => name === 'a')?.state).toBe('planned');
    const bare = { get: async () => 'not a SecretValue', put: async () => {}, names: async () => [] };
    t.override(SecretStore, bare as never);
    const secrets = await t.get(SecretStore);
    await expect(secrets.get('')).rejects.toMatchObject({ code: 'ARGUMENT_INVALID' });
    await t.stop();
  });

  test('gives adapters what was overridden, as it gives the application', async () => {
    const t = await testHost();
    const storage = t.fake(Storage);
    await (await t.get(Queue)).enqueue(Buffer.from('x'));
    expect(storage.calls.map(({ method }) => method)).toContain('commit');
    await t.stop();
  });

  test('refuses an override that comes too late, is of no instance, or of nothing', async () => {
    const t = await testHost();
    await t.get(Queue);
    const late = { kind: 'ConfigInvalid', code: 'RC1401' };
    expect(() => t.fake(Queue)).toThrow(
      expect.objectContaining({
        ...late,
        message: expect.stringMatching(
          /^RC1401 override for Queue#default came after .+ activated it; override before first use$/,
        ),
      }),
    );
    expect(() => t.fake(Storage)).toThrow(
      expect.objectContaining({
        ...late,
        message: expect.stringContaining('Storage#default came after Queue#default'),
      }),
    );
    expect(() => t.override(ObjectStore, memoryObjectStore(), 'c')).toThrow(
      'override for ObjectStore#c: there is no such instance; known are a, b',
    );
    expect(() => t.fake(BlockStore)).toThrow('BlockStore#default, which nothing serves in this configuration');
    expect(() => t.override(ObjectStore, null as never)).toThrow('instance must be an object');
    t.override(ObjectStore, memoryObjectStore());
    await t.stop();
  });

  test('serves what nothing in the configuration does, to the application and to adapters', async () => {
    const t = await testHost();
    const gpu = { vendor: 'nvidia', model: 'H100', memoryMib: 81_559, source: 'fake' };
    t.fake(GpuEnumerator, undefined, { gpus: [gpu] });
    const volumes = t.fake(BlockStore);
    await (await t.get(BlockStore)).attach('vol-1');
    expect(volumes.calls).toMatchObject([{ method: 'attach', args: ['vol-1'] }]);
    expect((await (await t.get(ComputeHint)).inventory()).gpus).toMatchObject([gpu]);
    await t.stop();
    t.assertAllDisposed();
  });

  test('an option that it has not is refused, and its own are among those that are known', async () => {
    const slip = createTestHost({ fake: [BlockStore] } as object);
    await expect(slip).rejects.toThrow(/^unknown option "fake" in options\. Did you mean "fakes"\? Known: .*fakes/);
  });

  test('fakes from the start what the configuration cannot be planned without', async () => {
    const id = 'acme.raid';
    const plugin = space.plugin({
      id,
      adapters: [{ id, provides: 'SecretStore@1', requires: ['BlockStore'] }],
      code: `export default definePlugin({ adapters: { 'acme.raid': async ({ get }) => {
        await (await get(contracts.BlockStore)).attach('vol-1');
        return { get: async () => {}, put: async () => {}, names: async () => [] };
      } } });`,
    });
    const config = { plugins: [plugin], bindings: { SecretStore: { adapter: id } } };
    await expect(testHost({ config })).rejects.toThrow('nothing provides BlockStore');
    const t = await testHost({ config, fakes: [BlockStore] });
    await t.get(SecretStore);
    expect(t.calls(BlockStore)).toMatchObject([{ method: 'attach', args: ['vol-1'] }]);
    await t.stop();
  });

  test('fakes a default instance of another name, and declares what the fake can do', async () => {
    const instances = { a: { adapter: 'acme.s3', config: { bucket: 'x' } }, b: { adapter: 'local.fs' } };
    const config = {
      bindings: {
        ObjectStore: { default: 'a', instances },
        Queue: { adapter: 'acme.sqs', require: ['lease'], middleware: ['retry'] },
      },
    };
    const t = await testHost({ config, fakes: [ObjectStore, Queue] });
    const id = await (await t.get(ObjectStore)).putBytes(Buffer.from('x'));
    expect(t.calls(ObjectStore, 'a')).toMatchObject([{ method: 'putBytes', answer: id }]);
    const queue = await t.get(Queue);
    t.failNext(Queue, 'stats', new RecoverableError('Transient', 'no', { retry: { kind: 'after', delayMs: 0 } }));
    expect(await queue.stats()).toMatchObject({ pending: 0 });
    expect(await queue.dequeueWithLease(1_000)).toBeNull();
    await t.stop();
    t.assertAllDisposed();
  });

  test('keeps its listeners when a capability is added, and refuses that where something else would be lost', async () => {
    const t = await testHost();
    const [seen, ended]: [string[], string[]] = [[], []];
    t.on('instance', ({ instance, to }) => seen.push(`${instance} ${to}`));
    const off = t.on('instance', ({ to }) => ended.push(to));
    t.fake(BlockStore);
    off();
    await t.get(BlockStore);
    expect([seen, ended]).toEqual([['BlockStore#default activating', 'BlockStore#default active'], []]);
    await t.stop();

    const other = await testHost();
    other.container.bind('mine').toConstantValue(1);
    expect(() => other.fake(BlockStore)).toThrow(
      'RC1401 override for BlockStore#default, which nothing serves in this configuration, came after its container was ' +
        'used; override before first use, or createTestHost({ fakes: [BlockStore] }) has it from the start',
    );
    expect(other.container.get('mine')).toBe(1);
    await other.start();
    expect(() => other.fake(GpuEnumerator)).toThrow('came after the host was used');
    await other.stop();
  });

  test('lets calls to a real adapter fail, as they do when others make them', async () => {
    const t = await testHost();
    const queue = await t.get(Queue);
    t.failNext(Queue, 'dequeue', io);
    t.failNext(Storage, 'commit', io);
    await expect(queue.dequeue()).rejects.toBe(io);
    await expect(queue.enqueue(Buffer.from('x'))).rejects.toBe(io);
    expect(await queue.dequeue()).toBeNull();
    t.failNext(ObjectStore, 'stat', io, 2, 'b');
    const [a, b] = [await t.get(ObjectStore), await t.get(ObjectStore, 'b')];
    const id = await a.putBytes(Buffer.from('x'));
    await expect(b.stat(id)).rejects.toBe(io);
    expect(await a.stat(id)).toMatchObject({ size: 1 });
    await expect(b.stat(id)).rejects.toBe(io);
    expect(() => t.failNext(BlockStore, 'attach', io)).toThrow('nothing serves BlockStore in this host');
    expect(() => t.failNext(Queue, 'pop' as never, io)).toThrow('Queue@1 has no method "pop"');
    await t.stop();
  });

  test('has a clock that the leases of the real queue run on', async () => {
    const t = await testHost();
    const queue = await t.get(Queue);
    await queue.enqueue(Buffer.from('x'));
    await queue.dequeueWithLease(60_000);
    expect(await queue.dequeue()).toBeNull();
    await t.clock.advance(60_000);
    expect(await queue.dequeue()).toMatchObject({ attempts: 2 });
    await t.stop();
  });

  test('names what was not let go of: instances, and what they own', async () => {
    const id = 'acme.leaky';
    const plugin = space.plugin({
      id,
      adapters: [{ id, provides: 'SecretStore@1' }],
      code: `export default definePlugin({ adapters: { 'acme.leaky': ({ own }) => {
        own({}, () => { throw new Error('stuck'); });
        return { get: async () => {}, put: async () => {}, names: async () => [] };
      } } });`,
    });
    const logger = { debug() {}, info() {}, warn() {}, error() {} };
    const bindings = { SecretStore: { adapter: id }, Storage: { adapter: 'local.memory' } };
    const t = await testHost({ config: { plugins: [plugin, 'rollout.cloud-local'], bindings }, logger });
    await t.get(SecretStore);
    await t.get(Storage);
    const owned = 'a resource that SecretStore#default (adapter acme.leaky) owns';
    expect(() => t.assertAllDisposed()).toThrow('Storage#default (adapter local.memory)');
    await t.stop();
    expect(() => t.assertAllDisposed()).toThrow(`not let go of: ${owned}`);
  });

  test('plans anew for a capability of a plugin, too', async () => {
    interface Echo {
      echo(text: string): Promise<string>;
    }
    const Echo = capability<Echo>('acme.echo/Echo', { major: 1 });
    const t = await testHost();
    t.override(Echo, { echo: async (text) => text });
    t.failNext(Echo, 'echo', io);
    const echo = await t.get(Echo);
    await expect(echo.echo('x')).rejects.toBe(io);
    expect(await echo.echo('x')).toBe('x');
    await t.stop();
  });

  test('fails calls to a plugin’s contract, however it is written, before they take effect', async () => {
    interface Plain {
      soon(): Promise<number>;
      items(): AsyncIterable<number>;
      now(): number;
    }
    const door = (impl: Plain) => ({ now: synchronous(() => impl.now()) });
    const [Bare, Doored] = [undefined, door].map((it) =>
      capability<Plain>('acme.plain/Plain', { major: 1, ...(it && { door: it }) }),
    ) as [Capability<Plain>, Capability<Plain>];
    const made: string[] = [];
    async function* one() {
      yield 1;
    }
    const t = await testHost();
    t.override(Bare, {
      soon: () => Promise.resolve(made.push('soon')),
      items: () => {
        made.push('items');
        return one();
      },
      now: () => made.push('now'),
    });
    t.failNext(Bare, 'soon', io, 2);
    t.failNext(Bare, 'items', io);
    t.failNext(Doored, 'now', io);
    const plain = await t.get(Bare);
    await expect(plain.soon()).rejects.toBe(io);
    await expect(plain.soon()).rejects.toBe(io);
    await expect(plain.items()[Symbol.asyncIterator]().next()).rejects.toBe(io);
    expect(() => plain.now()).toThrow(io);
    expect(made).toEqual([]);
    await plain.soon();
    for await (const item of plain.items()) expect(item).toBe(1);
    expect(plain.now()).toBe(3);
    const failed = t.calls(Bare).filter(({ error }) => error === io);
    expect(failed.map(({ method }) => method)).toEqual(['soon', 'soon', 'items', 'now']);
    await t.stop();
  });

  test('refuses what is no capability, and a fault that is nothing', async () => {
    const t = await testHost();
    const told = 'capability must be a capability itself, as in host.get(Queue), found "Queue"';
    expect(() => t.override('Queue' as never, {})).toThrow(told);
    expect(() => t.fake('Queue' as never)).toThrow(told);
    expect(() => t.failNext('Queue' as never, 'x' as never, io)).toThrow(told);
    await expect(testHost({ fakes: ['Queue' as never] })).rejects.toThrow(told);
    expect(() => t.failNext(Queue, 'stats', undefined)).toThrow('error must be what the call is to reject with');
    await t.stop();
  });

  test('refuses a configuration as the host does, and disposes an override as the host does', async () => {
    await expect(testHost({ config: { bindings: { Queue: { adapter: 'local.inmem' } } } })).rejects.toThrow('RC1102');
    const t = await testHost();
    const queue = fake(Queue);
    t.override(Queue, queue);
    await t.get(Queue);
    await t.close();
    await expect(queue.stats()).rejects.toMatchObject({ code: 'CLOSED' });
    t.assertAllDisposed();
  });
});
