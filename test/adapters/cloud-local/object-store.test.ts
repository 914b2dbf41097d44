import fs from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { FsObjectStore } from '../../../src/adapters/cloud-local/object-store.js';
import type { ContentId } from '../../../src/contracts/ids.js';
import { ObjectStore } from '../../../src/contracts/object-store.js';
import { conformance } from '../../../src/testing/conformance.js';
import '../../../src/testing/object-store-suite.js';
import { blobPath, draftName, drafts, newRoot, sidecarPath } from './object-store-kit.js';

const HOUR_MS = 3_600_000;
const MIB = 1_048_576;

describe.each([
  ['full', 'auto'],
  ['data', 'sync'],
  ['none', 'async'],
] as const)('FsObjectStore at durability %s, io %s, keeps the contract', (durability, io) => {
  for (const c of conformance(ObjectStore, { features: ['range'] })) {
    test(c.name, () => c.run(() => FsObjectStore.open(newRoot(), { durability, io })));
  }
});

describe('as the original system has it', () => {
  test('round-trip: the bytes put are the bytes got, after opening again too', async () => {
    const root = newRoot();
    const id = await (await FsObjectStore.open(root)).putBytes(Buffer.from('hello'));
    expect(Buffer.from(await (await FsObjectStore.open(root)).getBytes(id)).toString()).toBe('hello');
  });

  test('sharded layout: ab/ <- hex[0..2], cd/ <- hex[2..4], abcd…fullhash <- blob', async () => {
    const root = newRoot();
    const id = await (await FsObjectStore.open(root)).putBytes(Buffer.from('hello'));
    expect(fs.readFileSync(`${root}/${id.slice(0, 2)}/${id.slice(2, 4)}/${id}`, 'utf8')).toBe('hello');
  });

  test('meta sidecar: sibling <hex>.meta.json per blob', async () => {
    const root = newRoot();
    const before = Date.now();
    const id = await (await FsObjectStore.open(root)).putBytes(Buffer.from('hello'), { contentType: 'text/plain' });
    const sidecar = JSON.parse(fs.readFileSync(sidecarPath(root, id), 'utf8'));
    expect(sidecar).toEqual({ size: 5, contentType: 'text/plain', createdAtMs: expect.any(Number) });
    expect(sidecar.createdAtMs).toBeGreaterThanOrEqual(before);
  });

  test('exists: true for what was put, false for what was not', async () => {
    const store = await FsObjectStore.open(newRoot());
    expect(await store.exists(await store.putBytes(Buffer.from('a')))).toBe(true);
    expect(await store.exists('0'.repeat(64) as ContentId)).toBe(false);
  });

  test('idempotency: repeated puts of the same bytes give the same ContentId, no double-write', async () => {
    const root = newRoot();
    const store = await FsObjectStore.open(root);
    const bytes = Buffer.alloc(2 * MIB, 7);
    const id = await store.putBytes(bytes, { contentType: 'a/a' });
    const files = () => [blobPath(root, id), sidecarPath(root, id)].map((path) => fs.statSync(path, { bigint: true }));
    const [before, shard] = [files(), fs.statSync(join(blobPath(root, id), '..'), { bigint: true })];
    expect(await store.putBytes(bytes, { contentType: 'b/b' })).toBe(id);
    expect(await store.putStream(new Blob([bytes]).stream())).toBe(id);
    expect(await (await FsObjectStore.open(root)).putBytes(bytes)).toBe(id);
    expect(files()).toEqual(before.map((stat) => expect.objectContaining({ ino: stat.ino, ctimeNs: stat.ctimeNs })));
    expect(fs.statSync(join(blobPath(root, id), '..'), { bigint: true }).mtimeNs).toBe(shard.mtimeNs);
    expect(drafts(root)).toEqual([]);
  });

  test('fatal-on-missing: get_bytes on a missing id returns Fatal(Internal("object not found: …"))', async () => {
    const store = await FsObjectStore.open(newRoot());
    const id = 'f'.repeat(64) as ContentId;
    const fault = { severity: 'fatal', kind: 'Internal', code: 'OBJECT_NOT_FOUND', message: `object not found: ${id}` };
    await expect(store.getBytes(id)).rejects.toMatchObject(fault);
    await expect(store.getStream(id)).rejects.toMatchObject(fault);
  });

  test('lies under ./data/object-store unless told otherwise, wherever the process goes later', async () => {
    const folder = join(newRoot(), '..');
    const home = process.cwd();
    try {
      process.chdir(folder);
      const store = await FsObjectStore.open();
      process.chdir('/');
      const id = await store.putBytes(Buffer.from('hello'));
      expect(fs.existsSync(blobPath(join(folder, 'data/object-store'), id))).toBe(true);
      expect(store.root).toBe(join(folder, 'data/object-store'));
    } finally {
      process.chdir(home);
    }
  });

  test('a store it wrote is read: no store.json, sidecars with content_type and created_at_ms', async () => {
    const root = newRoot();
    const id = await (await FsObjectStore.open(root)).putBytes(Buffer.from('old'));
    fs.rmSync(join(root, 'store.json'));
    fs.rmSync(join(root, 'tmp'), { recursive: true });
    fs.writeFileSync(sidecarPath(root, id), '{"size":3,"content_type":"text/old","created_at_ms":12345}');
    const store = await FsObjectStore.open(root);
    expect(await store.stat(id)).toEqual({ id, size: 3, contentType: 'text/old', createdAtMs: 12_345 });
    expect(Buffer.from(await store.getBytes(id)).toString()).toBe('old');
    expect(fs.existsSync(join(root, 'store.json'))).toBe(true);
  });
});

describe('a store on disk', () => {
  test('is still an FsObjectStore behind its checks, and says how it was opened', async () => {
    const store = await FsObjectStore.open(newRoot(), { durability: 'data' });
    expect(store).toBeInstanceOf(FsObjectStore);
    expect(store.durability).toBe('data');
    expect((await FsObjectStore.open(newRoot())).durability).toBe('full');
  });

  test('refuses options it does not know', async () => {
    const refused = { kind: 'SchemaViolation', message: expect.stringContaining('one of "none", "data", "full"') };
    await expect(FsObjectStore.open(newRoot(), { durability: 'ful' as 'full' })).rejects.toMatchObject(refused);
    await expect(FsObjectStore.open(newRoot(), { io: 'fast' as 'auto' })).rejects.toThrow('io must be one of "auto"');
    await expect(FsObjectStore.open(newRoot(), { durabilty: 'none' } as never)).rejects.toMatchObject({
      code: 'ARGUMENT_INVALID',
      message:
        'unknown option "durabilty" in options. Did you mean "durability"? Known: durability, io, maxBlobBytes, maxStoreBytes.',
    });
    await expect(FsObjectStore.open('')).rejects.toMatchObject({ kind: 'SchemaViolation' });
  });

  test('names its format and hash in store.json, and refuses a newer format and another hash, naming both', async () => {
    const root = newRoot();
    await FsObjectStore.open(root);
    const path = join(root, 'store.json');
    expect(JSON.parse(fs.readFileSync(path, 'utf8'))).toEqual({ format: 1, hash: 'blake3', durability: 'full' });
    const refusal = async (text: string) => {
      fs.writeFileSync(path, text);
      await expect(FsObjectStore.open(root)).rejects.toMatchObject({ kind: 'ConfigInvalid', code: 'STORAGE_FORMAT' });
      return FsObjectStore.open(root).catch((error: Error) => error.message);
    };
    expect(await refusal('{"format":2,"hash":"blake3"}')).toMatch(/format 2, this version uses format 1/);
    expect(await refusal('{"format":1,"hash":"sha256"}')).toMatch(/"sha256", this adapter uses "blake3"/);
    for (const text of ['', 'null', '[1]', '{"format":"1"}', '{"form']) {
      expect(await refusal(text)).toMatch(/does not describe an object store/);
    }
  });

  test('stores nothing while it reads, and opens beside another instance', async () => {
    const root = newRoot();
    const [one, other] = await Promise.all([FsObjectStore.open(root), FsObjectStore.open(root)]);
    const id = await one.putBytes(Buffer.from('shared'));
    expect(await other.exists(id)).toBe(true);
    expect(await other.delete(id)).toBe(true);
    expect(await one.exists(id)).toBe(false);
  });

  test('sweeps drafts older than a day when it opens, and no younger ones', async () => {
    const root = newRoot();
    const store = await FsObjectStore.open(root);
    const id = await store.putBytes(Buffer.from('kept'));
    for (const [name, ageMs] of [
      [draftName('old'), 25 * HOUR_MS],
      [draftName('young'), 23 * HOUR_MS],
    ] as const) {
      fs.writeFileSync(join(root, 'tmp', name), name);
      fs.utimesSync(join(root, 'tmp', name), new Date(), new Date(Date.now() - ageMs));
    }
    fs.utimesSync(blobPath(root, id), new Date(0), new Date(0));
    fs.mkdirSync(join(root, 'tmp', draftName('folder')));
    await FsObjectStore.open(root);
    expect(drafts(root).sort()).toEqual([draftName('folder'), draftName('young')]);
    expect(await store.exists(id)).toBe(true);
  });

  test('a root that has other files in it keeps them, however old, when it is opened, swept and collected', async () => {
    const root = newRoot();
    const names = ['data.db', 'tmp/old.txt', 'tmp/1234-0123456789abcde-0', 'tmp/rollout-draft.txt', 'gc/x', 'usage/x'];
    for (const name of names) {
      fs.mkdirSync(dirname(join(root, name)), { recursive: true });
      fs.writeFileSync(join(root, name), name);
      fs.utimesSync(join(root, name), 0, 0);
    }
    for (let open = 0; open < 2; open++) {
      const store = await FsObjectStore.open(root);
      await store.gc({ keep: [], graceMs: 0 });
      await store.verify({ quarantine: true });
    }
    for (const name of names) expect(fs.readFileSync(join(root, name), 'utf8')).toBe(name);
  });

  test('a draft that a killed put left has a name that is swept', async () => {
    const root = newRoot();
    const store = await FsObjectStore.open(root);
    let left = '';
    const source = async function* () {
      yield Buffer.alloc(2 * 1_048_576);
      [left = ''] = drafts(root);
      fs.copyFileSync(join(root, 'tmp', left), join(root, 'copy'));
    };
    await store.putStream(source());
    fs.renameSync(join(root, 'copy'), join(root, 'tmp', left));
    fs.utimesSync(join(root, 'tmp', left), 0, 0);
    await FsObjectStore.open(root);
    expect(drafts(root)).toEqual([]);
  });

  test('list passes over whatever is not a blob of ours', async () => {
    const root = newRoot();
    const store = await FsObjectStore.open(root);
    const id = await store.putBytes(Buffer.from('mine'));
    const shard = join(blobPath(root, id), '..');
    const misplaced = id.startsWith('0') ? '1'.repeat(64) : '0'.repeat(64);
    for (const name of ['notes.txt', 'short', misplaced, id.toUpperCase()]) fs.writeFileSync(join(shard, name), '');
    for (const name of ['zz', 'quarantine', 'gc']) fs.mkdirSync(join(root, name, '00'), { recursive: true });
    const files = ['00', 'ff'].filter((name) => !id.startsWith(name));
    for (const name of files) fs.writeFileSync(join(root, name), 'a file where a shard could be');
    const listed: string[] = [];
    for await (const found of store.list()) listed.push(found);
    expect(listed).toEqual([id]);
  });

  test('puts again where empty folders, tmp or the whole root were taken away', async () => {
    const root = newRoot();
    const store = await FsObjectStore.open(root);
    const bytes = Buffer.from('comes and goes');
    const id = await store.putBytes(bytes);
    await store.delete(id);
    fs.rmdirSync(join(blobPath(root, id), '..'));
    await store.putBytes(bytes);
    await store.delete(id);
    fs.rmSync(root, { recursive: true });
    expect(await store.putBytes(bytes)).toBe(id);
    expect(Buffer.from(await store.getBytes(id))).toEqual(bytes);
  });

  test('refuses a root that is a file, or lies under one', async () => {
    const file = newRoot();
    fs.writeFileSync(file, '');
    for (const root of [file, join(file, 'deeper')]) {
      await expect(FsObjectStore.open(root)).rejects.toMatchObject({ kind: 'ConfigInvalid', code: 'IO_DENIED' });
    }
    await expect(FsObjectStore.open(file)).rejects.toThrow(`could not make the folder ${file}/tmp: ENOTDIR`);
  });

  test.each(['sync', 'async'] as const)('says so when a shard or a blob is in the way (io %s)', async (io) => {
    const root = newRoot();
    const store = await FsObjectStore.open(root, { io });
    const id = await store.putBytes(Buffer.from('way'));
    fs.rmSync(join(root, id.slice(0, 2)), { recursive: true });
    const denied = { kind: 'ConfigInvalid', code: 'IO_DENIED' };
    fs.mkdirSync(blobPath(root, id), { recursive: true });
    await expect(store.putBytes(Buffer.from('way'))).rejects.toMatchObject(denied);
    await expect(store.getBytes(id)).rejects.toMatchObject(denied);
    expect(await store.exists(id)).toBe(false);
    expect(await store.stat(id)).toBe(null);
    fs.rmSync(join(root, id.slice(0, 2)), { recursive: true });
    fs.mkdirSync(join(root, id.slice(0, 2)));
    fs.writeFileSync(join(blobPath(root, id), '..'), 'a file where a shard should be');
    const fresh = await FsObjectStore.open(root, { io });
    await expect(fresh.putBytes(Buffer.from('way'))).rejects.toMatchObject(denied);
    await expect(fresh.getBytes(id)).rejects.toMatchObject(denied);
    expect(drafts(root)).toEqual([]);
  });
});

describe('sidecars are never worth failing a call for', () => {
  test.each([
    ['missing', null],
    ['empty', ''],
    ['torn', '{"size":5,"contentTy'],
    ['null', 'null'],
    ['of other types', '{"size":"x","contentType":7,"createdAtMs":"now"}'],
    ['endless', `{"contentType":"${'x'.repeat(100_000)}"}`],
  ])('one that is %s is made up from the blob', async (_, text) => {
    const root = newRoot();
    const store = await FsObjectStore.open(root);
    const id = await store.putBytes(Buffer.from('hello'), { contentType: 'text/plain' });
    fs.utimesSync(blobPath(root, id), 1_000, 1_000);
    if (text === null) fs.rmSync(sidecarPath(root, id));
    else fs.writeFileSync(sidecarPath(root, id), text);
    expect(await store.stat(id)).toEqual({ id, size: 5, contentType: null, createdAtMs: 1_000_000 });
    expect(Buffer.from(await store.getBytes(id)).toString()).toBe('hello');
  });

  test.each([['missing'], ['empty']])(
    'one that is %s is written anew by the next put, the blob is not',
    async (how) => {
      const root = newRoot();
      const store = await FsObjectStore.open(root);
      const id = await store.putBytes(Buffer.from('hello'), { contentType: 'text/plain' });
      fs.utimesSync(blobPath(root, id), 1_000, 1_000);
      const before = fs.statSync(blobPath(root, id));
      if (how === 'missing') fs.rmSync(sidecarPath(root, id));
      else fs.truncateSync(sidecarPath(root, id));
      await store.putBytes(Buffer.from('hello'), { contentType: 'text/other' });
      expect(JSON.parse(fs.readFileSync(sidecarPath(root, id), 'utf8'))).toEqual({
        size: 5,
        contentType: null,
        createdAtMs: 1_000_000,
      });
      expect(fs.statSync(blobPath(root, id)).ino).toBe(before.ino);
    },
  );

  test('one that a crash left without its blob is no object, and the next put replaces it', async () => {
    const root = newRoot();
    const store = await FsObjectStore.open(root);
    const id = await store.putBytes(Buffer.from('hello'), { contentType: 'text/crashed' });
    fs.rmSync(blobPath(root, id));
    expect(await store.exists(id)).toBe(false);
    expect(await store.stat(id)).toBe(null);
    expect((await store.list().next()).done).toBe(true);
    await store.putBytes(Buffer.from('hello'), { contentType: 'text/plain' });
    expect((await store.stat(id))?.contentType).toBe('text/plain');
  });
});
