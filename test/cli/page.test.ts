/**
 * docs/command-line.md is what the program says of itself. After a change of the commands, `UPDATE_DOCS=1 npm test --
 * test/cli/page.test.ts` writes it anew.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from '@jest/globals';
import { Command } from 'commander';
import { wordsOf } from '../../src/cli/completion/words.js';
import type { Cli } from '../../src/cli/io.js';
import { COMMANDS } from '../../src/cli/program.js';
import { Place } from './support.js';

const PAGE = fileURLToPath(new URL('../../docs/command-line.md', import.meta.url));

const INTRODUCTION = `# The command line

Every capability that \`plugins.json\` binds, from a shell. Data is on stdout, everything else (errors, warnings, progress, and what plugins write to the \`console\`) on stderr; with \`--json\` stdout is one JSON document, or a list, an error included. Colours, tables and progress are for terminals, and \`NO_COLOR\` turns colours off.

Exit codes: 0 done; 1 an operation or a check failed; 2 wrong usage or configuration; 128 plus its number when a signal ended it (130: Ctrl-C); 141 when whoever read the output left before the end. Ctrl-C once finishes what is under way; once more gives it up.

Completion: \`source <(rollout-cloud completion bash)\`, and likewise for zsh and fish.
`;

afterAll(() => Place.removeAll());

async function page(): Promise<string> {
  const place = new Place(null);
  const program = new Command();
  for (const { usage, load } of COMMANDS) (await load()).define(program.command(usage), {} as Cli);
  const [, ...commands] = wordsOf(program);
  const helps = [''];
  for (const { path } of [{ path: [] }, ...commands]) {
    const { stdout } = await place.run(['help', ...path]);
    // The global options are told once.
    const text = stdout.replace(/\nGlobal Options:\n(?: .*\n)+/, '');
    helps.push(`## ${['rollout-cloud', ...path].join(' ')}\n\n\`\`\`\n${text.trim()}\n\`\`\`\n`);
  }
  return INTRODUCTION + helps.join('\n');
}

test('docs/command-line.md has the help of every command, word for word', async () => {
  const text = await page();
  if (process.env.UPDATE_DOCS === '1') writeFileSync(PAGE, text);
  expect(readFileSync(PAGE, 'utf8')).toBe(text);
});
