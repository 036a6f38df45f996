// SPDX-License-Identifier: Apache-2.0
//
// How long flows may be idle, by state: the options and their defaults. States and defaults are
// netfilter's (Linux, Documentation/networking/nf_conntrack-sysctl.rst; each option is its
// sysctl without "nf_conntrack_"), but for what kube-proxy sets: established and CLOSE_WAIT of
// TCP (KubeProxyConntrackConfiguration, tcpEstablishedTimeout and tcpCloseWaitTimeout).
#pragma once

#include <array>
#include <cstdint>

#include "bpf/abi.h"

namespace maglane {

struct TimeoutOption {
  const char* name;  // of the flag, and of the key of --config
  uint32_t abi::timeouts::*member;
  uint32_t seconds;  // by default
  const char* help;
};

inline constexpr std::array<TimeoutOption, 17> kTimeouts = {{
    {"tcp-timeout-syn-sent", &abi::timeouts::tcp_syn_sent, 120, "of TCP that was not answered (default: 2m)"},
    {"tcp-timeout-syn-recv", &abi::timeouts::tcp_syn_recv, 60,
     "of TCP that was answered and not confirmed (default: 1m)"},
    {"tcp-timeout-established", &abi::timeouts::tcp_established, 86400, "of established TCP (default: 24h)"},
    {"tcp-timeout-fin-wait", &abi::timeouts::tcp_fin_wait, 120,
     "of TCP with a FIN that was not acknowledged (default: 2m)"},
    {"tcp-timeout-close-wait", &abi::timeouts::tcp_close_wait, 3600, "of half-closed TCP (default: 1h)"},
    {"tcp-timeout-last-ack", &abi::timeouts::tcp_last_ack, 30,
     "of TCP with a second FIN that was not acknowledged (default: 30s)"},
    {"tcp-timeout-time-wait", &abi::timeouts::tcp_time_wait, 120, "of closed TCP (default: 2m)"},
    {"tcp-timeout-close", &abi::timeouts::tcp_close, 10, "of TCP after a RST (default: 10s)"},
    {"tcp-timeout-unacknowledged", &abi::timeouts::tcp_unacknowledged, 300,
     "of TCP that was met in the middle and not answered, or after a RST that anybody may have sent (default: 5m)"},
    {"udp-timeout", &abi::timeouts::udp, 30, "of UDP that was not answered (default: 30s)"},
    {"udp-timeout-stream", &abi::timeouts::udp_stream, 120, "of UDP that was answered (default: 2m)"},
    {"icmp-timeout", &abi::timeouts::icmp, 30, "of ICMP and ICMPv6 echo (default: 30s)"},
    {"sctp-timeout-cookie-wait", &abi::timeouts::sctp_cookie_wait, 3,
     "of SCTP between INIT and COOKIE ECHO (default: 3s)"},
    {"sctp-timeout-established", &abi::timeouts::sctp_established, 210, "of established SCTP (default: 3m30s)"},
    {"sctp-timeout-shutdown", &abi::timeouts::sctp_shutdown, 3,
     "of SCTP between SHUTDOWN and SHUTDOWN ACK (default: 3s)"},
    {"sctp-timeout-closed", &abi::timeouts::sctp_closed, 10, "of closed SCTP (default: 10s)"},
    {"sctp-timeout-heartbeat-sent", &abi::timeouts::sctp_heartbeat_sent, 30,
     "of SCTP that was met in the middle and not answered (default: 30s)"},
}};

// Seconds. The most that stamps can tell apart, with a direction that lags behind (flow_stamp_lag),
// is twice as much.
constexpr uint32_t kLongestTimeout = 30 * 86400;

constexpr abi::timeouts default_timeout_seconds() {
  abi::timeouts seconds{};
  for (const TimeoutOption& option : kTimeouts) seconds.*option.member = option.seconds;
  return seconds;
}

}  // namespace maglane
