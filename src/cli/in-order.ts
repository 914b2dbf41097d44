/** Work on several things at a time, its results in the order of the things. */

/**
 * What `work` makes of each item, with up to `atOnce` under way. After a failure no further item is taken; it is thrown
 * in its place, when those under way have ended.
 */
export async function* inOrder<T, R>(
  items: Iterable<T> | AsyncIterable<T>,
  atOnce: number,
  work: (item: T) => Promise<R>,
): AsyncGenerator<R, void, void> {
  const underWay: Promise<R>[] = [];
  let failed = false;
  try {
    for await (const item of items) {
      if (failed) break;
      const result = work(item);
      // Noted at once, thrown in its turn.
      result.catch(() => {
        failed = true;
      });
      if (underWay.push(result) >= atOnce) yield (await underWay.shift()) as R;
    }
    for (;;) {
      const result = underWay.shift();
      if (result === undefined) return;
      yield await result;
    }
  } finally {
    await Promise.allSettled(underWay);
  }
}
