/** A folder of its own for one test: configuration files and plugins written as a user would write them. */
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Logger } from '../../src/contracts/plugin.js';
import { createHost, type Host, type HostOptions } from '../../src/registry/index.js';
import { importModule } from './import-module.js';

const CONTRACTS = fileURLToPath(new URL('../../src/contracts/index.ts', import.meta.url));

export interface TestPlugin {
  readonly id: string;
  readonly adapters: readonly Record<string, unknown>[];
  /** Body of the module; `definePlugin` and the tokens are imported, and `log` is shared with the test. */
  readonly code: string;
  readonly manifest?: Record<string, unknown>;
  /** Where its folder goes, relative to the workspace. Default `plugins/<id>`. */
  readonly folder?: string;
}

export class Workspace {
  /** Real path of the folder. */
  readonly folder = realpathSync(mkdtempSync(join(tmpdir(), 'rollout-')));
  /** What plugins wrote with `log(…)`, in order. */
  readonly log: string[] = [];
  /** What was written to the host's logger: `warn message`. */
  readonly logged: string[] = [];
  /** URLs imported, in order. */
  readonly imported: string[] = [];
  readonly #hosts: Host[] = [];

  constructor() {
    (globalThis as Record<string, unknown>)[this.folder] = (line: string) => this.log.push(line);
  }

  path(...names: string[]): string {
    return join(this.folder, ...names);
  }

  write(name: string, content: string | object): string {
    const file = this.path(name);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content, null, 2));
    return file;
  }

  /** Writes a plugin and returns its `use`. */
  plugin({ id, adapters, code, manifest, folder = `plugins/${id}` }: TestPlugin): string {
    this.write(`${folder}/plugin.json`, {
      id,
      version: '1.0.0',
      main: './index.mjs',
      contributes: { adapters },
      ...manifest,
    });
    this.write(
      `${folder}/index.mjs`,
      `import * as contracts from ${JSON.stringify(CONTRACTS)};
       const { definePlugin, Storage, Queue, ObjectStore, SecretStore, ComputeHint, GpuEnumerator, SecretValue } = contracts;
       const log = globalThis[${JSON.stringify(this.folder)}];
       ${code}`,
    );
    return `./${folder}`;
  }

  /** A host on `config`, a text for plugins.json or an object that is written there; stopped with the workspace. */
  async host(config: string | object, options: HostOptions = {}): Promise<Host> {
    const logger = Object.fromEntries(
      ['debug', 'info', 'warn', 'error'].map((level) => [
        level,
        (text: string) => this.logged.push(`${level} ${text}`),
      ]),
    ) as unknown as Logger;
    const host = await createHost({
      config: this.write('plugins.json', config),
      logger,
      importModule: (url) => {
        this.imported.push(url);
        return importModule(url);
      },
      ...options,
    });
    this.#hosts.push(host);
    return host;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const host of this.#hosts) await host.stop();
    delete (globalThis as Record<string, unknown>)[this.folder];
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** A SecretStore that answers its adapter's and instance's name; enough to tell instances apart. */
export const NAMING_STORE = `
  const naming = (ctx) => ({
    get: async (name) => new SecretValue(ctx.id + '#' + ctx.name + ':' + name),
    put: async () => {},
    names: async () => [],
    config: ctx.config,
  });`;
