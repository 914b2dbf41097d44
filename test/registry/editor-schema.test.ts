/** What an editor makes of plugins.json: VS Code's own JSON service, driven with the schema that `plugins schema` writes. */
import { chmodSync, lstatSync, readFileSync, renameSync, statSync, symlinkSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { getLanguageService, TextDocument } from 'vscode-json-languageservice';
import { loadConfig } from '../../src/registry/config.js';
import { manifestSchema } from '../../src/registry/editor-schema.js';
import { installedSchema } from '../../src/registry/installed.js';
import { Place } from '../cli/support.js';
import { Workspace } from '../support/workspace.js';

let space: Workspace;
beforeEach(() => {
  space = new Workspace();
});
afterEach(async () => {
  await space[Symbol.asyncDispose]();
  Place.removeAll();
});

/** The only schema that a file's own `$schema` may lead to is the one that it is checked with. */
const service = (schema: object) => getLanguageService({ schemaRequestService: async () => JSON.stringify(schema) });

function open(schema: object, text: string) {
  const languageService = service(schema);
  languageService.configure({ schemas: [{ uri: 'test://schema', fileMatch: ['*'], schema }] });
  const at = text.indexOf('|');
  const document = TextDocument.create('test://plugins.json', 'jsonc', 1, text.replace('|', ''));
  return { languageService, document, json: languageService.parseJSONDocument(document), at };
}

/** What is offered at the mark `|`. */
async function offered(schema: object, text: string): Promise<string[]> {
  const { languageService, document, json, at } = open(schema, text);
  const found = await languageService.doComplete(document, document.positionAt(at), json);
  return (found?.items ?? []).map(({ label }) => label);
}

/** What is marked as wrong. */
async function marked(schema: object, text: string): Promise<string[]> {
  const { languageService, document, json } = open(schema, text);
  const found = await languageService.doValidation(document, json, { comments: 'ignore', trailingCommas: 'ignore' });
  return found.map(({ message, range }) => `${range.start.line + 1}:${range.start.character + 1} ${message}`);
}

const VAULT = {
  id: 'acme.vault',
  provides: 'SecretStore@1',
  description: 'Secrets in a vault.',
  features: ['list'],
  config: {
    required: ['url'],
    properties: {
      url: { type: 'string', description: 'Where it is.' },
      retries: { type: 'integer', default: 3 },
      mode: { enum: ['kv1', 'kv2'] },
    },
  },
};
const COUNT = { id: 'count', wraps: ['SecretStore@1'], config: { properties: { max: { type: 'integer' } } } };

/** The schema with a plugin of the user's beside the built-in ones. */
function schema(): object {
  const contributes = { adapters: [VAULT], middleware: [COUNT] };
  const use = space.plugin({ id: 'acme.vault', adapters: [VAULT], code: '', manifest: { contributes } });
  const config = space.write('plugins.json', { plugins: ['rollout.cloud-local', use], bindings: {} });
  return installedSchema(loadConfig({ config, env: {} }));
}

test('what stands in many places is written once, and in lines', () => {
  const text = JSON.stringify(schema(), null, 2);
  // With each capability's middleware and settings in full it was 1.3 MB.
  expect(text.length).toBeLessThan(300_000);
  for (const once of ['Where it is.', 'The name of a secret in the SecretStore.']) {
    expect(text.split(JSON.stringify(once))).toHaveLength(2);
  }
  const references = [...text.matchAll(/"\$ref": "#\/definitions\/([^"]+)"/g)].map(([, name]) => name);
  const { definitions } = JSON.parse(text) as { definitions: object };
  expect(new Set(references)).toEqual(new Set(Object.keys(definitions)));
});

describe('completion', () => {
  const secret = (inner: string) => `{ "bindings": { "SecretStore": { ${inner} } } }`;

  test.each([
    [
      'adapters of the capability, those of the user’s plugins, too',
      secret('"adapter": "|"'),
      ['"acme.vault"', '"local.env"'],
    ],
    ['… in a list of preference', secret('"adapter": ["|"]'), ['"acme.vault"', '"local.env"']],
    ['… and in an instance', secret('"instances": { "a": { "adapter": "|" } }'), ['"acme.vault"', '"local.env"']],
    [
      'the settings of the adapter that is named',
      secret('"adapter": "acme.vault", "config": { | }'),
      ['url', 'retries', 'mode'],
    ],
    ['the values of a setting', secret('"adapter": "acme.vault", "config": { "mode": "|" }'), ['"kv1"', '"kv2"']],
    [
      '… in an instance',
      secret('"instances": { "a": { "adapter": "acme.vault", "config": { | } } }'),
      ['url', 'retries', 'mode'],
    ],
    ['middleware of the capability', secret('"adapter": "acme.vault", "middleware": ["|"]'), ['"count"', '"retry"']],
    [
      'the settings of a middleware',
      secret('"adapter": "acme.vault", "middleware": [{ "use": "count", "config": { | } }]'),
      ['max'],
    ],
    ['features of the adapter', secret('"adapter": "acme.vault", "require": ["|"]'), ['"list"']],
    ['capabilities', '{ "bindings": { | } }', ['Storage', 'Queue', 'SecretStore']],
    ['plugins', '{ "plugins": ["|"] }', ['"rollout.cloud-local"', '"./plugins/acme.vault"']],
    [
      'adapters in a profile',
      '{ "profiles": { "test": { "bindings": { "Storage": { "adapter": "|" } } } } }',
      ['"local.memory"', '"local.sqlite"'],
    ],
    ['the fields of a binding', secret('|'), ['adapter', 'config', 'instances', 'middleware', 'optional']],
  ])('offers %s', async (_name, text, expected) => {
    expect(await offered(schema(), text)).toEqual(expect.arrayContaining(expected));
  });

  test('offers nothing of another capability’s', async () => {
    const all = await offered(schema(), secret('"adapter": "|"'));
    expect(all.filter((label) => label.startsWith('"'))).toEqual(['"local.env"', '"acme.vault"']);
    expect(await offered(schema(), secret('"adapter": "local.env", "config": { | }'))).toEqual(['allowlist']);
  });
});

describe('checking', () => {
  test('marks an unknown adapter, an unknown setting, a value of the wrong type', async () => {
    const text = `{
  "bindings": {
    "SecretStore": { "adapter": "acme.valt" },
    "Storage": { "adapter": "local.sqlite", "config": { "pathh": "x", "busyTimeoutMs": "long" } },
    "Stroage": { "adapter": "local.memory" }
  }
}`;
    expect(await marked(schema(), text)).toEqual([
      expect.stringMatching(/^3:33 Value is not accepted. Valid values: "local.env", "acme.vault"/),
      expect.stringMatching(/^4:88 Incorrect type. Expected "integer"/),
      expect.stringMatching(/^4:57 Property pathh is not allowed/),
      expect.stringMatching(/^5:5 Property Stroage is not allowed/),
    ]);
  });

  test('marks nothing of what the host takes', async () => {
    const text = `{
  // comments are fine
  "version": 1,
  "bindings": {
    "SecretStore": { "default": "a", "instances": {
      "a": { "adapter": "local.env", "config": { "allowlist": ["\${env:NAME}"] } },
      "b": { "adapter": "acme.vault", "config": { "url": { "$secret": "URL", "store": "a" }, "retries": "\${env:N:-3}" }, "middleware": ["count", { "use": "retry", "config": {} }] },
    } },
    "Storage": { "adapter": [{ "use": "local.sqlite", "config": { "path": "x" } }, "local.memory"], "optional": true },
  },
  "profiles": { "test": { "bindings": { "Storage": { "config": { "path": null } }, "Queue": null } } },
}`;
    expect(await marked(schema(), text)).toEqual([]);
  });

  test('of a plugin.json: unknown fields are marked, and fields offered', async () => {
    expect(
      await marked(
        manifestSchema(),
        '{ "id": "a", "version": "1.0.0", "main": "x", "contributes": {}, "activatoin": "x" }',
      ),
    ).toEqual([expect.stringContaining('activatoin')]);
    expect(await offered(manifestSchema(), '{ | }')).toEqual(
      expect.arrayContaining(['dependsOn', 'permissions', 'when']),
    );
    const own = readFileSync(new URL('../../src/adapters/cloud-local/plugin.json', import.meta.url), 'utf8');
    expect(await marked(manifestSchema(), own)).toEqual([]);
  });
});

describe('plugins schema', () => {
  test('writes the schema beside the file and points the file at it; comments and layout stay', async () => {
    const text = '{\n  // mine\n  "bindings": {}, // none yet\n}\n';
    const place = new Place(text);
    const ran = await place.run(['plugins', 'schema']);
    expect(ran).toMatchObject({ code: 0, stderr: '' });
    expect(ran.stdout.split('\n')[0]).toBe(place.path('plugins.schema.json'));
    const after = readFileSync(place.path('plugins.json'), 'utf8');
    expect(after).toContain('"$schema": "./plugins.schema.json"');
    expect(after).toContain('// mine');
    expect(after).toContain('"bindings": {}, // none yet');
    const written = JSON.parse(readFileSync(place.path('plugins.schema.json'), 'utf8'));
    expect(await marked(written, after)).toEqual([]);
    expect(await offered(written, '{ "bindings": { "Queue": { "adapter": "|" } } }')).toContain('"local.in-mem"');
    await place.run(['plugins', 'schema']);
    expect(readFileSync(place.path('plugins.json'), 'utf8')).toBe(after);
  });

  test('--stdout prints it and writes nothing; a binding that is wrong is no hindrance', async () => {
    const text = '{ "bindings": { "Queue": { "adapter": "none" } } }';
    const place = new Place(text);
    const { code, stdout } = await place.run(['plugins', 'schema', '--stdout']);
    expect(code).toBe(0);
    expect(JSON.parse(stdout).properties.bindings.properties).toHaveProperty('ObjectStore');
    expect(readFileSync(place.path('plugins.json'), 'utf8')).toBe(text);
  });

  test('a file that is a link stays one, and what nobody else may read stays so', async () => {
    const place = new Place('{ "bindings": {} }');
    renameSync(place.path('plugins.json'), place.path('real.json'));
    chmodSync(place.path('real.json'), 0o600);
    symlinkSync('real.json', place.path('plugins.json'));
    expect(await place.run(['plugins', 'schema'])).toMatchObject({ code: 0 });
    expect(lstatSync(place.path('plugins.json')).isSymbolicLink()).toBe(true);
    expect(readFileSync(place.path('real.json'), 'utf8')).toContain('"$schema"');
    expect(statSync(place.path('real.json')).mode & 0o777).toBe(0o600);
  });

  test('a plugin that is not there is told: what needs it would be marked in the editor', async () => {
    const place = new Place('{ "plugins": ["rollout.cloud-local", "@acme/none"] }');
    const { code, stderr } = await place.run(['plugins', 'schema', '--stdout']);
    expect(code).toBe(0);
    expect(stderr).toMatch(
      /^rollout-cloud: warning: not in the schema: RC1106 \S+plugins.json:1:38 plugin "@acme\/none" is not/,
    );
  });

  test('the one that the package ships is that of the built-in plugins', async () => {
    const shipped = JSON.parse(readFileSync(new URL('../../plugins.schema.json', import.meta.url), 'utf8'));
    const plugins = shipped.properties.plugins.items.examples as string[];
    expect(plugins).toContain('rollout.cloud-local');
    const made = JSON.parse(JSON.stringify(installedSchema(loadConfig({ config: { plugins, discover: [] } }))));
    expect(made).toEqual(shipped);
  });
});
