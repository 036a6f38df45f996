// SPDX-License-Identifier: Apache-2.0
//
// The kinds of traffic.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace maglane::bench {

struct UdpOptions {
  std::string client = "client", backend = "backend";  // network namespaces
  std::string source, target, target_mac;              // of the frames; of the node's device
  std::string endpoints;                               // a /24 network, by its first address
  bool sink_at_tc = false;
  // A program alone forwards at the node, in this network namespace, from device to device; none if empty.
  std::string redirect_at, redirect_from, redirect_to, redirect_mac;
  uint16_t port = 0, endpoint_port = 8080;
  uint32_t flows = 1000;
  double seconds = 2;
};

struct UdpResult {
  double sent_mpps, mpps;
  uint64_t looked_at, wrong;
};
// 64-byte frames from the client for `seconds`, as many as can be; those that reached the endpoints
// are counted. REQUIRES: device eth0 in both namespaces.
UdpResult run_udp(const UdpOptions& options);

struct TcpOptions {
  std::string client = "client", backend = "backend";
  std::vector<std::string> sources;  // the client's own addresses, used in turn
  std::string target;
  uint16_t port = 0, endpoint_port = 8080;
  uint32_t connections = 64;  // at a time
  double seconds = 2;
};

struct TcpResult {
  double per_second, p50_us, p99_us;
  uint64_t connections;
  double elapsed;  // seconds
  uint64_t failed;
  uint64_t wrong;  // another connection's answer
};
// Connections that ask with 64 bytes, are answered with 64 and closed by the server.
TcpResult run_tcp(const TcpOptions& options);

}  // namespace maglane::bench
