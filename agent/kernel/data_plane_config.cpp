// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/data_plane_config.h"

#include <fmt/format.h>
#include <sys/random.h>
#include <time.h>

#include <algorithm>
#include <cstdlib>

namespace maglane {
namespace {

// ICMP errors a second and CPU, as Linux limits its own (net.ipv4.icmp_msgs_per_sec).
constexpr uint32_t kRefusalsPerSecond = 1000;

// A slot that has just begun counts as one: with fewer than two, the shortest would be none at all.
abi::timeouts timeouts_in_slots(const abi::timeouts& seconds, uint32_t hz, uint32_t shift) {
  abi::timeouts slots{};
  for (const TimeoutOption& option : kTimeouts) {
    slots.*option.member =
        static_cast<uint32_t>(std::max<uint64_t>(2, (uint64_t{seconds.*option.member} * hz) >> shift));
  }
  return slots;
}

Status fill(abi::prefix* out, size_t capacity, const std::vector<Cidr>& cidrs, const char* option) {
  if (cidrs.size() > capacity) {
    return Error{fmt::format("{}: {} CIDRs given, at most {} are supported", option, cidrs.size(), capacity)};
  }
  for (const Cidr& cidr : cidrs) *out++ = make_prefix(cidr);
  return ok_status();
}

}  // namespace

abi::prefix make_prefix(const Cidr& cidr) {
  abi::prefix prefix{};
  cidr.address().to_be(prefix.addr_be);
  cidr.mask_be(prefix.mask_be);
  prefix.family = static_cast<uint32_t>(cidr.family());
  return prefix;
}

uint32_t kernel_hz() {
  timespec tick{};
  ::clock_getres(CLOCK_MONOTONIC_COARSE, &tick);
  double seconds = static_cast<double>(tick.tv_sec) + static_cast<double>(tick.tv_nsec) * 1e-9;
  return seconds > 0 ? static_cast<uint32_t>(1.0 / seconds + 0.5) : 100;
}

uint32_t slot_shift_for(uint32_t hz) {
  uint32_t best = 0;
  for (uint32_t shift = 1; shift < 16; ++shift) {
    auto distance = [&](uint32_t s) { return std::abs((int64_t{1} << s) - int64_t{hz}); };
    if (distance(shift) < distance(best)) best = shift;
  }
  return best;
}

namespace {

// A table of one bucket would make a key's two buckets the same.
constexpr uint32_t kFewestBuckets = 2;
// The share of its slots up to which a table never refuses.
constexpr double kLoad = 0.85;

}  // namespace

uint32_t DataPlaneOptions::flow_buckets() const {
  return std::max(kFewestBuckets, (flow_entries + abi::TABLE_SLOTS - 1) / abi::TABLE_SLOTS);
}

uint32_t DataPlaneOptions::frontend_buckets() const {
  return std::max(kFewestBuckets, static_cast<uint32_t>(frontends / (kLoad * int{abi::TABLE_SLOTS})) + 1);
}

// Value 0 is never used.
uint32_t DataPlaneOptions::frontend_values() const { return 1 + frontends + (frontends + 1) / 2; }

abi::table_seed random_seed() {
  abi::table_seed seed;
  for (size_t done = 0; done < sizeof seed;) {
    const ssize_t got = ::getrandom(reinterpret_cast<uint8_t*>(&seed) + done, sizeof seed - done, 0);
    if (got > 0) done += static_cast<size_t>(got);
  }
  seed.multiplier |= 1;
  return seed;
}

std::string_view to_string(SocketTranslation translation) {
  switch (translation) {
    case SocketTranslation::off:
      return "off";
    case SocketTranslation::host:
      return "host";
    case SocketTranslation::all:
      return "all";
  }
  return "";
}

std::string_view to_string(MasqueradeModel model) {
  switch (model) {
    case MasqueradeModel::none:
      return "none";
    case MasqueradeModel::kubenet:
      return "kubenet";
    case MasqueradeModel::azure_cni:
      return "azure-cni";
    case MasqueradeModel::custom:
      return "custom";
  }
  return "";
}

std::vector<PortRange> ports_beside(const PortRange& local, const PortRange& node_ports) {
  std::vector<PortRange> runs = {{1024, 65535}};
  for (const PortRange& taken : {local, node_ports}) {
    std::vector<PortRange> left;
    for (const PortRange& run : runs) {
      if (!run.overlaps(taken)) left.push_back(run);
      if (!run.overlaps(taken)) continue;
      if (run.first < taken.first) left.push_back({run.first, static_cast<uint16_t>(taken.first - 1)});
      if (taken.last < run.last) left.push_back({static_cast<uint16_t>(taken.last + 1), run.last});
    }
    runs = std::move(left);
  }
  std::stable_sort(runs.begin(), runs.end(), [](const PortRange& a, const PortRange& b) {
    return a.last - a.first > b.last - b.first;
  });
  if (runs.size() > 2) runs.resize(2);
  std::sort(runs.begin(), runs.end());
  return runs;
}

Result<abi::node_config> make_node_config(const DataPlaneOptions& options, uint32_t hz, const abi::table_seed& seed,
                                          uint64_t netns_cookie) {
  abi::node_config config{};
  config.hz = hz;
  config.slot_shift = slot_shift_for(hz);
  config.ipv4 = options.ipv4;
  config.ipv6 = options.ipv6;
  config.masquerade_all = options.masquerade_all;
  config.refusals_per_second = kRefusalsPerSecond;
  config.socket_translation = static_cast<uint8_t>(options.socket_translation);
  config.network_model = static_cast<uint8_t>(options.network_model);
  config.netns_cookie = netns_cookie;
  config.pods_by = static_cast<uint8_t>(options.pods_by);
  if (options.snat_ports.empty() || options.snat_ports.size() > std::size(config.snat_port_min)) {
    return Error{"--snat-ports: give one or two ranges, for example 1024-29999,61000-65535"};
  }
  for (size_t i = 0; i < options.snat_ports.size(); ++i) {
    const PortRange& range = options.snat_ports[i];
    config.snat_port_min[i] = range.first;
    config.snat_port_count[i] = static_cast<uint16_t>(range.last - range.first + 1);
  }
  config.seed = seed;
  config.flow_buckets4 = config.flow_buckets6 = options.flow_buckets();
  config.frontend_buckets = options.frontend_buckets();
  config.timeouts = timeouts_in_slots(options.timeout_seconds, hz, config.slot_shift);
  if (auto s = fill(config.pod_cidrs, abi::MAX_POD_CIDRS, options.pod_cidrs, "--pod-cidr"); !s)
    return s.error();
  if (auto s = fill(config.service_cidrs, abi::MAX_SERVICE_CIDRS, options.service_cidrs, "--service-cidr");
      !s) {
    return s.error();
  }
  return config;
}

}  // namespace maglane
