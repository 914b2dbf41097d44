/** What a connection keeps besides objects: signals that are followed across it, and errors that may come home. */

/** Errors kept, newest first, so that one that comes home is itself. */
const ERRORS_KEPT_MAX = 1024;

/** Signals that a call follows, until it is answered and the iterables that it answered are read. */
export interface Scope {
  readonly signals: AbortSignal[];
  /** What was called. */
  readonly to: number;
  holds: number;
}

export function scopeOf(to: number): Scope {
  return { signals: [], to, holds: 1 };
}

/** What the far side is told of a signal of this side. */
export interface SignalNews {
  aborted(id: number, reason: unknown): void;
  /** No call needs it any more. */
  forgotten(id: number): void;
}

/** Signals of this side that the far side follows, and those of the far side that are followed here. */
export class Signals {
  readonly #news: SignalNews;
  readonly #nextId: () => number;
  readonly #told = new Map<AbortSignal, { id: number; count: number; stop(): void }>();
  readonly #followed = new Map<number, AbortController>();
  /** Calls that are answered, and whose iterables are still to be read. */
  readonly #held = new Set<Scope>();

  constructor(nextId: () => number, news: SignalNews) {
    this.#nextId = nextId;
    this.#news = news;
  }

  /** Tells of a signal of this side for as long as the scope lasts; its number. */
  tell(signal: AbortSignal, scope: Scope | null): number {
    let told = this.#told.get(signal);
    if (told === undefined) {
      const id = this.#nextId();
      const onAbort = () => this.#news.aborted(id, signal.reason);
      signal.addEventListener('abort', onAbort, { once: true });
      told = { id, count: 0, stop: () => signal.removeEventListener('abort', onAbort) };
      this.#told.set(signal, told);
    }
    told.count += 1;
    scope?.signals.push(signal);
    return told.id;
  }

  /** A signal of the far side. */
  follow(id: number): AbortSignal {
    const controller = this.#followed.get(id) ?? new AbortController();
    this.#followed.set(id, controller);
    return controller.signal;
  }

  abort(id: number, reason: unknown): void {
    this.#followed.get(id)?.abort(reason);
  }

  /** The far side has nothing more to tell of it. */
  drop(id: number): void {
    this.#followed.delete(id);
  }

  /** One more thing for which the scope lasts. */
  hold(scope: Scope): void {
    scope.holds += 1;
    this.#held.add(scope);
  }

  release(scope: Scope): void {
    scope.holds -= 1;
    if (scope.holds > 0) return;
    this.#held.delete(scope);
    for (const signal of scope.signals.splice(0)) {
      const told = this.#told.get(signal);
      if (told === undefined) continue;
      told.count -= 1;
      if (told.count > 0) continue;
      told.stop();
      this.#told.delete(signal);
      this.#news.forgotten(told.id);
    }
  }

  /** Ends what was held for calls of one object. */
  releaseOf(to: number): void {
    for (const scope of [...this.#held].filter((held) => held.to === to)) {
      scope.holds = 1;
      this.release(scope);
    }
  }

  /** The far side is gone: its signals are aborted, those of this side tell nobody. */
  end(reason: Error): void {
    for (const { stop } of this.#told.values()) stop();
    this.#told.clear();
    this.#held.clear();
    for (const controller of this.#followed.values()) controller.abort(reason);
    this.#followed.clear();
  }
}

/** Which error has which number, on this side and on the far one. */
export class KnownErrors {
  readonly #nextId: () => number;
  readonly #errors = new Map<number, object>();
  readonly #ids = new WeakMap<object, number>();
  readonly #farIds = new WeakMap<object, number>();

  constructor(nextId: () => number) {
    this.#nextId = nextId;
  }

  idOf(error: object): number {
    const known = this.#ids.get(error);
    if (known !== undefined && this.#errors.has(known)) return known;
    const id = this.#nextId();
    this.#errors.set(id, error);
    this.#ids.set(error, id);
    if (this.#errors.size > ERRORS_KEPT_MAX) this.#errors.delete(this.#errors.keys().next().value as number);
    return id;
  }

  get(id: number): object | undefined {
    return this.#errors.get(id);
  }

  /** The number of an error that was made on the far side. */
  farIdOf(error: object): number | undefined {
    return this.#farIds.get(error);
  }

  cameFrom(error: object, id: number): void {
    this.#farIds.set(error, id);
  }
}
