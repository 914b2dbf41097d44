/** How tests import plugins from the sources: Jest maps relative specifiers only, and a host imports by URL. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export function importModule(url: string): Promise<unknown> {
  const file = fileURLToPath(url);
  const source = file.replace(/\.js$/, '.ts');
  return import(existsSync(file) ? file : source);
}
