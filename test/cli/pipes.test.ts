/** The built program in pipelines: streams longer than memory should hold, readers that leave, commands, Ctrl-C. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { bindOdd } from './odd-plugin.js';
import { ended, Place, type Result } from './support.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

beforeAll(() => {
  execFileSync(process.execPath, ['scripts/build.mjs', '--if-needed'], { cwd: ROOT });
}, 120_000);

let place: Place;
beforeEach(() => {
  place = new Place();
});
afterEach(() => Place.removeAll());

/** Runs a line of bash, in which `rc` is the program. */
function bash(line: string, env: Record<string, string> = {}): Promise<Result> {
  const script = `set -o pipefail; rc() { "${process.execPath}" "${ROOT}/dist/cli/main.js" "$@"; }; ${line}`;
  const child = spawn('bash', ['-c', script], { cwd: place.folder, env: { ...process.env, ...env } });
  child.stdin.end();
  return ended(child);
}

const needsBash = process.platform === 'win32' ? describe.skip : describe;

needsBash('streams (not on Windows: bash)', () => {
  const BYTES = 300_000_000;
  /** Loosely: Node alone takes about 50 MB, and 300 MB held at once would be far beyond. */
  const RSS_BYTES_MAX = 250_000_000;

  /** An environment in which each run of the program adds its largest resident size, in KiB, to the file. */
  function measuring(): { env: Record<string, string>; largest(): number[] } {
    const report = place.path('rss');
    const module = place.write(
      'rss.mjs',
      `import { appendFileSync } from 'node:fs';
       process.on('exit', () => appendFileSync(${JSON.stringify(report)}, process.resourceUsage().maxRSS + '\\n'));`,
    );
    return {
      env: { NODE_OPTIONS: `--import ${pathToFileURL(module).href}` },
      largest: () =>
        readFileSync(report, 'utf8')
          .trim()
          .split('\n')
          .map((kib) => Number(kib) * 1024),
    };
  }

  test('300 MB through objects put - and objects get, by pipes, in bounded memory', async () => {
    const { env, largest } = measuring();
    const put = await bash(`head -c ${BYTES} /dev/zero | rc objects put -`, env);
    expect(put).toMatchObject({ code: 0, stderr: '' });
    const id = put.stdout.trim();
    expect(JSON.parse((await bash(`rc objects stat ${id} --json`)).stdout).size).toBe(BYTES);
    expect(await bash(`rc objects get ${id} | rc objects put -`, env)).toMatchObject({ code: 0, stdout: `${id}\n` });
    const counted = await bash(`rc objects get ${id} | wc -c`, env);
    expect({ code: counted.code, bytes: Number(counted.stdout) }).toEqual({ code: 0, bytes: BYTES });
    expect(largest()).toHaveLength(4);
    for (const bytes of largest()) expect(bytes).toBeLessThan(RSS_BYTES_MAX);
  }, 120_000);

  test('a reader that has seen enough ends a list early, quietly, as SIGPIPE would: 141', async () => {
    bindOdd(place, {
      provides: 'ObjectStore@1',
      factory: `() => more({ async *list() { for (let i = 0; i < 1e9; i++) yield String(i).padStart(64, '0'); } })`,
    });
    for (const [json, first] of [
      ['', '0'.repeat(64)],
      ['--json', '['],
    ]) {
      const { code, stdout, stderr } = await bash(`rc objects ls ${json} | head -1`);
      expect({ code, stdout, stderr }).toEqual({ code: 141, stdout: `${first}\n`, stderr: '' });
    }
  }, 60_000);

  test('so does one of an object', async () => {
    const { stdout } = await bash('head -c 5000000 /dev/zero | rc objects put -');
    const { code, stderr } = await bash(`rc objects get ${stdout.trim()} | head -c 10`);
    expect({ code, stderr }).toEqual({ code: 141, stderr: '' });
  });

  test('compute --watch ends when its reader has seen enough, and in order on Ctrl-C: 130', async () => {
    const { code, stdout, stderr } = await bash('rc compute --watch 0.1 --json | head -2');
    expect({ code, stderr }).toEqual({ code: 141, stderr: '' });
    expect(
      stdout
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line).arch),
    ).toEqual([process.arch, process.arch]);
    const child = place.start(['compute', '--watch', '--json']);
    const result = ended(child);
    await once(child.stdout as NodeJS.ReadableStream, 'data');
    child.kill('SIGINT');
    expect(await result).toMatchObject({ code: 130, stderr: expect.stringMatching(/^rollout-cloud: SIGINT: .*\n$/) });
  });

  const full = existsSync('/dev/full') ? test : test.skip;
  full('output that cannot be written is told: exit 1 (needs /dev/full)', async () => {
    await bash('echo x | rc objects put -');
    for (const command of ['objects ls', 'objects ls --json', 'compute', 'plugins list', 'objects verify', '--help']) {
      const { code, stderr } = await bash(`rc ${command} > /dev/full`);
      expect({ command, code }).toEqual({ command, code: 1 });
      expect(stderr).toBe('rollout-cloud: could not write the output: ENOSPC, the disk is full: free some space\n');
    }
  });

  full('an item whose output cannot be written is not acked (needs /dev/full)', async () => {
    await bash('seq 3 | rc queue send --lines');
    for (const flag of ['', '--json']) {
      expect((await bash(`rc queue receive --ack --max 3 ${flag} > /dev/full`)).code).toBe(1);
    }
    expect(JSON.parse((await bash('rc queue stats --json')).stdout).pending).toBe(3);
  });

  test('input that stays open is read as it comes', async () => {
    const { code, stdout } = await bash('(echo one; sleep 0.3; echo two) | rc queue send --lines | wc -l');
    expect({ code, lines: Number(stdout) }).toEqual({ code: 0, lines: 2 });
  });
});

needsBash('queue work (not on Windows: bash)', () => {
  test('1,000 items, eight at a time, of which each tenth fails once: each is done once in the end', async () => {
    expect((await bash('seq 1000 | rc queue send --lines > ids')).code).toBe(0);
    const script = `read n; case $n in *7) [ $ROLLOUT_ITEM_ATTEMPTS -gt 1 ] || exit 1;; esac; echo "$n" >> done`;
    const work = (flags: string) => bash(`rc queue work --until-empty --concurrency 8 ${flags} -- sh -c '${script}'`);
    const first = await work('--json');
    expect(first.code).toBe(1);
    expect(JSON.parse(first.stdout)).toMatchObject({ acked: 900, nacked: 100, lost: 0 });
    expect(first.stderr.split('\n')).toHaveLength(101);
    const second = await work('');
    expect(second).toMatchObject({ code: 0, stdout: '', stderr: expect.stringContaining('100 acked, 0 given back') });
    const done = readFileSync(place.path('done'), 'utf8').trim().split('\n').map(Number);
    expect(done.sort((a, b) => a - b)).toEqual(Array.from({ length: 1000 }, (_, i) => i + 1));
    expect(JSON.parse((await bash('rc queue stats --json')).stdout).pending).toBe(0);
  }, 120_000);

  test('the output of the commands is the output of the program', async () => {
    await bash('rc queue send --text payload');
    const { code, stdout, stderr } = await bash("rc queue work --until-empty -- sh -c 'cat; echo problem >&2'");
    expect({ code, stdout }).toEqual({ code: 0, stdout: 'payload' });
    expect(stderr).toMatch(/^problem\nrollout-cloud: 1 acked, 0 given back/);
  });

  test('a reader that has seen enough ends the work, as SIGPIPE would: 141; the items do not pay for it', async () => {
    await bash('seq 200 | rc queue send --lines');
    const { code, stdout, stderr } = await bash('rc queue work -- sh -c "cat; echo" | head -1');
    expect({ code, stdout, stderr }).toEqual({ code: 141, stdout: '1\n', stderr: '' });
    const left: { attempts: number }[] = JSON.parse((await bash('rc queue receive --max 1000 --json')).stdout);
    // Some were worked off before the reader was known to be gone; the one that found it so has paid, and no other.
    expect(left.length).toBeGreaterThan(100);
    expect(left.filter(({ attempts }) => attempts > 2)).toEqual([]);
    expect(left.slice(1).filter(({ attempts }) => attempts > 1)).toEqual([]);
  }, 60_000);

  /** Starts working with a command that waits for the file `go`, in a process group of its own, as a terminal does. */
  async function working(): Promise<{ signal(): Promise<void>; result: Promise<Result> }> {
    await bash('seq 3 | rc queue send --lines');
    const script = 'touch begun; while ! [ -e go ]; do sleep 0.05; done; cat';
    const args = [`${ROOT}/dist/cli/main.js`, 'queue', 'work', '--', 'sh', '-c', script];
    const child = spawn(process.execPath, args, { cwd: place.folder, detached: true });
    const result = ended(child);
    while (!existsSync(place.path('begun'))) await sleep(10);
    const signal = async () => {
      const told = once(child.stderr, 'data');
      process.kill(-(child.pid as number), 'SIGINT');
      await told;
    };
    return { signal, result };
  }

  test('Ctrl-C, which goes to the whole group: the command under way finishes, its item is acked: 130', async () => {
    const { signal, result } = await working();
    await signal();
    place.write('go', '');
    const { code, stdout, stderr } = await result;
    expect({ code, stdout }).toEqual({ code: 130, stdout: '1' });
    expect(stderr).toMatch(/SIGINT: finishing what is under way, .* once more to give it up\n.* 1 acked, 0 given back/);
    expect(JSON.parse((await bash('rc queue stats --json')).stdout).pending).toBe(2);
  });

  test('Ctrl-C twice: the command is ended, its item given back: 130', async () => {
    const { signal, result } = await working();
    await signal();
    await signal();
    const { code, stdout, stderr } = await result;
    expect({ code, stdout }).toEqual({ code: 130, stdout: '' });
    expect(stderr).toMatch(/giving up what is under way, .* once more to exit at once\n.* 0 acked, 1 given back/);
    expect(JSON.parse((await bash('rc queue stats --json')).stdout).pending).toBe(3);
  });
});
