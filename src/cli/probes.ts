/** One round trip for each capability, as `doctor` makes it. A probe throws what the instance throws. */
import { randomBytes, randomUUID } from 'node:crypto';
import { BlockStore } from '../contracts/block-store.js';
import type { Capability } from '../contracts/capability.js';
import { ComputeHint, GpuEnumerator } from '../contracts/compute-hint.js';
import { isCoreError } from '../contracts/errors.js';
import { ObjectStore } from '../contracts/object-store.js';
import { Queue, type QueueItem } from '../contracts/queue.js';
import { SecretStore } from '../contracts/secret-store.js';
import { Storage, type StorageTxn } from '../contracts/storage.js';
import { describeMachine, describeSecrets, secretStates } from './machine.js';
import { plural } from './output.js';

export interface ProbeResult {
  readonly status: 'ok' | 'warn' | 'fail';
  /** What was done, or what is wrong. */
  readonly detail: string;
  /** What to do, where there is something to do. */
  readonly advice?: string;
}

export interface Probe {
  readonly token: Capability<object>;
  /** @param ownQueue for a Queue: one like it that only the doctor uses; `null` where there can be none */
  run(instance: object, ownQueue: Queue | null): Promise<ProbeResult>;
}

/** By capability name. What is not here is activated and no more. */
export const PROBES: Readonly<Record<string, Probe>> = Object.fromEntries([
  probe(Storage, probeStorage),
  probe(ObjectStore, probeObjectStore),
  probe(Queue, probeQueue),
  probe(SecretStore, probeSecretStore),
  probe(ComputeHint, async (compute) => {
    const leadMs = await compute.preemptionSignal();
    const machine = describeMachine(await compute.inventory());
    if (leadMs === null) return ok(machine);
    const detail = `${machine}; it is taken away in ${Math.round(leadMs / 1000)} s`;
    return { status: 'warn', detail, advice: 'move the work to another machine' };
  }),
  probe(GpuEnumerator, async (enumerator) => {
    const { gpus, source, reason } = await enumerator.enumerate();
    return ok(gpus.length === 0 ? `no gpus: ${reason}` : `${plural(gpus.length, 'gpu')}, told by ${source}`);
  }),
  probe(BlockStore, async () => ok('activates; its volumes are not touched')),
]);

function probe<T extends object>(
  token: Capability<T>,
  run: (instance: T, ownQueue: Queue | null) => Promise<ProbeResult>,
): [string, Probe] {
  return [token.name, { token, run } as unknown as Probe];
}

function ok(detail: string): ProbeResult {
  return { status: 'ok', detail };
}

async function probeStorage(storage: Storage): Promise<ProbeResult> {
  const key = { namespace: 'rollout_doctor', path: [randomUUID()] };
  const value = randomBytes(64);
  const commit = async (change: (txn: StorageTxn) => void) => {
    const txn = storage.begin();
    change(txn);
    await txn.commit();
  };
  await commit((txn) => txn.put(key, value));
  try {
    mustEqual(await storage.get(key), value);
  } finally {
    await commit((txn) => txn.delete(key));
  }
  if ((await storage.get(key)) !== null) throw new Error('a deleted value is still there');
  await storage.ping();
  return ok(`write, read, delete, ping; a commit survives ${SURVIVES[storage.durability]}`);
}

const SURVIVES = { full: 'a power cut', normal: 'a crash of the process', off: 'nothing' };

/** What an object store may tell of itself, beyond the contract. */
interface Telling {
  stats(): Promise<{
    readonly durability?: 'none' | 'data' | 'full';
    readonly hash?: string;
    readonly quarantined?: number;
  }>;
}

const PUT_SURVIVES = {
  full: 'a power cut',
  data: 'a power cut, but for its name',
  none: 'a crash of the process',
};

function describeStore(stats: Awaited<ReturnType<Telling['stats']>> | undefined): ProbeResult {
  const { durability, hash, quarantined = 0 } = stats ?? {};
  const survives = durability && PUT_SURVIVES[durability];
  const detail = ['put, get verified, delete', survives && `a put survives ${survives}`, hash && `BLAKE3 by ${hash}`]
    .filter((part) => part !== undefined)
    .join('; ');
  if (quarantined === 0) return ok(detail);
  const found = `${plural(quarantined, 'corrupt object')} in quarantine`;
  return {
    status: 'warn',
    detail: `${detail}; ${found}`,
    advice: 'put them again from their source, then remove them',
  };
}

async function probeObjectStore(store: ObjectStore): Promise<ProbeResult> {
  // Random, so nobody else has stored it and deleting it takes nothing away.
  const bytes = randomBytes(64);
  const id = await store.putBytes(bytes);
  try {
    mustEqual(await store.getBytes(id), bytes);
  } finally {
    await store.delete(id);
  }
  if (await store.exists(id)) throw new Error(`deleted object ${id} is still there`);
  return describeStore(await (store as ObjectStore & Partial<Telling>).stats?.());
}

/** Long enough for any answer: the item is acked at once. */
const LEASE_MS = 60_000;

async function probeQueue(queue: Queue, ownQueue: Queue | null): Promise<ProbeResult> {
  const { pending, inFlight, deadLetters } = await queue.stats();
  const state = `${pending} pending, ${inFlight} in flight, ${plural(deadLetters, 'dead letter')}`;
  if (ownQueue === null)
    return ok(`stats only, as its adapter takes no "name" for a queue of the doctor's own; ${state}`);
  // A doctor that was killed may have left an item.
  await ownQueue.purge('pending');
  const payload = randomBytes(64);
  const id = await ownQueue.enqueue(payload);
  const item = await take(ownQueue);
  if (item?.id !== id) throw new Error(`enqueued ${id}, then took ${item?.id ?? 'nothing'}`);
  await ownQueue.ack(id, item.token);
  mustEqual(item.payload, payload);
  return ok(`enqueue, ${item.token === null ? 'dequeue' : 'lease'}, ack on a queue of its own; ${state}`);
}

async function take(queue: Queue): Promise<QueueItem | null> {
  try {
    return await queue.dequeueWithLease(LEASE_MS);
  } catch (error) {
    if (isCoreError(error) && error.code === 'FEATURE_UNSUPPORTED') return queue.dequeue();
    throw error;
  }
}

async function probeSecretStore(secrets: SecretStore): Promise<ProbeResult> {
  const states = await secretStates(secrets);
  const detail = describeSecrets(states);
  if (states.some(({ state }) => state === 'unknown')) return { status: 'fail', detail };
  if (states.every(({ state }) => state === 'set')) return ok(detail);
  return { status: 'warn', detail, advice: 'set what is not set, before something asks for it' };
}

function mustEqual(found: Uint8Array | null, expected: Uint8Array): void {
  if (found === null || Buffer.compare(found, expected) !== 0)
    throw new Error('read back other bytes than were written');
}
