/**
 * NVML, NVIDIA's management library, called through koffi. Runs in the child process alone: a broken library may crash it
 * (a truncated file by SIGBUS), a hung driver may never return.
 *
 * Names, units and struct layouts as in NVIDIA's public header nvml.h and its reference,
 * https://docs.nvidia.com/deploy/nvml-api/. Each function is bound by its newest name that the library has.
 */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import type { GpuInfo, MigDevice } from '../../contracts/compute-hint.js';
import type { ChildAnswer } from './sources.js';

const LIBRARY = 'libnvidia-ml.so.1';

/** What is used of koffi. It is an optional peer: it may be missing, or be built for another C library. */
interface Koffi {
  load(path: string | null): Library;
}
interface Library {
  func(name: string, result: string, parameters: readonly string[]): (...args: unknown[]) => unknown;
}

/** `nvmlReturn_t` */
const SUCCESS = 0;

/** More than any machine has; a count beyond it is no count. */
const GPUS_MAX = 1024;

/** Seven are the most that a GPU of today is cut into. */
const MIG_DEVICES_MAX = 64;

/** NVML_DEVICE_NAME_V2_BUFFER_SIZE and NVML_DEVICE_UUID_V2_BUFFER_SIZE; the driver's version needs 80. */
const TEXT_BYTES = 96;

export async function askNvml(libraryPath: string | null, endsAfterMs: number): Promise<ChildAnswer> {
  let koffi: Koffi;
  try {
    // Through a variable: bundlers of applications need not find what is optional.
    const name = 'koffi';
    koffi = ((await import(name)) as { default: Koffi }).default;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const missing = code === 'ERR_MODULE_NOT_FOUND';
    return nothing(
      missing ? 'koffi is not installed (npm i koffi)' : `koffi could not be loaded: ${firstLine(message)}`,
    );
  }
  // SIGALRM ends a process in the middle of a native call; a timer of Node would wait for the call to return.
  koffi.load(null).func('alarm', 'uint', ['uint'])(Math.ceil(endsAfterMs / 1000) + 1);
  const opened = open(koffi, libraryPath);
  return typeof opened === 'string' ? nothing(opened) : enumerate(opened);
}

function nothing(reason: string): ChildAnswer {
  return { gpus: [], driverVersion: null, reason, warnings: [] };
}

/** The library, or why there is none. */
function open(koffi: Koffi, libraryPath: string | null): Library | string {
  const reasons: string[] = [];
  for (const path of [...(libraryPath === null ? [] : [fileOf(libraryPath)]), LIBRARY]) {
    try {
      return koffi.load(path);
    } catch (error) {
      // As dlopen tells it, without the name: `Failed to load shared library: cannot open shared object file: …`
      const why = firstLine((error as Error).message).replace(/^Failed to load shared library: /, '');
      reasons.push(/cannot open shared object file/.test(why) ? `${path} not found` : `${path} does not load: ${why}`);
    }
  }
  return reasons.join('; ');
}

function fileOf(path: string): string {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ? join(path, LIBRARY) : path;
}

function firstLine(text: string): string {
  return text.split('\n', 1)[0] ?? '';
}

/** A function of NVML: returns `nvmlReturn_t`. */
type Call = (...args: unknown[]) => number;

function enumerate(library: Library): ChildAnswer {
  /** The first of the names that the library has. Pointers are buffers; a device's handle is a number of pointer size. */
  const bind = (names: readonly string[], parameters: readonly string[]): Call | null => {
    for (const name of names) {
      try {
        return library.func(name, 'int', parameters) as Call;
      } catch {
        // An older library: the next name.
      }
    }
    return null;
  };
  const init = bind(['nvmlInit_v2', 'nvmlInit'], []);
  const getCount = bind(['nvmlDeviceGetCount_v2', 'nvmlDeviceGetCount'], ['void *']);
  const getHandle = bind(['nvmlDeviceGetHandleByIndex_v2', 'nvmlDeviceGetHandleByIndex'], ['uint', 'void *']);
  if (init === null || getCount === null || getHandle === null) {
    const lacking =
      init === null ? 'nvmlInit' : getCount === null ? 'nvmlDeviceGetCount' : 'nvmlDeviceGetHandleByIndex';
    return nothing(`${LIBRARY} has no ${lacking}`);
  }
  const fault = (call: string, code: number): string => `${call}: ${errorText(library, code)}`;

  const started = init();
  if (started !== SUCCESS) return nothing(fault('nvmlInit', started));
  const count = Buffer.alloc(4);
  const counted = getCount(count);
  if (counted !== SUCCESS) return nothing(fault('nvmlDeviceGetCount', counted));

  const driverVersion = text(bind(['nvmlSystemGetDriverVersion'], ['void *', 'uint']));
  const read = reader(bind);
  const gpus: GpuInfo[] = [];
  const warnings: string[] = [];
  for (let index = 0; index < Math.min(count.readUInt32LE(), GPUS_MAX); index++) {
    const handle = Buffer.alloc(8);
    const got = getHandle(index, handle);
    // E.g. NVML_ERROR_GPU_IS_LOST, or NVML_ERROR_NO_PERMISSION for one that a container is not given.
    const gpu = got === SUCCESS ? read(index, handle.readBigUInt64LE()) : got;
    if (typeof gpu === 'number') warnings.push(`GPU ${index}: ${errorText(library, gpu)}`);
    else gpus.push(gpu);
  }
  const reason = gpus.length > 0 ? null : warnings.join('; ') || 'NVML counts no GPU';
  return { gpus, driverVersion, reason, warnings };
}

/** As the library words it, and the number: `GPU is lost (15)`. */
function errorText(library: Library, code: number): string {
  try {
    return `${String(library.func('nvmlErrorString', 'const char *', ['int'])(code))} (${code})`;
  } catch {
    return `error ${code}`;
  }
}

/** Reads one GPU, or answers NVML's error: a GPU that cannot even tell its name is not counted. */
function reader(bind: (names: readonly string[], parameters: readonly string[]) => Call | null) {
  const ofDevice = (names: readonly string[], more: readonly string[]) => bind(names, ['size_t', ...more]);
  const getName = ofDevice(['nvmlDeviceGetName'], ['void *', 'uint']);
  const getUuid = ofDevice(['nvmlDeviceGetUUID'], ['void *', 'uint']);
  const getPci = ofDevice(['nvmlDeviceGetPciInfo_v3'], ['void *']);
  const getOldPci = ofDevice(['nvmlDeviceGetPciInfo_v2', 'nvmlDeviceGetPciInfo'], ['void *']);
  const getMemory2 = ofDevice(['nvmlDeviceGetMemoryInfo_v2'], ['void *']);
  const getMemory = ofDevice(['nvmlDeviceGetMemoryInfo'], ['void *']);
  const getUtilization = ofDevice(['nvmlDeviceGetUtilizationRates'], ['void *']);
  const getTemperature = ofDevice(['nvmlDeviceGetTemperature'], ['int', 'void *']);
  const getCapability = ofDevice(['nvmlDeviceGetCudaComputeCapability'], ['void *', 'void *']);
  const getMigMode = ofDevice(['nvmlDeviceGetMigMode'], ['void *', 'void *']);
  const getMigCount = ofDevice(['nvmlDeviceGetMaxMigDeviceCount'], ['void *']);
  const getMigDevice = ofDevice(['nvmlDeviceGetMigDeviceHandleByIndex'], ['uint', 'void *']);

  return (index: number, device: bigint): GpuInfo | number => {
    const named = Buffer.alloc(TEXT_BYTES);
    const got = getName?.(device, named, TEXT_BYTES) ?? SUCCESS;
    if (got !== SUCCESS) return got;
    const utilization = words(2, (both) => getUtilization?.(device, both)); // nvmlUtilization_t { uint gpu, memory }
    const temperature = words(1, (celsius) => getTemperature?.(device, TEMPERATURE_GPU, celsius));
    const capability = words(2, (major) => getCapability?.(device, major, major.subarray(4)));
    const migMode = words(2, (current) => getMigMode?.(device, current, current.subarray(4)));
    const { total, used } = memoryMibOf(device);
    return {
      vendor: 'nvidia',
      model: terminated(named, 0) ?? 'NVIDIA GPU',
      memoryMib: total ?? 0,
      source: 'nvml',
      index,
      uuid: uuidOf(device),
      pciBusId: pciBusIdOf(device),
      memoryUsedMib: used,
      // Percent; 100 at most, though drivers have been seen to say more.
      utilization: utilization === null ? null : Math.min(1, (utilization[0] ?? 0) / 100),
      temperatureC: temperature?.[0] ?? null,
      computeCapability: capability?.join('.') ?? null,
      migMode: migMode === null ? null : migMode[0] === 1,
      migDevices: migMode?.[0] === 1 ? migDevicesOf(device) : null,
    };
  };

  /** A handle of a partition is one of a device to the calls that are used here. */
  function migDevicesOf(device: bigint): MigDevice[] | null {
    const counted = words(1, (out) => getMigCount?.(device, out));
    if (counted === null) return null;
    return Array.from({ length: Math.min(counted[0] ?? 0, MIG_DEVICES_MAX) }, (_, index) => index).flatMap((index) => {
      const handle = Buffer.alloc(8);
      // NVML_ERROR_NOT_FOUND where none has been made of that number.
      if (getMigDevice?.(device, index, handle) !== SUCCESS) return [];
      const part = handle.readBigUInt64LE();
      const { total, used } = memoryMibOf(part);
      const model = text(getName && ((out, bytes) => getName(part, out, bytes)));
      return [{ index, uuid: uuidOf(part), model, memoryMib: total, memoryUsedMib: used }];
    });
  }

  function uuidOf(device: bigint): string | null {
    return text(getUuid && ((out, bytes) => getUuid(device, out, bytes)));
  }

  function memoryMibOf(device: bigint): { total: number | null; used: number | null } {
    const memory = memoryOf(device);
    if (memory === null) return { total: null, used: null };
    const { total, used } = memory;
    return { total: mebibytes(total), used: mebibytes(used < total ? used : total) };
  }

  /**
   * nvmlMemory_v2_t { uint version; uint64 total, reserved, free, used }, which tells what the driver keeps for itself
   * apart; or nvmlMemory_t { uint64 total, free, used }, whose `used` includes it.
   */
  function memoryOf(device: bigint): { total: bigint; used: bigint } | null {
    const out = Buffer.alloc(40);
    out.writeUInt32LE(out.length | (2 << 24)); // NVML_STRUCT_VERSION(Memory, 2)
    if (getMemory2?.(device, out) === SUCCESS) {
      return { total: out.readBigUInt64LE(8), used: out.readBigUInt64LE(32) };
    }
    if (getMemory?.(device, out) !== SUCCESS) return null;
    return { total: out.readBigUInt64LE(0), used: out.readBigUInt64LE(16) };
  }

  /**
   * nvmlPciInfo_t { char busIdLegacy[16]; uint domain, bus, device, pciDeviceId, pciSubSystemId; char busId[32] }. Before
   * version 3 the struct ended earlier and its first field was the only one.
   */
  function pciBusIdOf(device: bigint): string | null {
    const out = Buffer.alloc(128);
    if (getPci?.(device, out) === SUCCESS) return terminated(out, 36);
    return getOldPci?.(device, out) === SUCCESS ? terminated(out.subarray(0, 16), 0) : null;
  }
}

/** `nvmlTemperatureSensors_t` NVML_TEMPERATURE_GPU: the sensor on the die. */
const TEMPERATURE_GPU = 0;

/** Numbers of 32 bits that a call writes in a row; `null` when it fails, as where a GPU does not support it. */
function words(count: number, call: (out: Buffer) => number | undefined): number[] | null {
  const out = Buffer.alloc(4 * count);
  return call(out) === SUCCESS ? Array.from({ length: count }, (_, i) => out.readInt32LE(4 * i)) : null;
}

function text(call: Call | null): string | null {
  const out = Buffer.alloc(TEXT_BYTES);
  return call?.(out, TEXT_BYTES) === SUCCESS ? terminated(out, 0) : null;
}

/** The text up to its NUL; `null` where it is empty. */
function terminated(bytes: Buffer, from: number): string | null {
  const end = bytes.indexOf(0, from);
  return bytes.toString('utf8', from, end === -1 ? bytes.length : end).trim() || null;
}

function mebibytes(bytes: bigint): number {
  return Number(bytes >> 20n);
}
