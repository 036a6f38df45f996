// SPDX-License-Identifier: Apache-2.0
#include "agent/inspect/flows.h"

#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "agent/inspect/names.h"

namespace maglane::inspect {
namespace {

constexpr uint8_t kSeenOwn = (1U << abi::SEEN_TWIN_SHIFT) - 1;

abi::tuple6 reversed(const abi::tuple6& tuple) {
  abi::tuple6 result = tuple;
  std::memcpy(result.src_be, tuple.dst_be, sizeof result.src_be);
  std::memcpy(result.dst_be, tuple.src_be, sizeof result.dst_be);
  result.src_port_be = tuple.dst_port_be;
  result.dst_port_be = tuple.src_port_be;
  return result;
}

// `original` and `translated`: as the entry holds them, before and after translation.
FlowRecord seen_from_client(const abi::tuple6& original, const abi::tuple6& translated,
                            const abi::flow_body& body, Family family, uint8_t seen) {
  FlowRecord record{original, translated, body, family, seen};
  if (record.is_reply()) {
    record.opened = reversed(translated);
    record.translated = reversed(original);
  }
  return record;
}

int compare(const FlowRecord& a, const FlowRecord& b) {
  if (a.family != b.family) return a.family < b.family ? -1 : 1;
  if (const int order = std::memcmp(&a.opened, &b.opened, sizeof a.opened); order != 0) return order;
  return std::memcmp(&a.translated, &b.translated, sizeof a.translated);
}

uint32_t idle_slots(uint32_t now, uint32_t stamp) {
  const uint32_t idle = (now - stamp) & abi::STAMP_SLOT_MASK;
  // A packet that came after the clock was read.
  return idle > abi::STAMP_SLOT_MASK / 2 ? 0 : idle;
}

// The same distinctions as those by which the data plane chooses a flow's idle time.
const char* state_of(uint8_t protocol, uint8_t forward, uint8_t reply) {
  if (protocol != IPPROTO_TCP) return reply != 0 ? "replied" : "new";
  if ((forward & reply & abi::SEEN_FIN) != 0) return "closed";
  if (((forward | reply) & abi::SEEN_RST) != 0) return "reset";
  if (((forward | reply) & abi::SEEN_FIN) != 0) return "closing";
  return reply != 0 && (forward & abi::SEEN_ACK) != 0 ? "established" : "opening";
}

// Of the entries from `begin` to `end`, all of one connection.
Connection judge(const FlowRecord* begin, const FlowRecord* end, const PinnedMaps::Clock& clock) {
  uint8_t forward = 0;
  uint8_t reply = 0;
  uint32_t idle = abi::STAMP_SLOT_MASK;
  for (const FlowRecord* entry = begin; entry != end; ++entry) {
    const uint8_t own = entry->seen & kSeenOwn;
    const uint8_t twin = entry->seen >> abi::SEEN_TWIN_SHIFT;
    forward |= entry->is_reply() ? twin : own;
    reply |= entry->is_reply() ? own : twin;
    idle = std::min(idle, idle_slots(clock.slot, entry->body.stamp));
  }
  return {state_of(begin->opened.protocol, forward, reply), idle * clock.slot_seconds};
}

bool either_in(const Cidr& cidr, Family family, const __be32 (&a)[4], const __be32 (&b)[4]) {
  return cidr.contains(IpAddress::from_be(family, a)) || cidr.contains(IpAddress::from_be(family, b));
}

bool selects(const FlowFilter& filter, const FlowRecord& flow) {
  const abi::tuple6& opened = flow.opened;
  const abi::tuple6& translated = flow.translated;
  if (filter.protocol && static_cast<uint8_t>(*filter.protocol) != opened.protocol) return false;
  if (filter.family && *filter.family != flow.family) return false;
  if (filter.reply && *filter.reply != flow.is_reply()) return false;
  if (filter.service_ids && !filter.service_ids->contains(flow.body.service_id)) return false;
  if (filter.source && !either_in(*filter.source, flow.family, opened.src_be, translated.src_be))
    return false;
  if (filter.destination && !either_in(*filter.destination, flow.family, opened.dst_be, translated.dst_be))
    return false;
  if (!filter.port) return true;
  const std::array ports = {opened.src_port_be, opened.dst_port_be, translated.src_port_be,
                            translated.dst_port_be};
  return std::find(ports.begin(), ports.end(), htons(*filter.port)) != ports.end();
}

void fill_tuple(const abi::tuple6& tuple, Family family, v1::Tuple& message) {
  message.set_source(IpAddress::from_be(family, tuple.src_be).to_string());
  message.set_source_port(host_port(tuple.src_port_be));
  message.set_destination(IpAddress::from_be(family, tuple.dst_be).to_string());
  message.set_destination_port(host_port(tuple.dst_port_be));
}

}  // namespace

FlowRecord record_of(const FlowEntry4& entry) {
  const auto& [key, flow, seen] = entry;
  return seen_from_client(
      abi::tuple6{{key.src_be}, {key.dst_be}, key.src_port_be, key.dst_port_be, key.protocol, {}},
      abi::tuple6{{flow.src_be}, {flow.dst_be}, flow.src_port_be, flow.dst_port_be, key.protocol, {}},
      flow.body, Family::ipv4, seen);
}

FlowRecord record_of(const FlowEntry6& entry) {
  const auto& [key, flow, seen] = entry;
  abi::tuple6 translated{};
  std::memcpy(translated.src_be, flow.src_be, sizeof flow.src_be);
  std::memcpy(translated.dst_be, flow.dst_be, sizeof flow.dst_be);
  translated.src_port_be = flow.src_port_be;
  translated.dst_port_be = flow.dst_port_be;
  translated.protocol = key.protocol;
  return seen_from_client(key, translated, flow.body, Family::ipv6, seen);
}

abi::tuple6 key6_of(const FlowRecord& record) {
  return record.is_reply() ? reversed(record.translated) : record.opened;
}

abi::tuple4 key4_of(const FlowRecord& record) {
  const abi::tuple6 key = key6_of(record);
  return {key.src_be[0], key.dst_be[0], key.src_port_be, key.dst_port_be, key.protocol, {}};
}

void sort_flows(std::vector<FlowRecord>& flows) {
  std::sort(flows.begin(), flows.end(), [](const FlowRecord& a, const FlowRecord& b) {
    const int order = compare(a, b);
    return order != 0 ? order < 0 : a.is_reply() < b.is_reply();
  });
}

bool FlowFilter::selects_all() const {
  return !protocol && !family && !source && !destination && !port && !service_ids && !state && !reply;
}

bool is_state(const std::string& word) {
  static const std::set<std::string> states = {"opening", "established", "closing", "reset",
                                               "closed",  "new",         "replied"};
  return states.contains(word);
}

void each_selected(const std::vector<FlowRecord>& sorted, const FlowFilter& filter,
                   const PinnedMaps::Clock& clock,
                   const std::function<bool(const FlowRecord&, const Connection&)>& visit) {
  const FlowRecord* const last = sorted.data() + sorted.size();
  for (const FlowRecord* begin = sorted.data(); begin != last;) {
    const FlowRecord* end = begin + 1;
    while (end != last && compare(*begin, *end) == 0) ++end;
    const Connection connection = judge(begin, end, clock);
    const bool state_fits = !filter.state || *filter.state == connection.state;
    for (; begin != end; ++begin)
      if (state_fits && selects(filter, *begin) && !visit(*begin, connection)) return;
  }
}

v1::FlowCount count_flows(const std::vector<FlowRecord>& sorted, const FlowFilter& filter,
                          const PinnedMaps::Clock& clock) {
  v1::FlowCount count;
  std::map<std::string, uint32_t> by_state;
  std::map<uint8_t, uint32_t> by_protocol;
  uint32_t flows = 0;
  uint32_t connections = 0;
  const FlowRecord* previous = nullptr;
  each_selected(sorted, filter, clock, [&](const FlowRecord& flow, const Connection& connection) {
    ++flows;
    if (previous == nullptr || compare(*previous, flow) != 0) {
      ++connections;
      ++by_state[connection.state];
      ++by_protocol[flow.opened.protocol];
    }
    previous = &flow;
    return true;
  });
  count.set_flows(flows);
  count.set_connections(connections);
  for (const auto& [state, number] : by_state) (*count.mutable_by_state())[state] = number;
  for (const auto& [protocol, number] : by_protocol)
    (*count.mutable_by_protocol())[protocol_name(protocol)] = number;
  return count;
}

v1::Flow to_message(const FlowRecord& record, const Connection& connection, const FlowNames& names) {
  v1::Flow flow;
  const abi::tuple6 original = key6_of(record);
  const abi::tuple6 translated = record.is_reply() ? reversed(record.opened) : record.translated;
  flow.set_protocol(protocol_name(original.protocol));
  flow.set_family(std::string(to_string(record.family)));
  flow.set_direction(record.is_reply() ? "reply" : "forward");
  fill_tuple(original, record.family, *flow.mutable_original());
  fill_tuple(translated, record.family, *flow.mutable_translated());
  flow.set_source_translated((record.body.flags & abi::FLOW_SNAT) != 0);
  flow.set_state(connection.state);
  flow.set_idle_seconds(connection.idle_seconds);
  flow.set_service_id(record.body.service_id);
  if (const auto service = names.services.find(record.body.service_id); service != names.services.end())
    flow.set_service(service->second);
  flow.set_backend_id(record.body.backend_id);
  if (const uint32_t ifindex = record.body.next_hop.device & ~abi::NEXT_HOP_XDP; ifindex != 0) {
    flow.set_device(names.device(ifindex));
    flow.set_next_hop_mac(mac_name(record.body.next_hop.dst_mac));
  }
  return flow;
}

}  // namespace maglane::inspect
