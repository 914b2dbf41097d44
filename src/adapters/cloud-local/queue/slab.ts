/**
 * Slab: pending items that nobody has taken yet, id and payload one after the other in a few large buffers, first in,
 * first out. A million items of 64 bytes take 94 MB so, and nothing that the garbage collector has to look at; as
 * objects they took 523 MB.
 */
import type { QueueItemId } from '../../../contracts/ids.js';
import { Deque } from './deque.js';

/** The first buffer of a slab is small, as many queues hold next to nothing; each further one is twice as large. */
const CHUNK_BYTES_MIN = 4 * 1024;
const CHUNK_BYTES_MAX = 64 * 1024;

const ID_BYTES = 26;
/** An id in ASCII, and the length of the payload. */
const HEADER_BYTES = ID_BYTES + 4;

interface Chunk {
  readonly bytes: Uint8Array;
  /** The same memory. */
  readonly text: Buffer;
  /** Where the first record that is still there begins. */
  start: number;
  end: number;
}

/** Bytes of memory that an item takes in a slab. */
export function slabBytes(payloadBytes: number): number {
  return HEADER_BYTES + payloadBytes;
}

export class Slab {
  readonly #chunks = new Deque<Chunk>();
  #last: Chunk | undefined;
  #size = 0;
  #payloadBytes = 0;

  get size(): number {
    return this.#size;
  }

  get payloadBytes(): number {
    return this.#payloadBytes;
  }

  /** To be called in the order of the ids. */
  push(id: QueueItemId, payload: Uint8Array): void {
    const recordBytes = slabBytes(payload.length);
    let chunk = this.#last;
    if (chunk === undefined || chunk.end + recordBytes > chunk.bytes.length) chunk = this.#grow(recordBytes);
    const { bytes, text, end } = chunk;
    text.write(id, end, ID_BYTES, 'latin1');
    text.writeUInt32LE(payload.length, end + ID_BYTES);
    bytes.set(payload, end + HEADER_BYTES);
    chunk.end = end + recordBytes;
    this.#size += 1;
    this.#payloadBytes += payload.length;
  }

  /** Id of the item that `popPayload` would take; `null` when there is none. */
  get frontId(): QueueItemId | null {
    const chunk = this.#chunks.front;
    return chunk === undefined || this.#size === 0 ? null : idAt(chunk, chunk.start);
  }

  /** Takes the first item out; the bytes are the caller's. Only while there is one. */
  popPayload(): Uint8Array {
    const chunk = this.#chunks.front as Chunk;
    const at = chunk.start + HEADER_BYTES;
    const payload = chunk.bytes.slice(at, at + chunk.text.readUInt32LE(at - 4));
    chunk.start = at + payload.length;
    this.#size -= 1;
    this.#payloadBytes -= payload.length;
    if (chunk.start === chunk.end) this.#leave(chunk);
    return payload;
  }

  /** Looks for an id: record by record, in the one buffer that can hold it. */
  has(id: QueueItemId): boolean {
    let holder: Chunk | undefined;
    for (const chunk of this.#chunks) {
      if (chunk.start === chunk.end || idAt(chunk, chunk.start) > id) break;
      holder = chunk;
    }
    if (holder === undefined) return false;
    for (let at = holder.start; at < holder.end; at += slabBytes(holder.text.readUInt32LE(at + ID_BYTES))) {
      if (idAt(holder, at) === id) return true;
    }
    return false;
  }

  #grow(recordBytes: number): Chunk {
    const wanted = this.#last === undefined ? CHUNK_BYTES_MIN : 2 * this.#last.bytes.length;
    const size = Math.max(recordBytes, Math.min(wanted, CHUNK_BYTES_MAX));
    const text = Buffer.allocUnsafeSlow(size);
    // An empty last buffer is the only one.
    if (this.#last !== undefined && this.#last.start === this.#last.end) this.#chunks.popFront();
    const chunk = { bytes: new Uint8Array(text.buffer), text, start: 0, end: 0 };
    this.#chunks.pushBack(chunk);
    this.#last = chunk;
    return chunk;
  }

  /** A buffer that was read to its end is written to again when it is the last one, and of the common size. */
  #leave(chunk: Chunk): void {
    if (chunk === this.#last && chunk.bytes.length <= CHUNK_BYTES_MAX) {
      chunk.start = 0;
      chunk.end = 0;
      return;
    }
    this.#chunks.popFront();
    if (chunk === this.#last) this.#last = undefined;
  }
}

function idAt({ text }: Chunk, at: number): QueueItemId {
  // Written by `push`, from an id.
  return text.toString('latin1', at, at + ID_BYTES) as QueueItemId;
}
