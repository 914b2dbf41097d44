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

export interface AttachOptions {
  /** Default false. */
  readonly readOnly?: boolean;
  readonly signal?: AbortSignal;
}

export interface SnapshotOptions {
  /** For people, 1 to 255 characters. */
  readonly label?: string;
}

export interface BlockStore {
  /**
   * Attaches a volume; resolves when its device can be opened. Attaching one that is attached here answers the same.
   * @throws FatalError Internal, code `VOLUME_NOT_FOUND`, `volume not found: <id>`
   */
  attach(volumeId: string, options?: AttachOptions): Promise<AttachedVolume>;
  /** Detaches it. One that is not attached here resolves too. Unmount first: the adapter does not know of mounts. */
  detach(volumeId: string): Promise<void>;
  /**
   * Takes a snapshot of the volume as it is; resolves to the snapshot's id once it is safe to write on.
   * @throws FatalError Internal, code `VOLUME_NOT_FOUND`
   */
  snapshot(volumeId: string, options?: SnapshotOptions): Promise<string>;
}

export const BlockStore = capability<BlockStore>('BlockStore', {
  major: 1,
  door: (impl) => ({
    attach: async (volumeId, options) => impl.attach(volume(volumeId), attachOptions(options)),
    detach: async (volumeId) => impl.detach(volume(volumeId)),
    snapshot: async (volumeId, options) => impl.snapshot(volume(volumeId), snapshotOptions(options)),
  }),
});

const volume = (id: unknown): string => check.text('volumeId', id, 1, 512);

function attachOptions(given: AttachOptions | undefined): AttachOptions {
  const { readOnly, signal } = check.known('options', given, ['readOnly', 'signal']) as AttachOptions;
  if (readOnly !== undefined && typeof readOnly !== 'boolean')
    throw check.invalid('options.readOnly', 'true or false', readOnly);
  check.signal('options.signal', signal)?.throwIfAborted();
  return { ...(readOnly !== undefined && { readOnly }), ...(signal !== undefined && { signal }) };
}

function snapshotOptions(given: SnapshotOptions | undefined): SnapshotOptions {
  const { label } = check.known('options', given, ['label']) as SnapshotOptions;
  return label === undefined ? {} : { label: check.text('options.label', label, 1, 255) };
}
