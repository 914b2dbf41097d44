/**
 * One instance's life.
 *
 * ```
 * planned ──> activating ──> active ──> disposing ──> stopped
 *    ▲            │ failed, timed out       (also from planned, when the host stops)
 *    └────────────┘ nothing is kept: the next demand activates anew
 * ```
 * Activation happens once: whoever asks meanwhile joins it. A factory that answers after its time is up has its result
 * disposed.
 */
import { checked } from '../contracts/capability.js';
import type { Clock } from '../contracts/clock.js';
import { FatalError, isCoreError, RecoverableError } from '../contracts/errors.js';
import type { AdapterFactory, Logger, PluginContext } from '../contracts/plugin.js';
import { KNOWN_CAPABILITIES, type PlannedInstance } from './plan.js';
import { type ProblemCode, showProblem } from './problems.js';

export type InstanceState = 'planned' | 'activating' | 'active' | 'disposing' | 'stopped';

const NEXT: Readonly<Record<InstanceState, readonly InstanceState[]>> = {
  planned: ['activating', 'stopped'],
  activating: ['planned', 'active', 'stopped'],
  active: ['disposing'],
  disposing: ['stopped'],
  stopped: [],
};

/** How long a factory may take, its plugin's import included, unless its manifest says otherwise. */
const ACTIVATE_MS = 10_000;
/** How long disposing one instance may take, unless its manifest says otherwise. */
const DISPOSE_MS = 5_000;

/** What an instance needs of its host. */
export interface InstanceHost {
  readonly logger: Logger;
  readonly clock: Clock;
  /** Imports the plugin if that has not happened, and gives the adapter's factory. */
  factory(planned: PlannedInstance): Promise<AdapterFactory>;
  /** The context's ways to other instances. */
  links(planned: PlannedInstance): Pick<PluginContext, 'has' | 'get' | 'getAll'>;
}

interface Owned {
  dispose(): void | Promise<void>;
}

export class Instance {
  readonly planned: PlannedInstance;
  readonly #host: InstanceHost;
  #state: InstanceState = 'planned';
  #active: object | null = null;
  /** Ends what the active instance does by itself, through its context's signal. */
  #life: AbortController | null = null;
  #activation: { promise: Promise<object>; abort: AbortController } | null = null;
  #owned: Owned[] = [];

  constructor(planned: PlannedInstance, host: InstanceHost) {
    this.planned = planned;
    this.#host = host;
  }

  get state(): InstanceState {
    return this.#state;
  }

  /** The instance where it is active, else a promise of it. */
  acquire(): object | Promise<object> {
    if (this.#active !== null) return this.#active;
    if (this.#activation !== null) return this.#activation.promise;
    if (this.#state !== 'planned') return Promise.reject(closed(this.planned.key));
    const abort = new AbortController();
    const promise = this.#activate(abort);
    this.#activation = { promise, abort };
    return promise;
  }

  /** Ends an activation under way, or disposes what is active; rejects when that fails or takes too long. */
  async stop(): Promise<void> {
    this.#activation?.abort.abort(closed(this.planned.key));
    await this.#activation?.promise.catch(() => {});
    const instance = this.#active;
    if (instance === null) {
      if (this.#state === 'planned') this.#moveTo('stopped');
      return;
    }
    this.#active = null;
    this.#life?.abort(closed(this.planned.key));
    this.#moveTo('disposing');
    try {
      const disposing = disposeAll([...this.#owned, { dispose: () => disposeInstance(instance) }]);
      await boundDispose(disposing, `disposing ${this.#shown()}`, this.planned.adapter.manifest.timeouts?.disposeMs);
    } finally {
      this.#moveTo('stopped');
    }
  }

  async #activate(abort: AbortController): Promise<object> {
    this.#moveTo('activating');
    const { manifest } = this.planned.adapter;
    const timeoutMs = manifest.timeouts?.activateMs ?? ACTIVATE_MS;
    const owned: Owned[] = [];
    const making = this.#make(abort.signal, owned);
    let settled = false;
    const settle = () => {
      settled = true;
    };
    making.then(settle, settle);
    try {
      const made = await withTimeout(abortable(making, abort.signal), timeoutMs, () =>
        failure('RC1302', `activation of ${this.#shown()} did not finish within ${timeoutMs} ms`),
      );
      const active = this.#behindDoor(made);
      this.#owned = owned;
      this.#active = active;
      this.#life = abort;
      this.#moveTo('active');
      return active;
    } catch (error) {
      abort.abort(error);
      const letGo = making
        .then(
          (made) => owned.push({ dispose: () => disposeInstance(made) }),
          () => {},
        )
        .then(() => disposeAll(owned))
        .catch((cause) => this.#host.logger.error(`could not let go of ${this.#shown()}`, { cause }));
      // What was opened is let go before the next try; a factory that has not answered yet is not waited for.
      if (settled) await letGo;
      this.#moveTo('planned');
      throw error;
    } finally {
      this.#activation = null;
    }
  }

  async #make(signal: AbortSignal, owned: Owned[]): Promise<object> {
    const { planned } = this;
    const factory = await this.#host.factory(planned);
    const context: PluginContext = {
      id: planned.adapter.manifest.id,
      name: planned.name,
      config: structuredClone(planned.config),
      signal,
      logger: this.#host.logger,
      clock: this.#host.clock,
      ...this.#host.links(planned),
      own: (resource, dispose) => {
        owned.push({ dispose: () => dispose(resource) });
        return resource;
      },
    };
    let made: unknown;
    try {
      signal.throwIfAborted();
      made = await factory(context);
    } catch (error) {
      if (isCoreError(error)) throw error;
      throw failure('RC1303', `activation of ${this.#shown()} failed: ${messageOf(error)}`, error);
    }
    if (typeof made === 'object' && made !== null) return made;
    throw failure(
      'RC1303',
      `the factory of ${this.#shown()} answered ${made === null ? 'null' : typeof made}, not an object`,
    );
  }

  #behindDoor(made: object): object {
    const { id, provides, features } = this.planned.adapter.manifest;
    const token = KNOWN_CAPABILITIES.find((known) => known.id === provides);
    return token === undefined ? made : checked(token, made as never, { adapter: id, features });
  }

  #shown(): string {
    return `${this.planned.key} (adapter ${this.planned.adapter.manifest.id})`;
  }

  /** The only place the state changes. */
  #moveTo(next: InstanceState): void {
    if (!NEXT[this.#state].includes(next)) {
      throw new FatalError('Internal', `instance ${this.planned.key} cannot go from ${this.#state} to ${next}`);
    }
    this.#state = next;
  }
}

/** The refusal of a call after the host was stopped. */
export function closed(what: string): FatalError {
  return new FatalError('Internal', `${what} was asked for after the host was stopped`, { code: 'CLOSED' });
}

/** A failure of a plugin, by its code: too slow may pass, anything else is the plugin's defect. */
export function failure(code: ProblemCode, message: string, cause?: unknown): RecoverableError | FatalError {
  const text = showProblem({ code, place: null, message });
  return code === 'RC1302' || code === 'RC1305'
    ? new RecoverableError('Transient', text, { code })
    : new FatalError('PluginContract', text, { code, cause });
}

/** Waits for something to be let go of, for so long. */
export function boundDispose(work: Promise<unknown>, doing: string, timeoutMs = DISPOSE_MS): Promise<unknown> {
  return withTimeout(work, timeoutMs, () =>
    failure('RC1305', `${doing} did not finish within ${timeoutMs} ms; it may still hold what it held`),
  );
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

async function disposeInstance(instance: object): Promise<void> {
  const it = instance as Partial<AsyncDisposable & Disposable> & { close?(): unknown };
  if (typeof it[Symbol.asyncDispose] === 'function') await it[Symbol.asyncDispose]?.();
  else if (typeof it.close === 'function') await it.close();
  else if (typeof it[Symbol.dispose] === 'function') it[Symbol.dispose]?.();
}

/** Last first; one that fails does not keep the others. */
async function disposeAll(owned: Owned[]): Promise<void> {
  const errors: unknown[] = [];
  for (const resource of owned.splice(0).reverse()) {
    try {
      await resource.dispose();
    } catch (error) {
      errors.push(error);
    }
  }
  if (errors.length === 1) throw errors[0];
  if (errors.length > 1) throw new AggregateError(errors, errors.map(messageOf).join('; '));
}

/** Settles as `work` does, unless `signal` aborts first. */
function abortable<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    work.then(resolve, reject);
  });
}

async function withTimeout<T>(work: Promise<T>, ms: number, late: () => Error): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(late()), ms);
  });
  try {
    return await Promise.race([work, timeout]);
  } finally {
    clearTimeout(timer);
  }
}
