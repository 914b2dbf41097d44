/**
 * One instance of a plugin in a process of its own: a stand-in on this side, opened in the process when it is first
 * called, and again when another process has taken the place of the one before.
 */
import { type Capability, capability } from '../../contracts/capability.js';
import { DISABLED_CALL_ADVICE, isDisabledCall } from '../../contracts/disabled-call.js';
import { FatalError, isCoreError } from '../../contracts/errors.js';
import { KNOWN_CAPABILITIES } from '../../contracts/known.js';
import type {
  AdapterManifest,
  GetAllOptions,
  Health,
  Logger,
  MiddlewareContext,
  PluginContext,
} from '../../contracts/plugin.js';
import { closed, failure, messageOf, withTimeout } from '../ending.js';
import { DOORLESS } from '../links.js';
import { withoutDot } from '../problems.js';
import type { Asked, OpenRequest } from './child.js';
import { CROSSINGS, checkAnswer, methodsOver } from './crossings.js';
import type { IsolatedPlugin } from './isolate.js';
import { ROOT } from './peer.js';
import type { PluginProcess } from './process.js';
import { Lend } from './references.js';
import type { Reference } from './values.js';

/** How long opening again may take where the manifest does not say: as long as an activation. */
const ACTIVATE_MS = 10_000;

/** The instance in one process. */
export interface Remote {
  readonly process: PluginProcess;
  readonly reference: Reference;
  /** Held: collected, the original would be given back. */
  readonly standIn: object;
}

/** What is opened: an instance of an adapter, or a middleware round one. */
export interface Part extends Pick<AdapterManifest, 'id' | 'provides' | 'requires' | 'timeouts'> {
  /** Of a middleware: the instance that it is put round. */
  readonly inner?: object;
}

export class IsolatedInstance {
  readonly #plugin: IsolatedPlugin;
  readonly #part: Part;
  readonly #context: PluginContext;
  readonly #key: string;
  readonly #who: string;
  #remote: Remote | null = null;
  #opening: Promise<Remote> | null = null;
  #disposed: Promise<void> | null = null;

  constructor(plugin: IsolatedPlugin, part: Part, context: PluginContext, key: string) {
    this.#plugin = plugin;
    this.#part = part;
    this.#context = context;
    this.#key = key;
    const kind = part.inner === undefined ? 'adapter' : 'middleware';
    this.#who = `${part.provides.replace(/@\d+$/, '')}#${context.name} (${kind} ${part.id}, ${plugin.who})`;
  }

  /** Opens it for the first time; answers the stand-in. */
  async activate(): Promise<object> {
    this.#plugin.instances.set(this.#key, this);
    try {
      await this.#plugin.admit();
      const { reference } = this.#remote ?? (await this.#opened());
      return this.#standIn(reference);
    } catch (error) {
      this.#plugin.instances.delete(this.#key);
      throw error;
    }
  }

  /** Opens it in a process, beside the one where it may be open already. */
  async open(process: PluginProcess): Promise<Remote> {
    const { name, config, signal } = this.#context;
    const { id, provides, timeouts } = this.#part;
    const late = new AbortController();
    const signals = [signal, late.signal];
    const [has, wraps] = [this.#has(), this.#wraps()];
    const request: OpenRequest = { key: this.#key, id, name, config, provides, wraps, has, signals };
    const limitMs = timeouts?.activateMs ?? ACTIVATE_MS;
    const check = () => void this.#plugin.check(process, `activating ${this.#who}`);
    const onAbort = () => setTimeout(check, 0).unref();
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      const opening = process.peer.call(ROOT, 'open', [request]);
      const standIn = (await withTimeout(opening, limitMs, () => {
        check();
        const error = failure('RC1302', `activation of ${this.#who} did not finish within ${limitMs} ms`);
        late.abort(error);
        return error;
      })) as object;
      const reference = process.peer.reference(standIn);
      if (reference === undefined) throw new FatalError('Internal', `${this.#who} was not opened`);
      return { process, reference, standIn };
    } catch (error) {
      if (isDenied(error)) throw this.#denied(error, 'the factory');
      if (isCoreError(error) || signal.aborted) throw error;
      throw failure('RC1303', `activation of ${this.#who} failed: ${messageOf(error)}`, error);
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  #wraps(): OpenRequest['wraps'] {
    const { inner, provides } = this.#part;
    if (inner === undefined) return null;
    const [name = '', major] = provides.split('@');
    return {
      inner: lent({ name, major: Number(major) }, inner),
      adapter: (this.#context as MiddlewareContext).adapter,
    };
  }

  /** Takes another process's instance in place of the one before. */
  moveTo(remote: Remote): void {
    if (this.#disposed !== null) {
      // While it was being opened there.
      this.disposeIn(remote.process).catch((error) => this.logger.warn(messageOf(error), { error }));
      return;
    }
    this.#remote = remote;
    this.#context.report({ status: 'ok' });
  }

  onCrash(reason: string): void {
    this.#remote = null;
    if (this.#disposed === null) this.#context.report({ status: 'degraded', reason });
  }

  get config(): Readonly<Record<string, unknown>> {
    return this.#context.config as Record<string, unknown>;
  }

  get logger(): Logger {
    return this.#context.logger;
  }

  get(asked: Asked): Promise<Lend> {
    return this.#context.get(tokenOf(asked), asked.instance).then((instance) => lent(asked, instance));
  }

  async getAll(asked: Asked, options: GetAllOptions) {
    const all = await this.#context.getAll(tokenOf(asked), options);
    const { names, failed, absent } = all;
    return { active: all.map((instance) => lent(asked, instance)), names, failed: [...failed], absent };
  }

  report(health: Parameters<PluginContext['report']>[0]): void {
    this.#context.report(health);
  }

  #standIn(reference: Reference): object {
    const { provides } = this.#part;
    const methods = methodsOver(provides, reference, (method, args) => this.#call(method, args));
    const dispose = () => this.#dispose();
    return {
      ...methods,
      health: (signal: AbortSignal) => this.#health(signal),
      ...(reference.methods.includes('close') && { close: dispose }),
      [Symbol.asyncDispose]: dispose,
    };
  }

  #call(method: string, args: readonly unknown[]): Promise<unknown> {
    const remote = this.#serving();
    return remote !== null && this.#disposed === null
      ? this.#callIn(remote, method, args)
      : this.#opened().then((opened) => this.#callIn(opened, method, args));
  }

  /** Where it is open, if that process is the plugin's. */
  #serving(): Remote | null {
    return this.#remote !== null && this.#plugin.serves(this.#remote.process) ? this.#remote : null;
  }

  async #callIn({ process, reference }: Remote, method: string, args: readonly unknown[]): Promise<unknown> {
    let answer: unknown;
    try {
      answer = await process.peer.call(reference.id, method, args);
    } catch (error) {
      throw this.#told(error, process, method, args);
    }
    const asked = CROSSINGS[this.#part.provides]?.answers[method];
    return checkAnswer(asked, answer, `${this.#who}: ${method.replace('@@', '')}()`, (error) =>
      this.#told(error, process, method, args),
    );
  }

  /** Of the contract's family, or the caller's own come home, as it is; anything else is a defect of the plugin. */
  #told(error: unknown, process: PluginProcess, method: string, args: readonly unknown[]): unknown {
    if (isCoreError(error)) return error;
    if (!process.peer.isFar(error) && (error instanceof Error || isReason(error, args))) return error;
    if (isDenied(error)) return this.#denied(error, `${method}()`);
    return new FatalError(
      'PluginContract',
      `${this.#who}: ${method}() failed with what is no error of the contract: ${messageOf(error)}`,
      { code: 'PLUGIN_ERROR', context: { adapter: this.#part.id, method }, cause: error },
    );
  }

  #denied(error: Denied, doing: string): FatalError {
    if (isDisabledCall(error)) {
      // Node says which: "fsync API is disabled when Permission Model is enabled."
      const message = `${this.#who}: ${doing} failed, as ${withoutDot(messageOf(error))}. ${DISABLED_CALL_ADVICE}`;
      return new FatalError('PluginContract', message, {
        ...{ code: 'PERMISSION_DENIED', context: { adapter: this.#part.id }, cause: error },
      });
    }
    const { permission = 'something', resource = '' } = error;
    const what = `${permission}${resource === '' ? '' : ` of ${resource}`}`;
    return new FatalError(
      'PluginContract',
      `${this.#who}: ${doing} was denied ${what}; what the plugin may do, its manifest says in "permissions"`,
      { code: 'PERMISSION_DENIED', context: { adapter: this.#part.id, permission, resource }, cause: error },
    );
  }

  #opened(): Promise<Remote> {
    if (this.#disposed !== null) return Promise.reject(closed(this.#who));
    this.#opening ??= this.#openCurrent().finally(() => {
      this.#opening = null;
    });
    return this.#opening;
  }

  async #openCurrent(): Promise<Remote> {
    const process = await this.#plugin.running();
    const remote = await this.open(process);
    // Another process has taken that one's place meanwhile, and may have been given this instance, too.
    if (!this.#plugin.serves(process)) return this.#serving() ?? this.#openCurrent();
    const isAgain = this.#remote === null;
    this.#remote = remote;
    if (isAgain) this.#context.report({ status: 'ok' });
    return remote;
  }

  async #health(signal: AbortSignal): Promise<Health | undefined> {
    if (this.#plugin.failure !== null) throw this.#plugin.failure;
    const remote = this.#serving();
    if (remote === null) {
      return { status: 'degraded', reason: `its process ${this.#plugin.lastEnd}; the next call starts it again` };
    }
    if (remote.reference.methods.includes('health')) {
      return (await this.#callIn(remote, 'health', [signal])) as Health | undefined;
    }
    await remote.process.peer.call(ROOT, 'ping', [signal]);
    return undefined;
  }

  #dispose(): Promise<void> {
    this.#disposed ??= (async () => {
      const remote = this.#remote ?? (await this.#opening?.catch(() => null)) ?? null;
      try {
        if (remote !== null) await this.disposeIn(remote.process);
      } finally {
        remote?.process.peer.forget(remote.reference.id);
        this.#remote = null;
        this.#plugin.instances.delete(this.#key);
      }
    })();
    return this.#disposed;
  }

  /** Disposes what of it is in a process; nothing where there is none. */
  async disposeIn(process: PluginProcess): Promise<void> {
    if (process.peer.isClosed) return;
    try {
      await process.peer.call(ROOT, 'dispose', [this.#key]);
    } catch (error) {
      // With its process, everything of it is gone.
      if (!process.peer.isClosed) throw error;
    }
  }

  /** What `ctx.has` answers in the process, where it has to answer at once. */
  #has(): Record<string, boolean> {
    const known: Record<string, boolean> = {};
    for (const text of this.#part.requires ?? []) {
      if (text.endsWith('*')) continue;
      const [, name = '', major = '1', , instance] = /^([^@?#]+)(?:@(\d+))?(\?|#(.+))?$/.exec(text) ?? [];
      const asked = { name, major: Number(major) };
      known[instance === undefined ? name : `${name}#${instance}`] = this.#context.has(tokenOf(asked), instance);
    }
    return known;
  }
}

interface Denied extends Error {
  readonly permission?: string;
  readonly resource?: string;
}

/** Whether Node's permission model refused something. */
function isDenied(error: unknown): error is Denied {
  const { code } = (error ?? {}) as NodeJS.ErrnoException;
  return !isCoreError(error) && (code === 'ERR_ACCESS_DENIED' || code === 'ERR_DLOPEN_DISABLED');
}

/** Whether it is what an argument's signal was aborted with, where that is no error. */
function isReason(error: unknown, args: readonly unknown[]): boolean {
  const signals = args.flatMap((arg) => (typeof arg === 'object' && arg !== null ? Object.values(arg) : []));
  return signals.some((signal) => signal instanceof AbortSignal && signal.aborted && signal.reason === error);
}

/** The token that was asked for; its own door stands in the process, where the host does not know the capability. */
function tokenOf({ name, major }: Asked): Capability<object> {
  const token = capability<object>(name, { major });
  return KNOWN_CAPABILITIES.find((known) => known.id === token.id) ?? { ...token, door: DOORLESS };
}

function lent({ name, major }: Asked, instance: object): Lend {
  const { answers = {}, properties = [], extras, ahead } = CROSSINGS[`${name}@${major}`] ?? {};
  return new Lend(instance, [...Object.keys(answers), ...properties], extras, ahead);
}
