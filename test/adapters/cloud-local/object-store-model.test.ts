/** The store and a Map side by side, driven by drawn sequences of calls, through two instances on one root. */
import fs from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { loadBlake3 } from '../../../src/adapters/cloud-local/object-store/blake3.js';
import { FsObjectStore } from '../../../src/adapters/cloud-local/object-store.js';
import type { ContentId } from '../../../src/contracts/ids.js';
import { existsMany } from '../../../src/contracts/object-store.js';
import { drafts, newRoot } from './object-store-kit.js';

/** Sizes about those at which a put or a get goes another way. */
const SIZES = [0, 1, 100, 65_535, 65_536, 65_537, 1_048_575, 1_048_576, 1_048_577, 2_500_000];

const blobs = SIZES.map((size, n) => Buffer.alloc(size, n + 1));

const blob = fc.integer({ min: 0, max: SIZES.length - 1 });
const instance = fc.integer({ min: 0, max: 1 });
const call = fc.oneof(
  fc.record({ call: fc.constant('put' as const), blob, instance, by: fc.constantFrom('bytes', 'stream', 'file') }),
  fc.record({ call: fc.constant('get' as const), blob, instance, by: fc.constantFrom('bytes', 'stream', 'file') }),
  fc.record({ call: fc.constant('range' as const), blob, instance, start: fc.nat(70_000), length: fc.nat(70_000) }),
  fc.record({ call: fc.constant('delete' as const), blob, instance }),
  fc.record({ call: fc.constant('list' as const), blob, instance, digits: fc.integer({ min: 0, max: 3 }) }),
  fc.record({ call: fc.constant('reopen' as const), instance }),
  fc.record({ call: fc.constant('verify' as const), instance }),
  fc.record({ call: fc.constant('gc' as const), blob, instance }),
);

test('whatever is called in whatever order, the store holds what a Map would', async () => {
  const { idOf } = await loadBlake3();
  const ids = blobs.map((bytes) => idOf(bytes));
  await fc.assert(
    fc.asyncProperty(
      fc.array(call, { minLength: 1, maxLength: 30 }),
      fc.constantFrom('sync' as const, 'async' as const, 'auto' as const),
      async (calls, io) => {
        const root = newRoot();
        const file = join(dirname(root), 'file');
        const open = () => FsObjectStore.open(root, { durability: 'none', io, maxStoreBytes: 2 ** 40 });
        const stores = [await open(), await open()];
        const model = new Map<ContentId, Buffer>();
        for (const each of calls) {
          const store = stores[each.instance] as FsObjectStore;
          const n = 'blob' in each ? each.blob : 0;
          const [id, bytes] = [ids[n] as ContentId, blobs[n] as Buffer];
          switch (each.call) {
            case 'put': {
              if (each.by === 'file') fs.writeFileSync(file, bytes);
              const put = {
                bytes: () => store.putBytes(bytes),
                stream: () => store.putStream(new Blob([bytes]).stream()),
                file: () => store.putFile(file),
              }[each.by] as () => Promise<ContentId>;
              expect(await put()).toBe(id);
              model.set(id, bytes);
              break;
            }
            case 'get': {
              const get = {
                bytes: () => store.getBytes(id),
                stream: async () => collected(await store.getStream(id)),
                file: async () => {
                  await store.getToFile(id, file);
                  return fs.readFileSync(file);
                },
              }[each.by] as () => Promise<Uint8Array>;
              const found = await get().catch((error: { code: string }) => error.code);
              const expected = model.get(id) ?? 'OBJECT_NOT_FOUND';
              if (typeof expected === 'string' || typeof found === 'string') expect(found).toBe(expected);
              else expect(Buffer.compare(found, expected)).toBe(0);
              break;
            }
            case 'range': {
              const range = { start: each.start, end: each.start + each.length };
              const found = await store.getBytes(id, { range }).catch((error: { code: string }) => error.code);
              const expected = model.get(id);
              if (typeof found !== 'string') {
                expect(Buffer.compare(found, (expected as Buffer).subarray(range.start, range.end))).toBe(0);
              } else if (expected === undefined) expect(found).toBe('OBJECT_NOT_FOUND');
              else expect([found, each.start > expected.length]).toEqual(['ARGUMENT_INVALID', true]);
              break;
            }
            case 'delete':
              expect(await store.delete(id)).toBe(model.delete(id));
              break;
            case 'list': {
              const prefix = id.slice(0, each.digits);
              const after = each.digits === 3 ? ids[0] : undefined;
              const listed: ContentId[] = [];
              for await (const found of store.list({ prefix, after })) listed.push(found);
              const wanted = (key: ContentId) => key.startsWith(prefix) && (after === undefined || key > after);
              expect(listed).toEqual([...model.keys()].filter(wanted).sort());
              break;
            }
            case 'reopen':
              stores[each.instance] = await open();
              break;
            case 'verify':
              expect(await store.verify()).toMatchObject({ checked: model.size, faultCount: 0, sidecarsHealed: 0 });
              break;
            case 'gc': {
              const kept = model.has(id) ? [id] : [];
              const { removed } = await store.gc({ keep: kept, graceMs: 0, removalsPerSMax: 1_000_000 });
              // What was put within this very millisecond is young still.
              expect(removed).toBeLessThanOrEqual(model.size - kept.length);
              const there = await existsMany(store, ids);
              for (const [at, other] of ids.entries()) if (!there[at]) model.delete(other);
              expect(kept.every((key) => model.has(key))).toBe(true);
              break;
            }
          }
        }
        for (const store of stores) {
          expect(await existsMany(store, ids)).toEqual(ids.map((id) => model.has(id)));
          for (const [id, bytes] of model) expect((await store.stat(id))?.size).toBe(bytes.length);
        }
        expect(drafts(root)).toEqual([]);
        fs.rmSync(dirname(root), { recursive: true });
      },
    ),
    { numRuns: 40 },
  );
}, 120_000);

async function collected(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Uint8Array[] = [];
  for await (const chunk of chunks) all.push(chunk);
  return Buffer.concat(all);
}
