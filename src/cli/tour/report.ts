/** What a tour says at its end: one plain document, and the same for people. */
import type { BindingInfo } from '../../registry/index.js';
import { columns } from '../columns.js';
import type { Cli } from '../io.js';
import { describeMachine, describeSecrets, type Machine, type SecretState } from '../machine.js';
import { bytes, colorsFor, count, plural, tell, writeJson, writeLine } from '../output.js';
import type { DataPlace } from './own-data.js';
import { printable } from './paths.js';
import type { Tally } from './tally.js';

export interface TourReport {
  /** The folder, absolute, symbolic links resolved. */
  readonly dir: Buffer;
  readonly bindings: readonly BindingInfo[];
  readonly data: readonly DataPlace[];
  readonly machine: Machine;
  readonly secrets: readonly SecretState[] | { readonly reason: string };
  readonly tally: Tally;
  /** How long putting, recording and queueing took, all together, and how long reading back and comparing. */
  readonly storingMs: number;
  readonly workingMs: number;
  readonly interrupted: boolean;
}

export function printReport(cli: Cli, report: TourReport): void {
  if (cli.json) writeJson(cli, documentOf(report));
  else writeLine(cli.stdout, textOf(cli, report));
  const { problems, problemsLeftOff } = report.tally;
  for (const { path, reason } of problems) tell(cli, `${path}: ${reason}`);
  if (problemsLeftOff > 0) tell(cli, `and ${plural(problemsLeftOff, 'problem')} more`);
}

function documentOf({ dir, bindings, data, machine, secrets, tally, storingMs, workingMs, interrupted }: TourReport) {
  return {
    dir: printable(dir),
    interrupted,
    adapters: bindings.map(({ capability, name, adapter, plugin, pluginVersion }) => ({
      capability,
      name,
      adapter,
      plugin,
      pluginVersion,
    })),
    data,
    inventory: machine,
    secrets,
    files: {
      found: tally.filesFound,
      stored: tally.filesStored,
      storedBytes: tally.bytesStored,
      unchanged: tally.filesUnchanged,
      unreadable: tally.filesUnreadable,
      symlinksSkipped: tally.symlinks,
      specialsSkipped: tally.specials,
      ownDataSkipped: tally.ownData,
    },
    blobs: { new: tally.blobsNew, existing: tally.blobsExisting, dedupeRatio: tally.dedupeRatio },
    jobs: {
      resumed: tally.jobsResumed,
      queued: tally.jobsQueued,
      done: tally.jobsDone,
      doneBytes: tally.bytesChecked,
      changed: tally.jobsChanged,
      gone: tally.jobsGone,
      failed: tally.jobsFailed,
    },
    rates: {
      storing: rateOf(tally.filesStored, tally.bytesStored, storingMs),
      working: rateOf(tally.jobsDone, tally.bytesChecked, workingMs),
    },
    problems: tally.problems,
    problemsLeftOff: tally.problemsLeftOff,
  };
}

function textOf(cli: Cli, report: TourReport): string {
  const { dir, bindings, data, machine, secrets, tally, storingMs, workingMs, interrupted } = report;
  const { bold, dim, yellow, red } = colorsFor(cli.stdout, cli.env);
  const alarm = (value: number, text: string) => (value > 0 ? red(text) : text);
  const passedOver = [
    plural(tally.symlinks, 'symbolic link'),
    `${count(tally.specials)} special`,
    `${count(tally.ownData)} of own data`,
  ].join(', ');
  const ratio = tally.dedupeRatio === null ? '' : `, dedupe ratio ${tally.dedupeRatio.toFixed(2)}`;
  const rows: [string, string][] = [
    [
      'adapters',
      columns(bindings.map((b) => [`${b.capability}#${b.name}`, b.adapter, dim(`${b.plugin} ${b.pluginVersion}`)])),
    ],
    ['data', columns(data.map(({ instance, path }) => [instance, printable(Buffer.from(path))]))],
    ['machine', describeMachine(machine)],
    ['secrets', 'reason' in secrets ? `unknown: ${secrets.reason}` : describeSecrets(secrets)],
    [
      'files',
      `${count(tally.filesFound)} found: ${count(tally.filesStored)} stored (${bytes(tally.bytesStored)}), ` +
        `${count(tally.filesUnchanged)} unchanged, ${alarm(tally.filesUnreadable, `${count(tally.filesUnreadable)} unreadable`)}`,
    ],
    ['', `passed over: ${passedOver}`],
    ['blobs', `${count(tally.blobsNew)} new, ${count(tally.blobsExisting)} there before${ratio}`],
    [
      'jobs',
      `${count(tally.jobsResumed)} resumed, ${count(tally.jobsQueued)} queued, ${count(tally.jobsDone)} done, ` +
        `${count(tally.jobsChanged)} changed, ${count(tally.jobsGone)} gone, ${alarm(tally.jobsFailed, `${count(tally.jobsFailed)} failed`)}`,
    ],
    ['storing', describeRate(tally.filesStored, tally.bytesStored, storingMs)],
    ['working', describeRate(tally.jobsDone, tally.bytesChecked, workingMs)],
  ];
  const title = `${bold('tour')} of ${printable(dir)}${interrupted ? yellow(' (stopped early: run it again to finish)') : ''}`;
  return `${title}\n\n${columns(rows.map(([label, text]) => [label && bold(label), text]))}`;
}

interface Rate {
  readonly ms: number;
  readonly filesPerS: number;
  /** Millions of bytes. */
  readonly mbPerS: number;
}

function rateOf(files: number, size: number, ms: number): Rate {
  const perS = (value: number) => (ms > 0 ? Math.round((value * 10_000) / ms) / 10 : 0);
  return { ms: Math.round(ms), filesPerS: perS(files), mbPerS: perS(size / 1e6) };
}

function describeRate(files: number, size: number, ms: number): string {
  const seconds = `${(ms / 1000).toFixed(2)} s`;
  if (files === 0) return `nothing, ${seconds}`;
  const { filesPerS, mbPerS } = rateOf(files, size, ms);
  return `${count(filesPerS < 100 ? filesPerS : Math.round(filesPerS))} files/s, ${mbPerS} MB/s, ${seconds}`;
}
