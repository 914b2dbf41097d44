/** A plugin with one adapter whose factory a test writes, for what the local adapters do not do by themselves. */
import { LOCAL, type Place } from './support.js';

export interface OddAdapter {
  /** `ObjectStore@1` */
  readonly provides: string;
  readonly features?: readonly string[];
  /** Source of the factory, e.g. `() => ({ … })`. `more(object)` adds methods that do nothing. */
  readonly factory: string;
}

/** Binds the adapter in the place's configuration, which has the local ones besides. */
export function bindOdd(place: Place, { provides, features, factory }: OddAdapter): void {
  const adapters = [{ id: 'odd.one', provides, features }];
  place.write(
    'odd/plugin.json',
    JSON.stringify({ id: 'odd', version: '1.0.0', main: './index.mjs', contributes: { adapters } }),
  );
  place.write(
    'odd/index.mjs',
    `const METHODS = ['putBytes', 'putStream', 'getBytes', 'getStream', 'exists', 'stat', 'delete', 'list',
       'enqueue', 'enqueueMany', 'dequeue', 'dequeueWithLease', 'dequeueMany', 'receive', 'extendLease', 'ack', 'nack',
       'deadLetters', 'requeue', 'purge', 'stats', 'close', 'get', 'put', 'names', 'inventory', 'preemptionSignal'];
     const more = (object) => ({ ...Object.fromEntries(METHODS.map((name) => [name, async () => {}])), ...object });
     const coreError = (kind, code, message) => {
       const error = Object.assign(new Error(message), { kind, code, severity: 'fatal', context: {}, toJSON: () => ({ kind, code, message }) });
       return Object.defineProperty(error, Symbol.for('rollout-cloud/CoreError'), { value: true });
     };
     export default { [Symbol.for('rollout-cloud/plugin')]: true, adapters: { 'odd.one': ${factory} } };`,
  );
  const capability = provides.split('@')[0] as string;
  const bindings = { ...LOCAL.bindings, [capability]: { adapter: 'odd.one' } };
  place.write('plugins.json', JSON.stringify({ plugins: ['rollout.cloud-local', './odd'], bindings }));
}
