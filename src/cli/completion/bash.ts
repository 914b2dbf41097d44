/** The completion script for bash: 3.2, as macOS has it, and later. */
import { type CommandWords, type OptionWords, valueFlags, withChoices } from './words.js';

export function bashScript(name: string, [program, ...commands]: readonly [CommandWords, ...CommandWords[]]): string {
  const fn = `_${name.replace(/[^a-z]/g, '_')}`;
  const all = [program, ...commands];
  const cases = commands.map(
    ({ path, next, options }) =>
      `    '${path.join(' ')}') next='${next.map((sub) => sub.name).join(' ')}' options='${flagsOf(options)}' ;;`,
  );
  return `# Completes ${name} in bash. Load it with: source <(${name} completion bash)
${fn}() {
  local current=\${COMP_WORDS[COMP_CWORD]} at='' word i
  local next='${program.next.map((sub) => sub.name).join(' ')}' options=''
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    case "$word" in
      --) return ;;
      ${valueFlags(all).join('|')}) ((i++)) ;;
      -*) ;;
      *)
        case "\${at:+$at }$word" in
          ${commands.map(({ path }) => `'${path.join(' ')}'`).join('|')}) at="\${at:+$at }$word" ;;
        esac ;;
    esac
  done
  # The value of an option is one of a few, a file, or nothing that is known here.
  if ((i > COMP_CWORD)); then
    case "\${COMP_WORDS[COMP_CWORD - 1]}" in
${withChoices(all)
  .map(
    ({ flags, choices }) =>
      `      ${flags.join('|')}) COMPREPLY=($(compgen -W '${choices.join(' ')}' -- "$current")) ;;`,
  )
  .join('\n')}
    esac
    return
  fi
  case "$at" in
${cases.join('\n')}
  esac
  [[ $current == -* ]] && next="$options ${flagsOf(program.options)}"
  COMPREPLY=($(compgen -W "$next" -- "$current"))
}
complete -o default -F ${fn} ${name}
`;
}

function flagsOf(options: readonly OptionWords[]): string {
  return options.flatMap(({ flags }) => flags).join(' ');
}
