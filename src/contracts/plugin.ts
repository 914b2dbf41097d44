/**
 * What a plugin is made of: a manifest that is read without running code, and a module that is imported when one of its
 * adapters is first needed. An author needs neither a base class nor the container.
 */
import type { Capability } from './capability.js';
import type { Clock } from './clock.js';
import { FatalError } from './errors.js';

/**
 * `plugin.json`, beside the plugin's code, or the key `rollout-cloud` of its package.json. The host checks it against its
 * schema (`plugin.schema.json` in the package) and names what is wrong.
 */
export interface PluginManifest {
  /** Lower-case words joined by dots and dashes, e.g. `acme.vault`. */
  readonly id: string;
  /** A semantic version. */
  readonly version: string;
  readonly displayName?: string;
  readonly description?: string;
  /** Version ranges that the plugin works with. */
  readonly engines?: { readonly 'rollout-cloud'?: string; readonly node?: string };
  /** The module to import, relative to the manifest; it must lie inside the manifest's folder. */
  readonly main: string;
  /** Where the plugin can work. Elsewhere it is `unavailable`, with what does not hold as the reason. */
  readonly when?: {
    /** As `process.platform` says, e.g. `["linux", "darwin"]`. */
    readonly platform?: readonly string[];
    /** As `process.arch` says, e.g. `["x64", "arm64"]`. */
    readonly arch?: readonly string[];
    /** Environment variables that have to be set, and not to nothing. */
    readonly env?: readonly string[];
  };
  /** Plugins that have to be there, by id, and are activated first: `acme.base`, or with a range `acme.base@^1.2.0`. */
  readonly dependsOn?: readonly string[];
  /** Plugins that are activated first where they are there. */
  readonly optionalDependsOn?: readonly string[];
  /** When its instances are made: when one is first asked for (the default), or all of them by `host.start()`. */
  readonly activation?: 'onDemand' | 'onStartup';
  /** Where its code runs: in the host's process (the default), or in a child process behind the same contracts. */
  readonly run?: 'inprocess' | 'process';
  /** What its process may do, where `run` is `process`. Nothing that is not listed. */
  readonly permissions?: PluginPermissions;
  readonly contributes: {
    /** Empty where the manifest has none, once the host has read it; so are the other two. */
    readonly adapters: readonly AdapterManifest[];
    readonly middleware?: readonly MiddlewareManifest[];
    /** Contracts of its own that its adapters, or those of other plugins, serve. */
    readonly capabilities?: readonly CapabilityManifest[];
  };
}

/** What a plugin in a process of its own may do. A seat belt against mistakes, no boundary against hostile code. */
export interface PluginPermissions {
  readonly fs?: {
    /**
     * Files and folders, with all that is in them; relative to the configuration file's folder. `${config.root}` at the
     * start is what the option `root` of each of its instances says.
     */
    readonly read?: readonly string[];
    readonly write?: readonly string[];
  };
  /** Start programs. */
  readonly childProcess?: boolean;
  /** Load native addons. */
  readonly addons?: boolean;
  /** Start worker threads. */
  readonly workers?: boolean;
  /** Open connections, where the version of Node can withhold it. */
  readonly network?: boolean;
  /** Environment variables that it gets, by name. */
  readonly env?: readonly string[];
}

/** What an adapter and a middleware declare alike. */
export interface Contribution {
  readonly description?: string;
  /**
   * Capabilities that the factory asks its context for: `Storage`, `SecretStore?` (may be absent: ask `has` first), `Queue#name` (that
   * instance), `GpuEnumerator*` (every instance there is, none included).
   */
  readonly requires?: readonly string[];
  /** Packages that its user installs, with the range that fits: `{ "@aws-sdk/client-s3": "^3.600.0" }`. Looked for before the plugin is imported. */
  readonly packages?: Readonly<Record<string, string>>;
  /**
   * JSON Schema of `config`, an object. Unknown keys are refused, in nested objects too, unless it says otherwise
   * (`additionalProperties`); defaults are filled in; a string of `"format": "path"` is resolved against the folder of the
   * configuration file; what is marked `"sensitive": true` is redacted wherever the host shows it.
   */
  readonly config?: Readonly<Record<string, unknown>>;
}

export interface AdapterManifest extends Contribution {
  /** As `plugins.json` names it, e.g. `acme.vault`. Unique over all plugins that are loaded. */
  readonly id: string;
  /** The capability served, `<name>@<major>`. */
  readonly provides: string;
  /** What it can do beyond the contract's ground, as the contract lists. */
  readonly features?: readonly string[];
  readonly timeouts?: {
    /** How long the import and the factory may take together. Default 10,000. */
    readonly activateMs?: number;
    /** How long disposing may take. Default 5,000. */
    readonly disposeMs?: number;
  };
}

/** Something that is put around an adapter's instance and serves the same capability. */
export interface MiddlewareManifest extends Contribution {
  /** As `middleware` of a binding names it, e.g. `retry`. Unique for each capability that it wraps. */
  readonly id: string;
  /** The capabilities that it can be put around, `<name>@<major>`; `["*"]` for any. */
  readonly wraps: readonly string[];
}

/** A contract that a plugin brings. Its token is `capability('<plugin id>/<Name>', { major })`. */
export interface CapabilityManifest {
  /** `<plugin id>/<Name>@<major>`. */
  readonly id: string;
  readonly description?: string;
}

/** Where a plugin writes what operators should see. The shape of `console`, and of most loggers. */
export interface Logger {
  debug(message: string, context?: object): void;
  info(message: string, context?: object): void;
  warn(message: string, context?: object): void;
  error(message: string, context?: object): void;
}

/** The instances of one capability that are active, and why the others are not. */
export interface Instances<T> extends ReadonlyArray<T> {
  /** The name of each in `bindings`, in the same order. */
  readonly names: readonly string[];
  readonly failed: readonly { readonly name: string; readonly error: unknown }[];
  /** Where there is none at all: why, if the configuration says so, e.g. `plugin "x", which has it, is disabled`. Else `null`. */
  readonly absent: string | null;
}

export interface GetAllOptions {
  /**
   * How long each may take to be activated, ms; one that takes longer is among `failed` of this answer, and goes on being
   * activated. Default: as long as the host gives it.
   */
  readonly withinMs?: number;
}

/** How an instance is, as it says itself. */
export interface Health {
  /** `degraded`: it serves, but worse than it should, e.g. from one replica of three. */
  readonly status: 'ok' | 'degraded';
  /** For operators: what is wrong, and what to do. Never a secret. */
  readonly reason?: string;
}

/** What the host may call on an instance beside its contract. Every method may be missing. */
export interface Lifecycle {
  /**
   * Asked at the end of activation and by `host.checkHealth()`. A rejection ends an activation under way; an instance
   * that is active it makes degraded. Nothing answered means `ok`.
   * @param signal aborted when the answer takes too long
   */
  health?(signal: AbortSignal): Promise<Health | undefined>;
  /**
   * Finishes what is under way, before the instance is disposed. By then the host gives it to nobody new, but what it
   * requires still works.
   * @param signal aborted when the time for it is up; what is not finished by then is lost with the disposal
   */
  drain?(signal: AbortSignal): Promise<void>;
  [Symbol.asyncDispose]?(): Promise<void>;
  close?(): void | Promise<void>;
}

/** What a factory is given: its configuration and the host's services, for this one instance. */
export interface PluginContext<Config = Record<string, unknown>> {
  /** The adapter's id. */
  readonly id: string;
  /** The instance's name in `bindings`, `default` in the short form. */
  readonly name: string;
  /** Checked against the manifest's schema, defaults filled in, paths absolute. */
  readonly config: Config;
  /** Aborted when activation takes too long, and when the instance is about to be disposed: end what runs by itself. */
  readonly signal: AbortSignal;
  readonly logger: Logger;
  /** What the adapter's leases, delays and retention are to run on, so that a test can move them. */
  readonly clock: Clock;
  /**
   * Whether {@link PluginContext.get} has an instance to give: always for what the manifest requires, perhaps not for
   * what it marks with `?`. Activates nothing.
   */
  has<T extends object>(capability: Capability<T>, name?: string): boolean;
  /** An instance of a capability that the manifest `requires`; activated first if it has to be. */
  get<T extends object>(capability: Capability<T>, name?: string): Promise<T>;
  /**
   * Every instance of a capability that the manifest requires with `*`, activated where needed. One that cannot be
   * activated is left out, and `failed` of the answer says why; the next call tries it again.
   */
  getAll<T extends object>(capability: Capability<T>, options?: GetAllOptions): Promise<Instances<T>>;
  /**
   * Hands over something to be released after the instance is disposed, or at once when activation fails; in reverse
   * order of the calls. Returns the resource.
   */
  own<R>(resource: R, dispose: (resource: R) => void | Promise<void>): R;
  /**
   * Tells the host how the instance is, without being asked. `degraded` and `ok` move it between those states; `lost`
   * says that it will never work again, as when the process or connection behind it is gone: the host disposes it, and
   * the next demand activates a new one. While the instance is being activated, `lost` fails the activation.
   */
  report(health: Health | { readonly status: 'lost'; readonly reason: string; readonly error?: unknown }): void;
}

/**
 * Makes one instance of an adapter. It may have the methods of {@link Lifecycle}; `[Symbol.asyncDispose]()`, or else
 * `close()`, is called once, after everything that asked for the instance has been disposed.
 */
// biome-ignore lint/suspicious/noExplicitAny: each adapter's config type is its own; the schema is what holds it.
export type AdapterFactory = (context: PluginContext<any>) => object | Promise<object>;

/** What a middleware's factory is given: as an adapter's, and what it is put around. */
export interface MiddlewareContext<Config = Record<string, unknown>> extends PluginContext<Config> {
  /** The middleware's id. */
  readonly id: string;
  /** What the binding says for this middleware, checked against its own schema. */
  readonly config: Config;
  /** `<name>@<major>` of the capability. */
  readonly capability: string;
  /** The id of the adapter whose instance it is. */
  readonly adapter: string;
}

/**
 * Puts something around an instance and answers what is to be used in its place: an object of the same contract, most
 * easily made by `decorate`. `inner` stands behind its contract's checks. What the answer has to be rid of is its
 * `close()` or `[Symbol.asyncDispose]()`, or is handed to `own`; `inner` is disposed after it, and once, whoever closes it.
 */
// biome-ignore lint/suspicious/noExplicitAny: each middleware's config type and contract are its own.
export type MiddlewareFactory = (inner: any, context: MiddlewareContext<any>) => object | Promise<object>;

export interface PluginModule {
  /** By adapter id, one for each adapter of the manifest. */
  readonly adapters: Readonly<Record<string, AdapterFactory>>;
  /** By middleware id, one for each that the manifest has. */
  readonly middleware?: Readonly<Record<string, MiddlewareFactory>>;
  /** Called after the import and before the first factory; again on the next demand when it fails. */
  activate?(): void | Promise<void>;
  /** Called once when the host stops, after the plugin's instances are disposed. */
  deactivate?(): void | Promise<void>;
}

const PLUGIN = Symbol.for('rollout-cloud/plugin');

/** Marks a module's default export as a plugin. */
export function definePlugin(
  plugin: Omit<PluginModule, 'adapters'> & Partial<Pick<PluginModule, 'adapters'>>,
): PluginModule {
  const { adapters, middleware } = plugin ?? {};
  const isMap = (value: unknown) => typeof value === 'object' && value !== null;
  if (!(isMap(adapters) || (adapters === undefined && isMap(middleware)))) {
    throw new FatalError(
      'PluginContract',
      'definePlugin takes { adapters: { "<adapter id>": factory }, middleware: { "<middleware id>": factory } }, one of them at least',
    );
  }
  return Object.freeze({ ...plugin, adapters: adapters ?? {}, [PLUGIN]: true });
}

/** Whether a module's default export came from {@link definePlugin}, of whichever copy of the package. */
export function isPluginModule(value: unknown): value is PluginModule {
  return typeof value === 'object' && value !== null && PLUGIN in value;
}
