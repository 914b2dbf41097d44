/** What the figures are held against: each row with its target, its figure, and whether it is met. */
import { median } from '../results.js';
import type { Figures } from './cells.js';
import { BULLMQ_ALWAYS, FLOOR_NAME, NODE_SQLITE, PLAINJOB_DEFAULT, PLAINJOB_FULL, SQLITE } from './contenders.js';

export interface Row {
  readonly row: string;
  readonly target: string;
  readonly figure: string;
  /** `null`: reported, no target; or not measured, as the figure says. */
  readonly met: boolean | null;
}

/** Figures of each contender, a round each, in the same order for all. */
export type Rounds = ReadonlyMap<string, readonly Figures[]>;

type Cell = 'enqueueOne' | 'enqueueMany' | 'ackOne' | 'ackMany';

/** By how much a contender is faster than another: the median of the rounds' ratios, as both see the same disturbances. */
function ratio(rounds: Rounds, cell: Cell, ours: string, theirs: string): number | null {
  const [own, other] = [rounds.get(ours), rounds.get(theirs)];
  if (own === undefined || other === undefined) return null;
  return median(own.map((figures, i) => (figures[cell] ?? Number.NaN) / (other[i]?.[cell] ?? Number.NaN)));
}

export function rateRows(rounds: Rounds): Row[] {
  const atLeast = (row: string, cell: Cell, ours: string, theirs: string, least: number): Row => {
    const found = ratio(rounds, cell, ours, theirs);
    const against = `≥ ${least}× ${theirs}`;
    if (found === null) return { row, target: against, figure: 'not measured: one of them is missing', met: null };
    return { row, target: against, figure: `${found.toFixed(2)}×`, met: found >= least };
  };
  const on = (name: string) => name.replace('local.in-mem on ', '');
  const engines = [SQLITE, NODE_SQLITE].filter((name) => rounds.has(name));
  const oneByOne = engines.map((name) => ({ name, ratio: ratio(rounds, 'enqueueOne', name, PLAINJOB_FULL) ?? 0 }));
  const best = oneByOne.sort((a, b) => b.ratio - a.ratio)[0]?.name ?? SQLITE;
  const middle = (name: string, cell: keyof Figures) =>
    median((rounds.get(name) ?? []).map((figures) => figures[cell] ?? Number.NaN));
  return [
    atLeast('enqueue, 64 in flight', 'enqueueMany', SQLITE, PLAINJOB_FULL, 15),
    atLeast('enqueue, 64 in flight', 'enqueueMany', SQLITE, PLAINJOB_DEFAULT, 2),
    atLeast('enqueue, 64 in flight', 'enqueueMany', SQLITE, BULLMQ_ALWAYS, 5),
    atLeast('ack, 64 in flight', 'ackMany', SQLITE, PLAINJOB_FULL, 40),
    atLeast(`enqueue one at a time, best engine (${on(best)})`, 'enqueueOne', best, PLAINJOB_FULL, 1),
    atLeast('enqueue one at a time, sqlite3', 'enqueueOne', SQLITE, PLAINJOB_FULL, 0.75),
    {
      row: 'the same, processor time of a call',
      target: 'reported',
      figure: [...engines, PLAINJOB_FULL]
        .map((name) => `${on(name)} ${middle(name, 'enqueueOneCpuUs').toFixed(0)} µs`)
        .join(', '),
      met: null,
    },
    ...engines.map((name) => atLeast(`consume and ack one at a time, ${on(name)}`, 'ackOne', name, PLAINJOB_FULL, 2)),
    ...engines.map((name) => ({
      row: `the same, redeliveries, ${on(name)}`,
      target: 'reported',
      figure: `${middle(name, 'ackAgain').toFixed(0)} /s, ${(middle(name, 'ackAgain') / middle(PLAINJOB_FULL, 'ackOne')).toFixed(2)}× ${PLAINJOB_FULL}`,
      met: null,
    })),
    atLeast('enqueue, 64 in flight, the floor', 'enqueueMany', SQLITE, FLOOR_NAME, 1),
    ...engines.map((name) => ({
      row: `64 in flight, ${on(name)}: p99 latency, p99 loop lag`,
      target: 'reported',
      figure: `${middle(name, 'enqueueManyP99Ms').toFixed(1)} ms, ${middle(name, 'enqueueManyLagP99Ms').toFixed(1)} ms at ${middle(name, 'enqueueMany').toFixed(0)} /s`,
      met: null,
    })),
  ];
}

/** A row whose figure must not be over its target. */
export function atMost(row: string, most: number, unit: string, figure: number, told = ''): Row {
  const digits = most < 10 ? 2 : 1;
  return { row, target: `≤ ${most} ${unit}`, figure: `${figure.toFixed(digits)} ${unit}${told}`, met: figure <= most };
}
