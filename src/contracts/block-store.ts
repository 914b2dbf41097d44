/**
 * BlockStore: block volumes attached to this machine. Declared for clouds that need it; nothing local provides it, and
 * asking a host for it without an adapter says so.
 */
import * as check from './arguments.js';
import { capability } from './capability.js';

export interface AttachedVolume {
  readonly volumeId: string;
  /** Where the operating system shows it, e.g. `/dev/nvme1n1`. */
  readonly device: string;
}

export interface BlockStore {
  /** Attaches a volume; resolves when its device can be opened. Attaching one that is attached here answers the same. */
  attach(
    volumeId: string,
    options?: { readonly readOnly?: boolean; readonly signal?: AbortSignal },
  ): Promise<AttachedVolume>;
  /** Detaches it. One that is not attached here resolves too. Unmount first: the adapter does not know of mounts. */
  detach(volumeId: string): Promise<void>;
  /** Takes a snapshot of the volume as it is; resolves to the snapshot's id once it is safe to write on. */
  snapshot(volumeId: string, options?: { readonly label?: string }): Promise<string>;
}

export const BlockStore = capability<BlockStore>('BlockStore', {
  major: 1,
  door: (impl) => ({
    attach: async (volumeId, options) =>
      impl.attach(volume(volumeId), check.known('options', options, ['readOnly', 'signal'])),
    detach: async (volumeId) => impl.detach(volume(volumeId)),
    snapshot: async (volumeId, options) => impl.snapshot(volume(volumeId), check.known('options', options, ['label'])),
  }),
});

const volume = (id: unknown): string => check.text('volumeId', id, 1, 512);
