#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# usage_test.sh MAGLANE: exit codes and messages of the command line; needs neither root nor maps.
set -u
program=$1
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
export MAGLANE_BPFFS=$directory/none MAGLANE_SOCKET=$directory/none.sock
failures=0

# expect CODE PATTERN ARGUMENTS...: standard output and error together match the pattern.
expect() {
  local code=$1 pattern=$2 output got
  shift 2
  output=$("$program" "$@" 2>&1)
  got=$?
  if [[ $got != "$code" || ! $output =~ $pattern ]]; then
    printf 'maglane %s: exit %s, expected %s and "%s"; got:\n%s\n' "$*" "$got" "$code" "$pattern" "$output"
    failures=$((failures + 1))
  fi
}

expect 0 'service.*backend.*flow.*socket.*maglev.*affinity.*stats' --help
expect 0 'show' service --help
expect 0 'ambiguous' service show --help
expect 0 '--source' flow list --help
expect 0 '^maglane [0-9]+\.[0-9]+' --version

expect 2 'status, service, backend, flow, socket, maglev, masquerade, affinity, stats.*maglane --help'
expect 2 'no command "monitor"; there are: status, service, backend, flow, socket, maglev, masquerade, affinity, stats' monitor
expect 2 'no command "drop"; there are: list, count, flush; see `maglane flow --help`' flow drop
expect 2 'SERVICE' service show
expect 2 'show' maglev
expect 2 'unexpected argument "extra"' stats extra
expect 2 'unexpected option "--nope"' service list --nope
expect 2 'needs a filter such as --source, or --all' flow flush
expect 2 'either filters or --all' flow flush --all --port 80
expect 2 '--protocol' flow list --protocol icmp
expect 2 'host bits set; did you mean 10.0.0.0/8' flow list --source 10.1.0.0/8
expect 2 'CIDR' flow count --destination x
expect 2 '--port' flow list --port 70000
expect 2 '--port' flow list --port -1
expect 2 '--state' flow list --state open
expect 2 '--family' flow list --family 5
expect 2 '--wait' status --wait -1
expect 2 '--wait' status --wait soon

for command in 'service' 'service list' 'service show x' 'backend list' 'socket list' 'flow list' 'flow count' \
    'flow flush --all' 'maglev show x' 'affinity list' 'stats'; do
  # shellcheck disable=SC2086
  expect 1 'no maglane data plane at .*/none: is the agent running there, or did you mean --bpffs' $command
  # shellcheck disable=SC2086
  expect 1 'no maglane data plane at /other' $command --bpffs /other --json
done
expect 1 'no agent listens on .*/none.sock.*no maglane data plane' status
expect 1 'no agent listens on /other.sock' --json status --socket /other.sock

exit $((failures != 0))
