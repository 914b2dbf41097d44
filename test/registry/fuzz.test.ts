/**
 * Whatever stands in plugins.json or a manifest, planning ends with a plan, or with problems of which each has a code, a
 * place and a sentence. Cases are drawn from a seed; `ROLLOUT_FUZZ_CASES=100000 npm test -- test/registry/fuzz` draws more.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { isCoreError } from '../../src/contracts/errors.js';
import { loadConfig } from '../../src/registry/config.js';
import { discover } from '../../src/registry/discovery.js';
import { makePlan } from '../../src/registry/plan.js';
import type { Problem } from '../../src/registry/problems.js';
import { Workspace } from '../support/workspace.js';

/** Of both kinds of file together. */
const CASES = Number(process.env.ROLLOUT_FUZZ_CASES ?? 2_000);
const SEED = Number(process.env.ROLLOUT_FUZZ_SEED ?? 20_260_131);

const CONFIG = `{
  // a comment
  "$schema": "./plugins.schema.json", "version": 1, "discover": ["folder"],
  "plugins": ["rollout.cloud-local", { "use": "./p", "optional": true, "enabled": true, "replace": false }],
  "bindings": {
    "Storage": { "adapter": ["local.sqlite", { "use": "local.memory" }], "config": { "path": "\${env:HOME:-x}/db", "busyTimeoutMs": 5 } },
    "ObjectStore": { "default": "a", "instances": { "a": { "adapter": "local.fs", "config": { "root": "x" }, "require": ["range"] } } },
    "Queue": { "adapter": "local.in-mem", "middleware": ["retry", { "use": "timeout", "config": {}, "enabled": false }], "onFailure": "continue" },
    "SecretStore": { "default": "a", "instances": {
      "a": { "adapter": "p.one", "config": { "url": { "$secret": "a", "store": "b" } }, "optional": true, "enabled": true },
      "b": { "adapter": "local.env" } } }
  },
  "profiles": { "test": { "bindings": { "Queue": null } } },
}`;

const MANIFEST = JSON.stringify({
  id: 'acme.p',
  version: '1.0.0',
  displayName: 'P',
  engines: { 'rollout-cloud': '>=0.1.0', node: '>=18' },
  main: './index.mjs',
  when: { platform: [process.platform], arch: [process.arch], env: ['PATH'] },
  dependsOn: ['rollout.cloud-local@>=0.1.0'],
  optionalDependsOn: ['none'],
  activation: 'onStartup',
  run: 'inprocess',
  permissions: { fs: { read: ['x'] }, network: false, env: ['A'] },
  contributes: {
    adapters: [
      {
        id: 'p.one',
        provides: 'SecretStore@1',
        features: ['list'],
        requires: ['Storage?', 'GpuEnumerator*'],
        packages: { sdk: '^7.0.0' },
        config: { properties: { url: { type: 'string', format: 'path', default: 'x' }, n: { type: 'integer' } } },
        timeouts: { activateMs: 5 },
      },
    ],
    middleware: [{ id: 'p.layer', wraps: ['*'], config: {} }],
    capabilities: [{ id: 'acme.p/Notes@1' }],
  },
});

/** Words that mean something in one of the files: noise made of them gets further than noise. */
const WORDS = [...new Set([...`${CONFIG}${MANIFEST}`.matchAll(/[\w$./@^{}:*?-]{2,}/g)].map(([word]) => word))];
const TOKENS = [
  ...WORDS.map((word) => JSON.stringify(word)),
  '{',
  '}',
  '[',
  ']',
  ',',
  ':',
  'null',
  'true',
  '0',
  '-1e999',
  '1e9',
  '"',
  '\\',
  '//',
  '/*',
  '\u2028',
  '\0',
  '"\\ud800"',
  '${env:',
  '"__proto__"',
  '"constructor"',
];

const scalar = fc.oneof(
  fc.constantFrom(...WORDS),
  fc.string(),
  fc.integer(),
  fc.double(),
  fc.boolean(),
  fc.constant(null),
);
const json = fc.letrec((tie) => ({
  value: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    scalar,
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(fc.oneof(fc.constantFrom(...WORDS), fc.string()), tie('value'), {
      maxKeys: 5,
      noNullPrototype: true,
    }),
  ),
})).value;

type Edit = readonly [at: number, cut: number, put: string];
const edits = fc.array(
  fc.tuple(
    fc.double({ min: 0, max: 1, noNaN: true }),
    fc.nat({ max: 30 }),
    fc.oneof(fc.constantFrom(...TOKENS), fc.constant(''), fc.string({ maxLength: 5 })),
  ),
  { minLength: 1, maxLength: 4 },
);
const edited = (text: string, all: readonly Edit[]) =>
  all.reduce((now, [at, cut, put]) => {
    const from = Math.floor(at * now.length);
    return now.slice(0, from) + put + now.slice(from + cut);
  }, text);

/** A valid document, in which one value at some depth is another. */
function replaced(document: unknown, steps: readonly number[], value: unknown): unknown {
  if (steps.length === 0 || typeof document !== 'object' || document === null) return value;
  const keys = Object.keys(document);
  if (keys.length === 0) return value;
  const [step = 0, ...rest] = steps;
  const key = keys[step % keys.length] as string;
  const copy = structuredClone(document) as Record<string, unknown>;
  copy[key] = replaced(copy[key], rest, value);
  return copy;
}

/** Bytes of a file, for a valid text. */
const contents = (valid: string, document: unknown) =>
  fc.oneof(
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)) },
    {
      weight: 1,
      arbitrary: fc.array(fc.constantFrom(...TOKENS), { maxLength: 40 }).map((all) => Buffer.from(all.join(' '))),
    },
    { weight: 2, arbitrary: json.map((value) => Buffer.from(JSON.stringify(value) ?? '')) },
    { weight: 3, arbitrary: edits.map((all) => Buffer.from(edited(valid, all))) },
    {
      weight: 3,
      arbitrary: fc
        .tuple(fc.array(fc.nat({ max: 20 }), { maxLength: 6 }), json)
        .map(([steps, value]) => Buffer.from(JSON.stringify(replaced(document, steps, value)))),
    },
  );

let space: Workspace;
beforeAll(() => {
  space = new Workspace();
  space.write('node_modules/sdk/package.json', { name: 'sdk', version: '7.1.0' });
  mkdirSync(space.path('p'));
  writeFileSync(space.path('p/index.mjs'), '');
  writeFileSync(space.path('p/plugin.json'), MANIFEST);
  writeFileSync(space.path('plugins.json'), CONFIG);
});
afterAll(() => space[Symbol.asyncDispose]());

/** The problems of the files as they stand; none where there is a plan. */
function problems(): readonly Problem[] {
  try {
    const config = loadConfig({ config: space.path('plugins.json'), env: { PATH: '/bin' } });
    makePlan(config, discover(config));
    return [];
  } catch (error) {
    if (!isCoreError(error) || error.kind !== 'ConfigInvalid') throw error;
    return error.context.problems as readonly Problem[];
  }
}

/** Draws cases for one file, and puts back what was there. */
function fuzz(file: string, valid: string, document: unknown): { refused: number } {
  let refused = 0;
  fc.assert(
    fc.property(contents(valid, document), (bytes) => {
      writeFileSync(space.path(file), bytes);
      const told = problems();
      if (told.length > 0) refused += 1;
      for (const { code, place, message } of told) {
        expect(code).toMatch(/^RC1[01]\d\d$|^RC12\d\d$/);
        expect(place).toEqual(expect.objectContaining({ source: expect.stringMatching(/./) }));
        expect(message).toMatch(/^.{10}/s);
      }
    }),
    { numRuns: CASES / 2, seed: SEED },
  );
  writeFileSync(space.path(file), valid);
  return { refused };
}

describe(`of ${CASES.toLocaleString('en-US')} files each ends with a plan or with located problems`, () => {
  test('what they are made from is valid', () => {
    expect(problems()).toEqual([]);
  });

  const without = (text: string) => JSON.parse(text.replace(/\/\/.*$/gm, '').replace(/,(\s*\})/g, '$1'));

  test('plugins.json', () => {
    const { refused } = fuzz('plugins.json', CONFIG, without(CONFIG));
    // Both ends are reached.
    expect(refused).toBeGreaterThan(CASES / 10);
    expect(refused).toBeLessThan(CASES / 2);
  }, 600_000);

  test('plugin.json', () => {
    writeFileSync(
      space.path('plugins.json'),
      JSON.stringify({ plugins: ['rollout.cloud-local', './p'], bindings: { SecretStore: { adapter: 'p.one' } } }),
    );
    expect(problems()).toEqual([]);
    const { refused } = fuzz('p/plugin.json', MANIFEST, JSON.parse(MANIFEST));
    expect(refused).toBeGreaterThan(CASES / 10);
    expect(refused).toBeLessThan(CASES / 2);
  }, 600_000);
});
