#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# documented_test.sh PROGRAM COMPLETION MANUAL COMMAND...: each command and option that --help
# lists, of the program and of each COMMAND, is in the manual and is offered by the completion.
set -u
program=$1 completion=$2 manual=$3
shift 3
name=$(basename "$program")
failures=0
fail() {
  echo "$*"
  failures=$((failures + 1))
}

# shellcheck source=/dev/null
source "$completion"
PATH=$(dirname "$program"):$PATH
text=$(sed 's/\\-/-/g; s/\\f.//g' "$manual")

# offered WORDS...: what the completion offers after these words.
offered() {
  COMP_WORDS=("$name" "$@" "")
  COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
  "_${name//-/_}" "$name" 2>/dev/null
  echo "${COMPREPLY[*]}"
}

# check WORDS...
check() {
  local help choices item
  help=$("$program" "$@" --help) || fail "$name $* --help: exit $?"
  choices=$(offered "$@")
  for item in $(sed -nE 's/^ +(-h,)?(--[a-z-]+).*/\2/p; /^Subcommands:/,$s/^  ([a-z]+) .*/\1/p' <<<"$help"); do
    [[ " $choices " == *" $item "* ]] || fail "completion: \"$name $*\" is not followed by $item"
    grep -qE -- "(^|[^a-z-])$item([^a-z-]|\$)" <<<"$text" || fail "manual: $item of \"$name $*\" is not in it"
  done
}

check
for command in "$@"; do
  # shellcheck disable=SC2086
  check $command
done
exit $((failures != 0))
