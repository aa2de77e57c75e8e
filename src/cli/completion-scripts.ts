/**
 * The scripts of the shells. Each passes the words to `hearth __complete`, which knows the commands and asks hearthd
 * for names. Each line of its output is a candidate; `:path` alone makes the shell complete files.
 */
const bash = `# hearth completion for bash
_hearth() {
  local line
  COMPREPLY=()
  local cur=\${COMP_WORDS[COMP_CWORD]} words=()
  # bash splits at the colon of VM:PATH and debian:trixie, which are one word here.
  if declare -F __ltrim_colon_completions _get_comp_words_by_ref >/dev/null; then
    local at
    _get_comp_words_by_ref -n : -c cur -w words -i at
    words=("\${words[@]:1:at}")
  else
    words=("\${COMP_WORDS[@]:1:COMP_CWORD}")
  fi
  while IFS= read -r line; do
    if [ "$line" = :path ]; then
      compopt -o filenames 2>/dev/null
      while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "$cur")
    else
      COMPREPLY+=("$line")
    fi
  done < <(hearth __complete -- "\${words[@]}" 2>/dev/null)
  if declare -F __ltrim_colon_completions >/dev/null; then __ltrim_colon_completions "$cur"; fi
}
complete -F _hearth hearth
`;

const zsh = `#compdef hearth
_hearth() {
  local -a found
  found=("\${(@f)$(hearth __complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if (( \${found[(Ie):path]} )); then
    found=("\${(@)found:#:path}")
    _files
  fi
  [[ -n "\${found[*]}" ]] && compadd -- "\${(@)found}"
}
if [ "\${funcstack[1]}" = _hearth ]; then _hearth "$@"; else compdef _hearth hearth; fi
`;

const fish = `# hearth completion for fish
function __hearth_complete
    set -l words (commandline -opc)[2..-1] (commandline -ct)
    for line in (hearth __complete -- $words 2>/dev/null)
        if test "$line" = :path
            __fish_complete_path (commandline -ct)
        else
            echo $line
        end
    end
end
complete -c hearth -f -a '(__hearth_complete)'
`;

export const COMPLETION_SCRIPTS = { bash, zsh, fish } as const;
