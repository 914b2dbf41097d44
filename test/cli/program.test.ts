/** The command line itself: options, usage errors, exit codes. */
import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { LOCAL, Place } from './support.js';

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));

let place: Place;
beforeEach(() => {
  place = new Place();
});
afterEach(() => Place.removeAll());

describe('usage', () => {
  test('--version is that of the package', async () => {
    expect(await place.run(['--version'])).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' });
  });

  test('--help names the commands, and goes to stdout', async () => {
    const { code, stdout } = await place.run(['--help']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/tour \[options\] \[dir\]|tour \[dir\]/);
    expect(stdout).toContain('doctor');
  });

  test('tour --help tells of the command', async () => {
    const { code, stdout } = await place.run(['tour', '--help']);
    expect(code).toBe(0);
    expect(stdout).toContain('it finishes what was left');
    expect(stdout).toContain('--config <file>');
  });

  test.each([
    [[], 'Usage:'],
    [['help', 'turo'], "rollout-cloud: unknown command 'turo'"],
    [['turo'], "rollout-cloud: unknown command 'turo'"],
    [['turo'], 'Did you mean tour?'],
    [['tour', '--fast'], "rollout-cloud: unknown option '--fast'"],
    [['tour', 'a', 'b'], 'rollout-cloud: too many arguments'],
    [['--config'], 'rollout-cloud: option'],
    [['--set', 'nonsense', 'tour'], 'Write it as path=value.'],
  ])('%j is wrong usage: exit 2, the reason on stderr', async (args, reason) => {
    const { code, stdout, stderr } = await place.run(args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain(reason);
    expect(stderr).not.toMatch(/\n\s+at /);
  });

  test('help <command> is <command> --help, and help alone --help', async () => {
    for (const path of [[], ['doctor'], ['queue', 'send']]) {
      const asked = await place.run(['help', ...path]);
      expect(asked).toEqual(await place.run([...path, '--help']));
      expect(asked).toMatchObject({ code: 0, stdout: expect.stringContaining('\nExamples:\n'), stderr: '' });
    }
  });

  test('help may stand after global options and their values', async () => {
    const { stdout } = await place.run(['queue', '--help']);
    for (const before of [['--json'], ['--config', 'help'], ['--config=x.json', '--set', 'version=1']]) {
      expect(await place.run([...before, 'help', 'queue'])).toEqual({ code: 0, stdout, stderr: '' });
    }
    expect(await place.run(['--json', 'help', 'turo'])).toMatchObject({ code: 2 });
    expect(await place.run(['help', 'help'])).toEqual(await place.run(['--help']));
  });

  test('what follows an option of a command is its value, though it looks like a global option', async () => {
    expect(await place.run(['queue', 'send', '--text', '-V'])).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^[0-9A-Z]{26}\n$/),
    });
    expect(await place.run(['queue', 'send', '--text', '--json'])).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^[0-9A-Z]{26}\n$/),
    });
    const { stdout } = await place.run(['queue', 'receive', '--max', '2', '--json', '--ack']);
    expect(JSON.parse(stdout).map(({ payload }: { payload: string }) => payload)).toEqual(['-V', '--json']);
  });

  test.each([[['--json', 'turo']], [['queue', 'send', '--fast', '--json']], [['objects', '--json', 'stat', 'x']]])(
    '%j: wrong usage is a JSON document, too',
    async (args) => {
      const { code, stdout, stderr } = await place.run(args);
      const { error } = JSON.parse(stdout);
      expect({ code, name: error.name }).toEqual({ code: 2, name: 'UsageError' });
      expect(stderr).toContain(`rollout-cloud: ${error.message}`);
    },
  );

  test('--set adds up, before the command and after it; the later value of one path wins', async () => {
    const { stdout } = await place.run([
      '--set=bindings.SecretStore.config.allowlist=["A"]',
      '--set=bindings.Storage={"adapter":"local.memory"}',
      'plugins',
      '--json',
      'list',
      '--set=bindings.SecretStore.config.allowlist=["B"]',
    ]);
    const configs = Object.fromEntries(
      JSON.parse(stdout).instances.map(({ capability, adapter, config }: Record<string, unknown>) => [
        capability,
        { adapter, config },
      ]),
    );
    expect(configs.Storage.adapter).toBe('local.memory');
    expect(configs.SecretStore.config.allowlist).toEqual(['B']);
  });

  test('global options may stand after the command', async () => {
    place.write('files/a', 'a');
    const { code, stdout } = await place.run(['tour', 'files', '--json', '--config', 'plugins.json']);
    expect(code).toBe(0);
    expect(JSON.parse(stdout).files.stored).toBe(1);
  });
});

describe('configuration', () => {
  const broken: [string, string | null, string[]][] = [
    ['missing', null, ['RC1001']],
    ['empty', '', ['RC1002']],
    ['malformed', '{ "bindings": ', ['RC1002 ', 'plugins.json:1:']],
    ['with an unknown key', '{\n  "bindngs": {}\n}', ['RC1003 ', 'plugins.json:2:3', '"bindings"']],
    [
      'with an adapter misspelt',
      JSON.stringify({ bindings: { ...LOCAL.bindings, ObjectStore: { adapter: 'local.sf' } } }),
      ['RC1102 ', 'plugins.json:1:', 'Did you mean "local.fs"?'],
    ],
    [
      'with two faults',
      '{ "bindings": {\n"Storage": { "adapter": "x" },\n"Queue": { "adapter": "y" } } }',
      ['RC1102 ', 'plugins.json:2:', 'plugins.json:3:'],
    ],
  ];
  describe.each(broken)('%s', (_what, config, expected) => {
    test.each(['tour', 'doctor'])('%s: exit 2, one sentence a problem, no stack', async (command) => {
      const other = new Place(config);
      other.write('src/a', 'a');
      const { code, stdout, stderr } = await other.run([command]);
      expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
      for (const text of expected) expect(stderr).toContain(text);
      expect(
        stderr
          .trim()
          .split('\n')
          .every((line) => line.startsWith('rollout-cloud: RC')),
      ).toBe(true);
    });
  });
});

describe('global options', () => {
  async function secretsAndStorage(...args: string[]): Promise<string[]> {
    const { stdout } = await place.run([...args, 'doctor', '--json']);
    const { findings } = JSON.parse(stdout) as { findings: { capability: string; adapter: string; detail: string }[] };
    return findings
      .filter(({ capability }) => ['Storage', 'SecretStore'].includes(capability))
      .map(({ adapter, detail }) => `${adapter}: ${detail}`);
  }

  test('--set puts values on top: JSON where it parses, else text; it may be given several times', async () => {
    const found = await secretsAndStorage(
      '--set=bindings.SecretStore.config.allowlist=["A","B"]',
      '--set',
      'bindings.Storage={"adapter":"local.memory"}',
      '--set=bindings.Storage.adapter=local.sqlite',
    );
    expect(found[0]).toMatch(/^local\.sqlite: /);
    expect(found[1]).toBe('local.env: A not set, B not set');
  });

  test('--config names another file; its relative paths are relative to it', async () => {
    place.write('elsewhere/other.json', JSON.stringify({ bindings: LOCAL.bindings }));
    place.write('files/a', 'a');
    const { stdout } = await place.run(['--config', 'elsewhere/other.json', '--json', 'tour', 'files']);
    expect(JSON.parse(stdout).data[0].path).toBe(place.path('elsewhere/data/rollout.db'));
  });

  test('--verbose adds the stack of an error, and --json the error as a document', async () => {
    place.write('plugins.json', '{ "bindings": { "Storage": { "adapter": "x" } } }');
    const { code, stdout, stderr } = await place.run(['doctor', '--verbose', '--json']);
    expect(code).toBe(2);
    expect(stderr).toMatch(/^rollout-cloud: RC1102 .*\n[\s\S]*\n\s+at /);
    expect(JSON.parse(stdout).error).toMatchObject({ name: 'FatalError', kind: 'ConfigInvalid', code: 'RC1102' });
  });

  test('wrong usage of a command is a document too', async () => {
    const { code, stdout } = await place.run(['tour', 'nowhere', '--json']);
    expect(code).toBe(2);
    expect(JSON.parse(stdout).error).toEqual({ name: 'UsageError', message: expect.stringContaining('nowhere') });
  });
});
