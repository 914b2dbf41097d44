/** What the child process is asked, and what it answers. Types alone: it shares no code with who starts it. */
import type { GpuInfo } from '../../contracts/compute-hint.js';

export type ChildQuestion =
  | {
      readonly source: 'nvml';
      /** File, or folder with the library, tried first; `null`: the loader's own search alone. */
      readonly libraryPath: string | null;
      /** The kernel ends the child by then, should whoever started it have died. */
      readonly endsAfterMs: number;
    }
  | {
      readonly source: 'drm';
      /** Folders such as `/sys/class/drm/card0`. */
      readonly cards: readonly string[];
    };

/** What one source has to tell. */
export interface ChildAnswer {
  readonly gpus: readonly GpuInfo[];
  readonly driverVersion: string | null;
  /** Why there are none; `null` when there are. */
  readonly reason: string | null;
  /** About GPUs that could not be read. */
  readonly warnings: readonly string[];
}

/** An answer without GPUs. */
export type Nothing = ChildAnswer & { readonly gpus: readonly []; readonly reason: string };
