/** Everything at once, in any order: whatever was made is closed once, and nothing that is closed is given out. */
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { isCoreError, Queue, SecretStore, Storage } from '../../src/contracts/index.js';
import { Workspace } from '../support/workspace.js';

let space: Workspace;
beforeEach(() => {
  space = new Workspace();
});
afterEach(() => space[Symbol.asyncDispose]());

/** What the plugin's instances share with the test. */
interface World {
  /** How many times each instance was closed, by its number. */
  readonly closed: number[];
  readonly live: Map<number, { report(health: object): void }>;
  /** What the next factories do, taken from the front. */
  readonly fates: string[];
}

const SHARED = 'rollout-cloud/test/turmoil';
const CAPABILITIES = [Storage, Queue, SecretStore] as const;

const step = fc.oneof(
  fc.record({ do: fc.constant('get' as const), which: fc.integer({ min: 0, max: 2 }) }),
  fc.record({ do: fc.constant('lose' as const), which: fc.nat(20) }),
  fc.record({ do: fc.constant('reconfigure' as const), v: fc.integer({ min: 0, max: 3 }) }),
  fc.record({ do: fc.constant('health' as const) }),
  fc.record({ do: fc.constant('wait' as const) }),
);
const fate = fc.constantFrom('ok', 'ok', 'ok', 'slow', 'fail', 'late', 'degraded', 'stuck');

test('instances that fail, are late, are lost, replaced and stopped, in any order', async () => {
  const config = { properties: { v: { type: 'integer', default: 0 } } };
  const timeouts = { activateMs: 15, disposeMs: 200 };
  const use = space.plugin({
    id: 'acme.turmoil',
    adapters: [
      { id: 't.storage', provides: 'Storage@1', config, timeouts },
      { id: 't.queue', provides: 'Queue@1', config, timeouts, requires: ['Storage'] },
      { id: 't.secrets', provides: 'SecretStore@1', config, timeouts },
    ],
    code: `
      const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
      const make = (needs) => async (ctx) => {
        const world = globalThis[Symbol.for('${SHARED}')];
        const fate = world.fates.shift() ?? 'ok';
        for (const need of needs) await ctx.get(need);
        if (fate === 'slow') await pause(3);
        if (fate === 'fail') throw new Error('fated to fail');
        if (fate === 'late') await pause(25);
        const id = world.closed.push(0) - 1;
        world.live.set(id, ctx);
        const health = async () => (fate === 'degraded' ? { status: 'degraded', reason: 'fated' } : { status: 'ok' });
        const close = async () => { world.closed[id]++; world.live.delete(id); if (fate === 'stuck') throw new Error('stuck'); };
        return new Proxy({ id, health, close, [Symbol.asyncDispose]: close }, {
          get: (it, key) => key in it ? it[key] : key === 'then' || key === 'drain' ? undefined : async () => {} });
      };
      export default definePlugin({ adapters: { 't.storage': make([]), 't.queue': make([Storage]), 't.secrets': make([]) } });`,
  });
  const configured = (v: number) => ({
    plugins: [space.path(use)],
    bindings: {
      Storage: { adapter: 't.storage', config: { v: v & 1 } },
      Queue: { adapter: 't.queue' },
      SecretStore: { adapter: 't.secrets', config: { v: v >> 1 } },
    },
  });
  const given = fc.tuple(fc.array(step, { minLength: 5, maxLength: 40 }), fc.array(fate, { maxLength: 30 }));
  await fc.assert(
    fc.asyncProperty(given, async ([steps, fates]) => {
      const world: World = { closed: [], live: new Map(), fates: [...fates] };
      (globalThis as Record<symbol, unknown>)[Symbol.for(SHARED)] = world;
      const host = await space.host(configured(0), { retry: { baseMs: 0 } });
      const refusals: unknown[] = [];
      const running: Promise<unknown>[] = [];
      const follow = (work: Promise<unknown>) => running.push(work.catch((error) => refusals.push(error)));
      for (const it of steps) {
        if (it.do === 'get') {
          // What is lost or replaced after this may still be given: its door refuses every call by then.
          const gone = world.closed.flatMap((times, id) => (times > 0 ? [id] : []));
          const capability = CAPABILITIES[it.which] as typeof Storage;
          follow(
            host.get(capability).then((found) => {
              expect(gone).not.toContain((found as unknown as { id: number }).id);
            }),
          );
        } else if (it.do === 'lose') {
          [...world.live.values()]
            .at(it.which % Math.max(1, world.live.size))
            ?.report({ status: 'lost', reason: 'fated' });
        } else if (it.do === 'reconfigure') follow(host.reconfigure({ config: configured(it.v) }));
        else if (it.do === 'health') follow(host.checkHealth());
        else await new Promise((resolve) => setTimeout(resolve, 2));
      }
      const { errors } = await host.stop();
      await Promise.all(running);
      // One that answers after its time is let go of when it does.
      await new Promise((resolve) => setTimeout(resolve, world.fates.length < fates.length ? 30 : 0));
      expect(world.closed.filter((times) => times !== 1)).toEqual([]);
      expect(host.report()).toMatchObject({ state: 'stopped', isReady: false });
      expect(host.report().instances.filter(({ state }) => state !== 'stopped')).toEqual([]);
      for (const error of [...refusals, ...errors.map((it) => it.error)]) {
        const code = isCoreError(error) ? error.code : String(error);
        expect(['CLOSED', 'RC1302', 'RC1303', 'RC1308', 'RC1310', 'Error: stuck']).toContain(code);
      }
    }),
    { numRuns: 60 },
  );
  delete (globalThis as Record<symbol, unknown>)[Symbol.for(SHARED)];
});
