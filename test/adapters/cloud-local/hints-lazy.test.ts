import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { layOut, MACHINE, removeTrees } from './recorded-linux.js';

/** Imported after systeminformation was replaced by a module that cannot be imported. */
let hints: typeof import('../../../src/adapters/cloud-local/compute-hint.js');

beforeAll(async () => {
  jest.unstable_mockModule('systeminformation', () => {
    throw new Error('it was imported');
  });
  hints = await import('../../../src/adapters/cloud-local/compute-hint.js');
});
afterAll(removeTrees);

describe('systeminformation', () => {
  const imported = { kind: 'Internal', message: 'could not ask systeminformation for cpu(): it was imported' };

  test('is not imported on a Linux that shows /proc', async () => {
    const { cpuCount } = await new hints.LinuxComputeHint({ root: layOut(MACHINE) }).inventory();
    expect(cpuCount).toBe(8);
  });

  test('is imported where /proc is hidden; that it cannot be is FatalError Internal', async () => {
    await expect(new hints.LinuxComputeHint({ root: layOut({}) }).inventory()).rejects.toMatchObject(imported);
  });

  test('is imported on macOS when the inventory is first asked for', async () => {
    const hint = new hints.MacosComputeHint();
    expect(await hint.preemptionSignal()).toBeNull();
    await expect(hint.inventory()).rejects.toMatchObject(imported);
  });
});
