import { describe, expect, test } from '@jest/globals';
import type { Capability } from '../../src/contracts/index.js';
import {
  BlockStore,
  ComputeHint,
  capability,
  GpuEnumerator,
  isCoreError,
  ObjectStore,
  Queue,
  RecoverableError,
  SecretStore,
  SecretValue,
  Storage,
} from '../../src/contracts/index.js';
import { KNOWN_CAPABILITIES } from '../../src/contracts/known.js';
import {
  CONFORMANCE_SECRETS,
  CONFORMANCE_VOLUMES,
  conformance,
  defineFake,
  type FakeOptions,
  fake,
  TestClock,
} from '../../src/testing/index.js';

const { set, empty, unset, forbidden } = CONFORMANCE_SECRETS;

/** What the suites ask of whoever opens an instance. */
const OPTIONS: FakeOptions = {
  secrets: { [set.name]: set.value, [empty.name]: empty.value, [forbidden.name]: forbidden.value },
  allowlist: [set.name, empty.name, unset.name],
  maxAttempts: 3,
  volumes: CONFORMANCE_VOLUMES.there,
  gpus: [{ vendor: 'nvidia', model: 'H100', memoryMib: 81_559, source: 'fake', uuid: 'GPU-1' }],
};

test('an option that no fake has is refused', () => {
  const slip = { maxAttempt: 1 } as FakeOptions;
  expect(() => fake(Queue, slip)).toThrow('unknown option "maxAttempt" in options. Did you mean "maxAttempts"?');
});

describe.each(KNOWN_CAPABILITIES.map((token) => [token.name, token] as const))('the fake of %s', (_, token) => {
  for (const c of conformance(token, { features: fake(token).features })) {
    test(c.name, () => c.run(() => fake(token, OPTIONS)));
  }
});

// The suite of SecretStore brings its secrets; see CONFORMANCE_SECRETS.
const AS_MADE = KNOWN_CAPABILITIES.filter((token) => token.key !== SecretStore.key);

describe.each(AS_MADE.map((token) => [token.name, token] as const))('the fake of %s, without options', (_, token) => {
  for (const c of conformance(token, { features: fake(token).features })) test(c.name, () => c.run(() => fake(token)));
});

describe('a fake', () => {
  const io = (message: string) => new RecoverableError('Transient', message, { code: 'IO_ERROR' });

  test('is as empty as it is made: no GPUs, and a reason; no secrets; every volume', async () => {
    expect(await fake(GpuEnumerator).enumerate()).toMatchObject({ gpus: [], reason: expect.any(String) });
    expect(await fake(SecretStore).names()).toEqual([]);
    expect(await fake(BlockStore).attach('vol-9')).toEqual({ volumeId: 'vol-9', device: '/dev/fake1' });
    const hint = fake(ComputeHint, { inventory: { cpuCount: 96 }, preemptionLeadMs: 30_000 });
    expect(await hint.inventory()).toMatchObject({ cpuCount: 96, gpus: [], gpuReason: expect.any(String) });
    expect(await hint.preemptionSignal()).toBe(30_000);
  });

  test('records calls as they were made, with what they came to', async () => {
    const queue = fake(Queue);
    const payload = Buffer.from('a');
    const id = await queue.enqueue(payload);
    await queue.dequeueWithLease(0).catch(() => {});
    for await (const _ of queue.deadLetters());
    expect(queue.calls.map(({ method, args }) => [method, args])).toEqual([
      ['enqueue', [payload]],
      ['dequeueWithLease', [0]],
      ['deadLetters', []],
    ]);
    expect(queue.calls[0]?.args[0]).toBe(payload);
    expect(queue.calls[0]?.answer).toBe(id);
    expect(queue.calls[1]?.error).toMatchObject({ code: 'ARGUMENT_INVALID' });
  });

  test('fails the next calls of one method as often as it was told, and nothing of them happens', async () => {
    const store = fake(ObjectStore);
    store.failNext('putBytes', io('first'), 2);
    store.failNext('putBytes', io('second'));
    for (const message of ['first', 'first', 'second']) {
      await expect(store.putBytes(Buffer.from('x'))).rejects.toThrow(message);
    }
    const id = await store.putBytes(Buffer.from('x'));
    expect(await store.exists(id)).toBe(true);
    store.failNext('list', io('no list'));
    const listing = store.list()[Symbol.asyncIterator]();
    await expect(listing.next()).rejects.toThrow('no list');
    expect((await store.list()[Symbol.asyncIterator]().next()).value).toBe(id);
  });

  test('fails what answers at once by throwing, and a transaction by its commit', async () => {
    const storage = fake(Storage);
    storage.failNext('begin', io('no transaction'));
    expect(() => storage.begin()).toThrow('no transaction');
    storage.failNext('commit', io('disk full'));
    const key = { namespace: 'n', path: ['k'] };
    const txn = storage.begin();
    txn.put(key, Buffer.from('v'));
    await expect(txn.commit()).rejects.toThrow('disk full');
    expect(await storage.get(key)).toBeNull();
    await txn.commit();
    expect(Buffer.from((await storage.get(key)) ?? '').toString()).toBe('v');
    expect(storage.calls.map(({ method }) => method)).toEqual(['begin', 'begin', 'commit', 'get', 'commit', 'get']);
  });

  test('refuses a method that its contract does not have, naming those it has', () => {
    expect(() => fake(SecretStore).failNext('set' as 'get', io('x'))).toThrow(
      'SecretStore@1 has no method "set"; it has get, put',
    );
  });

  test('tells no secret by its calls', async () => {
    const store = fake(SecretStore);
    await store.put('token', new SecretValue('hunter2'));
    await store.get('token');
    expect(JSON.stringify(store.calls)).not.toContain('hunter2');
  });

  test('of a capability that a plugin brought is the one that was defined for it', async () => {
    interface Echo {
      echo(text: string): Promise<string>;
    }
    const Echo: Capability<Echo> = capability<Echo>('acme.echo/Echo', { major: 1 });
    expect(() => fake(Echo)).toThrow('no fake is defined for acme.echo/Echo@1; call defineFake first');
    defineFake(Echo, () => ({ echo: async (text) => text }));
    const echo = fake(Echo);
    expect(await echo.echo('x')).toBe('x');
    echo.failNext('echo', io('deaf'));
    await expect(echo.echo('y')).rejects.toThrow('deaf');
    expect(echo.calls.map(({ args }) => args)).toEqual([['x'], ['y']]);
  });
});

describe('the clock', () => {
  test('drives leases, delays, waits and ages of the queue without waiting for them', async () => {
    const clock = new TestClock();
    clock.freeze();
    const queue = fake(Queue, { clock });
    await queue.enqueue(Buffer.from('a'), { delayMs: 60_000 });
    const waiting = queue.receive({ leaseMs: 30_000, waitMs: 3_600_000 });
    await clock.advance(59_999);
    expect(await queue.stats()).toMatchObject({ delayed: 1, pending: 0 });
    await clock.advance(1);
    const [item] = await waiting;
    expect(item?.attempts).toBe(1);
    await clock.advance(29_999);
    expect((await queue.stats()).inFlight).toBe(1);
    await clock.advance(1);
    expect(await queue.stats()).toMatchObject({ inFlight: 0, pending: 1, oldestPendingAgeMs: 90_000 });
    expect(await queue.ack(item?.id as never, item?.token).catch((e) => isCoreError(e) && e.code)).toBe('LEASE_LOST');
    expect(
      await Promise.all([queue.dequeue(), queue.receive({ leaseMs: 1, waitMs: 500 }), clock.advance(500)]),
    ).toEqual([expect.objectContaining({ attempts: 2 }), [], undefined]);
  });

  test('runs by itself until it is frozen', async () => {
    const clock = new TestClock();
    const startMs = clock.monotonicMs();
    await new Promise<void>((resolve) => clock.schedule(5, resolve));
    expect(clock.monotonicMs()).toBeGreaterThanOrEqual(startMs + 5);
    const early: string[] = [];
    clock.schedule(3_600_000, () => early.push('hour'));
    await clock.advance(3_600_000);
    expect(early).toEqual(['hour']);
    clock.freeze();
    clock.schedule(0, () => early.push('frozen'));
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(early).toEqual(['hour']);
  });

  test('makes calls in the order in which they are due, each at its moment; one that was cancelled, never', async () => {
    const clock = new TestClock();
    clock.freeze();
    const startMs = clock.monotonicMs();
    const made: [string, number][] = [];
    const note = (name: string) => () => made.push([name, clock.monotonicMs() - startMs]);
    clock.schedule(20, note('b'));
    clock.schedule(10, () => {
      note('a')();
      clock.schedule(5, note('a then'));
    });
    clock.schedule(20, note('c'));
    clock.schedule(15, note('cancelled')).cancel();
    await clock.advance(30);
    const exact = made.map(([name, atMs]) => [name, Math.round(atMs)]);
    expect(exact).toEqual([
      ['a', 10],
      ['a then', 15],
      ['b', 20],
      ['c', 20],
    ]);
    expect(Math.round(clock.monotonicMs() - startMs)).toBe(30);
  });

  test('says so when something schedules itself anew at once', async () => {
    const clock = new TestClock();
    clock.freeze();
    const again = () => void clock.schedule(0, again);
    again();
    await expect(clock.advance(1)).rejects.toThrow('something schedules itself anew at once');
  });
});
