/** What the tests of isolated plugins share: a plugin in a folder of its own, run by the built program of the child. */
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type { Capability } from '../../src/contracts/capability.js';
import { systemClock } from '../../src/contracts/clock.js';
import { FatalError, SecretStore } from '../../src/contracts/index.js';
import type { Logger, PluginContext, PluginManifest } from '../../src/contracts/plugin.js';
import { IsolatedPlugin, type Limits } from '../../src/registry/isolation/isolate.js';

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** What ends a connection in a test. */
export const DISCONNECTED = new FatalError('Internal', 'the connection ended', { code: 'CLOSED' });

export interface IsolatedOptions {
  /** By adapter id, the capability that it serves. */
  readonly adapters: Readonly<Record<string, Pick<Capability<never>, 'id'>>>;
  /** Body of the module; the contracts are imported, and `DIST` stands for the build. */
  readonly code: string;
  readonly manifest?: Partial<PluginManifest>;
  /** Of each adapter's manifest. */
  readonly adapter?: object;
  readonly limits?: Partial<Limits>;
}

/** A plugin in a process of its own, without a host. */
export interface Isolated {
  readonly folder: string;
  readonly plugin: IsolatedPlugin;
  /** What was logged: `warn plugin acme.test: …`. */
  readonly logged: string[];
  /** What instances reported: `degraded its process …`. */
  readonly reported: string[];
  /** Writes the module anew. */
  write(code: string): void;
  open<T>(token: Capability<T>, adapter: string, config?: object, context?: Partial<PluginContext>): Promise<T>;
  stop(): Promise<void>;
}

export async function isolate({ adapters, code, manifest, adapter, limits }: IsolatedOptions): Promise<Isolated> {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'rollout-isolated-')));
  const main = join(folder, 'plugin/index.mjs');
  const write = (text: string) => {
    mkdirSync(dirname(main), { recursive: true });
    writeFileSync(
      main,
      `import * as contracts from 'DIST/contracts/index.js';
       const { definePlugin, FatalError, RecoverableError, SecretValue, Storage, Queue, SecretStore } = contracts;
       ${text}`.replaceAll('DIST', pathToFileURL(join(ROOT, 'dist')).href),
    );
  };
  write(code);
  const logged: string[] = [];
  const reported: string[] = [];
  const at = (level: string) => (message: string) => void logged.push(`${level} ${message}`);
  const logger: Logger = { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
  const plugin = new IsolatedPlugin(
    {
      manifest: {
        id: 'acme.test',
        version: '1.0.0',
        main: './index.mjs',
        run: 'process',
        ...manifest,
        contributes: {
          adapters: Object.entries(adapters).map(([id, { id: provides }]) => ({ id, provides, ...adapter })),
        },
      },
      mainUrl: pathToFileURL(join(dirname(main), manifest?.main ?? 'index.mjs')).href,
      folder: dirname(main),
      base: folder,
    },
    {
      ...{ logger, signal: new AbortController().signal, importModule: (url) => import(url), configs: [] },
      failed: (error) => void (error && reported.push(`plugin failed ${error.message}`)),
    },
    limits,
  );
  return {
    folder,
    plugin,
    logged,
    reported,
    write,
    async open(_token, id, config = {}, context = {}) {
      const factory = plugin.module.adapters[id];
      if (factory === undefined) throw new Error(`no adapter ${id}`);
      return (await factory({
        id,
        name: 'default',
        config,
        signal: new AbortController().signal,
        logger,
        clock: systemClock,
        has: () => false,
        get: () => Promise.reject(new Error('nothing is bound')),
        getAll: () => Promise.reject(new Error('nothing is bound')),
        own: (resource) => resource,
        report: (health) => void reported.push(`${health.status} ${health.reason ?? ''}`.trim()),
        ...context,
      })) as never;
    },
    async stop() {
      await plugin.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** What {@link stopAll} stops. */
export const started: Isolated[] = [];

export async function stopAll(): Promise<void> {
  for (const plugin of started.splice(0)) await plugin.stop();
}

/** A SecretStore whose `get(what)` does what `bodies[what]` says, and otherwise answers `what`; `factory` may set `setUp` and `more`. */
export async function secrets(
  bodies: Record<string, string> = {},
  { factory = '', ...options }: Partial<IsolatedOptions> & { readonly factory?: string } = {},
): Promise<Isolated> {
  const cases = Object.entries(bodies).map(([name, body]) => `case ${JSON.stringify(name)}: { ${body} }`);
  const plugin = await isolate({
    adapters: { 'acme.secrets': SecretStore },
    code: `
      import fs from 'node:fs';
      import { spawnSync } from 'node:child_process';
      let setUp = () => {};
      let more = {};
      ${factory}
      export default definePlugin({ adapters: { 'acme.secrets': async (ctx) => {
        await setUp(ctx);
        return {
          get: async (what) => {
            switch (what) { ${cases.join('\n')} }
            return new SecretValue(what);
          },
          put: async () => {},
          names: async () => [String(process.pid)],
          ...more,
        };
      } } });`,
    ...options,
  });
  started.push(plugin);
  return plugin;
}

export const openSecrets = (plugin: Isolated, config = {}, context = {}) =>
  plugin.open(SecretStore, 'acme.secrets', config, context);

export const alive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

export const until = async (holds: () => boolean) => {
  for (let i = 0; i < 500 && !holds(); i++) await new Promise((resolve) => setTimeout(resolve, 10));
  if (!holds()) throw new Error('it did not come about within 5 s');
};
