/**
 * The ledger of a torture run: what the children saw resolve, written outside the database with a plain `write`, which a
 * SIGKILL cannot take back; and what it proves about a queue that was left behind.
 *
 * A line is a life, a letter and its words. Small letters come before a call, capitals after it resolved:
 *
 *   e tag…       an enqueue of these payloads begins        E id tag       one of them was answered with its id
 *   a id / A id  an ack begins / resolved                   T id attempts  the item was handed over
 *   r id / R id  a requeue of a dead letter begins / resolved
 */

export interface Found {
  readonly id: string;
  /** The payload's text, `kind.life.sender.n`. */
  readonly tag: string;
  /** As stored. */
  readonly attempts: number;
}

/** What a queue was found to hold once its processes were dead. */
export interface State {
  readonly items: readonly Found[];
  readonly dead: readonly Found[];
}

/** Hand-overs after which an item is given up. */
export const MAX_ATTEMPTS = 4;

interface Delivery {
  readonly life: string;
  readonly attempts: number;
}

export class Ledger {
  readonly enqueued = new Map<string, string>();
  readonly begun = new Set<string>();
  /** The other payloads of the same `enqueueMany`, by tag. */
  readonly together = new Map<string, readonly string[]>();
  readonly acking = new Set<string>();
  readonly acked = new Set<string>();
  readonly requeuing = new Set<string>();
  readonly requeued = new Map<string, number>();
  readonly deliveries = new Map<string, Delivery[]>();
  lines = 0;

  /** @param text whole lines, in the order in which they were written */
  add(text: string): void {
    for (const line of text.split('\n').slice(0, -1)) {
      const [life = '', letter = '', first = '', second = '', ...rest] = line.split(' ');
      this.lines++;
      if (letter === 'e') {
        const tags = [first, second, ...rest].filter((tag) => tag !== '');
        for (const tag of tags) {
          this.begun.add(tag);
          if (tags.length > 1) this.together.set(tag, tags);
        }
      } else if (letter === 'E') this.enqueued.set(first, second);
      else if (letter === 'a') this.acking.add(first);
      else if (letter === 'A') this.acked.add(first);
      else if (letter === 'r') this.requeuing.add(first);
      else if (letter === 'R') this.requeued.set(first, (this.requeued.get(first) ?? 0) + 1);
      else if (letter === 'T') {
        const seen = this.deliveries.get(first) ?? [];
        seen.push({ life, attempts: Number(second) });
        this.deliveries.set(first, seen);
      }
    }
  }

  /**
   * Every difference between what was promised and what was found, one sentence each.
   * @param lost how many hand-overs a crash may take from an item's count
   */
  differences({ items, dead }: State, lost: number): string[] {
    const wrong: string[] = [];
    const there = new Map<string, Found>();
    const tags = new Map<string, string>();
    for (const found of [...items, ...dead]) {
      if (there.has(found.id)) wrong.push(`twice: ${found.id} (${found.tag})`);
      there.set(found.id, found);
      const other = tags.get(found.tag);
      if (other !== undefined) wrong.push(`one payload under two ids: ${found.tag} under ${other} and ${found.id}`);
      tags.set(found.tag, found.id);
    }
    for (const [id, tag] of this.enqueued) {
      const found = there.get(id);
      if (found === undefined) {
        if (!this.acking.has(id)) wrong.push(`lost: ${id} (${tag}) was enqueued and never acked`);
      } else if (found.tag !== tag) wrong.push(`altered: ${id} was enqueued as ${tag}, found as ${found.tag}`);
    }
    for (const id of this.acked) if (there.has(id)) wrong.push(`back: ${id} was acked`);
    for (const { id, tag } of there.values()) {
      if (!this.begun.has(tag)) wrong.push(`from nowhere: ${id} (${tag})`);
    }
    wrong.push(...this.#halves(tags), ...this.#outOfOrder(items), ...this.#counts(there, lost));
    return wrong;
  }

  /** `enqueueMany` is all or nothing. */
  #halves(tags: ReadonlyMap<string, string>): string[] {
    const wrong: string[] = [];
    const idOf = new Map([...this.enqueued].map(([id, tag]) => [tag, id]));
    const seen = new Set<string>();
    const gone = (tag: string) => {
      const id = idOf.get(tag);
      return id !== undefined && this.acking.has(id);
    };
    for (const [tag, together] of this.together) {
      if (seen.has(together[0] as string)) continue;
      seen.add(together[0] as string);
      const there = together.filter((each) => tags.has(each) || gone(each));
      // One that was handed over and acked before its enqueue was noted has no id here: it proves nothing.
      const answered = together.some((each) => idOf.has(each));
      if (there.length > 0 && there.length < together.length && answered)
        wrong.push(`half of an enqueueMany: ${there.join()} of ${together.join()} (${tag})`);
    }
    return wrong;
  }

  /** A sender enqueues one after the other: its items' ids rise as their numbers do. */
  #outOfOrder(items: readonly Found[]): string[] {
    const wrong: string[] = [];
    const last = new Map<string, { n: number; id: string }>();
    for (const { id, tag } of [...items].sort((one, other) => (one.id < other.id ? -1 : 1))) {
      const [, life, sender, number] = tag.split('.');
      const from = `${life}.${sender}`;
      const n = Number(number);
      const before = last.get(from);
      if (before !== undefined && before.n >= n)
        wrong.push(`order: ${tag} (${id}) comes after ${before.n} (${before.id})`);
      last.set(from, { n, id });
    }
    return wrong;
  }

  /** Attempts rise by one with each hand-over, but for those that a crash may lose. */
  #counts(there: ReadonlyMap<string, Found>, lost: number): string[] {
    const wrong: string[] = [];
    for (const [id, deliveries] of this.deliveries) {
      const seen = deliveries.map(({ life, attempts }) => `${attempts} in life ${life}`).join(', ');
      const highest = Math.max(...deliveries.map(({ attempts }) => attempts));
      if (highest > MAX_ATTEMPTS)
        wrong.push(`attempts: ${id} was handed over ${highest} times, ${MAX_ATTEMPTS} allowed`);
      // A requeue starts the count anew, and a hand-over from before it may be noted after it.
      if (this.requeuing.has(id)) continue;
      const distinct = new Set(deliveries.map(({ attempts }) => attempts)).size;
      if (distinct < deliveries.length - lost) wrong.push(`attempts: ${id} was counted ${seen}`);
      const found = there.get(id);
      if (found !== undefined && found.attempts < highest - lost)
        wrong.push(`attempts: ${id} was handed over as ${seen}, and ${found.attempts} is stored`);
      const sameLife = new Map<string, number>();
      for (const { life, attempts } of deliveries) {
        const key = `${life} ${attempts}`;
        sameLife.set(key, (sameLife.get(key) ?? 0) + 1);
        if ((sameLife.get(key) ?? 0) > 1)
          wrong.push(`attempts: ${id} was handed over twice as ${attempts} in life ${life}`);
      }
    }
    return wrong;
  }
}
