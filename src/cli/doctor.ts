/**
 * `doctor`: probes every bound capability with a real round trip, and asks each instance how it is. One line each, and
 * what to do about a failure; one that fails or hangs does not stop the others.
 *
 * Probes touch nothing of the user's and take away again what they store: Storage is written in the namespace
 * `rollout_doctor`, the object store gets a random object that is deleted again, and each Queue is probed on a queue of
 * the doctor's own, made from the instance's adapter and configuration with another name. What stays is what adapters
 * make on activation: a database and folders, and beside a database the lock file of each queue, the doctor's included
 * (`rollout.db.queue.rollout_doctor_0.lock`). Lock files are never unlinked: another process may hold one by then.
 */
import { inspect } from 'node:util';
import type { Command } from 'commander';
import { type Capability, capability } from '../contracts/capability.js';
import { isCoreError } from '../contracts/errors.js';
import { Queue } from '../contracts/queue.js';
import type { BindingInfo, FoundPlugin, Host, HostGraph, InstanceReport, InstanceState } from '../registry/index.js';
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
  /** After the probe: `degraded` by the instance's own account. */
  readonly state: InstanceState;
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
      const needed = neededBy(keyOf(binding), host.graph());
      const failed = findings.filter((each) => each.status === 'fail' && needed.has(keyOf(each)));
      findings.push(await probe(cli, host, binding, nameOf.get(binding), failed));
    }
    const { instances } = await host.checkHealth();
    const all = findings.map((finding) => withHealth(finding, instances));
    print(cli, all, leftOut(host.plugins()), host.warnings);
    if (cli.signal.aborted || findings.some(({ status }) => status === 'fail')) cli.exitCode = 1;
  });
}

/** The doctor's own queues: what to set for them, and the name of each; none, where an adapter takes no name. */
async function ownQueues(cli: Cli, plan: readonly BindingInfo[]) {
  const none = { set: {}, nameOf: new Map<BindingInfo, string>() };
  const queues = plan.filter(({ capability: of }) => of === 'Queue');
  if (queues.length === 0) return none;
  const nameOf = new Map(queues.map((queue, i) => [queue, `rollout_doctor_${i}`]));
  const set = await withQueues(cli, plan, new Map([...nameOf].map(([queue, name]) => [name, queue])));
  return planOf(cli, set).then(
    () => ({ set, nameOf }),
    () => none,
  );
}

async function probe(
  cli: Cli,
  host: Host,
  binding: BindingInfo,
  ownName: string | undefined,
  failedNeeds: readonly Finding[],
): Promise<Finding> {
  const { capability: of, provides, name, adapter, plugin, state } = binding;
  const times: { activateMs: number | null; latencyMs: number | null } = { activateMs: null, latencyMs: null };
  const found = { capability: of, name, adapter, plugin, state };
  try {
    const result = await within(PROBE_MS_MAX, async () => {
      const { token, run }: Probe = PROBES[of] ?? { token: tokenOf(provides), run: activatesOnly };
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
    return { ...found, ...times, status: inUse ? 'warn' : 'fail', ...explained(error, keyOf(binding), failedNeeds) };
  }
}

/** Keys of what an instance needs, and of what that needs. */
function neededBy(key: string, { edges }: HostGraph): ReadonlySet<string> {
  const needed = new Set<string>();
  const visit = (from: string) => {
    for (const edge of edges) {
      if (edge.from !== from || needed.has(edge.to)) continue;
      needed.add(edge.to);
      visit(edge.to);
    }
  };
  visit(key);
  return needed;
}

/** What is wrong and what to do; where it comes from what it needs, and is told of already, no more than that. */
function explained(error: unknown, key: string, failedNeeds: readonly Finding[]): { detail: string; advice: string } {
  // It failed a moment ago, and is not tried again yet: what counts is why.
  const isEarly = isCoreError(error) && error.code === 'RC1307';
  const cause = isEarly ? error.cause : error;
  const detail = messageOf(cause);
  const source =
    isEarly && error.context.instance !== key
      ? String(error.context.instance)
      : failedNeeds.find((finding) => finding.detail === detail);
  if (source === undefined) return { detail, advice: adviceFor(cause) };
  const name = typeof source === 'string' ? source : keyOf(source);
  return { detail: `it needs ${name}, which fails`, advice: `mend ${name} first` };
}

function keyOf({ capability: of, name }: { readonly capability: string; readonly name: string }): string {
  return `${of}#${name}`;
}

/** What the instance says itself on top of what the probe has found. */
function withHealth(finding: Finding, instances: readonly InstanceReport[]): Finding {
  const found = instances.find(({ instance }) => instance === keyOf(finding));
  if (found === undefined) return finding;
  const { state, reason } = found;
  if (state !== 'degraded') return { ...finding, state };
  const detail = `degraded: ${reason}`;
  if (finding.status === 'fail') return { ...finding, state, detail: `${finding.detail}; ${detail}` };
  return { ...finding, state, status: 'warn', detail, advice: 'it serves, but not as it should: mend what it names' };
}

/** The token of a capability that a plugin brings, by `<name>@<major>`. */
function tokenOf(provides: string): Capability<object> {
  const at = provides.lastIndexOf('@');
  return capability(provides.slice(0, at), { major: Number(provides.slice(at + 1)) });
}

async function activatesOnly(): Promise<ProbeResult> {
  return { status: 'ok', detail: 'activates; no round trip is known for this capability' };
}

function adviceFor(error: unknown): string {
  if (!isCoreError(error)) return 'a defect of the adapter, or of what it talks to; --verbose prints the stack';
  return BY_CODE.get(error.code) ?? ADVICE[error.kind];
}

/** What is known better than by the kind of the failure. */
const BY_CODE: ReadonlyMap<string, string> = new Map([
  ['LOCKED', 'nothing, if that process is meant to run; else stop it'],
  ['RC1301', 'install or build the plugin; --verbose prints the stack'],
  [
    'RC1302',
    'see that what it connects to answers; a slow one may be given more in timeouts.activateMs of its manifest',
  ],
  ['RC1303', 'see that what it connects to answers, else it is a defect of the plugin; --verbose prints the stack'],
  ['RC1308', 'run doctor again: it is made anew; if it is gone again, look at what it runs on'],
  ['STORAGE_BUSY', 'stop the process that holds the database, or give it more time in config.busyTimeoutMs'],
  ['STORAGE_CORRUPT', 'restore the database from a copy'],
  ['STORAGE_FULL', 'free some space'],
]);

const ADVICE = {
  Throttled: 'it is asked for too much: try again later',
  Transient: 'mend what the message names, then run doctor again',
  Preempted: 'this machine is being taken away: move the work',
  ConfigInvalid: 'change the configuration, or what it names',
  SchemaViolation: 'a defect of this program: please report it',
  PluginContract: 'a defect of the plugin: update it, or bind another adapter',
  Internal: 'something that should hold does not; --verbose prints the stack',
} as const;

/** A plugin that was found and cannot be used; nothing that is bound needs it, or there would be no host. */
interface LeftOut {
  readonly plugin: string;
  readonly detail: string;
  readonly advice: string;
}

function leftOut(plugins: readonly FoundPlugin[]): LeftOut[] {
  return plugins
    .filter(({ state, optional }) => !optional && (state === 'invalid' || state === 'incompatible'))
    .map(({ id, use, reason, folder }) => ({
      plugin: id ?? use,
      detail: reason ?? 'it is not ready',
      advice: `mend it in ${folder}, or leave it out as the warning of it says`,
    }));
}

function print(cli: Cli, findings: readonly Finding[], plugins: readonly LeftOut[], warnings: readonly string[]): void {
  if (cli.json) {
    writeJson(cli, { findings, plugins, warnings });
    return;
  }
  const colors = colorsFor(cli.stdout, cli.env);
  const pluginRow = ({ plugin, detail, advice }: LeftOut) => [
    mark('warn', colors),
    plugin,
    'plugin',
    '-',
    `${detail}\n${colors.dim('->')} ${advice}`,
  ];
  const row = ({ status, capability: of, name, adapter, latencyMs, detail, advice }: Finding) => [
    mark(status, colors),
    keyOf({ capability: of, name }),
    adapter,
    latencyMs === null ? '-' : `${latencyMs.toFixed(1)} ms`,
    advice === undefined ? detail : `${detail}\n${colors.dim('->')} ${advice}`,
  ];
  writeLine(cli.stdout, columns([...findings.map(row), ...plugins.map(pluginRow)]));
  const of = (wanted: Finding['status']) => findings.filter(({ status }) => status === wanted).length;
  const warned = plural(of('warn') + plugins.length, 'warning');
  writeLine(cli.stdout, `\n${of('ok')} ok, ${warned}, ${of('fail')} failed`);
}

function mark(status: Finding['status'], { green, yellow, red }: Colors): string {
  if (status === 'ok') return green('ok');
  return status === 'warn' ? yellow('warn') : red('fail');
}
