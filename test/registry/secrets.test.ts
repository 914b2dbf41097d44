/** Secrets that a configuration names: edges of the plan, text for the factory alone. */
import { inspect } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { ObjectStore, Queue, SecretStore } from '../../src/contracts/index.js';
import type { Host } from '../../src/registry/index.js';
import { Workspace } from '../support/workspace.js';

const SECRET = 'hunter2-Øß';

let space: Workspace;
beforeEach(() => {
  space = new Workspace();
  process.env.ROLLOUT_SECRET_PASSWORD = SECRET;
});
afterEach(async () => {
  delete process.env.ROLLOUT_SECRET_PASSWORD;
  await space[Symbol.asyncDispose]();
});

const SCHEMA = {
  required: ['password'],
  properties: {
    password: { type: 'string', minLength: 3, maxLength: 50 },
    port: { type: 'integer' },
    hosts: { type: 'array', items: { properties: { key: { type: 'string' } } } },
  },
};

/** A Queue `acme.queue` and a SecretStore `acme.vault` whose configurations may name secrets; both log what they get. */
function plugin(): string {
  return space.plugin({
    id: 'acme.queue',
    adapters: [
      { id: 'acme.queue', provides: 'Queue@1', config: SCHEMA },
      { id: 'acme.vault', provides: 'SecretStore@1', config: SCHEMA },
    ],
    code: `
      const none = async () => {};
      const make = (ctx) => {
        log(ctx.id + ' ' + JSON.stringify(ctx.config));
        return new Proxy({}, { get: (_, key) => key === 'then' ? undefined
          : key === 'get' ? async (name) => new SecretValue('of ' + name + ' in ' + ctx.name)
          : key === 'close' ? async () => log('closed ' + ctx.id + '#' + ctx.name) : key === Symbol.asyncDispose ? undefined : none });
      };
      export default definePlugin({ adapters: { 'acme.queue': make, 'acme.vault': make } });`,
  });
}

const secret = (name: string, more: object = {}) => ({ $secret: name, ...more });
const ENV = { adapter: 'local.env', config: { allowlist: ['PASSWORD', 'UNSET'] } };

const queueWith = (config: object, SecretStore: object = ENV) => ({
  plugins: ['rollout.cloud-local', plugin()],
  bindings: { Queue: { adapter: 'acme.queue', config }, SecretStore },
});

async function problems(config: object): Promise<string[]> {
  try {
    await space.host(config);
  } catch (error) {
    return (error as Error).message.replaceAll(`${space.folder}/`, '').split('\n');
  }
  throw new Error('this configuration was accepted');
}

describe('a secret in a configuration', () => {
  test('reaches the factory as text, its store activated first, and nobody else', async () => {
    const config = queueWith({ password: secret('PASSWORD'), hosts: [{ key: secret('PASSWORD') }] });
    const host = await space.host(config);
    await host.get(Queue);
    expect(space.log).toEqual([`acme.queue ${JSON.stringify({ password: SECRET, hosts: [{ key: SECRET }] })}`]);
    expect(host.bindings().find(({ capability }) => capability === 'SecretStore')?.state).toBe('active');
    const told = JSON.stringify([host.bindings(), host.report(), space.logged]) + inspect(host, { depth: 20 });
    expect(told).not.toContain(SECRET);
    expect(host.bindings()[0]?.config.password).toEqual({ $secret: 'PASSWORD' });
  });

  test('may come from a store that is named, which is disposed after who needed it', async () => {
    const instances = { a: ENV, b: { adapter: 'acme.vault', config: { password: 'plain' } } };
    const host = await space.host(queueWith({ password: secret('key', { store: 'b' }) }, { default: 'a', instances }));
    await host.get(Queue);
    await host.stop();
    expect(space.log.slice(1)).toEqual([
      'acme.queue {"password":"of key in b"}',
      'closed acme.queue#default',
      'closed acme.vault#b',
    ]);
  });

  test('that cannot be had fails the activation, as its store says, and names the setting', async () => {
    const host = await space.host(queueWith({ password: secret('UNSET') }));
    await expect(host.get(Queue)).rejects.toMatchObject({
      kind: 'Transient',
      code: 'SECRET_UNSET',
      message: expect.stringMatching(/^Queue#default: config.password: secret "UNSET" is not set/),
    });
    process.env.ROLLOUT_SECRET_UNSET = 'set now';
    try {
      await expect(host.get(Queue)).resolves.toBeDefined();
    } finally {
      delete process.env.ROLLOUT_SECRET_UNSET;
    }
  });

  test('of the wrong form is told once it is read, without its text', async () => {
    process.env.ROLLOUT_SECRET_PASSWORD = 'xy';
    const host: Host = await space.host(queueWith({ password: secret('PASSWORD') }));
    const error = await host.get(Queue).catch((error: Error) => error);
    expect(error).toMatchObject({ kind: 'ConfigInvalid', code: 'RC1105' });
    expect(String(error)).toMatch(/Queue#default: config.password must NOT have fewer than 3 characters, found a text/);
    expect(String(error)).not.toContain('xy');
  });
});

describe('the plan', () => {
  test('finds a store that is missing, or that needs a secret of its own', async () => {
    const config = queueWith({ password: secret('PASSWORD', { store: 'none' }) });
    expect(await problems(config)).toEqual([
      expect.stringMatching(
        /^RC1122 plugins.json:\d+:\d+ Queue#default needs the secret "PASSWORD": SecretStore has no instance "none"/,
      ),
    ]);
    const bindings = { Queue: { adapter: 'acme.queue', config: { password: secret('x') } } };
    expect(
      await problems({
        plugins: [plugin()],
        bindings: { ...bindings, SecretStore: { adapter: 'acme.vault', enabled: false } },
      }),
    ).toEqual([
      expect.stringMatching(
        /^RC1121 plugins.json:\d+:\d+ Queue#default needs the secret "x": SecretStore is not served: bindings.SecretStore says "enabled": false.$/,
      ),
    ]);
    const own = { adapter: 'acme.vault', config: { password: secret('x') } };
    expect(await problems(queueWith({ password: 'plain' }, own))).toEqual([
      expect.stringMatching(/^RC1201 plugins.json:\S+ dependency cycle: SecretStore#default -> SecretStore#default/),
    ]);
  });

  test('refuses what is not written as a secret is, or stands where no text can', async () => {
    const faults = async (config: object) =>
      (await problems(queueWith(config))).map((line) => line.replace(/plugins.json:\S+ /, ''));
    expect(await faults({ password: { $secret: 3 } })).toEqual([
      'RC1105 bindings.Queue.config.password: a secret is written { "$secret": "<name>" }, with "store": "<instance>" for a SecretStore that is not the default (adapter acme.queue)',
    ]);
    expect(await faults({ password: secret('x', { more: 1 }) })).toHaveLength(1);
    expect(await faults({ password: 'plain', port: secret('x') })).toEqual([
      'RC1105 bindings.Queue.config.port cannot be a secret: a secret is text, and the adapter wants something else (adapter acme.queue)',
    ]);
    expect(await faults({ $secret: 'x' })).toContainEqual(expect.stringContaining('a secret is written'));
  });

  test('checks all the rest beside it', async () => {
    expect(await problems(queueWith({ password: secret('x'), prot: 1 }))).toEqual([
      expect.stringContaining('RC1104 plugins.json'),
    ]);
  });

  test('asks nothing of a store before it is needed', async () => {
    const host = await space.host(queueWith({ password: secret('PASSWORD') }));
    expect(host.has(ObjectStore)).toBe(true);
    expect(host.bindings().every(({ state }) => state === 'planned')).toBe(true);
    expect(host.has(SecretStore)).toBe(true);
  });
});
