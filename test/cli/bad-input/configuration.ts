/** Bad configuration: plugins.json and what is put on top of it. */
import { rmSync } from 'node:fs';
import { LOCAL } from '../support.js';
import type { Row } from './row.js';

const config = (bindings: object, more: object = {}) =>
  JSON.stringify({ bindings: { ...LOCAL.bindings, ...bindings }, ...more });

/** Replaces the configuration, and puts it back for the check. */
function configured(text: string | Uint8Array | null): Pick<Row, 'setUp' | 'mend'> {
  return {
    setUp: (place) => (text === null ? rmSync(place.path('plugins.json')) : place.write('plugins.json', text)),
    mend: (place) => place.write('plugins.json', JSON.stringify(LOCAL)),
  };
}

export const CONFIGURATION: Row[] = [
  {
    name: 'no configuration file',
    args: ['objects', 'ls'],
    ...configured(null),
    code: 2,
    says: [/RC1001 .*plugins\.json .*there is no such file; create it/],
  },
  {
    name: 'a folder instead',
    args: ['--config', '.', 'compute'],
    code: 2,
    says: [/RC1001 .*it is a folder; name the file in it/],
  },
  {
    name: 'UTF-16 with its mark',
    args: ['compute'],
    ...configured(Buffer.from('\ufeff{}', 'utf16le')),
    code: 2,
    says: [/RC1001 .*it is written in UTF-16; save it as UTF-8/],
  },
  {
    name: 'UTF-16 without it',
    args: ['compute'],
    ...configured(Buffer.from('{}', 'utf16le')),
    code: 2,
    says: [/RC1001 .*it is written in UTF-16; save it as UTF-8/],
  },
  {
    name: 'too long',
    args: ['compute'],
    ...configured(`{}${' '.repeat(5_000_000)}`),
    code: 2,
    says: [/RC1001 .*it has more than 4194304 bytes; make it shorter, or name another/],
  },
  { name: 'empty', args: ['queue', 'stats'], ...configured(''), code: 2, says: [/RC1002 .*:1:1 the file is empty/] },
  {
    name: 'malformed',
    args: ['compute'],
    ...configured('{ "bindings": '),
    code: 2,
    says: [/RC1002 .*plugins\.json:1:\d+ this is not JSON/],
  },
  { name: 'bytes that are no text', args: ['compute'], ...configured('\0\xff\xfe'), code: 2, says: [/RC1002 /] },
  { name: 'an array', args: ['compute'], ...configured('[]'), code: 2, says: [/RC1004 .* must be of type object/] },
  { name: 'null', args: ['compute'], ...configured('null'), code: 2, says: [/RC1004 .* must be of type object/] },
  {
    name: 'an unknown key',
    args: ['secrets', 'list'],
    ...configured('{ "bindngs": {} }'),
    code: 2,
    says: [/RC1003 .*plugins\.json:1:3 bindngs: unknown key\. Did you mean "bindings"\?/],
  },
  {
    name: 'a key with a terminal’s control codes',
    args: ['secrets', 'list'],
    ...configured('{ "a\\u001b[31m\\nb": {} }'),
    code: 2,
    says: [/RC1003 /, /unknown key/],
  },
  {
    name: 'an adapter misspelt',
    args: ['objects', 'ls'],
    ...configured(config({ ObjectStore: { adapter: 'local.sf' } })),
    code: 2,
    says: [/RC1102 .*plugins\.json:1:\d+ no adapter "local\.sf" for ObjectStore\. Did you mean "local\.fs"\?/],
  },
  {
    name: 'two faults',
    args: ['plugins', 'list'],
    ...configured(config({ ObjectStore: { adapter: 'a' }, Queue: { adapter: 'b' } })),
    code: 2,
    says: [/RC1102 .* "a" for ObjectStore/, /RC1102 .* "b" for Queue/],
  },
  {
    name: 'a plugin that is not there',
    args: ['plugins', 'list'],
    ...configured(config({}, { plugins: ['rollout.cloud-local', './nowhere'] })),
    code: 2,
    says: [/RC1106 .* plugin "\.\/nowhere": there is no folder/],
  },
  {
    name: 'a plugin that throws when it is imported',
    args: ['compute'],
    setUp: (place) => {
      const adapters = [{ id: 'bad.one', provides: 'ComputeHint@1' }];
      const manifest = { id: 'bad', version: '1.0.0', main: './index.mjs', contributes: { adapters } };
      place.write('bad/plugin.json', JSON.stringify(manifest));
      place.write('bad/index.mjs', 'throw new Error("no good");');
      const plugins = ['rollout.cloud-local', './bad'];
      place.write('plugins.json', config({ ComputeHint: { adapter: 'bad.one' } }, { plugins }));
    },
    code: 1,
    says: [/RC1301 plugin bad: importing \.\/index\.mjs failed: no good/],
  },
  {
    name: 'a value of the wrong type',
    args: ['queue', 'stats'],
    ...configured(config({ Queue: { adapter: 'local.in-mem', config: { maxAttempts: 'three' } } })),
    code: 2,
    says: [/RC1105 .*bindings\.Queue\.config\.maxAttempts must be of type integer, found a text/],
  },
  {
    name: 'an unknown key of an adapter',
    args: ['objects', 'ls'],
    ...configured(config({ ObjectStore: { adapter: 'local.fs', config: { roott: 'x' } } })),
    code: 2,
    says: [/RC1104 .*roott: unknown key\. Did you mean "root"\?/],
  },
  {
    name: 'a variable of the wrong type',
    args: ['compute'],
    env: { ROLLOUT_CLOUD__bindings: '1' },
    code: 2,
    says: [/RC1004 env ROLLOUT_CLOUD__bindings bindings must be of type object, found 1/],
  },
  {
    name: 'nested 100,000 deep',
    args: ['compute'],
    ...configured('['.repeat(100_000)),
    code: 2,
    says: [/RC1002 .*plugins\.json:1:101 arrays and objects are nested deeper than 100 levels/],
  },
  {
    name: 'a profile that is not there',
    args: ['--profile', 'x', 'compute'],
    code: 2,
    says: [/RC1006 .* there is no profile "x"\. The configuration has no profiles\./],
  },
  { name: '--set of a stranger', args: ['--set', '__proto__.x=1', 'compute'], code: 2, says: [/RC1003 .*__proto__/] },
  { name: '--set of a wrong type', args: ['--set', 'bindings=1', 'compute'], code: 2, says: [/RC1004 .* found 1/] },
];
