#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Checks table.pml exhaustively, then with each rule of the protocol broken in turn, which must
# be noticed. $1: the model. Options after it go to spin (-DWRITES=2: two operations a writer;
# hours and tens of gigabytes).
set -euo pipefail

model=$(realpath "$1")
shift
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

# Leaves spin's verdict in `verdict`.
search() {
  rm -f pan* ./*.trail
  spin -a "$@" "$model"
  # Collapsed states: a third of the memory.
  ${CC:-gcc} -O2 -w -DSAFETY -DCOLLAPSE -o pan pan.c
  ./pan -m100000 -w24 >verdict
  if grep -E "max search depth too small|out of memory|memory limit" verdict; then
    echo "the search was cut short: it proves nothing"
    exit 1
  fi
}

search "$@"
grep -E "errors:|states, stored" verdict
grep -q "errors: 0" verdict || { cat verdict; exit 1; }
for broken in NO_VERSION NO_ODD EARLY_ACCOUNT NO_ACCOUNT ONE_LOCK ANY_VERSION; do
  search "-D$broken" "$@"
  grep -q "errors: 1" verdict || { echo "$broken: nothing was noticed"; exit 1; }
  echo "$broken: $(grep -m 1 -o "assertion violated.*" verdict)"
done
