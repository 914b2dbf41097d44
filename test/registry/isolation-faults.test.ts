/** What goes wrong where two things happen at once, or where the process does not keep to the ways of its host. */
import { afterEach, describe, expect, test } from '@jest/globals';
import { alive, openSecrets, secrets, stopAll, until } from './isolation-support.js';

afterEach(stopAll);

describe('a process that does not keep to the ways of its host', () => {
  test.each([
    ['nothing', 'null'],
    [
      'an answer to a call that it cannot have read',
      `['no', 1, { $: 'error', name: 'x', message: 'x', core: { severity: 'recoverable', kind: 'None', code: 'X' } }]`,
    ],
    ['an answer that cannot be read', `['ok', 1, { $: 'map', entries: 7 }]`],
    ['arguments that are none', `['call', 1, 0, 'get', null]`],
    ['text, as some tools do for a process manager', `'ready'`],
  ])('sends %s: the host goes on', async (_, message) => {
    const plugin = await secrets({ odd: `process.send(${message}); return new SecretValue('sent');` });
    const store = await openSecrets(plugin);
    await store.get('odd').catch(() => {});
    // Where it is killed for what it sent, this call may be under way.
    const answer = await store.get('x').catch(() => store.get('x'));
    expect(answer.reveal()).toBe('x');
  });
});

describe('opened again after a crash', () => {
  const twice = (second: string) => ({
    manifest: { permissions: { fs: { read: ['.'], write: ['.'] } } },
    factory: `
      setUp = async (ctx) => {
        const mark = new URL('../mark', import.meta.url);
        const times = fs.existsSync(mark) ? Number(fs.readFileSync(mark, 'utf8')) + 1 : 1;
        fs.writeFileSync(mark, String(times));
        if (times === 2) { ${second} }
      };
      more = { close: async () => console.log('closed') };`,
  });

  test('what the factory throws is told as it was at first', async () => {
    const plugin = await secrets({ crash: 'process.exit(1)' }, twice(`throw new TypeError('not today');`));
    const store = await openSecrets(plugin);
    await store.get('crash').catch(() => {});
    await expect(store.get('x')).rejects.toMatchObject({
      code: 'RC1303',
      kind: 'PluginContract',
      message: expect.stringContaining('not today'),
    });
    expect((await store.get('x')).reveal()).toBe('x');
  });

  test('one that comes too late is let go of', async () => {
    const plugin = await secrets(
      { crash: 'process.exit(1)' },
      {
        ...twice(`await new Promise((resolve) => setTimeout(resolve, 900));`),
        adapter: { timeouts: { activateMs: 500 } },
      },
    );
    const store = await openSecrets(plugin);
    await store.get('crash').catch(() => {});
    await expect(store.get('x')).rejects.toMatchObject({ code: 'RC1302' });
    expect((await store.get('x')).reveal()).toBe('x');
    await until(() => plugin.logged.some((line) => line.endsWith('closed')));
    expect((await store.get('x')).reveal()).toBe('x');
  });
});

describe('reload', () => {
  test('whose new process crashes is no crash of the one that serves', async () => {
    const plugin = await secrets();
    const store = await openSecrets(plugin);
    const before = await store.names();
    plugin.reported.length = 0;
    plugin.write('process.exit(5);');
    for (let i = 0; i < 4; i++) {
      await expect(plugin.plugin.reload()).rejects.toThrow('exited with 5');
    }
    expect(plugin.reported).toEqual([]);
    expect(await store.names()).toEqual(before);
  });

  test('after which the old process crashes takes nothing from the new one', async () => {
    const plugin = await secrets({
      crash: `process.once('SIGUSR2', () => process.exit(4)); await new Promise(() => {});`,
    });
    const store = await openSecrets(plugin);
    const [pid] = await store.names();
    const crash = store.get('crash').catch((e: unknown) => e);
    await store.get('x');
    const reloading = plugin.plugin.reload();
    await until(() => plugin.logged.some((line) => line.endsWith('reloaded')));
    process.kill(Number(pid), 'SIGUSR2');
    await reloading;
    expect(await crash).toMatchObject({ code: 'PLUGIN_CRASHED', message: expect.stringContaining('exited with 4') });
    expect(plugin.reported).toEqual(['ok', 'ok']);
    expect((await store.get('x')).reveal()).toBe('x');
    expect(plugin.logged.filter((line) => line.startsWith('error'))).toEqual([]);
  });

  test('while an instance is being opened moves that one, too', async () => {
    const slow = `setUp = () => new Promise((resolve) => setTimeout(resolve, 600)); more = { close: async () => console.log('closed') };`;
    const plugin = await secrets({}, { factory: slow });
    const first = await openSecrets(plugin);
    const [pid] = await first.names();
    const reloading = plugin.plugin.reload();
    await new Promise((resolve) => setTimeout(resolve, 500));
    const second = await openSecrets(plugin);
    await reloading;
    expect(await second.names()).toEqual(await first.names());
    expect(await second.names()).not.toEqual([pid]);
    await until(() => !alive(Number(pid)));
    expect(plugin.logged.filter((line) => line.endsWith('closed')).length).toBe(2);
  });

  test('disposes the old instances, when calls to them do not end in time, too', async () => {
    const plugin = await secrets(
      { never: 'await new Promise(() => {})' },
      { factory: `more = { close: async () => console.log('closed') };`, limits: { drainMs: 100 } },
    );
    const store = await openSecrets(plugin);
    const never = store.get('never').catch((e: unknown) => e);
    await store.get('x');
    await plugin.plugin.reload();
    expect(plugin.logged.filter((line) => line.endsWith('closed')).length).toBe(1);
    expect(await never).toMatchObject({
      ...{ kind: 'Transient', code: 'PLUGIN_CRASHED' },
      message: expect.stringContaining('a reload has put another in its place'),
    });
  });
});
