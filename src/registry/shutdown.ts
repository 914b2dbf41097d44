/** Stopping instances in order, each for so long and all for so long, with every failure in one report. */
import type { Logger } from '../contracts/plugin.js';
import { messageOf } from './ending.js';
import { edgesOf } from './graph.js';
import type { Instance } from './instance.js';
import type { PluginRun } from './loading.js';

export interface StopReport {
  /** Keys (`Queue#default`) of what was active, in the order in which it was disposed. */
  readonly stopped: readonly string[];
  /** What failed or took too long, instances and plugins (`plugin acme.vault`); the others were stopped all the same. */
  readonly errors: readonly { readonly instance: string; readonly error: unknown }[];
  /** How long draining and disposing each took, in milliseconds, and all of it. */
  readonly tookMs: { readonly total: number; readonly instances: Readonly<Record<string, number>> };
}

/** Collects what stopping something brings; nothing that fails keeps the next. */
export class StopCollector {
  readonly #logger: Logger;
  readonly #startedAt = performance.now();
  readonly #totalMs: number;
  readonly #stopped: string[] = [];
  readonly #errors: { instance: string; error: unknown }[] = [];
  readonly #took: Record<string, number> = {};

  /** @param totalMs after which whatever is left gets no more time; it is asked to end all the same */
  constructor(totalMs: number, logger: Logger) {
    this.#totalMs = totalMs;
    this.#logger = logger;
  }

  readonly limitMs = (): number => Math.max(0, Math.ceil(this.#totalMs - (performance.now() - this.#startedAt)));

  async #attempt(what: string, stopIt: () => Promise<unknown>): Promise<void> {
    try {
      await stopIt();
    } catch (error) {
      this.#errors.push({ instance: what, error });
      this.#logger.error(`${what} did not stop cleanly: ${messageOf(error)}`, { error });
    }
  }

  /**
   * Instances, dependents first: level by level, those of one level at once, the last activated first. Then plugins, the
   * last found first.
   * @param reason what whoever waits for one of them is told
   */
  async all(instances: Iterable<Instance>, runs: Iterable<PluginRun>, reason?: (key: string) => Error): Promise<void> {
    for (const level of dependentsFirst([...instances])) {
      // An activation that is ended is nothing that was active.
      const active = level.filter(({ isUp, state }) => isUp && state !== 'activating');
      this.#stopped.push(...active.map(({ planned }) => planned.key));
      await Promise.all(
        level.map((instance) => this.#attempt(instance.planned.key, () => this.#stop(instance, reason))),
      );
    }
    for (const run of [...runs].reverse()) {
      await this.#attempt(`plugin ${run.plugin.manifest.id}`, () => run.stop(this.limitMs()));
    }
  }

  report(): StopReport {
    return {
      stopped: this.#stopped,
      errors: this.#errors,
      tookMs: { total: performance.now() - this.#startedAt, instances: this.#took },
    };
  }

  async #stop(instance: Instance, reason?: (key: string) => Error): Promise<void> {
    const wasUp = instance.isUp;
    const startedAt = performance.now();
    try {
      await instance.stop(this.limitMs, reason && (() => reason(instance.planned.key)));
    } finally {
      if (wasUp) this.#took[instance.planned.key] = performance.now() - startedAt;
    }
  }
}

/** As {@link StopCollector.all}, for who is told of failures elsewhere. */
export async function stopInOrder(instances: readonly Instance[], limitMs: () => number): Promise<void> {
  for (const level of dependentsFirst(instances)) {
    await Promise.all(level.map((instance) => instance.stop(limitMs).catch(() => {})));
  }
}

/**
 * In levels: each instance stands in an earlier one than all that it requires or was given. A level is found when its turn
 * comes: while the one before is stopped, an activation may come to its end, and hold what no manifest shows.
 */
function* dependentsFirst(instances: readonly Instance[]): Generator<Instance[], void, void> {
  for (let left = new Set(instances); left.size > 0; ) {
    const level = highest(left);
    yield level.sort((a, b) => b.order - a.order);
    left = new Set([...left].filter((instance) => !level.includes(instance)));
  }
}

/** Those with the longest way down to what holds nothing. */
function highest(instances: ReadonlySet<Instance>): Instance[] {
  const byKey = new Map([...instances].map((instance) => [instance.planned.key, instance]));
  const heights = new Map<Instance, number>();
  const height = (instance: Instance): number => {
    const known = heights.get(instance);
    if (known !== undefined) return known;
    // What was given has no circle while it is being given; one that was lost and made anew may close one.
    heights.set(instance, 0);
    const held = [...edgesOf(instance.planned), ...instance.given].filter((key) => !instance.isWithout(key));
    const below = held.flatMap((key) => byKey.get(key) ?? []);
    const found = 1 + Math.max(-1, ...below.map(height));
    heights.set(instance, found);
    return found;
  };
  const top = Math.max(...[...instances].map(height));
  return [...instances].filter((instance) => heights.get(instance) === top);
}
