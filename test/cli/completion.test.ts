/** `completion`: the scripts, checked by the shells that are here. */
import { spawnSync } from 'node:child_process';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { Place } from './support.js';

let place: Place;
beforeEach(() => {
  place = new Place(null);
});
afterEach(() => Place.removeAll());

/** The test, or the test skipped with the reason in its name. */
function needs(shell: string, name: string, work: () => Promise<void>): void {
  if (spawnSync(shell, ['-c', 'true']).error === undefined) test(name, work);
  else test.skip(`${name} (skipped: there is no ${shell} here)`, work);
}

async function scriptOf(shell: string): Promise<string> {
  const { code, stdout, stderr } = await place.run(['completion', shell]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  return place.write(`script.${shell}`, stdout);
}

/** Runs a program of the shell's and gives its output; what it says on stderr is a failure. */
function shell(name: string, program: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(name, ['-c', program, ...args], { encoding: 'utf8' });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return stdout.trim();
}

const LINES: [string[], string[]][] = [
  [['o'], ['objects']],
  [
    ['objects', ''],
    ['gc', 'get', 'ls', 'put', 'rm', 'stat', 'verify'],
  ],
  [
    ['queue', 's'],
    ['send', 'stats'],
  ],
  [
    ['--json', 'secrets', ''],
    ['get', 'list'],
  ],
  [['--config', 'objects', 'q'], ['queue']],
  [
    ['completion', ''],
    ['bash', 'fish', 'zsh'],
  ],
];

/** An option that takes one of a few values. */
const CAPABILITY = ['plugins', 'new', 'acme.x', '--capability'];
const STORES = ['SecretStore', 'Storage'];

describe('bash', () => {
  const complete = async (...words: string[]) => {
    const program = `source "$0"; COMP_WORDS=(rollout-cloud "$@"); COMP_CWORD=$#; _rollout_cloud; printf '%s\\n' "\${COMPREPLY[@]}"`;
    return shell('bash', program, await scriptOf('bash'), ...words)
      .split('\n')
      .sort();
  };

  needs('bash', 'completes commands and subcommands', async () => {
    for (const [words, expected] of LINES) expect(await complete(...words)).toEqual(expected);
  });

  needs('bash', 'completes the options of a command, and those that all have', async () => {
    const options = await complete('queue', 'work', '-');
    expect(options).toEqual(
      expect.arrayContaining(['--concurrency', '--until-empty', '--instance', '--config', '--help']),
    );
    expect(options).not.toContain('--content-type');
    expect(options).toContain('--profile');
  });

  needs('bash', 'completes the values of an option that takes one of a few', async () => {
    expect(await complete(...CAPABILITY, 'S')).toEqual(STORES);
    expect(await complete('plugins', 'new', 'acme.x', '--dir', '')).toEqual(['']);
  });

  needs('bash', 'leaves files, values of options and what stands after -- to the shell', async () => {
    expect(await complete('objects', 'put', 'a')).toEqual(['']);
    expect(await complete('objects', 'get', '-o', '')).toEqual(['']);
    expect(await complete('queue', 'work', '--', '-')).toEqual(['']);
  });

  needs('bash', 'is registered for the program, with file names where nothing else fits', async () => {
    expect(shell('bash', 'source "$0"; complete -p rollout-cloud', await scriptOf('bash'))).toBe(
      'complete -o default -F _rollout_cloud rollout-cloud',
    );
  });
});

describe('zsh', () => {
  // Its own helpers need a terminal: these print what they are given.
  const HELPERS = `
    _describe() { local -a list; list=("\${(@P)2}"); print -rl -- "\${list[@]%%:*}" }
    _files() { print FILES }
    compdef() { : }`;

  needs('zsh', 'is well-formed', async () => {
    expect(spawnSync('zsh', ['-n', await scriptOf('zsh')]).status).toBe(0);
  });

  needs('zsh', 'completes commands, options and files', async () => {
    const file = await scriptOf('zsh');
    const complete = (...words: string[]) => {
      const program = `${HELPERS}\nsource "$0"; words=(rollout-cloud "$@"); CURRENT=$#words; _rollout-cloud`;
      return shell('zsh', program, file, ...words)
        .split('\n')
        .sort();
    };
    for (const [words, expected] of LINES.filter(([words]) => words.at(-1) === '')) {
      expect(complete(...words)).toEqual(expected);
    }
    expect(complete('queue', 'work', '-')).toEqual(expect.arrayContaining(['--concurrency', '--config']));
    expect(complete(...CAPABILITY, '')).toEqual(expect.arrayContaining(STORES));
    for (const words of [
      ['objects', 'put', ''],
      ['--config', ''],
      ['queue', 'work', '--', ''],
    ]) {
      expect(complete(...words)).toEqual(['FILES']);
    }
  });
});

describe('fish', () => {
  needs('fish', 'is well-formed, and completes commands and options', async () => {
    const file = await scriptOf('fish');
    expect(spawnSync('fish', ['-n', file]).status).toBe(0);
    const complete = (line: string) =>
      shell('fish', `source ${file}; complete -C '${line}'`)
        .split('\n')
        .map((text) => text.split('\t')[0])
        .sort();
    for (const [words, expected] of LINES.filter(([[first]]) => first !== '--config')) {
      expect(complete(`rollout-cloud ${words.join(' ')}`)).toEqual(expected);
    }
    expect(complete(`rollout-cloud ${CAPABILITY.join(' ')} S`)).toEqual(expect.arrayContaining(STORES));
    expect(complete('rollout-cloud queue work --')).toEqual(expect.arrayContaining(['--concurrency', '--config']));
  });
});

test.each(['bash', 'zsh', 'fish'])('%s: names every command, and --json wraps the script', async (name) => {
  const { stdout } = await place.run(['completion', name]);
  for (const word of ['tour', 'doctor', 'plugins', 'verify', 'receive', 'until-empty', 'reveal', 'completion']) {
    expect(stdout).toContain(word);
  }
  const document = JSON.parse((await place.run(['completion', name, '--json'])).stdout);
  expect(document).toEqual({ shell: name, script: stdout });
});
