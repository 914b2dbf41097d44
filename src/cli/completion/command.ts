/** `completion`: prints a script that completes commands and options; made from the commands themselves. */
import { Command } from 'commander';
import { examples } from '../arguments.js';
import type { Cli } from '../io.js';
import { writeJson } from '../output.js';
import { COMMANDS } from '../program.js';
import { bashScript } from './bash.js';
import { fishScript } from './fish.js';
import { wordsOf } from './words.js';
import { zshScript } from './zsh.js';

const SCRIPTS = { bash: bashScript, zsh: zshScript, fish: fishScript } as const;

export function define(command: Command, cli: Cli): void {
  // The table of commands has the argument's name; this says what it may be.
  command.registeredArguments[0]?.choices(Object.keys(SCRIPTS));
  command.action((shell: keyof typeof SCRIPTS) => completion(cli, command, shell));
  examples(
    command,
    'source <(rollout-cloud completion bash)',
    'rollout-cloud completion zsh > "${fpath[1]}/_rollout-cloud"',
    'rollout-cloud completion fish > ~/.config/fish/completions/rollout-cloud.fish',
  );
}

async function completion(cli: Cli, { parent }: Command, shell: keyof typeof SCRIPTS): Promise<void> {
  const program = await wholeProgram(cli, parent);
  const script = SCRIPTS[shell](program.name(), wordsOf(program));
  if (cli.json) writeJson(cli, { shell, script });
  else cli.stdout.write(script);
}

/** The program with all that the commands' modules add to it; on a usual run only the module asked for is loaded. */
async function wholeProgram(cli: Cli, running: Command | null): Promise<Command> {
  const program = new Command(running?.name());
  for (const option of running?.options ?? []) program.addOption(option);
  for (const { usage, summary, load } of COMMANDS) {
    (await load()).define(program.command(usage).summary(summary), cli);
  }
  return program;
}
