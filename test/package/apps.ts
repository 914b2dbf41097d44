/** Small programs and plugins of users, as text: they are written into a project that has the package installed. */

/** The local adapters, in the project's folder, and a plugin of each kind. */
export const PLUGINS_JSON = {
  version: 1,
  plugins: ['rollout.cloud-local', './plugins/vault', 'acme-notes'],
  bindings: {
    Storage: { adapter: 'local.sqlite', config: { path: './data/rollout.db' } },
    ObjectStore: {
      default: 'artifacts',
      instances: {
        artifacts: { adapter: 'local.fs', config: { root: './data/artifacts' } },
        scratch: { adapter: 'local.fs', config: { root: './data/scratch', durability: 'none' } },
      },
    },
    Queue: { adapter: 'local.in-mem' },
    SecretStore: { adapter: 'acme.vault', config: { prefix: 'vault:' } },
    ComputeHint: { adapter: 'local.compute' },
    'acme.notes/Notes': { adapter: 'acme.notes' },
  },
};

/** Every local adapter, and nothing else. */
export const LOCAL_JSON = {
  bindings: {
    Storage: { adapter: 'local.sqlite', config: { path: './data/local.db' } },
    ObjectStore: { adapter: 'local.fs', config: { root: './data/local' } },
    Queue: { adapter: 'local.in-mem' },
    SecretStore: { adapter: 'local.env' },
    ComputeHint: { adapter: 'local.compute' },
  },
};

/** A plugin in a folder. */
export const VAULT = {
  'plugins/vault/plugin.json': {
    id: 'acme.vault',
    version: '1.0.0',
    engines: { 'rollout-cloud': '>=0.1.0' },
    main: './index.js',
    contributes: {
      adapters: [
        { id: 'acme.vault', provides: 'SecretStore@1', config: { properties: { prefix: { type: 'string' } } } },
      ],
    },
  },
  'plugins/vault/index.js': `
    import { definePlugin, SecretValue } from 'rollout-cloud/contracts';
    export default definePlugin({
      adapters: {
        'acme.vault': ({ config }) => ({
          get: async (name) => new SecretValue(config.prefix + name),
          put: async () => {},
          names: async () => [],
        }),
      },
    });`,
};

/** A plugin in a package, with a capability of its own; its manifest is in its package.json. */
export const NOTES = {
  'node_modules/acme-notes/package.json': {
    name: 'acme-notes',
    version: '2.0.0',
    type: 'module',
    exports: './main.js',
    'rollout-cloud': {
      id: 'acme.notes',
      version: '2.0.0',
      main: './main.js',
      contributes: { adapters: [{ id: 'acme.notes', provides: 'acme.notes/Notes@1', requires: ['Storage'] }] },
    },
  },
  'node_modules/acme-notes/main.js': `
    import { capability, definePlugin, Storage } from 'rollout-cloud/contracts';
    export const Notes = capability('acme.notes/Notes', { major: 1 });
    const key = { namespace: 'notes', path: ['last'] };
    export default definePlugin({
      adapters: {
        'acme.notes': async ({ get }) => {
          const storage = await get(Storage);
          return {
            write: async (text) => {
              const txn = storage.begin();
              txn.put(key, Buffer.from(text));
              await txn.commit();
            },
            read: async () => Buffer.from(await storage.get(key)).toString(),
          };
        },
      },
    });`,
};

/** Prints what each of the two plugins answers. */
export const PLUGINS_JS = `
  import { createHost, SecretStore } from 'rollout-cloud';
  import { Notes } from 'acme-notes';
  const host = await createHost();
  const notes = await host.get(Notes);
  await notes.write('kept');
  const secret = await (await host.get(SecretStore)).get('token');
  console.log(await notes.read(), secret.reveal());
  await host.stop();`;

/** Prints \`fine\` when all exports are there and agree with one another. */
export const EXPORTS_JS = `
  import assert from 'node:assert/strict';
  import * as main from 'rollout-cloud';
  import * as contracts from 'rollout-cloud/contracts';
  import * as testing from 'rollout-cloud/testing';
  import * as local from 'rollout-cloud/adapters/cloud-local';
  import json from 'rollout-cloud/package.json' with { type: 'json' };
  for (const name of Object.keys(contracts)) assert.equal(main[name], contracts[name], name);
  assert.equal(main.VERSION, json.version);
  assert.ok(contracts.isPluginModule(local.default));
  assert.throws(() => testing.conformance(main.capability('None', { major: 1 })), contracts.FatalError);
  const store = await local.FsObjectStore.open('./data/exports');
  await assert.rejects(store.getBytes('0'.repeat(64)), main.FatalError);
  console.log('fine');`;

/** The main API, in TypeScript; injected by the application's own copy of Inversify. Run, it prints \`fine\`. */
export const APP_TS = `
  import assert from 'node:assert/strict';
  import { inject, injectable, named, optional } from 'inversify';
  import {
    BlockStore, type ComputeInventory, ComputeHint, consume, type ContentId, createHost, FatalError, type Host,
    type HostConfig, isCoreError, ObjectStore, Queue, type QueueItem, type SecretStore, Storage,
  } from 'rollout-cloud';
  import { FsObjectStore } from 'rollout-cloud/adapters/cloud-local';
  import { definePlugin, Queue as SameQueue, RecoverableError, SecretValue } from 'rollout-cloud/contracts';
  import { conformance, memoryObjectStore } from 'rollout-cloud/testing';

  @injectable()
  class Clock {
    now(): number {
      return 42;
    }
  }

  class Uploader {
    constructor(
      @inject(Queue.key) readonly queue: Queue,
      @inject(ObjectStore.key) readonly artifacts: ObjectStore,
      @inject(ObjectStore.key) @named('scratch') readonly scratch: ObjectStore,
      @inject(BlockStore.key) @optional() readonly blocks: BlockStore | undefined,
      @inject(Clock) readonly clock: Clock,
      @inject('greeting') readonly greeting: string,
    ) {}
  }

  class Impossible {
    constructor(@inject(BlockStore.key) readonly blocks: BlockStore) {}
  }

  const plugin = definePlugin({
    adapters: {
      'acme.vault': (ctx): SecretStore => ({
        get: async (name: string) => new SecretValue(\`\${ctx.config.prefix}\${name}\`),
        put: async () => {},
        names: async () => [],
      }),
    },
  });
  assert.deepEqual(Object.keys(plugin.adapters), ['acme.vault']);

  const config: HostConfig = { bindings: { Storage: { adapter: 'local.memory' } } };
  await using unlisted: Host = await createHost({ config });
  assert.equal(unlisted.has(Storage), true);

  const host: Host = await createHost({ config: new URL('./plugins.json', import.meta.url) });
  host.container.bind('greeting').toConstantValue('hello');

  const uploader = await host.make(Uploader);
  assert.equal(uploader.queue, await host.get(SameQueue));
  assert.equal(uploader.artifacts, await host.get(ObjectStore));
  assert.equal(uploader.scratch, await host.get(ObjectStore, 'scratch'));
  assert.notEqual(uploader.artifacts, uploader.scratch);
  assert.equal(uploader.blocks, undefined);
  assert.equal(uploader.clock.now(), 42);
  assert.equal(uploader.greeting, 'hello');
  await assert.rejects(host.make(Impossible), (error) => error instanceof FatalError && error.code === 'RC1121');

  const id: ContentId = await uploader.scratch.putBytes(Buffer.from('hello'));
  await uploader.queue.enqueue(Buffer.from(id));
  const stopping = new AbortController();
  await consume(
    uploader.queue,
    async (item: QueueItem) => {
      assert.equal(Buffer.from(item.payload).toString(), id);
      stopping.abort();
    },
    { concurrency: 1, leaseMs: 30_000, signal: stopping.signal },
  );
  assert.equal((await uploader.queue.stats()).pending, 0);

  const inventory: ComputeInventory = await (await host.get(ComputeHint)).inventory();
  assert.ok(inventory.cpuCount > 0);
  await assert.rejects(uploader.artifacts.getBytes(id), (error) => {
    assert.ok(isCoreError(error) && !(error instanceof RecoverableError));
    return error.code === 'OBJECT_NOT_FOUND';
  });
  await host.stop();

  const own: ObjectStore = await FsObjectStore.open('./data/own');
  assert.equal(await own.exists(id), false);
  const cases = conformance(ObjectStore, { features: ['range'] });
  assert.ok(cases.length > 10);
  for (const { run } of cases) await run(async () => memoryObjectStore());
  console.log('fine');`;
