import { inspect } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { EnvSecretStore } from '../../../src/adapters/cloud-local/env-secret-store.js';
import { checked, isCoreError, SecretStore } from '../../../src/contracts/index.js';
import { conformance } from '../../../src/testing/conformance.js';
import { CONFORMANCE_SECRETS } from '../../../src/testing/secret-store-suite.js';

const ALLOWLIST = '(plugins.json: bindings.SecretStore.config.allowlist)';
const VARIABLE = 'ROLLOUT_SECRET_ROLLOUT_TEST';

/** What a call failed with; the call's answer when it did not fail. */
const outcome = (call: Promise<unknown>): Promise<unknown> => call.catch((error) => error);

beforeEach(() => {
  delete process.env[VARIABLE];
});
afterEach(() => {
  delete process.env[VARIABLE];
});

describe('the table of secrets', () => {
  test('name allowed, ROLLOUT_SECRET_<name> set: Ok(value)', async () => {
    process.env[VARIABLE] = 'hf_123';
    const secret = await new EnvSecretStore(['ROLLOUT_TEST']).get('ROLLOUT_TEST');
    expect(secret.reveal()).toBe('hf_123');
  });

  test('name not in allowlist: fatal ConfigInvalid, "not in allowlist", even where the variable is set', async () => {
    process.env[VARIABLE] = 'hf_123';
    const error = await outcome(new EnvSecretStore(['OTHER']).get('ROLLOUT_TEST'));
    expect(error).toMatchObject({
      severity: 'fatal',
      kind: 'ConfigInvalid',
      code: 'SECRET_NOT_ALLOWED',
      message: `secret "ROLLOUT_TEST" not in allowlist ${ALLOWLIST}`,
      context: { name: 'ROLLOUT_TEST' },
    });
    expect(inspect(error, { depth: 10 })).not.toContain('hf_123');
  });

  test('name allowed, env var unset: recoverable Transient, retry never, and names the variable', async () => {
    expect(await outcome(new EnvSecretStore(['ROLLOUT_TEST']).get('ROLLOUT_TEST'))).toMatchObject({
      severity: 'recoverable',
      kind: 'Transient',
      code: 'SECRET_UNSET',
      retry: { kind: 'never' },
      message: `secret "ROLLOUT_TEST" is not set (environment variable ${VARIABLE})`,
      context: { name: 'ROLLOUT_TEST', variable: VARIABLE },
    });
  });

  test('put(name, value), ALWAYS: fatal ConfigInvalid, "read-only", whatever its arguments', async () => {
    const store = new EnvSecretStore(['ROLLOUT_TEST']);
    for (const args of [['ROLLOUT_TEST', 'sesame'], ['sesame'], ['OTHER', 'sesame'], [], [null, {}]]) {
      const error = await outcome(store.put(...(args as [string, string])));
      expect(error).toMatchObject({ severity: 'fatal', kind: 'ConfigInvalid', code: 'READ_ONLY' });
      expect((error as Error).message).toContain('read-only');
      expect(inspect(error, { depth: 10 })).not.toContain('sesame');
    }
    expect(process.env[VARIABLE]).toBeUndefined();
  });
});

describe('EnvSecretStore', () => {
  test('"the operator can provision the variable without changing config; subsequent calls will succeed"', async () => {
    const store = new EnvSecretStore(['ROLLOUT_TEST']);
    expect(await outcome(store.get('ROLLOUT_TEST'))).toMatchObject({ code: 'SECRET_UNSET' });
    process.env[VARIABLE] = 'now';
    expect((await store.get('ROLLOUT_TEST')).reveal()).toBe('now');
    process.env[VARIABLE] = 'rotated';
    expect((await store.get('ROLLOUT_TEST')).reveal()).toBe('rotated');
  });

  test('allowed, set to the empty string: the empty string', async () => {
    process.env[VARIABLE] = '';
    expect((await new EnvSecretStore(['ROLLOUT_TEST']).get('ROLLOUT_TEST')).reveal()).toBe('');
  });

  test('reads the environment it is given, and process.env otherwise, even one that was replaced', async () => {
    process.env[VARIABLE] = 'of the process';
    const given = new EnvSecretStore(['ROLLOUT_TEST'], { env: { [VARIABLE]: 'given' } });
    expect((await given.get('ROLLOUT_TEST')).reveal()).toBe('given');

    const store = new EnvSecretStore(['ROLLOUT_TEST']);
    const original = process.env;
    process.env = { ...original, [VARIABLE]: 'replaced' };
    try {
      expect((await store.get('ROLLOUT_TEST')).reveal()).toBe('replaced');
    } finally {
      process.env = original;
    }
  });

  test('new applies the checks of the contract, keeps instanceof, and is not wrapped twice', async () => {
    const store = new EnvSecretStore(['A']);
    expect(store).toBeInstanceOf(EnvSecretStore);
    expect(await outcome(store.get(''))).toMatchObject({ code: 'ARGUMENT_INVALID' });
    expect(await outcome(store.get(undefined as never))).toMatchObject({ kind: 'SchemaViolation' });
    expect(checked(SecretStore, store, { adapter: 'other' })).toBe(store);
  });

  test('names are sorted, each once, and a later change of the array changes nothing', async () => {
    const allowlist = ['B', 'A', 'B', 'db/password'];
    const store = new EnvSecretStore(allowlist);
    allowlist.push('C');
    expect(await store.names()).toEqual(['A', 'B', 'db/password']);
    expect(await outcome(store.get('C'))).toMatchObject({ code: 'SECRET_NOT_ALLOWED' });
  });

  test('an empty allowlist allows nothing', async () => {
    const store = new EnvSecretStore([]);
    expect(await store.names()).toEqual([]);
    expect(await outcome(store.get('A'))).toMatchObject({ code: 'SECRET_NOT_ALLOWED' });
  });

  test('names of object members are names like any other', async () => {
    const store = new EnvSecretStore(['__proto__', 'toString'], { env: {} });
    for (const name of ['__proto__', 'toString']) {
      expect(await outcome(store.get(name))).toMatchObject({ code: 'SECRET_UNSET' });
    }
    expect(await outcome(store.get('constructor'))).toMatchObject({ code: 'SECRET_NOT_ALLOWED' });
  });

  test.each([
    ['found "A" and "="', 'A=B'],
    ['found "" and "="', '='],
    ['found ""', ''],
    ['found "A\\u0000B"', 'A\0B'],
    ['found "\\ud800"', '\ud800'],
    ['found 513 characters', 'x'.repeat(513)],
    ['found 42', 42],
    ['found undefined', undefined],
  ])('an allowlist entry that cannot be a variable is refused at construction: %s', (found, entry) => {
    const construct = () => new EnvSecretStore(['FINE', entry as string]);
    expect(construct).toThrow(
      `allowlist[1] must be a name of 1 to 512 characters without "=" and NUL, ${found} ${ALLOWLIST}`,
    );
    expect(construct).toThrow(expect.objectContaining({ kind: 'ConfigInvalid', context: { index: 1 } }));
  });

  test('a gap in the allowlist is refused too', () => {
    expect(() => new EnvSecretStore(new Array(1))).toThrow('allowlist[0] must be a name');
  });

  test('a value that was written into the allowlist is not repeated by the refusal', () => {
    const entry = ['HF_TOKEN=hf_123', `-----BEGIN PRIVATE KEY-----${'hf_123'.repeat(100)}`];
    for (const name of entry) {
      let error: unknown;
      try {
        new EnvSecretStore([name]);
      } catch (thrown) {
        error = thrown;
      }
      expect(isCoreError(error)).toBe(true);
      expect(inspect(error, { depth: 10 })).not.toContain('hf_123');
      expect(JSON.stringify(error)).not.toContain('hf_123');
    }
  });

  test('an allowlist that is no array is refused, a bare name above all', () => {
    expect(() => new EnvSecretStore('HF_TOKEN' as never)).toThrow(
      `the allowlist must be an array of names, found string ${ALLOWLIST}`,
    );
    expect(() => new EnvSecretStore(undefined as never)).toThrow('found undefined');
  });

  test('printing the store shows no secret', async () => {
    const store = new EnvSecretStore(['ROLLOUT_TEST'], { env: { [VARIABLE]: 'hf_123' } });
    for (const options of [{}, { showProxy: true, showHidden: true, depth: 10 }]) {
      expect(inspect(store, options)).not.toContain('hf_123');
    }
    expect(JSON.stringify(store)).not.toContain('hf_123');
  });
});

describe('conformance of EnvSecretStore', () => {
  const { set, empty, unset, forbidden } = CONFORMANCE_SECRETS;
  const open = async () =>
    new EnvSecretStore([set.name, empty.name, unset.name], {
      env: Object.fromEntries([set, empty, forbidden].map(({ name, value }) => [`ROLLOUT_SECRET_${name}`, value])),
    });
  for (const c of conformance(SecretStore)) test(c.name, () => c.run(open));
});
