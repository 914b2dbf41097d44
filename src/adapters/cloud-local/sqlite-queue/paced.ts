/**
 * Work over many items, a batch to a transaction, so that other processes write meanwhile. Between two batches there is a
 * pause: whoever waits for the file asks SQLite for it from time to time, and gets it only by asking in a pause.
 */

/** Items that one transaction of such work reads and changes. */
export const ITEMS_PER_BATCH = 1_000;

/** Of the time that a batch took. Asked for at ever longer distances, the file is had by the fifth time or so. */
const PAUSE_SHARE = 1 / 4;

/** Runs `batch` until it answers that nothing is left. */
export async function inBatches(batch: () => Promise<'more' | 'done'>): Promise<void> {
  for (;;) {
    const startedMs = performance.now();
    if ((await batch()) === 'done') return;
    const pauseMs = Math.ceil((performance.now() - startedMs) * PAUSE_SHARE);
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}
