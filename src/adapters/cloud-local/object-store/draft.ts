/** A file on its way to become a blob, or a sidecar. */
import type { Stats } from 'node:fs';
import type { Disk } from './disk.js';
import type { Eventual } from './in-place.js';
import type { OpenFile } from './open-file.js';

/** A file under `tmp/`, being written. */
export class Draft {
  readonly #disk: Disk;
  readonly file: OpenFile;
  /** Bytes written. */
  size = 0;

  constructor(disk: Disk, file: OpenFile) {
    this.#disk = disk;
    this.file = file;
  }

  get path(): string {
    return this.file.path;
  }

  /** Appends. One call at a time. */
  write(bytes: Uint8Array): Eventual<void> {
    this.size += bytes.byteLength;
    return this.file.write(bytes);
  }

  stat(): Eventual<Stats> {
    return this.file.stat();
  }

  /** Ends writing. After a failed sync the bytes may be lost though a second one succeeds: discard the draft. */
  finish(sync: boolean): Eventual<void> {
    return sync ? this.#syncAndClose() : this.file.close();
  }

  async #syncAndClose(): Promise<void> {
    await this.file.sync();
    await this.file.close();
  }

  /** Removes the draft, if it can be: one that stays behind is swept by a later open. Never fails. */
  async discard(): Promise<void> {
    try {
      await this.file.close();
      await this.#disk.unlink(this.path);
    } catch {
      // Whatever made the draft useless is being reported already.
    }
  }
}
