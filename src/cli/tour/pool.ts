/** Bounded concurrency, twice: a number of workers over one source, and a number of slots to pass through. */

/**
 * Works off `source` with up to `workers` items at a time. After the first failure, or once `signal` aborts, no further
 * item is taken; resolves or rejects when those under way have ended.
 */
export async function eachOf<T>(
  source: AsyncGenerator<T>,
  workers: number,
  signal: AbortSignal,
  work: (item: T) => Promise<void>,
): Promise<void> {
  let failed = false;
  const worker = async () => {
    while (!failed && !signal.aborted) {
      const next = await source.next();
      if (next.done) return;
      await work(next.value);
    }
  };
  const settled = await Promise.allSettled(
    Array.from({ length: workers }, () =>
      worker().catch((error: unknown) => {
        failed = true;
        throw error;
      }),
    ),
  );
  await source.return(undefined);
  const first = settled.find((result) => result.status === 'rejected');
  if (first !== undefined) throw first.reason;
}

/** Lets a number of callers through at a time; the others wait in the order in which they came. */
export class Slots {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(count: number) {
    this.#free = count;
  }

  async with<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free++;
      else next();
    }
  }
}
