/** What a plan is made of: instances to be, and where each is found. */
import type { Adapter, Middleware } from './catalog.js';
import type { PassedOver } from './choice.js';
import type { ConfigPath } from './config.js';
import type { Place, Problem } from './problems.js';
import type { PlannedSecret } from './secrets.js';

/** One instance to be. */
export interface PlannedInstance {
  /** `<Capability>#<name>`. */
  readonly key: string;
  /** The capability's name, without its major version. */
  readonly capability: string;
  readonly name: string;
  readonly isDefault: boolean;
  readonly adapter: Adapter;
  /** Checked, defaults filled in, paths absolute. A secret is still its reference: see secrets.ts. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Secrets that `config` names. */
  readonly secrets: readonly PlannedSecret[];
  /** What its factory may ask its context for. */
  readonly requires: readonly Requirement[];
  /** What is put around it, outermost first. */
  readonly middleware: readonly PlannedMiddleware[];
  /** What `host.start()` does when it cannot be activated. */
  readonly onFailure: 'abort' | 'continue';
  /** Where the adapter was named; `null` for an instance that stands because nothing else could serve. */
  readonly place: Place | null;
  /** Where its binding stands in the configuration; `null` as for `place`. */
  readonly path: ConfigPath | null;
  /** Adapters that were preferred and are not available. */
  readonly passedOver: readonly PassedOver[];
  /** Paths of the configuration that `config` was made from, highest first. */
  readonly configPaths: readonly ConfigPath[];
}

/** One layer around an instance. */
export interface PlannedMiddleware extends Middleware {
  /** Checked, defaults filled in, paths absolute. A secret is still its reference. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly secrets: readonly PlannedSecret[];
  /** What its factory may ask its context for. */
  readonly requires: readonly Requirement[];
  /** Paths of the configuration that `config` was made from. */
  readonly configPaths: readonly ConfigPath[];
}

/** One entry of a manifest's `requires`, resolved. */
export interface Requirement {
  readonly capability: string;
  /** `many` is for `getAll`; the others are for `get`. */
  readonly kind: 'one' | 'optional' | 'many';
  /** The name asked for, `null` for the default. */
  readonly name: string | null;
  /** Keys of the instances that serve it. */
  readonly keys: readonly string[];
  /** For `many`: adapters that could serve it, were it not for this. */
  readonly failed: readonly { readonly name: string; readonly problem: Problem }[];
}

/** By key, and by capability: a plan may have thousands, each of which asks for others. */
export class PlannedInstances extends Map<string, PlannedInstance> {
  readonly #keysOf = new Map<string, string[]>();
  readonly #defaults = new Map<string, string>();

  override set(key: string, instance: PlannedInstance): this {
    const { capability, isDefault } = instance;
    if (!this.has(key)) {
      const keys = this.#keysOf.get(capability);
      if (keys === undefined) this.#keysOf.set(capability, [key]);
      else keys.push(key);
    }
    if (isDefault) this.#defaults.set(capability, key);
    return super.set(key, instance);
  }

  /** All of a capability, in their order. */
  serving(capability: string): PlannedInstance[] {
    return (this.#keysOf.get(capability) ?? []).map((key) => this.get(key) as PlannedInstance);
  }

  serves(capability: string): boolean {
    return this.#keysOf.has(capability);
  }

  /** The instance of that name; `null` for the default one. */
  named(capability: string, name: string | null): PlannedInstance | undefined {
    return this.get(name === null ? (this.#defaults.get(capability) ?? '') : `${capability}#${name}`);
  }
}
