/** `queue`: send, receive, stats, work, dead, requeue, purge. */
import { chmodSync, existsSync, readdirSync, readFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { Storage } from '../../src/contracts/index.js';
import { createHost } from '../../src/registry/index.js';
import { importModule } from '../support/import-module.js';
import { bindOdd } from './odd-plugin.js';
import { LOCAL, Place, type Result } from './support.js';

let place: Place;
beforeEach(() => {
  place = new Place();
});
afterEach(() => Place.removeAll());

async function queue(...args: string[]): Promise<Result> {
  return place.run(['queue', ...args]);
}

async function send(...texts: string[]): Promise<string[]> {
  const input = [Buffer.from(texts.join('\n'))];
  const { code, stdout } = await place.run(['queue', 'send', '--lines'], { input });
  expect(code).toBe(0);
  return stdout.trimEnd().split('\n');
}

/** What waits in the queue; it stays there. */
async function pending(...options: string[]): Promise<{ id: string; payload: string; attempts: number }[]> {
  return JSON.parse((await queue('receive', '--max', '10000', '--json', ...options)).stdout);
}

/** Source of an item that a queue of the test's own hands over. */
const ODD_ITEM = `{ id: '01ARZ3NDEKTSV4RRFFQ69G5FAV', payload: new Uint8Array(), attempts: 1, token: 't', leaseMs: 1 }`;

const payloads = async () => (await pending()).map(({ payload }) => payload);

describe('send', () => {
  test('--text, a file, or standard input: one item, and its id', async () => {
    place.write('file', 'from a file\n');
    const ids: string[] = [];
    for (const args of [['--text', 'a text'], ['file'], ['-'], []]) {
      const { code, stdout } = await place.run(['queue', 'send', ...args], {
        input: [Buffer.from('in'), Buffer.from('put')],
      });
      expect(code).toBe(0);
      ids.push(stdout.trim());
    }
    expect(await pending()).toMatchObject([
      { id: ids[0], payload: 'a text' },
      { id: ids[1], payload: 'from a file\n' },
      { id: ids[2], payload: 'input' },
      { id: ids[3], payload: 'input' },
    ]);
  });

  test('--json: the id', async () => {
    const { stdout } = await queue('send', '--text', 'x', '--json');
    expect(JSON.parse(stdout)).toEqual({ id: (await pending())[0]?.id });
  });

  test('--lines: an item for each line, however the chunks are cut', async () => {
    const input = ['a', 'b\r', '\n\nlast', ' one'].map((text) => Buffer.from(text));
    const { code, stdout } = await place.run(['queue', 'send', '--lines'], { input });
    expect(code).toBe(0);
    expect(await payloads()).toEqual(['ab', '', 'last one']);
    expect(stdout.trim().split('\n')).toEqual((await pending()).map(({ id }) => id));
  });

  test('--lines of nothing sends nothing', async () => {
    expect(await place.run(['queue', 'send', '--lines'])).toEqual({ code: 0, stdout: '', stderr: '' });
    expect(JSON.parse((await place.run(['queue', 'send', '--lines', '--json'])).stdout)).toEqual([]);
  });

  test('--lines takes more lines than one call to the queue does', async () => {
    const input = [Buffer.from('\n'.repeat(20_500))];
    const { stdout } = await place.run(['queue', 'send', '--lines', '--json'], { input });
    expect(JSON.parse(stdout)).toHaveLength(20_500);
    expect(JSON.parse((await queue('stats', '--json')).stdout).pending).toBe(20_500);
  });

  test('--lines is stored before the input ends', async () => {
    const stored: string[] = [];
    async function* input(): AsyncGenerator<Buffer> {
      yield Buffer.from('first\nsec');
      const host = await createHost({ config: place.path('plugins.json'), importModule });
      const storage = await host.get(Storage);
      // A stream asks for more input before what came is worked off.
      for (; stored.length === 0; await sleep(10)) {
        for await (const { value } of storage.scan({ prefix: { namespace: 'cloudlocal_queue', path: [] } })) {
          stored.push(Buffer.from(value).toString());
        }
      }
      await host.stop();
      yield Buffer.from('ond\n');
    }
    await place.run(['queue', 'send', '--lines'], { input: input() });
    expect(stored).toEqual(['first']);
    expect(await payloads()).toEqual(['first', 'second']);
  });

  test('the same key and bytes are the same item; with other bytes it is refused', async () => {
    const first = await queue('send', '--text', 'x', '--key', 'k');
    expect((await queue('send', '--text', 'x', '--key', 'k')).stdout).toBe(first.stdout);
    const { code, stderr } = await queue('send', '--text', 'y', '--key', 'k');
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringMatching(/^rollout-cloud: .*key.*\n$/) });
    expect(await payloads()).toEqual(['x']);
  });

  test('--delay-ms holds an item back', async () => {
    await queue('send', '--text', 'later', '--delay-ms', '600000');
    expect(await payloads()).toEqual([]);
    expect(JSON.parse((await queue('stats', '--json')).stdout).delayed).toBe(1);
  });

  test.each([
    [['file', '--text', 'x'], 'not both'],
    [['--lines', '--key', 'k'], 'leave it out with --lines'],
    [['--text', 'x', '--key', ''], '--key must have 1 to 512 characters'],
    [['--text', 'x', '--delay-ms', '-1'], '--delay-ms must be a whole number from 0'],
    [['nowhere'], 'there is no such file'],
  ])('%j is wrong usage: exit 2, and nothing is sent', async (args, reason) => {
    place.write('file', 'x');
    const { code, stdout, stderr } = await queue('send', ...args);
    expect({ code, stdout, stderr }).toEqual({ code: 2, stdout: '', stderr: expect.stringContaining(reason) });
    expect(await payloads()).toEqual([]);
  });

  describe('what is longer than the queue takes is refused: exit 1', () => {
    beforeEach(() => {
      const Queue = { adapter: 'local.in-mem', config: { payloadBytesMax: 4 } };
      place.write('plugins.json', JSON.stringify({ bindings: { ...LOCAL.bindings, Queue } }));
    });

    test('as one item, of which no more is read than need be', async () => {
      let chunks = 0;
      async function* input(): AsyncGenerator<Buffer> {
        for (; ; chunks++) yield Buffer.from('abc');
      }
      const { code, stderr } = await place.run(['queue', 'send'], { input: input() });
      expect({ code, stderr }).toEqual({
        code: 1,
        stderr: expect.stringContaining('the 4 bytes that the queue takes'),
      });
      expect(chunks).toBeLessThan(100);
      expect((await queue('send', '--text', 'abcd')).code).toBe(0);
    });

    test('as a line, and the lines before it are told', async () => {
      const input = ['one\n', 'two\nabcd\r\n', 'abcde\r\n'].map((text) => Buffer.from(text));
      const { code, stdout, stderr } = await place.run(['queue', 'send', '--lines', '--json'], { input });
      expect(code).toBe(1);
      expect(JSON.parse(stdout)).toHaveLength(3);
      expect(stderr).toContain('stopped after 3 items, which are in the queue');
      expect(stderr).toContain('line 4 is longer than the 4 bytes');
      expect(await payloads()).toEqual(['one', 'two', 'abcd']);
    });

    test('as a line that does not end', async () => {
      const input = ['a\n', 'bcd', 'efg', 'h'].map((text) => Buffer.from(text));
      const { stderr } = await place.run(['queue', 'send', '--lines'], { input });
      expect(stderr).toContain('stopped after 1 item, which is in the queue');
      expect(stderr).toContain('line 2 is longer');
    });
  });
});

describe('receive', () => {
  test('shows items and gives them back, first in line, with one more attempt', async () => {
    const ids = await send('first', 'say "2"', '3');
    expect((await queue('receive', '--max', '2')).stdout).toBe(`${ids[0]}  1  "first"\n${ids[1]}  1  "say \\"2\\""\n`);
    expect(await pending()).toEqual([
      { id: ids[0], attempts: 2, encoding: 'utf8', payload: 'first' },
      { id: ids[1], attempts: 2, encoding: 'utf8', payload: 'say "2"' },
      { id: ids[2], attempts: 1, encoding: 'utf8', payload: '3' },
    ]);
    const { stdout, stderr } = await queue('receive');
    expect(stdout).toContain(`${ids[0]}  3  `);
    expect(stderr).toContain('1 item given back; being shown counted as a delivery');
  });

  test('--ack takes them off the queue, also more than are held at a time', async () => {
    const ids = await send(...Array.from({ length: 50 }, (_, i) => `item ${i}`));
    const { code, stdout, stderr } = await queue('receive', '--ack', '--max', '40');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout.trimEnd().split('\n')).toEqual(ids.slice(0, 40).map((id, i) => `${id}  1  "item ${i}"`));
    expect(await payloads()).toEqual(Array.from({ length: 10 }, (_, i) => `item ${40 + i}`));
  });

  test('bytes that are no text are in base64, and nothing disturbs a terminal', async () => {
    await place.run(['queue', 'send'], { input: [Buffer.from([0, 0xff])] });
    await queue('send', '--text', '\x1b[31m\u009b\u202e');
    const { stdout } = await queue('receive', '--max', '2');
    expect(stdout).toMatch(/^\S+ {2}1 {2}base64:AP8=\n\S+ {2}1 {2}"\\u001b\[31m\\u009b\\u202e"\n$/);
    expect((await pending())[0]).toMatchObject({ encoding: 'base64', payload: 'AP8=' });
  });

  test('an empty queue: nothing, at once or after --wait-ms', async () => {
    expect(await queue('receive')).toEqual({ code: 0, stdout: '', stderr: '' });
    expect(await queue('receive', '--wait-ms', '20')).toEqual({ code: 0, stdout: '', stderr: '' });
    expect(await pending()).toEqual([]);
  });

  test('--wait-ms waits for an item that is delayed', async () => {
    await queue('send', '--text', 'later', '--delay-ms', '100');
    expect((await queue('receive', '--wait-ms', '20000')).stdout).toContain('"later"');
  });

  test('a signal ends the waiting: exit 1, quietly', async () => {
    const stop = new AbortController();
    const running = place.run(['queue', 'receive', '--wait-ms', '60000'], { signal: stop.signal });
    setTimeout(() => stop.abort(new Error('stopped')), 100);
    expect(await running).toEqual({ code: 1, stdout: '', stderr: '' });
  });

  test.each([
    ['LEASE_LOST', 'which has given it back already', { code: 0, stderr: /^rollout-cloud: 1 item given back.*\n$/ }],
    ['IO_ERROR', 'which is told', { code: 1, stderr: /^rollout-cloud: no nack\n$/ }],
  ])('giving back fails with %s, %s', async (error, _what, { code, stderr }) => {
    bindOdd(place, {
      provides: 'Queue@1',
      features: ['lease'],
      factory: `() => { let taken = 0; return more({
        receive: async () => taken++ ? [] : [${ODD_ITEM}],
        nack: async () => { throw coreError('Transient', '${error}', 'no nack'); } }); }`,
    });
    expect(await queue('receive', '--max', '5')).toMatchObject({ code, stderr: expect.stringMatching(stderr) });
  });
});

describe('stats', () => {
  test('tells what is in the queue', async () => {
    expect((await queue('stats')).stdout).toMatch(/^pending +0\ndelayed +0\n/);
    await send('a', 'b');
    const { code, stdout } = await queue('stats');
    expect(code).toBe(0);
    expect(stdout).toMatch(/^pending +2, the first for \d+\.\d s\n[\s\S]*payloads +2 B in memory, 2 B in storage\n/);
    expect(JSON.parse((await queue('stats', '--json')).stdout)).toMatchObject({ pending: 2, durability: 'full' });
  });
});

describe('work', () => {
  const untilEmpty = ['work', '--until-empty'];

  test('runs the command for each item: payload on stdin, id and attempt in the environment', async () => {
    const [id] = await send('the payload');
    const { code, stdout, stderr } = await queue(
      ...untilEmpty,
      '--',
      'sh',
      '-c',
      'cat; echo " $ROLLOUT_ITEM_ID $ROLLOUT_ITEM_ATTEMPTS"',
    );
    expect({ code, stdout }).toEqual({ code: 0, stdout: `the payload ${id} 1\n` });
    expect(stderr).toMatch(/^rollout-cloud: 1 acked, 0 given back; .* items\/s\n$/);
    expect(await payloads()).toEqual([]);
  });

  test('a command that does not read its stdin is well all the same', async () => {
    await place.run(['queue', 'send'], { input: [Buffer.alloc(2_000_000)] });
    expect((await queue(...untilEmpty, '--', 'true')).code).toBe(0);
    expect(await payloads()).toEqual([]);
  });

  test('exit code 0 acks, anything else gives the item back, and makes the exit code 1', async () => {
    await send('a', 'bad', 'killed', 'c');
    const script = 'read line; case $line in bad) exit 3;; killed) kill -9 $$;; esac';
    const { code, stderr } = await queue(...untilEmpty, '--', 'sh', '-c', script);
    expect(code).toBe(1);
    expect(stderr).toMatch(/item \S+, attempt 1: "sh" ended with exit code 3\n/);
    expect(stderr).toMatch(/item \S+, attempt 1: "sh" ended with SIGKILL\n/);
    expect(stderr).toContain('2 acked, 2 given back');
    expect((await payloads()).sort()).toEqual(['bad', 'killed']);
  });

  test('--json: the report on stdout, the output of the commands on stderr', async () => {
    await send('a', 'b');
    const { code, stdout, stderr } = await queue(...untilEmpty, '--json', '--', 'sh', '-c', 'echo out; echo err >&2');
    expect({ code, stderr: stderr.split('\n').sort() }).toEqual({ code: 0, stderr: ['', 'err', 'err', 'out', 'out'] });
    expect(JSON.parse(stdout)).toEqual({
      acked: 2,
      nacked: 0,
      lost: 0,
      untried: 0,
      ms: expect.any(Number),
      itemsPerS: expect.any(Number),
      interrupted: false,
    });
  });

  test('runs up to --concurrency commands at a time', async () => {
    await send('a', 'b', 'c', 'd');
    // Each one waits for the others: with fewer at a time this would not end.
    const script = 'touch "$ROLLOUT_ITEM_ID.here"; while [ $(ls | grep -c here) -lt 4 ]; do sleep 0.01; done';
    expect((await queue(...untilEmpty, '--concurrency', '4', '--', 'sh', '-c', script)).code).toBe(0);
  });

  test('without --until-empty a failed item is tried again, until a signal ends the work', async () => {
    await send('fails twice');
    const stop = new AbortController();
    const script = 'echo $ROLLOUT_ITEM_ATTEMPTS >> attempts; [ $ROLLOUT_ITEM_ATTEMPTS -gt 2 ]';
    const running = place.run(['queue', 'work', '--', 'sh', '-c', script], { signal: stop.signal });
    const attempts = () => existsSync(place.path('attempts')) && readFileSync(place.path('attempts'), 'utf8');
    while (attempts() !== '1\n2\n3\n') await sleep(10);
    stop.abort(new Error('stopped'));
    expect(await running).toMatchObject({ code: 1, stderr: expect.stringContaining('1 acked, 2 given back') });
    expect(await payloads()).toEqual([]);
  });

  test('a signal lets the commands under way finish, and takes no more items', async () => {
    await send('a', 'b', 'c');
    const stop = new AbortController();
    const script = 'touch begun; while ! [ -e go ]; do sleep 0.01; done; cat';
    const running = place.run(['queue', 'work', '--json', '--', 'sh', '-c', script], { signal: stop.signal });
    while (!existsSync(place.path('begun'))) await sleep(10);
    stop.abort(new Error('stopped'));
    place.write('go', '');
    const { code, stdout, stderr } = await running;
    expect({ code, stderr }).toEqual({ code: 1, stderr: 'a' });
    expect(JSON.parse(stdout)).toMatchObject({ acked: 1, nacked: 0, interrupted: true });
    expect(await payloads()).toEqual(['b', 'c']);
  });

  test('a second signal ends the commands, what they have started too, and gives their items back', async () => {
    await send('a', 'b', 'c');
    const [stop, insist] = [new AbortController(), new AbortController()];
    const options = { signal: stop.signal, insisted: insist.signal };
    const script = '(sleep 1000; echo late) & echo $! > "pid.$ROLLOUT_ITEM_ID"; wait';
    const args = ['queue', 'work', '--concurrency', '2', '--', 'sh', '-c', script];
    const running = place.run(args, options);
    while (pids().length < 2) await sleep(10);
    stop.abort(new Error('stopped'));
    insist.abort(new Error('stopped again'));
    const { code, stderr } = await running;
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: expect.stringMatching(/^rollout-cloud: 0 acked, 2 given back/),
    });
    for (const pid of pids()) await gone(pid);
    expect(await payloads()).toEqual(['a', 'b', 'c']);
  });

  /** Works with a command that writes its number, stops, and stops again; whoever wrote one has to be gone. */
  async function stoppedTwice(script: string): Promise<void> {
    const [stop, insist] = [new AbortController(), new AbortController()];
    const running = place.run(['queue', 'work', '--', 'sh', '-c', script], {
      signal: stop.signal,
      insisted: insist.signal,
    });
    while (pids().length < 1) await sleep(10);
    stop.abort(new Error('stopped'));
    insist.abort(new Error('stopped again'));
    expect((await running).code).toBe(1);
    for (const pid of pids()) await gone(pid);
  }

  test('a command that does not mind SIGTERM is killed', async () => {
    await send('a');
    await stoppedTwice('trap "" TERM; echo $$ > pid.0; while true; do sleep 0.05; done');
  });

  test('a command whose lease is lost is ended: somebody else may have the item', async () => {
    bindOdd(place, {
      provides: 'Queue@1',
      features: ['lease'],
      factory: `() => { let taken = 0; return more({
        receive: async () => taken++ ? [] : [${ODD_ITEM}],
        extendLease: async () => { throw coreError('Transient', 'LEASE_LOST', 'lost'); } }); }`,
    });
    const { code, stderr } = await queue(...untilEmpty, '--lease-ms', '30', '--', 'sleep', '1000');
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: expect.stringContaining('0 acked, 0 given back, 1 lease lost'),
    });
  });

  test.each([
    ['no-such-command', 'there is no such command'],
    ['./plugins.json', 'it is not a program that this user may run'],
    ['./plugins.json/x', 'there is no such command'],
    ['', 'a command has a name, and no NUL in its arguments'],
  ])('%j cannot be run: exit 2, and the items stay', async (command, reason) => {
    await send('a', 'b');
    const { code, stderr } = await queue(...untilEmpty, '--', command);
    expect({ code, stderr }).toEqual({ code: 2, stderr: `rollout-cloud: cannot run "${command}": ${reason}\n` });
    expect(await payloads()).toEqual(['a', 'b']);
  });

  test('a command that is not there costs no delivery: it is looked for first', async () => {
    await send('a');
    const { code, stderr } = await place.run(['queue', ...untilEmpty, '--', 'no-such-command'], {
      env: { PATH: `${place.folder}:/usr/bin:/bin` },
    });
    const because = 'rollout-cloud: cannot run "no-such-command": there is no such command\n';
    expect({ code, stderr }).toEqual({ code: 2, stderr: because });
    expect((await pending())[0]?.attempts).toBe(1);
  });

  test('a command that is found on PATH, or relative to the folder, is run', async () => {
    chmodSync(place.write('bin/handle', '#!/bin/sh\ncat'), 0o755);
    for (const [command, path] of [
      ['handle', `/nowhere:${place.path('bin')}:${process.env.PATH}`],
      ['./bin/handle', `${process.env.PATH}`],
    ]) {
      await send('a');
      const ran = await place.run(['queue', ...untilEmpty, '--', command as string], { env: { PATH: path as string } });
      expect(ran).toMatchObject({ code: 0, stdout: 'a' });
    }
  });

  test('--until-empty that ends after 1,000 failures says so, and how many were not tried', async () => {
    bindOdd(place, {
      provides: 'Queue@1',
      features: ['lease'],
      factory: `() => { let taken = 0; return more({
        receive: async ({ max }) => Array.from({ length: max }, () => (taken++, ${ODD_ITEM})),
        nack: async () => {}, extendLease: async () => {},
        stats: async () => ({ pending: taken + 234 }) }); }`,
    });
    const { code, stderr } = await queue(...untilEmpty, '--concurrency', '100', '--lease-ms', '600000', '--', 'false');
    expect(code).toBe(1);
    expect(stderr).toMatch(/rollout-cloud: stopped after 1,000 failures; \d+ items not tried yet\n$/);
  }, 60_000);

  test('what a command started is killed with it, also when that does not mind SIGTERM', async () => {
    await send('a');
    await stoppedTwice('(trap "" TERM; while true; do sleep 0.05; done) & echo $! > pid.0; wait');
    expect(await payloads()).toEqual(['a']);
  });

  test('what a command leaves running does not hold up its item, though it holds the output', async () => {
    await send('a');
    const { code, stdout } = await queue(...untilEmpty, '--', 'sh', '-c', 'sleep 30 & echo $! > pid.0; echo done');
    expect({ code, stdout }).toEqual({ code: 0, stdout: 'done\n' });
    for (const pid of pids()) process.kill(pid);
  });

  test('a failure of the system to start it is no usage: exit 1', async () => {
    await send('a');
    const { code, stderr } = await queue(...untilEmpty, '--', 'echo', 'x'.repeat(4_000_000));
    expect({ code, stderr }).toEqual({ code: 1, stderr: 'rollout-cloud: could not start "echo": E2BIG\n' });
    expect(await payloads()).toEqual(['a']);
  });

  test('on a terminal it tells how far it is, in lines, as the commands write there too', async () => {
    await send('a');
    const { stderr } = await place.run(['queue', ...untilEmpty, '--', 'sleep', '1.3'], { tty: true });
    expect(stderr).toMatch(/^rollout-cloud: 0 done, 0 failed, 0 items\/s\nrollout-cloud: 1 acked/);
  });

  /** What the commands wrote into files `pid.*`. */
  function pids(): number[] {
    const names = readdirSync(place.folder).filter((name) => name.startsWith('pid.'));
    const texts = names.map((name) => readFileSync(place.path(name), 'utf8'));
    return texts.filter((text) => text.endsWith('\n')).map(Number);
  }

  /** Resolves when there is no such process, or what is left of it waits for its parent. */
  async function gone(pid: number): Promise<void> {
    for (;;) {
      try {
        process.kill(pid, 0);
        if (/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))) return;
      } catch {
        return;
      }
      await sleep(10);
    }
  }
});

describe('dead letters', () => {
  beforeEach(() => {
    const Queue = { adapter: 'local.in-mem', config: { maxAttempts: 1 } };
    place.write('plugins.json', JSON.stringify({ bindings: { ...LOCAL.bindings, Queue } }));
  });

  /** Sends items and gives each up. */
  async function giveUp(...texts: string[]): Promise<string[]> {
    const ids = await send(...texts);
    await queue('work', '--until-empty', '--', 'false');
    await queue('receive', '--max', '10000');
    return ids;
  }

  test('dead shows them, and looking changes nothing', async () => {
    const ids = await giveUp('a', 'b');
    for (let i = 0; i < 2; i += 1) {
      expect(await queue('dead')).toEqual({ code: 0, stdout: `${ids[0]}  1  "a"\n${ids[1]}  1  "b"\n`, stderr: '' });
    }
    expect(JSON.parse((await queue('dead', '--json')).stdout)).toEqual([
      { id: ids[0], attempts: 1, encoding: 'utf8', payload: 'a' },
      { id: ids[1], attempts: 1, encoding: 'utf8', payload: 'b' },
    ]);
    expect(await pending()).toEqual([]);
  });

  test('requeue puts them first in line, in their order; one that is none is told', async () => {
    const [a, b, c] = await giveUp('a', 'b', 'c');
    await send('d');
    const unknown = '01ARZ3NDEKTSV4RRFFQ69G5FAV';
    const { code, stdout, stderr } = await queue('requeue', a as string, unknown, b as string);
    expect({ code, ids: stdout.trim().split('\n').sort() }).toEqual({ code: 1, ids: [a, b] });
    expect(stderr).toBe(`rollout-cloud: ${unknown} is not a dead letter of this queue\n`);
    expect((await queue('receive', '--ack', '--max', '9')).stdout).toMatch(/"a"\n.*"b"\n.*"d"\n$/);
    expect(JSON.parse((await queue('requeue', '--all', '--json')).stdout)).toEqual([{ id: c, requeued: true }]);
    expect(await payloads()).toEqual(['c']);
  });

  test('purge deletes what it is told to, and nothing without --yes where nobody can be asked', async () => {
    await giveUp('a', 'b');
    await send('c');
    expect((await queue('purge', 'dead')).code).toBe(2);
    expect((await queue('dead')).stdout).not.toBe('');
    expect(await queue('purge', 'dead', '--yes')).toMatchObject({ code: 0, stdout: '2 dead letters deleted\n' });
    expect((await queue('dead')).stdout).toBe('');
    expect(JSON.parse((await queue('purge', 'pending', '--yes', '--json')).stdout)).toEqual({
      which: 'pending',
      purged: 1,
    });
    expect(await payloads()).toEqual([]);
  });

  test.each([
    ['y\n', 0, 0],
    ['n\n', 1, 1],
    ['', 1, 1],
  ])('purge asks on a terminal: the answer %j', async (answer, code, left) => {
    await giveUp('a');
    const input = Object.assign(Readable.from(answer === '' ? [] : [Buffer.from(answer)]), { isTTY: true });
    const asked = await place.run(['queue', 'purge', 'dead'], { input, tty: true });
    expect(asked.code).toBe(code);
    expect(asked.stderr).toContain('Delete 1 dead letter for good? [y/N]');
    expect(JSON.parse((await queue('stats', '--json')).stdout).deadLetters).toBe(left);
  });
});

test('--instance names another queue', async () => {
  const instances = {
    default: { adapter: 'local.in-mem' },
    other: { adapter: 'local.in-mem', config: { name: 'other' } },
  };
  place.write('plugins.json', JSON.stringify({ bindings: { ...LOCAL.bindings, Queue: { instances } } }));
  await queue('send', '--text', 'x', '--instance', 'other');
  expect(await pending()).toEqual([]);
  expect(await pending('--instance', 'other')).toHaveLength(1);
  expect(JSON.parse((await queue('stats', '--json', '--instance', 'other')).stdout).pending).toBe(1);
  expect((await queue('work', '--until-empty', '--instance', 'other', '--', 'true')).stderr).toContain('1 acked');
});
