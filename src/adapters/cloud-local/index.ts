/**
 * The plugin `rollout.cloud-local`, and its classes for use without a host. Nothing heavy is loaded with it: SQLite, the
 * hash and systeminformation are imported by the first instance that needs them.
 */
import { GpuEnumerator } from '../../contracts/compute-hint.js';
import type { ObjectStore } from '../../contracts/object-store.js';
import { definePlugin } from '../../contracts/plugin.js';
import { Storage } from '../../contracts/storage.js';
import { CachedObjectStore } from './cached-object-store.js';
import { openComputeHint } from './compute-hint.js';
import { EnvSecretStore } from './env-secret-store.js';
import { InMemQueue } from './in-mem-queue.js';
import { MemoryStorage } from './memory-storage.js';
import { NodeSqliteStorage } from './node-sqlite-storage.js';
import { FsObjectStore } from './object-store.js';
import { SqliteQueue } from './sqlite-queue.js';
import { SqliteStorage } from './sqlite-storage.js';

export type { CachedObjectStoreOptions, CacheStats } from './cached-object-store.js';
export { LinuxComputeHint, type LinuxComputeHintOptions, MacosComputeHint, openComputeHint } from './compute-hint.js';
export type { EnvSecretStoreOptions } from './env-secret-store.js';
export type { InMemQueueOptions } from './in-mem-queue.js';
export { type Blake3Engine, blake3Engine } from './object-store/blake3.js';
export type { GcOptions, GcReport } from './object-store/gc.js';
export type { IoMode } from './object-store/in-place.js';
export type { Durability } from './object-store/layout.js';
export type { VerifyFault, VerifyOptions, VerifyReport } from './object-store/verify.js';
export type {
  FsObjectStoreOptions,
  FsObjectStoreStats,
  GetToFileOptions,
  PutFileOptions,
} from './object-store.js';
export type { SqliteQueueOptions } from './sqlite-queue.js';
export type { SqliteStorageOptions } from './sqlite-storage.js';
export {
  CachedObjectStore,
  EnvSecretStore,
  FsObjectStore,
  InMemQueue,
  MemoryStorage,
  NodeSqliteStorage,
  SqliteQueue,
  SqliteStorage,
};

export default definePlugin({
  adapters: {
    'local.fs': ({ config: { root, ...options } }) => FsObjectStore.open(root, options),
    'local.sqlite': ({ config: { path, ...options } }) => SqliteStorage.open(path, options),
    'local.node-sqlite': ({ config: { path, ...options } }) => NodeSqliteStorage.open(path, options),
    'local.memory': () => MemoryStorage.open(),
    // Instances are queues of their own without being told so twice; the one of the short form has no name.
    'local.in-mem': async ({ config, name, get, clock }) =>
      InMemQueue.open(await get(Storage), { ...(name !== 'default' && { name }), ...config, clock }),
    'local.sqlite-queue': ({ config: { path, ...options }, name, clock }) =>
      SqliteQueue.open(path, { ...(name !== 'default' && { name }), ...options, clock }),
    'local.env': ({ config: { allowlist }, name }) => {
      const allowlistPlace = `plugins.json: bindings.SecretStore.instances.${name}.config.allowlist`;
      return new EnvSecretStore(allowlist, name === 'default' ? {} : { allowlistPlace });
    },
    // Asked for at each inventory, not once: an enumerator that failed is tried again, and none is loaded before.
    'local.compute': ({ config, getAll }) =>
      openComputeHint({ ...config, enumerators: (withinMs) => getAll(GpuEnumerator, { withinMs }) }),
  },
  middleware: {
    cache: (inner: ObjectStore, { config, adapter, logger }) =>
      CachedObjectStore.open(inner, config, { adapter, logger }),
  },
});
