/** Measuring how long something takes, and not waiting for it for ever. */

/** How long `work` took, ms, and what it answered. */
export async function timed<T>(work: () => Promise<T>): Promise<[ms: number, answer: T]> {
  const startedAt = performance.now();
  const answer = await work();
  return [performance.now() - startedAt, answer];
}

/** What `work` answers, unless that takes longer than `ms`: then it rejects, and looks no more at the answer. */
export async function within<T>(ms: number, work: () => Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${ms / 1000} s`)), ms);
  });
  try {
    return await Promise.race([work(), late]);
  } finally {
    clearTimeout(timer);
  }
}
