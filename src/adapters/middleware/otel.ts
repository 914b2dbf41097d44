/**
 * `otel`: a span and a duration for each call, through the OpenTelemetry API. Which SDK collects them, if any, is the
 * application's business: without one, the API does nothing.
 *
 * A span is named `<method> <capability>#<instance>`, and is the parent of what the adapter does meanwhile. One of an
 * iterable begins with the first item that is asked for and ends with the iteration. No payload, value, key or secret's
 * name is in an attribute; of an error its message is told, which may name what was asked for, and never a secret.
 *
 * Attributes are those of OpenTelemetry's semantic conventions where there are any (`messaging.*` for Queue, `db.*`
 * for Storage, `error.type`), and `rollout.*` besides. Metrics: the histogram `rollout.call.duration`, in seconds, and
 * the up-down counter `rollout.call.active`.
 */
import type { Attributes, Context, Span } from '@opentelemetry/api';
import { type Call, decorate } from '../../contracts/decorate.js';
import { FatalError, isCoreError } from '../../contracts/errors.js';
import type { MiddlewareContext } from '../../contracts/plugin.js';

export interface OtelConfig {
  readonly spans: boolean;
  readonly metrics: boolean;
  readonly attributes: Readonly<Record<string, string | number | boolean>>;
}

/** Seconds; calls of local adapters take from some microseconds, those of clouds up to some seconds. */
const BUCKETS = [0.00005, 0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30];

export async function otel<T extends object>(inner: T, context: MiddlewareContext<OtelConfig>): Promise<T> {
  const api = await loadApi();
  const { spans, metrics, attributes } = context.config;
  const tracer = api.trace.getTracer(SCOPE);
  const meter = api.metrics.getMeter(SCOPE);
  const duration = meter.createHistogram('rollout.call.duration', {
    unit: 's',
    description: 'How long calls of adapters take.',
    advice: { explicitBucketBoundaries: BUCKETS },
  });
  const active = meter.createUpDownCounter('rollout.call.active', { description: 'Calls of adapters under way.' });
  const of = describe(context);

  /** They are the same for each call of a method: made once. */
  const common = new Map<string, Attributes>();
  const commonOf = (call: Call): Attributes => {
    let known = common.get(call.method);
    if (known === undefined) {
      known = { ...attributes, ...of.each(call) };
      common.set(call.method, known);
    }
    return known;
  };

  /** One call: `run` is what happens in its span. */
  class Observed {
    readonly #common: Attributes;
    readonly #span: Span | undefined;
    readonly #parent: Context;
    readonly #startMs = performance.now();

    constructor(call: Call, parent: Context) {
      this.#common = commonOf(call);
      this.#parent = parent;
      if (spans) {
        const kind = SENDING.has(call.method) ? api.SpanKind.PRODUCER : api.SpanKind.CLIENT;
        this.#span = tracer.startSpan(of.name(call), { kind, attributes: this.#common }, parent);
        if (this.#span.isRecording()) this.#span.setAttributes(of.span(call));
      }
      if (metrics) active.add(1, this.#common);
    }

    run<R>(what: () => R): R {
      return this.#span === undefined ? what() : api.context.with(api.trace.setSpan(this.#parent, this.#span), what);
    }

    end(answer: () => Attributes): void {
      if (this.#span?.isRecording()) this.#span.setAttributes(answer());
      this.#settle(this.#common);
    }

    fail(error: unknown): void {
      const failed = failureOf(error);
      this.#span?.recordException(error as Error);
      this.#span?.setStatus({
        code: api.SpanStatusCode.ERROR,
        message: (error as Error | null)?.message ?? String(error),
      });
      this.#span?.setAttributes(failed);
      this.#settle({ ...this.#common, 'error.type': failed['error.type'] });
    }

    #settle(measured: Attributes): void {
      this.#span?.end();
      if (!metrics) return;
      active.add(-1, this.#common);
      duration.record((performance.now() - this.#startMs) / 1_000, measured);
    }
  }

  return decorate(context.capability, inner, {
    async call(call, proceed) {
      const observed = new Observed(call, api.context.active());
      try {
        const answer = await observed.run(() => proceed());
        observed.end(() => of.answer(call, answer));
        return answer;
      } catch (error) {
        observed.fail(error);
        throw error;
      }
    },

    iterate(call, proceed) {
      const parent = api.context.active();
      const source = proceed();
      return {
        [Symbol.asyncIterator]() {
          const items = source[Symbol.asyncIterator]();
          let observed: Observed | null = null;
          let count = 0;
          let ended = false;
          const end = (error?: { readonly error: unknown }) => {
            if (ended || observed === null) return;
            ended = true;
            if (error === undefined) observed.end(() => ({ 'rollout.items': count }));
            else observed.fail(error.error);
          };
          return {
            async next() {
              observed ??= new Observed(call, parent);
              try {
                const step = await observed.run(() => items.next());
                if (step.done) end();
                else count += 1;
                return step;
              } catch (error) {
                end({ error });
                throw error;
              }
            },
            async return() {
              end();
              return (await items.return?.()) ?? { done: true, value: undefined };
            },
          };
        },
      };
    },
  });
}

const SCOPE = 'rollout-cloud';

const SENDING = new Set(['enqueue', 'enqueueMany']);

/** Which of the conventions' operation types a method of Queue is. */
const OPERATION_TYPES: Readonly<Record<string, string>> = {
  enqueue: 'send',
  enqueueMany: 'send',
  dequeue: 'receive',
  dequeueWithLease: 'receive',
  dequeueMany: 'receive',
  receive: 'receive',
  ack: 'settle',
  nack: 'settle',
};

/** What is told of a call: by each span and measurement; by its span alone, as it has many values; and of its answer. */
function describe({ capability, adapter, name }: MiddlewareContext<unknown>) {
  const contract = capability.slice(0, capability.lastIndexOf('@'));
  const instance = `${contract}#${name}`;
  return {
    name: ({ method }: Call) => `${method} ${instance}`,

    each({ method }: Call): Attributes {
      const common = {
        'rollout.capability': capability,
        'rollout.adapter': adapter,
        'rollout.instance': name,
        'rollout.method': method,
      };
      if (contract === 'Queue') {
        const type = OPERATION_TYPES[method];
        return {
          ...common,
          'messaging.system': adapter,
          'messaging.destination.name': name,
          'messaging.operation.name': method,
          ...(type !== undefined && { 'messaging.operation.type': type }),
        };
      }
      if (contract === 'Storage') return { ...common, 'db.system.name': adapter, 'db.operation.name': method };
      return common;
    },

    span({ method, args }: Call): Attributes {
      const [first, second] = args as [unknown, unknown];
      if (contract === 'Queue') {
        if (method === 'enqueue') return { 'messaging.message.body.size': sizeOf(first) };
        if (method === 'enqueueMany') return { 'messaging.batch.message_count': (first as unknown[] | null)?.length };
        if (['ack', 'nack', 'extendLease', 'requeue'].includes(method))
          return { 'messaging.message.id': String(first) };
      }
      if (contract === 'Storage') {
        const place = (Array.isArray(first) ? first[0] : first) as Record<string, unknown> | undefined;
        const namespace = place?.namespace ?? (place?.prefix as Record<string, unknown> | undefined)?.namespace;
        const batch = Array.isArray(first) ? { 'db.operation.batch.size': first.length } : {};
        return { ...batch, ...(typeof namespace === 'string' && { 'db.namespace': namespace }) };
      }
      if (contract === 'ObjectStore') {
        if (method === 'putBytes') return { 'rollout.object.size': sizeOf(first) };
        const { expectedSize } = (second ?? {}) as { expectedSize?: number };
        if (method === 'putStream') return { 'rollout.object.size': expectedSize };
        if (method !== 'list') return { 'rollout.object.id': String(first) };
      }
      return {};
    },

    answer({ method }: Call, answer: unknown): Attributes {
      if (contract === 'Queue') {
        if (method === 'enqueue') return { 'messaging.message.id': String(answer) };
        if (OPERATION_TYPES[method] === 'receive') {
          const items = Array.isArray(answer) ? answer : [answer].filter((item) => item !== null);
          return { 'messaging.batch.message_count': items.length };
        }
      }
      if (contract === 'ObjectStore') {
        if (method.startsWith('put')) return { 'rollout.object.id': String(answer) };
        if (method === 'getBytes') return { 'rollout.object.size': sizeOf(answer) };
      }
      return {};
    },
  };
}

function sizeOf(bytes: unknown): number | undefined {
  return (bytes as Uint8Array | null | undefined)?.byteLength;
}

function failureOf(error: unknown): Attributes & { readonly 'error.type': string } {
  if (isCoreError(error)) {
    return { 'error.type': error.code, 'rollout.error.kind': error.kind, 'rollout.error.severity': error.severity };
  }
  return { 'error.type': error instanceof Error ? error.name : '_OTHER' };
}

async function loadApi(): Promise<typeof import('@opentelemetry/api')> {
  try {
    return await import('@opentelemetry/api');
  } catch (cause) {
    throw new FatalError('ConfigInvalid', 'middleware otel needs @opentelemetry/api. Run: npm i @opentelemetry/api', {
      code: 'PACKAGE_MISSING',
      cause,
    });
  }
}
