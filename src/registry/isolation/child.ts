/**
 * What runs in a plugin's process: loads the plugin, makes its instances, and serves the calls to them. It is bundled as
 * a file of its own, and knows the contracts and this folder, nothing of the host.
 */
import { type Capability, capability } from '../../contracts/capability.js';
import { systemClock } from '../../contracts/clock.js';
import { isDecoration } from '../../contracts/decorate.js';
import { FatalError } from '../../contracts/errors.js';
import { KNOWN_CAPABILITIES } from '../../contracts/known.js';
import {
  type AdapterFactory,
  type GetAllOptions,
  type Instances,
  isPluginModule,
  type Logger,
  type MiddlewareFactory,
  type PluginContext,
  type PluginModule,
} from '../../contracts/plugin.js';
import { disposeAll, disposeInstance, type Owned } from '../ending.js';
import { CROSSINGS, methodsOver } from './crossings.js';
import { Peer, ROOT } from './peer.js';
import { Lend } from './references.js';

/** What the host says of an instance that is to be made. */
export interface OpenRequest {
  /** Names the instance in calls back to the host. */
  readonly key: string;
  /** Of the adapter or middleware. */
  readonly id: string;
  readonly name: string;
  readonly config: Readonly<Record<string, unknown>>;
  /** The capability that it serves, `<name>@<major>`. */
  readonly provides: string;
  /** Of a middleware: what it is put round. */
  readonly wraps: { readonly inner: object; readonly adapter: string } | null;
  /** What `ctx.has` answers, by `Name` or `Name#instance`. */
  readonly has: Readonly<Record<string, boolean>>;
  /** Each ends the instance, or the way to it: what the factory answers after that is disposed. */
  readonly signals: readonly AbortSignal[];
}

/** What a plugin's module has factories for. */
export interface Loaded {
  readonly adapters: readonly string[];
  readonly middleware: readonly string[];
}

/** Names a capability where its token cannot go. */
export interface Asked {
  readonly name: string;
  readonly major: number;
  readonly instance?: string;
}

interface Opened {
  readonly abort: AbortController;
  readonly owned: Owned[];
}

let plugin: PluginModule | null = null;
const opened = new Map<string, Opened>();
/** By what came from the host: asked for again, it is the same. */
const faces = new WeakMap<object, object>();

const peer = new Peer(
  // That the channel breaks is told by its end.
  {
    send: (message, sent = () => {}) => void (process.connected && process.send?.(message, undefined, undefined, sent)),
  },
  {
    /** Imports the plugin; answers the ids of what it has. What is thrown is told as it is. */
    load: async (mainUrl: string): Promise<Loaded> => {
      const module = ((await import(mainUrl)) as { default?: unknown }).default;
      if (!isPluginModule(module)) throw new TypeError('its default export is not from definePlugin()');
      await module.activate?.();
      plugin = module;
      return { adapters: Object.keys(module.adapters), middleware: Object.keys(module.middleware ?? {}) };
    },
    open,
    dispose,
    deactivate: () => plugin?.deactivate?.(),
    /** Says that the process works off its events. */
    ping: () => true,
  },
);

process.on('message', (message) => peer.receive(message));
// Without its host there is nobody to serve.
process.on('disconnect', () => process.exit());
// A terminal or service manager signals the whole group: when to end is for the host to say, which first disposes.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});

async function open(request: OpenRequest): Promise<Lend> {
  const { key, id, name, config, provides, wraps, signals } = request;
  const abort = new AbortController();
  for (const signal of signals) {
    signal.addEventListener('abort', () => abort.abort(signal.reason), { once: true });
    if (signal.aborted) abort.abort(signal.reason);
  }
  const entry: Opened = { abort, owned: [] };
  const context: PluginContext = {
    id,
    name,
    config,
    signal: abort.signal,
    logger: loggerOf(key),
    clock: systemClock,
    has: (capability, instance) => has(request, capability, instance),
    get: async (capability, instance) => {
      const standIn = await peer.call(ROOT, 'get', [key, asked(capability, instance)]);
      return faceOf(capability, standIn as object);
    },
    getAll: async <T extends object>(capability: Capability<T>, options: GetAllOptions = {}) => {
      type Answer = { active: object[] } & Pick<Instances<T>, 'names' | 'failed' | 'absent'>;
      const { active, ...of } = (await peer.call(ROOT, 'getAll', [key, asked(capability), options])) as Answer;
      return Object.assign(
        active.map((each) => faceOf(capability, each)),
        of,
      );
    },
    own: (resource, dispose) => {
      entry.owned.push({ dispose: () => dispose(resource) });
      return resource;
    },
    report: (health) => peer.notify(ROOT, 'report', [key, health]),
  };
  try {
    const instance = await made(request, context);
    if (typeof instance !== 'object' || instance === null) {
      const found = instance === null ? 'null' : typeof instance;
      throw new TypeError(`the factory answered ${found}, not an object`);
    }
    // First of all when it is disposed: what it owns is released after it.
    if (wraps === null || !isDecoration(instance)) entry.owned.push({ dispose: () => disposeInstance(instance) });
    abort.signal.throwIfAborted();
    opened.set(key, entry);
    const { answers = {}, properties = [], extras, ahead } = CROSSINGS[provides] ?? {};
    // A decoration does not tell its methods; it has those of what it decorates.
    const names = wraps === null ? [] : (peer.reference(wraps.inner)?.methods ?? []);
    return new Lend(instance, [...Object.keys(answers), ...properties, ...names], extras, ahead);
  } catch (error) {
    abort.abort(error);
    await disposeAll(entry.owned);
    throw error;
  }
}

/** What the factory answers. */
async function made({ id, provides, wraps }: OpenRequest, context: PluginContext): Promise<unknown> {
  const factory = wraps === null ? plugin?.adapters[id] : plugin?.middleware?.[id];
  if (factory === undefined) throw new FatalError('PluginContract', `there is no factory for "${id}"`);
  if (wraps === null) return (factory as AdapterFactory)(context);
  const { inner, adapter } = wraps;
  const [name = '', major] = provides.split('@');
  const token = KNOWN_CAPABILITIES.find((known) => known.id === provides);
  const face = faceOf(token ?? capability<object>(name, { major: Number(major), door: () => ({}) }), inner);
  return (factory as MiddlewareFactory)(face, { ...context, capability: provides, adapter });
}

async function dispose(key: string): Promise<void> {
  const entry = opened.get(key);
  opened.delete(key);
  entry?.abort.abort(new FatalError('Internal', `${key} is being disposed`, { code: 'CLOSED' }));
  await disposeAll(entry?.owned ?? []);
}

function has({ has, id, wraps }: OpenRequest, { name }: { readonly name: string }, instance?: string): boolean {
  const spelled = instance === undefined ? name : `${name}#${instance}`;
  const answer = Object.hasOwn(has, spelled) ? has[spelled] : undefined;
  if (answer !== undefined) return answer;
  const message = `RC1304 ${wraps === null ? 'adapter' : 'middleware'} ${id} asked for ${spelled}, which its manifest does not require; add "${spelled}" to "requires"`;
  throw new FatalError('PluginContract', message, { code: 'RC1304' });
}

function asked({ name, major }: Pick<Asked, 'name' | 'major'>, instance?: string): Asked {
  return { name, major, ...(instance !== undefined && { instance }) };
}

/** What came from the host, behind the door of the plugin's own token: arguments are checked before they travel. */
function faceOf<T extends object>(capability: Capability<T>, standIn: object): T {
  const known = faces.get(standIn);
  if (known !== undefined) return known as T;
  const reference = peer.reference(standIn);
  // The plugin's own instance, come home by way of the host.
  if (reference === undefined) return standIn as T;
  const call = (method: string, args: readonly unknown[]) => peer.call(reference.id, method, args);
  const methods = methodsOver(capability.id, reference, call) as T;
  // Which features there are the host knows, and refuses by.
  const face = { ...methods, ...capability.door(methods, { id: capability.name, need() {} }), [KEPT]: standIn };
  faces.set(standIn, face);
  return face;
}

/** Holds on to the stand-in: collected, it would be given back. */
const KEPT = Symbol('stand-in');

function loggerOf(key: string): Logger {
  const at = (level: keyof Logger) => (message: string, context?: object) =>
    peer.notify(ROOT, 'log', [key, level, message, ...(context === undefined ? [] : [context])]);
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}
