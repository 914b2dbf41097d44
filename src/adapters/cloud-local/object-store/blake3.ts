/**
 * BLAKE3-256, from whichever of two libraries loads here. Both give the same ids.
 *
 * `@napi-rs/blake-hash` is an optional dependency (prebuilt, no install script) and hashes 1.6 GB/s of 4 KiB blobs, 6
 * GB/s of large ones; `hash-wasm` runs wherever WebAssembly does, at 0.7 GB/s.
 */
import { FatalError } from '../../../contracts/errors.js';
import type { ContentId } from '../../../contracts/ids.js';

export type Blake3Engine = '@napi-rs/blake-hash' | 'hash-wasm';

/** The hash of bytes that come in parts. */
export interface Blake3Hasher {
  /** Reads `bytes` before it returns. */
  update(bytes: Uint8Array): void;
  /** The id of everything given so far; to be asked once. */
  id(): ContentId;
}

/** What hashers come from. */
export interface Hashers {
  createHasher(): Promise<Blake3Hasher>;
}

export interface Blake3 extends Hashers {
  readonly engine: Blake3Engine;
  /** The id of bytes at hand, at once. */
  idOf(bytes: Uint8Array): ContentId;
}

/** BLAKE3 from the first id on: opening a store, listing it or asking what is there hashes nothing, and loading takes 14 ms. */
export class LateBlake3 implements Hashers {
  /** `null` before {@link load}. */
  loaded: Blake3 | null;

  /** @param given in place of what this process uses */
  constructor(given: Blake3 | null = null) {
    this.loaded = given;
  }

  async load(): Promise<Blake3> {
    this.loaded ??= await loadBlake3();
    return this.loaded;
  }

  async createHasher(): Promise<Blake3Hasher> {
    return (await this.load()).createHasher();
  }
}

/**
 * Loads the native library; rejects where it is not installed or has no build for this platform. Its types ask for a
 * Buffer, it takes any Uint8Array (`napi_is_buffer` answers yes to both), and making the one of the other costs 0.5 µs.
 */
export async function loadNativeBlake3(): Promise<Blake3> {
  const { blake3, Blake3Hasher } = await import('@napi-rs/blake-hash');
  return {
    engine: '@napi-rs/blake-hash',
    // A quarter of the cost of a hasher object at 4 KiB.
    idOf: (bytes) => blake3(bytes as Buffer).toString('hex') as ContentId,
    async createHasher() {
      const hasher = new Blake3Hasher();
      return {
        update: (bytes) => void hasher.update(bytes as Buffer),
        id: () => hasher.digest('hex') as ContentId,
      };
    },
  };
}

/** Loads the WebAssembly library. */
export async function loadWasmBlake3(): Promise<Blake3> {
  const { createBLAKE3 } = await import('hash-wasm');
  const shared = await createBLAKE3();
  return {
    engine: 'hash-wasm',
    idOf: (bytes) => shared.init().update(bytes).digest('hex') as ContentId,
    async createHasher() {
      // One of its own: hashers of streams take turns.
      const hasher = (await createBLAKE3()).init();
      return {
        update: (bytes) => void hasher.update(bytes),
        id: () => hasher.digest('hex') as ContentId,
      };
    },
  };
}

let loading: Promise<Blake3> | undefined;

/** BLAKE3 as this process uses it, chosen once. */
export function loadBlake3(): Promise<Blake3> {
  loading ??= firstBlake3([loadNativeBlake3, loadWasmBlake3]);
  return loading;
}

/**
 * The first of `loaders` that works.
 * @throws FatalError Internal when none does, the last one's failure as `cause`
 */
export async function firstBlake3(loaders: readonly (() => Promise<Blake3>)[]): Promise<Blake3> {
  let cause: unknown;
  for (const load of loaders) {
    try {
      return await load();
    } catch (error) {
      cause = error;
    }
  }
  throw new FatalError('Internal', 'no BLAKE3 library loads here: install hash-wasm or @napi-rs/blake-hash', { cause });
}

/** Which library computes ids in this process. */
export async function blake3Engine(): Promise<Blake3Engine> {
  return (await loadBlake3()).engine;
}
