/**
 * Two plugins that somebody wrote elsewhere, in a project that has the package installed: one runs in the host's process,
 * one in its own. The second does everything a plugin should not; the host carries on, and says so each time.
 */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { VAULT } from './apps.js';
import { InstalledPackage } from './installed.js';

/** An ObjectStore that holds one object, and a `delete` of an id that starts with a letter misbehaves in its own way. */
const ROGUE = {
  'plugins/rogue/plugin.json': {
    id: 'acme.rogue',
    version: '1.0.0',
    engines: { 'rollout-cloud': '>=0.1.0' },
    main: './src/index.js',
    run: 'process',
    permissions: { fs: { write: ['./rogue-data'] }, env: ['ROGUE_LEVEL'] },
    contributes: {
      adapters: [
        {
          id: 'acme.rogue',
          provides: 'ObjectStore@1',
          requires: ['SecretStore'],
          timeouts: { disposeMs: 1_000 },
        },
      ],
    },
  },
  'plugins/rogue/src/index.js': `
    import { writeFileSync, mkdirSync } from 'node:fs';
    import { definePlugin, FatalError, SecretStore } from 'rollout-cloud/contracts';
    const MISDEEDS = {
      c: () => process.abort(),
      d: () => writeFileSync('./stolen.txt', 'x'),
      e: () => { throw new FatalError('Internal', JSON.stringify(Object.keys(process.env))); },
      f: () => 'yes',
      a: () => { for (;;); },
    };
    export default definePlugin({
      adapters: {
        'acme.rogue': async (ctx) => {
          const secret = await (await ctx.get(SecretStore)).get('token');
          mkdirSync('./rogue-data', { recursive: true });
          writeFileSync('./rogue-data/started', secret.reveal());
          console.log('noise on stdout', secret);
          return {
            putBytes: async (bytes) => (bytes.length === 0 ? process.pid : '0'.repeat(64)),
            getStream: async () => new ReadableStream({
              start(controller) { for (const text of ['one', 'two']) controller.enqueue(Buffer.from(text)); controller.close(); },
            }),
            getBytes: async () => Buffer.from('one'), putStream: async (source) => { for await (const _ of source); return '0'.repeat(64); },
            exists: async () => true, stat: async () => null,
            list: async function* () { yield '0'.repeat(64); },
            delete: async (id) => MISDEEDS[id[0]]?.() ?? true,
          };
        },
      },
    });`,
};

const CONFIG = {
  plugins: ['rollout.cloud-local', './plugins/vault', './plugins/rogue'],
  bindings: {
    SecretStore: { adapter: 'acme.vault', config: { prefix: 'vault:' } },
    ObjectStore: { adapter: 'acme.rogue' },
    Storage: { adapter: 'local.memory' },
  },
};

/** Prints a line of JSON for each thing that happened. */
const APP = `
  import { createHost, ObjectStore, SecretStore } from 'rollout-cloud';
  const tell = (...what) => console.log(JSON.stringify(what));
  const logger = Object.fromEntries(['debug', 'info', 'warn', 'error'].map((level) => [level, (text) => tell(level, text)]));
  const host = await createHost({ config: 'rogue.json', logger });
  host.on('instance', ({ instance, to, reason }) => to === 'degraded' && tell('event', instance, to, reason));
  const store = await host.get(ObjectStore);
  const secrets = await host.get(SecretStore);
  const id = (letter) => letter + '0'.repeat(63);
  const outcomeOf = (call) =>
    call.then((value) => ['answered', value], ({ kind, code, message }) => ['refused', kind, code, message]);
  const attempt = async (what, work) => {
    tell(what, ...(await outcomeOf(work())));
    // The other plugin, and the host, are as well as ever.
    if ((await secrets.get('token')).reveal() !== 'vault:token') throw new Error('the other plugin suffered');
  };
  const pid = async () => Number((await store.putBytes(new Uint8Array()).catch((e) => e.message.match(/answered (\\d+)/)))[1]);
  await attempt('well', () => store.delete(id('0')));
  const chunks = [];
  for await (const chunk of await store.getStream(id('0'))) chunks.push(Buffer.from(chunk).toString());
  tell('stream', chunks);
  await attempt('writes where it may not', () => store.delete(id('d')));
  await attempt('reads a variable it was not given', () => store.delete(id('e')));
  await attempt('answers the wrong shape', () => store.delete(id('f')));
  await attempt('crashes', () => store.delete(id('c')));
  await attempt('is killed', async () => {
    const victim = await pid();
    const call = new Promise((resolve) => setTimeout(resolve, 0)).then(() => process.kill(victim, 'SIGKILL'));
    const hanging = store.putStream((async function* () { await new Promise(() => {}); })());
    await call;
    return hanging;
  });
  await attempt('well again', () => store.delete(id('0')));
  // It hangs in a call; the host stops all the same.
  const victim = await pid();
  const hanging = outcomeOf(store.delete(id('a'))).then((outcome) => tell('hangs', ...outcome));
  await new Promise((resolve) => setTimeout(resolve, 100));
  const { stopped, errors } = await host.stop();
  await hanging;
  let alive = true;
  try { process.kill(victim, 0); } catch { alive = false; }
  tell('stopped', stopped, errors.map(({ instance }) => instance), alive);`;

let app: InstalledPackage;

beforeAll(() => {
  app = new InstalledPackage();
  for (const [name, content] of Object.entries({ ...VAULT, ...ROGUE, 'rogue.json': CONFIG })) app.write(name, content);
});

afterAll(() => app.remove());

describe('one plugin in the host, one in a process of its own', () => {
  test('the second crashes, is killed, hangs and misbehaves; the host carries on, and says so each time', async () => {
    process.env.ROGUE_LEVEL = '11';
    const printed = await app.module('app-rogue.js', APP);
    delete process.env.ROGUE_LEVEL;
    const lines = printed
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as unknown[]);
    const of = (what: string) => lines.filter(([first]) => first === what).map(([, ...rest]) => rest);
    const text = expect.stringContaining;

    expect(of('well')).toEqual([['answered', true]]);
    expect(of('stream')).toEqual([[['one', 'two']]]);
    expect(of('writes where it may not')).toEqual([
      ['refused', 'PluginContract', 'PERMISSION_DENIED', text('denied FileSystemWrite')],
    ]);
    expect(of('reads a variable it was not given')).toEqual([['refused', 'Internal', 'INTERNAL', '["ROGUE_LEVEL"]']]);
    expect(of('answers the wrong shape')).toEqual([
      [
        'refused',
        'PluginContract',
        'ANSWER_INVALID',
        text('delete() answered text; the contract asks for true or false'),
      ],
    ]);
    expect(of('crashes')).toEqual([['refused', 'Transient', 'PLUGIN_CRASHED', text('was killed by SIGABRT')]]);
    expect(of('is killed')).toEqual([['refused', 'Transient', 'PLUGIN_CRASHED', text('was killed by SIGKILL')]]);
    expect(of('well again')).toEqual([['answered', true]]);
    expect(of('hangs')).toEqual([['refused', 'Internal', 'CLOSED', expect.any(String)]]);

    expect(of('error').map(([line]) => line)).toEqual([
      text('plugin acme.rogue: its process was killed by SIGABRT; the next call starts it again (crash 1 of 3'),
      text('plugin acme.rogue: its process was killed by SIGKILL; the next call starts it again (crash 2 of 3'),
      text('ObjectStore#default did not stop cleanly'),
      text('plugin acme.rogue did not stop cleanly'),
    ]);
    expect(of('event').map(([instance, to]) => [instance, to])).toEqual([
      ['ObjectStore#default', 'degraded'],
      ['ObjectStore#default', 'degraded'],
    ]);
    expect(of('info')).toContainEqual(['plugin acme.rogue: noise on stdout [redacted]']);
    expect(of('stopped')).toEqual([
      [['ObjectStore#default', 'SecretStore#default'], ['ObjectStore#default', 'plugin acme.rogue'], false],
    ]);
    expect(readFileSync(`${app.folder}/rogue-data/started`, 'utf8')).toBe('vault:token');
  });

  test('an idle one does not keep a program that is done from ending, and ends with it', async () => {
    const pid = await app.module(
      'app-idle.js',
      `import { createHost, ObjectStore } from 'rollout-cloud';
       const host = await createHost({ config: 'rogue.json', logger: { debug() {}, info() {}, warn() {}, error() {} } });
       const store = await host.get(ObjectStore);
       console.log((await store.putBytes(new Uint8Array()).catch((e) => e.message.match(/answered (\\d+)/)))[1]);`,
    );
    await gone(Number(pid));
  });

  test('it does not outlive a host that is killed', async () => {
    const file = app.write(
      'app-killed.js',
      `import { createHost, ObjectStore } from 'rollout-cloud';
       const host = await createHost({ config: 'rogue.json', logger: { debug() {}, info() {}, warn() {}, error() {} } });
       const store = await host.get(ObjectStore);
       console.log((await store.putBytes(new Uint8Array()).catch((e) => e.message.match(/answered (\\d+)/)))[1]);
       setInterval(() => {}, 1_000);`,
    );
    const { NODE_OPTIONS: _, ...env } = process.env;
    const host = spawn(process.execPath, [file], { cwd: app.folder, env, stdio: ['ignore', 'pipe', 'inherit'] });
    const [line] = (await createInterface(host.stdout)[Symbol.asyncIterator]().next()).value.split(' ');
    expect(isAlive(Number(line))).toBe(true);
    host.kill('SIGKILL');
    await gone(Number(line));
  });
});

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

async function gone(pid: number): Promise<void> {
  for (let i = 0; i < 500 && isAlive(pid); i++) await new Promise((resolve) => setTimeout(resolve, 10));
  expect(isAlive(pid)).toBe(false);
}
