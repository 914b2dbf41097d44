/** The contracts' own suites, on adapters in memory that run in a process of their own: what they ask crosses whole. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { IN_MEM_QUEUE_FEATURES } from '../../src/adapters/cloud-local/in-mem-queue.js';
import { ObjectStore, Queue, SecretStore, Storage } from '../../src/contracts/index.js';
import { CONFORMANCE_SECRETS, conformance } from '../../src/testing/index.js';
import { type Isolated, isolate } from './isolation-support.js';

/** The adapters in memory, each from an option: `store` names what a queue or storage is opened on again. */
const CODE = `
  import { InMemQueue, MemoryStorage } from 'DIST/adapters/cloud-local/index.js';
  import { memoryObjectStore } from 'DIST/testing/index.js';
  const storages = new Map();
  const storageOf = async (name) => {
    if (!storages.has(name)) storages.set(name, await MemoryStorage.open());
    return storages.get(name);
  };
  class Secrets {
    #texts;
    constructor(texts) { this.#texts = new Map(Object.entries(texts)); }
    async get(name) {
      const text = this.#texts.get(name);
      if (text === null) throw new RecoverableError('Transient', name + ' is not set', { code: 'SECRET_UNSET', retry: { kind: 'never' } });
      if (text === undefined) throw new FatalError('ConfigInvalid', name + ' may not be read', { code: 'SECRET_NOT_ALLOWED' });
      return new SecretValue(text);
    }
    async put() { throw new FatalError('ConfigInvalid', 'read-only', { code: 'READ_ONLY' }); }
    async names() { return [...this.#texts.keys()].sort(); }
  }
  export default definePlugin({ adapters: {
    'acme.objects': () => memoryObjectStore(),
    'acme.secrets': ({ config }) => new Secrets(config.texts),
    'acme.storage': () => MemoryStorage.open(),
    'acme.queue': async ({ config }) => InMemQueue.open(await storageOf(config.store), { maxAttempts: 3 }),
  } });`;

let plugin: Isolated;

beforeAll(async () => {
  plugin = await isolate({
    adapters: {
      'acme.objects': ObjectStore,
      'acme.secrets': SecretStore,
      'acme.storage': Storage,
      'acme.queue': Queue,
    },
    code: CODE,
  });
});

afterAll(() => plugin.stop());

describe('ObjectStore', () => {
  for (const c of conformance(ObjectStore, { features: ['range'] })) {
    test(c.name, () => c.run(() => plugin.open(ObjectStore, 'acme.objects')));
  }
});

describe('SecretStore', () => {
  const { set, empty, unset } = CONFORMANCE_SECRETS;
  const texts = { [set.name]: set.value, [empty.name]: empty.value, [unset.name]: null };
  for (const c of conformance(SecretStore)) {
    test(c.name, () => c.run(() => plugin.open(SecretStore, 'acme.secrets', { texts })));
  }
});

describe('Queue', () => {
  let n = 0;
  const open = (name: number) => plugin.open(Queue, 'acme.queue', { store: `${name}` });
  for (const c of conformance(Queue, { features: IN_MEM_QUEUE_FEATURES })) {
    test(c.name, () => c.run({ open: () => open(++n), reopen: () => open(n) }));
  }
});

describe('Storage', () => {
  // Held by the plugin's process, not by this one: the one word in which the two differ.
  const LOCK = 'a lock has one holder, whom the next one is told; disposing frees it';
  const cases = conformance(Storage);
  for (const c of cases) {
    if (c.name !== LOCK) test(c.name, () => c.run(() => plugin.open(Storage, 'acme.storage')));
  }

  test('a lock names the process of the plugin; disposing frees it', async () => {
    expect(cases.map(({ name }) => name)).toContain(LOCK);
    const storage = await plugin.open(Storage, 'acme.storage');
    const lock = await storage.lock('queue', { holder: 'the first' });
    const process = await plugin.plugin.running();
    await expect(storage.lock('queue', { holder: 'the second' })).rejects.toMatchObject({
      code: 'LOCKED',
      message: expect.stringContaining(`held by the first (process ${process.pid})`),
    });
    await lock[Symbol.asyncDispose]();
    await (await storage.lock('queue', { holder: 'the second' }))[Symbol.asyncDispose]();
  });
});
