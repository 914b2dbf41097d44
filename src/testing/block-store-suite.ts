/**
 * Conformance of BlockStore. Volumes are not made through the contract, so whoever opens a store brings them: every
 * `open()` gives a store that has {@link CONFORMANCE_VOLUMES}, none of them attached here.
 */
import assert from 'node:assert/strict';
import { BlockStore } from '../contracts/block-store.js';
import { defineSuite } from './conformance.js';

/** What the store that a target opens must have, and must not. */
export const CONFORMANCE_VOLUMES = Object.freeze({
  there: Object.freeze(['conformance-1', 'conformance-2'] as const),
  missing: 'conformance-missing',
});

const {
  there: [first, second],
  missing,
} = CONFORMANCE_VOLUMES;

defineSuite(
  BlockStore,
  () => ({
    'attach answers the volume and its device': async ({ open }) => {
      const { volumeId, device } = await (await open()).attach(first);
      assert.equal(volumeId, first);
      assert.ok(typeof device === 'string' && device.length > 0, `found ${device}`);
    },

    'a volume that is attached here answers the same, in calls that overlap, too': async ({ open }) => {
      const store = await open();
      const [one, other] = await Promise.all([store.attach(first), store.attach(first)]);
      assert.deepEqual(one, other);
      assert.deepEqual(await store.attach(first), one);
    },

    'two volumes have two devices': async ({ open }) => {
      const store = await open();
      const devices = await Promise.all([first, second].map(async (id) => (await store.attach(id)).device));
      assert.equal(new Set(devices).size, 2, `found ${devices}`);
    },

    'a volume that is detached can be attached again; detaching twice is detaching once': async ({ open }) => {
      const store = await open();
      await store.attach(first);
      await store.detach(first);
      await store.detach(first);
      assert.equal((await store.attach(first)).volumeId, first);
    },

    'a volume that is not attached here is detached already': async ({ open }) => {
      const store = await open();
      await store.detach(second);
      await store.detach(missing);
    },

    'each snapshot has an id of its own, whether or not the volume is attached': async ({ open }) => {
      const store = await open();
      const detached = await store.snapshot(first, { label: 'before' });
      await store.attach(first);
      const attached = await store.snapshot(first);
      for (const id of [detached, attached]) assert.ok(typeof id === 'string' && id.length > 0, `found ${id}`);
      assert.notEqual(detached, attached);
    },

    'a volume that does not exist is VOLUME_NOT_FOUND, and named': async ({ open }) => {
      const store = await open();
      for (const call of [() => store.attach(missing), () => store.snapshot(missing)]) {
        await assert.rejects(call, { severity: 'fatal', code: 'VOLUME_NOT_FOUND', message: new RegExp(missing) });
      }
    },

    'an aborted signal stops an attach before it begins': async ({ open }) => {
      const reason = new Error('changed my mind');
      const attaching = (await open()).attach(first, { signal: AbortSignal.abort(reason) });
      await assert.rejects(attaching, (error: unknown) => error === reason);
    },

    'arguments that are none are refused': async ({ open }) => {
      const store = await open();
      const refused = { kind: 'SchemaViolation', code: 'ARGUMENT_INVALID' };
      for (const id of ['', 'x'.repeat(513), 42, undefined] as string[]) {
        await assert.rejects(store.attach(id), refused);
        await assert.rejects(store.detach(id), refused);
        await assert.rejects(store.snapshot(id), refused);
      }
      await assert.rejects(store.attach(first, { readOnly: 'yes' as never }), refused);
      await assert.rejects(store.attach(first, { signal: 'stop' as never }), refused);
      await assert.rejects(store.snapshot(first, { label: 7 as never }), refused);
    },
  }),
  [],
);
