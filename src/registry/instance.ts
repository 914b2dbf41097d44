/**
 * One instance's life.
 *
 * ```
 * planned ──> activating ──> active <──> degraded ──> draining ──> disposing ──> stopped
 *                │  ^           │            │        (draining: also from active)   ^
 *        failed, │  │ next      └── lost ────┤                                       │
 *       too late v  │ demand                 v                                       │
 *               failed (attempts, error, retryAt) <──────────── planned, failed ─────┘ when the host stops
 * ```
 * One whose plugin is given up is `failed` as well, but kept: it is `active` again with the plugin, for those who hold it.
 * Activation happens once: whoever asks meanwhile joins it. A factory that answers after its time is up has its result
 * disposed. A demand before `retryAt` is refused at once with the last cause.
 */
import { FatalError } from '../contracts/errors.js';
import type { Health, Lifecycle, PluginContext } from '../contracts/plugin.js';
import { type ActivationHost, activate, isHealth, lifeOf, Made, shown, type Timings } from './activation.js';
import { Backoff, type Failure, type RetryPolicy } from './backoff.js';
import { abortable, boundDispose, closed, DISPOSE_MS, failure, messageOf, withTimeout } from './ending.js';
import type { Emitter } from './events.js';
import type { PlannedInstance } from './plan.js';
import { showProblem } from './problems.js';
import { chainOf, Waiter, type WaitGraph } from './waits.js';

export type InstanceState =
  | 'planned'
  | 'activating'
  | 'active'
  | 'degraded'
  | 'failed'
  | 'draining'
  | 'disposing'
  | 'stopped';

const NEXT: Readonly<Record<InstanceState, readonly InstanceState[]>> = {
  planned: ['activating', 'stopped'],
  activating: ['active', 'failed', 'stopped'],
  active: ['degraded', 'failed', 'draining'],
  degraded: ['active', 'failed', 'draining'],
  failed: ['activating', 'active', 'disposing', 'stopped'],
  draining: ['disposing'],
  disposing: ['stopped'],
  stopped: [],
};

/** How long a factory may take, its plugin's import included, unless its manifest says otherwise. */
export const ACTIVATE_MS = 10_000;
/** How long an instance may take to say how it is. */
const HEALTH_MS = 5_000;

/** What an instance needs of its host. */
export interface InstanceHost extends ActivationHost {
  readonly events: Emitter;
  readonly waits: WaitGraph;
  readonly retry: RetryPolicy;
  /** Called after an instance was lost: those that hold it should be told. */
  lost(instance: Instance, reason: string): void;
  /** Called after it, the very same, serves again. */
  regained(instance: Instance): void;
}

let activations = 0;

interface Activation {
  readonly promise: Promise<object>;
  readonly abort: AbortController;
  readonly waiter: Waiter;
}

export class Instance {
  /** What the plan says of it; of a kept one, what the latest plan says. */
  planned: PlannedInstance;
  readonly #host: InstanceHost;
  #state: InstanceState = 'planned';
  #active: object | null = null;
  #made: Made | null = null;
  /** Ends what the active instance does by itself, through its context's signal. */
  #life: AbortController | null = null;
  #activation: Activation | null = null;
  /** What a failed activation made, or a lost instance, on its way out. */
  #leaving: Promise<void> | null = null;
  #stopping: Promise<void> | null = null;
  /** Why nobody is given it, where a plugin behind it was given up, and the instance, where there was one by then. */
  #givenUp: { readonly error: Error; readonly active: object | null } | null = null;
  /** Of the last activation that failed: its factory's answer, and then its way out. */
  #unfinished: Promise<void> | null = null;
  readonly #backoff: Backoff;

  /** What it holds and is gone, by key, and why. */
  readonly #lacking = new Map<string, string>();
  /** Why it is degraded. */
  reason: string | null = null;
  timings: Timings | null = null;
  activatedAtMs: number | null = null;
  /** Who demanded it first, and who that one: `ObjectStore#artifacts <- App`. */
  demandedBy: string | null = null;
  #given: ReadonlySet<string> = new Set();
  /** Its place in the order in which the process activated instances. */
  order = 0;

  constructor(planned: PlannedInstance, host: InstanceHost) {
    this.planned = planned;
    this.#host = host;
    this.#backoff = new Backoff(host.retry);
  }

  /** Its last one, where it has not been active since. */
  get failure(): Failure | null {
    if (this.#givenUp === null || this.#state !== 'failed') return this.#backoff.failure;
    return { attempts: this.#backoff.failure?.attempts ?? 1, error: this.#givenUp.error, retryAtMs: null };
  }

  /** Keys of instances that it was given, or is being given, required or not: they are disposed after it. */
  get given(): ReadonlySet<string> {
    return this.#activation?.waiter.given ?? this.#given;
  }

  /** Whether it held one of that key, which is gone: another of that key is nothing to it. */
  isWithout(key: string): boolean {
    return this.#lacking.has(key);
  }

  get state(): InstanceState {
    return this.#state;
  }

  /** Whether it is there to be drained and disposed. */
  get isUp(): boolean {
    return this.#state === 'active' || this.#state === 'degraded' || this.#state === 'activating';
  }

  /**
   * The instance where it is active, else a promise of it.
   * @param by who asks; by default whoever's activation the call comes out of
   */
  acquire(by: Waiter | null = this.#host.waits.current): object | Promise<object> {
    if (this.#active !== null) {
      if (by !== null) noteGiven(by, this.planned.key);
      return this.#active;
    }
    try {
      const { promise } = this.#join(by);
      if (by === null) return promise;
      return promise.then((active) => {
        noteGiven(by, this.planned.key);
        return active;
      });
    } catch (error) {
      return Promise.reject(error);
    }
  }

  #join(by: Waiter | null): Activation {
    if (this.#activation !== null) {
      this.#host.waits.wait(by, this.#activation.waiter);
      return this.#activation;
    }
    if (this.#state !== 'planned' && this.#state !== 'failed') throw closed(this.planned.key);
    if (this.#givenUp !== null) throw this.#givenUp.error;
    this.#backoff.refuseEarly(this.planned);
    const waiter = new Waiter(this.planned.key, by);
    this.demandedBy ??= chainOf(by);
    this.#host.waits.wait(by, waiter);
    const abort = new AbortController();
    // Nothing of the plugin runs before this returns.
    const activation = { abort, waiter, promise: this.#activate(abort, waiter) };
    this.#activation = activation;
    this.#moveTo('activating');
    return activation;
  }

  async #activate(abort: AbortController, waiter: Waiter): Promise<object> {
    const { waits } = this.#host;
    const timeoutMs = this.planned.adapter.manifest.timeouts?.activateMs ?? ACTIVATE_MS;
    const made = new Made();
    const making = waits.run(waiter, () => this.#make(made, abort, waiter));
    let settled = false;
    const settle = () => {
      settled = true;
    };
    making.then(settle, settle);
    try {
      const { active, health, timings } = await withTimeout(abortable(making, abort.signal), timeoutMs, () =>
        failure(
          'RC1302',
          `activation of ${shown(this.planned)} did not finish within ${timeoutMs} ms; demanded by ${chainOf(waiter.by)}. Its signal was aborted.`,
        ),
      );
      this.timings = timings;
      this.#made = made;
      this.#active = active;
      this.#life = abort;
      this.#backoff.succeeded();
      this.activatedAtMs = Date.now();
      this.order = ++activations;
      this.#given = waiter.given;
      this.#moveTo('active');
      this.#setHealth(made.redactor.clear(health));
      return active;
    } catch (error) {
      abort.abort(error);
      const release = () => {
        this.#leaving = this.#release(made);
        return this.#leaving;
      };
      this.#unfinished = making.then(release, release);
      // What was opened is let go before the next try; a factory that has not answered yet is not waited for.
      if (settled) await this.#unfinished;
      this.#backoff.failed(error);
      this.#moveTo('failed', { error });
      throw error;
    } finally {
      this.#activation = null;
      waits.settle(waiter);
    }
  }

  async #make(made: Made, abort: AbortController, by: Waiter) {
    await this.#leaving;
    const report: PluginContext['report'] = (health) => this.#reported(health, abort);
    return activate(this.planned, this.#host, made, { signal: abort.signal, by, report });
  }

  /**
   * Asks how it is, and moves it between active and degraded. What it reported stays where it cannot be asked, and what it
   * lacks unless it says that it is well all the same.
   */
  async checkHealth(): Promise<void> {
    const instance = this.#active === null ? null : this.#made?.instance;
    if (instance == null) return;
    const timeout = AbortSignal.timeout(HEALTH_MS);
    const { redactor } = this.#made as Made;
    let health: Health | undefined;
    try {
      const late = () => new Error(`it did not say within ${HEALTH_MS} ms how it is`);
      health = redactor.clear(await withTimeout(lifeOf(this.planned, instance, timeout), HEALTH_MS, late));
    } catch (error) {
      health = { status: 'degraded', reason: redactor.text(messageOf(error)) };
    }
    // It may have been lost, or stopped, meanwhile.
    if (this.#made?.instance !== instance || this.#active === null) return;
    const { health: asks } = instance as Lifecycle;
    const isHeard = health !== undefined || (typeof asks === 'function' && this.#lacking.size === 0);
    if (isHeard) this.#setHealth(health);
  }

  /** What was reported by the instance itself; by one that is no more, it is nothing. */
  #reported(report: Parameters<PluginContext['report']>[0], abort: AbortController): void {
    if (report?.status === 'lost' && typeof report.reason === 'string') {
      const error = failure('RC1308', `${shown(this.planned)} is gone: ${report.reason}`, report.error);
      if (this.#life === abort) this.#lose(error, report.reason);
      else abort.abort(error);
    } else if (!isHealth(report)) {
      // Not thrown: it may be called where nobody catches, and a plugin's slip is not to end the process.
      const message = `${shown(this.planned)} reported neither { status: 'ok' }, 'degraded' nor 'lost' with a reason`;
      this.#host.logger.error(showProblem({ code: 'RC1303', place: null, message }), { report });
    } else if (this.#life === abort) this.#setHealth(report);
  }

  #lose(error: unknown, reason: string): void {
    if (this.#active === null || this.#made === null) return;
    const made = this.#made;
    this.#life?.abort(error);
    this.#end();
    this.#leaving = this.#release(made);
    this.#backoff.lost(error);
    this.#moveTo('failed', { error });
    this.#host.lost(this, reason);
  }

  /** A plugin behind it, its adapter's or a middleware's, serves nobody any more; with `null`, it does again. */
  pluginFailed(error: Error | null): void {
    if (error !== null) {
      const active = this.#active;
      this.#givenUp = { error, active };
      if (active === null) return;
      this.#active = null;
      this.reason = null;
      this.#moveTo('failed', { error });
      this.#host.lost(this, messageOf(error));
      return;
    }
    const active = this.#givenUp?.active ?? null;
    this.#givenUp = null;
    if (active === null) return;
    this.#active = active;
    this.#moveTo('active');
    const [reason] = this.#lacking.values();
    if (reason !== undefined) this.#setHealth({ status: 'degraded', reason });
    this.#host.regained(this);
  }

  /** Marks it degraded, or well again where there is no `reason`. */
  #setHealth(health: Health | undefined): void {
    const reason = health?.status === 'degraded' ? (health.reason ?? 'it says so, and no more') : null;
    if (this.#state === 'active' && reason !== null) {
      this.reason = reason;
      this.#moveTo('degraded', { reason });
      this.#host.logger.warn(`${shown(this.planned)} is degraded: ${reason}`);
    } else if (this.#state === 'degraded' && reason === null) {
      this.reason = null;
      this.#moveTo('active');
    } else if (this.#state === 'degraded') this.reason = reason;
  }

  /** It holds an instance that is gone, for good unless it asks for it again. */
  lacks(key: string, reason: string): void {
    this.#lacking.set(key, reason);
    this.#setHealth({ status: 'degraded', reason });
  }

  /** It was given an instance by its key, perhaps one that it lacked. */
  regained(key: string): void {
    const reason = this.#lacking.get(key);
    if (reason === undefined) return;
    this.#lacking.delete(key);
    const [other] = this.#lacking.values();
    if (this.reason === reason)
      this.#setHealth(other === undefined ? undefined : { status: 'degraded', reason: other });
  }

  /**
   * Ends it: an activation under way is aborted; what is active is drained, then disposed. Rejects when that fails or
   * takes too long. Once, whoever asks: a stop may come while a new configuration is being given up.
   * @param limitMs the most that each step may take, however much its manifest grants
   */
  stop(limitMs: () => number, reason = () => closed(this.planned.key) as Error): Promise<void> {
    this.#stopping ??= this.#stop(limitMs, reason);
    return this.#stopping;
  }

  async #stop(limitMs: () => number, reason: () => Error): Promise<void> {
    const boundMs = () => Math.min(limitMs(), this.planned.adapter.manifest.timeouts?.disposeMs ?? DISPOSE_MS);
    let leaving = this.#leaving;
    if (this.#activation !== null) {
      this.#activation.abort.abort(reason());
      await this.#activation.promise.catch(() => {});
      leaving = this.#unfinished;
    }
    const made = this.#made;
    const active = this.#active ?? this.#givenUp?.active ?? null;
    if (active === null || made === null) {
      if (this.#state === 'planned' || this.#state === 'failed') this.#moveTo('stopped');
      if (leaving !== null) await boundDispose(leaving, `ending the activation of ${shown(this.planned)}`, boundMs());
      return;
    }
    const life = this.#life;
    const { instance } = made;
    const serves = this.#active !== null;
    this.#end();
    let drained: unknown;
    if (serves) {
      this.#moveTo('draining');
      try {
        if (instance !== null) await this.#drain(instance, boundMs());
      } catch (error) {
        drained = made.redactor.clear(error);
      }
    }
    life?.abort(reason());
    this.#moveTo('disposing');
    try {
      await boundDispose(made.dispose(), `disposing ${shown(this.planned)}`, boundMs());
    } catch (error) {
      if (drained === undefined) throw error;
      throw new AggregateError([drained, error], `${messageOf(drained)}; ${messageOf(error)}`);
    } finally {
      this.#moveTo('stopped');
    }
    if (drained !== undefined) throw drained;
  }

  async #drain(instance: object, boundMs: number): Promise<void> {
    const { drain } = instance as Lifecycle;
    if (typeof drain !== 'function') return;
    const abort = new AbortController();
    const late = () => failure('RC1305', `draining ${shown(this.planned)} did not finish within ${boundMs} ms`);
    try {
      await withTimeout((async () => drain.call(instance, abort.signal))(), boundMs, late);
    } finally {
      abort.abort();
    }
  }

  /** From now on nobody is given it. */
  #end(): void {
    this.#active = null;
    this.#givenUp = null;
    this.#made = null;
    this.#life = null;
    this.reason = null;
    this.#lacking.clear();
  }

  /** Disposes what nobody was given, or has any more; a failure of that is for the log. */
  async #release(made: Made): Promise<void> {
    try {
      const boundMs = this.planned.adapter.manifest.timeouts?.disposeMs;
      await boundDispose(made.dispose(), `letting go of ${shown(this.planned)}`, boundMs);
    } catch (cause) {
      this.#host.logger.error(`could not let go of ${shown(this.planned)}: ${messageOf(cause)}`, { cause });
    }
  }

  /** The only place the state changes. */
  #moveTo(to: InstanceState, why: { error?: unknown; reason?: string } = {}): void {
    const from = this.#state;
    const { key, adapter } = this.planned;
    if (!NEXT[from].includes(to)) throw new FatalError('Internal', `instance ${key} cannot go from ${from} to ${to}`);
    this.#state = to;
    const { manifest, plugin } = adapter;
    this.#host.events.emit('instance', {
      instance: key,
      adapter: manifest.id,
      plugin: plugin.manifest.id,
      from,
      to,
      ...why,
    });
  }
}

/** Whoever is under way and led to a demand holds what it gets. */
function noteGiven(by: Waiter, key: string): void {
  for (let it: Waiter | null = by; it !== null; it = it.by) {
    if (!it.settled && it.label !== key) it.given.add(key);
  }
}
