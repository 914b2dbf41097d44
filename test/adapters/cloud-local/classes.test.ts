/** The classes without a host: what a constructor or an opener gives has the contract's checks before it. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from '@jest/globals';
import * as classes from '../../../src/adapters/cloud-local/index.js';
import {
  type Capability,
  ComputeHint,
  checked,
  ObjectStore,
  Queue,
  SecretStore,
  Storage,
} from '../../../src/contracts/index.js';

const {
  CachedObjectStore,
  EnvSecretStore,
  FsObjectStore,
  InMemQueue,
  LinuxComputeHint,
  MacosComputeHint,
  MemoryStorage,
  NodeSqliteStorage,
  SqliteQueue,
  SqliteStorage,
} = classes;

const folder = mkdtempSync(join(tmpdir(), 'rollout-classes-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const [nodeMajor = 0, nodeMinor = 0] = process.versions.node.split('.').map(Number);
const hasNodeSqlite = nodeMajor > 22 || (nodeMajor === 22 && nodeMinor >= 13);

/** Makes one, and tells whether it is checked: what is checked already is not checked again (see capability.ts). */
const making =
  <T extends object>(token: Capability<T>, make: () => T | Promise<T>) =>
  async () => {
    const made = await make();
    await (made as { close?(): Promise<void> }).close?.();
    return { isChecked: checked(token, made) === made, className: made.constructor.name };
  };

const MAKING: Record<string, ReturnType<typeof making>> = {
  CachedObjectStore: making(ObjectStore, async () =>
    CachedObjectStore.open(await FsObjectStore.open(join(folder, 'behind')), { root: join(folder, 'cache') }),
  ),
  EnvSecretStore: making(SecretStore, () => new EnvSecretStore([])),
  FsObjectStore: making(ObjectStore, () => FsObjectStore.open(join(folder, 'objects'))),
  InMemQueue: making(Queue, () => InMemQueue.open(new MemoryStorage())),
  LinuxComputeHint: making(ComputeHint, () => new LinuxComputeHint()),
  MacosComputeHint: making(ComputeHint, () => new MacosComputeHint()),
  MemoryStorage: making(Storage, () => new MemoryStorage()),
  ...(hasNodeSqlite && { NodeSqliteStorage: making(Storage, () => NodeSqliteStorage.open(join(folder, 'node.db'))) }),
  SqliteQueue: making(Queue, () => SqliteQueue.open(join(folder, 'queue.db'))),
  SqliteStorage: making(Storage, () => SqliteStorage.open(join(folder, 'storage.db'))),
};

describe('checked, as the host would, is', () => {
  test.each(Object.entries(MAKING))('%s', async (className, make) => {
    expect(await make()).toEqual({ isChecked: true, className });
  });

  test('every class of the package that is exported', () => {
    const exported = Object.entries(classes).filter(([, value]) => /^class /.test(String(value)));
    const names = exported.map(([name]) => name).filter((name) => hasNodeSqlite || name !== 'NodeSqliteStorage');
    expect(names.sort()).toEqual(Object.keys(MAKING).sort());
  });
});

test.each([
  ['InMemQueue', () => InMemQueue.open(undefined as never), 'storage must be a Storage, found undefined'],
  ['InMemQueue', () => InMemQueue.open({} as never), 'storage must be a Storage, found object'],
  [
    'CachedObjectStore',
    () => CachedObjectStore.open(undefined as never, { root: folder }),
    'behind must be an ObjectStore',
  ],
])('%s.open refuses what it cannot stand on', async (_, open, message) => {
  await expect(open()).rejects.toMatchObject({
    kind: 'SchemaViolation',
    code: 'ARGUMENT_INVALID',
    message: expect.stringContaining(message),
  });
});

describe('new MemoryStorage()', () => {
  const key = { namespace: 'n', path: ['a'] };

  test('refuses after close() whatever is called', async () => {
    const storage = new MemoryStorage();
    const begun = storage.begin();
    await storage.close();
    const closed = expect.objectContaining({ severity: 'fatal', kind: 'Internal', code: 'CLOSED' });
    await expect(storage.get(key)).rejects.toEqual(closed);
    await expect(storage.getMany([key])).rejects.toEqual(closed);
    await expect(storage.lock('x', { holder: 'x' })).rejects.toEqual(closed);
    await expect(storage.ping()).rejects.toEqual(closed);
    await expect(begun.commit()).rejects.toEqual(closed);
    expect(() => storage.begin()).toThrow(closed);
    for (const items of [storage.scan({ prefix: key }), storage.watch(key)]) {
      await expect(items[Symbol.asyncIterator]().next()).rejects.toEqual(closed);
    }
  });

  test('checks its arguments, and copies what it is given', async () => {
    const storage = new MemoryStorage();
    const invalid = expect.objectContaining({ code: 'ARGUMENT_INVALID' });
    await expect(storage.get('bad' as never)).rejects.toEqual(invalid);
    const txn = storage.begin();
    expect(() => txn.put({ namespace: '', path: [] }, new Uint8Array())).toThrow(invalid);
    expect(() => txn.put(key, 'text' as never)).toThrow(invalid);
    const mine = Uint8Array.of(1);
    txn.put(key, mine);
    mine.fill(9);
    await txn.commit();
    expect(await storage.get(key)).toEqual(Uint8Array.of(1));
    await storage.close();
  });
});

describe('compute hints', () => {
  test.each([
    ['LinuxComputeHint', () => new LinuxComputeHint({ gpuTimeout: 3 } as object), 'gpuTimeoutMs'],
    ['MacosComputeHint', () => new MacosComputeHint({ systemInformtion: 3 } as object), 'systemInformation'],
    ['openComputeHint', () => classes.openComputeHint({ platfrom: 'linux' } as object), 'platform'],
    [
      'openComputeHint for macOS',
      () => classes.openComputeHint({ platform: 'darwin', gpuTimeout: 3 } as object),
      'gpuTimeoutMs',
    ],
  ])('%s refuses an option that it does not know, with the nearest', (_, make, nearest) => {
    expect(make).toThrow(
      expect.objectContaining({
        code: 'ARGUMENT_INVALID',
        message: expect.stringContaining(`Did you mean "${nearest}"?`),
      }),
    );
  });

  test('inventory refuses an option that it does not know', async () => {
    const given = { gpuMaxAge: 3 } as object;
    const refused = expect.objectContaining({ code: 'ARGUMENT_INVALID' });
    await expect(new LinuxComputeHint().inventory(given)).rejects.toEqual(refused);
    await expect((new MacosComputeHint() as ComputeHint).inventory(given)).rejects.toEqual(refused);
  });

  test('for macOS, options that are for Linux alone are no slip', () => {
    const hint = classes.openComputeHint({ platform: 'darwin', enumerators: [], gpuTimeoutMs: 20 });
    expect(hint).toBeInstanceOf(MacosComputeHint);
  });
});
