// SPDX-License-Identifier: Apache-2.0
#include "tests/packets/cluster.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstdlib>

#include "tests/packets/tables.h"

namespace maglane::test {
namespace {

abi::prefix prefix(const std::string& text) {
  const auto cidr = Cidr::parse(text);
  if (!cidr) std::abort();
  abi::prefix result{};
  cidr->address().to_be(result.addr_be);
  cidr->mask_be(result.mask_be);
  result.family = static_cast<uint32_t>(cidr->family());
  return result;
}

abi::frontend_key frontend_key(const HostPort& address, uint8_t protocol) {
  abi::frontend_key key{};
  address.address.to_be(key.addr_be);
  key.port_be = htons(address.port);
  key.protocol = protocol;
  key.family = static_cast<uint8_t>(address.address.family());
  return key;
}

// As the agent has it.
constexpr uint32_t kFewestBuckets = 2;

}  // namespace

abi::source_range_key source_range_key(uint32_t service_id, const std::string& text) {
  const auto cidr = Cidr::parse(text);
  if (!cidr) std::abort();
  abi::source_range_key key{};
  key.prefix_bits = abi::SOURCE_RANGE_BITS + cidr->length();
  key.service_id = service_id;
  key.family = static_cast<uint32_t>(cidr->family());
  cidr->address().to_be(key.addr_be);
  return key;
}

abi::masquerade_range_key masquerade_range_key(const std::string& text) {
  const auto cidr = Cidr::parse(text);
  if (!cidr) std::abort();
  abi::masquerade_range_key key{};
  key.prefix_bits = abi::MASQUERADE_RANGE_BITS + cidr->length();
  key.family = static_cast<uint32_t>(cidr->family());
  cidr->address().to_be(key.addr_be);
  return key;
}

abi::node_config default_config() {
  abi::node_config config{};
  // A slot that outlasts any test, so that stamps change only where a case changes them.
  config.slot_shift = 30;
  config.hz = 1000;
  config.ipv4 = config.ipv6 = 1;
  config.pods_by = abi::PODS_BY_DEVICE | abi::PODS_BY_CLUSTER_CIDR;
  config.snat_port_min[0] = 20000;
  config.snat_port_count[0] = 5000;
  config.snat_port_min[1] = 61000;
  config.snat_port_count[1] = 4000;
  config.timeouts = {.tcp_syn_sent = 12, .tcp_syn_recv = 10, .tcp_established = 100, .tcp_fin_wait = 18,
                     .tcp_close_wait = 20, .tcp_last_ack = 3, .tcp_time_wait = 4, .tcp_close = 2,
                     .tcp_unacknowledged = 30, .udp = 5, .udp_stream = 50, .icmp = 6, .sctp_cookie_wait = 7,
                     .sctp_established = 60, .sctp_shutdown = 8, .sctp_closed = 2, .sctp_heartbeat_sent = 9, .pad = 0};
  config.pod_cidrs[0] = prefix("10.0.0.0/8");
  config.pod_cidrs[1] = prefix("fd00::/12");
  config.service_cidrs[0] = prefix("172.20.0.0/16");
  config.service_cidrs[1] = prefix("fc00::/112");
  config.frontend_buckets = 4;
  config.seed = {0x9e3779b97f4a7c15,
                 {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0x082efa98, 0xec4e6c89,
                  0x452821e6, 0x38d01377}};
  return config;
}

Cluster& Cluster::frontend(const FrontendFixture& frontend) {
  std::erase_if(frontends_, [&](const FrontendFixture& other) {
    return other.address == frontend.address && other.protocol == frontend.protocol;
  });
  frontends_.push_back(frontend);
  number(frontend.endpoints, frontend.protocol);
  return number(frontend.pod_endpoints, frontend.protocol);
}

Cluster& Cluster::number(const std::vector<HostPort>& endpoints, uint8_t protocol) {
  for (const HostPort& endpoint : endpoints)
    backends_.try_emplace({protocol, endpoint}, static_cast<uint32_t>(backends_.size() + 1));
  return *this;
}

Cluster& Cluster::cluster_ip(const HostPort& address, uint8_t protocol,
                             const std::vector<HostPort>& endpoints) {
  return frontend({abi::FRONTEND_CLUSTER_IP, address, protocol, endpoints, endpoints});
}
Cluster& Cluster::node_port(const HostPort& address, uint8_t protocol,
                            const std::vector<HostPort>& endpoints) {
  return frontend({abi::FRONTEND_NODE_PORT, address, protocol, endpoints, endpoints});
}
Cluster& Cluster::load_balancer(const HostPort& address, uint8_t protocol,
                                const std::vector<HostPort>& endpoints) {
  return frontend({abi::FRONTEND_LOAD_BALANCER, address, protocol, endpoints, endpoints});
}

Cluster& Cluster::forget_backend(const HostPort& endpoint, uint8_t protocol) {
  forgotten_.insert({protocol, endpoint});
  return *this;
}

uint32_t Cluster::service_id(size_t frontend) const {
  const std::string& name = frontends_[frontend].service;
  size_t first = frontend;
  for (size_t i = 0; !name.empty() && i < frontend; ++i)
    if (frontends_[i].service == name) first = std::min(first, i);
  return static_cast<uint32_t>(first + 1);
}

uint32_t Cluster::backend_id(const HostPort& endpoint, uint8_t protocol) const {
  return backends_.at({protocol, endpoint});
}

abi::node_config Cluster::constants() const {
  abi::node_config constants = config;
  const uint32_t buckets = (flow_capacity + abi::TABLE_SLOTS - 1) / abi::TABLE_SLOTS;
  constants.flow_buckets4 = constants.flow_buckets6 = std::max(kFewestBuckets, buckets);
  return constants;
}

void Cluster::load(DataPlane& plane) const {
  plane.reset(constants());
  program(plane);
  empty_flows(plane);
}

void Cluster::empty_flows(Maps& plane) const {
  const abi::node_config constants = this->constants();
  for (const char* table : {"flows4", "flows6"}) std::ranges::fill(plane.memory(table), uint8_t{0});
  if (flow_capacity < constants.flow_buckets4 * abi::TABLE_SLOTS && constants.flow_buckets4 == kFewestBuckets)
    fill_up(plane, constants, flow_capacity);
}

abi::table_ref Cluster::write_table(Maps& plane, const FrontendFixture& frontend,
                                    const std::vector<HostPort>& endpoints, abi::empty_verdict when_empty,
                                    uint32_t& next_line) const {
  if (endpoints.empty()) return {static_cast<uint32_t>(when_empty), 0};
  // Not a whole number of lines: reading past the end of a table would show.
  const auto size = static_cast<uint32_t>(endpoints.size() * 7);
  const abi::table_ref table{next_line * abi::MAGLEV_LINE_ENTRIES, size};
  abi::maglev_line line{};
  for (uint32_t i = 0; i < size; ++i) {
    const uint32_t at = i % abi::MAGLEV_LINE_ENTRIES;
    if (!at) line = {};
    line.backend_id[at] = backend_id(endpoints[i % endpoints.size()], frontend.protocol);
    if (at + 1 == abi::MAGLEV_LINE_ENTRIES || i + 1 == size) plane.put_value("maglev", next_line++, line);
  }
  return table;
}

void Cluster::program_backends(Maps& plane) const {
  for (const auto& [key, id] : backends_) {
    abi::backend backend{};
    if (!forgotten_.contains(key)) {
      key.second.address.to_be(backend.addr_be);
      backend.port_be = htons(key.second.port);
      backend.protocol = key.first;
      backend.family = static_cast<uint8_t>(key.second.address.family());
      backend.flags = Network::is_local_pod(key.second.address) ? abi::BACKEND_LOCAL : 0;
      if (plane.network().is_own(key.second.address)) backend.flags = abi::BACKEND_LOCAL | abi::BACKEND_NODE;
    }
    plane.put_value("backends", id, backend);
  }
}

void Cluster::program_node(Maps& plane) const {
  abi::node_state state{};
  // Has a writer of its own.
  state.flow_bits_generation = memory_of<abi::node_state>(plane, "node_state")[0].flow_bits_generation;
  state.epoch = epoch;
  state.shared_hops = shared_hops;
  state.abi_version = abi::MAGLANE_ABI_VERSION;
  state.seed = config.seed;
  if (!node_address4.empty()) {
    uint32_t be[4];
    ip(node_address4).to_be(be);
    state.addr4_be = be[0];
  }
  if (!node_address6.empty()) ip(node_address6).to_be(state.addr6_be);
  for (size_t i = 0; i < node_pod_cidrs.size(); ++i) state.pod_cidrs[i] = prefix(node_pod_cidrs[i]);
  plane.put_value("node_state", uint32_t{0}, state);
  for (const auto& device : plane.network().devices())
    plane.put_value("devices", device.index, abi::device{device.flags});
  program_masquerade(plane);
}

// An uplink's own addresses, which the network gives it first.
void Cluster::program_masquerade(Maps& plane) const {
  for (const auto& device : plane.network().devices()) {
    if (!(device.flags & abi::DEVICE_UPLINK)) continue;
    abi::egress_address egress{};
    for (const auto& text : device.addresses) {
      const IpAddress address = ip(text.substr(0, text.find('/')));
      uint32_t be[4] = {};
      address.to_be(be);
      if (address.family() == Family::ipv4)
        egress.addr4_be = be[0];
      else
        std::copy(std::begin(be), std::end(be), egress.addr6_be);
    }
    plane.put_value("egress_addresses", device.index, egress);
  }
  for (const auto& range : not_masqueraded) plane.put_value("masquerade_ranges", masquerade_range_key(range), uint32_t{1});
}

void Cluster::program(Maps& plane) const {
  program_node(plane);
  program_backends(plane);
  program_frontends(plane);
}

void Cluster::program_frontends(Maps& plane) const {
  // No packet is under way: what is removed may be used again at once.
  FrontendTable table = frontend_table(plane, config.seed);
  std::vector<abi::frontend_key> old;
  table.each([&](const abi::frontend_key& key, const abi::frontend&) { old.push_back(key); });
  for (const auto& key : old) table.remove(key);
  table.release_retired();
  const auto put = [&](const abi::frontend_key& key, const abi::frontend& frontend) {
    if (table.put(key, frontend) != FrontendTable::Outcome::done) std::abort();
  };
  abi::vip_bits bits{};
  uint32_t next_line = 1;
  for (size_t i = 0; i < frontends_.size(); ++i) {
    const FrontendFixture& fixture = frontends_[i];
    abi::frontend frontend{};
    frontend.service_id = service_id(i);
    frontend.type = static_cast<uint8_t>(fixture.type);
    frontend.affinity_seconds = fixture.affinity_seconds;
    if (fixture.external_local) frontend.flags |= abi::FRONTEND_EXTERNAL_LOCAL;
    if (fixture.source_ranges) {
      frontend.flags |= abi::FRONTEND_SOURCE_RANGES;
      for (const auto& range : *fixture.source_ranges)
        plane.put_value("source_ranges", source_range_key(frontend.service_id, range), uint32_t{1});
    }
    frontend.tables[abi::SOURCE_OUTSIDE] =
        write_table(plane, fixture, fixture.endpoints, fixture.when_empty, next_line);
    frontend.tables[abi::SOURCE_POD] =
        write_table(plane, fixture, fixture.pod_endpoints, fixture.when_empty_for_pods, next_line);
    const auto key = frontend_key(fixture.address, fixture.protocol);
    put(key, frontend);
    const uint32_t bit = abi::vip_hash(key.addr_be);
    bits.word[bit / 64] |= uint64_t{1} << (bit % 64);
    if (fixture.type != abi::FRONTEND_NODE_PORT)
      put(frontend_key(HostPort(fixture.address.address, 0), 0), abi::frontend{});
  }
  plane.put_value("vip_bits", uint32_t{0}, bits);
}

}  // namespace maglane::test
