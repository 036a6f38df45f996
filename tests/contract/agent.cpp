// SPDX-License-Identifier: Apache-2.0
#include "tests/contract/agent.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>

#include "agent/masquerade.h"
#include "agent/plan/diff.h"
#include "tests/contract/lab.h"
#include "tests/packets/cluster.h"
#include "tests/packets/tables.h"

namespace maglane::test {
namespace {

constexpr MapLimits kLimits{.services = 500, .backends = 8192, .frontends = 256, .maglev_entries = 8192 * 16};
// Room for some thousand connections without ever giving one up.
constexpr uint32_t kFlowBuckets = 512, kFrontendBuckets = 32;

class Writer {
 public:
  Writer(DataPlane& plane, const abi::table_seed& seed) : maps_(plane), frontends_(frontend_table(plane, seed)) {
    bits_ = plane.get_value<abi::vip_bits>("vip_bits", uint32_t{0}).value_or(abi::vip_bits{});
  }

  void operator()(const PutService& put) { maps_.put_value("services", put.id, put.info); }
  void operator()(const DeleteService&) {}  // names for people: no packet looks at them
  void operator()(const PutBackend& put) { maps_.put_value("backends", put.id, put.backend); }
  void operator()(const DeleteBackend& gone) { maps_.put_value("backends", gone.id, abi::backend{}); }
  void operator()(const WriteTable& table) {
    for (size_t i = 0; i < table.backend_ids->size(); i += abi::MAGLEV_LINE_ENTRIES) {
      abi::maglev_line line{};
      for (size_t n = 0; n < abi::MAGLEV_LINE_ENTRIES && i + n < table.backend_ids->size(); ++n)
        line.backend_id[n] = (*table.backend_ids)[i + n];
      maps_.put_value("maglev", static_cast<uint32_t>((table.offset + i) / abi::MAGLEV_LINE_ENTRIES), line);
    }
  }
  void operator()(const SetVipBit& bit) {
    const uint64_t mask = uint64_t{1} << (bit.bit % 64);
    bits_.word[bit.bit / 64] = (bits_.word[bit.bit / 64] & ~mask) | (bit.value ? mask : 0);
  }
  void operator()(const PutFrontend& put) {
    if (frontends_.put(put.key, put.frontend) == FrontendTable::Outcome::done) return;
    std::cerr << "the table of frontends is full\n";
    std::exit(1);
  }
  void operator()(const DeleteFrontend& gone) {
    frontends_.remove(gone.key);
    frontends_.release_retired();
  }
  void operator()(const PutSourceRange& put) { maps_.put_value("source_ranges", put.key, uint32_t{1}); }
  void operator()(const DeleteSourceRange& gone) { maps_.erase_key("source_ranges", gone.key); }
  void operator()(const ForgetEndpoint& gone) {
    maps_.put_value("gone_endpoints", gone.endpoint, uint32_t{1});
    forget_all(maps_);
    maps_.erase_key("gone_endpoints", gone.endpoint);
  }

  void finish() { maps_.put_value("vip_bits", uint32_t{0}, bits_); }

 private:
  DataPlane& maps_;
  FrontendTable frontends_;
  abi::vip_bits bits_;
};

}  // namespace

Result<AgentOptions> AgentOptions::parse(const std::vector<std::string>& flags) {
  AgentOptions options;
  for (const std::string& flag : flags) {
    const size_t space = flag.find(' ');
    const std::string name = flag.substr(0, space), value = space == std::string::npos ? "" : flag.substr(space + 1);
    if (name == "masquerade-all" && value.empty()) {
      options.masquerade_all = true;
    } else if (name == "node-port-addresses") {
      const auto cidr = Cidr::parse(value);
      if (!cidr) return cidr.error().in(flag);
      options.node_port_addresses.push_back(*cidr);
    } else if (name == "vnet-cidr") {
      const auto cidr = Cidr::parse(value);
      if (!cidr) return cidr.error().in(flag);
      options.vnet_cidrs.push_back(*cidr);
    } else if (name == "network-model" && (value == "kubenet" || value == "azure-cni")) {
      options.network_model = value == "kubenet" ? MasqueradeModel::kubenet : MasqueradeModel::azure_cni;
    } else {
      return Error{fmt::format("\"{}\": no option that traces know", flag)};
    }
  }
  return options;
}

abi::node_config AgentOptions::config() const {
  DataPlaneOptions options;
  options.masquerade_all = masquerade_all;
  options.network_model = network_model;
  for (const char* cidr : kLabPodCidrs) options.pod_cidrs.push_back(*Cidr::parse(cidr));
  for (const char* cidr : kLabServiceCidrs) options.service_cidrs.push_back(*Cidr::parse(cidr));
  const abi::node_config still = default_config();
  auto config = make_node_config(options, still.hz, still.seed, still.netns_cookie);
  if (!config) std::abort();
  config->slot_shift = still.slot_shift;
  config->timeouts = still.timeouts;
  config->refusals_per_second = still.refusals_per_second;
  config->flow_buckets4 = config->flow_buckets6 = kFlowBuckets;
  config->frontend_buckets = kFrontendBuckets;
  return *config;
}

TestAgent::TestAgent(const NodeContext& node) : context_(node), planner_(kLimits) {}

TestAgent::TestAgent(const std::string& node, const AgentOptions& options)
    : TestAgent([&] {
        const LabHost& self = *lab_host(node);
        NodeContext context;
        context.node_name = node;
        context.node_addresses = context.local_addresses = {self.ipv4, self.ipv6};
        context.node_port_addresses = options.node_port_addresses;
        return context;
      }()) {}

std::vector<Operation> TestAgent::update(const ClusterModel& model) {
  complaints_ = model.complaints;
  cluster_ = &resolver_.resolve(model, context_, &complaints_);
  PlanUpdate update = planner_.update(*cluster_);
  complaints_.insert(complaints_.end(), update.complaints.begin(), update.complaints.end());
  auto operations = diff(plan_, update.plan);
  plan_ = update.plan;
  planner_.release_retired(plan_.generation);
  return operations;
}

std::vector<Operation> TestAgent::from_scratch() const { return diff(MapContents{}, plan_); }

void apply(const std::vector<Operation>& operations, DataPlane& plane, const abi::node_config& config) {
  Writer writer(plane, config.seed);
  for (const Operation& operation : operations) std::visit(writer, operation);
  writer.finish();
}

void put_node(Maps& maps, const abi::node_config& config, const IpAddress& ipv4, const IpAddress& ipv6,
              uint32_t epoch) {
  abi::node_state state{};
  uint32_t be[4] = {};
  ipv4.to_be(be);
  state.addr4_be = be[0];
  ipv6.to_be(state.addr6_be);
  state.epoch = epoch;
  state.abi_version = abi::MAGLANE_ABI_VERSION;
  state.seed = config.seed;
  maps.put_value("node_state", uint32_t{0}, state);
  abi::egress_address egress{state.addr4_be, {}};
  ipv6.to_be(egress.addr6_be);
  for (const auto& device : maps.network().devices()) {
    maps.put_value("devices", device.index, abi::device{device.flags});
    if (device.flags & abi::DEVICE_UPLINK) maps.put_value("egress_addresses", device.index, egress);
  }
}

void put_masquerade(Maps& maps, const AgentOptions& options, const ClusterModel& model) {
  Config config;
  config.network_model = options.network_model;
  config.vnet_cidrs = options.vnet_cidrs;
  for (const char* cidr : kLabPodCidrs) config.pod_cidrs.push_back(*Cidr::parse(cidr));
  for (const char* cidr : kLabServiceCidrs) config.service_cidrs.push_back(*Cidr::parse(cidr));
  for (const Cidr& range : masquerade_ranges(config, &model, nullptr))
    maps.put_value("masquerade_ranges", masquerade_range_key(range.to_string()), uint32_t{1});
}

void empty_flow_tables(Maps& maps) {
  for (const char* table : {"flows4", "flows6"}) std::ranges::fill(maps.memory(table), uint8_t{0});
}

}  // namespace maglane::test
