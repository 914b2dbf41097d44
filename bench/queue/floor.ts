/**
 * The floor: the least that keeps the same promises. An append-only log of enqueues and acks, and a deque in memory; what
 * is asked for while a write and its sync are under way becomes the next write. No lookup by anything but the number of
 * the record, no attempts, no keys, no compaction: whatever a queue does beyond this, it pays for.
 */
import { close, fdatasync, open, write } from 'node:fs';
import { promisify } from 'node:util';
import type { Opened } from './contenders.js';

const ENQUEUED = 1;
const ACKED = 2;

/** A record: kind, number, length of the payload, a sum over it, payload. */
const HEADER_BYTES = 17;

export async function openLog(file: string): Promise<Opened> {
  const fd = await promisify(open)(file, 'a');
  const appending = promisify(write) as (fd: number, data: Buffer) => Promise<{ bytesWritten: number }>;
  const syncing = promisify(fdatasync);
  let records: Buffer[] = [];
  let settles: (() => void)[] = [];
  let flushing = false;
  let last = 0;
  let failure: unknown = null;
  const pending: { number: number; payload: Buffer }[] = [];
  let head = 0;

  const flush = async () => {
    flushing = true;
    while (records.length > 0 && failure === null) {
      const data = Buffer.concat(records);
      const done = settles;
      records = [];
      settles = [];
      try {
        const { bytesWritten } = await appending(fd, data);
        if (bytesWritten !== data.length) throw new Error('the log was written in part');
        await syncing(fd);
      } catch (error) {
        failure = error;
        throw error;
      }
      for (const settle of done) settle();
    }
    flushing = false;
  };
  const append = (kind: number, number: number, payload: Buffer) =>
    new Promise<void>((resolve, reject) => {
      const record = Buffer.allocUnsafe(HEADER_BYTES + payload.length);
      record[0] = kind;
      record.writeBigUInt64LE(BigInt(number), 1);
      record.writeUInt32LE(payload.length, 9);
      record.writeUInt32LE(sum(payload), 13);
      payload.copy(record, HEADER_BYTES);
      records.push(record);
      settles.push(resolve);
      if (!flushing) void Promise.resolve().then(flush).catch(reject);
      flushing = true;
    });

  return {
    enqueue: async (payload) => {
      const number = ++last;
      const own = Buffer.from(payload);
      await append(ENQUEUED, number, own);
      pending.push({ number, payload: own });
    },
    takeAndAck: async () => {
      const item = pending[head];
      if (item === undefined) return false;
      head += 1;
      await append(ACKED, item.number, Buffer.alloc(0));
      return true;
    },
    close: () => promisify(close)(fd),
  };
}

/** FNV-1a: a torn record is told from a whole one. */
function sum(bytes: Buffer): number {
  let hash = 0x811c9dc5;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash;
}
