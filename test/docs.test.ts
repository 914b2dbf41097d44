/** What the papers say, held to the code. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from '@jest/globals';

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const read = (file: string): string => readFileSync(join(ROOT, file), 'utf8');

describe('docs/errors.md', () => {
  const page = read('docs/errors.md');
  const documented = [...page.matchAll(/^\| `([A-Z_]+|RC\d{4})` \|/gm)].map(([, code = '']) => code);
  const source = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts') && !file.startsWith('testing'))
    .map((file) => read(join('src', file)))
    .join('\n');
  const used = new Set([
    ...[...source.matchAll(/code: '([A-Z_]+)'/g)].map(([, code = '']) => code),
    ...[...source.matchAll(/'(RC\d{4})'/g)].map(([, code = '']) => code),
  ]);

  test('has a line for each code that is thrown, and no other', () => {
    expect([...used].filter((code) => !documented.includes(code))).toEqual([]);
    expect(documented.filter((code) => !source.includes(`'${code}'`))).toEqual([]);
  });

  test('each table is in the order of the alphabet', () => {
    expect(documented).toEqual([...new Set(documented)]);
    for (const host of [true, false]) {
      const table = documented.filter((code) => code.startsWith('RC1') === host);
      expect(table).toEqual([...table].sort());
    }
  });

  test('every code of the host is produced by a test', () => {
    const tests = ['test/registry', 'test/testing']
      .flatMap((folder) => readdirSync(join(ROOT, folder)).map((file) => join(folder, file)))
      .filter((file) => file.endsWith('.ts'))
      .map(read)
      .join('\n');
    expect(documented.filter((code) => code.startsWith('RC1') && !tests.includes(code))).toEqual([]);
  });
});

describe('links between the papers', () => {
  const papers = [
    'README.md',
    'CHANGELOG.md',
    ...readdirSync(join(ROOT, 'docs'), { recursive: true, encoding: 'utf8' })
      .filter((f) => f.endsWith('.md'))
      .map((f) => join('docs', f)),
  ];
  test.each(papers)('%s links only to what is there', (paper) => {
    const broken = [...read(paper).matchAll(/\]\((?!https?:)([^)#]+)/g)]
      .map(([, target = '']) => join(dirname(paper), target))
      .filter((target) => {
        try {
          readdirSync(join(ROOT, dirname(target)));
          return !readdirSync(join(ROOT, dirname(target))).includes(target.split('/').at(-1) ?? '');
        } catch {
          return true;
        }
      });
    expect(broken).toEqual([]);
  });
});
