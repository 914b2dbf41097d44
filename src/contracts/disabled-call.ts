/** Calls that Node refuses every process under its permission model. Shared by the host and the local adapters' errors. */

/**
 * Whether Node refuses the call itself under its permission model, as `fsync` on an open file, and no permission helps:
 * a refusal that one would lift names it.
 */
export function isDisabledCall(error: unknown): boolean {
  const { code, permission } = (error ?? {}) as NodeJS.ErrnoException & { permission?: string };
  return code === 'ERR_ACCESS_DENIED' && (permission ?? '') === '';
}

/** What a plugin can do that needs such a call. */
export const DISABLED_CALL_ADVICE =
  'Node refuses that call under its permission model, whatever the plugin is granted: run the plugin in the host\'s process ("run": "inprocess"), keep what has to last in the host\'s Storage ("requires"), or write through files opened with O_DSYNC';
