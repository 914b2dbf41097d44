/**
 * `doctor`: probes every bound capability with a real round trip. One line each, and what to do about a failure; one
 * that fails or hangs does not stop the others.
 *
 * Probes touch nothing of the user's and take away again what they store: Storage is written in the namespace
 * `rollout_doctor`, the object store gets a random object that is deleted again, and each Queue is probed on a queue of
 * the doctor's own, made from the instance's adapter and configuration with another name. What stays is what adapters
 * make on activation: a database and folders, and beside a database the lock file of each queue, the doctor's included
 * (`rollout.db.queue.rollout_doctor_0.lock`). Lock files are never unlinked: another process may hold one by then.
 */
import { inspect } from 'node:util';
import type { Command } from 'commander';
import { capability } from '../contracts/capability.js';
import { isCoreError } from '../contracts/errors.js';
import { Queue } from '../contracts/queue.js';
import type { BindingInfo, Host } from '../registry/index.js';
import { examples } from './arguments.js';
import { columns } from './columns.js';
import { messageOf, planOf, withHost, withQueues } from './host.js';
import type { Cli } from './io.js';
import { type Colors, colorsFor, plural, writeJson, writeLine } from './output.js';
import { PROBES, type Probe, type ProbeResult } from './probes.js';
import { timed, within } from './time.js';

/** How long one instance may take to activate and to answer; activation alone has 10 s by default. */
const PROBE_MS_MAX = 20_000;

interface Finding extends ProbeResult {
  readonly capability: string;
  readonly name: string;
  readonly adapter: string;
  readonly plugin: string;
  readonly activateMs: number | null;
  readonly latencyMs: number | null;
}

export function define(command: Command, cli: Cli): void {
  examples(command, 'rollout-cloud doctor', 'rollout-cloud --json doctor | jq .findings').action(() => doctor(cli));
}

async function doctor(cli: Cli): Promise<void> {
  const plan = await planOf(cli);
  const { set, nameOf } = await ownQueues(cli, plan);
  await withHost(cli, set, async (host) => {
    const findings: Finding[] = [];
    for (const binding of plan) {
      if (cli.signal.aborted) break;
      findings.push(await probe(cli, host, binding, nameOf.get(binding)));
    }
    print(cli, findings, host.warnings);
    if (cli.signal.aborted || findings.some(({ status }) => status === 'fail')) cli.exitCode = 1;
  });
}

/** The doctor's own queues: what to set for them, and the name of each; none, where an adapter takes no name. */
async function ownQueues(cli: Cli, plan: readonly BindingInfo[]) {
  const none = { set: {}, nameOf: new Map<BindingInfo, string>() };
  const queues = plan.filter(({ capability: of }) => of === 'Queue');
  if (queues.length === 0) return none;
  const nameOf = new Map(queues.map((queue, i) => [queue, `rollout_doctor_${i}`]));
  const set = withQueues(plan, new Map([...nameOf].map(([queue, name]) => [name, queue])));
  return planOf(cli, set).then(
    () => ({ set, nameOf }),
    () => none,
  );
}

async function probe(cli: Cli, host: Host, binding: BindingInfo, ownName: string | undefined): Promise<Finding> {
  const { capability: of, name, adapter, plugin } = binding;
  const times: { activateMs: number | null; latencyMs: number | null } = { activateMs: null, latencyMs: null };
  const found = { capability: of, name, adapter, plugin };
  try {
    const result = await within(PROBE_MS_MAX, async () => {
      const { token, run }: Probe = PROBES[of] ?? { token: capability(of, { major: 1 }), run: activatesOnly };
      const [activateMs, instance] = await timed(() => host.get(token, name));
      times.activateMs = activateMs;
      const ownQueue = ownName === undefined ? null : await host.get(Queue, ownName);
      const [latencyMs, answer] = await timed(() => run(instance, ownQueue));
      times.latencyMs = latencyMs;
      return answer;
    });
    return { ...found, ...times, ...result };
  } catch (error) {
    if (cli.verbose) writeLine(cli.stderr, inspect(error));
    const inUse = isCoreError(error) && error.code === 'LOCKED';
    return { ...found, ...times, status: inUse ? 'warn' : 'fail', detail: messageOf(error), advice: adviceFor(error) };
  }
}

async function activatesOnly(): Promise<ProbeResult> {
  return { status: 'ok', detail: 'activates; no round trip is known for this capability' };
}

function adviceFor(error: unknown): string {
  if (!isCoreError(error)) return 'a defect of the adapter, or of what it talks to; --verbose prints the stack';
  if (error.code === 'LOCKED') return 'nothing, if that process is meant to run; else stop it';
  return ADVICE[error.kind];
}

const ADVICE = {
  Throttled: 'it is asked for too much: try again later',
  Transient: 'mend what the message names, then run doctor again',
  Preempted: 'this machine is being taken away: move the work',
  ConfigInvalid: 'change the configuration, or what it names',
  SchemaViolation: 'a defect of this program: please report it',
  PluginContract: 'a defect of the plugin: update it, or bind another adapter',
  Internal: 'something that should hold does not; --verbose prints the stack',
} as const;

function print(cli: Cli, findings: readonly Finding[], warnings: readonly string[]): void {
  if (cli.json) {
    writeJson(cli, { findings, warnings });
    return;
  }
  const colors = colorsFor(cli.stdout, cli.env);
  const row = ({ status, capability: of, name, adapter, latencyMs, detail, advice }: Finding) => [
    mark(status, colors),
    `${of}#${name}`,
    adapter,
    latencyMs === null ? '-' : `${latencyMs.toFixed(1)} ms`,
    advice === undefined ? detail : `${detail}\n${colors.dim('->')} ${advice}`,
  ];
  writeLine(cli.stdout, columns(findings.map(row)));
  const of = (wanted: Finding['status']) => findings.filter(({ status }) => status === wanted).length;
  writeLine(cli.stdout, `\n${of('ok')} ok, ${plural(of('warn'), 'warning')}, ${of('fail')} failed`);
}

function mark(status: Finding['status'], { green, yellow, red }: Colors): string {
  if (status === 'ok') return green('ok');
  return status === 'warn' ? yellow('warn') : red('fail');
}
