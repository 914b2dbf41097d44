/** The capabilities that this package has contracts for. A plugin may bring more. */
import { BlockStore } from './block-store.js';
import type { Capability } from './capability.js';
import { ComputeHint, GpuEnumerator } from './compute-hint.js';
import { ObjectStore } from './object-store.js';
import { Queue } from './queue.js';
import { SecretStore } from './secret-store.js';
import { Storage } from './storage.js';

export const KNOWN_CAPABILITIES: readonly Capability<object>[] = [
  ObjectStore,
  Queue,
  SecretStore,
  ComputeHint,
  GpuEnumerator,
  Storage,
  BlockStore,
] as unknown as Capability<object>[];
