/** `compute`: what this machine has, as the bound ComputeHint tells it. */
import type { Command } from 'commander';
import { ComputeHint, type ComputeInventory, type GpuInfo, type NumaNode } from '../contracts/compute-hint.js';
import { examples, instanceOption } from './arguments.js';
import { columns } from './columns.js';
import { type InstanceOptions, withInstance } from './instance.js';
import type { Cli } from './io.js';
import { bytes, colorsFor, plural, writeJson, writeLine } from './output.js';

export function define(command: Command, cli: Cli): void {
  command
    .description('Tell the CPUs, memory and GPUs of this machine, and the limits that bind this process.')
    .addOption(instanceOption())
    .action((options: InstanceOptions) => compute(cli, options));
  examples(command, 'rollout-cloud compute', 'rollout-cloud compute --json | jq .cpuLimit');
}

async function compute(cli: Cli, options: InstanceOptions): Promise<void> {
  const { inventory, preemptionLeadMs } = await withInstance(cli, ComputeHint, options, async (hint) => ({
    inventory: await hint.inventory(),
    preemptionLeadMs: await hint.preemptionSignal(),
  }));
  if (cli.json) {
    writeJson(cli, { ...inventory, preemptionLeadMs });
    return;
  }
  const { bold } = colorsFor(cli.stdout, cli.env);
  const rows = [
    ...machineRows(inventory),
    ['preemption', preemptionLeadMs === null ? 'no notice' : `in ${preemptionLeadMs / 1000} s`],
  ];
  writeLine(cli.stdout, columns(rows.map(([label = '', text = '']) => [bold(label), text])));
}

function machineRows(machine: ComputeInventory): string[][] {
  const { cpuCount, cpuLimit, cpuModel, memoryMib, memoryLimitMib, memoryAvailableMib, gpus, gpuReason } = machine;
  const memory = [
    mib(memoryMib),
    memoryLimitMib === null ? null : `limited to ${mib(memoryLimitMib)}`,
    memoryAvailableMib === null ? null : `${mib(memoryAvailableMib)} available`,
  ];
  return [
    ['host', `${machine.hostname}, ${machine.kernel}, ${machine.arch}`],
    ['instance type', machine.instanceType ?? 'unknown'],
    [
      'cpus',
      `${cpuCount}${cpuLimit === null ? '' : `, limited to ${cpuLimit}`}${cpuModel === null ? '' : `, ${cpuModel}`}`,
    ],
    ['memory', memory.filter((part) => part !== null).join(', ')],
    ['gpus', gpus.length === 0 ? `none: ${gpuReason}` : columns(gpus.map(gpuRow))],
    ...(machine.numaNodes.length > 1 ? [['numa nodes', columns(machine.numaNodes.map(numaRow))]] : []),
  ];
}

function gpuRow({ vendor, model, memoryMib, memoryUsedMib, utilization, temperatureC, source }: GpuInfo): string[] {
  const used = typeof memoryUsedMib === 'number' ? `, ${mib(memoryUsedMib)} used` : '';
  return [
    `${vendor} ${model}`,
    `${mib(memoryMib)}${used}`,
    typeof utilization === 'number' ? `${Math.round(utilization * 100)} % busy` : '',
    typeof temperatureC === 'number' ? `${temperatureC} °C` : '',
    `told by ${source}`,
  ];
}

function numaRow({ id, cpus, memoryMib }: NumaNode): string[] {
  return [`node ${id}`, `${plural(cpus.length, 'cpu')}`, memoryMib === null ? '' : mib(memoryMib)];
}

function mib(value: number): string {
  return bytes(value * 1024 * 1024);
}
