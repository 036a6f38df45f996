// SPDX-License-Identifier: Apache-2.0
//
// One case of the packet table as it plays: a cluster, packets that come in, and what must
// become of each, byte for byte. Expected frames are built anew by packet_builder, never by
// changing what the data plane put out.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tests/packets/cluster.h"
#include "tests/packets/data_plane.h"

namespace maglane::test {

// Uplinks run XDP and then tc on what XDP leaves, or tc alone (--xdp off).
enum class Mode { xdp, tc };

struct Variant {
  Family family = Family::ipv4;
  uint8_t protocol = kProtoTcp;
  Mode mode = Mode::xdp;
  std::string name() const;
};

class Scenario;

// The ICMP port unreachable that answers `packet`, as it must leave: from the address that was
// asked, to whoever sent the frame.
Bytes port_unreachable(const Packet& packet);
// That the packet is longer than so many bytes: fragmentation needed, or packet too big.
Bytes too_big(const Packet& packet, uint32_t mtu);

// What became of one packet. Each check is a test failure with both packets in words when it
// does not hold; `line` tells which check it was.
class Outcome {
 public:
  Outcome(Scenario& scenario, Arrival arrival, bool from_pod, bool leaves = false);

  // Left alone, by every program that saw it.
  void passed(abi::reason reason, int line = __builtin_LINE()) const;
  void dropped(abi::reason reason, int line = __builtin_LINE()) const;
  // Sent to where the test network's routes say, as exactly this packet; its MAC addresses
  // are filled in here.
  void sent(const Packet& expected, int line = __builtin_LINE()) const;
  // To the node's own stack, at tc, as exactly this packet.
  void delivered(const Packet& expected, int line = __builtin_LINE()) const;
  // Let out by the egress program, as exactly this packet.
  void let_out(abi::reason reason, const Packet& expected, int line = __builtin_LINE()) const;
  // The same, but the source port is one of the node's translation range: the port.
  uint16_t sent_from_new_port(const Packet& expected, int line = __builtin_LINE()) const;
  // Answered out of the device it came from, with exactly this frame.
  void rejected(abi::reason reason, const Bytes& expected, int line = __builtin_LINE()) const;

  // REQUIRES: some program could run it (DataPlane::can_run)
  const RunResult& last() const { return runs_.back().result; }

 private:
  struct Run {
    Program program;
    RunResult result;
  };

  bool expect_run(const Run& run, Verdict verdict, abi::reason reason, int line) const;
  void expect_frame(const Bytes& expected, int line) const;
  std::string story() const;

  Scenario& scenario_;
  Arrival arrival_;
  bool from_pod_;
  std::vector<Run> runs_;
};

class Scenario {
 public:
  Scenario(DataPlane& on, const Variant& played) : variant(played), plane(on) {}

  const Variant variant;
  DataPlane& plane;
  Cluster cluster;

  // Packets come in. Programs the cluster first, if that was not done yet.
  Outcome uplink(const Packet& packet, uint32_t device = kUp0) { return uplink(packet.bytes(), device); }
  Outcome uplink(const Bytes& frame, uint32_t device = kUp0) { return arrive({frame, device}, false); }
  Outcome pod(const Packet& packet, uint32_t device = kPod0) {
    return arrive({packet.bytes(), device}, true);
  }
  Outcome arrive(const Arrival& arrival, bool from_pod, bool leaves = false);
  void load();
  // A packet of the node's own stack leaves by a device.
  Outcome leave(const Packet& packet, uint32_t device) { return arrive({packet.bytes(), device}, false, true); }
  // Programs the cluster again over living flows.
  void program() { cluster.program(plane); }

  // Addresses of the variant's family.
  HostPort client(uint16_t port = 40000) const;           // outside the cluster
  HostPort vip(uint16_t port = 80) const;                 // a cluster IP
  HostPort node(uint16_t port = 30080) const;             // the node itself
  HostPort local(int n = 0, uint16_t port = 8080) const;  // pods: 0..2 behind pod0
  HostPort other_pod(uint16_t port = 8080) const;         // behind pod1
  HostPort remote(uint16_t port = 8080) const;            // on node B, through up0
  HostPort remote_c(uint16_t port = 8080) const;          // on node C, through up1
  HostPort low_mtu_pod(uint16_t port = 8080) const;
  HostPort outside(uint16_t port = 443) const;    // beyond the cluster's network, through up0
  HostPort outside_c(uint16_t port = 443) const;  // and through up1
  HostPort node_c(uint16_t port = 0) const;       // the node's address on up1
  HostPort pick(const char* ipv4, const char* ipv6) const { return v4() ? HostPort(ipv4) : HostPort(ipv6); }
  bool v4() const { return variant.family == Family::ipv4; }
  bool tcp() const { return variant.protocol == kProtoTcp; }
  bool sctp() const { return variant.protocol == kProtoSctp; }
  // Bytes of the shortest layer 4 header.
  size_t l4_header() const { return tcp() ? 20 : sctp() ? 12 : 8; }

  // Packets of the variant's protocol: SYN or datagram; any later one.
  Packet first(const HostPort& from, const HostPort& to) const;
  Packet later(const HostPort& from, const HostPort& to, uint8_t flags = kAck) const;
  Packet answer(const HostPort& from, const HostPort& to) const { return later(from, to, kSyn | kAck); }

  size_t flow_count();
  // Makes every flow look as if it had been idle for so many slots.
  void age_flows(uint32_t slots);
  // The same of the flows of a client() of this port.
  void age_flows_of(uint16_t client_port, uint32_t slots);
  // For each flow, whichever direction, the port of the client() that it belongs to.
  std::multiset<uint16_t> clients_with_flows();
  // By source port of each flow's packets: enum flow_seen, of both directions.
  std::map<uint16_t, uint8_t> what_was_seen();
  // Runs expiry over both tables; examined and removed are sums.
  abi::expire_call expire();
  // Runs "forget" over both tables for these; the number of flows removed.
  uint32_t forget(const std::vector<abi::service_endpoint>& gone);
  // Forgets the bits of flows that are gone, as the agent does.
  void rotate_flow_bits();
  // Forgets the bits of all flows, as nobody may.
  void lose_flow_bits();
  // Removes the flows of one direction.
  void lose_direction(bool reply);

  // The points of the service contract that this play proves.
  void proves(const std::set<int>& points) { points_ = points; }
  const std::set<int>& points() const { return points_; }

  // Every reason that any packet of any scenario has met in this process.
  static std::set<abi::reason>& reasons_met();

 private:
  bool loaded_ = false;
  std::set<int> points_;
};

struct Case {
  const char* name;
  std::function<void(Scenario&)> play;
  // Which variants make sense.
  enum Which { all, tcp_only, udp_only, sctp_only, no_sctp, ipv4_only, ipv6_only, once } which = all;

  std::vector<Variant> variants() const;
};

std::vector<Case> forwarding_cases();
std::vector<Case> connection_cases();
std::vector<Case> refusal_cases();
std::vector<Case> malformed_cases();
std::vector<Case> next_hop_cases();
std::vector<Case> icmp_cases();
std::vector<Case> fragment_cases();
std::vector<Case> policy_cases();
std::vector<Case> node_endpoint_cases();
std::vector<Case> masquerade_cases();
std::vector<Case> masquerade_echo_cases();
const std::vector<Case>& all_cases();

}  // namespace maglane::test
