/**
 * Conformance of SecretStore.
 *
 * A read-only store has no way to be filled through its contract, so whoever opens it brings the secrets: every
 * `open()` gives a store that is provisioned as {@link CONFORMANCE_SECRETS} says. A store with feature `put` is
 * provisioned the same way, and then written to.
 */
import assert from 'node:assert/strict';
import { inspect } from 'node:util';
import { isCoreError, SecretStore, SecretValue } from '../contracts/index.js';
import { defineSuite } from './conformance.js';

/** What the store that a target opens must hold, and must not. Names fit an environment variable. */
export const CONFORMANCE_SECRETS = Object.freeze({
  /** May be read, and holds this text. */
  set: Object.freeze({ name: 'CONFORMANCE_SET', value: ' tr\u00e4nslated=\u{1F5DD}, "quoted"\nsecond line ' }),
  /** May be read, and holds the empty text. */
  empty: Object.freeze({ name: 'CONFORMANCE_EMPTY', value: '' }),
  /** May be read, and does not exist. */
  unset: Object.freeze({ name: 'CONFORMANCE_UNSET' }),
  /** Exists, holds this text, and may not be read. */
  forbidden: Object.freeze({ name: 'CONFORMANCE_FORBIDDEN', value: 'not-for-this-store' }),
});

const { set, empty, unset, forbidden } = CONFORMANCE_SECRETS;

defineSuite(
  SecretStore,
  (features) => ({
    'get answers the text, character by character': async ({ open }) => {
      const secret = await (await open()).get(set.name);
      assert.equal(secret.reveal(), set.value);
    },

    'a secret that is the empty text is found, and is empty': async ({ open }) => {
      assert.equal((await (await open()).get(empty.name)).reveal(), '');
    },

    'what get answers prints redacted': async ({ open }) => {
      const secret = await (await open()).get(set.name);
      for (const print of [`${secret}`, inspect({ secret }), JSON.stringify({ secret })]) {
        assert.ok(print.includes('[redacted]'), `expected [redacted] in ${print}`);
      }
    },

    'a secret that may be read and is not there is Transient with retry never, and is named': async ({ open }) => {
      await assert.rejects((await open()).get(unset.name), (error) => {
        assert.ok(isCoreError(error) && error.severity === 'recoverable', `found ${inspect(error)}`);
        assert.deepEqual([error.kind, error.code, error.retry], ['Transient', 'SECRET_UNSET', { kind: 'never' }]);
        assert.ok(error.message.includes(unset.name), error.message);
        return true;
      });
    },

    'a secret that may not be read is ConfigInvalid, is named, and stays untold': async ({ open }) => {
      await assert.rejects((await open()).get(forbidden.name), (error) => {
        assert.ok(isCoreError(error), `found ${inspect(error)}`);
        assert.deepEqual([error.kind, error.code], ['ConfigInvalid', 'SECRET_NOT_ALLOWED']);
        assert.ok(error.message.includes(forbidden.name), error.message);
        assert.ok(!inspect(error, { depth: 10 }).includes(forbidden.value), 'the error carries the secret');
        return true;
      });
    },

    'a name that is no text of 1 to 512 characters is refused': async ({ open }) => {
      const store = await open();
      for (const name of ['', 'x'.repeat(513), 'a\0b', '\ud800', 42, undefined] as string[]) {
        await assert.rejects(store.get(name), { kind: 'SchemaViolation', code: 'ARGUMENT_INVALID' });
      }
    },

    'names lists what may be read, sorted, each once, whether or not it is set': async ({ open }) => {
      const names = await (await open()).names();
      assert.deepEqual(names, [...new Set(names)].sort());
      for (const { name } of [set, empty, unset]) assert.ok(names.includes(name), `${name} is missing`);
      assert.ok(!names.includes(forbidden.name), `${forbidden.name} may not be read`);
    },

    'calls may overlap': async ({ open }) => {
      const store = await open();
      const secrets = await Promise.all([set, empty, set].map(({ name }) => store.get(name)));
      assert.deepEqual(
        secrets.map((secret) => secret.reveal()),
        [set.value, empty.value, set.value],
      );
    },

    ...(features.has('put') ? writable : readOnly),
  }),
  ['put'],
);

type Cases = Record<string, (fixture: { open(): Promise<SecretStore> }) => Promise<void>>;

const writable: Cases = {
  'put is seen by the next get, as text and as SecretValue, over what was there': async ({ open }) => {
    const store = await open();
    await store.put(unset.name, 'first');
    assert.equal((await store.get(unset.name)).reveal(), 'first');
    await store.put(unset.name, new SecretValue(set.value));
    assert.equal((await store.get(unset.name)).reveal(), set.value);
    await store.put(unset.name, '');
    assert.equal((await store.get(unset.name)).reveal(), '');
  },
};

const readOnly: Cases = {
  'put is refused as read-only whatever its arguments, tells no value and changes nothing': async ({ open }) => {
    const store = await open();
    for (const args of [[set.name, 'new-value'], [forbidden.name, 'new-value'], ['', 'new-value'], [], [42, null]]) {
      await assert.rejects(store.put(...(args as [string, string])), (error) => {
        assert.ok(isCoreError(error), `found ${inspect(error)}`);
        assert.deepEqual([error.kind, error.code], ['ConfigInvalid', 'READ_ONLY']);
        assert.match(error.message, /read-only/);
        assert.ok(!inspect(error, { depth: 10 }).includes('new-value'), 'the error carries the secret');
        return true;
      });
    }
    assert.equal((await store.get(set.name)).reveal(), set.value);
  },
};
