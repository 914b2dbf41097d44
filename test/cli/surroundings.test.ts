/** What the program meets where it is started, on the built program: a folder that is gone, a full disk, a locked-down Node. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { Place } from './support.js';

const PROGRAM = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const env = { ...process.env, NODE_OPTIONS: '' };

let place: Place;
beforeEach(() => {
  place = new Place();
});
afterEach(() => Place.removeAll());

/** Runs a line of sh in the place; `$RUN` is the program. */
function sh(line: string) {
  const RUN = `'${process.execPath}' '${PROGRAM}'`;
  const { status, stdout, stderr } = spawnSync('sh', ['-c', line.replaceAll('$RUN', RUN)], {
    cwd: place.folder,
    encoding: 'utf8',
    env,
  });
  return { status, stdout, stderr };
}

test.each([['--help'], ['doctor'], [`--config /dev/null --json compute`]])(
  'a current folder that is gone: %s',
  (args) => {
    const { status, stdout, stderr } = sh(`mkdir gone && cd gone && rmdir ../gone && $RUN ${args}`);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).toBe(
      'rollout-cloud: the current folder cannot be used: it is not there any more; cd to one that is\n',
    );
  },
);

describe('plugins new where not all of it can be written', () => {
  test('leaves nothing behind', () => {
    // No file may grow beyond nothing, as on a full disk.
    const { status, stderr } = sh(`ulimit -f 0; $RUN plugins new acme.x --capability Queue 2>&1 | cat >&2; exit 1`);
    expect(status).toBe(1);
    expect(stderr).toContain('could not write the plugin to');
    expect(existsSync(place.path('plugins/acme.x'))).toBe(false);
    expect(sh('$RUN plugins new acme.x --capability Queue').status).toBe(0);
  });
});

describe('a Node that may not generate code', () => {
  test('has all that is built in, and says why the configuration of a plugin cannot be checked', () => {
    const locked = `'${process.execPath}' --disallow-code-generation-from-strings '${PROGRAM}'`;
    const well = sh(`${locked} doctor`);
    expect({ status: well.status, stderr: well.stderr }).toEqual({ status: 0, stderr: '' });
    expect(sh('$RUN plugins new acme.x --capability Queue --js').status).toBe(0);
    const { status, stderr } = sh(`${locked} --set bindings.Queue.adapter=acme.x plugins list`);
    expect(status).toBe(2);
    expect(stderr).toMatch(
      /^rollout-cloud: RC1107 .*adapter acme\.x: its configuration cannot be checked: this process may not generate code \(--disallow-code-generation-from-strings\)$/m,
    );
  });
});
