# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Makes and removes the lab's network namespaces and what joins them. Every step leaves
# what is there already as it is, so that a second run completes or repairs.

# The link of the one host that is on this machine to those on others; empty: all are here.
DEVICE=

in_host() { # HOST COMMAND...
  local host=$1
  shift
  nsenter --net="/run/netns/$(namespace "$host")" "$@"
}
# In the background, in a session of its own and without the lock; $! is the command's pid.
start_in_host() { # HOST LOG COMMAND...
  local host=$1 log=$2
  shift 2
  (exec nsenter --net="/run/netns/$(namespace "$host")" setsid "$@" </dev/null >>"$log" 2>&1 9>&-) &
}
ip_in() { # HOST ARGUMENTS... of ip(8)
  local host=$1
  shift
  ip -n "$(namespace "$host")" "$@"
}
has_device() { ip_in "$1" link show dev "$2" &>/dev/null; }

# Partial checksums are a veth's privilege: a frame that leaves a real machine is complete.
# GRO, besides being on everywhere, makes the far end of a link take redirected XDP frames.
set_offloads() { # HOST DEVICE
  in_host "$1" ethtool -K "$2" tx off gro on >/dev/null 2>&1 || die "ethtool failed on $2 of $1"
}

make_host() { # HOST [SYSCTL=VALUE...]
  local host=$1 name
  shift
  name=$(namespace "$host")
  if [[ ! -e /run/netns/$name ]]; then
    ip netns add "$name"
  fi
  ip_in "$host" link set lo up
  in_host "$host" sysctl -qw net.ipv6.conf.{default,all}.accept_dad=0 net.ipv6.conf.{default,all}.accept_ra=0 "$@"
}

make_fabric() {
  make_host fabric
  if ! has_device fabric bridge; then
    ip_in fabric link add bridge type bridge stp_state 0 forward_delay 0 mcast_snooping 0
  fi
  ip_in fabric link set bridge up
  # Where the kernel has it: frames of the bridge are no business of its packet filter.
  in_host fabric sysctl -qew net.bridge.bridge-nf-call-{iptables,ip6tables,arptables}=0 2>/dev/null || true
  clang -O2 -target bpf -isystem "/usr/include/$(gcc -print-multiarch)" \
    -c "$ROOT/tools/lab.d/pass.bpf.c" -o "$RUN/pass.bpf.o"
}

join_fabric() { # HOST
  local host=$1
  if [[ -n $DEVICE ]]; then
    if ! has_device "$host" eth0; then
      ip link set "$DEVICE" down netns "$(namespace "$host")" name eth0
      echo "$DEVICE" >"$RUN/$host.device"
    fi
  else
    join_bridge "$host"
  fi
  ip_in "$host" link set eth0 up
  set_offloads "$host" eth0
  ip_in "$host" addr replace "$(address4 "$host")/24" dev eth0
  ip_in "$host" addr replace "$(address6 "$host")/64" dev eth0 nodad
}

join_bridge() { # HOST
  local host=$1
  if ! has_device "$host" eth0; then
    ip link add eth0 netns "$(namespace "$host")" type veth peer name "$host" netns "$(namespace fabric)"
  fi
  ip_in fabric link set "$host" master bridge up
  ip_in fabric -force link set dev "$host" xdp obj "$RUN/pass.bpf.o" sec xdp
  set_offloads fabric "$host"
}

make_client() {
  make_host client
  join_fabric client
}

# On the same wire, for a router that there is none of; nothing inside but the nodes' network has a
# way back from there.
make_outside() {
  make_host outside
  join_fabric outside
  ip_in outside route replace 192.168.100.0/24 dev eth0
  ip_in outside -6 route replace fd00:100::/64 dev eth0
}

make_node() { # NODE
  local node=$1 pod
  make_host "$node" net.ipv4.ip_forward=1 net.ipv6.conf.{default,all}.forwarding=1 \
    net.ipv4.conf.{default,all}.rp_filter=1
  join_fabric "$node"
  # The way to the outside world: what should not have left the node arrives at the client.
  ip_in "$node" route replace default via "$(address4 client)"
  ip_in "$node" -6 route replace default via "$(address6 client)"
  if has_outside; then
    ip_in "$node" route replace 203.0.113.0/24 dev eth0
    ip_in "$node" -6 route replace 2001:db8:99::/64 dev eth0
  fi
  for pod in $(pods_of_node "$node"); do
    make_pod "$pod"
  done
}

make_pod() { # POD
  local pod=$1 node
  node=$(node_of_pod "$pod")
  make_host "$pod"
  if ! has_device "$pod" eth0 || ! has_device "$node" "$pod"; then
    ip link add eth0 netns "$(namespace "$pod")" type veth peer name "$pod" netns "$(namespace "$node")"
  fi
  ip_in "$node" link set "$pod" up
  ip_in "$pod" link set eth0 up
  set_offloads "$node" "$pod"
  set_offloads "$pod" eth0
  if [[ $(shape) == kubenet ]]; then
    join_pod_bridge "$pod" "$node"
  else
    route_pod "$pod" "$node"
  fi
  start_server "$pod"
}

# A link of its own, with a route to it.
route_pod() { # POD NODE
  local pod=$1 node=$2
  ip_in "$node" addr replace "$POD_GATEWAY4/32" dev "$pod" scope link
  ip_in "$node" addr replace "$POD_GATEWAY6/64" dev "$pod" nodad
  ip_in "$node" route replace "$(address4 "$pod")/32" dev "$pod" src "$(address4 "$node")"
  ip_in "$node" -6 route replace "$(address6 "$pod")/128" dev "$pod" src "$(address6 "$node")"
  ip_in "$pod" addr replace "$(address4 "$pod")/32" dev eth0
  ip_in "$pod" addr replace "$(address6 "$pod")/128" dev eth0 nodad
  ip_in "$pod" route replace "$POD_GATEWAY4/32" dev eth0 scope link
  ip_in "$pod" route replace default via "$POD_GATEWAY4"
  ip_in "$pod" -6 route replace default via "$POD_GATEWAY6" dev eth0
}

# One network for all pods of the node.
join_pod_bridge() { # POD NODE
  local pod=$1 node=$2
  if ! has_device "$node" cbr0; then
    ip_in "$node" link add cbr0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0
    in_host "$node" sysctl -qew net.bridge.bridge-nf-call-{iptables,ip6tables,arptables}=0 2>/dev/null || true
  fi
  ip_in "$node" link set cbr0 up
  ip_in "$node" addr replace "$(bridge4 "$node")/24" dev cbr0
  ip_in "$node" addr replace "$(bridge6 "$node")/64" dev cbr0 nodad
  ip_in "$node" link set "$pod" master cbr0
  ip_in "$pod" addr replace "$(address4 "$pod")/24" dev eth0
  ip_in "$pod" addr replace "$(address6 "$pod")/64" dev eth0 nodad
  ip_in "$pod" route replace default via "$(bridge4 "$node")"
  ip_in "$pod" -6 route replace default via "$(bridge6 "$node")" dev eth0
}

start_server() { # POD
  local pid
  pid=$(cat "$RUN/$1.pid" 2>/dev/null || true)
  if [[ -n $pid ]] && ip netns pids "$(namespace "$1")" | grep -x "$pid" >/dev/null; then
    return
  fi
  start_in_host "$1" "$RUN/$1.log" "$ROOT/tools/lab.d/pod-server.py" "$1"
  echo $! >"$RUN/$1.pid"
}

wait_for_server() { # POD
  local deadline=$((SECONDS + 15)) url
  for url in "http://$(address4 "$1"):8080/" "http://[$(address6 "$1")]:8080/"; do
    until in_host "$(node_of_pod "$1")" curl -sf --max-time 1 "$url" >/dev/null; do
      ((SECONDS < deadline)) || die "$1 does not answer $url; its log is $RUN/$1.log"
      sleep 0.05
    done
  done
}

route_between_nodes() { # NODES: those that there are, on whichever machine
  local from to
  for from in $(nodes_up); do
    for to in "$@"; do
      [[ $from == "$to" ]] && continue
      ip_in "$from" route replace "10.244.$(node_number "$to").0/24" via "$(address4 "$to")"
      ip_in "$from" -6 route replace "fd00:10:244:$(node_number "$to")::/64" via "$(address6 "$to")"
    done
  done
}

# A flat network: each of its hosts has a way to each pod.
route_to_pods() {
  local host pod
  for pod in $(pods_up); do
    for host in client $(nodes_up); do
      [[ $host == "$(node_of_pod "$pod")" ]] && continue
      ip_in "$host" route replace "$(address4 "$pod")/32" via "$(address4 "$(node_of_pod "$pod")")"
      ip_in "$host" -6 route replace "$(address6 "$pod")/128" via "$(address6 "$(node_of_pod "$pod")")"
    done
  done
}

hosts_up_command() { # NODES SHAPE
  local number=$1 shape=$2 node pod
  mkdir -p "$RUN"
  if [[ -n $(nodes_up) && $(shape) != "$shape" ]]; then
    die "the lab is up in the shape $(shape): lab down first"
  fi
  echo "$shape" >"$RUN/shape"
  make_fabric
  make_client
  if has_outside; then
    make_outside
  fi
  for node in node-a node-b node-c; do
    ((number-- > 0)) || break
    make_node "$node"
  done
  if [[ $shape == azure-cni ]]; then
    route_to_pods
  else
    # shellcheck disable=SC2046 # names, one a word
    route_between_nodes $(nodes_up)
  fi
  for pod in $(pods_up); do
    wait_for_server "$pod"
  done
}

# The one host HOST, with its pods, by a device of this machine.
hosts_join_command() { # HOST DEVICE NODES
  local host=$1 every=(node-a node-b node-c) pod
  DEVICE=$2
  mkdir -p "$RUN"
  if [[ $host == client ]]; then
    make_client
    return
  fi
  make_node "$host"
  route_between_nodes "${every[@]:0:$3}"
  for pod in $(pods_up); do
    wait_for_server "$pod"
  done
}

kill_all_in() { # NAMESPACE
  local pids deadline=$((SECONDS + 3))
  mapfile -t pids < <(ip netns pids "$1")
  while [[ ${#pids[@]} -gt 0 ]]; do
    kill -KILL "${pids[@]}" 2>/dev/null || true
    ((SECONDS < deadline)) || break
    sleep 0.02
    mapfile -t pids < <(ip netns pids "$1")
  done
}

# A device that was taken for `join` goes back under the name that it had; a veth ends with its host.
give_device_back() { # HOST
  local device
  device=$(cat "$RUN/$1.device" 2>/dev/null) || return 0
  ip_in "$1" link set eth0 down netns $$ name "$device"
}

hosts_down_command() {
  local host name
  for host in client outside node-{a,b,c} pod-{a,b,c}{1,2} fabric; do
    name=$(namespace "$host")
    [[ -e /run/netns/$name ]] || continue
    kill_all_in "$name"
    give_device_back "$host"
    ip netns delete "$name"
  done
  rm -rf "$RUN"
  rmdir /run/maglane-lab 2>/dev/null || true
}
