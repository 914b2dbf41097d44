/** Lists on stdout as JSON, written as their elements come: no list is held in memory, and each is a whole document. */
import type { Cli } from './io.js';
import { write } from './output.js';

/** What stands around the array: nothing by default, else it is the value of `key` in an object that ends with `rest`. */
export interface JsonListFrame {
  readonly key: string;
  /** The object's other members, asked for when the array is complete. */
  rest(): Readonly<Record<string, unknown>>;
}

/** Writes the elements. When they end with an error, the document is ended too before the error is passed on. */
export async function writeJsonList(cli: Cli, elements: AsyncIterable<unknown>, frame?: JsonListFrame): Promise<void> {
  const head = frame === undefined ? '[' : `{\n${JSON.stringify(frame.key)}: [`;
  const tail = () => {
    if (frame === undefined) return ']\n';
    const members = Object.entries(frame.rest()).map(
      ([key, value]) => `,\n${JSON.stringify(key)}: ${JSON.stringify(value)}`,
    );
    return `]${members.join('')}\n}\n`;
  };
  try {
    for await (const element of elements) {
      await write(cli.stdout, `${cli.documentBegun ? ',' : head}\n${JSON.stringify(element)}`);
      cli.documentBegun = true;
    }
  } catch (error) {
    if (cli.documentBegun) cli.stdout.write(`\n${tail()}`);
    throw error;
  }
  await write(cli.stdout, cli.documentBegun ? `\n${tail()}` : `${head}${tail()}`);
}
