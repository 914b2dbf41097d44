/** The connection between a host and a plugin's process, with both ends in this one: what crosses, and what ends. */
import { inspect } from 'node:util';
import { deserialize, serialize, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, describe, expect, test } from '@jest/globals';
import { FatalError, isCoreError, RecoverableError } from '../../src/contracts/errors.js';
import { SecretValue } from '../../src/contracts/secret-store.js';
import { Peer, type PeerOptions, ROOT } from '../../src/registry/isolation/peer.js';
import { Lend } from '../../src/registry/isolation/references.js';
import { DISCONNECTED } from './isolation-support.js';

const pairs: Peer[] = [];

afterEach(() => {
  for (const peer of pairs.splice(0)) peer.close(DISCONNECTED);
});

/** A peer whose calls go to `root`; messages are serialised as the channel does it, and arrive later. */
function connect(root: object, options: PeerOptions = {}): { near: Peer; far: Peer } {
  const port = (to: () => Peer) => ({
    send: (message: unknown) => {
      const bytes = serialize(message);
      setImmediate(() => to().receive(deserialize(bytes) as never));
    },
  });
  const near: Peer = new Peer(
    port(() => far),
    {},
    options,
  );
  const far: Peer = new Peer(
    port(() => near),
    root,
  );
  pairs.push(near, far);
  return { near, far };
}

const call = (near: Peer, method: string, ...args: unknown[]) => near.call(ROOT, method, args);
const echo = { echo: (value: unknown) => value };

describe('values', () => {
  test('plain data, bytes, dates, maps and sets are as they were', async () => {
    const { near } = connect(echo);
    const value = {
      text: 'x',
      none: null,
      nothing: undefined,
      big: 2n ** 70n,
      at: new Date(5),
      $: 'a key of its own',
      deep: [{ bytes: Uint8Array.of(1, 2, 3) }],
      map: new Map([['a', { b: 1 }]]),
      set: new Set([1]),
    };
    expect(await call(near, 'echo', value)).toEqual(value);
  });

  test('bytes are not a view of the message', async () => {
    const { near } = connect(echo);
    const bytes = (await call(near, 'echo', Uint8Array.of(1, 2, 3))) as Uint8Array;
    expect(bytes.buffer.byteLength).toBe(3);
  });

  test('a secret stays one, and is not shown', async () => {
    let shown = '';
    const { near } = connect({
      get: (given: SecretValue) => {
        shown = inspect({ given });
        return new SecretValue(`${given.reveal()}!`);
      },
    });
    const secret = (await call(near, 'get', new SecretValue('hunter2'))) as SecretValue;
    expect(secret).toBeInstanceOf(SecretValue);
    expect(secret.reveal()).toBe('hunter2!');
    expect(shown + inspect(secret) + JSON.stringify({ secret })).not.toContain('hunter2');
  });

  test('a function and an object with methods stay where they are, and can be called', async () => {
    class Counter {
      #n = 0;
      readonly label = 'mine';
      add(by: number): number {
        this.#n += by;
        return this.#n;
      }
    }
    const counter = new Counter();
    const { near } = connect({
      twice: async (each: (n: number) => Promise<number>) => [await each(1), await each(2)],
      counter: () => counter,
      same: (given: unknown) => given === counter,
    });
    expect(await call(near, 'twice', (n: number) => n * 10)).toEqual([10, 20]);
    const standIn = (await call(near, 'counter')) as Counter;
    expect(standIn.label).toBe('mine');
    expect(await standIn.add(2)).toBe(2);
    expect(await standIn.add(3)).toBe(5);
    expect(await call(near, 'counter')).toBe(standIn);
    expect(await call(near, 'same', standIn)).toBe(true);
  });

  test.each([
    [
      'a circle',
      () => {
        const circle: { self?: unknown } = {};
        circle.self = circle;
        return circle;
      },
    ],
    ['a symbol', () => ({ s: Symbol('x') })],
    ['a promise in an object', () => ({ p: Promise.resolve() })],
  ])('%s is refused, and the call with it', async (_, make) => {
    const { near } = connect(echo);
    await expect(call(near, 'echo', make())).rejects.toMatchObject({ code: 'VALUE_UNSENDABLE' });
    expect(near.pending).toBe(0);
  });

  test('a message that is too large is refused on either side', async () => {
    const { near } = connect({ ...echo, give: (n: number) => new Uint8Array(n) }, { messageBytesMax: 1_000 });
    await expect(call(near, 'echo', new Uint8Array(1_001))).rejects.toMatchObject({
      kind: 'SchemaViolation',
      code: 'MESSAGE_TOO_LARGE',
    });
    expect(await call(near, 'echo', new Uint8Array(900))).toHaveLength(900);
  });

  test('only methods that the far side offers can be called', async () => {
    const { near } = connect(echo);
    for (const method of ['constructor', 'toString', '__proto__', 'hasOwnProperty']) {
      await expect(call(near, method)).rejects.toMatchObject({ kind: 'PluginContract' });
    }
  });
});

describe('errors', () => {
  test('of the family are of the family, with all that they carry', async () => {
    const cause = new TypeError('beneath');
    const { near } = connect({
      fail: () => {
        throw new RecoverableError('Throttled', 'slow down', {
          code: 'BACKLOG_FULL',
          retry: { kind: 'after', delayMs: 7 },
          context: { pending: 3, of: { deep: [1] } },
          cause: new FatalError('Internal', 'middle', { cause }),
        });
      },
    });
    const error = await call(near, 'fail').catch((e: unknown) => e);
    expect(error).toBeInstanceOf(RecoverableError);
    expect(isCoreError(error)).toBe(true);
    expect(error).toMatchObject({
      message: 'slow down',
      kind: 'Throttled',
      severity: 'recoverable',
      code: 'BACKLOG_FULL',
      retry: { kind: 'after', delayMs: 7 },
      context: { pending: 3, of: { deep: [1] } },
      cause: { kind: 'Internal', message: 'middle', cause: { name: 'TypeError', message: 'beneath' } },
    });
    expect((error as Error).stack).toContain('isolation-peer.test');
  });

  test('of other kinds keep their name, code and data; several are told together', async () => {
    const { near } = connect({
      system: () => {
        throw Object.assign(new RangeError('no'), { code: 'ENOENT', errno: -2, helper: () => 1 });
      },
      many: () => {
        throw new AggregateError([new Error('a'), new SyntaxError('b')], 'both');
      },
    });
    const system = await call(near, 'system').catch((e: unknown) => e);
    expect(system).toBeInstanceOf(RangeError);
    expect(system).toMatchObject({ message: 'no', code: 'ENOENT', errno: -2 });
    const many = await call(near, 'many').catch((e: unknown) => e);
    expect(many).toBeInstanceOf(AggregateError);
    expect(many).toMatchObject({ message: 'both', errors: [{ message: 'a' }, { name: 'SyntaxError', message: 'b' }] });
  });

  test('one that comes home is itself', async () => {
    const mine = new Error('of the source');
    const { near } = connect({
      read: async (source: AsyncIterable<unknown>) => {
        for await (const _ of source);
      },
    });
    // biome-ignore lint/correctness/useYield: it fails before it has anything to give
    async function* failing() {
      throw mine;
    }
    expect(await call(near, 'read', failing()).catch((e: unknown) => e)).toBe(mine);
  });
});

describe('streams and iterables', () => {
  test('are read one at a time, and no further than they are asked for', async () => {
    let asked = 0;
    async function* numbers() {
      for (;;) yield ++asked;
    }
    const { near } = connect({ numbers: () => numbers() });
    const iterable = (await call(near, 'numbers')) as AsyncIterable<number>;
    const iterator = iterable[Symbol.asyncIterator]();
    expect(asked).toBe(0);
    expect([await iterator.next(), await iterator.next()]).toEqual([
      { done: false, value: 1 },
      { done: false, value: 2 },
    ]);
    expect(asked).toBe(2);
  });

  test('end on the far side when their reader stops, in both directions', async () => {
    const ended: string[] = [];
    async function* source(name: string) {
      try {
        for (let i = 0; ; i++) yield i;
      } finally {
        ended.push(name);
      }
    }
    const { near } = connect({
      give: () => source('far'),
      take: async (from: AsyncIterable<number>) => {
        for await (const n of from) if (n === 2) return n;
        return null;
      },
    });
    for await (const n of (await call(near, 'give')) as AsyncIterable<number>) if (n === 3) break;
    expect(await call(near, 'take', source('near'))).toBe(2);
    expect(ended).toEqual(['far', 'near']);
  });

  test('a stream keeps its bytes, its back-pressure, its end and its error', async () => {
    let pulled = 0;
    let cancelled: unknown;
    const { near } = connect({
      three: () =>
        new ReadableStream({
          pull(controller) {
            if (++pulled > 3) return controller.close();
            controller.enqueue(new Uint8Array(3 * 1024 * 1024).fill(pulled));
          },
        }),
      endless: () =>
        new ReadableStream({
          pull: (controller) => controller.enqueue(Uint8Array.of(1)),
          cancel: (reason) => {
            cancelled = reason;
          },
        }),
      broken: () =>
        new ReadableStream({
          pull: () => Promise.reject(new FatalError('Internal', 'torn', { code: 'OBJECT_CORRUPT' })),
        }),
    });
    const stream = (await call(near, 'three')) as ReadableStream<Uint8Array>;
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(pulled).toBeLessThan(4);
    const chunks: Uint8Array[] = [];
    for await (const chunk of stream) chunks.push(chunk);
    // Each chunk came in parts: no message is as large as it.
    expect(Math.max(...chunks.map(({ byteLength }) => byteLength))).toBe(1024 * 1024);
    expect(Buffer.concat(chunks).equals(Buffer.concat([1, 2, 3].map((n) => Buffer.alloc(3 * 1024 * 1024, n))))).toBe(
      true,
    );

    const endless = (await call(near, 'endless')) as ReadableStream<Uint8Array>;
    const reader = endless.getReader();
    await reader.read();
    await reader.cancel('enough');
    expect(cancelled).toBe('enough');

    const broken = (await call(near, 'broken')) as ReadableStream<Uint8Array>;
    await expect(broken.getReader().read()).rejects.toMatchObject({ code: 'OBJECT_CORRUPT' });
  });
});

describe('what may be read ahead goes in batches', () => {
  /** A far side that lends `source`, with the calls that reach it. */
  async function lending(source: () => AsyncIterable<unknown>) {
    const calls: string[] = [];
    const { near, far } = connect({ store: () => new Lend({ list: source }, [], {}, ['list']) });
    const receive = far.receive.bind(far);
    far.receive = (message) => {
      const [kind, , , method] = message as unknown[];
      if (kind === 'call') calls.push(String(method));
      receive(message);
    };
    const store = (await call(near, 'store')) as { list(): Promise<AsyncIterable<unknown>> };
    return { items: await store.list(), calls: () => calls.filter((method) => method === 'next').length, near };
  }
  const counting = (made: { n: number; ended?: number }, item: (n: number) => unknown = (n) => n, max = Infinity) =>
    async function* () {
      try {
        while (made.n < max) yield item(++made.n);
      } finally {
        made.ended = made.n;
      }
    };
  const settled = () => new Promise((resolve) => setTimeout(resolve, 20));

  test('in order, in a few messages, and to the end', async () => {
    const { items, calls } = await lending(counting({ n: 0 }, (n) => n, 1_000));
    const found: unknown[] = [];
    for await (const each of items) found.push(each);
    expect(found).toEqual(Array.from({ length: 1_000 }, (_, i) => i + 1));
    // 1, 2, 4 … 128, then 256 at a time; the end comes with the last of them.
    expect(calls()).toBe(11);
  });

  test('no further ahead than the reader has granted, however slow it is', async () => {
    const made = { n: 0 };
    const { items } = await lending(counting(made));
    const reader = items[Symbol.asyncIterator]();
    let furthest = 0;
    for (let read = 1; read <= 1_100; read++) {
      await reader.next();
      if (read === 1) await settled();
      if (read === 1) expect(made.n).toBe(1);
      furthest = Math.max(furthest, made.n - read);
    }
    await settled();
    expect(furthest).toBe(255);
    expect(made.n).toBeLessThanOrEqual(1_100 + 255);
    await reader.return?.();
  });

  test('no more bytes at a time than there is room for, but always one item', async () => {
    const made = { n: 0 };
    const { items } = await lending(counting(made, () => new Uint8Array(400 * 1024)));
    const reader = items[Symbol.asyncIterator]();
    for (let read = 0; read < 8; read++) await reader.next();
    // 1 + 2 + 3 (as the third reaches the mebibyte) + 3.
    expect(made.n).toBe(9);
    await reader.return?.();
    const large = await lending(counting({ n: 0 }, () => new Uint8Array(3 * 1024 * 1024), 2));
    const sizes: number[] = [];
    for await (const each of large.items) sizes.push((each as Uint8Array).byteLength);
    expect(sizes).toEqual([3 * 1024 * 1024, 3 * 1024 * 1024]);
  });

  test('what is there does not wait for what is late', async () => {
    let open = () => {};
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    const { items } = await lending(async function* () {
      yield* [1, 2, 3, 4, 5];
      await gate;
      yield 6;
    });
    const reader = items[Symbol.asyncIterator]();
    for (let n = 1; n <= 5; n++) expect(await reader.next()).toEqual({ done: false, value: n });
    const sixth = reader.next();
    await settled();
    open();
    expect(await sixth).toEqual({ done: false, value: 6 });
    expect(await reader.next()).toEqual({ done: true, value: undefined });
  });

  test('an error comes after the items before it, and once', async () => {
    const { items } = await lending(async function* () {
      yield* [1, 2, 3, 4, 5];
      throw new FatalError('Internal', 'torn', { code: 'OBJECT_CORRUPT' });
    });
    const reader = items[Symbol.asyncIterator]();
    for (let n = 1; n <= 5; n++) expect(await reader.next()).toEqual({ done: false, value: n });
    await expect(reader.next()).rejects.toMatchObject({ code: 'OBJECT_CORRUPT' });
    expect(await reader.next()).toEqual({ done: true, value: undefined });
  });

  test('so does what cannot be sent, which ends the source', async () => {
    const made: { n: number; ended?: number } = { n: 0 };
    const { items } = await lending(counting(made, (n) => (n === 3 ? Symbol('x') : n)));
    const reader = items[Symbol.asyncIterator]();
    for (let n = 1; n <= 2; n++) expect(await reader.next()).toEqual({ done: false, value: n });
    await expect(reader.next()).rejects.toMatchObject({ code: 'VALUE_UNSENDABLE' });
    await settled();
    expect(made.ended).toBe(3);
  });

  test('a reader that stops ends the source, and is given nothing that was on its way', async () => {
    const made: { n: number; ended?: number } = { n: 0 };
    const { items } = await lending(counting(made));
    const found: unknown[] = [];
    for await (const each of items) if (found.push(each) === 5) break;
    expect(found).toEqual([1, 2, 3, 4, 5]);
    expect(made.ended).toBe(7);
    expect(await items[Symbol.asyncIterator]().next()).toEqual({ done: true, value: undefined });
  });

  test('one that is given up while it makes an item is asked for no other', async () => {
    const asked: string[] = [];
    let open = () => {};
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    // Not a generator, which would end by itself.
    const { items } = await lending(() => ({
      [Symbol.asyncIterator]: () => ({
        async next() {
          asked.push('next');
          if (asked.length === 2) await gate;
          return { done: false, value: asked.length };
        },
        async return() {
          asked.push('return');
          return { done: true as const, value: undefined };
        },
      }),
    }));
    const reader = items[Symbol.asyncIterator]();
    await reader.next();
    const second = reader.next();
    await settled();
    await reader.return?.();
    open();
    expect(await second).toEqual({ done: true, value: undefined });
    expect(asked).toEqual(['next', 'next', 'return']);
  });

  test('items that are asked for at once come in order', async () => {
    const { items } = await lending(counting({ n: 0 }, (n) => n, 6));
    const reader = items[Symbol.asyncIterator]();
    const all = await Promise.all(Array.from({ length: 8 }, () => reader.next()));
    expect(all.map(({ value, done }) => (done ? null : value))).toEqual([1, 2, 3, 4, 5, 6, null, null]);
  });

  test('the end of the connection is told after what had come', async () => {
    const { items, near } = await lending(counting({ n: 0 }));
    const reader = items[Symbol.asyncIterator]();
    // 1, then 2 and 3, then 4 to 7.
    for (let n = 1; n <= 4; n++) await reader.next();
    near.close(DISCONNECTED);
    for (let n = 5; n <= 7; n++) expect(await reader.next()).toEqual({ done: false, value: n });
    await expect(reader.next()).rejects.toBe(DISCONNECTED);
  });

  test('small chunks of a stream, too, two batches at the most', async () => {
    let made = 0;
    let messages = 0;
    const { near, far } = connect({
      chunks: (max: number) =>
        new ReadableStream(
          { pull: (c) => (made++ < max ? c.enqueue(new Uint8Array(100).fill(made)) : c.close()) },
          { highWaterMark: 0 },
        ),
    });
    const receive = far.receive.bind(far);
    far.receive = (message) => {
      messages += 1;
      receive(message);
    };
    const all: number[] = [];
    for await (const chunk of (await call(near, 'chunks', 1_000)) as ReadableStream<Uint8Array>) {
      all.push(chunk[0] as number);
    }
    expect(all).toEqual(Array.from({ length: 1_000 }, (_, i) => (i + 1) % 256));
    expect(messages).toBeLessThan(20);

    made = 0;
    const endless = ((await call(near, 'chunks', Infinity)) as ReadableStream<Uint8Array>).getReader();
    for (let read = 1; read <= 600; read++) await endless.read();
    await settled();
    expect(made).toBeLessThanOrEqual(600 + 2 * 256);
    await endless.cancel();
  });
});

test('a stream that nobody reads is asked for nothing, and goes home as it came', async () => {
  let asked = 0;
  const source = new ReadableStream({ pull: (controller) => controller.enqueue(++asked) }, { highWaterMark: 0 });
  const { near } = connect(echo);
  expect(await call(near, 'echo', source)).toBe(source);
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(asked).toBe(0);
  expect(source.locked).toBe(false);
});

test('who gives a stream up after its last chunk is not told of an error', async () => {
  const { near } = connect({ one: () => new Blob(['one']).stream() });
  for (const waitMs of [0, 20]) {
    const reader = ((await call(near, 'one')) as ReadableStream<Uint8Array>).getReader();
    expect(`${Buffer.from((await reader.read()).value as Uint8Array)}`).toBe('one');
    await new Promise((resolve) => setTimeout(resolve, waitMs));
    await reader.cancel();
  }
});

test('an iterable without a class is one, too', async () => {
  const items = (...all: number[]) => ({
    [Symbol.asyncIterator]: async function* () {
      yield* all;
    },
  });
  const { near } = connect({
    give: () => items(1, 2),
    take: async (from: AsyncIterable<number>) => {
      const all: number[] = [];
      for await (const each of from) all.push(each);
      return all;
    },
  });
  const given: number[] = [];
  for await (const each of (await call(near, 'give')) as AsyncIterable<number>) given.push(each);
  expect(given).toEqual([1, 2]);
  expect(await call(near, 'take', items(3, 4))).toEqual([3, 4]);
});

test('what the far side has no more is let go of: read to its end, given up, or forgotten', async () => {
  const ended: number[] = [];
  async function* source(n: number) {
    try {
      yield n;
      yield n;
    } finally {
      ended.push(n);
    }
  }
  const { near, far } = connect({ source, object: () => ({ use: () => 1 }) });
  const open = async (n: number) => (await call(near, 'source', n)) as AsyncIterableIterator<number>;
  for await (const _ of await open(1));
  for await (const _ of await open(2)) break;
  expect(far.lent).toBe(1);
  await (async () => {
    await (await open(3)).next();
    for (let i = 0; i < 100; i++) await call(near, 'object');
  })();
  expect(far.lent).toBe(102);
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc') as () => void;
  for (let i = 0; i < 100 && far.lent > 1; i++) {
    gc();
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  expect(far.lent).toBe(1);
  expect(ended).toEqual([1, 2, 3]);
});

describe('signals', () => {
  const waiting = {
    wait: (options: { signal: AbortSignal }) =>
      new Promise((_, reject) => {
        options.signal.addEventListener('abort', () => reject(options.signal.reason));
      }),
  };

  test('an abort reaches the call, and its reason comes back as itself', async () => {
    const { near } = connect(waiting);
    for (const reason of [new Error('stop it'), undefined, 'in words']) {
      const controller = new AbortController();
      const waited = call(near, 'wait', { signal: controller.signal }).catch((e: unknown) => e);
      setTimeout(() => controller.abort(reason), 10);
      expect(await waited).toBe(controller.signal.reason);
    }
  });

  test('one aborted before the call is aborted there', async () => {
    const { near } = connect({ is: ({ signal }: { signal: AbortSignal }) => [signal.aborted, signal.reason] });
    expect(await call(near, 'is', { signal: AbortSignal.abort('early') })).toEqual([true, 'early']);
  });

  test('a signal is followed for as long as what came of the call is read, and no longer', async () => {
    const { near } = connect({
      async *watch({ signal }: { signal: AbortSignal }) {
        for (let i = 0; !signal.aborted; i++) yield i;
      },
    });
    const controller = new AbortController();
    let listeners = 0;
    const { addEventListener, removeEventListener } = controller.signal;
    controller.signal.addEventListener = (...args: unknown[]) => {
      listeners += 1;
      Reflect.apply(addEventListener, controller.signal, args);
    };
    controller.signal.removeEventListener = (...args: unknown[]) => {
      listeners -= 1;
      Reflect.apply(removeEventListener, controller.signal, args);
    };
    const iterable = (await call(near, 'watch', { signal: controller.signal })) as AsyncIterable<number>;
    expect(listeners).toBe(1);
    const seen: number[] = [];
    for await (const n of iterable) {
      seen.push(n);
      if (n === 1) controller.abort();
    }
    expect(seen.length).toBeGreaterThanOrEqual(2);
    expect(seen.length).toBeLessThan(10);
    expect(listeners).toBe(0);
  });

  test('a far side that does not answer an abort does not keep the caller', async () => {
    const { near } = connect({ deaf: () => new Promise(() => {}) }, { abortAnswerMs: 20 });
    const controller = new AbortController();
    const waited = call(near, 'deaf', controller.signal).catch((e: unknown) => e);
    controller.abort('now');
    expect(await waited).toBe('now');
    expect(near.pending).toBe(0);
  });
});

describe('the end of a connection', () => {
  test('rejects what is under way and what comes after, with its reason', async () => {
    const { near } = connect({ never: () => new Promise(() => {}) });
    const waiting = call(near, 'never');
    near.close(DISCONNECTED);
    await expect(waiting).rejects.toBe(DISCONNECTED);
    await expect(call(near, 'never')).rejects.toBe(DISCONNECTED);
    expect(near.pending).toBe(0);
  });

  test('ends the sources that were lent, disposes what was made for the far side alone, and aborts its signals', async () => {
    const events: string[] = [];
    let signalled: AbortSignal | undefined;
    const service = {
      lock: () => ({ [Symbol.asyncDispose]: async () => void events.push('lock disposed') }),
      close: async () => void events.push('service closed'),
      [Symbol.asyncDispose]: async () => void events.push('service disposed'),
    };
    async function* source() {
      try {
        for (;;) yield 1;
      } finally {
        events.push('source ended');
      }
    }
    const { near, far } = connect({
      get: () => service,
      source: () => source(),
      hold: (options: { signal: AbortSignal }) => {
        signalled = options.signal;
        return new Promise(() => {});
      },
    });
    const got = (await call(near, 'get')) as typeof service;
    await got.lock();
    const iterator = ((await call(near, 'source')) as AsyncIterable<number>)[Symbol.asyncIterator]();
    await iterator.next();
    call(near, 'hold', { signal: new AbortController().signal }).catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 10));
    far.close(DISCONNECTED);
    await new Promise((resolve) => setTimeout(resolve, 10));
    expect(events.sort()).toEqual(['lock disposed', 'source ended']);
    expect(signalled?.reason).toBe(DISCONNECTED);
  });

  test('silence while a call is under way is noticed; work that takes long is not silence', async () => {
    let silent = 0;
    const options = { answerMs: 60, onSilence: () => (silent += 1) };
    const { near } = connect({ slow: () => new Promise((resolve) => setTimeout(resolve, 200, 'done')) }, options);
    expect(await call(near, 'slow')).toBe('done');
    expect(silent).toBe(0);

    const alone = new Peer({ send: () => {} }, {}, options);
    pairs.push(alone);
    alone.call(ROOT, 'anything', []).catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(silent).toBeGreaterThan(0);
  });

  test('calls that the channel does not take up are refused, not kept without bound', async () => {
    const taken: (() => void)[] = [];
    const near = new Peer({ send: (_, sent) => void (sent !== undefined && taken.push(sent)) }, {});
    pairs.push(near);
    const bytes = new Uint8Array(130 * 1024 * 1024);
    const calls = [near.call(ROOT, 'echo', [bytes]), near.call(ROOT, 'echo', [bytes])];
    for (const each of calls) each.catch(() => {});
    await expect(near.call(ROOT, 'echo', ['x'])).rejects.toMatchObject({ kind: 'Throttled', code: 'PLUGIN_BUSY' });
    taken.shift()?.();
    near.call(ROOT, 'echo', ['x']).catch(() => {});
    expect(near.pending).toBe(3);
  });

  test('being busy is told once each way', async () => {
    const told: boolean[] = [];
    const { near } = connect(echo, { onBusy: (isBusy) => void told.push(isBusy) });
    await Promise.all([call(near, 'echo', 1), call(near, 'echo', 2)]);
    await near.whenIdle();
    expect(told).toEqual([true, false]);
  });
});
