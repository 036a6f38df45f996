// SPDX-License-Identifier: Apache-2.0
#include "tests/packets/random_world.h"

#include <fmt/format.h>

#include <algorithm>
#include <ostream>

namespace maglane::test {
namespace {

struct Host {
  const char* ipv4;
  const char* ipv6;
};

constexpr Host kHosts[] = {
    {"198.51.100.7", "2001:db8:c::7"}, {"198.51.100.8", "2001:db8:c::8"}, {"10.1.0.10", "fd01::10"},
    {"10.1.0.11", "fd01::11"},         {"10.1.1.10", "fd01:0:0:1::10"},   {"10.2.0.10", "fd02::10"},
    {"10.3.0.10", "fd03::10"},
};
constexpr uint16_t kSourcePorts[] = {40000, 8080, 40001};

struct Target {
  const char* ipv4;
  const char* ipv6;
  uint16_t port;
};
constexpr Target kTargets[] = {
    // Frontends, the busy ones twice.
    {"172.20.0.10", "fc00::10", 80},
    {"192.168.50.1", "fd50::1", 30080},
    {"172.20.0.10", "fc00::10", 80},
    {"192.168.50.1", "fd50::1", 30080},
    {"172.20.0.10", "fc00::10", 81},
    {"192.168.50.1", "fd50::1", 30081},
    {"203.0.113.10", "2001:db8:1b::10", 443},
    {"172.20.0.11", "fc00::11", 80},
    // Where replies go: translated ports of the node, clients, pods.
    {"192.168.50.1", "fd50::1", 20000},
    {"192.168.50.1", "fd50::1", 20001},
    {"192.168.50.1", "fd50::1", 61000},
    {"198.51.100.7", "2001:db8:c::7", 40000},
    {"198.51.100.8", "2001:db8:c::8", 40000},
    {"10.1.0.10", "fd01::10", 40000},
    {"10.1.0.11", "fd01::11", 40000},
    {"10.1.0.10", "fd01::10", 20000},
    {"10.1.0.11", "fd01::11", 20001},
    {"10.1.1.10", "fd01:0:0:1::10", 61000},
    // Neither.
    {"172.20.0.10", "fc00::10", 82},
    {"172.20.0.99", "fc00::99", 80},
    {"192.168.50.1", "fd50::1", 22},
    {"10.1.1.10", "fd01:0:0:1::10", 8080},
};
constexpr Target kNodeEndpoint{"192.168.50.1", "fd50::1", 8080};
constexpr uint8_t kFlags[] = {kSyn, kAck, kSyn | kAck, kSyn, kAck, kFin | kAck, kRst, kRst | kAck};

template <typename T, size_t N>
const T& choose(const T (&from)[N], uint32_t number) {
  return from[number % N];
}

HostPort host(const World& world, const Host& of, uint16_t port) {
  return {ip(world.family() == Family::ipv4 ? of.ipv4 : of.ipv6), port};
}

HostPort target(const World& world, const Target& of) {
  return {ip(world.family() == Family::ipv4 ? of.ipv4 : of.ipv6), of.port};
}

// A set of endpoints out of the pods, by the bits of a number; 0 is the empty set.
std::vector<HostPort> endpoint_set(const World& world, uint32_t bits) {
  std::vector<HostPort> result;
  for (uint32_t i = 0; i < 5; ++i)
    if (bits >> i & 1) result.push_back(host(world, kHosts[i + 2], 8080));
  return result;
}

void spoil(Bytes& frame, uint32_t how, Family family) {
  const size_t at = 12 + how / 8 % (frame.size() - 12);
  switch (how % 5) {
    case 1:
      frame.resize(
          std::max<size_t>(frame.size() - how / 8 % frame.size(), 14 + (family == Family::ipv4 ? 20 : 40)));
      break;
    case 2:
      frame[at] ^= static_cast<uint8_t>(1U << how % 8);
      break;
    case 3:
      frame[at] = static_cast<uint8_t>(how >> 16);
      break;
    case 4:
      frame[14 + how / 8 % 8] = static_cast<uint8_t>(how >> 16);
      break;
    default:
      frame.resize(frame.size() + how / 8 % 100, 0x55);
      break;
  }
}

}  // namespace

StepKind kind_of(const Step& step) {
  switch (step.kind % 64) {
    case 61:
      return StepKind::change_endpoints;
    case 62:
      return StepKind::change_epoch;
    case 63:
      return StepKind::expire_all;
    default:
      return StepKind::packet;
  }
}

Cluster random_cluster(const World& world, uint32_t choice) {
  Cluster cluster;
  cluster.config.masquerade_all = world.masquerade_all();
  cluster.config.network_model = static_cast<uint8_t>(world.masquerade() ? abi::NETWORK_KUBENET : abi::NETWORK_NONE);
  cluster.not_masqueraded = {"10.0.0.0/8", "fd00::/12"};
  cluster.config.snat_port_count[0] = 2;
  cluster.config.snat_port_count[1] = 1;
  cluster.flow_capacity = world.small_table() ? 7 : 310;
  const uint8_t protocol = world.protocol();
  const auto set = [&](uint32_t n) {
    return endpoint_set(world, (choice ? choice >> (5 * n) : 0x1ffffffU - n * 7) & 31);
  };
  cluster.number(endpoint_set(world, 31), protocol);  // whatever the choice: affinity goes by them
  FrontendFixture affine{abi::FRONTEND_CLUSTER_IP, target(world, kTargets[0]), protocol, set(0), set(0)};
  affine.affinity_seconds = world.affinity() ? 10800 : 0;
  cluster.frontend(affine);
  cluster.node_port(target(world, kTargets[1]), protocol, set(1));
  cluster.cluster_ip(target(world, kTargets[4]), protocol, set(2));
  FrontendFixture local{
      abi::FRONTEND_NODE_PORT, target(world, kTargets[5]), protocol, set(3), set(1), abi::EMPTY_DROP};
  local.external_local = true;
  cluster.frontend(local);
  FrontendFixture balancer{abi::FRONTEND_LOAD_BALANCER, target(world, kTargets[6]), protocol, set(4), set(4)};
  if (choice & 1) balancer.endpoints.push_back(target(world, kNodeEndpoint));
  balancer.source_ranges = {{"198.51.100.7", "10.1.0.8/29", "2001:db8:c::7", "fd01::/16"}};
  cluster.frontend(balancer);
  cluster.cluster_ip(target(world, kTargets[7]), protocol == kProtoTcp ? kProtoUdp : kProtoTcp, set(0));
  return cluster;
}

void History::add(const Packet& in, const Bytes& out) {
  const Parsed sent = parse(out);
  if (!sent.ports) return;
  const HostPort source(sent.source, sent.source_port), destination(sent.destination, sent.destination_port);
  if (source == in.source() && destination == in.destination()) return;
  // An answer's ends are those of a connection that is known already.
  if (source != in.source() && destination != in.destination() && in.source().port == 8080) return;
  entries_.push_back({in.source(), in.destination(), destination, source});
}

bool History::follow(const Step& step, HostPort& source, HostPort& destination) const {
  if (entries_.empty() || step.follow % 4 == 0) return false;
  const Entry& entry = entries_[step.follow / 4 % entries_.size()];
  const bool answer = step.follow % 4 < 3;
  source = answer ? entry.endpoint : entry.client;
  destination = answer ? entry.translated : entry.frontend;
  return true;
}

namespace {

// An error about the packet that one from `source` to `destination` would answer, from there or
// from anybody else.
Packet error_of(const World& world, const Step& step, const Packet& answer) {
  static constexpr uint8_t kTypes4[] = {3, 11, 12, 3}, kTypes6[] = {1, 2, 3, 4};
  const bool v4 = world.family() == Family::ipv4;
  const Packet about = answer.from(answer.destination()).to(answer.source());
  const IpAddress from =
      step.damage & 1 ? answer.source().address : host(world, choose(kHosts, step.damage), 0).address;
  const size_t enough = about.ip_bytes().size() - step.shape % 37 - (world.protocol() == kProtoTcp ? 12 : 0);
  return Packet::icmp(from, about.source().address, v4 ? choose(kTypes4, step.flags) : choose(kTypes6, step.flags),
                      static_cast<uint8_t>(step.flags / 4))
      .about(about, (enough + step.damage % 30) & ~size_t{1});
}

}  // namespace

Packet packet_of(const World& world, const Step& step, const History& history) {
  HostPort source = host(world, choose(kHosts, step.source), choose(kSourcePorts, step.source_port));
  HostPort destination = target(world, choose(kTargets, step.destination));
  history.follow(step, source, destination);
  Packet packet = world.protocol() == kProtoTcp    ? Packet::tcp(source, destination, choose(kFlags, step.flags))
                  : world.protocol() == kProtoUdp ? Packet::udp(source, destination)
                                                  : Packet::sctp(source, destination);
  packet = packet.payload_size(step.shape % 37).tos(static_cast<uint8_t>(step.shape >> 8));
  if (step.shape % 11 == 1) packet = packet.ttl(1);
  if (step.shape % 13 == 1 && world.family() == Family::ipv4)
    packet = packet.options(Bytes(step.shape % 10 * 4 + 4, 1));
  if (step.shape % 13 == 1 && world.family() == Family::ipv6)
    packet = packet.extension(kExtHopByHop).extension(kExtDestination);
  if (step.shape % 8 == 5) return error_of(world, step, packet);
  // SCTP's go no further than their first one, which leaves no trace of what was chosen.
  if (step.shape % 8 == 6 && world.protocol() != kProtoSctp) {
    const Packet whole = packet.payload_size(100).id(static_cast<uint16_t>(step.damage >> 8 & 1));
    return step.damage >> 9 & 1 ? whole.part(64, 32) : whole.part(0, 64);
  }
  return packet;
}

Arrival arrival_of(const Network& network, const Step& step, const Packet& packet) {
  const auto back = network.next_hop(packet.source().address);
  Arrival arrival{packet.bytes(), back ? back->device : uint32_t{kUp0}};
  if (step.damage % 4 == 3) spoil(arrival.frame, step.damage / 4, packet.family());
  return arrival;
}

std::vector<Program> programs_for(const Arrival& arrival, bool tc_only) {
  if (arrival.device == kPod0 || arrival.device == kPod1) return {Program::tc_pod};
  if (tc_only) return {Program::tc_uplink};
  return {Program::xdp_uplink, Program::tc_uplink};
}

std::ostream& operator<<(std::ostream& out, const World& world) {
  return out << fmt::format("World{{{}}} ({}, {})", world.shape, to_string(world.family()),
                            world.protocol() == kProtoTcp   ? "TCP"
                            : world.protocol() == kProtoUdp ? "UDP"
                                                            : "SCTP");
}

std::ostream& operator<<(std::ostream& out, const Step& step) {
  return out << fmt::format("{{{}, {}, {}, {}, {}, {}, {}, {}}}", step.kind, step.source, step.source_port,
                            step.destination, step.flags, step.shape, step.damage, step.follow);
}

}  // namespace maglane::test
