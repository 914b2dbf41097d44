/**
 * A plugin in a process of its own.
 *
 * ```
 * no process ──demand──> starting ──> running ──reload: a second one beside it, then this one ends
 *      ^                    │            │
 *      └── failed to load ──┘            │ crashed: calls under way are rejected, the next demand starts it again
 *      └─────────────────────────────────┘ (the third time within 5 minutes: failed, until it is reloaded)
 * ```
 * Its instances are stand-ins that outlive the process: whoever holds one goes on with it after a crash or a reload, as
 * the first call to the new process opens it there again.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { FatalError, isCoreError, RecoverableError } from '../../contracts/errors.js';
import { definePlugin, type Logger, type PluginContext, type PluginModule } from '../../contracts/plugin.js';
import { abortable, closed, failure, messageOf, withTimeout } from '../ending.js';
import { type LoadContext, type LoadPlugin, whyNotLoaded } from '../loading.js';
import type { Plugin } from '../manifest.js';
import { PACKAGE_FOLDER, TREE } from '../own-package.js';
import { missingOption } from '../permission-paths.js';
import type { Loaded } from './child.js';
import { IsolatedInstance, type Part, type Remote } from './instance.js';
import { ROOT } from './peer.js';
import { environment, type Grounds, pathsOf, permissionFlags } from './permissions.js';
import { PluginProcess } from './process.js';

/** Crashes within the window after which it is not started again. */
const CRASHES_MAX = 3;
const CRASH_WINDOW_MS = 5 * 60_000;
/** How long the process may take to load the plugin: as an activation, of which the first load is a part. */
const LOAD_MS = 10_000;
/** How long a process may go without a word while a call is under way. Longer work belongs off its main thread. */
const ANSWER_MS = 30_000;
/** How long a process has to say that it works off its events, when something in it took too long. */
const PING_MS = 1_000;
/** How long the plugin's `deactivate` may take. */
const DEACTIVATE_MS = 2_000;
/** How long a reload waits for calls to the old process. */
const DRAIN_MS = 10_000;

/** Where the program of the child lies: in the tree that runs, or, for sources under a transpiler, in the build. */
const ENTRY = [TREE, 'dist']
  .map((tree) => join(PACKAGE_FOLDER, tree, 'registry/isolation/child.js'))
  .find((file) => existsSync(file));

const isolated = new WeakMap<PluginModule, IsolatedPlugin>();

/** Starts the plugin's process and loads the plugin there; the module's factories answer stand-ins. */
export const isolatePlugin: LoadPlugin = async (plugin, context) => {
  const it = new IsolatedPlugin(plugin, context);
  await it.running();
  isolated.set(it.module, it);
  return it.module;
};

/**
 * Loads the plugin's code as it is now into a second process, opens every instance there, and moves over; calls under
 * way end in the old one, which is kept when anything of that fails.
 * @param plugin with its manifest as it is now, which contributes the same. Default as it was
 */
export async function reloadIsolated(module: PluginModule, plugin?: Plugin): Promise<void> {
  await isolated.get(module)?.reload(plugin);
}

/** What decides when a process is given up; smaller in tests. */
export interface Limits {
  readonly answerMs: number;
  readonly drainMs: number;
}

export class IsolatedPlugin {
  readonly module: PluginModule;
  /** `plugin acme.vault`. */
  readonly who: string;
  readonly instances = new Map<string, IsolatedInstance>();
  #plugin: Plugin;
  readonly #context: LoadContext;
  readonly #limits: Limits;
  #current: PluginProcess | null = null;
  #starting: Promise<PluginProcess> | null = null;
  /** Processes that do not serve yet. */
  readonly #loading = new Set<PluginProcess>();
  #reloading: Promise<void> = Promise.resolve();
  /** What a reload has started, as long as another process serves. */
  #trial: PluginProcess | null = null;
  /** Processes that this side ends: that they do is no crash. */
  readonly #retired = new WeakSet<PluginProcess>();
  /** The paths that each was granted. */
  readonly #granted = new WeakMap<PluginProcess, readonly string[]>();
  /** When it crashed, in ms of the process's clock. */
  #crashes: number[] = [];
  #failure: FatalError | null = null;
  /** How the last process ended, while there is no other. */
  lastEnd: string | null = null;
  /** Aborted when the plugin is stopped. */
  readonly #ending = new AbortController();
  #nextKey = 0;

  constructor(plugin: Plugin, context: LoadContext, limits: Partial<Limits> = {}) {
    const { id, contributes } = plugin.manifest;
    this.who = `plugin ${id}`;
    this.#plugin = plugin;
    this.#context = context;
    this.#limits = { answerMs: ANSWER_MS, drainMs: DRAIN_MS, ...limits };
    this.module = definePlugin({
      adapters: Object.fromEntries(
        contributes.adapters.map((adapter) => [adapter.id, (ctx) => this.#open(adapter, ctx)]),
      ),
      middleware: Object.fromEntries(
        (contributes.middleware ?? []).map((middleware) => [
          middleware.id,
          (inner, ctx) => this.#open({ ...middleware, provides: ctx.capability, inner }, reportingItsOwn(ctx)),
        ]),
      ),
      deactivate: () => this.stop(),
    });
    context.signal.addEventListener('abort', () => this.#loading.size > 0 && void this.stop(), { once: true });
  }

  get logger() {
    return this.#context.logger;
  }

  /** Why it is not started again. */
  get failure(): FatalError | null {
    return this.#failure;
  }

  get #stopped(): boolean {
    return this.#ending.signal.aborted;
  }

  /** Whether calls go to this process, not to one before or after it. */
  serves(process: PluginProcess): boolean {
    return this.#current === process;
  }

  #open(part: Part, context: PluginContext): Promise<object> {
    return new IsolatedInstance(this, part, context, `${++this.#nextKey}`).activate();
  }

  /** Its process, started if there is none. */
  running(): PluginProcess | Promise<PluginProcess> {
    if (this.#stopped) return Promise.reject(closed(this.who));
    if (this.#failure !== null) return Promise.reject(this.#failure);
    if (this.#current !== null) return this.#current;
    this.#starting ??= this.#start(this.#plugin)
      .then((process) => {
        if (this.#current !== null) {
          // A reload has put its own in place meanwhile: that one serves.
          this.#discard(process);
          return this.#current;
        }
        this.#loading.delete(process);
        this.lastEnd = null;
        this.#current = process;
        return process;
      })
      .finally(() => {
        this.#starting = null;
      });
    return this.#starting;
  }

  /** Ends a process that does not work off its events; one that does is left alone, with all else that it serves. */
  async check(process: PluginProcess, doing: string): Promise<void> {
    const late = () => new Error('late');
    await withTimeout(process.peer.call(ROOT, 'ping', []), PING_MS, late).catch(() =>
      process.kill(`hung (${doing}) and was killed`),
    );
  }

  reload(plugin?: Plugin): Promise<void> {
    const reloading = this.#reloading.then(() => this.#reload(plugin ?? this.#plugin));
    this.#reloading = reloading.catch(() => {});
    return reloading;
  }

  async stop(): Promise<void> {
    if (this.#stopped) return;
    this.#ending.abort(closed(this.who));
    // Nothing is served by them yet, and the plugin's code may never come to its end.
    for (const process of this.#loading) this.#discard(process);
    const process = this.#current;
    this.#current = null;
    // An old process that was still draining is on its way out, too.
    await Promise.all([process === null ? null : this.#retire(process), this.#reloading]);
  }

  /** Ends a process without a word: there is nothing of use in it. */
  #discard(process: PluginProcess): void {
    this.#loading.delete(process);
    this.#retired.add(process);
    process.kill();
  }

  async #start(plugin: Plugin, isTrial = false): Promise<PluginProcess> {
    const { manifest, mainUrl } = plugin;
    let process: PluginProcess | null = null;
    try {
      process = this.#spawn(plugin);
      this.#loading.add(process);
      if (isTrial) this.#trial = process;
      const late = () =>
        failure('RC1302', `${this.who}: its process did not load ${manifest.main} within ${LOAD_MS} ms`);
      const loaded = (await withTimeout(process.peer.call(ROOT, 'load', [mainUrl]), LOAD_MS, late)) as Loaded;
      for (const [what, has, parts] of [
        ['adapter', loaded.adapters, manifest.contributes.adapters],
        ['middleware', loaded.middleware, manifest.contributes.middleware ?? []],
      ] as const) {
        const lacking = parts.find(({ id }) => !has.includes(id));
        if (lacking === undefined) continue;
        const message = `${this.who}: its manifest has ${what} "${lacking.id}", its module has no factory for it`;
        throw failure('RC1301', message);
      }
      return process;
    } catch (error) {
      if (process !== null) this.#discard(process);
      if (isCoreError(error)) throw error;
      throw failure('RC1301', `${this.who}: loading ${manifest.main} failed: ${whyNotLoaded(error)}`, error);
    }
  }

  /**
   * Makes sure that the process may use what the configuration of an instance names. Those that were planned with the
   * plugin are known to it from the start; for another, one with more permissions takes its place.
   */
  async admit(): Promise<void> {
    const missing = missingOption(this.#plugin.manifest, this.#grounds().configs ?? []);
    if (missing !== null) {
      const message = `${this.who}: "\${config.${missing}}" in its manifest's permissions grants nothing, as no configuration of its instances has the option "${missing}"; set it, or let the manifest's schema list it where it may be left out`;
      throw failure('RC1303', message);
    }
    await this.#starting?.catch(() => {});
    const granted = this.#current === null ? undefined : this.#granted.get(this.#current);
    if (granted !== undefined && !this.#paths(this.#plugin).every((path) => granted.includes(path)))
      await this.reload();
  }

  /** What paths in permissions are made of: the configurations that were planned, and those of instances beyond. */
  #grounds(): Grounds {
    const { folder, base = globalThis.process.cwd() } = this.#plugin;
    const configs = [...this.#context.configs, ...[...this.instances.values()].map(({ config }) => config)];
    return { base, code: [folder, PACKAGE_FOLDER], configs };
  }

  #paths({ manifest }: Plugin): string[] {
    const { read = [], write = [] } = manifest.permissions?.fs ?? {};
    return [...pathsOf(read, this.#grounds()).map((path) => `read ${path}`), ...pathsOf(write, this.#grounds())];
  }

  #spawn(plugin: Plugin): PluginProcess {
    if (ENTRY === undefined)
      throw new FatalError('Internal', 'the program of plugin processes is missing: build first');
    const { permissions = {} } = plugin.manifest;
    const spawned = new PluginProcess({
      entry: ENTRY,
      flags: permissionFlags(permissions, this.#grounds()),
      env: environment(permissions),
      who: this.who,
      logger: this.logger,
      answerMs: this.#limits.answerMs,
      root: this.#services(),
      ended: (how) => this.#ended(spawned, how),
    });
    this.#granted.set(spawned, this.#paths(plugin));
    return spawned;
  }

  /** What the process may ask the host for: what the context of one of its instances has. */
  #services(): object {
    const of = (key: string) => {
      const instance = this.instances.get(key);
      if (instance === undefined) throw closed(`${this.who}: an instance of it`);
      return instance;
    };
    return {
      get: (key: string, asked: never) => of(key).get(asked),
      getAll: (key: string, asked: never, options: never) => of(key).getAll(asked, options),
      report: (key: string, health: never) => of(key).report(health),
      log: (key: string, level: keyof Logger, message: string, ...context: [] | [object]) =>
        (this.instances.get(key)?.logger ?? this.logger)[level](message, ...context),
    };
  }

  /** Counts a crash, and says what to answer those whose calls were under way. */
  #ended(process: PluginProcess, how: string): Error {
    if (this.#current === process) this.#current = null;
    const { id: plugin } = this.#plugin.manifest;
    const ended = (then: string, retry = {}) =>
      new RecoverableError('Transient', `${this.who}: its process ${how} while the call was under way; ${then}`, {
        ...{ code: 'PLUGIN_CRASHED', context: { plugin, how } },
        ...retry,
      });
    if (this.#stopped) return closed(this.who);
    if (this.#retired.has(process)) return ended('a reload has put another in its place');
    // Of a process that never served, only the reload is told that wanted it.
    if (this.#trial === process) return ended('it was to take the place of another, and does not');
    this.lastEnd = how;
    const now = performance.now();
    this.#crashes = [...this.#crashes.filter((at) => now - at < CRASH_WINDOW_MS), now];
    const times = this.#crashes.length;
    const budget = `${CRASHES_MAX} within ${CRASH_WINDOW_MS / 60_000} minutes`;
    if (times >= CRASHES_MAX) {
      this.#failure = new FatalError(
        'PluginContract',
        `${this.who} crashed ${budget.replace(' ', ' times ')}, the last time its process ${how}; it stays stopped until host.reload("${plugin}"), host.reconfigure() or a new start of the host`,
        { code: 'PLUGIN_FAILED', context: { plugin, crashes: times, how } },
      );
    }
    const next = this.#failure === null ? 'the next call starts it again' : 'it is not started again';
    this.logger.error(`${this.who}: its process ${how}; ${next} (crash ${times} of ${budget})`);
    if (this.#failure !== null) this.#context.failed(this.#failure);
    const reason = this.#failure?.message ?? `its process ${how}; ${next}`;
    for (const instance of this.instances.values()) instance.onCrash(reason);
    return ended(next, this.#failure !== null && { retry: { kind: 'never' } });
  }

  async #reload(plugin: Plugin): Promise<void> {
    if (this.#stopped) throw closed(this.who);
    // One that is just starting has the old code.
    await this.#starting?.catch(() => {});
    const next = await this.#start(plugin, true);
    const opened = [...this.instances.values()];
    let remotes: Remote[];
    try {
      remotes = await Promise.all(opened.map((instance) => instance.open(next)));
      if (this.#stopped) throw closed(this.who);
    } catch (error) {
      this.#discard(next);
      throw error;
    }
    const previous = this.#current;
    if (previous !== null) this.#retired.add(previous);
    this.#loading.delete(next);
    this.#trial = null;
    this.#plugin = plugin;
    this.#current = next;
    this.#failure = null;
    this.#crashes = [];
    this.lastEnd = null;
    this.#context.failed(null);
    opened.forEach((instance, i) => void instance.moveTo(remotes[i] as Remote));
    this.logger.info(`${this.who}: reloaded`);
    if (previous !== null) await this.#letGo(previous, opened);
  }

  /**
   * Lets calls to a process that serves no more come to their end, then disposes what is in it and ends it. What it leaves
   * undone is told, and ends with it: another serves already.
   */
  async #letGo(process: PluginProcess, opened: readonly IsolatedInstance[]): Promise<void> {
    const { drainMs } = this.#limits;
    const bounded = (work: Promise<unknown>, doing: string) =>
      withTimeout(work, drainMs, () =>
        failure('RC1305', `${doing} the old process of ${this.who} did not finish within ${drainMs} ms`),
      );
    const tell = (error: unknown) => this.logger.warn(messageOf(error), { error });
    await bounded(abortable(process.peer.whenIdle(), this.#ending.signal), 'draining').catch(
      (error) => this.#stopped || tell(error),
    );
    // Those as well that came while the other was being prepared.
    const all = [...new Set([...opened, ...this.instances.values()])];
    const disposing = all.map((instance) => instance.disposeIn(process).catch(tell));
    await bounded(Promise.all(disposing), 'disposing what is in').catch(tell);
    await this.#retire(process).catch(tell);
  }

  /** Lets the plugin deactivate, then ends the process; bounded, whatever the plugin does. */
  async #retire(process: PluginProcess): Promise<void> {
    this.#retired.add(process);
    const late = () => failure('RC1305', `deactivating ${this.who} did not finish within ${DEACTIVATE_MS} ms`);
    try {
      if (!process.peer.isClosed) await withTimeout(process.peer.call(ROOT, 'deactivate', []), DEACTIVATE_MS, late);
    } finally {
      await process.end();
    }
  }
}

/** A middleware speaks of an instance that is another's: that it is well itself says nothing, unless it was not before. */
function reportingItsOwn<C extends PluginContext>(context: C): C {
  let isWell = true;
  const report: PluginContext['report'] = (health) => {
    if (!isWell || health.status !== 'ok') context.report(health);
    isWell = health.status === 'ok';
  };
  return { ...context, report };
}
