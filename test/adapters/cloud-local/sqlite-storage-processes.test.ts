import { spawn } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import { SqliteStorage } from '../../../src/adapters/cloud-local/sqlite-storage.js';
import { file, moduleStart, open, put } from './sqlite-storage-kit.js';

describe('several processes', () => {
  const child = (script: string) =>
    spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['pipe', 'pipe', 'inherit'] });
  const prelude = async () => `
    ${await moduleStart()}
    import { appendFileSync } from 'node:fs';
    const storage = await SqliteStorage.open(${JSON.stringify(file())});`;
  const line = (process: ReturnType<typeof child>) =>
    new Promise<string>((resolve) => process.stdout?.once('data', (data) => resolve(String(data).trim())));

  test('may write to one file at once, and lose nothing', async () => {
    const script = `${await prelude()}
      const name = process.argv[1];
      await Promise.all(Array.from({ length: 200 }, (_, i) => put(storage, name + i)));
      await storage.close();`;
    const storage = await open();
    const runs = ['a', 'b'].map(
      (name) =>
        new Promise<number | null>((resolve) => {
          spawn(process.execPath, ['--input-type=module', '-e', script, name], { stdio: 'inherit' }).on(
            'exit',
            resolve,
          );
        }),
    );
    const own = Promise.all(Array.from({ length: 200 }, (_, i) => put(storage, `c${i}`)));
    expect(await Promise.all(runs)).toEqual([0, 0]);
    await own;
    let found = 0;
    for await (const _ of storage.scan({ prefix: { namespace: 'n', path: [] } })) found++;
    expect(found).toBe(600);
  });

  test('a lock is held against them, its holder named, and a SIGKILL frees it', async () => {
    const other = child(
      `${await prelude()} await storage.lock('queue', { holder: 'the child' }); console.log('held'); setInterval(() => {}, 1000);`,
    );
    expect(await line(other)).toBe('held');
    const storage = await open();
    await expect(storage.lock('queue', { holder: 'me' })).rejects.toMatchObject({
      code: 'LOCKED',
      message: expect.stringContaining(`is held by the child (process ${other.pid})`),
    });
    const gone = new Promise((resolve) => other.once('exit', resolve));
    other.kill('SIGKILL');
    await gone;
    await storage.lock('queue', { holder: 'me' });
  });

  test('one that is killed loses nothing that was resolved, and leaves no half of a batch', async () => {
    const ledger = file('ledger');
    const script = `${await prelude()}
      for (let i = Number(process.argv[1]); ; i++) {
        Promise.all([put(storage, i + 'a', i + 'b'), put(storage, i + 'c')]).then(() => appendFileSync(${JSON.stringify(ledger)}, i + '\\n'));
        if (i % 8 === 0) await put(storage, 'turn');
      }`;
    for (let round = 0; round < 5; round++) {
      const size = () => (existsSync(ledger) ? statSync(ledger).size : 0);
      const before = size();
      const writer = spawn(process.execPath, ['--input-type=module', '-e', script, `${round * 1_000_000}`], {
        stdio: 'inherit',
      });
      const gone = new Promise((resolve) => writer.once('exit', resolve));
      while (size() < before + 100 + round * 50) await new Promise((resolve) => setTimeout(resolve, 2));
      writer.kill('SIGKILL');
      await gone;

      const storage = await SqliteStorage.open(file());
      const there = new Set<string>();
      for await (const entry of storage.scan({ prefix: { namespace: 'n', path: [] } }))
        there.add(entry.key.path.join());
      const promised = readFileSync(ledger, 'utf8').split('\n').slice(0, -1);
      expect(promised.flatMap((i) => [`${i}a`, `${i}b`, `${i}c`]).filter((path) => !there.has(path))).toEqual([]);
      expect([...there].filter((path) => path.endsWith('a') && !there.has(path.replace('a', 'b')))).toEqual([]);
      await storage.close();
    }
  });
});
