import { describe, expect, test } from '@jest/globals';
import { checked, FatalError, RecoverableError, SecretStore, SecretValue } from '../../src/contracts/index.js';
import { conformance } from '../../src/testing/conformance.js';
import { CONFORMANCE_SECRETS } from '../../src/testing/secret-store-suite.js';

const { set, empty, unset, forbidden } = CONFORMANCE_SECRETS;

/** A store in memory that keeps the contract, `put` included. */
class MapSecretStore implements SecretStore {
  readonly secrets = new Map<string, string>([set, empty, forbidden].map(({ name, value }) => [name, value]));
  readonly allowed: readonly string[] = [empty, set, unset].map(({ name }) => name);

  async get(name: string): Promise<SecretValue> {
    if (!this.allowed.includes(name)) {
      throw new FatalError('ConfigInvalid', `secret ${name} not in allowlist`, { code: 'SECRET_NOT_ALLOWED' });
    }
    const value = this.secrets.get(name);
    if (value !== undefined) return new SecretValue(value);
    const retry = { kind: 'never' } as const;
    throw new RecoverableError('Transient', `secret ${name} is not set`, { code: 'SECRET_UNSET', retry });
  }

  async put(name: string, value: string | SecretValue): Promise<void> {
    this.secrets.set(name, value instanceof SecretValue ? value.reveal() : value);
  }

  async names(): Promise<string[]> {
    return [...this.allowed];
  }
}

class ReadOnlyStore extends MapSecretStore {
  override async put(): Promise<void> {
    throw new FatalError('ConfigInvalid', 'this store is read-only', { code: 'READ_ONLY' });
  }
}

/** Names of the cases that a store fails. */
async function failures(store: SecretStore, features: string[]): Promise<string[]> {
  const failed: string[] = [];
  for (const c of conformance(SecretStore, { features })) {
    await c
      .run(async () => checked(SecretStore, store, { adapter: 'test.map', features }))
      .catch(() => failed.push(c.name));
  }
  return failed;
}

describe('the suite of SecretStore', () => {
  test('passes a store that keeps the contract, with put and without', async () => {
    expect(await failures(new MapSecretStore(), ['put'])).toEqual([]);
    expect(await failures(new ReadOnlyStore(), [])).toEqual([]);
  });

  test('tells a store whose put does nothing, or is not the read-only one that it says', async () => {
    expect(await failures(Object.assign(new MapSecretStore(), { put: async () => {} }), ['put'])).toEqual([
      'put is seen by the next get, as text and as SecretValue, over what was there',
    ]);
    expect(await failures(new MapSecretStore(), [])).toEqual([
      'put is refused as read-only whatever its arguments, tells no value and changes nothing',
    ]);
    const telling = Object.assign(new ReadOnlyStore(), {
      put: async (_name: string, value: unknown) => {
        throw new FatalError('ConfigInvalid', `read-only: ${value} is not stored`, { code: 'READ_ONLY' });
      },
    });
    expect(await failures(telling, [])).toHaveLength(1);
  });

  test.each<[string, Partial<SecretStore>, string[]]>([
    [
      'trims what it answers',
      { get: async (name) => new SecretValue((await new MapSecretStore().get(name)).reveal().trim()) },
      expect.arrayContaining(['get answers the text, character by character', 'calls may overlap']) as never,
    ],
    [
      'takes the empty text for none',
      {
        get: async (name) => {
          const secret = await new MapSecretStore().get(name);
          if (secret.reveal() !== '') return secret;
          throw new RecoverableError('Transient', `${name} is not set`, {
            code: 'SECRET_UNSET',
            retry: { kind: 'never' },
          });
        },
      },
      ['a secret that is the empty text is found, and is empty', 'calls may overlap'],
    ],
    [
      'answers plain objects',
      { get: async (name) => ({ reveal: () => name }) as SecretValue },
      expect.arrayContaining(['what get answers prints redacted']) as never,
    ],
    [
      'lets an unset secret be retried',
      {
        get: async (name) => {
          if (name === unset.name)
            throw new RecoverableError('Transient', `${name} is not set`, { code: 'SECRET_UNSET' });
          return new MapSecretStore().get(name);
        },
      },
      ['a secret that may be read and is not there is Transient with retry never, and is named'],
    ],
    [
      'tells a forbidden secret in its error',
      {
        get: async (name) => {
          if (name !== forbidden.name) return new MapSecretStore().get(name);
          const context = { value: forbidden.value };
          throw new FatalError('ConfigInvalid', `${name} not in allowlist`, { code: 'SECRET_NOT_ALLOWED', context });
        },
      },
      ['a secret that may not be read is ConfigInvalid, is named, and stays untold'],
    ],
    [
      'lists names unsorted',
      { names: async () => [unset.name, set.name, empty.name] },
      ['names lists what may be read, sorted, each once, whether or not it is set'],
    ],
    [
      'lists what is set only',
      { names: async () => [empty.name, set.name] },
      ['names lists what may be read, sorted, each once, whether or not it is set'],
    ],
  ])('tells a store that %s', async (_, defect, cases) => {
    expect(await failures(Object.assign(new ReadOnlyStore(), defect), [])).toEqual(cases);
  });

  test('a store without argument checks passes: they are put before it, as the host does', async () => {
    expect(await failures(new ReadOnlyStore(), [])).toEqual([]);
  });
});
