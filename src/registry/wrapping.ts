/**
 * A binding's middleware, put round its instance: the last of the list first, so that the first is the outermost.
 *
 * Each layer is given what is inside it; the contract's door stands before the instance and before the outermost layer,
 * so a caller is checked, and so is a middleware that calls with arguments of its own.
 */
import { methodsOf } from '../contracts/capability.js';
import { isDecoration } from '../contracts/decorate.js';
import { FatalError, isCoreError } from '../contracts/errors.js';
import { KNOWN_CAPABILITIES } from '../contracts/known.js';
import type { MiddlewareContext, MiddlewareFactory, PluginContext } from '../contracts/plugin.js';
import { behindDoor, closedOnce, shown } from './activation.js';
import { disposeInstance, failure, messageOf } from './ending.js';
import type { PlannedInstance, PlannedMiddleware } from './plan.js';

/** What wrapping needs of the host. */
export interface WrappingHost {
  /** Loads the plugin if that has not happened, and gives the middleware's factory. */
  factory(layer: PlannedMiddleware): Promise<MiddlewareFactory>;
  /** The layer's configuration with the text of its secrets. */
  settings(layer: PlannedMiddleware): Promise<Record<string, unknown>>;
  /** The context's ways to other instances. */
  links(layer: PlannedMiddleware): Pick<PluginContext, 'has' | 'get' | 'getAll'>;
}

/** @param context the adapter's, whose `own` takes what is released before the instance is disposed */
export async function wrapInstance(
  instance: object,
  planned: PlannedInstance,
  context: PluginContext,
  host: WrappingHost,
): Promise<object> {
  let inner = instance;
  for (const layer of [...planned.middleware].reverse()) {
    const { id } = layer.manifest;
    const factory = await host.factory(layer);
    const { manifest } = planned.adapter;
    const who = `middleware ${id} of ${shown(planned)}`;
    const wrapped = await ask(factory, inner, who, {
      ...context,
      ...host.links(layer),
      id,
      config: await host.settings(layer),
      capability: manifest.provides,
      adapter: manifest.id,
    });
    if (wrapped !== inner) {
      // A layer with an end of its own may pass it on, too: each is closed once, whoever does it.
      inner = isDecoration(wrapped) ? wrapped : context.own(closedOnce(planned, wrapped), disposeInstance);
      requireWhole(wrapped, manifest.provides, who);
    }
    // By now one that came late is known to whoever lets go of it.
    context.signal.throwIfAborted();
  }
  return inner === instance ? instance : behindDoor(planned, inner);
}

/** @throws FatalError PluginContract: the door before the outermost layer would say that it is the adapter that lacks it */
function requireWhole(wrapped: object, provides: string, who: string): void {
  const token = KNOWN_CAPABILITIES.find(({ id }) => id === provides);
  const methods = token === undefined ? [] : [...methodsOf(token).keys()];
  const lacks = methods.find((method) => typeof (wrapped as Record<string, unknown>)[method] !== 'function');
  if (lacks === undefined) return;
  const message = `${who} answered an object that has no ${lacks}(), which ${provides} asks for; have decorate() make it`;
  throw new FatalError('PluginContract', message, { context: { capability: provides, method: lacks } });
}

async function ask(
  factory: MiddlewareFactory,
  inner: object,
  who: string,
  context: MiddlewareContext,
): Promise<object> {
  let answer: unknown;
  try {
    answer = await factory(inner, context);
  } catch (error) {
    if (isCoreError(error)) throw error;
    throw failure('RC1303', `${who} failed: ${messageOf(error)}`, error);
  }
  if (typeof answer === 'object' && answer !== null) return answer;
  throw failure('RC1303', `${who} answered ${answer === null ? 'null' : typeof answer}, not an object`);
}
