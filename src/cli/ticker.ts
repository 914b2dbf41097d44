/**
 * How far a command is: a line on stderr where that is a terminal, nothing elsewhere, and nothing in the first second.
 *
 * `one line` is drawn over again and again, and is gone at the end. `lines` are for a terminal that others write to.
 */
import type { Cli } from './io.js';
import { tell } from './output.js';

const FIRST_MS = 1_000;
const EVERY_MS = { 'one line': 200, lines: 5_000 } as const;

export class Ticker {
  readonly #cli: Cli;
  readonly #text: () => string;
  readonly #how: keyof typeof EVERY_MS;
  #timer: NodeJS.Timeout | undefined;
  #drawn = false;

  private constructor(cli: Cli, how: keyof typeof EVERY_MS, text: () => string) {
    this.#cli = cli;
    this.#how = how;
    this.#text = text;
    if (cli.stderr.isTTY) this.#timer = setTimeout(() => this.#tick(), FIRST_MS);
  }

  /** Runs `work` and tells how far it is, in the words of `text`. */
  static async during<T>(
    cli: Cli,
    how: keyof typeof EVERY_MS,
    text: () => string,
    work: (ticker: Ticker) => Promise<T>,
  ): Promise<T> {
    const ticker = new Ticker(cli, how, text);
    try {
      return await work(ticker);
    } finally {
      clearTimeout(ticker.#timer);
      ticker.hide();
    }
  }

  /** Clears the line, for something else to be written there; the next tick draws it again. */
  hide(): void {
    if (this.#drawn) this.#cli.stderr.write('\r\x1b[K');
    this.#drawn = false;
  }

  #tick(): void {
    if (this.#how === 'lines') tell(this.#cli, this.#text());
    else {
      // 0 on a terminal that tells no width, as in a CI or under `docker exec -t`.
      const columns = this.#cli.stderr.columns || 80;
      this.#cli.stderr.write(`\r${this.#text().slice(0, columns - 1)}\x1b[K`);
      this.#drawn = true;
    }
    this.#timer = setTimeout(() => this.#tick(), EVERY_MS[this.#how]);
  }
}
