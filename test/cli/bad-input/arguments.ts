/** Wrong arguments, of every command. */
import { NEVER_STORED, type Row } from './row.js';

const HINT = /^rollout-cloud: --help lists the commands and options$/;
const wrong = (args: string[], reason: RegExp, hint = true): Row => ({
  name: JSON.stringify(args),
  args,
  code: 2,
  says: hint ? [reason, HINT] : [reason],
  jsonOnly: true,
});

const COMMANDS = [
  'tour',
  'doctor',
  'plugins list',
  'objects put x',
  `objects get ${NEVER_STORED}`,
  `objects stat ${NEVER_STORED}`,
  'objects ls',
  `objects rm ${NEVER_STORED}`,
  'objects verify',
  'objects gc',
  'queue send',
  'queue receive',
  'queue stats',
  'queue work x',
  'queue dead',
  'queue requeue 01ARZ3NDEKTSV4RRFFQ69G5FAV',
  'queue purge dead',
  'secrets list',
  'secrets get x',
  'compute',
  'completion bash',
].map((line) => line.split(' '));

const NUMBERS = [
  ['objects', 'gc', '--keep-none', '--grace-ms'],
  ['queue', 'send', '--text', 'x', '--delay-ms'],
  ['queue', 'receive', '--lease-ms'],
  ['queue', 'receive', '--max'],
  ['queue', 'receive', '--wait-ms'],
  ['queue', 'work', '--lease-ms'],
  ['queue', 'work', '--concurrency'],
];

export const ARGUMENTS: Row[] = [
  wrong(['turo'], /unknown command 'turo' \(Did you mean tour\?\)/),
  wrong(['obj\x1b[31mects\n'], /unknown command 'obj\\u001b\[31mects\\u000a'/),
  ...['nonsense', '=1', ''].map((text) => wrong(['--set', text, 'compute'], /Write it as path=value\./)),
  wrong(['--config'], /option '--config <file>' argument missing/),
  ...['objects', 'queue', 'secrets', 'plugins'].map((group) => wrong([group, 'lsit'], /unknown command 'lsit'/)),
  ...COMMANDS.map((command) => wrong([...command, '--fast\x1b'], /unknown option '--fast\\u001b'/)),
  ...['objects put', 'objects rm', 'objects get', 'objects stat', 'queue work', 'secrets get', 'completion'].map(
    (line) => wrong(line.split(' '), /missing required argument '(file|id|cmd|name|shell)'/),
  ),
  ...COMMANDS.filter((command) => !/objects (put|rm|verify)|queue (work|requeue)/.test(command.join(' '))).map(
    (command) =>
      wrong(
        [...command, ...(/tour|send/.test(command.join(' ')) ? ['x'] : []), 'more'],
        /too many arguments for '\w+'\. Expected \d arguments? but got \d\./,
      ),
  ),
  ...NUMBERS.flatMap((command) =>
    ['many', '-1', '1.5', '1e3', '', '99999999999999999999'].map((value) =>
      wrong([...command, value], / must be a whole number from \d to \d+, found "/, false),
    ),
  ),
  wrong(['completion', 'tcsh'], /'tcsh' is invalid for argument 'shell'\. Allowed choices are bash, zsh, fish\./),
  wrong(['queue', 'send', 'x', '--text', 'y'], /give a file or --text, not both/, false),
  wrong(['queue', 'requeue'], /say which dead letters: their ids, or --all/, false),
  wrong(['queue', 'requeue', 'x'], /"x" is not an item's id/, false),
  wrong(['queue', 'purge'], /missing required argument 'which'/),
  wrong(['queue', 'purge', 'all'], /Allowed choices are pending, dead/),
  wrong(['queue', 'purge', 'pending'], /say --yes: queue purge pending --yes/, false),
  wrong(['queue', 'send', '--lines', '--key', 'y'], /--key is for one item/, false),
  wrong(['objects', 'put', '-', '-'], /standard input \(-\) can be stored once/, false),
  wrong(['objects', 'gc'], /say what to keep: --keep-from <file>, or --keep-none/, false),
  wrong(['objects', 'gc', '--keep-none', '--keep-from', 'x'], /say what to keep/, false),
  wrong(['objects', 'gc', '--keep-from', 'nowhere'], /cannot read "nowhere": there is no such file/, false),
  wrong(
    ['objects', 'gc', '--keep-from', '/dev/null'],
    /"\/dev\/null" names nothing to keep; nothing was removed/,
    false,
  ),
  wrong(
    ['objects', 'gc', '--keep-from', 'plugins.json'],
    /"plugins\.json", line 1: "\{" is not an object's id; nothing was removed/,
    false,
  ),
  wrong(['tour', 'nowhere'], /cannot tour "nowhere": there is no such folder/, false),
];
