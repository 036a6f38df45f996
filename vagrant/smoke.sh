#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Does the lab carry traffic? See usage().
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../tools/common.sh"
. "$ROOT/tools/lab.d/plan.sh"

CLUSTER_IP4=10.96.0.80 NODE_PORT=30080 IDLE_PORT=30099
REQUESTS=40

usage() {
  cat <<USAGE
Usage: vagrant/smoke.sh [--lab]

Sends real traffic through the services of examples/ on the machines of the Vagrantfile, which must
be up, and kills an agent meanwhile. With --lab on the lab of tools/lab on this machine instead.
Exit status 0 if all is as it should be.
USAGE
}

machine_of() { # HOST
  case $1 in pod-*) node_of_pod "$1" ;; *) echo "$1" ;; esac
}
lab_of() { # HOST COMMAND... of tools/lab, on the machine of that host
  local host=$1
  shift
  if $local_lab; then
    "$ROOT/tools/lab" "$@"
  else
    (cd "$ROOT/vagrant" && vagrant ssh "$(machine_of "$host")" -c "sudo /maglane/tools/lab ${*@Q}" -- -q -T)
  fi
}
on() { # HOST COMMAND...
  lab_of "$1" exec "$@"
}

# The pods that answered, each once.
# shellcheck disable=SC2016 # expanded by the shell on the host
ask() { # HOST URL
  on "$1" bash -c 'for ((i = 0; i < $1; i++)); do curl -s --max-time 3 "$2" || echo "none"; done' - "$REQUESTS" "$2" |
    cut -d' ' -f1 | sort | uniq -c | awk '{ print $2 "=" $1 }' | xargs
}
check_spread() { # HOST URL
  local answers pod
  answers=$(ask "$1" "$2")
  [[ $answers != *none* ]] || die "$1, $2: of $REQUESTS requests some were not answered: $answers"
  for pod in $PODS; do
    [[ $answers == *"$pod="* ]] || die "$1, $2: $pod never answered: $answers"
  done
  say "$1, $2: $answers"
}
# shellcheck disable=SC2016
check_udp() { # HOST ADDRESS PORT
  local answer
  answer=$(on "$1" bash -c 'exec 3<>"/dev/udp/$1/$2" && echo hello >&3 && timeout 3 dd bs=2048 count=1 status=none <&3' - "$2" "$3") ||
    die "$1, UDP to $2 port $3: no answer"
  say "$1, UDP to $2 port $3: $answer"
}

check_refusal() { # HOST URL
  local status=0
  on "$1" curl -s --max-time 3 "$2" >/dev/null || status=$?
  [[ $status -eq 7 ]] || die "$1, $2: a service without endpoints must refuse at once; curl ended with $status"
  say "$1, $2: refused"
}

local_lab=false
case ${1:-} in
  '') ;;
  --lab) local_lab=true ;;
  -h | --help) usage && exit 0 ;;
  *) usage >&2 && exit 2 ;;
esac

NODES=(node-a node-b)
if $local_lab; then
  mapfile -t NODES < <(nodes_up)
elif [[ ${MAGLANE_NODES:-2} == 3 ]]; then
  NODES+=(node-c)
fi
A4=$(address4 node-a) A6=[$(address6 node-a)]
PODS="pod-a1 pod-a2 pod-b1 pod-b2"
headline "Traffic through default/web"
check_spread client "http://$A4:$NODE_PORT/"
check_spread client "http://$A6:$NODE_PORT/"
for node in "${NODES[@]:1}"; do
  check_spread client "http://$(address4 "$node"):$NODE_PORT/"
  check_spread "pod-${node#node-}2" "http://$CLUSTER_IP4/"
done
check_spread pod-a1 "http://$CLUSTER_IP4/"
check_udp client "$A4" "$NODE_PORT"
check_udp pod-a1 "$CLUSTER_IP4" 80
check_refusal client "http://$A4:$IDLE_PORT/"
headline "The same with the agent of node-a dead"
lab_of node-a agent node-a kill
trap 'lab_of node-a agent node-a start' EXIT
check_spread client "http://$A4:$NODE_PORT/"
trap - EXIT
lab_of node-a agent node-a start
on node-a maglane status | sed '/^maps/,$d' | sed 's/^/    /'
printf '%s\n' "${GREEN}${BOLD}All went well$PLAIN"
