#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Benchmarks on a machine of the Vagrantfile; see usage().
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../tools/common.sh"

usage() {
  cat <<USAGE
Usage: vagrant/bench.sh [--once] [NAME...]

Runs tools/bench NAME on machine node-a, which must be up; default: packet, table and forward (beside
nftables, iptables and ipvs). The figures stay in build/bench/vagrant-KERNEL/NAME.json, so that those
of several kernels (MAGLANE_KERNEL) lie side by side. --once: one short iteration each.
USAGE
}

on_machine() { (cd "$ROOT/vagrant" && vagrant ssh node-a -c "${*@Q}" -- -q -T); }

options=(--json) names=()
for argument in "$@"; do
  case $argument in
    --once) options+=(--once) ;;
    -h | --help) usage && exit 0 ;;
    -*) usage >&2 && exit 2 ;;
    *) names+=("$argument") ;;
  esac
done
[[ ${#names[@]} -gt 0 ]] || names=(packet table forward)

kernel=$(on_machine uname -r | tr -d '\r\n')
[[ -n $kernel ]] || die "machine node-a does not answer: vagrant up"
results=$ROOT/build/bench/vagrant-$kernel
mkdir -p "$results"
for name in "${names[@]}"; do
  headline "$name on $kernel"
  extra=()
  [[ $name != forward ]] || extra=(--peer nftables --peer iptables --peer ipvs)
  on_machine sudo /maglane/tools/bench "$name" "${options[@]}" "${extra[@]}" >"$results/$name.json.new"
  mv "$results/$name.json.new" "$results/$name.json"
  "$ROOT/tools/plot" --table "$results/$name.json"
done
say "the figures are in ${results#"$ROOT/"}"
