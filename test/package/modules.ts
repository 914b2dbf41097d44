/** What the modules of the package import, as their text says. */
import { readFileSync } from 'node:fs';
import { join, posix } from 'node:path';

export interface Reach {
  /** Files of the package, relative to it, sorted. */
  readonly files: readonly string[];
  /** Names of the other packages that they import, sorted; modules of Node left out. */
  readonly packages: readonly string[];
  /** The text of the files. The build heads each source with its path. */
  readonly text: string;
}

/**
 * What `entries` lead to, themselves included.
 * @param root folder of the package
 * @param entries modules or declarations, relative to it
 * @param follow `static`: what is loaded with them; `all`: also what `import()` may load later
 */
export function reach(root: string, entries: readonly string[], follow: 'static' | 'all'): Reach {
  const texts = new Map<string, string>();
  const packages = new Set<string>();
  const visit = (file: string): void => {
    if (texts.has(file)) return;
    const text = readFileSync(join(root, file), 'utf8');
    texts.set(file, text);
    for (const specifier of specifiers(text, follow)) {
      if (specifier.startsWith('.')) {
        const target = posix.join(posix.dirname(file), specifier);
        visit(file.endsWith('.d.ts') ? target.replace(/\.js$/, '.d.ts') : target);
      } else if (!specifier.startsWith('node:')) {
        packages.add(/^(?:@[^/]+\/)?[^/]+/.exec(specifier)?.[0] ?? specifier);
      }
    }
  };
  entries.forEach(visit);
  return { files: [...texts.keys()].sort(), packages: [...packages].sort(), text: [...texts.values()].join('\n') };
}

/** `import … from "x"`, `export … from "x"`, `import "x"`, and `import("x")`, which is static in a declaration alone. A name with a `$` is part of a text. */
const IMPORTS = /(?:^|[;}\n])\s*(?:import|export)\b[^;'"()]*["']([^"'\n$]+)["']|\bimport\(["']([^"'\n$]+)["']\)/g;

function specifiers(text: string, follow: 'static' | 'all'): string[] {
  const code = text.replace(/\/\*[\s\S]*?\*\//g, '');
  return [...code.matchAll(IMPORTS)].flatMap(([, fixed, late]) => {
    if (fixed !== undefined) return [fixed];
    return late !== undefined && follow === 'all' ? [late] : [];
  });
}
