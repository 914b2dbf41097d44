/**
 * EnvSecretStore (`local.env`): secrets from environment variables, those of an allowlist and no others.
 *
 * The secret `HF_TOKEN` is the variable `ROLLOUT_SECRET_HF_TOKEN`. The environment is read at each call, so a variable
 * that is set while the process runs is seen by the next `get`. Read-only by design: a process cannot set what its
 * children and its next start will see. No error, and no print of the store, carries a secret's text.
 */
import * as check from '../../contracts/arguments.js';
import { FatalError, RecoverableError } from '../../contracts/errors.js';
import { show } from '../../contracts/ids.js';
import { checked, SecretStore, SecretValue } from '../../contracts/index.js';

export interface EnvSecretStoreOptions {
  /** The environment to read. Default: `process.env`, as it is at each call. */
  readonly env?: NodeJS.ProcessEnv;
  /** Where the allowlist is written, for messages. Default: where the only store of a plugins.json has it. */
  readonly allowlistPlace?: string;
}

export class EnvSecretStore implements SecretStore {
  readonly #allowed: ReadonlySet<string>;
  readonly #env: NodeJS.ProcessEnv | undefined;
  readonly #place: string;

  /**
   * @param allowlist names that may be read, without the prefix `ROLLOUT_SECRET_`; copied
   * @throws FatalError ConfigInvalid when a name could not be an environment variable's
   */
  constructor(allowlist: readonly string[], options: EnvSecretStoreOptions = {}) {
    const { env, allowlistPlace: place = 'plugins.json: bindings.SecretStore.config.allowlist' } = check.known(
      'options',
      options,
      ['env', 'allowlistPlace'],
    );
    if (!Array.isArray(allowlist)) {
      throw new FatalError(
        'ConfigInvalid',
        `the allowlist must be an array of names, found ${typeof allowlist} (${place})`,
      );
    }
    const names = [...allowlist];
    names.forEach((name, index) => {
      refuseUnlessVariable(name, index, place);
    });
    this.#allowed = new Set(names);
    this.#env = env;
    this.#place = place;
    // biome-ignore lint/correctness/noConstructorReturn: `new` must give the contract's argument checks, as openers do.
    return checked(SecretStore, this, { adapter: 'local.env' });
  }

  async get(name: string): Promise<SecretValue> {
    const variable = variableOf(name);
    if (!this.#allowed.has(name)) {
      throw new FatalError('ConfigInvalid', `secret ${show(name)} not in allowlist (${this.#place})`, {
        code: 'SECRET_NOT_ALLOWED',
        context: { name },
      });
    }
    const value = (this.#env ?? process.env)[variable];
    if (value === undefined) {
      throw new RecoverableError('Transient', `secret ${show(name)} is not set (environment variable ${variable})`, {
        code: 'SECRET_UNSET',
        retry: { kind: 'never' },
        context: { name, variable },
      });
    }
    return new SecretValue(value);
  }

  /** Looks at none of its arguments: whoever mixes up name and value must not find the value in the error. */
  async put(_name: string, _value: string | SecretValue): Promise<void> {
    throw new FatalError(
      'ConfigInvalid',
      'secrets of adapter local.env are read-only: set the environment variable ROLLOUT_SECRET_<name> instead',
      { code: 'READ_ONLY', context: { adapter: 'local.env' } },
    );
  }

  async names(): Promise<string[]> {
    return [...this.#allowed].sort();
  }
}

/** The most UTF-16 units of a name: what the contract lets `get` be asked for. */
const NAME_LENGTH_MAX = 512;

function refuseUnlessVariable(name: unknown, index: number, place: string): void {
  const fits = typeof name === 'string' && name.length <= NAME_LENGTH_MAX && /^[^=\0\p{Surrogate}]+$/u.test(name);
  if (fits) return;
  throw new FatalError(
    'ConfigInvalid',
    `allowlist[${index}] must be a name of 1 to ${NAME_LENGTH_MAX} characters without "=" and NUL, found ${found(name)} (${place})`,
    { context: { index } },
  );
}

/** Shows no more of a refused entry than its name: of `NAME=value` and of a pasted key, the rest is a secret. */
function found(name: unknown): string {
  if (typeof name !== 'string') return show(name);
  if (name.length > NAME_LENGTH_MAX) return `${name.length} characters`;
  return name.includes('=') ? `${show(name.slice(0, name.indexOf('=')))} and "="` : show(name);
}

function variableOf(name: string): string {
  return `ROLLOUT_SECRET_${name}`;
}
