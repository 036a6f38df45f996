# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# The lab's hosts and addresses. examples/ names the same addresses.
#
#   client      192.168.100.10   fd00:100::10         outside the cluster
#   node-a      192.168.100.1    fd00:100::1          pods 10.244.1.0/24, fd00:10:244:1::/64
#   node-b      192.168.100.2    fd00:100::2          pods 10.244.2.0/24, fd00:10:244:2::/64
#   node-c      192.168.100.3    fd00:100::3          pods 10.244.3.0/24, fd00:10:244:3::/64
#   outside     203.0.113.10     2001:db8:99::10      of the shapes kubenet and azure-cni: beyond the network
#   pod-XN      10.244.X.1N      fd00:10:244:X::1N    X as in its node: a 1, b 2, c 3
#
# Services: 10.96.0.0/16 and fd00:10:96::/112; pods: 10.244.0.0/16 and fd00:10:244::/48.

LAB=${MAGLANE_LAB:-maglane}
RUN=/run/maglane-lab/$LAB
BPFFS=/sys/fs/bpf/maglane-lab/$LAB

POD_CIDRS=(10.244.0.0/16 fd00:10:244::/48)
SERVICE_CIDRS=(10.96.0.0/16 fd00:10:96::/112)
# What pods send to: the host end of their link, the same address for each of them.
POD_GATEWAY4=169.254.1.1
POD_GATEWAY6=fe80::1

# routed: pods' links and routes to each node's pods. kubenet: a bridge, with routes to each node's pods.
# azure-cni: pods' links, and a route to each pod on every host of the network.
shape() { cat "$RUN/shape" 2>/dev/null || echo routed; }
has_outside() { [[ $(shape) != routed ]]; }

namespace() { echo "$LAB-$1"; }
node_number() { case $1 in node-a | pod-a?) echo 1 ;; node-b | pod-b?) echo 2 ;; node-c | pod-c?) echo 3 ;; esac; }
node_of_pod() { echo "node-${1:4:1}"; }
pods_of_node() { echo "pod-${1#node-}1 pod-${1#node-}2"; }

address4() {
  case $1 in
    client) echo 192.168.100.10 ;;
    outside) echo 203.0.113.10 ;;
    node-?) echo "192.168.100.$(node_number "$1")" ;;
    pod-??) echo "10.244.$(node_number "$1").1${1:5:1}" ;;
  esac
}
# The kubenet shape's bridge, which is its pods' gateway.
bridge4() { echo "10.244.$(node_number "$1").1"; }
bridge6() { echo "fd00:10:244:$(node_number "$1")::1"; }
address6() {
  case $1 in
    client) echo fd00:100::10 ;;
    outside) echo 2001:db8:99::10 ;;
    node-?) echo "fd00:100::$(node_number "$1")" ;;
    pod-??) echo "fd00:10:244:$(node_number "$1")::1${1:5:1}" ;;
  esac
}

# What is up, of what there can be.
nodes_up() {
  local node
  for node in node-a node-b node-c; do
    [[ -e /run/netns/$(namespace "$node") ]] && echo "$node"
  done
  true
}
pods_up() {
  local node
  for node in $(nodes_up); do
    pods_of_node "$node" | tr ' ' '\n'
  done
}
hosts_up() {
  [[ -e /run/netns/$(namespace client) ]] && echo client
  [[ -e /run/netns/$(namespace outside) ]] && echo outside
  nodes_up
  pods_up
}
