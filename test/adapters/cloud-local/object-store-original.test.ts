/** A store that the original system wrote, in its layout and spelling, is one of ours. */
import { cpSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from '@jest/globals';
import { FsObjectStore } from '../../../src/adapters/cloud-local/object-store.js';
import type { ContentId } from '../../../src/contracts/ids.js';
import { newRoot } from './object-store-kit.js';

const FIXTURE = fileURLToPath(new URL('../../fixtures/original-store', import.meta.url));

/** As the fixture's README says. */
const OBJECTS = [
  ['2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213', 1, 'application/octet-stream', 1735689601000],
  ['6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85', 3, 'text/plain', 1735689603000],
  ['af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262', 0, null, 1735689600000],
  ['d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444', 1025, 'application/x-ndjson', 1735689602500],
] as const;

async function openCopy(): Promise<FsObjectStore> {
  const root = newRoot();
  cpSync(FIXTURE, root, { recursive: true });
  return FsObjectStore.open(root);
}

test('its objects are listed, described and read, verified', async () => {
  const store = await openCopy();
  const listed: ContentId[] = [];
  for await (const id of store.list()) listed.push(id);
  expect(listed).toEqual(OBJECTS.map(([id]) => id));
  for (const [id, size, contentType, createdAtMs] of OBJECTS) {
    expect(await store.stat(id as ContentId)).toEqual({ id, size, contentType, createdAtMs });
    expect((await store.getBytes(id as ContentId)).byteLength).toBe(size);
  }
});

test('a put of bytes that it has finds them, and keeps what the original said of them', async () => {
  const store = await openCopy();
  const [[id, size, contentType, createdAtMs]] = OBJECTS;
  expect(await store.putBytes(Uint8Array.of(0), { contentType: 'text/html' })).toBe(id);
  expect(await store.stat(id as ContentId)).toEqual({ id, size, contentType, createdAtMs });
});

test('a collection takes its objects like any other', async () => {
  const store = await openCopy();
  const [[kept]] = OBJECTS;
  expect(await store.gc({ keep: [kept as ContentId], graceMs: 0 })).toMatchObject({ kept: 1, removed: 3 });
});
