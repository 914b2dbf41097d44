/**
 * Conformance suites: what each contract means, as cases that any test runner can run.
 *
 * ```ts
 * for (const c of conformance(ObjectStore, { features: ['range'] })) test(c.name, () => c.run(openMyStore));
 * ```
 * Cases are data. A feature that the adapter does not declare is tested for its documented refusal, not skipped.
 */
import { type Capability, checked } from '../contracts/capability.js';
import { FatalError } from '../contracts/errors.js';
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

const suites = new Map<symbol, Suite<never>>();

/** Registers the suite of a contract. A plugin that contributes a capability registers its own. */
export function defineSuite<T extends object>(token: Capability<T>, suite: Suite<T>): void {
  suites.set(token.key, suite as Suite<never>);
}

/**
 * The conformance cases of `token`'s contract.
 * @param options `features` as the adapter's manifest declares them
 * @throws FatalError SchemaViolation for a capability whose suite is not defined
 */
export function conformance<T extends object>(
  token: Capability<T>,
  options: { readonly features?: readonly string[] } = {},
): ConformanceCase<T>[] {
  const suite = suites.get(checkToken(token).key) as Suite<T> | undefined;
  if (suite === undefined) {
    throw new FatalError('SchemaViolation', `no conformance suite is defined for ${token.id}; call defineSuite first`);
  }
  const traits = { adapter: 'under test', features: options.features ?? [] };
  const door = (instance: T): T => checked(token, instance, traits);
  return Object.entries(suite(new Set(traits.features))).map(([name, body]) => ({
    name,
    run: (target) => runCase(body, typeof target === 'function' ? { open: target } : target, door),
  }));
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
