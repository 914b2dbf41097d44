/**
 * One source read by two: whoever pulls, and a second reader that is handed each chunk on the way.
 *
 * The second reader never holds the first one's chunks for itself: a chunk is passed on when both are done with it, as
 * sources may use it again. It may leave at any time; the first reader does not notice.
 */

/** What the second reader iterates. */
export class Feed implements AsyncIterable<Uint8Array> {
  #chunk: Uint8Array | null = null;
  #ended = false;
  #failure: { readonly error: unknown } | null = null;
  #left = false;
  #wake: () => void = () => {};
  #done: () => void = () => {};

  /** Hands over a chunk; resolves when the reader asks for the next one, or has left. */
  push(chunk: Uint8Array): Promise<void> {
    if (this.#left) return Promise.resolve();
    this.#chunk = chunk;
    const done = new Promise<void>((resolve) => {
      this.#done = resolve;
    });
    this.#wake();
    return done;
  }

  /** There are no more chunks. */
  end(): void {
    this.#ended = true;
    this.#wake();
  }

  /** The source has failed, and so does the reader. */
  fail(error: unknown): void {
    this.#failure = { error };
    this.#wake();
  }

  /** The reader has left, or is not to get any more. */
  leave(): void {
    this.#left = true;
    this.#done();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, void> {
    try {
      for (;;) {
        while (this.#chunk === null && !this.#ended && this.#failure === null) {
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
        }
        if (this.#failure !== null) throw this.#failure.error;
        if (this.#chunk === null) return;
        const chunk = this.#chunk;
        yield chunk;
        this.#chunk = null;
        this.#done();
      }
    } finally {
      this.leave();
    }
  }
}

/** `source`, with each chunk handed to `feed` too; an error of it, or whoever reads leaving early, fails the feed. */
export async function* shared(source: AsyncIterable<Uint8Array>, feed: Feed): AsyncGenerator<Uint8Array, void, void> {
  let ended = false;
  try {
    for await (const chunk of source) {
      const done = feed.push(chunk);
      yield chunk;
      await done;
    }
    ended = true;
    feed.end();
  } catch (error) {
    feed.fail(error);
    throw error;
  } finally {
    if (!ended) feed.fail(new Error('the source was not read to its end'));
  }
}
