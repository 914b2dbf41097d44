import { getEventListeners } from 'node:events';
import { Readable } from 'node:stream';
import { describe, expect, test } from '@jest/globals';
import { ContentId, ObjectStore, type PutHint } from '../../src/contracts/index.js';
import { recorder } from './recorder.js';

const ID = ContentId.parse('0'.repeat(64));
const bytes = (...values: number[]) => new Uint8Array(values);

/** A store whose putStream reads up to `chunksMax` chunks and keeps them. */
function reading(chunksMax = Number.POSITIVE_INFINITY): { store: ObjectStore; chunks: Uint8Array[] } {
  const chunks: Uint8Array[] = [];
  const { door } = recorder(ObjectStore, [], {
    async putStream(source) {
      for await (const chunk of source) if (chunks.push(chunk) >= chunksMax) break;
      return ID;
    },
  });
  return { store: door, chunks };
}

/** A source that says whether it was told to stop. */
class Source implements AsyncIterator<Uint8Array>, AsyncIterable<Uint8Array> {
  returned = 0;
  readonly #steps: (unknown | Error)[];

  constructor(...steps: (unknown | Error)[]) {
    this.#steps = steps;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Uint8Array>> {
    if (this.#steps.length === 0) return { done: true, value: undefined };
    const step = this.#steps.shift();
    if (step instanceof Error) throw step;
    return { done: false, value: step as Uint8Array };
  }

  async return(): Promise<IteratorResult<Uint8Array>> {
    this.returned += 1;
    return { done: true, value: undefined };
  }
}

describe('putStream, the source on its way to the adapter', () => {
  test('chunks arrive as they are, and a source that ends is not told to stop', async () => {
    const { store, chunks } = reading();
    const [one, two] = [bytes(1), Buffer.from([2, 3])];
    const source = new Source(one, bytes(), two);
    expect(await store.putStream(source, { expectedSize: 3 })).toBe(ID);
    expect(chunks).toHaveLength(3);
    expect([chunks[0], chunks[2]]).toEqual([one, two]);
    expect(chunks[0]).toBe(one);
    expect(source.returned).toBe(0);
  });

  test('Node and web streams both fit', async () => {
    const { store, chunks } = reading();
    await store.putStream(Readable.from([Buffer.from('a')]));
    await store.putStream(new Blob(['b']).stream() as never);
    expect(Buffer.concat(chunks).toString()).toBe('ab');
  });

  test.each([
    ['text', 'text', 'each chunk of source must be a Uint8Array or Buffer, found "text"'],
    ['an array', [1], 'each chunk of source must be a Uint8Array or Buffer, found an array'],
    ['nothing', undefined, 'each chunk of source must be a Uint8Array or Buffer, found undefined'],
  ])('a chunk that is %s ends the put and the source', async (_, chunk, message) => {
    const { store, chunks } = reading();
    const source = new Source(bytes(1), chunk, bytes(2));
    await expect(store.putStream(source)).rejects.toMatchObject({ kind: 'SchemaViolation', message });
    expect(chunks).toEqual([bytes(1)]);
    expect(source.returned).toBe(1);
  });

  test.each([
    [4, 'source must be 4 bytes long, as expectedSize says, found 3', 0],
    [2, 'source must be 2 bytes long, as expectedSize says, found 3', 1],
    [0, 'source must be 0 bytes long, as expectedSize says, found 1', 1],
  ])('expectedSize %i of 3 bytes is refused', async (expectedSize, message, returned) => {
    const source = new Source(bytes(1), bytes(2, 3));
    await expect(reading().store.putStream(source, { expectedSize })).rejects.toMatchObject({
      kind: 'SchemaViolation',
      code: 'ARGUMENT_INVALID',
      message,
    });
    expect(source.returned).toBe(returned);
  });

  test('the source’s own error is passed on', async () => {
    const error = new Error('upstream is gone');
    await expect(reading().store.putStream(new Source(bytes(1), error))).rejects.toBe(error);
  });

  test('an adapter that stops reading stops the source', async () => {
    const source = new Source(bytes(1), bytes(2));
    await reading(1).store.putStream(source);
    expect(source.returned).toBe(1);
  });

  test('an abort ends the put while a source that is stuck is awaited', async () => {
    const controller = new AbortController();
    const stuck: AsyncIterable<Uint8Array> = {
      [Symbol.asyncIterator]: () => ({
        next: () => {
          queueMicrotask(() => controller.abort(new Error('stopped')));
          return new Promise(() => {});
        },
        return: () => new Promise(() => {}),
      }),
    };
    await expect(reading().store.putStream(stuck, { signal: controller.signal })).rejects.toThrow('stopped');
    expect(getEventListeners(controller.signal, 'abort')).toEqual([]);
  });

  test('an abort between chunks ends the put before the next', async () => {
    const controller = new AbortController();
    async function* source() {
      yield bytes(1);
      controller.abort(new Error('stopped'));
      yield bytes(2);
    }
    const { store, chunks } = reading();
    await expect(store.putStream(source(), { signal: controller.signal })).rejects.toThrow('stopped');
    expect(chunks).toEqual([bytes(1)]);
  });

  test('a signal that is not aborted changes nothing and is left without listeners', async () => {
    const { signal } = new AbortController();
    const hint: PutHint = { signal };
    await reading().store.putStream(new Source(bytes(1), bytes(2)), hint);
    expect(getEventListeners(signal, 'abort')).toEqual([]);
  });
});
