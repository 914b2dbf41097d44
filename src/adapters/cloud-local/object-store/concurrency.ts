/** How much happens at once: a bound on the work under way, and an order for work on the same object. */
import { setImmediate } from 'node:timers/promises';

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

/** Turns of the event loop that a round waits for others at most, while more join with each. */
const GATHER_TURNS_MAX = 8;

interface Task {
  readonly done: Promise<void>;
  readonly settle: (result: PromiseSettledResult<void>) => void;
}

/**
 * One kind of work on many things, in rounds: what is asked for while a round is under way makes up the next one, and
 * all of a round are answered at its end. Asked for twice in between it is done once, and begins after both asked.
 *
 * For syncs of folders. A journalling file system commits whatever was changed so far, so syncs that are under way together
 * share a commit; one whose folder was changed since it began needs another. In rounds, 64 puts change what they have
 * to and then wait together, which takes half the commits of each on its own.
 */
export class Rounds<Key> {
  readonly #work: (key: Key) => Promise<void>;
  #next = new Map<Key, Task>();
  #isBusy = false;

  constructor(work: (key: Key) => Promise<void>) {
    this.#work = work;
  }

  run(key: Key): Promise<void> {
    let task = this.#next.get(key);
    if (task === undefined) {
      task = newTask();
      this.#next.set(key, task);
      if (!this.#isBusy) void this.#turn();
    }
    return task.done;
  }

  async #turn(): Promise<void> {
    this.#isBusy = true;
    while (this.#next.size > 0) {
      for (let turns = 0, size = 0; turns < GATHER_TURNS_MAX && this.#next.size > size; turns++) {
        size = this.#next.size;
        await setImmediate();
      }
      const tasks = this.#next;
      this.#next = new Map();
      const results = await Promise.allSettled(Array.from(tasks.keys(), (key) => this.#work(key)));
      for (const task of tasks.values()) task.settle(results.shift() as PromiseSettledResult<void>);
    }
    this.#isBusy = false;
  }
}

function newTask(): Task {
  let settle: Task['settle'] = ignore;
  const done = new Promise<void>((resolve, reject) => {
    settle = (result) => (result.status === 'fulfilled' ? resolve() : reject(result.reason));
  });
  return { done, settle };
}

/** Waits for all, whatever becomes of them, then fails as the first that failed did. */
export async function allSettled(promises: readonly (Promise<void> | void)[]): Promise<void> {
  for (const result of await Promise.allSettled(promises)) {
    if (result.status === 'rejected') throw result.reason;
  }
}

function ignore(): void {}
