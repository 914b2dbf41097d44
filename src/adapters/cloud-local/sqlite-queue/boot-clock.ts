/**
 * The clock that all processes of a machine share and nobody can set: time since it was booted, and which boot that was.
 * A deadline of another boot is over.
 */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { type Clock, systemClock } from '../../../contracts/clock.js';
import { FatalError, systemError } from '../../../contracts/errors.js';

/**
 * Milliseconds on that clock. `process.hrtime` counts from the boot on Linux (CLOCK_MONOTONIC) and macOS
 * (mach_absolute_time); `performance.now()`, the same clock, counts from the start of the process. A test's clock is its own.
 */
export function bootMs(clock: Clock): number {
  return clock === systemClock ? Number(process.hrtime.bigint() / 1_000_000n) : Math.trunc(clock.monotonicMs());
}

/**
 * @throws FatalError ConfigInvalid, code `PLATFORM_UNSUPPORTED`. RecoverableError Transient: too many open files or the
 * like.
 */
export async function bootId(): Promise<string> {
  const ask = ASK_BOOT_ID[process.platform];
  if (ask === undefined) {
    throw new FatalError(
      'ConfigInvalid',
      `local.sqlite-queue runs on Linux and macOS: ${process.platform} does not tell one boot from another; bind local.in-mem`,
      { code: 'PLATFORM_UNSUPPORTED', context: { platform: process.platform } },
    );
  }
  try {
    return (await ask()).trim();
  } catch (cause) {
    throw systemError(cause, 'ask which boot of the machine this is');
  }
}

const ASK_BOOT_ID: Partial<Record<NodeJS.Platform, () => Promise<string>>> = {
  linux: () => readFile('/proc/sys/kernel/random/boot_id', 'utf8'),
  darwin: async () => (await promisify(execFile)('sysctl', ['-n', 'kern.bootsessionuuid'])).stdout,
};
