/** The completion script for zsh: to be sourced, or put into a folder of `fpath`. */
import { type CommandWords, type OptionWords, valueFlags, withChoices } from './words.js';

export function zshScript(name: string, [program, ...commands]: readonly [CommandWords, ...CommandWords[]]): string {
  const fn = `_${name}`;
  const cases = commands.map(
    ({ path, next, options }) => `    ${word(path.join(' '))})
      next=(${nextOf(next)})
      options=(${optionsOf(options)}) ;;`,
  );
  return `#compdef ${name}
# Completes ${name} in zsh. Load it with: source <(${name} completion zsh)
${fn}() {
  local at='' i
  local -a next options common
  next=(${nextOf(program.next)})
  common=(${optionsOf(program.options)})
  for ((i = 2; i < CURRENT; i++)); do
    case "$words[i]" in
      --) _files; return ;;
      ${valueFlags([program, ...commands]).join('|')}) ((i++)) ;;
      -*) ;;
      *)
        case "\${at:+$at }$words[i]" in
          ${commands.map(({ path }) => word(path.join(' '))).join('|')}) at="\${at:+$at }$words[i]" ;;
        esac ;;
    esac
  done
  # The value of an option is one of a few, a file, or nothing that is known here.
  if ((i > CURRENT)); then
    case "$words[CURRENT - 1]" in
${withChoices([program, ...commands])
  .map(
    ({ flags, choices }) => `      ${flags.join('|')}) next=(${choices.map(word).join(' ')}); _describe value next ;;`,
  )
  .join('\n')}
      *) _files ;;
    esac
    return
  fi
  case "$at" in
${cases.join('\n')}
  esac
  if [[ $words[CURRENT] == -* ]]; then
    options+=($common)
    _describe option options
  elif ((\${#next})); then
    _describe command next
  else
    _files
  fi
}
# In a folder of fpath, this file is the function itself when it is called for the first time.
if [[ $funcstack[1] == ${fn} ]]; then ${fn} "$@"; else compdef ${fn} ${name}; fi
`;
}

function nextOf(next: CommandWords['next']): string {
  return next.map(({ name, summary }) => described(name, summary)).join(' ');
}

function optionsOf(options: readonly OptionWords[]): string {
  return options.flatMap(({ flags, summary }) => flags.map((flag) => described(flag, summary))).join(' ');
}

function described(text: string, summary: string): string {
  return word(summary === '' ? text : `${text}:${summary}`);
}

function word(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
