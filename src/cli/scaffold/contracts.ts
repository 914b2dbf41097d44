/**
 * What a scaffold has to know of each contract: its methods, spelled as in the contract's file. A test holds the names to
 * the contracts, and the types by compiling what is made of them.
 */

export interface ScaffoldContract {
  /** Parameters and answer of each method. */
  readonly methods: Readonly<Record<string, readonly [parameters: string, answer: string]>>;
  /** Properties beside them, with their types. */
  readonly properties?: Readonly<Record<string, string>>;
  /** What the stand-in can do beyond the contract's ground. */
  readonly features: readonly string[];
  /** What the conformance suite asks of the instance that it is given: options of `fake`, what they are made of. */
  readonly provision?: { readonly options: readonly string[]; readonly imports?: string; readonly before?: string };
}

const CLOSE = { close: ['', 'Promise<void>'] } as const;

export const SCAFFOLD_CONTRACTS: Readonly<Record<string, ScaffoldContract>> = {
  ObjectStore: {
    features: ['range'],
    methods: {
      putBytes: ['bytes: Uint8Array, hint?: PutHint', 'Promise<ContentId>'],
      putStream: ['source: AsyncIterable<Uint8Array>, hint?: PutHint', 'Promise<ContentId>'],
      getBytes: ['id: ContentId, options?: GetOptions', 'Promise<Uint8Array>'],
      getStream: ['id: ContentId, options?: GetOptions', 'Promise<ReadableStream<Uint8Array>>'],
      exists: ['id: ContentId', 'Promise<boolean>'],
      stat: ['id: ContentId', 'Promise<ObjectStat | null>'],
      delete: ['id: ContentId', 'Promise<boolean>'],
      list: ['options?: ListOptions', 'AsyncIterable<ContentId>'],
    },
  },
  Queue: {
    features: ['lease', 'delay', 'key', 'dead-letters'],
    provision: { options: ['maxAttempts: 3'] },
    methods: {
      enqueue: ['payload: Uint8Array, options?: EnqueueOptions', 'Promise<QueueItemId>'],
      enqueueMany: ['payloads: readonly Uint8Array[], options?: EnqueueOptions', 'Promise<QueueItemId[]>'],
      dequeue: ['', 'Promise<QueueItem | null>'],
      dequeueWithLease: ['leaseMs: number', 'Promise<QueueItem | null>'],
      dequeueMany: ['max: number, leaseMs: number', 'Promise<QueueItem[]>'],
      receive: ['options: ReceiveOptions', 'Promise<QueueItem[]>'],
      extendLease: ['id: QueueItemId, token: LeaseToken, byMs: number', 'Promise<void>'],
      ack: ['id: QueueItemId, token?: LeaseToken | null', 'Promise<void>'],
      nack: ['id: QueueItemId, token?: LeaseToken | null, options?: NackOptions', 'Promise<void>'],
      deadLetters: ['', 'AsyncIterable<QueueItem>'],
      requeue: ['id: QueueItemId', 'Promise<void>'],
      purge: ["which: 'pending' | 'dead'", 'Promise<number>'],
      stats: ['', 'Promise<QueueStats>'],
      ...CLOSE,
    },
  },
  SecretStore: {
    features: ['put'],
    provision: {
      imports: 'CONFORMANCE_SECRETS',
      before: 'const { set, empty, unset, forbidden } = CONFORMANCE_SECRETS;',
      options: [
        'secrets: { [set.name]: set.value, [empty.name]: empty.value, [forbidden.name]: forbidden.value }',
        'allowlist: [set.name, empty.name, unset.name]',
      ],
    },
    methods: {
      get: ['name: string', 'Promise<SecretValue>'],
      put: ['name: string, value: string | SecretValue', 'Promise<void>'],
      names: ['', 'Promise<string[]>'],
    },
  },
  ComputeHint: {
    features: [],
    methods: {
      inventory: ['options?: InventoryOptions', 'Promise<ComputeInventory>'],
      preemptionSignal: ['', 'Promise<number | null>'],
    },
  },
  GpuEnumerator: {
    features: [],
    methods: { enumerate: ['options?: EnumerateOptions', 'Promise<GpuEnumeration>'] },
  },
  Storage: {
    features: [],
    methods: {
      get: ['key: StorageKey', 'Promise<Uint8Array | null>'],
      getMany: ['keys: readonly StorageKey[]', 'Promise<(Uint8Array | null)[]>'],
      scan: ['options: ScanOptions', 'AsyncIterable<StorageEntry>'],
      begin: ['', 'StorageTxn'],
      watch: ['prefix: StoragePrefix, options?: { readonly signal?: AbortSignal }', 'AsyncIterable<StorageChange>'],
      lock: ['name: string, options: { readonly holder: string }', 'Promise<AsyncDisposable>'],
      ping: ['', 'Promise<void>'],
      ...CLOSE,
    },
    properties: { durability: 'StorageDurability' },
  },
  BlockStore: {
    features: [],
    provision: { imports: 'CONFORMANCE_VOLUMES', options: ['volumes: CONFORMANCE_VOLUMES.there'] },
    methods: {
      attach: ['volumeId: string, options?: AttachOptions', 'Promise<AttachedVolume>'],
      detach: ['volumeId: string', 'Promise<void>'],
      snapshot: ['volumeId: string, options?: SnapshotOptions', 'Promise<string>'],
    },
  },
};
