/** What is known of each contract when it crosses to another process, held to the contracts themselves. */
import { describe, expect, test } from '@jest/globals';
import { KNOWN_CAPABILITIES } from '../../src/contracts/known.js';
import { CROSSINGS, checkAnswer } from '../../src/registry/isolation/crossings.js';

describe.each(KNOWN_CAPABILITIES.map((token) => [token.id, token] as const))('%s', (id, token) => {
  // A door's methods are those of its contract, each with its name.
  const methods = Object.keys(token.door(new Proxy({}, { get: () => () => {} }), { id: 'test', need() {} }));

  test('the answer of each method is known', () => {
    expect(methods.length).toBeGreaterThan(0);
    const known = Object.keys(CROSSINGS[id]?.answers ?? {});
    expect(methods.filter((method) => !known.includes(method))).toEqual([]);
    const beyond = ['close', '@@commit'];
    expect(known.filter((method) => !methods.includes(method) && !beyond.includes(method))).toEqual([]);
  });

  test('an iterable is known as one', () => {
    const { answers = {}, iterables = [] } = CROSSINGS[id] ?? {};
    const found = Object.entries(answers).filter(([, { items, asked }]) => items && asked.includes('iterable'));
    expect(found.map(([method]) => method)).toEqual(iterables);
  });
});

test('what waits by its nature is not read ahead', () => {
  const ahead = Object.entries(CROSSINGS).flatMap(([id, { ahead = [] }]) => ahead.map((method) => `${id} ${method}`));
  expect(ahead).toEqual(['ObjectStore@1 list', 'Queue@1 deadLetters', 'Storage@1 scan']);
});

test('what passes is the value itself, and what does not is named', () => {
  const { answers } = CROSSINGS['Queue@1'] as { answers: (typeof CROSSINGS)[string]['answers'] };
  const item = {
    id: '01ARZ3NDEKTSV4RRFFQ69G5FAV',
    payload: new Uint8Array(1),
    attempts: 1,
    token: null,
    leaseMs: null,
  };
  expect(checkAnswer(answers.dequeue, item, 'it')).toBe(item);
  expect(checkAnswer(answers.dequeue, null, 'it')).toBe(null);
  for (const wrong of [
    undefined,
    { ...item, id: 'x' },
    { ...item, payload: 'text' },
    { ...item, attempts: -1 },
    { ...item, attempts: 1.5 },
    { ...item, token: 7 },
    [item],
  ]) {
    expect(() => checkAnswer(answers.dequeue, wrong, 'Queue#default: dequeue()')).toThrow(
      /^Queue#default: dequeue\(\) answered .*; the contract asks for \{ id: a QueueItemId; payload: a Uint8Array;/,
    );
  }
  expect(checkAnswer(undefined, 'anything', 'it')).toBe('anything');
});
