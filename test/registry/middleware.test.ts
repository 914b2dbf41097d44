/** Middleware around instances: what is loaded when, in which order it stands, what it is given, how it ends. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { capability, Queue, SecretStore, Storage } from '../../src/contracts/index.js';
import { Workspace } from '../support/workspace.js';

let space: Workspace;
beforeEach(() => {
  space = new Workspace();
});
afterEach(() => space[Symbol.asyncDispose]());

const LAYERS = ['outer', 'middle', 'inner'];

/** A plugin with middleware of these ids for any capability, each of which logs the calls that it sees. */
function layers(code = '', ids = LAYERS): string {
  const middleware = ids.map((id) => ({ id, wraps: ['*'], config: { properties: { tag: { default: 'none' } } } }));
  return space.plugin({
    id: 'acme.layers',
    adapters: [],
    manifest: { contributes: { middleware } },
    code: `log('layers imported');
      const note = (id) => (inner, ctx) => {
        log([id, ctx.id, ctx.adapter, ctx.capability, ctx.name, ctx.config.tag].join(' '));
        ctx.own(id, () => log(id + ' owned'));
        return contracts.decorate(ctx.capability, inner, {
          async call(call, proceed) { log(id + ' ' + call.method); return proceed(); },
        });
      };
      const middleware = Object.fromEntries(${JSON.stringify(ids)}.map((id) => [id, note(id)]));
      ${code}
      export default definePlugin({ middleware });`,
  });
}

/** A SecretStore that logs its calls and its end, with an extra method. */
function vault(): string {
  return space.plugin({
    id: 'acme.vault',
    adapters: [{ id: 'acme.vault', provides: 'SecretStore@1' }],
    code: `class Vault {
        get = async (name) => { log('vault get'); return new SecretValue(name); };
        put = async () => {};
        names = async () => [];
        extra = () => 'extra of ' + this.constructor.name;
        async close() { log('vault close'); }
      }
      export default definePlugin({ adapters: { 'acme.vault': () => new Vault() } });`,
  });
}

const bound = (middleware: unknown[]) => ({ SecretStore: { adapter: 'acme.vault', middleware } });

describe('middleware', () => {
  test('stands outermost first, is given what it is put around, and is imported by the first demand', async () => {
    const config = {
      plugins: [layers(), vault()],
      bindings: bound(['outer', { use: 'middle', config: { tag: 'x' } }, 'inner']),
    };
    const host = await space.host(config);
    expect(space.imported).toEqual([]);
    await (await host.get(SecretStore)).get('a');
    expect(space.log).toEqual([
      'layers imported',
      'inner inner acme.vault SecretStore@1 default none',
      'middle middle acme.vault SecretStore@1 default x',
      'outer outer acme.vault SecretStore@1 default none',
      ...LAYERS.map((id) => `${id} get`),
      'vault get',
    ]);
  });

  test('is not imported for an instance without any', async () => {
    const host = await space.host({ plugins: [layers(), vault()], bindings: bound([]) });
    await host.get(SecretStore);
    expect(space.log).toEqual([]);
  });

  test('that is built in needs no listing, and is imported when it is needed', async () => {
    const host = await space.host({
      bindings: {
        Storage: { adapter: 'local.memory', middleware: ['timeout', 'retry'] },
        SecretStore: { adapter: 'local.env' },
      },
    });
    await host.get(SecretStore);
    const ofMiddleware = () => space.imported.filter((url) => url.includes('/adapters/middleware/'));
    expect(ofMiddleware()).toEqual([]);
    await (await host.get(Storage)).ping();
    expect(ofMiddleware()).toEqual([expect.stringMatching(/\/adapters\/middleware\/index\.js$/)]);
  });

  test('leaves the instance what it is, behind its contract’s checks', async () => {
    const host = await space.host({ plugins: [layers(), vault()], bindings: bound(['outer']) });
    const store = await host.get(SecretStore);
    expect((store as never as { extra(): string }).extra()).toBe('extra of Vault');
    expect(store.constructor.name).toBe('Vault');
    space.log.length = 0;
    await expect(store.get('')).rejects.toMatchObject({ code: 'ARGUMENT_INVALID' });
    expect(space.log).toEqual([]);
  });

  test('is let go of before the instance, from the outside in; what is closed by several is closed once', async () => {
    const host = await space.host({ plugins: [layers(), vault()], bindings: bound(LAYERS) });
    const store = await host.get(SecretStore);
    space.log.length = 0;
    await (store as never as { close(): Promise<void> }).close();
    expect(space.log).toEqual(['vault close']);
    expect(await host.stop()).toMatchObject({ errors: [] });
    expect(space.log).toEqual(['vault close', ...LAYERS.map((id) => `${id} owned`)]);
    await expect(store.get('a')).rejects.toMatchObject({ code: 'CLOSED' });
  });

  test('that keeps close to itself does not keep the instance from being closed, and is closed once itself', async () => {
    const code = `middleware.outer = (inner) => ({ get: (n) => inner.get(n), put: inner.put, names: inner.names,
      close: async () => log('outer close') });`;
    const host = await space.host({ plugins: [layers(code), vault()], bindings: bound(['inner', 'outer', 'middle']) });
    await host.get(SecretStore);
    space.log.length = 0;
    await host.stop();
    expect(space.log).toEqual(['inner owned', 'outer close', 'middle owned', 'vault close']);
  });

  test('declares what the adapter declares: the queue keeps its features, streams, iterables, synchronous methods', async () => {
    const host = await space.host({
      plugins: ['rollout.cloud-local', layers()],
      bindings: {
        Storage: { adapter: 'local.memory', middleware: ['inner'] },
        Queue: { adapter: 'local.in-mem', middleware: ['outer'] },
      },
    });
    const queue = await host.get(Queue);
    await queue.enqueue(Buffer.from('x'), { delayMs: 1 });
    const storage = await host.get(Storage);
    expect(storage.durability).toBe('off');
    expect(space.log).toEqual(expect.arrayContaining(['outer enqueue', 'inner commit', 'inner lock']));
  });

  test('may ask for what its manifest requires, and for nothing else', async () => {
    const use = space.plugin({
      id: 'acme.asking',
      adapters: [],
      manifest: { contributes: { middleware: [{ id: 'asking', wraps: ['SecretStore@1'], requires: ['Storage'] }] } },
      code: `export default definePlugin({ middleware: { asking: async (inner, { get }) => {
        log((await get(Storage)).durability);
        await get(Queue).catch(({ code }) => log(code));
        return inner;
      } } });`,
    });
    const Memory = { Storage: { adapter: 'local.memory' } };
    const host = await space.host({
      plugins: ['rollout.cloud-local', use, vault()],
      bindings: { ...bound(['asking']), ...Memory },
    });
    await host.get(SecretStore);
    expect(space.log).toEqual(['off', 'RC1304']);
  });

  test.each([
    [
      'throws',
      `middleware.outer = () => { throw new Error('no luck'); };`,
      'RC1303',
      'middleware outer of SecretStore#default (adapter acme.vault) failed: no luck',
    ],
    ['answers nothing', `middleware.outer = () => {};`, 'RC1303', 'answered undefined, not an object'],
    [
      'is not in the module',
      `delete middleware.outer;`,
      'RC1301',
      'its manifest has middleware "outer", its module has no factory for it',
    ],
    [
      'lacks a method of the contract',
      `middleware.outer = () => ({});`,
      'PLUGIN_CONTRACT',
      'middleware outer of SecretStore#default (adapter acme.vault) answered an object that has no get(), which SecretStore@1 asks for',
    ],
  ])('that %s fails the activation, and what was made is let go of', async (_, code, expected, message) => {
    const host = await space.host({ plugins: [layers(code), vault()], bindings: bound(['outer', 'inner']) });
    await expect(host.get(SecretStore)).rejects.toMatchObject({
      code: expected,
      message: expect.stringContaining(message),
    });
    expect(space.log.slice(-2)).toEqual(expected === 'RC1301' ? expect.anything() : ['inner owned', 'vault close']);
  });

  test('that comes too late is closed, too, and what it was put around after it', async () => {
    const code = `middleware.outer = async (inner, { signal }) => {
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
      return { get: inner.get, put: inner.put, names: inner.names, close: async () => log('outer close') };
    };`;
    const vault = space.plugin({
      id: 'acme.vault',
      adapters: [{ id: 'acme.vault', provides: 'SecretStore@1', timeouts: { activateMs: 100 } }],
      code: `export default definePlugin({ adapters: { 'acme.vault': () => ({
        get: async () => {}, put: async () => {}, names: async () => [], close: async () => log('vault close') }) } });`,
    });
    const host = await space.host({ plugins: [layers(code), vault], bindings: bound(['outer']) });
    await expect(host.get(SecretStore)).rejects.toMatchObject({ code: 'RC1302' });
    await host.stop();
    expect(space.log.slice(1)).toEqual(['outer close', 'vault close']);
  });

  test('goes round a contract that a plugin brought, too', async () => {
    interface Echo {
      echo(text: string): Promise<string>;
    }
    const Echo = capability<Echo>('acme.echo/Echo', {
      major: 1,
      door: (impl) => ({ echo: async (text) => impl.echo(`${text}!`) }),
    });
    const use = space.plugin({
      id: 'acme.echo',
      adapters: [{ id: 'acme.echo', provides: 'acme.echo/Echo@1' }],
      code: `export default definePlugin({ adapters: { 'acme.echo': () => ({
        echo: async (text) => text, close: async () => log('echo close') }) } });`,
    });
    const bindings = { 'acme.echo/Echo': { adapter: 'acme.echo', middleware: LAYERS } };
    const host = await space.host({ plugins: [use, layers()], bindings });
    expect(await (await host.get(Echo)).echo('x')).toBe('x!');
    expect(space.log.slice(-3)).toEqual(LAYERS.map((id) => `${id} echo`));
    await host.stop();
    expect(space.log.filter((line) => line === 'echo close')).toHaveLength(1);
  });
});
