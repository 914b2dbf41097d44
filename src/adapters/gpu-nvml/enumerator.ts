/**
 * GpuEnumerator `nvml`: the GPUs that the first source to tell of any knows. NVML, then nvidia-smi, then what amdgpu shows
 * in sysfs; each is asked in a child process of its own that ends with its answer (see short-child.ts for why and how).
 *
 * All sources together have `timeoutMs`. One that hangs takes all of it, and none is asked after it: they share a driver.
 * Answers are remembered for `cacheMs`, those without GPUs too, so that a driver that hangs costs its timeout once.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { performance } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';
import * as check from '../../contracts/arguments.js';
import type { EnumerateOptions, GpuEnumeration, GpuEnumerator } from '../../contracts/compute-hint.js';
import { argumentsFor, parse, parsePartitions, QUERIES } from './nvidia-smi.js';
import { type Ending, type Question, ShortChildren } from './short-child.js';
import type { ChildAnswer, ChildQuestion } from './sources.js';

export interface NvmlEnumeratorOptions {
  /** File, or folder with `libnvidia-ml.so.1`, that is tried before the loader's own search. Default: none. */
  readonly libraryPath?: string;
  /** How long all sources together may take, ms. Default 5,000; a healthy driver takes 0.1 s. */
  readonly timeoutMs?: number;
  /** How long an answer is good for callers that give no `maxAgeMs`, ms. Default 60,000. */
  readonly cacheMs?: number;
  /** Ends what is under way. */
  readonly signal?: AbortSignal;
}

/** What tests put other things in the place of. */
export interface NvmlEnumeratorPorts {
  readonly children?: ShortChildren;
  /** The module that the child process runs. */
  readonly child?: URL | string;
  /** Folder under which `/sys` is found. */
  readonly root?: string;
  readonly platform?: NodeJS.Platform;
}

/** Of the whole process: several instances must not pile up children on one driver. */
const CHILDREN = new ShortChildren();

/** Beside this module in the build, as an entry of its own. */
const CHILD = new URL('./nvml-child.js', import.meta.url);

export class NvmlEnumerator implements GpuEnumerator {
  readonly #libraryPath: string | null;
  readonly #timeoutMs: number;
  readonly #cacheMs: number;
  readonly #signal: AbortSignal | undefined;
  readonly #ports: Required<NvmlEnumeratorPorts>;
  #last: { readonly answer: GpuEnumeration; readonly atMs: number } | null = null;
  #asking: Promise<GpuEnumeration> | null = null;

  constructor(given: NvmlEnumeratorOptions = {}, ports: NvmlEnumeratorPorts = {}) {
    const options = check.known('options', given, ['libraryPath', 'timeoutMs', 'cacheMs', 'signal']);
    const { libraryPath } = options;
    this.#libraryPath = libraryPath === undefined ? null : resolve(check.text('libraryPath', libraryPath, 1, 4096));
    this.#timeoutMs = check.integer('timeoutMs', options.timeoutMs ?? 5_000, 1, 600_000);
    this.#cacheMs = check.integer('cacheMs', options.cacheMs ?? 60_000, 0, 86_400_000);
    this.#signal = check.signal('signal', options.signal);
    this.#ports = { children: CHILDREN, child: CHILD, root: '/', platform: process.platform, ...ports };
  }

  /** Resolves within `timeoutMs` and a quarter of a second, with a reason where it has no GPUs. */
  async enumerate({ maxAgeMs = this.#cacheMs }: EnumerateOptions = {}): Promise<GpuEnumeration> {
    const last = this.#last;
    if (last !== null && performance.now() - last.atMs < maxAgeMs) return last.answer;
    this.#asking ??= this.#ask().finally(() => {
      this.#asking = null;
    });
    return this.#asking;
  }

  async #ask(): Promise<GpuEnumeration> {
    const { answer, isFinal } = await this.#first();
    // What is not final is not remembered: it may be otherwise at the next call, and costs nothing to find out.
    if (isFinal) this.#last = { answer, atMs: performance.now() };
    return answer;
  }

  /** The answer of the first source that tells of a GPU. */
  async #first(): Promise<{ answer: GpuEnumeration; isFinal: boolean }> {
    const { platform } = this.#ports;
    if (platform !== 'linux') return final('none', nothing(`adapter nvml works on Linux, not on ${platform}`));
    const deadlineMs = performance.now() + this.#timeoutMs;
    const reasons: string[] = [];
    for (const [source, ask] of [
      ['nvml', () => this.#askNvml(deadlineMs)],
      ['nvidia-smi', () => this.#askNvidiaSmi(deadlineMs)],
      ['drm', () => this.#askDrm(deadlineMs)],
    ] as const) {
      const told = await ask();
      if ('how' in told) {
        reasons.push(this.#failure(source, told));
        if (told.how === 'stuck' || told.how === 'aborted') {
          return { ...final('unknown', nothing(reasons.join('; '))), isFinal: false };
        }
        if (told.how === 'late') break;
      } else if (told.reason === null) return final(source, told);
      else reasons.push(told.reason);
    }
    return final('none', nothing(reasons.join('; ')));
  }

  #askNvml(deadlineMs: number): Promise<Told> {
    return this.#askChild({ source: 'nvml', libraryPath: this.#libraryPath, endsAfterMs: this.#timeoutMs }, deadlineMs);
  }

  async #askNvidiaSmi(deadlineMs: number): Promise<Told> {
    let told: Told = nothing('nvidia-smi was not asked');
    for (const fields of QUERIES) {
      const ending = await this.#run({ file: 'nvidia-smi', args: argumentsFor(fields), answersOn: 1, deadlineMs });
      if (ending.how === 'failed' && ending.error.code === 'ENOENT') return nothing('nvidia-smi not found');
      if (ending.how !== 'ended') return ending;
      const answer = ending.signal === null ? parse(ending.answer, fields) : null;
      // It exits with an error beside healthy GPUs where another one is lost.
      if (answer !== null && (answer.gpus.length > 0 || ending.code === 0))
        return this.#withPartitions(answer, deadlineMs);
      told = ending;
      if (!/not a valid field/i.test(ending.answer + ending.complaint)) break;
    }
    return told;
  }

  /** Where a GPU is partitioned, what it is cut into: a second listing, of which a failure is a warning. */
  async #withPartitions(answer: ChildAnswer, deadlineMs: number): Promise<ChildAnswer> {
    if (!answer.gpus.some(({ migMode }) => migMode === true)) return answer;
    const ending = await this.#run({ file: 'nvidia-smi', args: ['-L'], answersOn: 1, deadlineMs });
    if (ending.how !== 'ended' || ending.code !== 0) {
      return { ...answer, warnings: [...answer.warnings, `MIG devices: ${this.#failure('nvidia-smi -L', ending)}`] };
    }
    const partitions = parsePartitions(ending.answer);
    const gpus = answer.gpus.map((gpu) =>
      gpu.migMode === true ? { ...gpu, migDevices: partitions.get(gpu.uuid ?? '') ?? null } : gpu,
    );
    return { ...answer, gpus };
  }

  /** The kernel knows a card's vendor without asking the card; only where there is AMD's, a child reads the rest. */
  #askDrm(deadlineMs: number): Promise<Told> {
    const folder = join(this.#ports.root, 'sys/class/drm');
    const cards = namesIn(folder)
      .filter((name) => /^card\d{1,4}$/.test(name) && vendorOf(join(folder, name)) === AMD)
      .sort((a, b) => Number(a.slice(4)) - Number(b.slice(4)))
      .map((name) => join(folder, name));
    if (cards.length === 0) return Promise.resolve(nothing('no AMD GPU in /sys/class/drm'));
    return this.#askChild({ source: 'drm', cards }, deadlineMs);
  }

  async #askChild(question: ChildQuestion, deadlineMs: number): Promise<Told> {
    const args = [fileURLToPath(this.#ports.child), JSON.stringify(question)];
    const ending = await this.#run({ file: process.execPath, args, answersOn: 3, deadlineMs });
    if (ending.how !== 'ended' || ending.code !== 0) return ending;
    try {
      return JSON.parse(ending.answer) as ChildAnswer;
    } catch {
      return ending; // cut short: told as a failure with what it did say
    }
  }

  #run(question: Omit<Question, 'signal'>): Promise<Ending> {
    return this.#ports.children.ask({ ...question, signal: this.#signal });
  }

  #failure(source: string, ending: Ending): string {
    switch (ending.how) {
      case 'late':
        return `${source} did not answer within ${this.#timeoutMs} ms: the driver hangs`;
      case 'aborted':
        return `unknown: the plugin was stopped while ${source} was asked`;
      case 'stuck':
        return `unknown: process ${ending.pid} hangs in the driver and cannot be ended; nothing is asked until it has`;
      case 'failed':
        return `${source} could not be asked: ${ending.error.message}`;
      case 'ended': {
        if (ending.signal !== null)
          return `${source} could not be asked: the driver's library crashed (${ending.signal})`;
        const lines = (ending.complaint.trim() || ending.answer.trim()).split('\n');
        // Node ends its own with a stack and its version; of others, the last line says most.
        const complaint = (lines.find((line) => /^\w*Error\b/.test(line)) ?? lines.at(-1) ?? '').slice(
          0,
          LINE_CHARS_MAX,
        );
        return `${source} failed with exit code ${ending.code}${complaint && `: ${complaint}`}`;
      }
    }
  }
}

/** Of what a program complained about, in a reason. */
const LINE_CHARS_MAX = 300;

/** What a source had to tell, or how its child ended without. */
type Told = ChildAnswer | Ending;

function nothing(reason: string): ChildAnswer {
  return { gpus: [], driverVersion: null, reason, warnings: [] };
}

function final(source: string, { gpus, driverVersion, reason, warnings }: ChildAnswer) {
  // Frozen: the same answer is given to all who ask while it is remembered.
  const partitions = gpus.flatMap(({ migDevices }) => (migDevices == null ? [] : [migDevices, ...migDevices]));
  for (const each of [gpus, warnings, ...gpus, ...partitions]) Object.freeze(each);
  return { answer: Object.freeze({ gpus, source, reason, driverVersion, warnings }), isFinal: true };
}

/** AMD's PCI vendor id. */
const AMD = '0x1002';

function vendorOf(card: string): string | null {
  try {
    return readFileSync(join(card, 'device/vendor'), 'utf8').trim();
  } catch {
    return null;
  }
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
