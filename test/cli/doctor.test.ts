/** `doctor`: a round trip for each bound instance, and what to do about one that fails. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { ObjectStore, Queue, Storage } from '../../src/contracts/index.js';
import { createHost } from '../../src/registry/index.js';
import { importModule } from '../support/import-module.js';
import { LOCAL, Place } from './support.js';

let place: Place;
beforeEach(() => {
  place = new Place();
});
afterEach(() => Place.removeAll());

interface Finding {
  status: string;
  capability: string;
  name: string;
  adapter: string;
  detail: string;
  advice?: string;
  latencyMs: number | null;
}

async function doctor(): Promise<{ code: number | null; stderr: string; findings: Record<string, Finding> }> {
  const { code, stdout, stderr } = await place.run(['doctor', '--json']);
  const { findings } = JSON.parse(stdout) as { findings: Finding[] };
  return { code, stderr, findings: Object.fromEntries(findings.map((f) => [`${f.capability}#${f.name}`, f])) };
}

/** Adds a plugin with these adapters, each with the code of its factory, and binds them. */
function bindPlugin(
  adapters: Record<string, { provides: string; factory: string; config?: object }>,
  bindings: object,
): void {
  const list = Object.entries(adapters).map(([id, { provides, config }]) => ({ id, provides, config }));
  place.write(
    'odd/plugin.json',
    JSON.stringify({ id: 'odd', version: '1.0.0', main: './index.mjs', contributes: { adapters: list } }),
  );
  const factories = Object.entries(adapters).map(([id, { factory }]) => `${JSON.stringify(id)}: ${factory}`);
  place.write(
    'odd/index.mjs',
    `export default { [Symbol.for('rollout-cloud/plugin')]: true, adapters: { ${factories.join(',\n')} } };`,
  );
  const plugins = ['rollout.cloud-local', './odd'];
  place.write('plugins.json', JSON.stringify({ plugins, bindings: { ...LOCAL.bindings, ...bindings } }));
}

test('a plugin that cannot be used and that nothing needs is a warning, with what to do', async () => {
  place.write('plugins/new/plugin.json', '{ "id": "new", "version": "1.0.0", "main": "./x.js", "contributes": {} }');
  const told = await place.run(['doctor']);
  expect(told.code).toBe(0);
  expect(told.stdout).toMatch(
    /^warn +new +plugin +- +main "\.\/x\.js" is not there; build the plugin first\n +-> mend it in .*plugins\/new, or leave it out/m,
  );
  expect(told.stdout).toMatch(/\d ok, 2 warnings, 0 failed/);
  const { plugins } = JSON.parse((await place.run(['doctor', '--json'])).stdout) as { plugins: object[] };
  expect(plugins).toEqual([
    expect.objectContaining({ plugin: 'new', detail: expect.stringContaining('is not there') }),
  ]);
});

describe('a healthy configuration', () => {
  test('each instance answers a real round trip; an unset secret is a warning, not a failure', async () => {
    const { code, stderr, findings } = await doctor();
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(findings['Storage#default']).toMatchObject({
      status: 'ok',
      adapter: 'local.sqlite',
      detail: expect.stringContaining('write, read, delete, ping; a commit survives a power cut'),
      latencyMs: expect.any(Number),
    });
    expect(findings['ObjectStore#default']).toMatchObject({
      status: 'ok',
      detail: expect.stringMatching(/^put, get verified, delete; a put survives a power cut; BLAKE3 by /),
    });
    expect(findings['Queue#default']).toMatchObject({
      status: 'ok',
      detail: expect.stringContaining('enqueue, lease, ack on a queue of its own; 0 pending'),
    });
    expect(findings['SecretStore#default']).toMatchObject({
      status: 'warn',
      detail: 'TOUR_TEST_SET not set, TOUR_TEST_UNSET not set',
      advice: expect.any(String),
    });
    expect(findings['ComputeHint#default']).toMatchObject({
      status: 'ok',
      detail: expect.stringContaining('GiB memory'),
    });
    expect(Object.keys(findings)).toHaveLength(5);
  });

  test('leaves no item, object or value behind and takes no item of the user’s', async () => {
    const host = () => createHost({ config: place.path('plugins.json'), importModule });
    const before = await host();
    await (await before.get(Queue)).enqueue(Buffer.from('mine'));
    await before.stop();
    expect((await doctor()).findings['Queue#default']?.detail).toContain('1 pending');
    const after = await host();
    expect((await (await after.get(Queue)).dequeue())?.attempts).toBe(1);
    const ids = [];
    for await (const id of (await after.get(ObjectStore)).list()) ids.push(id);
    expect(ids).toEqual([]);
    const entries = [];
    for (const namespace of ['rollout_doctor', 'cloudlocal_queue.rollout_doctor_0']) {
      for await (const entry of (await after.get(Storage)).scan({ prefix: { namespace, path: [] } }))
        entries.push(entry);
    }
    expect(entries).toEqual([]);
    await after.stop();
  });

  test('for people: one line each, and a summary', async () => {
    const { code, stdout } = await place.run(['doctor'], { tty: true, env: { NO_COLOR: '1' } });
    expect(code).toBe(0);
    expect(stdout).toMatch(/^ok +Storage#default +local\.sqlite +[\d.]+ ms +write/m);
    expect(stdout).toMatch(/^warn +SecretStore#default .*\n +-> set what is not set/m);
    expect(stdout).toContain('4 ok, 1 warning, 0 failed');
    expect(stdout).not.toContain('\x1b[');
  });

  test('colours on a terminal', async () => {
    expect((await place.run(['doctor'], { tty: true })).stdout).toContain('\x1b[32mok\x1b[39m');
    expect((await place.run(['doctor'])).stdout).not.toContain('\x1b[');
    expect((await place.run(['doctor'], { env: { FORCE_COLOR: '1' } })).stdout).toContain('\x1b[32mok\x1b[39m');
  });
});

describe('a failing instance', () => {
  test('is told with what to do, exit 1, and does not stop the others', async () => {
    place.write('a-file', '');
    place.write(
      'plugins.json',
      JSON.stringify({
        bindings: { ...LOCAL.bindings, ObjectStore: { adapter: 'local.fs', config: { root: './a-file/below' } } },
      }),
    );
    const { code, findings } = await doctor();
    expect(code).toBe(1);
    expect(findings['ObjectStore#default']).toMatchObject({
      status: 'fail',
      detail: expect.stringContaining('ENOTDIR'),
      advice: 'change the configuration, or what it names',
      latencyMs: null,
    });
    expect(findings['Queue#default']?.status).toBe('ok');
    expect(findings['ComputeHint#default']?.status).toBe('ok');
  });

  test('what needs it says so, and what to mend first', async () => {
    bindPlugin(
      {
        'odd.storage': { provides: 'Storage@1', factory: `() => { throw new Error('no disk in slot 2') }` },
      },
      { Storage: { adapter: 'odd.storage' } },
    );
    const { code, findings } = await doctor();
    expect(code).toBe(1);
    expect(findings['Storage#default']).toMatchObject({
      status: 'fail',
      state: 'failed',
      detail: expect.stringContaining('no disk in slot 2'),
      advice: expect.stringContaining('see that what it connects to answers'),
    });
    expect(findings['Queue#default']).toMatchObject({
      status: 'fail',
      detail: 'it needs Storage#default, which fails',
      advice: 'mend Storage#default first',
    });
    expect(findings['ObjectStore#default']?.status).toBe('ok');
  });

  test('what fails for the same reason and needs nothing of the other says the reason', async () => {
    place.write('a-file', '');
    const bindings = {
      ...LOCAL.bindings,
      Storage: { adapter: 'local.sqlite', config: { path: './a-file/below/tmp/rollout.db' } },
      ObjectStore: { adapter: 'local.fs', config: { root: './a-file/below' } },
    };
    place.write('plugins.json', JSON.stringify({ bindings }));
    const { findings } = await doctor();
    expect(findings['Storage#default']?.detail).toContain('a-file/below/tmp: ENOTDIR');
    expect(findings['ObjectStore#default']?.detail).toBe(findings['Storage#default']?.detail);
    expect(findings['Queue#default']?.detail).toBe('it needs Storage#default, which fails');
  });

  test('one that answers, and says itself that it is not well, is a warning with its reason', async () => {
    const serve = `enumerate: async () => ({ gpus: [], source: 'none', reason: 'none here', driverVersion: null })`;
    bindPlugin(
      {
        'odd.gpu': {
          provides: 'GpuEnumerator@1',
          factory: `() => ({ ${serve}, health: async () => ({ status: 'degraded', reason: 'one replica of three' }) })`,
        },
        'odd.vault': { provides: 'odd/Vault@2', factory: '() => ({})' },
      },
      { GpuEnumerator: { adapter: 'odd.gpu' } },
    );
    const { code, findings } = await doctor();
    expect(code).toBe(0);
    expect(findings['GpuEnumerator#default']).toMatchObject({
      status: 'warn',
      state: 'degraded',
      detail: 'degraded: one replica of three',
      advice: 'it serves, but not as it should: mend what it names',
    });
    expect(findings['odd/Vault#default']).toMatchObject({ status: 'ok', state: 'active' });
  });

  test('one that lies is found out', async () => {
    bindPlugin(
      {
        'odd.store': {
          provides: 'ObjectStore@1',
          factory: `() => ({
            putBytes: async () => '0'.repeat(64), putStream: async () => '0'.repeat(64),
            getBytes: async () => new Uint8Array(3), getStream: async () => new ReadableStream(),
            exists: async () => true, stat: async () => null, delete: async () => true, async *list() {} })`,
        },
        'odd.secrets': {
          provides: 'SecretStore@1',
          factory: `() => ({ get: async () => { throw new TypeError('no vault') }, put: async () => {}, names: async () => ['A'] })`,
        },
      },
      { ObjectStore: { adapter: 'odd.store' }, SecretStore: { adapter: 'odd.secrets' } },
    );
    const { code, findings } = await doctor();
    expect(code).toBe(1);
    expect(findings['ObjectStore#default']).toMatchObject({
      status: 'fail',
      detail: 'read back other bytes than were written',
    });
    expect(findings['SecretStore#default']).toMatchObject({ status: 'fail', detail: 'A unknown (no vault)' });
  });

  test('--verbose prints the stack on stderr; the summary counts it', async () => {
    bindPlugin(
      {
        'odd.gpu': {
          provides: 'GpuEnumerator@1',
          factory: `() => ({ enumerate: async () => { throw new TypeError('lost') } })`,
        },
      },
      { GpuEnumerator: { adapter: 'odd.gpu' } },
    );
    const { code, stdout, stderr } = await place.run(['doctor', '--verbose']);
    expect(code).toBe(1);
    expect(stdout).toMatch(/fail +GpuEnumerator#default +odd\.gpu .* lost\n +-> a defect of the adapter/);
    expect(stdout).toContain('1 failed');
    expect(stderr).toMatch(/TypeError: lost\n\s+at /);
  });

  test('one that cannot be stopped: exit 1, told on stderr', async () => {
    const factory = `() => ({ enumerate: async () => ({ gpus: [], source: 'none', reason: 'none here', driverVersion: null }),
      close: async () => { throw new Error('will not close') } })`;
    bindPlugin({ 'odd.gpu': { provides: 'GpuEnumerator@1', factory } }, { GpuEnumerator: { adapter: 'odd.gpu' } });
    const { code, stderr, findings } = await doctor();
    expect(findings['GpuEnumerator#default']).toMatchObject({ status: 'ok', detail: 'no gpus: none here' });
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining('will not close') });
  });
});

test('a signal ends it after the probe under way: exit 1', async () => {
  const stop = new AbortController();
  stop.abort();
  const { code, stdout } = await place.run(['doctor', '--json'], { signal: stop.signal });
  expect({ code, findings: JSON.parse(stdout).findings }).toEqual({ code: 1, findings: [] });
});

describe('instances that are not like the others', () => {
  /** What a queue has to have, and the doctor does not call. */
  const UNUSED = [
    'enqueueMany',
    'dequeueWithLease',
    'dequeueMany',
    'receive',
    'extendLease',
    'nack',
    'deadLetters',
    'requeue',
  ];

  test('a queue in use by another process is a warning that names the process', async () => {
    const host = await createHost({ config: place.path('plugins.json'), importModule });
    await host.get(Queue);
    const { code, stdout } = await place.program(['doctor', '--json']);
    await host.stop();
    const finding = JSON.parse(stdout).findings.find((f: Finding) => f.capability === 'Queue');
    expect(finding).toMatchObject({ status: 'warn', detail: expect.stringContaining(String(process.pid)) });
    expect(code).toBe(0);
  });

  test('a queue of the doctor’s own has the settings of the one it stands for, those that are never shown included', async () => {
    const factory = `({ config }) => {
      if (config.token !== 's3cr3t') throw new Error('a wrong token');
      const items = [];
      const id = '01ARZ3NDEKTSV4RRFFQ69G5FAV';
      return { ${UNUSED.map((name) => `${name}() {}`).join(', ')}, close: async () => {}, purge: async () => 0, ack: async () => {},
        enqueue: async (payload) => { items.push(payload); return id; },
        dequeue: async () => ({ id, payload: items.pop(), attempts: 1, token: null, leaseMs: null }),
        stats: async () => ({ pending: 0, inFlight: 0, deadLetters: 0 }) };
    }`;
    const config = { properties: { name: { type: 'string' }, token: { type: 'string', sensitive: true } } };
    const binding = { adapter: 'odd.queue', config: { token: 's3cr3t' } };
    bindPlugin({ 'odd.queue': { provides: 'Queue@1', factory, config } }, { Queue: binding });
    const { findings } = await doctor();
    expect(findings['Queue#default']).toMatchObject({
      status: 'ok',
      detail: expect.stringContaining('a queue of its own'),
    });
    expect(JSON.stringify(findings)).not.toContain('s3cr3t');
  });

  test('an adapter whose queue cannot be named is asked for its stats only', async () => {
    const stats = `async () => ({ pending: 7, delayed: 0, inFlight: 0, deadLetters: 1, oldestPendingAgeMs: null, enqueuedTotal: 0,
      ackedTotal: 0, nackedTotal: 0, expiredTotal: 0, durability: 'off', payloadBytesMax: 1, bytesInMemory: 0, bytesInStorage: 0 })`;
    const rest = [
      'enqueue',
      'enqueueMany',
      'dequeue',
      'dequeueWithLease',
      'dequeueMany',
      'receive',
      'extendLease',
      'ack',
      'nack',
    ]
      .concat(['deadLetters', 'requeue', 'purge', 'close'])
      .map((name) => `${name}: async () => { if ('${name}' !== 'close') throw new Error('touched by ${name}') }`);
    const factory = `() => ({ stats: ${stats}, ${rest.join(', ')} })`;
    bindPlugin({ 'odd.queue': { provides: 'Queue@1', factory } }, { Queue: { adapter: 'odd.queue' } });
    const { code, findings } = await doctor();
    expect(code).toBe(0);
    expect(findings['Queue#default']).toMatchObject({ status: 'ok', detail: expect.stringContaining('stats only') });
    expect(findings['Queue#default']?.detail).toContain('7 pending, 0 in flight, 1 dead letter');
  });

  test('a queue without leases is probed without', async () => {
    const factory = `({ config }) => {
      const items = [];
      return {
        enqueue: async (payload) => { const id = '01ARZ3NDEKTSV4RRFFQ69G5FAV'; items.push({ id, payload, attempts: 1, token: null, leaseMs: null }); return id; },
        dequeue: async () => items.shift() ?? null, ack: async () => {}, purge: async () => items.splice(0).length,
        stats: async () => ({ pending: items.length, inFlight: 0, deadLetters: 0 }),
        ${[...UNUSED, 'close'].map((name) => `${name}: async () => {}`).join(', ')}
      };
    }`;
    const config = { properties: { name: { type: 'string' } } };
    bindPlugin({ 'odd.queue': { provides: 'Queue@1', factory, config } }, { Queue: { adapter: 'odd.queue' } });
    const { findings } = await doctor();
    expect(findings['Queue#default']).toMatchObject({
      status: 'ok',
      detail: expect.stringContaining('enqueue, dequeue, ack'),
    });
  });

  test('a capability that a plugin brings is activated and no more', async () => {
    bindPlugin(
      { 'odd.clock': { provides: 'odd/Clock@1', factory: '() => ({ now: () => 0 })' } },
      { 'odd/Clock': { adapter: 'odd.clock' } },
    );
    expect((await doctor()).findings['odd/Clock#default']).toMatchObject({
      status: 'ok',
      detail: expect.stringContaining('activates'),
    });
  });
});
