/** `compute`: what this machine has, as the bound ComputeHint tells it; once, or again and again. */
import { setTimeout as sleep } from 'node:timers/promises';
import { stripVTControlCharacters } from 'node:util';
import type { Command } from 'commander';
import {
  ComputeHint,
  type ComputeInventory,
  type GpuInfo,
  type GpuSource,
  type InventoryOptions,
  type NumaNode,
} from '../contracts/compute-hint.js';
import { show } from '../contracts/ids.js';
import { examples, instanceOption } from './arguments.js';
import { columns } from './columns.js';
import { type InstanceOptions, withInstance } from './instance.js';
import { type Cli, type OutputStream, UsageError } from './io.js';
import { bytes, type Colors, colorsFor, plural, write, writeJson } from './output.js';
import { printable } from './tour/paths.js';

interface ComputeOptions extends InstanceOptions {
  /** Seconds between two readings; `true`: the default ones. */
  readonly watch?: number | true;
}

const WATCH_SECONDS = 2;

export function define(command: Command, cli: Cli): void {
  command
    .description('Tell the CPUs, memory and GPUs of this machine, and the limits that bind this process.')
    .option(
      '--watch [seconds]',
      `tell it again every so many seconds, ${WATCH_SECONDS} by default, until Ctrl-C: a terminal is redrawn, a pipe gets ` +
        'block after block, or with --json a document a line',
      seconds,
    )
    .addOption(instanceOption())
    .action((options: ComputeOptions) => compute(cli, options));
  examples(
    command,
    'rollout-cloud compute',
    'rollout-cloud compute --json | jq .cpuLimit',
    'rollout-cloud compute --watch 5',
    "rollout-cloud compute --watch --json | jq -c '[.gpus[].utilization]'",
  );
}

function seconds(text: string): number {
  const value = /^\d{1,5}(\.\d{1,3})?$/.test(text) ? Number(text) : Number.NaN;
  if (value >= 0.1 && value <= 86_400) return value;
  throw new UsageError(`--watch must be seconds from 0.1 to 86400, found ${show(text)}`);
}

/** What is told at a time. */
type Reading = ComputeInventory & { readonly preemptionLeadMs: number | null };

function compute(cli: Cli, options: ComputeOptions): Promise<void> {
  return withInstance(cli, ComputeHint, options, async (hint) => {
    const { watch } = options;
    if (watch !== undefined) return watching(cli, hint, watch === true ? WATCH_SECONDS : watch);
    const reading = await read(hint, {});
    if (cli.json) writeJson(cli, reading);
    else await write(cli.stdout, `${table(reading, colorsFor(cli.stdout, cli.env))}\n`);
  });
}

async function read(hint: ComputeHint, options: InventoryOptions): Promise<Reading> {
  return { ...(await hint.inventory(options)), preemptionLeadMs: await hint.preemptionSignal() };
}

/** Ends when the user wants it to; a reading under way, which a hung driver may hold up, is not waited for. */
async function watching(cli: Cli, hint: ComputeHint, everySeconds: number): Promise<void> {
  const everyMs = everySeconds * 1000;
  const stopped = new Promise<null>((resolve) => {
    if (cli.signal.aborted) resolve(null);
    cli.signal.addEventListener('abort', () => resolve(null), { once: true });
  });
  const { dim, ...colors } = colorsFor(cli.stdout, cli.env);
  for (let count = 0; !cli.signal.aborted; count++) {
    // GPU figures that are remembered for longer would stand still.
    const reading = await Promise.race([read(hint, { gpuMaxAgeMs: Math.floor(everyMs / 2) }), stopped]);
    if (reading === null) return;
    if (cli.json) await write(cli.stdout, `${JSON.stringify(reading)}\n`);
    else if (cli.stdout.isTTY) {
      const head = dim(`${new Date().toLocaleTimeString('en-GB')}, every ${everySeconds} s; Ctrl-C ends`);
      // From the top left corner, then nothing below: without a moment in which the screen is empty.
      const clear = count === 0 ? '\x1b[2J' : '';
      const lines = fitted(`${head}\n${table(reading, { dim, ...colors })}`, cli.stdout).map(
        (line) => `${line}\x1b[K\n`,
      );
      await write(cli.stdout, `${clear}\x1b[H${lines.join('')}\x1b[J`);
    } else await write(cli.stdout, `${count === 0 ? '' : '\n'}${table(reading, { dim, ...colors })}\n`);
    // The only thing that this pause rejects for is the signal, which the loop looks at.
    await sleep(everyMs, undefined, { signal: cli.signal }).catch(() => {});
  }
}

/** As many lines as the screen has room for: a longer frame would scroll it, and the next one begin below the corner. */
function fitted(text: string, { rows, columns }: OutputStream): string[] {
  const lines = text.split('\n');
  // The cursor stands on a line of its own. A terminal of unknown size tells 0, or nothing.
  const room = rows ? rows - 1 : Number.POSITIVE_INFINITY;
  const heights = lines.map((line) =>
    columns ? Math.max(1, Math.ceil(stripVTControlCharacters(line).length / columns)) : 1,
  );
  const fits = (kept: number) => heights.slice(0, kept).reduce((sum, height) => sum + height, 0);
  if (fits(lines.length) <= room) return lines;
  let kept = lines.length - 1;
  while (kept > 0 && fits(kept) + 1 > room) kept -= 1;
  return [...lines.slice(0, kept), `… ${plural(lines.length - kept, 'more line')}`];
}

function table(reading: Reading, colors: Colors): string {
  const { bold } = colors;
  return columns(machineRows(safe(reading), colors).map(([label = '', text = '']) => [bold(label), text]));
}

/** Names and reasons come from drivers and their programs: what could disturb a terminal is escaped. */
function safe(reading: Reading): Reading {
  const escaped = (_: string, value: unknown) => (typeof value === 'string' ? printable(Buffer.from(value)) : value);
  return JSON.parse(JSON.stringify(reading), escaped) as Reading;
}

function machineRows(machine: Reading, colors: Colors): string[][] {
  const { cpuCount, cpuLimit, cpuModel, memoryMib, memoryLimitMib, memoryAvailableMib, gpus, gpuReason } = machine;
  const { preemptionLeadMs, numaNodes } = machine;
  const binding = (limit: string, of: string) => `${colors.yellow(`${limit} (limit)`)} of ${of}`;
  const cpus = cpuLimit === null ? `${cpuCount}` : binding(`${cpuLimit}`, `${cpuCount}`);
  const memory = memoryLimitMib === null ? mib(memoryMib) : binding(mib(memoryLimitMib), mib(memoryMib));
  return [
    ['host', `${machine.hostname}, ${machine.kernel}, ${machine.arch}`],
    ['instance type', machine.instanceType ?? 'unknown'],
    ['cpus', cpuModel === null ? cpus : `${cpus}, ${cpuModel}`],
    ['memory', memory],
    ...(memoryAvailableMib === null
      ? []
      : [
          ['', `${used(memoryMib - memoryAvailableMib, memoryMib, colors)} used, ${mib(memoryAvailableMib)} available`],
        ]),
    ['gpus', gpus.length === 0 ? `none: ${gpuReason}` : columns(gpus.flatMap((gpu) => gpuRows(gpu, colors)))],
    ...sourceRows(machine.gpuSources, colors),
    ...(numaNodes.length > 1 ? [['numa nodes', columns(numaNodes.map(numaRow))]] : []),
    ['preemption', preemptionLeadMs === null ? 'no notice' : colors.red(`in ${preemptionLeadMs / 1000} s`)],
  ];
}

/** A GPU, and below it what it is cut into. */
function gpuRows(gpu: GpuInfo, colors: Colors): string[][] {
  const parts = (gpu.migDevices ?? []).map(({ index, uuid, model, memoryMib, memoryUsedMib }) => [
    `   ${index}: ${model ?? 'MIG device'}`,
    '',
    memoryMib === null
      ? ''
      : memoryUsedMib === null || memoryMib === 0
        ? mib(memoryMib)
        : `${used(memoryUsedMib, memoryMib, colors)} of ${mib(memoryMib)}`,
    '',
    uuid ?? '',
  ]);
  return [gpuRow(gpu, colors), ...parts];
}

function gpuRow(gpu: GpuInfo, colors: Colors): string[] {
  const { vendor, model, memoryMib, memoryUsedMib, utilization, temperatureC, computeCapability, migMode } = gpu;
  const isNamed = model.toLowerCase().startsWith(vendor);
  const memory = memoryMib === 0 ? 'memory unknown' : mib(memoryMib);
  return [
    `${typeof gpu.index === 'number' ? `${gpu.index}: ` : ''}${isNamed ? model : `${vendor} ${model}`}`,
    typeof utilization === 'number' ? `${bar(utilization, colors)} ${percent(utilization)} busy` : '',
    typeof memoryUsedMib === 'number' && memoryMib > 0
      ? `${used(memoryUsedMib, memoryMib, colors)} of ${memory}`
      : memory,
    typeof temperatureC === 'number' ? `${Math.round(temperatureC)} °C` : '',
    [computeCapability && `compute ${computeCapability}`, migMode && 'MIG', `told by ${gpu.source}`]
      .filter(Boolean)
      .join(', '),
  ];
}

/** Where the GPUs come from; not where that is said already, by the reason that there is none. */
function sourceRows(sources: readonly GpuSource[], { yellow }: Colors): string[][] {
  const named = (instance: string | null, source: string) =>
    instance === null || instance === 'default' ? source : `${instance} (${source})`;
  const rows = sources.flatMap(({ instance, source, gpus, reason, driverVersion, warnings }) => [
    `${named(instance, source ?? 'no answer')}: ${reason ?? plural(gpus, 'GPU')}${driverVersion === null ? '' : `, driver ${driverVersion}`}`,
    ...warnings.map((warning) => yellow(`warning: ${warning}`)),
  ]);
  const isSaid = rows.length <= 1 && sources.every(({ gpus }) => gpus === 0);
  return isSaid ? [] : [['gpu sources', rows.join('\n')]];
}

function numaRow({ id, cpus, memoryMib }: NumaNode): string[] {
  return [`node ${id}`, `${plural(cpus.length, 'cpu')}`, memoryMib === null ? '' : mib(memoryMib)];
}

const BAR_CELLS = 10;

/** What is used of a whole, as a bar and a number: `██░░░░░░░░ 1.5 GiB` */
function used(part: number, whole: number, colors: Colors): string {
  return `${bar(part / whole, colors)} ${mib(part)}`;
}

/** A share from 0 to 1; what is nearly used up stands out. */
function bar(share: number, { green, yellow, red }: Colors): string {
  const cells = Math.round(Math.min(1, Math.max(0, share)) * BAR_CELLS);
  const color = share >= 0.9 ? red : share >= 0.7 ? yellow : green;
  return `${color('█'.repeat(cells))}${'░'.repeat(BAR_CELLS - cells)}`;
}

function percent(share: number): string {
  return `${Math.round(share * 100)} %`.padStart(5);
}

function mib(value: number): string {
  return bytes(value * 1024 * 1024);
}
