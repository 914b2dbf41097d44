import { describe, expect, test } from '@jest/globals';
import { type AttachedVolume, type AttachOptions, BlockStore, FatalError } from '../../src/contracts/index.js';
import { CONFORMANCE_VOLUMES, conformance } from '../../src/testing/index.js';

const { there } = CONFORMANCE_VOLUMES;

/** A store in memory that keeps the contract. */
class MapBlockStore implements BlockStore {
  readonly devices = new Map<string, string>();
  #made = 0;

  async attach(volumeId: string, _options?: AttachOptions): Promise<AttachedVolume> {
    this.mustBeThere(volumeId);
    const device = this.devices.get(volumeId) ?? `/dev/test${++this.#made}`;
    this.devices.set(volumeId, device);
    return { volumeId, device };
  }

  async detach(volumeId: string): Promise<void> {
    this.devices.delete(volumeId);
  }

  async snapshot(volumeId: string): Promise<string> {
    this.mustBeThere(volumeId);
    return `snap-${++this.#made}`;
  }

  mustBeThere(volumeId: string): void {
    if ((there as readonly string[]).includes(volumeId)) return;
    throw new FatalError('Internal', `volume not found: ${volumeId}`, { code: 'VOLUME_NOT_FOUND' });
  }
}

/** Names of the cases that fails what `open` gives. */
async function failures(open: () => BlockStore): Promise<string[]> {
  const failed: string[] = [];
  for (const c of conformance(BlockStore)) await c.run(open).catch(() => failed.push(c.name));
  return failed;
}

const UNKNOWN = 'a volume that does not exist is VOLUME_NOT_FOUND, and named';
const AGAIN = 'a volume that is detached can be attached again; detaching twice is detaching once';
const SAME = 'a volume that is attached here answers the same, in calls that overlap, too';
const SNAPSHOTS = 'each snapshot has an id of its own, whether or not the volume is attached';

type Fault = (store: MapBlockStore, keeps: MapBlockStore) => Partial<BlockStore>;

const FAULTS: readonly [string, Fault, readonly string[]][] = [
  [
    'answers another volume than the one asked for',
    (_, keeps) => ({ attach: async (id) => ({ ...(await keeps.attach(id)), volumeId: 'x' }) }),
    ['attach answers the volume and its device', AGAIN],
  ],
  [
    'answers no device',
    (_, keeps) => ({ attach: async (id) => ({ ...(await keeps.attach(id)), device: '' }) }),
    ['attach answers the volume and its device', 'two volumes have two devices'],
  ],
  [
    'attaches what is attached once more',
    (_, keeps) => ({
      attach: async (id) => {
        keeps.devices.delete(id);
        return keeps.attach(id);
      },
    }),
    [SAME],
  ],
  [
    'attaches twice what is asked for twice at once',
    (store, keeps) => ({
      attach: async (id) => {
        const known = store.devices.get(id);
        await new Promise((resolve) => setImmediate(resolve));
        if (known !== undefined) return { volumeId: id, device: known };
        keeps.devices.delete(id);
        const attached = await keeps.attach(id);
        store.devices.set(id, attached.device);
        return attached;
      },
      detach: async (id) => void store.devices.delete(id),
    }),
    [SAME],
  ],
  [
    'has one device for all',
    (_, keeps) => ({ attach: async (id) => ({ ...(await keeps.attach(id)), device: '/dev/test' }) }),
    ['two volumes have two devices'],
  ],
  [
    'attaches a volume once and never again',
    (_, keeps) => {
      const gone = new Set<string>();
      return {
        attach: async (id) => {
          if (gone.has(id)) throw new FatalError('Internal', `${id} is gone`);
          return keeps.attach(id);
        },
        detach: async (id) => {
          if (keeps.devices.delete(id)) gone.add(id);
        },
      };
    },
    [AGAIN],
  ],
  [
    'refuses to detach what is not attached',
    (_, keeps) => ({
      detach: async (id) => {
        if (!keeps.devices.delete(id)) throw new FatalError('Internal', `${id} is not attached`);
      },
    }),
    [AGAIN, 'a volume that is not attached here is detached already'],
  ],
  [
    'looks whether a volume exists before it is detached',
    (_, keeps) => ({
      detach: async (id) => {
        keeps.mustBeThere(id);
        await keeps.detach(id);
      },
    }),
    ['a volume that is not attached here is detached already'],
  ],
  [
    'has one id for all snapshots of a volume',
    () => ({ snapshot: async (id) => `snap-of-${id}` }),
    [SNAPSHOTS, UNKNOWN],
  ],
  [
    'takes snapshots of what is attached alone',
    (_, keeps) => ({
      snapshot: async (id) => {
        keeps.mustBeThere(id);
        if (!keeps.devices.has(id)) throw new FatalError('Internal', `${id} is not attached`);
        return keeps.snapshot(id);
      },
    }),
    [SNAPSHOTS],
  ],
  [
    'makes volumes that do not exist',
    () => ({ attach: async (id) => ({ volumeId: id, device: `/dev/${id}` }) }),
    [UNKNOWN],
  ],
  [
    'does not name what is not there',
    (_, keeps) => ({
      attach: async (id) =>
        keeps.attach(id).catch(() => {
          throw new FatalError('Internal', 'volume not found', { code: 'VOLUME_NOT_FOUND' });
        }),
    }),
    [UNKNOWN],
  ],
  [
    'keeps what is not there from being known by its code',
    (_, keeps) => ({
      snapshot: async (id) =>
        keeps.snapshot(id).catch((error: Error) => {
          throw new FatalError('Internal', error.message);
        }),
    }),
    [UNKNOWN],
  ],
];

describe('the suite of BlockStore', () => {
  test('passes a store that keeps the contract', async () => {
    expect(await failures(() => new MapBlockStore())).toEqual([]);
  });

  test.each(FAULTS)('tells a store that %s', async (_, fault, cases) => {
    const open = () => {
      const store = new MapBlockStore();
      return Object.assign(store, fault(store, new MapBlockStore()));
    };
    expect(await failures(open)).toEqual(cases);
  });
});
