/** That every contract stays what it is behind a decoration, test/adapters/middleware/all.test.ts shows. */
import { describe, expect, test } from '@jest/globals';
import {
  type Around,
  type Call,
  capability,
  checked,
  decorate,
  FatalError,
  ObjectStore,
  Queue,
  Storage,
} from '../../src/contracts/index.js';
import { fake } from '../../src/testing/index.js';

const PASSING: Around = {
  call: async (_, proceed) => proceed(),
  iterate: (_, proceed) => proceed(),
  answer: (_, proceed) => proceed(),
};

describe('decorate', () => {
  /** Notes `<kind> <method>` and lets pass. */
  function noting(): { seen: string[]; around: Around } {
    const seen: string[] = [];
    const note = (kind: string) => (call: Call, proceed: () => never) => {
      seen.push(`${kind} ${call.method}`);
      return proceed();
    };
    return { seen, around: { call: note('call'), iterate: note('iterate'), answer: note('answer') } };
  }

  test('comes round every call by how it answers, and round the commits of a transaction', async () => {
    const { seen, around } = noting();
    const storage = decorate(Storage.id, fake(Storage), around);
    await storage.get({ namespace: 'n', path: ['a'] });
    for await (const _ of storage.scan({ prefix: { namespace: 'n', path: [] } }));
    const txn = storage.begin();
    txn.put({ namespace: 'n', path: ['a'] }, Buffer.from('x'));
    expect(await txn.commit()).toBe(true);
    expect(seen).toEqual(['call get', 'iterate scan', 'answer begin', 'call commit']);
  });

  test('leaves what is no call of the contract alone: class, properties, symbols, other methods, close once', async () => {
    const brand = Symbol('brand');
    class Mine {
      [brand] = 7;
      closed = 0;
      health = async () => ({ status: 'ok' });
      extra() {
        return this.closed;
      }
      async close() {
        this.closed += 1;
      }
    }
    const { seen, around } = noting();
    const inner = checked(capability<Mine>('acme/Mine', { major: 1 }), new Mine(), { adapter: 'mine' });
    const mine = decorate(Queue.id, inner, around);
    expect(mine).toBeInstanceOf(Mine);
    expect(mine[brand]).toBe(7);
    expect(await mine.health()).toEqual({ status: 'ok' });
    await Promise.all([mine.close(), mine.close(), (mine as never as AsyncDisposable)[Symbol.asyncDispose]()]);
    expect(mine.extra()).toBe(1);
    expect(seen).toEqual([]);
  });

  test('a call may be made again, with other arguments, or not at all', async () => {
    const store = decorate(ObjectStore.id, fake(ObjectStore), {
      async call({ method }, proceed) {
        if (method === 'exists') return 'perhaps';
        if (method !== 'putBytes') return proceed();
        await proceed();
        return proceed([Buffer.from('other')]);
      },
    });
    const id = await store.putBytes(Buffer.from('x'));
    expect(Buffer.from(await store.getBytes(id)).toString()).toBe('other');
    expect(await store.exists(id)).toBe('perhaps');
    const ids: string[] = [];
    for await (const other of store.list()) ids.push(other);
    expect(ids).toHaveLength(2);
  });

  test('what is thrown at once arrives where the caller waits for it', async () => {
    const failing = (): never => {
      throw new FatalError('Internal', 'no');
    };
    const queue = decorate(Queue.id, fake(Queue), { call: failing, iterate: failing });
    await expect(queue.stats()).rejects.toThrow('no');
    const letters = queue.deadLetters()[Symbol.asyncIterator]();
    await expect(letters.next()).rejects.toThrow('no');
  });

  test('behind it, the door of the contract is put before the result anew', async () => {
    const wrapped = decorate(Queue.id, fake(Queue), PASSING);
    const queue = checked(Queue, wrapped, { adapter: 'x', features: [] });
    expect(queue).not.toBe(wrapped);
    await expect(queue.enqueue(Buffer.from('x'), { delayMs: 1 })).rejects.toMatchObject({
      code: 'FEATURE_UNSUPPORTED',
    });
    await queue.close();
    await expect(queue.stats()).rejects.toMatchObject({ code: 'CLOSED' });
  });

  test('of a contract that is not known here tells calls by the methods, or by what they answer', async () => {
    const made: string[] = [];
    const inner = {
      slow: async (x: number) => made.push(`slow ${x}`),
      promised: (x: number) => Promise.resolve(made.push(`promised ${x}`)),
      async *items() {
        yield 1;
      },
      listed: () => inner.items(),
      now: () => 3,
      size: 4,
      drain: async () => made.push('drain'),
      close: async () => made.push('close'),
    };
    const { seen, around } = noting();
    const outer = decorate('acme.x/Thing@1', inner, around);
    await outer.slow(1);
    await outer.promised(1);
    for (const items of [outer.items(), outer.listed()]) for await (const item of items) expect(item).toBe(1);
    expect([outer.now(), outer.size]).toEqual([3, 4]);
    await outer.drain();
    await outer.close();
    expect(seen).toEqual(['call slow', 'call promised', 'iterate items', 'iterate listed', 'answer now']);
    expect(made).toEqual(['slow 1', 'promised 1', 'drain', 'close']);

    const twice = decorate('acme.x/Thing@1', inner, {
      call: async (_, proceed) => {
        await proceed();
        return proceed([2]);
      },
    });
    await twice.slow(1);
    await twice.promised(1);
    expect(made.slice(4)).toEqual(['slow 1', 'slow 2', 'promised 1', 'promised 2']);
  });
});
