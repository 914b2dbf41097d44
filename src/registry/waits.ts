/**
 * Who waits for whom while instances are being activated, so that a circle is refused instead of standing still.
 *
 * The plan refuses circles that manifests show. What they do not show, e.g. a factory that asks the host itself, or a
 * class that the container constructs, is found here: whoever waits is kept with AsyncLocalStorage, so that a demand
 * knows out of which activation it comes.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { FatalError } from '../contracts/errors.js';
import { showProblem } from './problems.js';

/** Somebody who may wait, and be waited for: an activation, the loading of a plugin, a class under construction. */
export class Waiter {
  /** Those it waits for, itself still under way. */
  readonly waitsFor = new Set<Waiter>();
  /** Keys of instances given to it: what it holds is disposed after it. */
  readonly given = new Set<string>();
  settled = false;

  constructor(
    /** As shown in a path: `Queue#default`, `plugin acme.vault`, `App`. */
    readonly label: string,
    /** Who demanded it; `null` for the application. */
    readonly by: Waiter | null,
  ) {}

  /** `ObjectStore#artifacts <- App`: this one, who demanded it, and so on. */
  get chain(): string {
    const labels: string[] = [];
    for (let it: Waiter | null = this; it !== null && labels.length < CHAIN_MAX; it = it.by) labels.push(it.label);
    return labels.join(' <- ');
  }
}

/** Links of a chain that are shown; a real one has a handful. */
const CHAIN_MAX = 32;

/** Who demanded something, where that is not known to be an instance or a class. */
const APPLICATION = 'the application';

export class WaitGraph {
  readonly #store = new AsyncLocalStorage<Waiter>();
  #open = 0;

  /** Whether anybody is under way: as long as nobody is, nothing has to be looked up. */
  get busy(): boolean {
    return this.#open > 0;
  }

  /** Out of whom the current call comes; perhaps settled meanwhile, when it started something that outlived it. */
  get current(): Waiter | null {
    return this.#open === 0 ? null : (this.#store.getStore() ?? null);
  }

  /** Runs `work` as `waiter`, until {@link settle}. */
  run<T>(waiter: Waiter, work: () => T): T {
    this.#open++;
    return this.#store.run(waiter, work);
  }

  /** Called once for each `run`. */
  settle(waiter: Waiter): void {
    waiter.settled = true;
    waiter.waitsFor.clear();
    this.#open--;
    // On Node 20 and 22 a store in use slows every promise of the process; between activations none is needed.
    if (this.#open === 0) this.#store.disable();
  }

  /**
   * Notes that `by` waits for `target`.
   * @throws FatalError PluginContract `RC1202` when `target` waits for `by`
   */
  wait(by: Waiter | null, target: Waiter): void {
    if (by === null || by.settled || target.settled) return;
    const path = pathBetween(target, by);
    if (path !== null) {
      const shown = [by, ...path].map(({ label }) => label).join(' -> ');
      const message = `each waits for the next to be activated: ${shown}; let one of them ask later, when it is first called`;
      throw new FatalError('PluginContract', showProblem({ code: 'RC1202', place: null, message }), {
        code: 'RC1202',
        context: { path: [by, ...path].map(({ label }) => label) },
      });
    }
    by.waitsFor.add(target);
  }
}

export function chainOf(waiter: Waiter | null): string {
  return waiter?.chain ?? APPLICATION;
}

/** From `start` along what each waits for to `end`, both included. */
function pathBetween(start: Waiter, end: Waiter, seen = new Set<Waiter>()): Waiter[] | null {
  if (start === end) return [start];
  if (seen.has(start)) return null;
  seen.add(start);
  for (const next of start.waitsFor) {
    const rest = pathBetween(next, end, seen);
    if (rest !== null) return [start, ...rest];
  }
  return null;
}
