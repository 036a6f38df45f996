# SPDX-License-Identifier: Apache-2.0
# bash completion for maglane(8)

_maglane_services() {
  local name services=()
  while read -r name _; do
    services+=("$name")
  done < <("$1" service list 2>/dev/null | sed -n '2,${/^ /!p}')
  printf '%s\n' "${services[@]}"
}

_maglane() {
  local program=$1 current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
  local words=() word skip='' choices=''
  COMPREPLY=()

  # The object and the verb: what is neither an option nor an option's value.
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    if [[ -n $skip ]]; then
      skip=
      continue
    fi
    case $word in
      --bpffs | --socket | --wait | --protocol | --source | --destination | --port | --service | --state | --family | --direction) skip=1 ;;
      -*) ;;
      *) words+=("$word") ;;
    esac
  done

  case $previous in
    --bpffs) compopt -o dirnames; return ;;
    --socket) compopt -o default; return ;;
    --wait | --source | --destination | --port) return ;;
    --protocol) choices="tcp udp sctp" ;;
    --family) choices="4 6" ;;
    --direction) choices="forward reply" ;;
    --state) choices="opening established closing reset closed new replied" ;;
    --service) choices=$(_maglane_services "$program") ;;
  esac
  if [[ -z $choices ]]; then
    local common="--json --bpffs --socket --help" filters="--protocol --source --destination --port --service --state --family --direction"
    case "${words[*]}" in
      "") choices="status service backend flow socket maglev masquerade affinity stats --version $common" ;;
      status) choices="--wait $common" ;;
      service) choices="list show $common" ;;
      backend | affinity) choices="list $common" ;;
      flow) choices="list count flush $filters $common" ;;
      socket) choices="list $common" ;;
      masquerade) choices="show $common" ;;
      "masquerade show") choices="--all $common" ;;
      maglev) choices="show $common" ;;
      stats) choices="--all $common" ;;
      "service show" | "maglev show") choices="$(_maglane_services "$program") $common" ;;
      "flow list" | "flow count") choices="$filters $common" ;;
      "flow flush") choices="$filters --all $common" ;;
      *) choices=$common ;;
    esac
  fi
  mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$current")
  # A colon ends a word for readline, so what is before it must not be completed again.
  if [[ $current == *:* ]] && declare -F __ltrim_colon_completions >/dev/null; then
    __ltrim_colon_completions "$current"
  fi
}

complete -F _maglane maglane
