/** Asks every instance how it is, again and again, where the host was told to: `createHost({ healthEveryMs })`. */
import type { Clock, ScheduledCall } from '../contracts/clock.js';

export class HealthWatch {
  readonly #clock: Clock;
  readonly #everyMs: number;
  readonly #check: () => Promise<unknown>;
  #next: ScheduledCall | null = null;
  #isOver = false;

  /** @param check never rejects; the next one begins `everyMs` after it has ended, so that a slow one is alone */
  constructor(clock: Clock, everyMs: number, check: () => Promise<unknown>) {
    this.#clock = clock;
    this.#everyMs = everyMs;
    this.#check = check;
    this.#schedule();
  }

  end(): void {
    this.#isOver = true;
    this.#next?.cancel();
  }

  #schedule(): void {
    if (this.#isOver) return;
    const ask = () => void this.#check().finally(() => this.#schedule());
    this.#next = this.#clock.schedule(this.#everyMs, ask, { keepAlive: false });
  }
}
