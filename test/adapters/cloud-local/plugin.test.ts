/** The built-in plugin as an application gets it: through a host, from plugins.json. */
import { readFileSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { inject } from 'inversify';
import { IN_MEM_QUEUE_FEATURES } from '../../../src/adapters/cloud-local/in-mem-queue.js';
import {
  FsObjectStore,
  InMemQueue,
  LinuxComputeHint,
  MemoryStorage,
  type SqliteQueue,
  SqliteStorage,
} from '../../../src/adapters/cloud-local/index.js';
import { SQLITE_QUEUE_FEATURES } from '../../../src/adapters/cloud-local/sqlite-queue.js';
import { ComputeHint, ObjectStore, Queue, SecretStore, Storage } from '../../../src/contracts/index.js';
import { Workspace } from '../../support/workspace.js';

const manifest = JSON.parse(
  readFileSync(new URL('../../../src/adapters/cloud-local/plugin.json', import.meta.url), 'utf8'),
) as { contributes: { adapters: { id: string; features?: string[] }[] } };

let space: Workspace;
beforeEach(() => {
  space = new Workspace();
});
afterEach(() => space[Symbol.asyncDispose]());

const BINDINGS = {
  Storage: { adapter: 'local.sqlite' },
  ObjectStore: { adapter: 'local.fs' },
  Queue: { adapter: 'local.in-mem' },
  SecretStore: { adapter: 'local.env', config: { allowlist: ['TOKEN'] } },
  ComputeHint: { adapter: 'local.compute' },
};

test('"a real ObjectStore / Queue / SecretStore / ComputeHint to target with zero cloud creds"', async () => {
  const host = await space.host({ bindings: BINDINGS });
  const store = await host.get(ObjectStore);
  const queue = await host.get(Queue);
  const id = await store.putBytes(Buffer.from('hello'));
  await queue.enqueue(Buffer.from(id));
  const item = await queue.dequeueWithLease(10_000);
  expect(Buffer.from(item?.payload ?? []).toString()).toBe(id);
  expect(Buffer.from(await store.getBytes(id)).toString()).toBe('hello');
  expect(store).toBeInstanceOf(FsObjectStore);
  expect(queue).toBeInstanceOf(InMemQueue);
  expect(await host.get(Storage)).toBeInstanceOf(SqliteStorage);
  expect(await (await host.get(SecretStore)).names()).toEqual(['TOKEN']);
  expect((await (await host.get(ComputeHint)).inventory()).cpuCount).toBeGreaterThan(0);
});

test('paths are relative to plugins.json, and the defaults lie under ./data beside it', async () => {
  const host = await space.host({ bindings: BINDINGS });
  expect(((await host.get(ObjectStore)) as FsObjectStore).root).toBe(space.path('data/object-store'));
  expect(((await host.get(Storage)) as SqliteStorage).path).toBe(space.path('data/rollout.db'));
});

test('middleware cache answers reads from its folder, when the store behind is no longer what it was', async () => {
  const cache = { use: 'cache', config: { root: './cache', maxBytes: 1_000 } };
  const bindings = { ObjectStore: { adapter: 'local.fs', config: { root: './objects' }, middleware: [cache] } };
  const host = await space.host({ bindings });
  const store = await host.get(ObjectStore);
  const id = await store.putBytes(Buffer.from('hello'));
  const blob = (root: string) => space.path(root, id.slice(0, 2), id.slice(2, 4), id);
  expect(readFileSync(blob('cache'), 'utf8')).toBe('hello');
  writeFileSync(blob('objects'), 'other');
  expect(Buffer.from(await store.getBytes(id)).toString()).toBe('hello');
  await host.stop();
  await expect((await space.host({ bindings })).get(ObjectStore)).resolves.toHaveProperty('stats');
});

test('what was enqueued is there for the next host, and what was acked is not', async () => {
  const first = await space.host({ bindings: BINDINGS });
  const queue = await first.get(Queue);
  for (const text of ['a', 'b', 'c']) await queue.enqueue(Buffer.from(text));
  const a = await queue.dequeue();
  if (a !== null) await queue.ack(a.id);
  await queue.dequeue();
  await first.stop();
  const again = await (await space.host({ bindings: BINDINGS })).get(Queue);
  const left = [await again.dequeue(), await again.dequeue(), await again.dequeue()];
  expect(left.map((item) => item && Buffer.from(item.payload).toString())).toEqual(['b', 'c', null]);
});

test('instances of local.in-mem are queues of their own, and a secret store names its own place', async () => {
  const host = await space.host({
    bindings: {
      Storage: { adapter: 'local.memory' },
      Queue: { instances: { default: { adapter: 'local.in-mem' }, mail: { adapter: 'local.in-mem' } } },
      SecretStore: { instances: { vault: { adapter: 'local.env' } } },
    },
  });
  await (await host.get(Queue, 'mail')).enqueue(Buffer.from('x'));
  expect((await (await host.get(Queue)).stats()).pending).toBe(0);
  expect((await (await host.get(Queue, 'mail')).stats()).pending).toBe(1);
  await expect((await host.get(SecretStore)).get('x')).rejects.toThrow(
    'secret "x" not in allowlist (plugins.json: bindings.SecretStore.instances.vault.config.allowlist)',
  );
});

test('a backend is swapped by its binding alone', async () => {
  const memory = { ...BINDINGS, Storage: { adapter: 'local.memory' } };
  class App {
    constructor(@inject(Storage.key) readonly storage: Storage) {}
  }
  expect((await (await space.host({ bindings: BINDINGS })).make(App)).storage).toBeInstanceOf(SqliteStorage);
  expect((await (await space.host({ bindings: memory })).make(App)).storage).toBeInstanceOf(MemoryStorage);
});

test('two hosts share a local.sqlite-queue, each instance a queue of its own', async () => {
  const bindings = {
    Queue: { instances: { default: { adapter: 'local.sqlite-queue' }, mail: { adapter: 'local.sqlite-queue' } } },
  };
  const [one, other] = [await space.host({ bindings }), await space.host({ bindings })];
  const id = await (await one.get(Queue, 'mail')).enqueue(Buffer.from('x'));
  expect((await (await other.get(Queue)).stats()).pending).toBe(0);
  expect((await (await other.get(Queue, 'mail')).dequeue())?.id).toBe(id);
  expect(((await one.get(Queue)) as SqliteQueue).path).toBe(space.path('data/queue.db'));
});

test('a second host on the same queue is told who has it', async () => {
  await (await space.host({ bindings: BINDINGS })).get(Queue);
  const second = await space.host({ bindings: BINDINGS });
  await expect(second.get(Queue)).rejects.toMatchObject({
    code: 'LOCKED',
    message: expect.stringMatching(new RegExp(`process ${process.pid}.* bind the adapter local\\.sqlite-queue`)),
  });
});

test('the manifest declares the features that the classes have, and their options', () => {
  const adapters = new Map(manifest.contributes.adapters.map((adapter) => [adapter.id, adapter]));
  expect(adapters.get('local.in-mem')?.features).toEqual([...IN_MEM_QUEUE_FEATURES]);
  expect(adapters.get('local.sqlite-queue')?.features).toEqual([...SQLITE_QUEUE_FEATURES]);
  expect(adapters.get('local.fs')?.features).toEqual(['range']);
});

(process.platform === 'linux' ? describe : describe.skip)(
  'GPUs come from plugins (skipped elsewhere than on Linux)',
  () => {
    const adapters = [{ id: 'test.gpus', provides: 'GpuEnumerator@1' }];
    const hostWith = (code: string | null) => {
      const plugins: unknown[] = ['rollout.cloud-local'];
      if (code !== null) {
        plugins.push(
          space.plugin({
            id: 'test.gpus',
            adapters,
            code: `export default definePlugin({ adapters: { 'test.gpus': ${code} } });`,
          }),
        );
      }
      return space.host({ plugins, bindings: BINDINGS });
    };
    const gpu = { vendor: 'nvidia', model: 'H200', memoryMib: 143_771, source: 'test', uuid: 'GPU-1' };

    test('without one, `inventory().gpus` is always empty', async () => {
      const hint = await (await hostWith(null)).get(ComputeHint);
      expect(hint).toBeInstanceOf(LinuxComputeHint);
      expect(await hint.inventory()).toMatchObject({
        gpus: [],
        gpuReason: expect.stringContaining('no GpuEnumerator is bound'),
      });
    });

    test.each([
      [
        'a plugin that is disabled',
        true,
        { enabled: false },
        undefined,
        /plugin ".*test.gpus", which has it, is disabled$/,
      ],
      [
        'a binding that is disabled',
        true,
        {},
        { adapter: 'test.gpus', enabled: false },
        /bindings.GpuEnumerator says "enabled": false$/,
      ],
      ['neither', false, {}, undefined, /plugin "rollout.gpu-nvml", which has it, is built in and not listed; list it/],
    ])('without one because of %s: the reason says so', async (_, listed, entry, GpuEnumerator, reason) => {
      const own = listed ? [{ use: space.plugin({ id: 'test.gpus', adapters, code: '' }), ...entry }] : [];
      const host = await space.host({
        plugins: ['rollout.cloud-local', ...own],
        bindings: { ...BINDINGS, ...(GpuEnumerator && { GpuEnumerator }) },
      });
      const { gpuReason } = await (await host.get(ComputeHint)).inventory();
      expect(gpuReason).toMatch(/^no GpuEnumerator is bound: /);
      expect(gpuReason).toMatch(reason);
    });

    test('one that is listed is found, and loaded by the first inventory', async () => {
      const host = await hostWith(
        `() => ({ enumerate: async () => ({ gpus: [${JSON.stringify(gpu)}], source: 'test', reason: null, driverVersion: '1' }) })`,
      );
      const hint = await host.get(ComputeHint);
      expect(space.imported.some((url) => url.includes('test.gpus'))).toBe(false);
      expect(await hint.inventory()).toMatchObject({ gpus: [gpu], gpuReason: null });
    });

    test('several that are bound are merged, and each is told of by its name', async () => {
      const enumerators = ['bad', 'first', 'second'].map((id) => ({ id, provides: 'GpuEnumerator@1' }));
      const finding = (source: string) =>
        `{ enumerate: async () => ({ gpus: [${JSON.stringify({ ...gpu, source })}], source: '${source}', reason: null, driverVersion: null }) }`;
      const use = space.plugin({
        id: 'test.several',
        adapters: enumerators,
        code: `export default definePlugin({ adapters: {
          bad: () => { throw new Error('no driver'); },
          first: () => (${finding('a')}),
          second: () => (${finding('b')}),
        } });`,
      });
      const instances = Object.fromEntries(['bad', 'first', 'second'].map((id) => [`my-${id}`, { adapter: id }]));
      const bindings = { ...BINDINGS, GpuEnumerator: { instances } };
      const host = await space.host({ plugins: ['rollout.cloud-local', use], bindings });
      const { gpus, gpuSources } = await (await host.get(ComputeHint)).inventory();
      expect(gpus).toEqual([{ ...gpu, source: 'a' }]);
      expect(gpuSources.map(({ instance, source, gpus: count }) => [instance, source, count])).toEqual([
        ['my-first', 'a', 1],
        ['my-second', 'b', 0],
        ['my-bad', null, 0],
      ]);
    });

    test('one that fails costs its GPUs, says why, and is tried again', async () => {
      const host = await hostWith(`() => {
      if (!globalThis.driver) throw new Error('libnvidia-ml.so.1 not found');
      return { enumerate: async () => ({ gpus: [${JSON.stringify(gpu)}], source: 'test', reason: null, driverVersion: '1' }) };
    }`);
      const hint = await host.get(ComputeHint);
      expect(await hint.inventory()).toMatchObject({
        gpus: [],
        gpuReason: expect.stringContaining('libnvidia-ml.so.1 not found'),
      });
      (globalThis as Record<string, unknown>).driver = true;
      expect((await hint.inventory()).gpus).toHaveLength(1);
      delete (globalThis as Record<string, unknown>).driver;
    });
  },
);
