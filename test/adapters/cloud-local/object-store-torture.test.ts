/** The short form of `npm run torture:objects`: a few dozen kills; the long one is run by hand (see CONTRIBUTING.md). */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from '@jest/globals';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));

test('processes are killed over one root, and nothing that was promised is lost', () => {
  const args = ['scripts/bench.mjs', 'torture-objects', '--kills', '25', '--durability', 'none'];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: ROOT, encoding: 'utf8' });
  expect({ status, stdout, stderr }).toEqual({
    status: 0,
    stdout: expect.stringContaining('\n0 differences\n'),
    stderr: '',
  });
  const [, kills = '0', puts = '0'] = /(\d+) kills, (\d+) puts/.exec(stdout) ?? [];
  expect(Number(kills)).toBeGreaterThanOrEqual(25);
  expect(Number(puts)).toBeGreaterThan(0);
}, 120_000);
