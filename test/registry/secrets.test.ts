/** Secrets that a configuration names: edges of the plan, text for the factory alone. */
import { inspect } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { isCoreError, ObjectStore, Queue, RecoverableError, SecretStore } from '../../src/contracts/index.js';
import type { Host } from '../../src/registry/index.js';
import { Redactor } from '../../src/registry/redaction.js';
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
    expect(String(error)).toMatch(/Queue#default: config.password must have at least 3 characters, found a text/);
    expect(String(error)).not.toContain('xy');
  });
});

describe('a secret that its plugin repeats', () => {
  const KEY = 'k"y/of\\plain';
  /** Throws, reports and logs its configuration, as drivers do that put their URL into their errors; when is in `fail`. */
  const leaking = () => {
    const config = {
      properties: {
        password: { type: 'string' },
        key: { type: 'string', sensitive: true },
        short: { type: 'string', sensitive: true },
        fail: { type: 'string' },
      },
    };
    const adapters = [{ id: 'acme.leaky', provides: 'SecretStore@1', config }];
    return space.plugin({
      id: 'acme.leaky',
      adapters,
      manifest: { contributes: { adapters, middleware: [{ id: 'leaky', wraps: ['SecretStore@1'], config }] } },
      code: `
        const said = ({ password, key }) => \`\${password} in \${JSON.stringify({ key })} and \${encodeURIComponent(key)}\`;
        const leak = (ctx, answer) => {
          const what = said(ctx.config);
          ctx.logger.warn('log: ' + what, { config: ctx.config, error: new Error(what), bytes: Buffer.from('x') });
          switch (ctx.config.fail) {
            case 'plainly': throw Object.assign(new TypeError(what, { cause: { uri: what } }), { code: 'EHOST', config: ctx.config });
            case 'by the book': throw new contracts.RecoverableError('Transient', what, { code: 'NO_SERVER', context: { what }, retry: { kind: 'never' } });
            case 'unharmed': throw shared;
            case 'lost': setTimeout(() => ctx.report({ status: 'lost', reason: what, error: new Error(what) }), 0); break;
            case 'ill': answer.health = async () => { throw new Error(what); };
            case 'degraded': ctx.report({ status: 'degraded', reason: what }); break;
            case 'close': answer.close = async () => { throw new Error(what); };
          }
          return answer;
        };
        const shared = globalThis[${JSON.stringify(`${space.folder}/error`)}];
        const none = { get: async () => {}, put: async () => {}, names: async () => [] };
        export default definePlugin({
          adapters: { 'acme.leaky': (ctx) => leak(ctx, { ...none }) },
          middleware: { leaky: (inner, ctx) => leak(ctx, { ...none }) },
        });`,
    });
  };
  const logs: unknown[][] = [];
  const hostFor = async (fail: string, asMiddleware = false) => {
    logs.length = 0;
    const at = (...entry: unknown[]) => void logs.push(entry);
    const config = { password: secret('PASSWORD', { store: 'env' }), key: KEY, short: 'by', fail };
    const a = asMiddleware
      ? { adapter: 'acme.leaky', middleware: [{ use: 'leaky', config }] }
      : { adapter: 'acme.leaky', config };
    return space.host(
      {
        plugins: ['rollout.cloud-local', leaking()],
        bindings: { SecretStore: { default: 'a', instances: { a, env: ENV } } },
      },
      { logger: { debug: at, info: at, warn: at, error: at } },
    );
  };
  const expectClear = (...told: unknown[]) => {
    const text = told.map((each) => inspect(each, { depth: 20, showHidden: true })).join('\n') + JSON.stringify(told);
    for (const form of [SECRET, KEY, JSON.stringify(KEY).slice(1, -1), encodeURIComponent(KEY)]) {
      expect(text).not.toContain(form);
    }
    return text;
  };
  const CLEARED = '[redacted] in {"key":"[redacted]"} and [redacted]';

  test.each([false, true])(
    'is not in what a factory throws, the report or the log; a middleware’s: %s',
    async (asMiddleware) => {
      const host = await hostFor('plainly', asMiddleware);
      const error = (await host.get(SecretStore).catch((thrown: Error) => thrown)) as Error;
      const [report] = host.report().instances;
      expectClear(error, error.stack, report, logs);
      expect(error).toMatchObject({
        code: 'RC1303',
        message: expect.stringContaining(`failed: ${CLEARED}`),
        cause: { code: 'EHOST', message: CLEARED, cause: { uri: CLEARED }, config: { short: 'by' } },
      });
      expect(error.cause).toBeInstanceOf(TypeError);
      expect(report?.reason).toBe(error.message);
      expect(logs.map(([message]) => message)).toContain(`log: ${CLEARED}`);
    },
  );

  test('is not in an error of the family, which is of its class and kind all the same', async () => {
    const host = await hostFor('by the book');
    const error = await host.get(SecretStore).catch((thrown: Error) => thrown);
    expectClear(error);
    expect(isCoreError(error)).toBe(true);
    expect(error).toBeInstanceOf(RecoverableError);
    expect(error).toMatchObject({
      ...{
        kind: 'Transient',
        code: 'NO_SERVER',
        message: CLEARED,
        context: { what: CLEARED },
        retry: { kind: 'never' },
      },
    });
  });

  test.each(['degraded', 'ill', 'lost'])('is not in the reason of one that says that it is %s', async (how) => {
    const host = await hostFor(how);
    await host.get(SecretStore).catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 5));
    const { instances } = await host.checkHealth();
    expect(expectClear(instances, logs)).toContain(CLEARED);
  });

  test('is not in what disposing throws', async () => {
    const host = await hostFor('close');
    await host.get(SecretStore);
    const { errors } = await host.stop();
    expect(expectClear(errors, logs)).toContain(CLEARED);
  });

  test('is not in what goes by the name of an error, in a list of another kind, or in what shows more than it has', () => {
    const redactor = new Redactor();
    redactor.learn('hunter22');
    const unseen = new (class {
      readonly #text = 'hunter22';
      [inspect.custom] = () => `<${this.#text}>`;
    })();
    const given = {
      ...{ name: 'hunter22', code: 'hunter22', kind: 'of hunter22', unseen },
      map: new Map([['password', { is: 'hunter22' }]]),
      byText: new Map([['hunter22', 1]]),
      set: new Set(['hunter22']),
      url: new URL('postgres://me:hunter22@there/db'),
      headers: new Headers({ authorization: 'Bearer hunter22' }),
    };
    const clear = redactor.clear(given);
    expect(inspect(clear, { depth: 9 })).not.toContain('hunter22');
    expect(clear).toMatchObject({ name: '[redacted]', kind: 'of [redacted]', map: '[redacted]', url: '[redacted]' });
    const harmless = { map: new Map([['a', 1]]), url: new URL('postgres://there/db'), text: 'hunter22' };
    expect(redactor.clear(harmless)).toEqual({ ...harmless, text: '[redacted]' });
  });

  test('of an error what programs act on stays, whatever a secret is', () => {
    const redactor = new Redactor();
    for (const secret of ['backoff', 'Transient', 'NO_SERVER']) redactor.learn(secret);
    const retry = { kind: 'backoff', baseMs: 1, maxMs: 2 } as const;
    const error = new RecoverableError('Transient', 'no backoff', { code: 'NO_SERVER', retry });
    const clear = redactor.clear(error);
    expect(clear).toMatchObject({ message: 'no [redacted]', kind: 'Transient', code: 'NO_SERVER', retry });
  });

  test('what has none in it stays itself', async () => {
    const error = new RecoverableError('Transient', 'password of 4 characters or more', {
      context: { Øß: SECRET.slice(1) },
    });
    const shared = globalThis as Record<string, unknown>;
    shared[`${space.folder}/error`] = error;
    await expect((await hostFor('unharmed')).get(SecretStore)).rejects.toBe(error);
    delete shared[`${space.folder}/error`];
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
