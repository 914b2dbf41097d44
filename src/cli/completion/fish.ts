/** The completion script for fish. */
import type { CommandWords, OptionWords } from './words.js';

export function fishScript(name: string, commands: readonly CommandWords[]): string {
  const lines = commands.flatMap(({ path, next, options }) => {
    const others = next.map((sub) => sub.name).join(' ');
    const here = path.map((step) => `__fish_seen_subcommand_from ${step}`);
    const before = [...here, `not __fish_seen_subcommand_from ${others}`];
    return [
      ...next.map((sub) => `${conditional(name, before)} -f -a ${word(sub.name)}${summaryOf(sub.summary)}`),
      ...options.map((option) => `${conditional(name, here)} ${flagsOf(option)}`),
    ];
  });
  return `# Completes ${name} in fish. Load it with: ${name} completion fish | source\n${lines.join('\n')}\n`;
}

function conditional(name: string, conditions: readonly string[]): string {
  return `complete -c ${name}${conditions.length === 0 ? '' : ` -n ${word(conditions.join('; and '))}`}`;
}

function flagsOf({ flags, takesValue, choices, summary }: OptionWords): string {
  const parts = flags.map((flag) => (flag.startsWith('--') ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`));
  const value = choices.length > 0 ? ` -x -a ${word(choices.join(' '))}` : takesValue ? ' -r' : '';
  return `${parts.join(' ')}${value}${summaryOf(summary)}`;
}

function summaryOf(text: string): string {
  return text === '' ? '' : ` -d ${word(text)}`;
}

function word(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}
