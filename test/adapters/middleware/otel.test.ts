import { AsyncLocalStorage } from 'node:async_hooks';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import {
  type Context,
  type ContextManager,
  context,
  metrics,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  trace,
} from '@opentelemetry/api';
import {
  AggregationTemporality,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader,
} from '@opentelemetry/sdk-metrics';
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base';
import { otel } from '../../../src/adapters/middleware/otel.js';
import { ObjectStore, Queue, SecretStore, Storage } from '../../../src/contracts/index.js';
import { fake } from '../../../src/testing/index.js';
import { contextOf, hostWith, transient } from './kit.js';

/** What @opentelemetry/context-async-hooks has, in as much as is needed here. */
class AsyncContexts implements ContextManager {
  readonly #storage = new AsyncLocalStorage<Context>();
  active = () => this.#storage.getStore() ?? ROOT_CONTEXT;
  with: ContextManager['with'] = (active, fn, self, ...args) =>
    this.#storage.run(active, () => fn.call(self as never, ...args));
  bind: ContextManager['bind'] = (_, target) => target;
  enable = () => this;
  disable = () => this;
}

const spanExporter = new InMemorySpanExporter();
const metricExporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE);
const reader = new PeriodicExportingMetricReader({ exporter: metricExporter, exportIntervalMillis: 2 ** 30 });
const meters = new MeterProvider({ readers: [reader] });

beforeAll(() => {
  context.setGlobalContextManager(new AsyncContexts());
  trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(spanExporter)] }));
  metrics.setGlobalMeterProvider(meters);
});
afterEach(() => spanExporter.reset());
afterAll(() => meters.shutdown());

const CONFIG = { spans: true, metrics: true, attributes: {} };
const spans = () => spanExporter.getFinishedSpans();

async function measured(name: string): Promise<{ attributes: Record<string, unknown>; value: unknown }[]> {
  await reader.forceFlush();
  const all =
    metricExporter
      .getMetrics()
      .at(-1)
      ?.scopeMetrics.flatMap((scope) => scope.metrics) ?? [];
  return (all.find(({ descriptor }) => descriptor.name === name)?.dataPoints ?? []) as never;
}

describe('otel', () => {
  test('makes a span of each call, with the conventions’ attributes, and of what the adapter does below it', async () => {
    const t = await hostWith('Queue', ['otel']);
    const queue = await t.get(Queue);
    await trace.getTracer('app').startActiveSpan('request', async (request) => {
      const id = await queue.enqueue(Buffer.from('four'));
      const [item] = await queue.dequeueMany(5, 1_000);
      await queue.ack(id, item?.token);
      request.end();
    });
    const [enqueue, take, ack, request] = spans();
    expect([enqueue, take, ack].map((span) => span?.name)).toEqual([
      'enqueue Queue#default',
      'dequeueMany Queue#default',
      'ack Queue#default',
    ]);
    expect(enqueue?.kind).toBe(SpanKind.PRODUCER);
    expect(take?.kind).toBe(SpanKind.CLIENT);
    for (const span of [enqueue, take, ack]) {
      expect(span?.parentSpanContext?.spanId).toBe(request?.spanContext().spanId);
    }
    expect(enqueue?.attributes).toEqual({
      'rollout.capability': 'Queue@1',
      'rollout.adapter': 'local.in-mem',
      'rollout.instance': 'default',
      'rollout.method': 'enqueue',
      'messaging.system': 'local.in-mem',
      'messaging.destination.name': 'default',
      'messaging.operation.name': 'enqueue',
      'messaging.operation.type': 'send',
      'messaging.message.body.size': 4,
      'messaging.message.id': ack?.attributes['messaging.message.id'],
    });
    expect(take?.attributes).toMatchObject({
      'messaging.operation.type': 'receive',
      'messaging.batch.message_count': 1,
    });
    await t.stop();
  });

  test('is the parent of the spans of instances below', async () => {
    const t = await hostWith('Queue', ['otel']);
    const storage = await otel(fake(Storage), contextOf(Storage.id, CONFIG));
    t.override(Storage, storage);
    await (await t.get(Queue)).enqueue(Buffer.from('x'));
    const all = spans();
    const enqueue = all.find(({ name }) => name === 'enqueue Queue#default');
    const commit = all.find(
      ({ name, parentSpanContext }) =>
        name === 'commit Storage#default' && parentSpanContext?.spanId === enqueue?.spanContext().spanId,
    );
    expect(commit?.attributes).toMatchObject({ 'db.operation.name': 'commit' });
    await t.stop();
  });

  test('records an error with its code and kind, and lets it pass', async () => {
    const store = fake(ObjectStore);
    const error = transient();
    store.failNext('stat', error);
    const observed = await otel(store, contextOf(ObjectStore.id, CONFIG));
    await expect(observed.stat('id' as never)).rejects.toBe(error);
    const [span] = spans();
    expect(span?.status).toEqual({ code: SpanStatusCode.ERROR, message: error.message });
    expect(span?.attributes).toMatchObject({
      'error.type': 'IO_ERROR',
      'rollout.error.kind': 'Transient',
      'rollout.error.severity': 'recoverable',
      'rollout.object.id': 'id',
    });
    expect(span?.events.map(({ name }) => name)).toEqual(['exception']);
    const points = await measured('rollout.call.duration');
    expect(points.map(({ attributes }) => attributes)).toContainEqual(
      expect.objectContaining({ 'rollout.method': 'stat', 'error.type': 'IO_ERROR' }),
    );
  });

  test('spans an iteration from its first item to its end, whichever that is', async () => {
    const store = await otel(fake(ObjectStore), contextOf(ObjectStore.id, { ...CONFIG, metrics: false }));
    for (const text of ['a', 'b', 'c']) await store.putBytes(Buffer.from(text));
    spanExporter.reset();
    for await (const _ of store.list());
    for await (const _ of store.list()) break;
    store.list();
    expect(spans().map(({ name, attributes }) => [name, attributes['rollout.items']])).toEqual([
      ['list ObjectStore#default', 3],
      ['list ObjectStore#default', 1],
    ]);
    const failing = fake(ObjectStore);
    failing.failNext('list', transient());
    spanExporter.reset();
    const listing = (await otel(failing, contextOf(ObjectStore.id, CONFIG))).list()[Symbol.asyncIterator]();
    await expect(listing.next()).rejects.toMatchObject({ code: 'IO_ERROR' });
    expect(spans()[0]?.attributes['error.type']).toBe('IO_ERROR');
  });

  test('measures durations in seconds, and counts calls under way', async () => {
    const attributes = { 'deployment.environment.name': 'test' };
    const storage = await otel(fake(Storage), {
      ...contextOf(Storage.id, { ...CONFIG, attributes }),
      name: 'measured',
    });
    await storage.ping();
    await storage.getMany([{ namespace: 'n', path: ['a'] }]);
    const mine = (points: Awaited<ReturnType<typeof measured>>) =>
      points.filter(({ attributes: of }) => of['rollout.instance'] === 'measured');
    const durations = mine(await measured('rollout.call.duration'));
    expect(durations.map(({ attributes: of }) => of['rollout.method']).sort()).toEqual(['getMany', 'ping']);
    for (const { attributes: of, value } of durations) {
      expect(of).toMatchObject(attributes);
      expect(value).toMatchObject({ count: 1 });
      expect((value as { sum: number }).sum).toBeLessThan(1);
    }
    expect(mine(await measured('rollout.call.active')).map(({ value }) => value)).toEqual([0, 0]);
    const many = spans().find(({ name }) => name === 'getMany Storage#measured');
    expect(many?.attributes).toMatchObject({ 'db.namespace': 'n', 'db.operation.batch.size': 1 });
  });

  test('makes no spans, or measures nothing, where it is told so', async () => {
    const quiet = await otel(fake(Storage), {
      ...contextOf(Storage.id, { ...CONFIG, spans: false }),
      name: 'no spans',
    });
    await quiet.ping();
    expect(spans()).toEqual([]);
    const unmeasured = { ...contextOf(Storage.id, { ...CONFIG, metrics: false }), name: 'no metrics' };
    await (await otel(fake(Storage), unmeasured)).ping();
    expect(spans()).toHaveLength(1);
    const instances = (await measured('rollout.call.duration')).map(({ attributes: of }) => of['rollout.instance']);
    expect(instances).toContain('no spans');
    expect(instances).not.toContain('no metrics');
  });

  test('tells neither secrets nor their names, nor payloads', async () => {
    const store = await otel(fake(SecretStore, { secrets: { TOKEN: 'hunter2' } }), contextOf(SecretStore.id, CONFIG));
    await store.get('TOKEN');
    await store.put('TOKEN', 'hunter3');
    const told = JSON.stringify(spans().map(({ name, attributes, events }) => [name, attributes, events]));
    expect(told).toContain('get SecretStore#default');
    expect(told).not.toMatch(/TOKEN|hunter/);
  });
});
