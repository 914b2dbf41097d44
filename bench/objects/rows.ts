/** A row of the table of targets, measured. */
import { medians, type Series } from './turns.js';

export interface Row {
  readonly name: string;
  readonly target: string;
  readonly figure: string;
  /** Whether every part of the target is met; `null` where the row could not be measured. */
  readonly met: boolean | null;
  readonly detail: string;
  /** What `values` count; `null` for a row that has none to draw. */
  readonly unit: string | null;
  /** Medians by contender. */
  readonly values: Readonly<Record<string, number>>;
  readonly series: Series;
}

/** @param ratios each at least what `wanted` says in its place */
export function rowOf(
  name: string,
  target: string,
  ratios: readonly number[],
  wanted: readonly number[],
  { figure, series, unit = 'a second' }: { figure: string; series: Series; unit?: string },
): Row {
  const values = medians(series);
  const detail = Object.entries(values)
    .sort(([, a], [, b]) => b - a)
    .map(([who, value]) => `${who} ${round(value)}`)
    .join(', ');
  const met = ratios.every((value, n) => value >= (wanted[n] ?? Number.POSITIVE_INFINITY));
  return { name, target, figure, met, detail: `${detail} ${unit}`, unit, values, series };
}

/** Three digits that matter. */
export function round(value: number): string {
  return value >= 100 ? String(Math.round(value)) : value.toPrecision(3);
}
