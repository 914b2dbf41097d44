/**
 * Conformance suites: what each contract means, as cases that any test runner can run.
 *
 * ```ts
 * for (const c of conformance(ObjectStore, { features: ['range'] })) test(c.name, () => c.run(openMyStore));
 * ```
 * Cases are data. A feature that the adapter does not declare is tested for its documented refusal, not skipped.
 */
import * as check from '../contracts/arguments.js';
import { type Capability, checked } from '../contracts/capability.js';
import { FatalError } from '../contracts/errors.js';
import { show } from '../contracts/ids.js';
import { checkToken } from '../registry/links.js';

/** How a case comes by what it tests. */
export interface ConformanceTarget<T> {
  /**
   * A fresh, empty instance. Called once or more by every case; instances of different calls share nothing. The
   * contract's argument checks are put before it, as the host does.
   */
  open(): T | Promise<T>;
  /**
   * The instance that the last `open()` made, opened again after it was closed, with what it kept. Needed by the cases
   * of adapters whose state outlives an instance (for a queue: feature `replay`; with `multi-process` it is called while
   * the other is open, too).
   */
  reopen?(): T | Promise<T>;
}

export interface ConformanceCase<T> {
  readonly name: string;
  /** Resolves when the adapter conforms; rejects with an assertion error that says what it did instead. */
  run(target: ConformanceTarget<T> | (() => T | Promise<T>)): Promise<void>;
}

/** What a suite's case is given: `open` and `reopen` as above, and everything opened is closed when the case ends. */
export interface Fixture<T> {
  open(): Promise<T>;
  reopen(): Promise<T>;
}

/** The cases of one contract for an adapter that declares `features`, in the order a reader of the contract expects. */
export type Suite<T> = (features: ReadonlySet<string>) => Record<string, (fixture: Fixture<T>) => Promise<void>>;

const suites = new Map<symbol, { readonly suite: Suite<never>; readonly features: readonly string[] | undefined }>();

/**
 * Registers the suite of a contract. A plugin that contributes a capability registers its own.
 * @param features that the suite knows; {@link conformance} refuses others. Left out, it takes whatever it is given
 */
export function defineSuite<T extends object>(
  token: Capability<T>,
  suite: Suite<T>,
  features?: readonly string[],
): void {
  suites.set(token.key, { suite: suite as Suite<never>, features });
}

/**
 * The conformance cases of `token`'s contract.
 * @param options `features` as the adapter's manifest declares them
 * @throws FatalError SchemaViolation for a capability whose suite is not defined, or a feature that its suite does not know
 */
export function conformance<T extends object>(
  token: Capability<T>,
  options: { readonly features?: readonly string[] } = {},
): ConformanceCase<T>[] {
  const defined = suites.get(checkToken(token).key);
  if (defined === undefined) {
    throw new FatalError('SchemaViolation', `no conformance suite is defined for ${token.id}; call defineSuite first`);
  }
  const suite = defined.suite as Suite<T>;
  const { features = [] } = check.known('options', options, ['features']);
  checkFeatures(token, features, defined.features);
  const traits = { adapter: 'under test', features };
  const door = (instance: T): T => checked(token, instance, traits);
  return Object.entries(suite(new Set(traits.features))).map(([name, body]) => ({
    name,
    run: (target) => runCase(body, typeof target === 'function' ? { open: target } : target, door),
  }));
}

/** A slip would have the suite test that the feature is refused, and pass an adapter that lacks it. */
function checkFeatures({ id }: { readonly id: string }, features: unknown, known: readonly string[] | undefined): void {
  if (!Array.isArray(features)) throw check.invalid('options.features', 'an array of names', features);
  for (const feature of features) {
    if (typeof feature !== 'string') throw check.invalid('options.features', 'an array of names', feature);
    if (known === undefined || known.includes(feature)) continue;
    const which = check.suggest(feature, known) || ' It has none.';
    const message = `the suite of ${id} knows no feature ${show(feature)}.${which}`;
    throw new FatalError('SchemaViolation', message, { code: 'ARGUMENT_INVALID', context: { argument: 'features' } });
  }
}

async function runCase<T extends object>(
  body: (fixture: Fixture<T>) => Promise<void>,
  target: ConformanceTarget<T>,
  door: (instance: T) => T,
): Promise<void> {
  if (typeof target?.open !== 'function') {
    throw new FatalError('SchemaViolation', 'a case runs on a function that opens an instance, or { open, reopen }');
  }
  const opened: T[] = [];
  const keep = async (making: T | Promise<T>): Promise<T> => {
    let instance: T = await making;
    if (typeof instance !== 'object' || instance === null) {
      throw new FatalError(
        'SchemaViolation',
        `the target opened ${instance}; give a function that answers an instance`,
      );
    }
    try {
      instance = door(instance);
      return instance;
    } finally {
      opened.push(instance);
    }
  };
  const fixture: Fixture<T> = {
    // `async`: an opener that throws at once, or is none, rejects the case as any other does.
    open: async () => keep(target.open()),
    reopen: async () => {
      if (target.reopen === undefined) {
        throw new FatalError('SchemaViolation', 'this case needs `reopen`: give { open, reopen }');
      }
      return keep(target.reopen());
    },
  };
  const failures: unknown[] = [];
  const note = (error: unknown) => void failures.push(error);
  await body(fixture).catch(note);
  // Each, whatever becomes of the others; what the case itself found is told first.
  for (const instance of opened.reverse()) await close(instance).catch(note);
  if (failures.length > 1)
    throw new AggregateError(failures, failures.map(messageOf).join('; and when it was closed: '));
  if (failures.length === 1) throw failures[0];
}

async function close(instance: Partial<AsyncDisposable> & { close?(): unknown }): Promise<void> {
  await (instance[Symbol.asyncDispose] ?? instance.close)?.call(instance);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
