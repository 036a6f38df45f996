// SPDX-License-Identifier: Apache-2.0
//
// bpf/abi.h as user space compiles it against the BTF of what the kernel gets: every structure
// in a map, a constant or a call, field by field, and the enumerations value by value.
#include "bpf/abi.h"

#include <bpf/btf.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace maglane {
namespace {

struct Field {
  std::string name;
  size_t offset;
  size_t size;
};

struct Structure {
  std::string name;
  size_t size;
  std::vector<Field> fields;
};

#define FIELD(type, field)                                       \
  Field {                                                        \
#field, offsetof(abi::type, field), sizeof(abi::type::field) \
  }
#define STRUCTURE(type, ...)    \
  Structure {                   \
#type, sizeof(abi::type), { \
      __VA_ARGS__               \
    }                           \
  }

// A field left out here is found, since BTF has it.
const std::vector<Structure>& structures() {
  static const std::vector<Structure> all = {
      STRUCTURE(table_header, FIELD(table_header, tags), FIELD(table_header, lock), FIELD(table_header, overflow),
                FIELD(table_header, foreign), FIELD(table_header, pad)),
      STRUCTURE(table_seed, FIELD(table_seed, multiplier), FIELD(table_seed, nh)),
      STRUCTURE(frontend_key, FIELD(frontend_key, addr_be), FIELD(frontend_key, port_be),
                FIELD(frontend_key, protocol), FIELD(frontend_key, family)),
      STRUCTURE(table_ref, FIELD(table_ref, offset), FIELD(table_ref, size)),
      STRUCTURE(frontend, FIELD(frontend, service_id), FIELD(frontend, type), FIELD(frontend, flags),
                FIELD(frontend, pad), FIELD(frontend, tables), FIELD(frontend, affinity_seconds),
                FIELD(frontend, pad2)),
      STRUCTURE(frontend_entry, FIELD(frontend_entry, key), FIELD(frontend_entry, meta),
                FIELD(frontend_entry, value), FIELD(frontend_entry, pad)),
      STRUCTURE(frontend_bucket, FIELD(frontend_bucket, header), FIELD(frontend_bucket, entries),
                FIELD(frontend_bucket, pad)),
      STRUCTURE(backend, FIELD(backend, addr_be), FIELD(backend, port_be), FIELD(backend, protocol),
                FIELD(backend, family), FIELD(backend, flags), FIELD(backend, pad)),
      STRUCTURE(source_range_key, FIELD(source_range_key, prefix_bits), FIELD(source_range_key, service_id),
                FIELD(source_range_key, family),
                FIELD(source_range_key, addr_be)),
      STRUCTURE(affinity_key, FIELD(affinity_key, service_id), FIELD(affinity_key, addr_be)),
      STRUCTURE(affinity, FIELD(affinity, backend_id), FIELD(affinity, position), FIELD(affinity, slot),
                FIELD(affinity, pad)),
      STRUCTURE(service_endpoint, FIELD(service_endpoint, addr_be), FIELD(service_endpoint, service_id),
                FIELD(service_endpoint, port_be), FIELD(service_endpoint, protocol),
                FIELD(service_endpoint, family)),
      STRUCTURE(maglev_line, FIELD(maglev_line, backend_id)),
      STRUCTURE(service_info, FIELD(service_info, namespace_name), FIELD(service_info, name),
                FIELD(service_info, port_name), FIELD(service_info, port), FIELD(service_info, protocol),
                FIELD(service_info, family), FIELD(service_info, pad)),
      STRUCTURE(vip_bits, FIELD(vip_bits, word)),
      STRUCTURE(flow_bits_word, FIELD(flow_bits_word, to), FIELD(flow_bits_word, from)),
      STRUCTURE(flow_bits, FIELD(flow_bits, word)),
      STRUCTURE(tuple4, FIELD(tuple4, src_be), FIELD(tuple4, dst_be), FIELD(tuple4, src_port_be),
                FIELD(tuple4, dst_port_be), FIELD(tuple4, protocol), FIELD(tuple4, pad)),
      STRUCTURE(tuple6, FIELD(tuple6, src_be), FIELD(tuple6, dst_be), FIELD(tuple6, src_port_be),
                FIELD(tuple6, dst_port_be), FIELD(tuple6, protocol), FIELD(tuple6, pad)),
      STRUCTURE(next_hop, FIELD(next_hop, device), FIELD(next_hop, dst_mac), FIELD(next_hop, src_mac)),
      STRUCTURE(flow_body, FIELD(flow_body, addr_csum), FIELD(flow_body, port_csum),
                FIELD(flow_body, backend_id), FIELD(flow_body, service_id), FIELD(flow_body, stamp),
                FIELD(flow_body, next_hop), FIELD(flow_body, flags), FIELD(flow_body, pad),
                FIELD(flow_body, mtu)),
      STRUCTURE(flow4, FIELD(flow4, src_be), FIELD(flow4, dst_be), FIELD(flow4, src_port_be),
                FIELD(flow4, dst_port_be), FIELD(flow4, body)),
      STRUCTURE(flow6, FIELD(flow6, src_be), FIELD(flow6, dst_be), FIELD(flow6, src_port_be),
                FIELD(flow6, dst_port_be), FIELD(flow6, body), FIELD(flow6, pad)),
      STRUCTURE(fragment_key, FIELD(fragment_key, src_be), FIELD(fragment_key, dst_be), FIELD(fragment_key, id_be),
                FIELD(fragment_key, protocol), FIELD(fragment_key, family), FIELD(fragment_key, pad)),
      STRUCTURE(fragment, FIELD(fragment, ports_be), FIELD(fragment, protocol),
                FIELD(fragment, pad), FIELD(fragment, slot)),
      STRUCTURE(flow_entry4, FIELD(flow_entry4, tuple), FIELD(flow_entry4, flow)),
      STRUCTURE(flow_entry6, FIELD(flow_entry6, tuple), FIELD(flow_entry6, flow)),
      STRUCTURE(flow_bucket4, FIELD(flow_bucket4, header), FIELD(flow_bucket4, entries)),
      STRUCTURE(flow_bucket6, FIELD(flow_bucket6, header), FIELD(flow_bucket6, pad), FIELD(flow_bucket6, entries)),
      STRUCTURE(node_state, FIELD(node_state, epoch), FIELD(node_state, addr4_be),
                FIELD(node_state, addr6_be), FIELD(node_state, abi_version), FIELD(node_state, flow_bits_generation),
                FIELD(node_state, seed), FIELD(node_state, pod_cidrs), FIELD(node_state, shared_hops),
                FIELD(node_state, network_model),
                FIELD(node_state, snat_port_min), FIELD(node_state, snat_port_count), FIELD(node_state, pad2)),
      STRUCTURE(device, FIELD(device, flags)),
      STRUCTURE(socket_key, FIELD(socket_key, cookie), FIELD(socket_key, addr_be), FIELD(socket_key, port_be),
                FIELD(socket_key, kind), FIELD(socket_key, family), FIELD(socket_key, pad)),
      STRUCTURE(socket_peer, FIELD(socket_peer, frontend_addr_be), FIELD(socket_peer, endpoint_addr_be),
                FIELD(socket_peer, frontend_port_be), FIELD(socket_peer, endpoint_port_be),
                FIELD(socket_peer, protocol), FIELD(socket_peer, family), FIELD(socket_peer, pad),
                FIELD(socket_peer, backend_id), FIELD(socket_peer, service_id)),
      STRUCTURE(masquerade_range_key, FIELD(masquerade_range_key, prefix_bits), FIELD(masquerade_range_key, family),
                FIELD(masquerade_range_key, addr_be)),
      STRUCTURE(egress_address, FIELD(egress_address, addr4_be), FIELD(egress_address, addr6_be)),
      STRUCTURE(port_shortage_key, FIELD(port_shortage_key, addr_be), FIELD(port_shortage_key, source_be),
                FIELD(port_shortage_key, port_be), FIELD(port_shortage_key, protocol), FIELD(port_shortage_key, family)),
      STRUCTURE(port_shortage, FIELD(port_shortage, slot), FIELD(port_shortage, pad), FIELD(port_shortage, packets)),
      STRUCTURE(pod_namespace, FIELD(pod_namespace, ifindex)),
      STRUCTURE(prefix, FIELD(prefix, addr_be), FIELD(prefix, mask_be), FIELD(prefix, family)),
      STRUCTURE(timeouts, FIELD(timeouts, tcp_syn_sent), FIELD(timeouts, tcp_syn_recv),
                FIELD(timeouts, tcp_established), FIELD(timeouts, tcp_fin_wait), FIELD(timeouts, tcp_close_wait),
                FIELD(timeouts, tcp_last_ack), FIELD(timeouts, tcp_time_wait), FIELD(timeouts, tcp_close),
                FIELD(timeouts, tcp_unacknowledged), FIELD(timeouts, udp), FIELD(timeouts, udp_stream),
                FIELD(timeouts, icmp), FIELD(timeouts, sctp_cookie_wait), FIELD(timeouts, sctp_established),
                FIELD(timeouts, sctp_shutdown), FIELD(timeouts, sctp_closed), FIELD(timeouts, sctp_heartbeat_sent),
                FIELD(timeouts, pad)),
      STRUCTURE(node_config, FIELD(node_config, slot_shift), FIELD(node_config, hz), FIELD(node_config, ipv4),
                FIELD(node_config, ipv6), FIELD(node_config, masquerade_all), FIELD(node_config, pods_by),
                FIELD(node_config, refusals_per_second),
                FIELD(node_config, socket_translation), FIELD(node_config, network_model), FIELD(node_config, pad), FIELD(node_config, netns_cookie),
                FIELD(node_config, snat_port_min), FIELD(node_config, snat_port_count),
                FIELD(node_config, timeouts), FIELD(node_config, seed), FIELD(node_config, flow_buckets4),
                FIELD(node_config, flow_buckets6), FIELD(node_config, frontend_buckets), FIELD(node_config, retired_buckets4),
                FIELD(node_config, retired_buckets6), FIELD(node_config, pad2),
                FIELD(node_config, pod_cidrs), FIELD(node_config, service_cidrs)),
      STRUCTURE(service_counter, FIELD(service_counter, connections)),
      STRUCTURE(counter, FIELD(counter, packets), FIELD(counter, bytes)),
      STRUCTURE(call_header, FIELD(call_header, ethernet)),
      STRUCTURE(expire_call, FIELD(expire_call, header), FIELD(expire_call, family),
                FIELD(expire_call, first_bucket), FIELD(expire_call, buckets), FIELD(expire_call, walked),
                FIELD(expire_call, examined), FIELD(expire_call, removed), FIELD(expire_call, shared_hops),
                FIELD(expire_call, pad)),
      STRUCTURE(forget_call, FIELD(forget_call, header), FIELD(forget_call, family),
                FIELD(forget_call, first_bucket), FIELD(forget_call, buckets), FIELD(forget_call, walked),
                FIELD(forget_call, removed), FIELD(forget_call, pad)),
      STRUCTURE(adopt_call, FIELD(adopt_call, header), FIELD(adopt_call, family), FIELD(adopt_call, count),
                FIELD(adopt_call, adopted), FIELD(adopt_call, refused)),
      STRUCTURE(clock_call, FIELD(clock_call, header), FIELD(clock_call, jiffies), FIELD(clock_call, slot_shift),
                FIELD(clock_call, hz)),
      STRUCTURE(remove_call, FIELD(remove_call, header), FIELD(remove_call, family), FIELD(remove_call, result),
                FIELD(remove_call, tuple)),
  };
  return all;
}

// Enumerations by name; those that count something (SOURCE_CLASSES, HOOKS) included.
const std::map<std::string, std::map<std::string, int64_t>>& enumerations() {
  static const std::map<std::string, std::map<std::string, int64_t>> all = {
      {"family", {{"FAMILY_IPV4", abi::FAMILY_IPV4}, {"FAMILY_IPV6", abi::FAMILY_IPV6}}},
      {"frontend_type",
       {{"FRONTEND_ADDRESS", abi::FRONTEND_ADDRESS},
        {"FRONTEND_CLUSTER_IP", abi::FRONTEND_CLUSTER_IP},
        {"FRONTEND_NODE_PORT", abi::FRONTEND_NODE_PORT},
        {"FRONTEND_EXTERNAL_IP", abi::FRONTEND_EXTERNAL_IP},
        {"FRONTEND_LOAD_BALANCER", abi::FRONTEND_LOAD_BALANCER}}},
      {"frontend_flag",
       {{"FRONTEND_EXTERNAL_LOCAL", abi::FRONTEND_EXTERNAL_LOCAL},
        {"FRONTEND_SOURCE_RANGES", abi::FRONTEND_SOURCE_RANGES}}},
      {"pods_by",
       {{"PODS_BY_DEVICE", abi::PODS_BY_DEVICE},
        {"PODS_BY_CLUSTER_CIDR", abi::PODS_BY_CLUSTER_CIDR},
        {"PODS_BY_NODE_CIDR", abi::PODS_BY_NODE_CIDR}}},
      {"remove_result",
       {{"REMOVE_ABSENT", abi::REMOVE_ABSENT}, {"REMOVE_DONE", abi::REMOVE_DONE}, {"REMOVE_BUSY", abi::REMOVE_BUSY}}},
      {"empty_verdict", {{"EMPTY_REJECT", abi::EMPTY_REJECT}, {"EMPTY_DROP", abi::EMPTY_DROP}}},
      {"source_class",
       {{"SOURCE_OUTSIDE", abi::SOURCE_OUTSIDE},
        {"SOURCE_POD", abi::SOURCE_POD},
        {"SOURCE_CLASSES", abi::SOURCE_CLASSES}}},
      {"backend_flag", {{"BACKEND_LOCAL", abi::BACKEND_LOCAL}, {"BACKEND_NODE", abi::BACKEND_NODE}}},
      {"flow_flag", {{"FLOW_REPLY", abi::FLOW_REPLY}, {"FLOW_SNAT", abi::FLOW_SNAT}, {"FLOW_NODE", abi::FLOW_NODE},
        {"FLOW_MASQUERADE", abi::FLOW_MASQUERADE}}},
      {"network_model",
       {{"NETWORK_NONE", abi::NETWORK_NONE},
        {"NETWORK_KUBENET", abi::NETWORK_KUBENET},
        {"NETWORK_AZURE_CNI", abi::NETWORK_AZURE_CNI},
        {"NETWORK_CUSTOM", abi::NETWORK_CUSTOM}}},
      {"flow_seen",
       {{"SEEN_SYN", abi::SEEN_SYN},
        {"SEEN_ACK", abi::SEEN_ACK},
        {"SEEN_FIN", abi::SEEN_FIN},
        {"SEEN_RST", abi::SEEN_RST},
        {"SEEN_TWIN_SHIFT", abi::SEEN_TWIN_SHIFT}}},
      {"device_flag",
       {{"DEVICE_XDP", abi::DEVICE_XDP},
        {"DEVICE_POD", abi::DEVICE_POD},
        {"DEVICE_UPLINK", abi::DEVICE_UPLINK}}},
      {"hook",
       {{"HOOK_XDP", abi::HOOK_XDP},
        {"HOOK_TC", abi::HOOK_TC},
        {"HOOK_TC_EGRESS", abi::HOOK_TC_EGRESS},
        {"HOOK_SOCKET", abi::HOOK_SOCKET},
        {"HOOKS", abi::HOOKS}}},
      {"socket_kind",
       {{"SOCKET_CONNECTED", abi::SOCKET_CONNECTED},
        {"SOCKET_SENDS_TO", abi::SOCKET_SENDS_TO},
        {"SOCKET_HEARS_FROM", abi::SOCKET_HEARS_FROM}}},
      {"socket_translation",
       {{"SOCKETS_OFF", abi::SOCKETS_OFF},
        {"SOCKETS_HOST", abi::SOCKETS_HOST},
        {"SOCKETS_ALL", abi::SOCKETS_ALL}}},
      {"reason",
       {
#define X(constant, name, verdict, meaning) {"REASON_" #constant, abi::REASON_##constant},
           MAGLANE_REASONS(X)
#undef X
               {"REASON_COUNT", abi::REASON_COUNT}}},
  };
  return all;
}

struct FreeBtf {
  void operator()(btf* types) const { btf__free(types); }
};
using Btf = std::unique_ptr<btf, FreeBtf>;

Btf parse(const char* object) {
  Btf types(btf__parse_elf(object, nullptr));
  EXPECT_TRUE(types) << "no BTF in " << object;
  return types;
}

std::string name_of(const btf* types, uint32_t offset) {
  const char* name = btf__name_by_offset(types, offset);
  return name ? name : "";
}

const Structure* find(const std::string& name) {
  for (const Structure& one : structures())
    if (one.name == name) return &one;
  return nullptr;
}

void compare(const btf* types, const btf_type* type, const Structure& ours) {
  SCOPED_TRACE("struct " + ours.name);
  EXPECT_EQ(type->size, ours.size);
  const btf_member* members = btf_members(type);
  ASSERT_EQ(btf_vlen(type), ours.fields.size()) << "a field is not listed in this test";
  for (unsigned i = 0; i < btf_vlen(type); ++i) {
    SCOPED_TRACE(ours.fields[i].name);
    EXPECT_EQ(name_of(types, members[i].name_off), ours.fields[i].name);
    EXPECT_EQ(btf_member_bit_offset(type, i), ours.fields[i].offset * 8);
    EXPECT_EQ(btf__resolve_size(types, members[i].type), static_cast<int64_t>(ours.fields[i].size));
  }
}

void compare_all(const btf* types, std::set<std::string>& compared) {
  for (uint32_t id = 1; id < btf__type_cnt(types); ++id) {
    const btf_type* type = btf__type_by_id(types, id);
    if (!btf_is_struct(type)) continue;
    const std::string name = name_of(types, type->name_off);
    if (const Structure* ours = find(name)) {
      compare(types, type, *ours);
      compared.insert(name);
    }
  }
}

TEST(Abi, StructuresAreLaidOutAlike) {
  std::set<std::string> compared;
  for (const char* object : {MAGLANE_OBJECT, ABI_OBJECT}) {
    const Btf types = parse(object);
    ASSERT_TRUE(types);
    compare_all(types.get(), compared);
  }
  for (const Structure& one : structures())
    EXPECT_TRUE(compared.contains(one.name)) << one.name << " is in no map or call";
}

// Nobody but the programs looks into it: struct scratch is in no ABI.
constexpr const char* kOwnOfThePrograms = "scratches";

// What a map holds is a structure of abi.h (or a plain number).
TEST(Abi, MapsHoldNothingElse) {
  const Btf types = parse(MAGLANE_OBJECT);
  ASSERT_TRUE(types);
  const int maps = btf__find_by_name_kind(types.get(), ".maps", BTF_KIND_DATASEC);
  ASSERT_GT(maps, 0);
  const btf_type* section = btf__type_by_id(types.get(), static_cast<uint32_t>(maps));
  unsigned checked = 0;
  for (unsigned i = 0; i < btf_vlen(section); ++i) {
    const btf_type* variable = btf__type_by_id(types.get(), btf_var_secinfos(section)[i].type);
    const btf_type* map = btf__type_by_id(types.get(), variable->type);
    for (unsigned m = 0; m < btf_vlen(map); ++m) {
      const std::string member = name_of(types.get(), btf_members(map)[m].name_off);
      if (member != "key" && member != "value") continue;
      const btf_type* pointer = btf__type_by_id(types.get(), btf_members(map)[m].type);
      const btf_type* type =
          btf__type_by_id(types.get(), static_cast<uint32_t>(btf__resolve_type(types.get(), pointer->type)));
      ++checked;
      if (btf_is_int(type) || name_of(types.get(), variable->name_off) == kOwnOfThePrograms) continue;
      EXPECT_TRUE(find(name_of(types.get(), type->name_off)))
          << "map " << name_of(types.get(), variable->name_off) << ": " << member;
    }
  }
  EXPECT_GE(checked, 20U);
}

TEST(Abi, EnumerationsAgree) {
  const Btf types = parse(ABI_OBJECT);
  ASSERT_TRUE(types);
  for (const auto& [name, ours] : enumerations()) {
    SCOPED_TRACE("enum " + name);
    const int id = btf__find_by_name_kind(types.get(), name.c_str(), BTF_KIND_ENUM);
    ASSERT_GT(id, 0);
    const btf_type* type = btf__type_by_id(types.get(), static_cast<uint32_t>(id));
    std::map<std::string, int64_t> theirs;
    for (unsigned i = 0; i < btf_vlen(type); ++i)
      theirs[name_of(types.get(), btf_enum(type)[i].name_off)] = btf_enum(type)[i].val;
    EXPECT_EQ(theirs, ours);
  }
}

}  // namespace
}  // namespace maglane
