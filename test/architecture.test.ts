/** The folder tree is the architecture. This table is its shortest description, and this test holds it. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from '@jest/globals';

/** Who may import whom. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  contracts: [],
  registry: ['contracts'],
  adapters: ['contracts'], // and never one adapter folder from another
  testing: ['contracts', 'registry', 'adapters'],
  cli: ['registry', 'contracts'],
  'index.ts': ['contracts', 'registry'],
};

/** Packages that only one file knows. */
const ONLY_IN: Readonly<Record<string, string>> = {
  inversify: 'registry/container.ts',
  'reflect-metadata/lite': 'registry/container.ts',
  ajv: 'registry/schema.ts',
  'jsonc-parser': 'registry/document.ts',
};

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const SRC = join(ROOT, 'src');

const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'));

/** Every specifier that a file imports, statically or not. */
function imports(file: string): string[] {
  const text = readFileSync(join(SRC, file), 'utf8').replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '');
  return [...text.matchAll(/(?:\bfrom\s+|\bimport\s+|\bimport\()\s*'([^']+)'/g)].map(([, specifier = '']) => specifier);
}

/** The layer of a path under `src`, and the plugin's folder where it is an adapter's. */
function layer(path: string): { layer: string; folder: string } {
  const [top = '', folder = ''] = path.split('/');
  return { layer: top, folder: top === 'adapters' ? folder : '' };
}

describe('layers', () => {
  test('every file belongs to one', () => {
    expect(files.filter((file) => !(layer(file).layer in MAY_IMPORT))).toEqual([]);
    expect(files.length).toBeGreaterThan(20);
  });

  test.each(files)('%s imports only what its layer may', (file) => {
    const own = layer(file);
    const allowed = MAY_IMPORT[own.layer] ?? [];
    const wrong = imports(file)
      .filter((specifier) => specifier.startsWith('.'))
      .map((specifier) => relative(SRC, resolve(SRC, dirname(file), specifier)))
      .filter((target) => {
        const to = layer(target);
        return to.layer === own.layer ? to.folder !== own.folder : !allowed.includes(to.layer);
      })
      .map((target) => `src/${file} imports ${target}; ${own.layer} may import: ${allowed.join(', ') || 'nothing'}`);
    expect(wrong).toEqual([]);
  });

  test.each(Object.entries(ONLY_IN))('%s is imported by %s alone', (name, only) => {
    expect(files.filter((file) => imports(file).includes(name))).toEqual([only]);
  });
});

describe('built-in plugins', () => {
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
  const manifests = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter((f) => f.endsWith('plugin.json'));

  test.each(manifests)(
    '%s has the version of the package, and a factory for each adapter and middleware',
    async (file) => {
      const manifest = JSON.parse(readFileSync(join(SRC, file), 'utf8')) as {
        version: string;
        contributes: { adapters: { id: string }[]; middleware?: { id: string }[] };
      };
      expect(manifest.version).toBe(version);
      const plugin = (await import(`../src/${dirname(file)}/index.js`)) as {
        default: { adapters: object; middleware?: object };
      };
      expect(Object.keys(plugin.default.adapters)).toEqual(manifest.contributes.adapters.map(({ id }) => id));
      const middleware = new Set(manifest.contributes.middleware?.map(({ id }) => id));
      expect(Object.keys(plugin.default.middleware ?? {})).toEqual([...middleware]);
    },
  );
});

describe('the object store', () => {
  test('steps that are not run yet never leave the class that has them: as an object they would always be truthy', () => {
    const own = files.filter((file) => file.startsWith(join('adapters', 'cloud-local', 'object-store')));
    const leaving = own.flatMap((file) =>
      [...readFileSync(join(SRC, file), 'utf8').matchAll(/^(?: {2}|export function ?)\*\s?(\w+)\(/gm)].map(
        ([, name]) => `${file}: ${name}`,
      ),
    );
    expect(own.length).toBeGreaterThan(10);
    expect(leaving).toEqual([]);
  });
});
