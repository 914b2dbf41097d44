/** What the object store's tests share: folders that are cleaned up, and file calls that are recorded and made to fail. */
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from '@jest/globals';
import type { FileCalls } from '../../../src/adapters/cloud-local/object-store/disk.js';
import type { ContentId } from '../../../src/contracts/ids.js';

const made: string[] = [];

afterAll(() => {
  for (const folder of made) fs.rmSync(folder, { recursive: true, force: true });
});

/** The path of a store that is not there yet, in a folder of its own. */
export function newRoot(): string {
  const folder = fs.realpathSync(fs.mkdtempSync(join(tmpdir(), 'rollout-objects-')));
  made.push(folder);
  return join(folder, 'store');
}

export function blobPath(root: string, id: ContentId): string {
  return join(root, id.slice(0, 2), id.slice(2, 4), id);
}

export function sidecarPath(root: string, id: ContentId): string {
  return `${blobPath(root, id)}.meta.json`;
}

/** The name of a draft that a process left which was killed long ago. */
export function draftName(n: number | string): string {
  return `rollout-draft-4711-0123456789abcdef-${n}`;
}

export function drafts(root: string): string[] {
  return fs.readdirSync(join(root, 'tmp'));
}

/** What a test may do about one call: let it be, fail it with an errno, or hold it back until a promise resolves. */
export type Fault = (call: string, path: string) => string | Promise<void> | undefined;

/**
 * The real file calls, recorded. Each is logged as `>call path` when it is made and `<call path` when it has
 * succeeded, whether made in place or in the pool; calls on an open file by that file's path, a rename by its target.
 * Faults: a call fails with an errno instead of being made, or is made later. Never: made twice, or half.
 */
export function recordedFiles(fault: Fault = () => undefined): {
  files: FileCalls;
  log: string[];
  openMax: () => number;
} {
  const log: string[] = [];
  const paths = new Map<number, string>();
  let openMax = 0;
  const begin = (call: string, args: readonly unknown[]) => {
    const target = call === 'rename' ? args[1] : args[0];
    const path = typeof target === 'number' ? (paths.get(target) ?? '') : String(target);
    log.push(`>${call} ${path}`);
    const end = (result: unknown) => {
      if (call === 'open') paths.set(result as number, path);
      openMax = Math.max(openMax, paths.size);
      log.push(`<${call} ${path}`);
    };
    if (call === 'close') paths.delete(target as number);
    return { act: fault(call, path), end };
  };
  const files = new Proxy(fs, {
    get(_, name: keyof FileCalls) {
      const real = fs[name] as (...args: unknown[]) => unknown;
      if (name.endsWith('Sync')) {
        return (...args: unknown[]) => {
          const { act, end } = begin(name.slice(0, -4), args);
          if (typeof act === 'string') throw errno(act);
          const result = real(...args);
          end(result);
          return result;
        };
      }
      return (...args: unknown[]) => {
        const done = args.pop() as (error: Error | null, result?: unknown) => void;
        const { act, end } = begin(name, args);
        if (typeof act === 'string') return void setImmediate(done, errno(act));
        const make = () =>
          real(...args, (error: Error | null, result: unknown) => {
            if (error === null) end(result);
            done(error, result);
          });
        if (act === undefined) make();
        else void act.then(make);
      };
    },
  });
  return { files, log, openMax: () => openMax };
}

function errno(code: string): Error {
  return Object.assign(new Error(`made to fail with ${code}`), { code });
}
