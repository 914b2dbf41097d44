/**
 * SecretStore: text that must not be seen, found by name.
 *
 * All calls may overlap. Nothing is cached by the contract: each `get` asks the store, so a secret that was rotated or
 * provisioned is seen by the next call.
 */
import { inspect } from 'node:util';
import * as check from './arguments.js';
import { capability } from './capability.js';

const REDACTED = '[redacted]';
const BRAND = Symbol.for('rollout-cloud/SecretValue');

/**
 * A secret's text, kept from logs by mistake: `console.log`, JSON and string concatenation print `[redacted]`.
 * `reveal()` is the one way to the text, and easy to search a code base for.
 */
export class SecretValue {
  readonly #text: string;

  constructor(text: string) {
    // Its kind alone: whatever it is, it may be secret.
    if (typeof text !== 'string') throw check.invalid('the secret', 'text', typeof text);
    this.#text = text;
    Object.defineProperty(this, BRAND, { value: true });
  }

  /** The secret itself. May be empty. */
  reveal(): string {
    return this.#text;
  }

  toString(): string {
    return REDACTED;
  }

  toJSON(): string {
    return REDACTED;
  }

  [Symbol.toPrimitive](): string {
    return REDACTED;
  }

  [inspect.custom](): string {
    return REDACTED;
  }
}

/** Whether `value` is a {@link SecretValue}, of whichever copy of the package. */
export function isSecretValue(value: unknown): value is SecretValue {
  return typeof value === 'object' && value !== null && BRAND in value;
}

export interface SecretStore {
  /**
   * The secret, as it is now.
   * @throws FatalError ConfigInvalid, code `SECRET_NOT_ALLOWED`: the configuration does not let it be read.
   * RecoverableError Transient, retry `never`, code `SECRET_UNSET`: it may be read and is not there; once somebody has
   * set it, the next call succeeds.
   */
  get(name: string): Promise<SecretValue>;

  /**
   * Sets the secret. A read-only store refuses every call, whatever its arguments: FatalError ConfigInvalid, code
   * `READ_ONLY`. Feature `put`.
   */
  put(name: string, value: string | SecretValue): Promise<void>;

  /** Names that `get` may be asked for, sorted; whether each is set is not said. */
  names(): Promise<string[]>;
}

export const SecretStore = capability<SecretStore>('SecretStore', {
  major: 1,
  // `put` has no checks here: a read-only store answers "read-only" before it looks at any argument.
  door: (impl) => ({
    get: async (name) => impl.get(check.text('name', name, 1, 512)),
    put: async (name, value) => impl.put(name, value),
    names: async () => impl.names(),
  }),
});
