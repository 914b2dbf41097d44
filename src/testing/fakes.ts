/**
 * A fake for every contract: it works, in memory, keeps the whole contract (each passes its conformance suite as it is
 * made; that of SecretStore wants `CONFORMANCE_SECRETS` in it), records the calls that are made, and fails when told to.
 * What can be is the real adapter on real memory.
 */

import { MemoryStorage } from '../adapters/cloud-local/memory-storage.js';
import * as check from '../contracts/arguments.js';
import { type Capability, checked, iterable, methodsOf, passAsChecked } from '../contracts/capability.js';
import { type Clock, systemClock } from '../contracts/clock.js';
import { FatalError } from '../contracts/errors.js';
import {
  BlockStore,
  ComputeHint,
  type ComputeInventory,
  GpuEnumerator,
  type GpuInfo,
  ObjectStore,
  Queue,
  SecretStore,
  Storage,
} from '../contracts/index.js';
import { checkToken } from '../registry/links.js';
import { MemoryBlockStore, MemorySecretStore } from './memory-fakes.js';
import { memoryObjectStore } from './memory-object-store.js';
import { type MethodOf, type RecordedCall, Recorder } from './recorder.js';

/** What a fake has beside its contract. */
export interface FakeControls<T extends object> {
  /** The calls made so far, oldest first; the last 10,000 of them. */
  readonly calls: readonly RecordedCall[];
  /** What it can do beyond the contract's ground, for `conformance(token, { features })`. */
  readonly features: readonly string[];
  /** Lets the next `times` calls of `method` (default 1) reject with `error`; they do not take effect. */
  failNext(method: MethodOf<T>, error: unknown, times?: number): void;
}

export type Fake<T extends object> = T & FakeControls<T>;

/** Each is for the contracts named, and of no matter to others. */
export interface FakeOptions {
  /** What leases, delays and times run on. Default the machine's time. */
  readonly clock?: Clock;
  /** SecretStore: what it holds at first. */
  readonly secrets?: Readonly<Record<string, string>>;
  /** SecretStore: names that may be read and written. Default: every name. */
  readonly allowlist?: readonly string[];
  /** Queue: hand-overs after which an item becomes a dead letter. Default 10, the most that its conformance suite takes. */
  readonly maxAttempts?: number;
  /** GpuEnumerator and ComputeHint: the GPUs there are. Default none. */
  readonly gpus?: readonly GpuInfo[];
  /** ComputeHint: what differs from a machine of 4 CPUs and 8 GiB. */
  readonly inventory?: Partial<ComputeInventory>;
  /** ComputeHint: how long until the machine is taken away, ms. Default `null`: nothing says so. */
  readonly preemptionLeadMs?: number | null;
  /** BlockStore: ids of the volumes there are. Default: every id is one, but those with `missing` in them. */
  readonly volumes?: readonly string[];
}

const FAKE_OPTIONS = [
  'clock',
  'secrets',
  'allowlist',
  'maxAttempts',
  'gpus',
  'inventory',
  'preemptionLeadMs',
  'volumes',
] as const satisfies readonly (keyof FakeOptions)[];

interface Making<T> {
  readonly features: readonly string[];
  make(options: FakeOptions): T;
}

const FAKES = new Map<symbol, Making<object>>();

/**
 * Says how the fake of a contract is made: for one that a plugin contributes.
 * @param make a fresh, empty instance each time
 */
export function defineFake<T extends object>(
  token: Capability<T>,
  make: (options: FakeOptions) => T,
  features: readonly string[] = [],
): void {
  FAKES.set(token.key, { features, make });
}

/**
 * A fresh fake of `token`'s contract.
 * @throws FatalError SchemaViolation for a capability that no fake is defined for, or an option that no fake has
 */
export function fake<T extends object>(token: Capability<T>, options: FakeOptions = {}): Fake<T> {
  const making = FAKES.get(checkToken(token).key) as Making<T> | undefined;
  if (making === undefined) {
    throw new FatalError('SchemaViolation', `no fake is defined for ${token.id}; call defineFake first`);
  }
  check.known('options', options, FAKE_OPTIONS);
  const { features } = making;
  const recorder = new Recorder();
  const instance = checked(token, making.make(options), { adapter: `test.fake (${token.name})`, features });
  const controls: FakeControls<T> = {
    calls: recorder.calls,
    features,
    failNext: (method, error, times) => recorder.failNext(token as unknown as Capability<object>, method, error, times),
  };
  // Outside the checks: the calls that are recorded are those that were made, with the arguments that were given.
  return passAsChecked(token, recorder.wrap(token.id, instance, controls)) as Fake<T>;
}

defineFake(ObjectStore, ({ clock }) => memoryObjectStore(['range'], clock), ['range']);
defineFake(Storage, () => new MemoryStorage());
defineFake(
  Queue,
  ({ clock = systemClock, maxAttempts = 10 }) =>
    opening(Queue, async () => {
      const { InMemQueue } = await import('../adapters/cloud-local/in-mem-queue.js');
      return InMemQueue.open(new MemoryStorage(), { clock, maxAttempts });
    }),
  ['lease', 'delay', 'key', 'dead-letters'],
);
defineFake(SecretStore, ({ secrets, allowlist }) => new MemorySecretStore(secrets, allowlist), ['put']);
defineFake(BlockStore, ({ volumes }) => new MemoryBlockStore(volumes));
defineFake(GpuEnumerator, ({ gpus = [] }) => ({
  enumerate: async () => ({
    gpus: structuredClone(gpus),
    source: 'fake',
    reason: gpus.length === 0 ? 'this fake was given no GPUs' : null,
    driverVersion: null,
    warnings: [],
  }),
}));
defineFake(ComputeHint, ({ gpus = [], inventory, preemptionLeadMs = null }) => ({
  inventory: async (): Promise<ComputeInventory> => {
    const machine = { ...MACHINE, gpus, ...inventory };
    const found = machine.gpus.length;
    const reason = found === 0 ? 'this fake was given no GPUs' : null;
    const gpuSources = [{ instance: null, source: 'fake', gpus: found, reason, driverVersion: null, warnings: [] }];
    return structuredClone({ gpuReason: reason, gpuSources, ...machine });
  },
  preemptionSignal: async () => preemptionLeadMs,
}));

const MACHINE = {
  cpuCount: 4,
  memoryMib: 8_192,
  instanceType: null,
  cpuLimit: null,
  memoryLimitMib: null,
  memoryAvailableMib: 4_096,
  cpuModel: 'Fake CPU',
  cpuFlags: [],
  arch: process.arch,
  numaNodes: [],
  hostname: 'fake-host',
  kernel: 'fake',
} as const;

/** An instance whose calls wait until it is open: an opener that is asynchronous, behind a call that is not. */
function opening<T extends object>(token: Capability<T>, open: () => Promise<T>): T {
  let opened: Promise<T> | undefined;
  const made = (): Promise<Record<string, (...args: unknown[]) => unknown>> => {
    opened ??= open();
    return opened as never;
  };
  const methods = [...methodsOf(token), ['close', 'async'] as const].map(([name, kind]) => [
    name,
    kind === 'iterable'
      ? iterable(async function* (...args: unknown[]) {
          yield* (await made())[name]?.(...args) as AsyncIterable<unknown>;
        })
      : async (...args: unknown[]) => (await made())[name]?.(...args),
  ]);
  return Object.fromEntries(methods) as T;
}
