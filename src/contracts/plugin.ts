/**
 * What a plugin is made of: a manifest that is read without running code, and a module that is imported when one of its
 * adapters is first needed. An author needs neither a base class nor the container.
 */
import type { Capability } from './capability.js';
import type { Clock } from './clock.js';
import { FatalError } from './errors.js';

/** `plugin.json`, beside the plugin's code. The host checks it against its schema and names what is wrong. */
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
  readonly contributes: { readonly adapters: readonly AdapterManifest[] };
}

export interface AdapterManifest {
  /** As `plugins.json` names it, e.g. `acme.vault`. Unique over all plugins that are loaded. */
  readonly id: string;
  /** The capability served, `<name>@<major>`. */
  readonly provides: string;
  readonly description?: string;
  /** What it can do beyond the contract's ground, as the contract lists. */
  readonly features?: readonly string[];
  /**
   * Capabilities that the factory asks its context for: `Storage`, `SecretStore?` (may be absent: ask `has` first), `Queue#name` (that
   * instance), `GpuEnumerator*` (every instance there is, none included).
   */
  readonly requires?: readonly string[];
  /**
   * JSON Schema of the adapter's `config`, an object. Unknown keys are refused, in nested objects too, unless it says
   * otherwise (`additionalProperties`); defaults are filled in; a string of `"format": "path"` is resolved against the
   * folder of the configuration file; what is marked `"sensitive": true` is redacted wherever the host shows it.
   */
  readonly config?: Readonly<Record<string, unknown>>;
  readonly timeouts?: {
    /** How long the import and the factory may take together. Default 10,000. */
    readonly activateMs?: number;
    /** How long disposing may take. Default 5,000. */
    readonly disposeMs?: number;
  };
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
  readonly failed: readonly { readonly name: string; readonly error: unknown }[];
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
  getAll<T extends object>(capability: Capability<T>): Promise<Instances<T>>;
  /**
   * Hands over something to be released after the instance is disposed, or at once when activation fails; in reverse
   * order of the calls. Returns the resource.
   */
  own<R>(resource: R, dispose: (resource: R) => void | Promise<void>): R;
}

/**
 * Makes one instance of an adapter. It may have `[Symbol.asyncDispose]()` or `close()`, which the host calls once when
 * it stops, after everything that asked for the instance has been disposed.
 */
// biome-ignore lint/suspicious/noExplicitAny: each adapter's config type is its own; the schema is what holds it.
export type AdapterFactory = (context: PluginContext<any>) => object | Promise<object>;

export interface PluginModule {
  /** By adapter id, one for each adapter of the manifest. */
  readonly adapters: Readonly<Record<string, AdapterFactory>>;
  /** Called after the import and before the first factory; again on the next demand when it fails. */
  activate?(): void | Promise<void>;
  /** Called once when the host stops, after the plugin's instances are disposed. */
  deactivate?(): void | Promise<void>;
}

const PLUGIN = Symbol.for('rollout-cloud/plugin');

/** Marks a module's default export as a plugin. */
export function definePlugin(plugin: PluginModule): PluginModule {
  if (typeof plugin?.adapters !== 'object' || plugin.adapters === null) {
    throw new FatalError('PluginContract', 'definePlugin takes { adapters: { "<adapter id>": factory } }');
  }
  return Object.freeze({ ...plugin, [PLUGIN]: true });
}

/** Whether a module's default export came from {@link definePlugin}, of whichever copy of the package. */
export function isPluginModule(value: unknown): value is PluginModule {
  return typeof value === 'object' && value !== null && PLUGIN in value;
}
