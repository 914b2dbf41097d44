/**
 * The files of a new plugin. Its adapter is whole from the first moment: each method forwards to a stand-in in memory, so
 * the contract's suite passes, and goes on passing while its author writes one method after the other.
 */
import { SCAFFOLD_CONTRACTS, type ScaffoldContract } from './contracts.js';

export interface Scaffold {
  /** Of the plugin, and of its adapter. */
  readonly id: string;
  readonly capability: string;
  /** `<capability>@<major>` */
  readonly provides: string;
  readonly language: 'ts' | 'js';
  /** Of this package, for the manifest's and package.json's ranges. */
  readonly version: string;
}

const CONTRACTS = 'rollout-cloud/contracts';
const TESTING = 'rollout-cloud/testing';

/** The text of each file, by its name. */
export function scaffoldFiles(scaffold: Scaffold): Readonly<Record<string, string>> {
  const { language } = scaffold;
  const contract = SCAFFOLD_CONTRACTS[scaffold.capability] as ScaffoldContract;
  return {
    'plugin.json': json(manifest(scaffold, contract)),
    'package.json': json(packageJson(scaffold)),
    ...(language === 'ts' && { 'tsconfig.json': json(TSCONFIG) }),
    [`index.${language}`]: adapter(scaffold, contract),
    [`index.test.${language}`]: test(scaffold, contract),
  };
}

/** `VaultSecretStore` for `acme.vault` and SecretStore. */
function className({ id, capability }: Scaffold): string {
  const last = id.slice(id.lastIndexOf('.') + 1);
  const words = (/^[a-z]/.test(last) ? last : `a.${id}`).split(/[.-]/);
  return words.map((word) => word.charAt(0).toUpperCase() + word.slice(1)).join('') + capability;
}

function manifest({ id, provides, language, version }: Scaffold, { features }: ScaffoldContract): object {
  return {
    id,
    version: '0.1.0',
    description: 'Forwards to a stand-in in memory until it is written.',
    engines: { 'rollout-cloud': `>=${version}` },
    main: language === 'ts' ? './dist/index.js' : './index.js',
    contributes: { adapters: [{ id, provides, features, config: { properties: {} } }] },
  };
}

function packageJson({ id, language, version }: Scaffold): object {
  const isTs = language === 'ts';
  return {
    name: id.replaceAll('.', '-'),
    version: '0.1.0',
    private: true,
    type: 'module',
    files: isTs ? ['plugin.json', 'dist'] : ['plugin.json', 'index.js'],
    scripts: {
      ...(isTs && { build: 'tsc -p .' }),
      test: isTs ? 'npm run -s build && node --test dist/index.test.js' : 'node --test index.test.js',
    },
    peerDependencies: { 'rollout-cloud': `>=${version}` },
    devDependencies: {
      'rollout-cloud': `^${version}`,
      ...(isTs && { '@types/node': '^20.17.0', typescript: '>=5.6.0' }),
    },
  };
}

const TSCONFIG = {
  compilerOptions: {
    target: 'ES2022',
    module: 'NodeNext',
    strict: true,
    declaration: true,
    rootDir: '.',
    outDir: 'dist',
    types: ['node'],
  },
  files: ['index.ts', 'index.test.ts'],
};

function adapter(scaffold: Scaffold, { methods, properties = {} }: ScaffoldContract): string {
  const { id, capability, language } = scaffold;
  const isTs = language === 'ts';
  const name = className(scaffold);
  const typed = (text: string) => (isTs ? text : '');
  const members = [
    ...Object.entries(properties).map(
      ([property, type]) => `  get ${property}()${typed(`: ${type}`)} {
    return this.#standIn.${property};
  }`,
    ),
    ...Object.entries(methods).map(([method, [parameters, answer]]) => {
      const names = namesOf(parameters);
      const given = isTs ? parameters : names.join(', ');
      return `  ${method}(${given})${typed(`: ${answer}`)} {
    return this.#standIn.${method}(${names.join(', ')});
  }`;
    }),
    ...('close' in methods
      ? [
          `  [Symbol.asyncDispose]()${typed(': Promise<void>')} {
    return this.close();
  }`,
        ]
      : []),
  ];
  const types = isTs ? typesOf([...Object.values(methods).flat(), ...Object.values(properties)]) : [];
  const others = types.filter((type) => type !== capability).map((type) => `type ${type}`);
  return `/**
 * ${id}: a ${capability}, to be written.
 *
 * Every method forwards to a stand-in, which keeps all it has in memory and forgets it with the process. Write them one
 * by one: what each has to do, and which errors it throws, the contract says (go to the definition of ${capability}), and
 * the suite (npm test) checks. Arguments have been checked when they get here. When nothing forwards any more, delete
 * the stand-in, and give the class what it stands on: a client, a path, from \`ctx.config\`.
 */
${importLine([...others, capability, 'definePlugin'], CONTRACTS)}

export class ${name}${typed(` implements ${capability}`)} {
  ${typed('readonly ')}#standIn${typed(`: ${capability}`)};

  constructor(standIn${typed(`: ${capability}`)}) {
    this.#standIn = standIn;
  }

${members.join('\n\n')}
}

export default definePlugin({
  adapters: {
    '${id}': async (ctx) => {
      ctx.logger.warn('${id} is a scaffold: it keeps what it has in memory');
      const { fake } = await import('${TESTING}');
      return new ${name}(fake(${capability}, { clock: ctx.clock }));
    },
  },
});
`;
}

function test(scaffold: Scaffold, { features, provision }: ScaffoldContract): string {
  const { capability } = scaffold;
  const name = className(scaffold);
  const imports = [...(provision?.imports === undefined ? [] : [provision.imports]), 'conformance', 'fake'];
  const before = provision?.before === undefined ? '' : `${provision.before}\n\n`;
  const options = provision?.options.map((option) => `      ${option},\n`).join('') ?? '';
  const list = features.map((feature) => `'${feature}'`).join(', ');
  const made =
    options === ''
      ? `new ${name}(fake(${capability}))`
      : `\n  new ${name}(\n    fake(${capability}, {\n${options}    }),\n  )`;
  return `/** What ${capability} means, asked of ${name}: every adapter of the contract runs the same suite. */
import { test } from 'node:test';
${importLine([capability], CONTRACTS)}
${importLine(imports, TESTING)}
${importLine([name], './index.js')}

${before}/** A fresh, empty instance. */
const open = () =>${options === '' ? ' ' : ''}${made};

// As plugin.json declares them: what is not declared is tested for its refusal.
for (const c of conformance(${capability}, { features: [${list}] })) {
  test(c.name, () => c.run(open));
}
`;
}

/** On one line where that fits, sorted by the names. */
function importLine(names: readonly string[], from: string): string {
  const plain = (name: string) => name.replace(/^type /, '').toLowerCase();
  const sorted = [...names].sort((a, b) => (plain(a) < plain(b) ? -1 : 1));
  const line = `import { ${sorted.join(', ')} } from '${from}';`;
  return line.length <= 100 ? line : `import {\n${sorted.map((name) => `  ${name},\n`).join('')}} from '${from}';`;
}

/** The names of `name: string, value?: string | SecretValue`. */
function namesOf(parameters: string): string[] {
  return [...parameters.matchAll(/(?:^|, )(\w+)\??:/g)].map(([, name = '']) => name);
}

/** The contracts' types that are named in these; those of the language and of Node are not among them. */
function typesOf(texts: readonly string[]): string[] {
  const names = texts.flatMap((text) => text.match(/\b[A-Z]\w+/g) ?? []);
  return [...new Set(names)].filter((name) => !GLOBAL_TYPES.has(name)).sort();
}

const GLOBAL_TYPES = new Set([
  'AbortSignal',
  'AsyncDisposable',
  'AsyncIterable',
  'Promise',
  'ReadableStream',
  'Uint8Array',
]);

function json(value: object): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}
