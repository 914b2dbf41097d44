import fs from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import type { VerifyFault } from '../../../src/adapters/cloud-local/object-store/verify.js';
import { FsObjectStore } from '../../../src/adapters/cloud-local/object-store.js';
import type { ContentId } from '../../../src/contracts/ids.js';
import { blobPath, newRoot, recordedFiles, sidecarPath } from './object-store-kit.js';

const MIB = 1_048_576;

/** A store of three blobs, the second of which spans several blocks. */
async function stored(root = newRoot()) {
  const store = await FsObjectStore.open(root, { durability: 'none' });
  const blobs = [Buffer.from('one'), Buffer.alloc(3 * MIB + 5, 2), Buffer.alloc(0)];
  const ids: ContentId[] = [];
  for (const bytes of blobs) ids.push(await store.putBytes(bytes, { contentType: 'a/b' }));
  return { root, store, blobs, ids: ids as [ContentId, ContentId, ContentId] };
}

function spoil(path: string): void {
  const bytes = fs.readFileSync(path);
  bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
  fs.writeFileSync(path, bytes);
}

describe('verify', () => {
  test('a whole store has no faults, and every byte of it was read', async () => {
    const { store } = await stored();
    expect(await store.verify()).toEqual({
      checked: 3,
      bytes: 3 + 3 * MIB + 5,
      faultCount: 0,
      faults: [],
      quarantined: 0,
      sidecarsHealed: 0,
      sidecarsLeft: 0,
    });
  });

  test('names each blob that is not its id, one bit or the whole end missing, and leaves it where it is', async () => {
    const { root, store, ids } = await stored();
    spoil(blobPath(root, ids[0]));
    fs.truncateSync(blobPath(root, ids[1]), MIB);
    const told: VerifyFault[] = [];
    const report = await store.verify({ onFault: (fault) => void told.push(fault) });
    expect(report).toMatchObject({ checked: 3, faultCount: 2, quarantined: 0 });
    expect(report.faults.map(({ id }) => id).sort()).toEqual([ids[0], ids[1]].sort());
    for (const fault of report.faults) {
      expect(fault).toMatchObject({ problem: 'corrupt', message: `object corrupt: ${fault.id}`, quarantinedTo: null });
    }
    expect(told).toEqual(report.faults);
    expect(fs.existsSync(blobPath(root, ids[0]))).toBe(true);
  });

  test('what it found corrupt, the next put of the right bytes replaces', async () => {
    const { root, store, blobs, ids } = await stored();
    spoil(blobPath(root, ids[0]));
    await store.verify();
    await store.putBytes(blobs[0] as Buffer);
    expect(await store.verify()).toMatchObject({ faultCount: 0 });
  });

  test('quarantine moves corrupt blobs away, never over one that lies there, and stats() counts them', async () => {
    const { root, store, blobs, ids } = await stored();
    const aside = join(root, 'quarantine', ids[0]);
    for (const path of [aside, `${aside}.2`]) {
      spoil(blobPath(root, ids[0]));
      const { faults } = await store.verify({ quarantine: true });
      expect(faults).toMatchObject([{ id: ids[0], quarantinedTo: path }]);
      expect(fs.readFileSync(path).equals(blobs[0] as Buffer)).toBe(false);
      await expect(store.getBytes(ids[0])).rejects.toMatchObject({ code: 'OBJECT_NOT_FOUND' });
      await store.putBytes(blobs[0] as Buffer);
    }
    expect(Buffer.from(await store.getBytes(ids[0]))).toEqual(blobs[0]);
    expect((await store.stats()).quarantined).toBe(2);
    expect(await store.verify({ quarantine: true })).toMatchObject({ checked: 3, faultCount: 0, quarantined: 0 });
    expect(fs.readdirSync(join(root, 'quarantine'))).toHaveLength(2);
  });

  test('a blob that a put has mended since it was read is not quarantined', async () => {
    const { root, ids, blobs } = await stored();
    spoil(blobPath(root, ids[0]));
    const { files } = recordedFiles((call, path) => {
      if (call === 'rename' && path.includes('/quarantine/')) {
        fs.writeFileSync(blobPath(root, ids[0]), blobs[0] as Buffer);
      }
      return undefined;
    });
    const store = await FsObjectStore.open(root, { durability: 'none' }, { files });
    const { faults } = await store.verify({ quarantine: true });
    expect(faults).toMatchObject([{ id: ids[0], quarantinedTo: null }]);
    expect(fs.readdirSync(join(root, 'quarantine'))).toEqual([]);
    expect(Buffer.from(await store.getBytes(ids[0]))).toEqual(blobs[0]);
  });

  test('sidecars that are missing, torn or of another size are written anew, with the content type where it is legible', async () => {
    const { root, store, ids } = await stored();
    fs.rmSync(sidecarPath(root, ids[0]));
    fs.writeFileSync(sidecarPath(root, ids[1]), '{"size":31');
    fs.writeFileSync(sidecarPath(root, ids[2]), '{"size":7,"contentType":"c/d","createdAtMs":5}');
    expect(await store.verify()).toMatchObject({ faultCount: 0, sidecarsHealed: 3 });
    expect(await store.verify()).toMatchObject({ sidecarsHealed: 0 });
    expect(await store.stat(ids[1])).toMatchObject({ contentType: null });
    expect(JSON.parse(fs.readFileSync(sidecarPath(root, ids[2]), 'utf8'))).toEqual({
      size: 0,
      contentType: 'c/d',
      createdAtMs: 5,
    });
  });

  test('a blob that cannot be read is named so, is not moved, and the others are checked', async () => {
    const { root, ids } = await stored();
    const { files } = recordedFiles((call, path) =>
      call === 'read' && path === blobPath(root, ids[1]) ? 'EIO' : undefined,
    );
    const store = await FsObjectStore.open(root, { durability: 'none' }, { files });
    const { checked, faults } = await store.verify({ quarantine: true });
    expect(checked).toBe(3);
    expect(faults).toMatchObject([{ id: ids[1], problem: 'unreadable', quarantinedTo: null }]);
    expect(faults[0]?.message).toContain('EIO');
    expect(fs.existsSync(blobPath(root, ids[1]))).toBe(true);
  });

  test('tells its progress within a large blob, too, and goes on after an id', async () => {
    const { store, ids } = await stored();
    const bytes: number[] = [];
    await store.verify({ onProgress: (report) => bytes.push(report.bytes) });
    expect(bytes.length).toBeGreaterThanOrEqual(5);
    expect(bytes).toEqual([...bytes].sort((a, b) => a - b));
    const sorted = [...ids].sort();
    expect(await store.verify({ after: sorted[0] })).toMatchObject({ checked: 2 });
    expect(await store.verify({ prefix: sorted[2]?.slice(0, 10) })).toMatchObject({ checked: 1 });
  });

  test('an abort ends it with the reason; what a callback throws ends it, too; unknown options are refused', async () => {
    const { root, store, ids } = await stored();
    const reason = new Error('enough');
    await expect(store.verify({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const aborting = new AbortController();
    await expect(store.verify({ signal: aborting.signal, onProgress: () => aborting.abort(reason) })).rejects.toBe(
      reason,
    );
    spoil(blobPath(root, ids[0]));
    const fail = () => {
      throw reason;
    };
    await expect(store.verify({ onFault: fail })).rejects.toBe(reason);
    await expect(store.verify({ quarantin: true } as object)).rejects.toMatchObject({
      message: expect.stringContaining('Did you mean "quarantine"?'),
    });
  });
});
