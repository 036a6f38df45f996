# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Sourced by the scripts of this directory: where things are, and how to say what happens.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=${MAGLANE_BUILD:-$ROOT/build/release}

if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
  BOLD=$'\e[1m' DIM=$'\e[2m' RED=$'\e[31m' GREEN=$'\e[32m' BLUE=$'\e[34m' PLAIN=$'\e[0m'
else
  BOLD='' DIM='' RED='' GREEN='' BLUE='' PLAIN=''
fi

headline() { printf '%s\n' "$BOLD$BLUE==>$PLAIN$BOLD $*$PLAIN"; }
say() { printf '%s\n' "    $*"; }
die() {
  printf '%s\n' "$RED${0##*/}: $*$PLAIN" >&2
  exit 1
}
# Wrong usage, as told from a failure by the exit status.
usage_error() {
  printf '%s\n' "${0##*/}: $*" >&2
  exit 2
}
need_root() {
  [[ $EUID -eq 0 ]] || die "needs root (network namespaces and BPF)"
}
