/**
 * The output of nvidia-smi, the second source: it needs no koffi, and finds the driver where the loader does not.
 * @see `nvidia-smi --help-query-gpu` for the fields and their units
 */
import type { GpuInfo, MigDevice } from '../../contracts/compute-hint.js';
import type { ChildAnswer } from './sources.js';

/** Every version in use knows these. */
const OLD_FIELDS = ['index', 'uuid', 'pci.bus_id', 'name', 'memory.total', 'memory.used', 'utilization.gpu'] as const;
const FIELDS = [...OLD_FIELDS, 'temperature.gpu', 'driver_version', 'mig.mode.current', 'compute_cap'] as const;

type Field = (typeof FIELDS)[number];

/** The queries in the order in which they are tried: a version refuses all of a query for one field that it lacks. */
export const QUERIES: readonly (readonly Field[])[] = [FIELDS, [...OLD_FIELDS, 'temperature.gpu', 'driver_version']];

export function argumentsFor(fields: readonly Field[]): string[] {
  return [`--query-gpu=${fields.join(',')}`, '--format=csv,noheader,nounits'];
}

/** Reads `--format=csv,noheader,nounits`: a line for each GPU; what is no such line is a complaint about one. */
export function parse(output: string, fields: readonly Field[]): ChildAnswer {
  const gpus: GpuInfo[] = [];
  const warnings: string[] = [];
  let driverVersion: string | null = null;
  for (const line of output.split('\n').map((raw) => raw.trim())) {
    if (line === '') continue;
    const values = line.split(', ');
    // `[N/A]`, `[Not Supported]`, `[GPU is lost]`, `[Unknown Error]`
    const value = (field: Field) => {
      const text = values[fields.indexOf(field)]?.trim() ?? '';
      return text === '' || text.startsWith('[') || text === 'N/A' ? null : text;
    };
    const index = number(value('index'));
    const model = value('name');
    if (values.length !== fields.length || index === null || model === null) {
      warnings.push(`nvidia-smi: ${line.slice(0, LINE_CHARS_MAX)}`);
      continue;
    }
    const [memoryMib, usedMib] = [number(value('memory.total')), number(value('memory.used'))];
    const percent = number(value('utilization.gpu'));
    const mig = value('mig.mode.current');
    driverVersion ??= value('driver_version');
    gpus.push({
      vendor: 'nvidia',
      model,
      memoryMib: memoryMib ?? 0,
      source: 'nvidia-smi',
      index,
      uuid: value('uuid'),
      pciBusId: matching(value('pci.bus_id'), /^([\da-f]{4,8}:)?[\da-f]{2}:[\da-f]{2}\.[0-7]$/i),
      memoryUsedMib: usedMib === null || memoryMib === null ? null : Math.min(usedMib, memoryMib),
      utilization: percent === null ? null : Math.min(1, percent / 100),
      temperatureC: number(value('temperature.gpu')),
      computeCapability: matching(value('compute_cap'), /^\d+\.\d+$/),
      migMode: mig === null ? null : mig === 'Enabled',
      migDevices: null,
    });
  }
  const reason = gpus.length > 0 ? null : warnings.join('; ') || 'nvidia-smi lists no GPU';
  return { gpus, driverVersion, reason, warnings };
}

/**
 * Reads `nvidia-smi -L`, the only listing of partitions: below each GPU's line one for each of its own, which tells no
 * memory. `  MIG 1g.10gb     Device  0: (UUID: MIG-…)`
 * @returns by the GPU's uuid
 */
export function parsePartitions(output: string): ReadonlyMap<string, readonly MigDevice[]> {
  const found = new Map<string, MigDevice[]>();
  let current: MigDevice[] = [];
  for (const line of output.split('\n')) {
    const [, gpu] = /^GPU \d+: .*\(UUID: (\S+)\)/.exec(line) ?? [];
    const [, profile, index, uuid] = /^\s+MIG (\S+)\s+Device\s+(\d{1,3}): \(UUID: (\S+)\)/.exec(line) ?? [];
    if (gpu !== undefined) {
      current = [];
      found.set(gpu, current);
    } else if (profile !== undefined && uuid !== undefined) {
      current.push({ index: Number(index), uuid, model: `MIG ${profile}`, memoryMib: null, memoryUsedMib: null });
    }
  }
  return found;
}

const LINE_CHARS_MAX = 200;

function matching(text: string | null, form: RegExp): string | null {
  return text !== null && form.test(text) ? text : null;
}

function number(text: string | null): number | null {
  return text !== null && /^\d{1,9}$/.test(text) ? Number(text) : null;
}
