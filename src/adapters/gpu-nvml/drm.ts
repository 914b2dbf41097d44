/**
 * AMD GPUs as the amdgpu driver shows them in sysfs. Runs in the child process: some of these files ask the GPU itself.
 * @see https://docs.kernel.org/gpu/amdgpu/driver-misc.html and thermal.html beside it
 */
import { readdirSync, readFileSync, realpathSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { GpuInfo } from '../../contracts/compute-hint.js';
import type { ChildAnswer } from './sources.js';

/** @param cards folders such as `/sys/class/drm/card0` */
export function readAmdCards(cards: readonly string[]): ChildAnswer {
  const gpus = cards.map((card) => readCard(join(card, 'device')));
  const [card] = cards;
  const driverVersion = card === undefined ? null : line(join(card, 'device/driver/module/version'));
  return { gpus, driverVersion, reason: gpus.length > 0 ? null : 'sysfs shows no GPU', warnings: [] };
}

function readCard(device: string): GpuInfo {
  const memoryBytes = number(join(device, 'mem_info_vram_total'));
  const usedBytes = number(join(device, 'mem_info_vram_used'));
  const busyPercent = number(join(device, 'gpu_busy_percent'));
  return {
    vendor: 'amd',
    // Boards for servers have a name; of others the PCI id is all that the kernel knows.
    model: line(join(device, 'product_name')) ?? `GPU 1002:${(line(join(device, 'device')) ?? '?').replace(/^0x/, '')}`,
    memoryMib: mebibytes(memoryBytes ?? 0),
    source: 'drm',
    index: null,
    // The driver's unique_id is spelled unlike what AMD's own tools call the uuid, so the PCI address tells duplicates.
    uuid: null,
    pciBusId: /^[0-9a-f]{4,8}(:[0-9a-f]{2}){2}\.[0-7]$/.exec(basename(real(device)))?.[0] ?? null,
    memoryUsedMib: usedBytes === null || memoryBytes === null ? null : mebibytes(Math.min(usedBytes, memoryBytes)),
    utilization: busyPercent === null ? null : Math.min(1, busyPercent / 100),
    temperatureC: temperature(join(device, 'hwmon')),
    computeCapability: null,
    migMode: null,
  };
}

/** `temp1_input` of the one sensor folder, the edge of the die, in thousandths of a degree. */
function temperature(folder: string): number | null {
  try {
    const milli = readdirSync(folder).map((name) => number(join(folder, name, 'temp1_input')))[0] ?? null;
    return milli === null ? null : milli / 1000;
  } catch {
    return null;
  }
}

function real(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

function number(file: string): number | null {
  const text = line(file);
  return text !== null && /^\d{1,15}$/.test(text) ? Number(text) : null;
}

/** A file of one line of printable text; `null` where it is not there, or not so. */
function line(file: string): string | null {
  try {
    const text = readFileSync(file, 'utf8').trim();
    return /^[^\x00-\x1f\x7f\ufffd]{1,256}$/.test(text) ? text : null;
  } catch {
    return null;
  }
}

function mebibytes(bytes: number): number {
  return Math.floor(bytes / 2 ** 20);
}
