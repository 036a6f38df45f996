# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# The agents of the lab's nodes. Each has, under $RUN: NODE.sock, NODE.agent.log,
# NODE.agent.pid and NODE.agent.args (what it was started with, for `restart`).

agent_program() {
  [[ -x $BUILD/bin/maglane-agent ]] || die "$BUILD/bin/maglane-agent is not built: cmake --preset release && cmake --build --preset release"
  echo "$BUILD/bin/maglane-agent"
}

# The agent's pid, or nothing. A zombie is no agent, nor is a later process with its pid. But one with
# threads left is: they hold its socket.
agent_pid() { # NODE
  local pid threads
  pid=$(cat "$RUN/$1.agent.pid" 2>/dev/null) || return 0
  grep -qs $'^Name:\tmaglane-agent' "/proc/$pid/status" || return 0
  threads=("/proc/$pid/task/"*)
  if ((${#threads[@]} > 1)) || ! grep -qs $'^State:\tZ' "/proc/$pid/status"; then
    echo "$pid"
  fi
}

with_agent_environment() { # NODE COMMAND...
  local node=$1
  shift
  MAGLANE_BPFFS=$BPFFS/$node MAGLANE_SOCKET=$RUN/$node.sock PATH=$BUILD/bin:$PATH in_host "$node" "$@"
}

# What the lab's shape means to an agent, a word a line.
model_flags() {
  case $(shape) in
    kubenet) printf '%s\n' --network-model kubenet ;;
    azure-cni) printf '%s\n' --network-model azure-cni --vnet-cidr 192.168.100.0/24 --vnet-cidr fd00:100::/64 \
      --vnet-cidr "${POD_CIDRS[0]}" --vnet-cidr "${POD_CIDRS[1]}" ;;
  esac
}

agent_start() { # NODE ARGUMENTS...
  local node=$1 program cidr args
  shift
  program=$(agent_program)
  if [[ -n $(agent_pid "$node") ]]; then
    return
  fi
  args=(--node-name "$node" --uplink eth0 --pod-device 'pod-*')
  for cidr in "${POD_CIDRS[@]}"; do args+=(--pod-cidr "$cidr"); done
  for cidr in "${SERVICE_CIDRS[@]}"; do args+=(--service-cidr "$cidr"); done
  if [[ " $* " != *" --network-model "* ]]; then
    mapfile -t -O "${#args[@]}" args < <(model_flags)
  fi
  args+=("$@")
  printf '%s\0' "$@" >"$RUN/$node.agent.args"
  mkdir -p "$BPFFS"
  MAGLANE_BPFFS=$BPFFS/$node MAGLANE_SOCKET=$RUN/$node.sock \
    start_in_host "$node" "$RUN/$node.agent.log" "$program" "${args[@]}"
  echo $! >"$RUN/$node.agent.pid"
  # Until the shell that was forked has become the agent.
  while [[ -z $(agent_pid "$node") ]] && kill -0 $! 2>/dev/null; do
    sleep 0.01
  done
}

agent_wait() { # NODE
  local deadline=$((SECONDS + 180)) # an emulated machine under load verifies programs for a minute
  until with_agent_environment "$1" maglane status --wait 20 &>/dev/null; do
    if [[ -z $(agent_pid "$1") ]]; then
      tail -n 20 "$RUN/$1.agent.log" >&2
      die "the agent of $1 ended; its log is $RUN/$1.agent.log"
    fi
    ((SECONDS < deadline)) || die "the agent of $1 is not ready after three minutes; its log is $RUN/$1.agent.log"
    sleep 0.1
  done
}

agent_end() { # NODE SIGNAL
  local pid deadline=$((SECONDS + 15))
  pid=$(agent_pid "$1")
  [[ -n $pid ]] || return 0
  kill "-$2" "$pid"
  while [[ -n $(agent_pid "$1") ]]; do
    ((SECONDS < deadline)) || die "the agent of $1 (pid $pid) does not end on SIG$2"
    sleep 0.02
  done
  rm -f "$RUN/$1.agent.pid"
}

# Detaches and unpins everything: by the agent's own means, then what is left by unpinning.
agent_cleanup() { # NODE
  agent_end "$1" TERM
  if [[ -d $BPFFS/$1 ]]; then
    if [[ -x $BUILD/bin/maglane-agent && -e /run/netns/$(namespace "$1") ]]; then
      with_agent_environment "$1" "$BUILD/bin/maglane-agent" --cleanup &>>"$RUN/$1.agent.log" || true
    fi
    rm -rf "${BPFFS:?}/$1"
  fi
  rm -f "$RUN/$1".agent.* "$RUN/$1.sock"
}

agent_restart() { # NODE
  local args=()
  [[ -f $RUN/$1.agent.args ]] || die "no agent was started on $1: lab agents up"
  mapfile -d '' -t args <"$RUN/$1.agent.args"
  agent_end "$1" TERM
  agent_start "$1" "${args[@]}"
  agent_wait "$1"
}

agents_command() { # up|down [OPTIONS]
  local verb=${1:-} xdp=auto manifests=$ROOT/examples extra=() node
  shift || true
  while [[ $# -gt 0 ]]; do
    case $1 in
      --xdp) xdp=${2:?--xdp needs a mode} && shift 2 ;;
      --manifests) manifests=$(realpath "${2:?--manifests needs a directory}") && shift 2 ;;
      --) shift && extra=("$@") && break ;;
      *) usage_error "agents: unknown option $1 (--xdp MODE, --manifests DIR, -- AGENT-FLAGS...)" ;;
    esac
  done
  case $verb in
    up)
      [[ -n $(nodes_up) ]] || die "the lab is not up: lab up"
      for node in $(nodes_up); do
        agent_start "$node" --manifests "$manifests" --xdp "$xdp" "${extra[@]}"
      done
      for node in $(nodes_up); do
        agent_wait "$node"
      done
      ;;
    down) for node in $(nodes_up); do agent_cleanup "$node"; done ;;
    *) usage_error "agents: say up or down" ;;
  esac
}

agent_command() { # NODE start|stop|kill|restart|log
  local node=${1:-} args=()
  [[ $node == node-? && -e /run/netns/$(namespace "$node") ]] || usage_error "agent: there is no node '$node' (there are: $(nodes_up | xargs))"
  case ${2:-} in
    start)
      [[ -f $RUN/$node.agent.args ]] && mapfile -d '' -t args <"$RUN/$node.agent.args"
      [[ ${#args[@]} -gt 0 ]] || args=(--manifests "$ROOT/examples")
      agent_start "$node" "${args[@]}" && agent_wait "$node"
      ;;
    stop) agent_end "$node" TERM ;;
    kill) agent_end "$node" KILL ;;
    restart) agent_restart "$node" ;;
    log) cat "$RUN/$node.agent.log" ;;
    *) usage_error "agent $node: say start, stop, kill, restart or log" ;;
  esac
}
