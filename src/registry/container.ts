/**
 * The one file that knows Inversify. It holds bindings, never instances: every binding is transient and asks the host,
 * because a singleton of the container whose factory once failed stays failed, and its deactivations have no order
 * (docs/decisions/0002-instances-are-ours.md).
 */
import 'reflect-metadata/lite';
import { Container, ContainerModule } from 'inversify';

export type { Container } from 'inversify';

/** A class that the container can construct. */
// biome-ignore lint/suspicious/noExplicitAny: constructor parameters are the container's business
export type Newable<T> = new (...args: any[]) => T;

export interface ContainerBinding {
  /** The capability's key. */
  readonly key: symbol;
  readonly name: string;
  readonly isDefault: boolean;
  /** The instance where it is active, else a promise of it. */
  acquire(): object | Promise<object>;
}

/** A container in which each plugin's bindings are one module. */
export function makeContainer(modules: Iterable<readonly ContainerBinding[]>): Container {
  const container = new Container();
  for (const bindings of modules) {
    container.load(
      new ContainerModule(({ bind }) => {
        for (const { key, name, isDefault, acquire } of bindings) {
          bind(key)
            .toDynamicValue(acquire)
            .when((request) => request.name === name || (isDefault && request.name === undefined));
        }
      }),
    );
  }
  return container;
}

/** What `@inject(key)` gives; `null` where nothing is bound so. */
export async function resolveKey(container: Container, key: symbol, name: string | undefined): Promise<object | null> {
  const options = { name, optional: true } as const;
  return (await container.getAsync<object>(key, options)) ?? null;
}

/** Constructs a class of the application, its own dependencies first. */
export function construct<T>(container: Container, Class: Newable<T>): Promise<T> {
  return container.getAsync(Class, { autobind: true });
}

/** How Inversify marks its own errors; the class itself is not among its exports. */
const CORE_ERROR = Symbol.for('@inversifyjs/core/InversifyCoreError');

/** What the container found missing. */
export interface Unresolved {
  /** `<Name>@<major>` of the capability that is injected and not bound; `null` for anything else. */
  readonly id: string | null;
  /** As in `@named`. */
  readonly name: string | undefined;
}

/** Says what is missing when `error` is the container's own; `null` when it comes from elsewhere. */
export function unresolved(error: unknown): Unresolved | null {
  if (!(error instanceof Error) || !(CORE_ERROR in error)) return null;
  // Only for the wording of our own message: that it is the container's error is told by its mark.
  const [, id = null] = /service identifier: Symbol\(rollout-cloud\/([^)]+)\)/.exec(error.message) ?? [];
  const [, name] = /^- name: (.+)$/m.exec(error.message) ?? [];
  return { id, name: name === '-' ? undefined : name };
}

/** Whether a capability's token was given where its key belongs, e.g. `@inject(Queue)`. */
export function isTokenInjected(error: unknown): boolean {
  return error instanceof Error && error.message.includes('Unexpected object service id type');
}
