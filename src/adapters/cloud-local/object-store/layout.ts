/**
 * What lies where under a store's root, and what the small files say.
 *
 * ```
 * <root>/store.json                  format version, hash algorithm, durability
 * <root>/ab/cd/abcd…                 a blob; its name is the BLAKE3-256 of its bytes
 * <root>/ab/cd/abcd….meta.json       its sidecar: { size, contentType, createdAtMs }
 * <root>/tmp/                        drafts: what is not committed yet, or never was
 * <root>/usage/                      how many bytes came and went, as each instance has told (tallies.ts)
 * <root>/gc/abcd…                    a blob that a collection is about to remove, and may still be asked back
 * <root>/quarantine/abcd…            a corrupt blob that verify took out; never removed by this adapter
 * ```
 * Other names in these folders are somebody else's, and are left alone: a root may be a folder that has more in it.
 */
import { randomBytes } from 'node:crypto';
import type { Stats } from 'node:fs';
import { FatalError } from '../../../contracts/errors.js';
import { type ContentId, show } from '../../../contracts/ids.js';

/** Paths under one root. Built by hand: `path.join` costs as much as the system call that follows. */
export class Layout {
  readonly tmp: string;
  readonly manifest: string;
  readonly gc: string;
  readonly quarantine: string;
  readonly usage: string;

  /** @param root an absolute path */
  constructor(readonly root: string) {
    this.tmp = `${root}/tmp`;
    this.manifest = `${root}/store.json`;
    this.gc = `${root}/gc`;
    this.quarantine = `${root}/quarantine`;
    this.usage = `${root}/usage`;
  }

  /** The outer folder of an id's shard. */
  outer(id: ContentId): string {
    return `${this.root}/${id.slice(0, 2)}`;
  }

  /** The folder that holds an id's blob and sidecar. */
  shard(id: ContentId): string {
    return `${this.root}/${id.slice(0, 2)}/${id.slice(2, 4)}`;
  }

  blob(id: ContentId): string {
    return `${this.shard(id)}/${id}`;
  }

  sidecar(id: ContentId): string {
    return `${this.shard(id)}/${id}.meta.json`;
  }

  /** Where a collection holds a blob between taking it away and removing it. */
  condemned(id: ContentId): string {
    return `${this.gc}/${id}`;
  }
}

/**
 * What the names of one publisher's drafts begin with. A sweep removes by name and age alone, and an application may
 * have a folder `tmp` of its own beside ours: nobody else's file has such a name by chance.
 */
export function newDraftPrefix(): string {
  return `rollout-draft-${process.pid}-${randomBytes(8).toString('hex')}`;
}

/** Names of earlier versions' drafts have no word before, and are no less unlikely by chance. */
const DRAFT_NAME = /^(rollout-draft-)?[0-9]+-[0-9a-f]{16}-[0-9a-z]+$/;

export function isDraftName(name: string): boolean {
  return DRAFT_NAME.test(name);
}

/**
 * A put that finds its blob touches it when its modification time is this long ago. A collection whose grace is at
 * least twice that never takes a blob that a put has just found: it is either touched, or young enough.
 */
export const TOUCH_AGE_MS = 30 * 60 * 1_000;

/** What a sidecar tells beyond its blob. */
export interface Sidecar {
  readonly contentType: string | null;
  readonly createdAtMs: number;
}

/** Longest sidecar that is read: ours stay under 2 KiB, with a content type of 255 characters all escaped. */
export const SIDECAR_BYTES_MAX = 4_096;

export function encodeSidecar(size: number, { contentType, createdAtMs }: Sidecar): Buffer {
  return Buffer.from(JSON.stringify({ size, contentType, createdAtMs }));
}

/**
 * Reads a sidecar, also in the original system's spelling (`content_type`, `created_at_ms`). What is torn, missing or
 * makes no sense is made up from the blob itself: a sidecar is never worth failing a call for.
 * @param text `undefined` where there is none
 */
export function decodeSidecar(text: string | undefined, blob: Stats): Sidecar {
  const { contentType, content_type, createdAtMs, created_at_ms } = parseObject(text ?? '') ?? {};
  const [type, created] = [contentType ?? content_type, createdAtMs ?? created_at_ms];
  return {
    contentType: typeof type === 'string' ? type : null,
    createdAtMs: Number.isSafeInteger(created) ? (created as number) : storedAtMs(blob),
  };
}

/** Whether a sidecar says what it should of a blob of `size` bytes. */
export function isSidecarWhole(text: string | undefined, size: number): boolean {
  return parseObject(text ?? '')?.size === size;
}

/** A rename keeps both times, a copy of the store one of them, and some file systems know no birth (0). */
function storedAtMs({ birthtimeMs, mtimeMs }: Stats): number {
  return Math.floor(birthtimeMs > 0 ? Math.min(birthtimeMs, mtimeMs) : mtimeMs);
}

/** Raised when a store's files change so that older versions of this adapter must not touch them. */
const FORMAT = 1;

/** Levels of durability, the lowest first. */
export const DURABILITIES = ['none', 'data', 'full'] as const;

/**
 * What survives once a put resolves. `none`: all of it a crash of the process, nothing a power cut. `data`: the blob's
 * bytes a power cut, perhaps not its name. `full`: bytes, names and sidecar.
 */
export type Durability = (typeof DURABILITIES)[number];

export function encodeManifest(durability: Durability): Buffer {
  return Buffer.from(`${JSON.stringify({ format: FORMAT, hash: 'blake3', durability })}\n`);
}

/**
 * The store's durability; `null` where an earlier version wrote none.
 * @throws FatalError ConfigInvalid, code `STORAGE_FORMAT`, unless `text` is of a store that this version can use.
 */
export function decodeManifest(path: string, text: string): Durability | null {
  const { format, hash, durability } = parseObject(text) ?? {};
  const fault = (message: string) =>
    new FatalError('ConfigInvalid', message, { code: 'STORAGE_FORMAT', context: { path, format, hash } });
  if (typeof format !== 'number' || typeof hash !== 'string') {
    throw fault(`${path} does not describe an object store: restore it, or configure another root`);
  }
  if (format > FORMAT) {
    throw fault(`${path} is of format ${format}, this version uses format ${FORMAT}: upgrade rollout-cloud`);
  }
  if (hash !== 'blake3') {
    throw fault(`${path} names hash ${show(hash)}, this adapter uses "blake3": configure another root`);
  }
  const level = DURABILITIES.find((known) => known === durability);
  if (level === undefined && durability !== undefined) {
    throw fault(`${path} names durability ${show(durability)}, this version knows "none", "data", "full"`);
  }
  return level ?? null;
}

function parseObject(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' ? (value as Record<string, unknown> | null) : null;
  } catch {
    return null;
  }
}
