/**
 * The one file that knows Inversify. It holds bindings, never instances: every binding is transient and asks the host,
 * because a singleton of the container whose factory once failed stays failed, and its deactivations have no order
 * (docs/decisions/0002-instances-are-ours.md).
 */
import 'reflect-metadata/lite';
import { type Bind, type BindingIdentifier, Container, ContainerModule } from 'inversify';
import { FatalError } from '../contracts/errors.js';
import { messageOf } from './ending.js';
import type { Plan } from './plan.js';
import { type Problem, showProblem, withoutDot } from './problems.js';
import { nameOf } from './schemas.js';

export type { Container } from 'inversify';

/** A class that the container can construct. */
// biome-ignore lint/suspicious/noExplicitAny: constructor parameters are the container's business
export type Newable<T> = new (...args: any[]) => T;

export interface ContainerBinding {
  /** Tells it from the host's others: the instance's key. */
  readonly id: string;
  /** The capability's key. */
  readonly key: symbol;
  readonly name: string;
  readonly isDefault: boolean;
  /** The instance where it is active, else a promise of it. */
  acquire(): object | Promise<object>;
}

/** The container, and the host's own bindings in it. */
export class HostContainer {
  readonly container = new Container();
  readonly #own = new Map<string, { readonly binding: ContainerBinding; readonly bound: Bound }>();

  /** @param modules the bindings of each plugin, which are one module */
  constructor(modules: Iterable<readonly ContainerBinding[]>) {
    for (const bindings of modules) {
      const load = new ContainerModule(({ bind }) => {
        for (const binding of bindings) this.#bind(bind, binding);
      });
      this.container.load(load);
    }
  }

  /** Puts `bindings` in the place of the host's own. What the application bound, in their place too, stays. */
  change(bindings: readonly ContainerBinding[]): void {
    const next = new Map(bindings.map((binding) => [binding.id, binding]));
    // Named as no instance can be: what answers to that name is the application's, and answers to all.
    const overridden = new Set(
      bindings.map(({ key }) => key).filter((key) => this.container.isBound(key, { name: NOBODY })),
    );
    for (const [id, { binding, bound }] of this.#own) {
      const same = next.get(id);
      if (same !== undefined && same.key === binding.key && same.isDefault === binding.isDefault) next.delete(id);
      else {
        this.container.unbind(bound.getIdentifier());
        this.#own.delete(id);
      }
    }
    for (const binding of next.values()) {
      if (!overridden.has(binding.key)) this.#bind(this.container.bind.bind(this.container), binding);
    }
  }

  #bind(bind: Bind, binding: ContainerBinding): void {
    const { id, key, name, isDefault, acquire } = binding;
    const bound = bind(key)
      .toDynamicValue(acquire)
      .when((request) => request.name === name || (isDefault && request.name === undefined));
    this.#own.set(id, { binding, bound });
  }
}

/** An identifier takes longer to make than a binding, and few are ever asked for. */
type Bound = { getIdentifier(): BindingIdentifier };

const NOBODY = Symbol('the name of no instance');

/** What `@inject(key)` gives; `undefined` where nothing is bound so. */
export function resolveKey(container: Container, key: symbol, name: string | undefined): Promise<object | undefined> {
  const options = { name, optional: true } as const;
  return container.getAsync<object>(key, options);
}

/** Constructs a class of the application, its own dependencies first. */
export function construct<T>(container: Container, Class: Newable<T>): Promise<T> {
  return container.getAsync(Class, { autobind: true });
}

/** How Inversify marks its own errors; the class itself is not among its exports. */
const CORE_ERROR = Symbol.for('@inversifyjs/core/InversifyCoreError');

/** What the container found missing. */
interface Unresolved {
  /** `<Name>@<major>` of the capability that is injected and not bound; `null` for anything else. */
  readonly id: string | null;
  /** As in `@named`. */
  readonly name: string | undefined;
}

/** Says what is missing when `error` is the container's own; `null` when it comes from elsewhere. */
function unresolved(error: unknown): Unresolved | null {
  if (!(error instanceof Error) || !(CORE_ERROR in error)) return null;
  // Only for the wording of our own message: that it is the container's error is told by its mark.
  const [, id = null] = /service identifier: Symbol\(rollout-cloud\/([^)]+)\)/.exec(error.message) ?? [];
  const [, name] = /^- name: (.+)$/m.exec(error.message) ?? [];
  return { id, name: name === '-' ? undefined : name };
}

/** Whether a capability's token was given where its key belongs, e.g. `@inject(Queue)`. */
function isTokenInjected(error: unknown): boolean {
  return error instanceof Error && error.message.includes('Unexpected object service id type');
}

/** What the container says of a class in several lines. Only for the wording of our own message, as above. */
function inOneSentence(message: string): string {
  const [line = ''] = message.split('\n');
  const [, type] = /missing metadata on type "([^"]*)"/.exec(line) ?? [];
  if (type !== undefined) {
    return `the constructor of ${shownClass({ name: type })} has a parameter without @inject; write the key of what it is to be: @inject(Queue.key)`;
  }
  const [, service] = /^No bindings found for service: "(.*)"\.$/.exec(line) ?? [];
  return service === undefined ? withoutDot(line) : `nothing is bound for ${service}; bind it in host.container`;
}

export function shownClass({ name }: { readonly name: string }): string {
  return name === '' ? 'a class' : name;
}

/** What is wrong where the container cannot construct a class, in our words; an error from elsewhere as it is. */
export function notConstructed(Class: { readonly name: string }, error: unknown, plan: Plan): unknown {
  const missing = unresolved(error);
  if (missing === null && !isTokenInjected(error)) return error;
  const problem: Pick<Problem, 'code' | 'message'> =
    missing?.id != null
      ? plan.explainMissing(nameOf(missing.id), missing.name, missing.id)
      : {
          code: 'RC1306',
          message:
            missing === null
              ? 'a parameter is marked with a capability; write its key: @inject(Queue.key)'
              : inOneSentence(messageOf(error)),
        };
  const message = `cannot construct ${shownClass(Class)}: ${problem.message}`;
  return new FatalError('ConfigInvalid', showProblem({ ...problem, message, place: null }), {
    code: problem.code,
    cause: error,
  });
}
