import { describe, expect, test } from '@jest/globals';
import {
  type Capability,
  capability,
  checked,
  FatalError,
  iterable,
  Queue,
  Storage,
  synchronous,
} from '../../src/contracts/index.js';

interface Box {
  get(name: string): Promise<string>;
  list(): AsyncIterable<string>;
  begin(): string;
}

const Box = capability<Box>('Box', {
  major: 2,
  door: (impl, adapter) => ({
    get: async (name) => {
      if (name === 'later') adapter.need('later', 'later names');
      return impl.get(name.trim());
    },
    list: iterable(() => {
      adapter.need('list', 'lists');
      return impl.list();
    }),
    begin: synchronous(() => impl.begin()),
  }),
});

/** Keeps its state where only its own methods get at it. */
class PrivateBox implements Box {
  readonly #text = 'private';
  label = 'box';
  closed = 0;

  get size(): number {
    return this.#text.length;
  }

  async get(name: string): Promise<string> {
    return `${name} ${this.#text}`;
  }

  async *list(): AsyncIterable<string> {
    yield this.#text;
  }

  begin(): string {
    return this.#text;
  }

  /** Beyond the contract. */
  extra(): string {
    return this.#text;
  }
}

class ClosableBox extends PrivateBox {
  async close(): Promise<void> {
    this.closed += 1;
  }
}

const TRAITS = { adapter: 'test.box', features: ['list', 'later'] };
const CLOSED = { severity: 'fatal', kind: 'Internal', code: 'CLOSED' };

describe('a capability token', () => {
  test('is keyed by name and major, the same in every copy of the package', () => {
    expect(Box).toMatchObject({ name: 'Box', major: 2, id: 'Box@2' });
    expect(Box.key).toBe(Symbol.for('rollout-cloud/Box@2'));
    expect(Queue.key).toBe(Symbol.for('rollout-cloud/Queue@1'));
    expect(capability('Queue', { major: 1 }).key).toBe(Queue.key);
    expect(capability('Queue', { major: 2 }).key).not.toBe(Queue.key);
    expect(Object.isFrozen(Box)).toBe(true);
  });

  test.each([
    [[undefined, { major: 1 }], 'name must be'],
    [['', { major: 1 }], 'name must be'],
    [['Foo'], 'options.major must be an integer of at least 0, found undefined'],
    [['Foo', { major: '1' }], 'options.major must be'],
    [['Foo', { major: 1, doer: () => ({}) }], 'Did you mean "door"?'],
    [['Foo', { major: 1, door: {} }], 'options.door must be a function'],
  ])('that is none is refused: %j', (args, message) => {
    const refused = { code: 'ARGUMENT_INVALID', message: expect.stringContaining(message) };
    expect(() => capability(...(args as Parameters<typeof capability>))).toThrow(expect.objectContaining(refused));
  });

  test('needs no door: then every method passes through', async () => {
    const Bare: Capability<Box> = capability<Box>('Bare', { major: 1 });
    const box = checked(Bare, new PrivateBox(), TRAITS);
    expect(await box.get(' a ')).toBe(' a  private');
  });
});

describe('checked', () => {
  test('puts the door before the implementation, which reaches its private fields', async () => {
    const box = checked(Box, new PrivateBox(), TRAITS);
    expect(await box.get('  a ')).toBe('a private');
    expect(box.begin()).toBe('private');
    for await (const text of box.list()) expect(text).toBe('private');
  });

  test('methods and properties beyond the contract pass through', () => {
    const impl = new PrivateBox();
    const box = checked(Box, impl, TRAITS);
    expect(box.extra()).toBe('private');
    expect(box.extra).toBe(box.extra);
    expect(box.size).toBe(7);
    box.label = 'changed';
    expect(impl.label).toBe('changed');
    expect('label' in box && 'get' in box && 'extra' in box).toBe(true);
    expect('nothing' in box).toBe(false);
  });

  test('a method that is replaced is not called any more; one of the contract is replaced behind the door', async () => {
    const box = checked(Box, new PrivateBox(), TRAITS);
    expect(box.extra()).toBe('private');
    box.extra = () => 'replaced';
    expect(box.extra()).toBe('replaced');
    box.get = async (name) => `replaced ${name}`;
    expect(await box.get(' a ')).toBe('replaced a');
  });

  test('without traits names the class in messages, and refuses no feature', async () => {
    expect(await checked(Box, new PrivateBox()).get('later')).toBe('later private');
    const { get: _get, ...lacking } = new PrivateBox();
    expect(() => checked(Box, lacking as unknown as Box)).toThrow('adapter Object has no get()');
  });

  test('is still an instanceof the implementation’s class', () => {
    const box = checked(Box, new ClosableBox(), TRAITS);
    expect(box).toBeInstanceOf(ClosableBox);
    expect(box).toBeInstanceOf(PrivateBox);
    expect(box.constructor).toBe(ClosableBox);
  });

  test('done twice is done once, whoever does it', () => {
    const box = checked(Box, new PrivateBox(), TRAITS);
    expect(checked(Box, box, { adapter: 'other' })).toBe(box);
  });

  test('what is derived from a checked one is not checked itself, and changes nothing of it', async () => {
    const inner = checked(Box, new PrivateBox(), TRAITS);
    const derived = Object.create(inner) as Box;
    derived.get = async (name) => `outer ${await inner.get(name)}`;
    const outer = checked(Box, derived, TRAITS);
    expect(outer).not.toBe(derived);
    expect(await outer.get(' a ')).toBe('outer a private');
    expect(await inner.get(' a ')).toBe('a private');
    const wrapped = new Proxy(inner, {});
    expect(checked(Box, wrapped, TRAITS)).not.toBe(wrapped);
  });

  test('an implementation of two contracts gets both doors', async () => {
    const Shout = capability<Pick<Box, 'begin'>>('Shout', {
      major: 1,
      door: (impl) => ({ begin: synchronous(() => impl.begin().toUpperCase()) }),
    });
    const box = checked(Shout, checked(Box, new PrivateBox(), TRAITS), TRAITS);
    expect(box.begin()).toBe('PRIVATE');
    expect(await box.get(' a ')).toBe('a private');
  });

  test('works on frozen objects and plain ones', async () => {
    const frozen = Object.freeze({
      get: async (name: string) => name,
      list: async function* () {},
      begin: () => 'begun',
    });
    const box = checked(Box, frozen, TRAITS);
    expect(await box.get(' a ')).toBe('a');
    expect(box.begin()).toBe('begun');
    expect(await checked(Box, { ...frozen }, TRAITS).get(' b ')).toBe('b');
  });

  test('is no thenable, so it may be awaited', async () => {
    const box = checked(Box, new PrivateBox(), TRAITS);
    expect(await box).toBe(box);
  });

  test('an implementation that lacks a method is PluginContract, and the method is named', () => {
    const lacking = { get: async () => '', begin: () => '' };
    expect(() => checked(Box, lacking as never, TRAITS)).toThrow(
      expect.objectContaining({
        severity: 'fatal',
        kind: 'PluginContract',
        message: 'adapter test.box has no list(), which Box@2 asks for',
        context: { adapter: 'test.box', capability: 'Box@2', method: 'list' },
      }),
    );
  });
});

describe('an undeclared feature', () => {
  const box = checked(Box, new PrivateBox(), { adapter: 'test.box' });
  const unsupported = (feature: string, asked: string) => ({
    severity: 'fatal',
    kind: 'ConfigInvalid',
    code: 'FEATURE_UNSUPPORTED',
    message: `adapter test.box does not support ${asked} (feature "${feature}"); bind an adapter of Box that declares it`,
    context: { adapter: 'test.box', feature, capability: 'Box@2' },
  });

  test('rejects the call that needs it, and no other', async () => {
    await expect(box.get('later')).rejects.toMatchObject(unsupported('later', 'later names'));
    expect(await box.get('now')).toBe('now private');
  });

  test('of an iterable arrives where items are awaited', async () => {
    const items = box.list()[Symbol.asyncIterator]();
    await expect(items.next()).rejects.toMatchObject(unsupported('list', 'lists'));
  });

  test('that is declared passes', async () => {
    expect(await checked(Box, new PrivateBox(), TRAITS).get('later')).toBe('later private');
  });
});

describe('close', () => {
  test('is done once: a second call, and asyncDispose, answer the first one’s promise', async () => {
    const impl = new ClosableBox();
    const box = checked(Box, impl, TRAITS);
    const closing = box.close();
    expect(box.close()).toBe(closing);
    expect((box as ClosableBox & AsyncDisposable)[Symbol.asyncDispose]()).toBe(closing);
    await closing;
    await box.close();
    expect(impl.closed).toBe(1);
  });

  test('any contract call after it is FatalError Internal, code CLOSED, from the moment of the call', async () => {
    const box = checked(Box, new ClosableBox(), TRAITS);
    const closing = box.close();
    await expect(box.get('a')).rejects.toMatchObject({
      ...CLOSED,
      message: 'Box (adapter test.box) was used after close()',
      context: { capability: 'Box@2', adapter: 'test.box' },
    });
    await closing;
    await expect(box.get('a')).rejects.toMatchObject(CLOSED);
    expect(box.extra()).toBe('private');
  });

  test('after it an iterable fails at its first item, and a synchronous method throws', async () => {
    const box = checked(Box, new ClosableBox(), TRAITS);
    await box.close();
    const read = async () => {
      for await (const _ of box.list());
    };
    await expect(read()).rejects.toMatchObject(CLOSED);
    expect(() => box.begin()).toThrow(expect.objectContaining(CLOSED));
  });

  test('the first close’s failure is every close’s failure, also when it is thrown', async () => {
    const box = checked(
      Box,
      Object.assign(new PrivateBox(), {
        close: (): Promise<void> => {
          throw new FatalError('Internal', 'stuck');
        },
      }),
      TRAITS,
    );
    await expect(box.close()).rejects.toMatchObject({ message: 'stuck' });
    await expect(box.close()).rejects.toMatchObject({ message: 'stuck' });
    await expect(box.get('a')).rejects.toMatchObject(CLOSED);
  });

  test('is as well what an implementation has as asyncDispose alone', async () => {
    let ended = 0;
    const disposable = Object.assign(new PrivateBox(), {
      [Symbol.asyncDispose]: async () => {
        ended += 1;
      },
    });
    const box = checked(Box, disposable, TRAITS);
    expect('close' in box).toBe(false);
    await Promise.all([box[Symbol.asyncDispose](), box[Symbol.asyncDispose]()]);
    expect(ended).toBe(1);
    await expect(box.get('a')).rejects.toMatchObject({ code: 'CLOSED' });
  });

  test('is not made up where the implementation has none', () => {
    const box = checked(Box, new PrivateBox(), TRAITS);
    expect('close' in box).toBe(false);
    expect(Symbol.asyncDispose in box).toBe(false);
  });

  test('covers scan, watch and begin of Storage', async () => {
    const methods = ['get', 'getMany', 'scan', 'begin', 'watch', 'lock', 'ping'];
    const impl = Object.fromEntries(methods.map((name) => [name, () => undefined])) as unknown as Storage;
    const storage = checked(Storage, Object.assign(impl, { close: async () => {} }), { adapter: 'test.storage' });
    await storage.close();
    const prefix = { namespace: 'n', path: [] };
    for (const iterated of [storage.scan({ prefix }), storage.watch(prefix)]) {
      await expect(iterated[Symbol.asyncIterator]().next()).rejects.toMatchObject(CLOSED);
    }
    expect(() => storage.begin()).toThrow(expect.objectContaining(CLOSED));
    await expect(storage.ping()).rejects.toMatchObject(CLOSED);
  });
});
