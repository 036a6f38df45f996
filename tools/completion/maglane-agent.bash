# SPDX-License-Identifier: Apache-2.0
# bash completion for maglane-agent(8)

_maglane_agent() {
  local current=${COMP_WORDS[COMP_CWORD]} choices=''
  COMPREPLY=()
  case ${COMP_WORDS[COMP_CWORD - 1]} in
    --manifests | --bpffs) compopt -o dirnames; return ;;
    --config | --socket | --masq-config) compopt -o default; return ;;
    --node-name | --pod-device | --pod-cidr | --service-cidr | --node-port-addresses | --flow-table-size | \
      --affinity-entries | --maglev-entries | --snat-ports | --vnet-cidr | --node-port-range | --healthz-timeout) return ;;
    --healthz-address) choices="0.0.0.0:10256 off" ;;
    --metrics-address) choices="127.0.0.1:10249 off" ;;
    --*-timeout | --*-timeout-*) return ;;
    --uplink) choices=$(command ls /sys/class/net) ;;
    --network-model) choices="kubenet azure-cni custom none" ;;
    --pod-detection) choices="auto cluster-cidr node-cidr interface" ;;
    --xdp) choices="auto native generic off" ;;
    --socket-translation) choices="host all off" ;;
    --log-level) choices="trace debug info warn error" ;;
    *) choices="--config --node-name --manifests --uplink --pod-device --pod-cidr --pod-detection --service-cidr
                --node-port-addresses --masquerade-all --network-model --vnet-cidr --masq-config --node-port-range --xdp
                --socket-translation --flow-table-size --affinity-entries --maglev-entries --snat-ports
                --healthz-address --healthz-timeout --metrics-address
                --tcp-timeout-syn-sent --tcp-timeout-syn-recv --tcp-timeout-established --tcp-timeout-fin-wait
                --tcp-timeout-close-wait --tcp-timeout-last-ack --tcp-timeout-time-wait --tcp-timeout-close
                --tcp-timeout-unacknowledged --udp-timeout --udp-timeout-stream --icmp-timeout
                --sctp-timeout-cookie-wait --sctp-timeout-established --sctp-timeout-shutdown
                --sctp-timeout-closed --sctp-timeout-heartbeat-sent
                --bpffs --socket --log-level --cleanup --help --version" ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$current")
}

complete -F _maglane_agent maglane-agent
