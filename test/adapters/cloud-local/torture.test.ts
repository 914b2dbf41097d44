/** A short torture run (the long one is `npm run torture`), and that the ledger sees what it is there to see. */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, test } from '@jest/globals';
import { Ledger, type State } from '../../../bench/torture/ledger.js';
import { bundle } from '../../support/bundle.js';

test('killed again and again, no queue loses what it resolved', async () => {
  const script = fileURLToPath(await bundle('bench/torture-queue.ts'));
  const folder = mkdtempSync(join(tmpdir(), 'rollout-torture-'));
  // Rejects when it exits with anything but 0; what it printed is in the message.
  const { stdout } = await promisify(execFile)(process.execPath, [script, '--minutes', '0.3', '--folder', folder]);
  rmSync(folder, { recursive: true });
  expect(stdout).toContain('differences: 0');
  for (const [, kills = '0', acked = '0'] of stdout.matchAll(/rounds, (\d+) kills .* (\d+) acked/g)) {
    expect(Number(kills)).toBeGreaterThan(1);
    expect(Number(acked)).toBeGreaterThan(0);
  }
}, 180_000);

describe('the ledger tells', () => {
  const found = (id: string, tag: string, attempts = 0) => ({ id, tag, attempts });
  const check = (lines: string[], state: Partial<State>, lost = 0) => {
    const ledger = new Ledger();
    ledger.add(lines.map((line) => `${line}\n`).join(''));
    return ledger.differences({ items: [], dead: [], ...state }, lost);
  };
  const sent = ['1 e plain.1.0.0', '1 E A plain.1.0.0'];

  test('nothing of a queue that kept its promises', () => {
    const lines = [...sent, '1 e plain.1.0.1', '1 T A 1', '1 a A', '1 A A', '1 e plain.1.0.2 plain.1.0.3'];
    expect(check(lines, { items: [found('B', 'plain.1.0.1')] })).toEqual([]);
    // An ack under way when the process died may have taken effect or not.
    expect(check([...sent, '1 a A'], {})).toEqual([]);
    expect(check([...sent, '1 a A'], { items: [found('A', 'plain.1.0.0')] })).toEqual([]);
    expect(check([...sent, '1 T A 1', '2 T A 1'], { items: [found('A', 'plain.1.0.0', 1)] }, 1)).toEqual([]);
  });

  test.each<[string, string[], Partial<State>]>([
    ['lost', sent, {}],
    ['altered', sent, { items: [found('A', 'plain.1.0.7')] }],
    ['back', [...sent, '1 a A', '1 A A'], { items: [found('A', 'plain.1.0.0')] }],
    ['from nowhere', [], { items: [found('A', 'plain.1.0.0')] }],
    ['twice', sent, { items: [found('A', 'plain.1.0.0')], dead: [found('A', 'plain.1.0.0')] }],
    ['one payload under two ids', sent, { items: [found('A', 'plain.1.0.0'), found('B', 'plain.1.0.0')] }],
    [
      'half of an enqueueMany',
      ['1 e plain.1.0.0 plain.1.0.1', '1 E A plain.1.0.0'],
      { items: [found('A', 'plain.1.0.0')] },
    ],
    ['order', [...sent, '1 e plain.1.0.1'], { items: [found('B', 'plain.1.0.0'), found('A', 'plain.1.0.1')] }],
    ['attempts', [...sent, '1 T A 1', '2 T A 1'], { items: [found('A', 'plain.1.0.0', 1)] }],
    ['attempts', [...sent, '1 T A 2'], { items: [found('A', 'plain.1.0.0', 1)] }],
    ['attempts', [...sent, '1 T A 9'], { items: [found('A', 'plain.1.0.0', 9)] }],
  ])('%s', (what, lines, state) => {
    expect(check(lines, state).some((each) => each.startsWith(what))).toBe(true);
  });
});
