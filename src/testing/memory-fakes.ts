/** Contracts that have no adapter in memory of their own: the fakes' SecretStore and BlockStore. */
import * as check from '../contracts/arguments.js';
import type { AttachedVolume, BlockStore } from '../contracts/block-store.js';
import { FatalError, RecoverableError } from '../contracts/errors.js';
import { type SecretStore, SecretValue } from '../contracts/secret-store.js';

export class MemorySecretStore implements SecretStore {
  readonly #values: Map<string, string>;
  readonly #allowed: ReadonlySet<string> | null;

  constructor(secrets: Readonly<Record<string, string>> = {}, allowlist?: readonly string[]) {
    this.#values = new Map(Object.entries(secrets));
    this.#allowed = allowlist === undefined ? null : new Set(allowlist);
  }

  async get(name: string): Promise<SecretValue> {
    this.#requireAllowed(name);
    const value = this.#values.get(name);
    if (value !== undefined) return new SecretValue(value);
    throw new RecoverableError('Transient', `secret "${name}" is not set in this fake; put it first`, {
      code: 'SECRET_UNSET',
      retry: { kind: 'never' },
      context: { name },
    });
  }

  async put(name: string, value: string | SecretValue): Promise<void> {
    this.#requireAllowed(check.text('name', name, 1, 512));
    const text = value instanceof SecretValue ? value.reveal() : value;
    if (typeof text !== 'string') throw check.invalid('value', 'text or a SecretValue', typeof value);
    this.#values.set(name, text);
  }

  async names(): Promise<string[]> {
    return [...(this.#allowed ?? this.#values.keys())].sort();
  }

  #requireAllowed(name: string): void {
    if (this.#allowed?.has(name) ?? true) return;
    throw new FatalError('ConfigInvalid', `secret "${name}" not in allowlist of this fake`, {
      code: 'SECRET_NOT_ALLOWED',
      context: { name },
    });
  }
}

export class MemoryBlockStore implements BlockStore {
  readonly #isThere: (volumeId: string) => boolean;
  readonly #attached = new Map<string, AttachedVolume>();
  #devices = 0;
  #snapshots = 0;

  constructor(volumes?: readonly string[]) {
    const there = volumes && new Set(volumes);
    this.#isThere = (id) => there?.has(id) ?? !id.includes('missing');
  }

  async attach(volumeId: string): Promise<AttachedVolume> {
    this.#requireThere(volumeId);
    let volume = this.#attached.get(volumeId);
    if (volume === undefined) {
      this.#devices += 1;
      volume = { volumeId, device: `/dev/fake${this.#devices}` };
      this.#attached.set(volumeId, volume);
    }
    return { ...volume };
  }

  async detach(volumeId: string): Promise<void> {
    this.#attached.delete(volumeId);
  }

  async snapshot(volumeId: string): Promise<string> {
    this.#requireThere(volumeId);
    this.#snapshots += 1;
    return `snapshot-${this.#snapshots}`;
  }

  #requireThere(volumeId: string): void {
    if (this.#isThere(volumeId)) return;
    throw new FatalError('Internal', `volume not found: ${volumeId}`, {
      code: 'VOLUME_NOT_FOUND',
      context: { volumeId },
    });
  }
}
