/** What a store of 1,000,000 blobs costs that one of 10,000 does not. Takes several minutes. */
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { FsObjectStore } from '../../src/adapters/cloud-local/object-store.js';
import type { ContentId } from '../../src/contracts/ids.js';
import { type Row, round, rowOf } from './rows.js';
import { Blobs, medians, type Series } from './turns.js';

const SMALL = 10_000;
const LARGE = 1_000_000;
const ROUNDS = 7;
const PER_ROUND = 1_000;
const OPENS_PER_ROUND = 200;
/** Memory that walking the large store may take beyond what walking the small one did, MiB. */
const GROWTH_MAX_MIB = 64;

export async function million(folder: string): Promise<Row[]> {
  const blobs = new Blobs(512);
  const stores = await Promise.all(
    [SMALL, LARGE].map(async (count) => {
      const root = join(folder, `of-${count}`);
      const store = await FsObjectStore.open(root, { durability: 'none' });
      const ids: ContentId[] = [];
      return { count, root, store, ids };
    }),
  );
  for (const { count, store, ids } of stores) {
    for (let n = 0; n < count; n++) {
      const id = await store.putBytes(blobs.fresh());
      if (n % (count / SMALL) === 0) ids.push(id);
      if (n % 100_000 === 99_999) console.log(`         ${n + 1} blobs`);
    }
  }
  const series: Record<'open' | 'put' | 'get', Record<string, number[]>> = { open: {}, put: {}, get: {} };
  for (let turn = 0; turn <= ROUNDS; turn++) {
    for (const { count, root, store, ids } of turn % 2 === 0 ? stores : [...stores].reverse()) {
      const time = async (what: 'open' | 'put' | 'get', times: number, act: (n: number) => Promise<unknown>) => {
        const startedMs = performance.now();
        for (let n = 0; n < times; n++) await act(n);
        const perSecond = (times / (performance.now() - startedMs)) * 1_000;
        const of = series[what];
        if (turn > 0) of[`${count} blobs`] = [...(of[`${count} blobs`] ?? []), perSecond];
      };
      await time('open', OPENS_PER_ROUND, () => FsObjectStore.open(root, { durability: 'none' }));
      await time('put', PER_ROUND, () => store.putBytes(blobs.fresh()));
      await time('get', PER_ROUND, (n) => store.getBytes(ids[(n * 7) % ids.length] as ContentId));
    }
  }
  const rows = Object.entries(series).map(([what, of]: [string, Series]) => {
    const values = medians(of);
    const value = (values[`${LARGE} blobs`] ?? 0) / (values[`${SMALL} blobs`] ?? 1);
    return rowOf(`1,000,000 blobs: ${what}`, 'as fast as with 10,000, ±20 %', [value], [0.8], {
      figure: `${round(value)}×`,
      series: of,
    });
  });
  const grown = await Promise.all(stores.slice(1).map(({ store }) => walked(store)));
  const [mib = Number.NaN] = grown;
  rows.push({
    ...{ name: '1,000,000 blobs: list and verify', target: `in bounded memory: grows by ≤ ${GROWTH_MAX_MIB} MiB` },
    ...{ figure: `${round(mib)} MiB`, met: mib <= GROWTH_MAX_MIB, detail: 'growth of the resident set', unit: null },
    ...{ values: {}, series: {} },
  });
  return rows;
}

async function walked(store: FsObjectStore): Promise<number> {
  const before = process.memoryUsage().rss;
  let most = before;
  let count = 0;
  for await (const _ of store.list()) if (++count % 10_000 === 0) most = Math.max(most, process.memoryUsage().rss);
  const report = await store.verify({
    onProgress: () => {
      most = Math.max(most, process.memoryUsage().rss);
    },
  });
  if (count < LARGE || report.checked < LARGE) throw new Error('the walk missed blobs');
  return (most - before) / 1_048_576;
}
