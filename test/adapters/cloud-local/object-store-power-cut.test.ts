/**
 * What a power cut would leave, from the system calls that were really made. The model is that of POSIX, which promises
 * least: bytes survive once a sync of their file has returned that began after they were written, and a name once a sync
 * of its folder has that began after it was made. What a put promised is looked at in the moment in which it resolved.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { dirname, join } from 'node:path';
import { beforeAll, describe, expect, test } from '@jest/globals';
import { bundle } from '../../support/bundle.js';
import { blobPath, newRoot, sidecarPath } from './object-store-kit.js';

const hasStrace = spawnSync('strace', ['-V']).status === 0;
const traced = hasStrace ? test : test.skip;
const reason = hasStrace ? '' : ' (skipped: strace is not installed)';

let program = '';
beforeAll(async () => {
  if (hasStrace) program = await bundle('src/adapters/cloud-local/object-store.ts');
});

interface Call {
  readonly name: string;
  readonly args: string;
  /** Lines of the trace in which it began and returned. */
  readonly began: number;
  readonly returned: number;
}

/** The calls that succeeded, in the order in which they returned. */
function callsOf(trace: string): Call[] {
  const calls: Call[] = [];
  const open = new Map<string, { name: string; args: string; began: number }>();
  for (const [n, line] of trace.split('\n').entries()) {
    const [, pid = '', rest = ''] = /^(\d+) +(.*)$/.exec(line) ?? [];
    const unfinished = /^(\w+)\((.*) <unfinished \.\.\.>$/.exec(rest);
    if (unfinished) {
      open.set(pid, { name: unfinished[1] ?? '', args: unfinished[2] ?? '', began: n });
      continue;
    }
    const resumed = /^<\.\.\. \w+ resumed>(.*)\) += (-?\d+)/.exec(rest);
    const whole = /^(\w+)\((.*)\) += (-?\d+)/.exec(rest);
    const begun = open.get(pid);
    if (resumed && begun && Number(resumed[2]) >= 0) {
      calls.push({ ...begun, args: begun.args + resumed[1], returned: n });
    } else if (whole && Number(whole[3]) >= 0) {
      calls.push({ name: whole[1] ?? '', args: whole[2] ?? '', began: n, returned: n });
    }
  }
  return calls;
}

/** What would not survive a power cut, in the moment in which the program wrote `resolved`. */
class Medium {
  /** Files by the line in which they were last written to and not synced since. */
  readonly unsyncedBytes = new Map<string, number>();
  /** Names by the line in which they were made, or taken away, and their folder not synced since. */
  readonly unsyncedNames = new Map<string, number>();
  syncs = 0;

  apply({ name, args, began, returned }: Call): void {
    const [file = ''] = /<([^>]*)>/.exec(args)?.slice(1) ?? [];
    const paths = [...args.matchAll(/"([^"]*)"/g)].map(([, path = '']) => path);
    if (/^p?write/.test(name)) this.unsyncedBytes.set(file, returned);
    if (/^(fsync|fdatasync)$/.test(name)) {
      this.syncs += 1;
      if ((this.unsyncedBytes.get(file) ?? 0) < began) this.unsyncedBytes.delete(file);
      if (name === 'fdatasync') return;
      for (const [path, made] of this.unsyncedNames) {
        if (dirname(path) === file && made < began) this.unsyncedNames.delete(path);
      }
    }
    if (/^mkdir/.test(name)) this.unsyncedNames.set(paths[0] ?? '', returned);
    if (/^unlink/.test(name)) this.unsyncedNames.set(paths[0] ?? '', returned);
    if (/^rename/.test(name)) {
      const [from = '', to = ''] = paths;
      this.unsyncedNames.set(to, returned);
      const written = this.unsyncedBytes.get(from);
      this.unsyncedBytes.delete(from);
      if (written === undefined) this.unsyncedBytes.delete(to);
      else this.unsyncedBytes.set(to, written);
    }
  }
}

/** Runs `act`, which ends in an id, on a store, and says what the medium held when it resolved. */
function cut(root: string, durability: string, act: string): { id: string; medium: Medium } {
  const trace = join(dirname(root), 'trace');
  const script = `
    import fs from 'node:fs';
    import { FsObjectStore } from ${JSON.stringify(program)};
    const store = await FsObjectStore.open(${JSON.stringify(root)}, { durability: ${JSON.stringify(durability)} });
    fs.writeSync(1, 'opened');
    const id = await (async () => { ${act} })();
    fs.writeSync(1, 'resolved ' + id);`;
  const traceOf = 'trace=fsync,fdatasync,write,pwrite64,rename,renameat,renameat2,mkdir,mkdirat,unlink,unlinkat';
  const args = ['-f', '-y', '-s', '200', '-e', traceOf, '-o', trace];
  execFileSync('strace', [...args, process.execPath, '--input-type=module', '-e', script], { stdio: 'pipe' });
  const medium = new Medium();
  for (const call of callsOf(fs.readFileSync(trace, 'utf8'))) {
    if (call.args.includes('"opened"')) medium.syncs = 0;
    const [, id] = /"resolved ([0-9a-f]{64})"/.exec(call.args) ?? [];
    if (id !== undefined) return { id, medium };
    medium.apply(call);
  }
  throw new Error('the program did not come to its end');
}

const PUTS: [what: string, act: string][] = [
  ['a small blob', `return store.putBytes(Buffer.alloc(100, 1));`],
  ['a large blob', `return store.putBytes(Buffer.alloc(3_000_000, 2));`],
  ['a stream', `return store.putStream(new Blob([Buffer.alloc(3_000_000, 3)]).stream());`],
  [
    '64 blobs in flight',
    `const ids = await Promise.all(Array.from({ length: 64 }, (_, n) => store.putBytes(Buffer.from([n, 7]))));
     return ids[40];`,
  ],
];

describe('a power cut in the moment in which a put resolves', () => {
  traced.each(PUTS)(`at full leaves the blob, its sidecar and every name: %s${reason}`, (_, act) => {
    const root = newRoot();
    const { id, medium } = cut(root, 'full', act);
    for (const path of [blobPath(root, id as never), sidecarPath(root, id as never)]) {
      expect(fs.statSync(path).size).toBeGreaterThan(0);
      expect([...medium.unsyncedBytes.keys()]).not.toContain(path);
      for (let name = path; name !== dirname(dirname(root)); name = dirname(name)) {
        expect([...medium.unsyncedNames.keys()]).not.toContain(name);
      }
    }
  });

  traced.each(PUTS)(`at data leaves the bytes of the blob: %s${reason}`, (_, act) => {
    const root = newRoot();
    const { id, medium } = cut(root, 'data', act);
    expect([...medium.unsyncedBytes.keys()]).not.toContain(blobPath(root, id as never));
  });

  traced.each(PUTS.slice(0, 3))(`at none may leave nothing, and nothing is waited for: %s${reason}`, (_, act) => {
    const root = newRoot();
    const { id, medium } = cut(root, 'none', act);
    expect(medium.syncs).toBe(0);
    // The model sees what is not synced: else the cases above would prove nothing.
    expect([...medium.unsyncedBytes.keys()]).toContain(blobPath(root, id as never));
    expect([...medium.unsyncedNames.keys()]).toContain(blobPath(root, id as never));
  });

  traced(`at full leaves a blob that another process had put at none${reason}`, () => {
    const root = newRoot();
    const act = `return store.putBytes(Buffer.alloc(100, 1));`;
    const before = cut(root, 'none', act);
    const { id, medium } = cut(root, 'full', act);
    expect(id).toBe(before.id);
    // Blob, sidecar, shard, outer folder and root: what the process before left unsynced, this one found and synced.
    expect(medium.syncs).toBeGreaterThanOrEqual(5);
  });

  traced(`at full does not bring back what was deleted${reason}`, () => {
    const root = newRoot();
    const act = `const id = await store.putBytes(Buffer.alloc(100, 1)); await store.delete(id); return id;`;
    const { id, medium } = cut(root, 'full', act);
    expect([...medium.unsyncedNames.keys()]).not.toContain(blobPath(root, id as never));
  });
});
