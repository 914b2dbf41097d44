/**
 * One end of the connection between the host and a plugin's process. Both ends are alike: each lends objects to the
 * other, and calls methods of what it was lent.
 *
 * An iterable or stream is lent like any object, and read by calls of its `next()`, each for as many items as its reader
 * has room for (sources.ts); `return()` ends it. What a call's AbortSignal does is told to the far side
 * until the call, and what came of it, is over. When the connection ends, calls under way are rejected with the reason,
 * signals of the far side are aborted, and what was given to it alone is disposed.
 */
import { FatalError, RecoverableError } from '../../contracts/errors.js';
import { onAbort } from '../../contracts/on-abort.js';
import { KnownErrors, type Scope, Signals, scopeOf } from './following.js';
import { borrow, describe, Lend, type Target } from './references.js';
import { decode, Encoder, MESSAGE_BYTES_MAX, type Places, type Reference } from './values.js';

/** Calls under way to the far side; past it a call is refused as `Throttled`. */
const CALLS_MAX = 10_000;
/** Bytes of calls that the channel has not taken yet; past it a call is refused as `Throttled`, unless it is the only one. */
const UNSENT_BYTES_MAX = MESSAGE_BYTES_MAX;
/** Pings without a word from the far side after which it is taken to hang. */
const SILENT_TICKS = 3;
/** Objects lent at a time. */
const LENT_MAX = 100_000;
/** How long a call may go on after its signal was aborted: past that it is rejected without an answer. */
const ABORT_ANSWER_MS = 2_000;

/** What carries messages, in order. */
export interface Port {
  /**
   * Throws when the message cannot be sent.
   * @param sent called once when it is written, or never will be
   */
  send(message: unknown, sent?: () => void): void;
}

export interface PeerOptions {
  /** Told when calls are under way, and when none is any more. */
  readonly onBusy?: (busy: boolean) => void;
  /** Told when the far side has not said a word for `answerMs` while a call was under way. */
  readonly onSilence?: () => void;
  readonly answerMs?: number;
  /** How long a call may go on after its signal was aborted. Default 2,000. */
  readonly abortAnswerMs?: number;
  /** See {@link Encoder}. */
  readonly messageBytesMax?: number;
}

/** `call` with id 0 wants no answer. `free` gives back a number of loans; `forget` a signal. */
type Message =
  | readonly ['call', id: number, to: number, method: string, args: readonly unknown[]]
  | readonly ['ok', id: number, value: unknown]
  | readonly ['no', id: number, error: unknown]
  | readonly ['abort', id: number, reason: unknown]
  | readonly ['forget', id: number]
  | readonly ['free', id: number, count: number]
  | readonly ['ping']
  | readonly ['pong'];

interface Pending {
  resolve(value: unknown): void;
  reject(error: unknown): void;
  readonly scope: Scope;
  /** Ends the watch over its signals. */
  stop(): void;
}

interface Loan {
  readonly target: Target;
  readonly value: object;
  /** How often it was sent and not yet given back. */
  count: number;
  /** It was made for the far side, and is disposed when that is gone. */
  given: boolean;
}

/** The far side's root object: what a connection starts with. */
export const ROOT = 0;

export class Peer {
  readonly #port: Port;
  readonly #options: PeerOptions;
  readonly #pending = new Map<number, Pending>();
  readonly #loans = new Map<number, Loan>();
  readonly #lentIds = new WeakMap<object, number>();
  readonly #borrowed = new Map<number, WeakRef<object>>();
  readonly #references = new WeakMap<object, Reference & { count: number }>();
  readonly #collected = new FinalizationRegistry<{ reference: { id: number; count: number }; onOver(): void }>(
    ({ reference: { id, count }, onOver }) => {
      if (this.#borrowed.get(id)?.deref() === undefined) this.#borrowed.delete(id);
      this.#tell(['free', id, count]);
      onOver();
    },
  );
  readonly #signals = new Signals(() => ++this.#nextId, {
    aborted: (id, reason) => this.#tell(['abort', id, this.#encodeError(reason, null)]),
    forgotten: (id) => this.#tell(['forget', id]),
  });
  readonly #errors = new KnownErrors(() => ++this.#nextId);
  /** Of the message that is being made or read, which is done in one go. */
  #scope: Scope | null = null;
  #given = false;
  readonly #places: Places = {
    lend: (value, kind) => this.#lend(value, kind, this.#given),
    farId: (value) => this.#references.get(value)?.id,
    own: (id) => this.#loans.get(id)?.value,
    borrow: (reference) => this.#borrow(reference, this.#scope),
    follow: (signal) => this.#signals.tell(signal, this.#scope),
    followed: (id) => this.#signals.follow(id),
    errorId: (error) => this.#errors.idOf(error),
    errorOf: (id) => this.#errors.get(id),
    farErrorId: (error) => this.#errors.farIdOf(error),
    cameFrom: (error, id) => this.#errors.cameFrom(error, id),
  };
  #nextId = 0;
  #closed: Error | null = null;
  #watch: NodeJS.Timeout | undefined;
  #silentTicks = 0;
  #unsentBytes = 0;
  /** Iterables and streams of the far side that are neither at their end nor given up. */
  #unread = 0;
  /** Of the value that was encoded last. */
  #encodedBytes = 0;
  #idle: (() => void)[] = [];

  /** @param root what the far side may call from the start, at {@link ROOT} */
  constructor(port: Port, root: object, options: PeerOptions = {}) {
    this.#port = port;
    this.#options = options;
    this.#loans.set(ROOT, { target: describe(root, 'object'), value: root, count: 1, given: false });
  }

  get isClosed(): boolean {
    return this.#closed !== null;
  }

  /** Objects of this side that the far side has, the root among them. */
  get lent(): number {
    return this.#loans.size;
  }

  /** Calls under way to the far side. */
  get pending(): number {
    return this.#pending.size;
  }

  /**
   * Calls a method of the far side. When a signal among the arguments aborts and no answer comes soon after, the call is
   * rejected with the signal's reason.
   * @throws whatever the far side throws, RecoverableError Throttled when too many calls are under way, and what
   * {@link Peer.close} was given
   */
  call(to: number, method: string, args: readonly unknown[]): Promise<unknown> {
    if (this.#closed !== null) return Promise.reject(this.#closed);
    if (this.#pending.size >= CALLS_MAX || this.#unsentBytes > UNSENT_BYTES_MAX) return Promise.reject(busy());
    const scope = scopeOf(to);
    const id = ++this.#nextId;
    try {
      const encoded = this.#encode(args, scope) as unknown[];
      const bytes = this.#encodedBytes;
      this.#port.send(['call', id, to, method, encoded] satisfies Message, () => {
        this.#unsentBytes -= bytes;
      });
      this.#unsentBytes += bytes;
    } catch (error) {
      this.#signals.release(scope);
      return Promise.reject(error);
    }
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject, scope, stop: this.#boundAbort(id, scope.signals) });
      if (this.#pending.size === 1) this.#setBusy(true);
    });
  }

  /** Calls without waiting for an answer; nothing is thrown. */
  notify(to: number, method: string, args: readonly unknown[]): void {
    const scope = scopeOf(to);
    try {
      this.#tell(['call', 0, to, method, this.#encode(args, scope) as unknown[]]);
    } catch {
      // Of what cannot be sent there is nothing to tell: a note has no caller who waits.
    } finally {
      this.#signals.release(scope);
    }
  }

  /** Resolves when no call to the far side is under way, and nothing that one answered is still to be read. */
  whenIdle(): Promise<void> {
    return new Promise((resolve) => {
      this.#idle.push(resolve);
      this.#tellIdle();
    });
  }

  /** What the far side said of something that it lent; nothing for what is not its own. */
  reference(standIn: object): Reference | undefined {
    return this.#references.get(standIn);
  }

  /** Follows no signal any more for what calls of an object answered: it is disposed, and nothing comes of it. */
  forget(to: number): void {
    this.#signals.releaseOf(to);
  }

  /** Whether an error was made on the far side, and is not one of this side's that came home. */
  isFar(error: unknown): boolean {
    return typeof error === 'object' && error !== null && this.#errors.farIdOf(error) !== undefined;
  }

  /**
   * Takes what the port received; what is no message of a peer, as code on the far side may send over the same channel,
   * is passed over.
   * @throws when it is one that cannot be read
   */
  receive(received: unknown): void {
    this.#silentTicks = 0;
    if (!Array.isArray(received)) return;
    const message = received as unknown as Message;
    switch (message[0]) {
      case 'call':
        void this.#serve(message[1], message[2], message[3], message[4]);
        return;
      case 'ok':
      case 'no':
        this.#settle(message[1], message[0] === 'ok', message[2]);
        return;
      case 'abort':
        this.#signals.abort(message[1], this.#decode(message[2], null));
        return;
      case 'forget':
        this.#signals.drop(message[1]);
        return;
      case 'free':
        this.#giveBack(message[1], message[2]);
        return;
      case 'ping':
        this.#tell(['pong']);
    }
  }

  /** Ends the connection: everything under way is rejected with `reason`. Again: nothing happens. */
  close(reason: Error): void {
    if (this.#closed !== null) return;
    this.#closed = reason;
    clearInterval(this.#watch);
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const { reject, stop } of pending) {
      stop();
      reject(reason);
    }
    if (pending.length > 0) this.#setBusy(false);
    this.#signals.end(reason);
    for (const { target, given } of this.#loans.values()) {
      if (given || target.kind === 'iterable' || target.kind === 'stream') void target.end?.();
    }
    this.#loans.clear();
  }

  async #serve(id: number, to: number, method: string, args: readonly unknown[]): Promise<void> {
    let answer: Message;
    const scope = scopeOf(to);
    try {
      const loan = this.#loans.get(to);
      // Whoever gives up reading may do so while the end is on its way there.
      const isOver = loan === undefined && method === 'return';
      if (loan === undefined && !isOver)
        throw new FatalError('Internal', `${method}() of an object that was given back`);
      const given = this.#decode(args, null) as unknown[];
      // What the root answers is the giver's own; what a method of a contract made is the far side's alone.
      const encode = (value: unknown) => this.#encode(value, scope, to !== ROOT);
      if (method === 'next' && loan?.target.take !== undefined) {
        const each = (item: unknown) => ({ encoded: encode(item), bytes: this.#encodedBytes });
        answer = ['ok', id, await loan.target.take(given, each)];
      } else answer = ['ok', id, encode(await loan?.target.invoke(method, given))];
    } catch (error) {
      answer = ['no', id, this.#encodeError(error, scope)];
    }
    if (this.#loans.get(to)?.target.isOver?.()) this.#loans.delete(to);
    if (id === 0) return;
    // The far side may be gone meanwhile: then nobody waits for the answer.
    this.#tell(answer);
  }

  #settle(id: number, isOk: boolean, value: unknown): void {
    const pending = this.#take(id);
    // Given up after an abort: what the answer lends is given back when its stand-in is collected.
    const decoded = this.#decode(value, pending?.scope ?? null);
    if (pending === undefined) return;
    if (isOk) pending.resolve(decoded);
    else pending.reject(decoded);
    this.#signals.release(pending.scope);
  }

  /** A call that is over, one way or another. */
  #take(id: number): Pending | undefined {
    const pending = this.#pending.get(id);
    if (pending === undefined) return undefined;
    this.#pending.delete(id);
    pending.stop();
    if (this.#pending.size === 0) this.#setBusy(false);
    return pending;
  }

  /** A far side that does not answer after an abort cannot keep the caller. Returns what ends the watch. */
  #boundAbort(id: number, signals: readonly AbortSignal[]): () => void {
    if (signals.length === 0) return () => {};
    let timer: NodeJS.Timeout | undefined;
    const bound = (signal: AbortSignal) => {
      timer ??= setTimeout(() => {
        const pending = this.#take(id);
        if (pending === undefined) return;
        pending.reject(signal.reason);
        this.#signals.release(pending.scope);
      }, this.#options.abortAnswerMs ?? ABORT_ANSWER_MS);
    };
    const leaving = signals.map((signal) => onAbort(signal, () => bound(signal)));
    return () => {
      clearTimeout(timer);
      for (const leave of leaving) leave();
    };
  }

  #tellIdle(): void {
    if (this.#pending.size > 0 || this.#unread > 0) return;
    for (const resolve of this.#idle.splice(0)) resolve();
  }

  #setBusy(isBusy: boolean): void {
    this.#options.onBusy?.(isBusy);
    clearInterval(this.#watch);
    this.#silentTicks = 0;
    if (!isBusy) {
      this.#tellIdle();
      return;
    }
    const { answerMs, onSilence } = this.#options;
    if (answerMs === undefined || onSilence === undefined) return;
    // Counted in ticks, not by the clock: a host that was itself asleep or busy has not listened.
    this.#watch = setInterval(() => {
      this.#silentTicks += 1;
      if (this.#silentTicks > SILENT_TICKS) onSilence();
      else this.#tell(['ping']);
    }, answerMs / SILENT_TICKS);
    this.#watch.unref();
  }

  /** Sends what nobody waits for. */
  #tell(message: Message): void {
    if (this.#closed !== null) return;
    try {
      this.#port.send(message);
    } catch {
      // The port is closing: whoever owns it closes this end, too, and that is where it is told.
    }
  }

  #encode(value: unknown, scope: Scope | null, given = false): unknown {
    const encoder = new Encoder(this.#places, this.#options.messageBytesMax);
    const encoded = this.#within(scope, given, () => encoder.encode(value));
    this.#encodedBytes = encoder.bytes;
    return encoded;
  }

  #encodeError(error: unknown, scope: Scope | null): unknown {
    return this.#within(scope, false, () => new Encoder(this.#places).error(error));
  }

  #decode(value: unknown, scope: Scope | null): unknown {
    return this.#within(scope, false, () => decode(value, this.#places));
  }

  /** Reading a value may run a getter, and that may make a call: then there is another message in between. */
  #within<T>(scope: Scope | null, given: boolean, work: () => T): T {
    const before = [this.#scope, this.#given] as const;
    this.#scope = scope;
    this.#given = given;
    try {
      return work();
    } finally {
      [this.#scope, this.#given] = before;
    }
  }

  #lend(value: object, kind: Reference['kind'], given: boolean): Reference {
    const lend = value instanceof Lend ? value : null;
    const object = lend?.value ?? value;
    let id = this.#lentIds.get(object);
    let loan = id === undefined ? undefined : this.#loans.get(id);
    if (id === undefined || loan === undefined) {
      if (this.#loans.size >= LENT_MAX) throw busy();
      id = ++this.#nextId;
      loan = { target: describe(object, kind, lend ?? undefined), value: object, count: 0, given };
      this.#loans.set(id, loan);
      this.#lentIds.set(object, id);
    }
    loan.count += 1;
    loan.given &&= given;
    return { $: 'object', id, kind, methods: loan.target.methods, data: loan.target.data };
  }

  #giveBack(id: number, count: number): void {
    const loan = this.#loans.get(id);
    if (loan === undefined || id === ROOT) return;
    loan.count -= count;
    if (loan.count > 0) return;
    this.#loans.delete(id);
    if (loan.target.kind === 'iterable' || loan.target.kind === 'stream') void loan.target.end?.();
  }

  #borrow(reference: Reference, scope: Scope | null): unknown {
    const known = this.#borrowed.get(reference.id)?.deref();
    const before = known && this.#references.get(known);
    if (before !== undefined) {
      before.count += 1;
      return known;
    }
    let held = scope !== null && scope.signals.length > 0 ? scope : null;
    if (held !== null) this.#signals.hold(held);
    let isUnread = reference.kind === 'iterable' || reference.kind === 'stream';
    if (isUnread) this.#unread += 1;
    const onOver = () => {
      if (held !== null) this.#signals.release(held);
      held = null;
      if (isUnread) this.#unread -= 1;
      isUnread = false;
      this.#tellIdle();
    };
    const standIn = borrow(reference, (method, args) => this.call(reference.id, method, args), onOver);
    const counted = { ...reference, count: 1 };
    this.#references.set(standIn, counted);
    this.#borrowed.set(reference.id, new WeakRef(standIn));
    this.#collected.register(standIn, { reference: counted, onOver });
    return standIn;
  }
}

function busy(): RecoverableError {
  return new RecoverableError(
    'Throttled',
    'too many calls to a plugin’s process are under way, or too many bytes on their way there',
    {
      code: 'PLUGIN_BUSY',
      context: { callsMax: CALLS_MAX, lentMax: LENT_MAX, unsentBytesMax: UNSENT_BYTES_MAX },
    },
  );
}
