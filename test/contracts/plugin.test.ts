import { describe, expect, test } from '@jest/globals';
import { definePlugin, isPluginModule } from '../../src/contracts/index.js';

describe('definePlugin', () => {
  const adapters = { 'acme.box': () => ({}) };

  test('marks a module’s default export, and changes nothing of it', () => {
    const activate = () => {};
    const plugin = definePlugin({ adapters, activate });
    expect(isPluginModule(plugin)).toBe(true);
    expect(plugin.adapters).toBe(adapters);
    expect(plugin.activate).toBe(activate);
    expect(Object.keys(plugin)).toEqual(['adapters', 'activate']);
    expect(Object.isFrozen(plugin)).toBe(true);
  });

  test('leaves what it is given as it is', () => {
    const given = { adapters };
    definePlugin(given);
    expect(isPluginModule(given)).toBe(false);
    expect(Object.isFrozen(given)).toBe(false);
  });
});

describe('isPluginModule', () => {
  test('knows one made by another copy of the package', () => {
    expect(isPluginModule({ adapters: {}, [Symbol.for('rollout-cloud/plugin')]: true })).toBe(true);
  });

  test.each([undefined, null, 'plugin', () => {}, {}, { adapters: {} }, []])('does not take %p for one', (value) => {
    expect(isPluginModule(value)).toBe(false);
  });
});
