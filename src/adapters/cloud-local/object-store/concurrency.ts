/** How much happens at once: a bound on the work under way, and an order for work on the same object. */

/** Runs up to a number of tasks at once; the others wait in order. */
export class Slots {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(count: number) {
    this.#free = count;
  }

  /** Takes a slot if there is one; it is to be given back. */
  take(): boolean {
    if (this.#free === 0) return false;
    this.#free -= 1;
    return true;
  }

  /** Handed on, not given back, where somebody waits, so that nobody slips in before. */
  give(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free += 1;
    else next();
  }

  /** `work` must not wait for another task of the same slots. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    if (!this.take()) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await work();
    } finally {
      this.give();
    }
  }
}

/** Runs tasks of the same key one after the other, in the order they came. */
export class Lanes<Key> {
  readonly #tails = new Map<Key, Promise<unknown>>();

  isBusy(key: Key): boolean {
    return this.#tails.has(key);
  }

  async run<T>(key: Key, work: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(key);
    const mine = before === undefined ? work() : before.then(work);
    const tail = mine.then(ignore, ignore);
    this.#tails.set(key, tail);
    try {
      return await mine;
    } finally {
      if (this.#tails.get(key) === tail) this.#tails.delete(key);
    }
  }
}

/**
 * Tasks of the same key, shared: while one is under way all who ask wait for one more, which starts after it, because
 * the one under way may have begun before what they did.
 */
export class Shared<Key> {
  readonly #turns = new Map<Key, { now: Promise<void>; next?: Promise<void> }>();
  readonly #work: (key: Key) => Promise<void>;

  constructor(work: (key: Key) => Promise<void>) {
    this.#work = work;
  }

  run(key: Key): Promise<void> {
    const turn = this.#turns.get(key);
    if (turn === undefined) return this.#start(key);
    turn.next ??= turn.now.then(ignore, ignore).then(() => this.#start(key));
    return turn.next;
  }

  #start(key: Key): Promise<void> {
    const turn: { now: Promise<void>; next?: Promise<void> } = { now: this.#work(key) };
    this.#turns.set(key, turn);
    const end = () => {
      if (turn.next === undefined) this.#turns.delete(key);
    };
    turn.now.then(end, end);
    return turn.now;
  }
}

/** Waits for all, whatever becomes of them, then fails as the first that failed did. */
export async function allSettled(promises: readonly (Promise<void> | void)[]): Promise<void> {
  for (const result of await Promise.allSettled(promises)) {
    if (result.status === 'rejected') throw result.reason;
  }
}

function ignore(): void {}
