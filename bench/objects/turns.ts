/** Contenders taking turns, and what their figures come to. */
import { randomBytes } from 'node:crypto';
import { performance } from 'node:perf_hooks';
import { median } from '../results.js';

/** Operations a second, by contender, a figure for each round. */
export type Series = Readonly<Record<string, readonly number[]>>;

export interface Turns {
  readonly who: readonly string[];
  /** Counted rounds; one more goes before them. */
  readonly rounds: number;
  readonly turnMs: number;
  /** Calls of one contender under way at once. */
  readonly inFlight: number;
  /** Makes the operation of one contender's turn. */
  readonly act: (name: string) => (n: number) => unknown;
}

/** Operations that a turn has at least, however slow they are. */
const OPERATIONS_MIN = 10;

export async function turns({ who, rounds, turnMs, inFlight, act }: Turns): Promise<Series> {
  const series: Record<string, number[]> = Object.fromEntries(who.map((name) => [name, []]));
  for (let round = 0; round <= rounds; round++) {
    for (let turn = 0; turn < who.length; turn++) {
      const name = who[(turn + round) % who.length] as string;
      const operate = act(name);
      let done = 0;
      const startedMs = performance.now();
      const lane = async () => {
        while (done < OPERATIONS_MIN || performance.now() - startedMs < turnMs) await operate(done++);
      };
      if (inFlight === 1) await lane();
      else await Promise.all(Array.from({ length: inFlight }, lane));
      const perSecond = (done / (performance.now() - startedMs)) * 1_000;
      if (round > 0) series[name]?.push(perSecond);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
  return series;
}

export function medians(series: Series): Record<string, number> {
  return Object.fromEntries(Object.entries(series).map(([name, values]) => [name, median(values)]));
}

/** The median of the rounds' ratios: what slowed one round slowed both. */
export function ratio(series: Series, one: string, other: string): number {
  const others = series[other] ?? [];
  return median((series[one] ?? []).map((value, round) => value / (others[round] ?? Number.NaN)));
}

/** Bytes that nobody has stored before. Made from noise and a count: a copy costs less than drawing them. */
export class Blobs {
  readonly #noise: Buffer;
  #count = 0;

  constructor(size: number) {
    this.#noise = randomBytes(size);
  }

  fresh(): Buffer {
    const bytes = Buffer.from(this.#noise);
    bytes.writeUInt32LE(this.#count++, 0);
    return bytes;
  }
}
