// SPDX-License-Identifier: Apache-2.0
#include "tests/packets/model.h"

#include <fmt/format.h>

#include <algorithm>

#include "tests/packets/scenario.h"

namespace maglane::test {
namespace {

using namespace abi;

std::string expect(const RunResult& result, Verdict verdict, reason why) {
  if (result.verdict == verdict && result.reason == why) return "";
  return fmt::format("expected {} with reason {}", to_string(verdict), static_cast<int>(why));
}

uint8_t tcp_flags(const Packet& packet) {
  return packet.protocol() == kProtoTcp && !packet.is_later_part() ? packet.tcp_flags() : 0;
}

bool in(const char* cidr, const IpAddress& address) {
  return Cidr::parse(cidr)->contains(address);
}

bool is_service_address(const IpAddress& address) {
  return in("172.20.0.0/16", address) || in("fc00::/112", address);
}

std::vector<uint16_t> source_ports(const node_config& config) {
  std::vector<uint16_t> ports;
  for (int run = 0; run < 2; ++run)
    for (uint16_t i = 0; i < config.snat_port_count[run]; ++i)
      ports.push_back(static_cast<uint16_t>(config.snat_port_min[run] + i));
  return ports;
}

}  // namespace

HostPort Model::node() const {
  return {ip(family_ == Family::ipv4 ? cluster_.node_address4 : cluster_.node_address6), 0};
}

bool Model::is_pod(const Packet& packet, const Arrival& arrival) const {
  const IpAddress& source = packet.source().address;
  return (network_.device(arrival.device).flags & DEVICE_POD) || in("10.0.0.0/8", source) ||
         in("fd00::/12", source);
}

Model::Position Model::find(const HostPort& from, const HostPort& to, bool& reply) {
  for (auto at = connections_.begin(); at != connections_.end(); ++at) {
    for (const bool direction : {false, true}) {
      reply = direction;
      if (at->present[reply] && at->key(reply) == Ends{from, to}) return at;
    }
  }
  return connections_.end();
}

Model::Position Model::holder(const HostPort& endpoint, const HostPort& source) {
  return std::find_if(connections_.begin(), connections_.end(),
                      [&](const Connection& c) {
                        const Ends replies{endpoint, source};
                        return (c.present[0] && c.key(false) == replies) || (c.present[1] && c.key(true) == replies);
                      });
}

// Its own, whose forward flow was lost, it may have; unless that was closed, and it opens anew.
bool Model::is_taken(const HostPort& endpoint, const HostPort& source, const Packet& packet, bool for_sure) {
  const Position taken = holder(endpoint, source);
  return taken != connections_.end() && !taken->closed() && !(for_sure && (taken->doubtful || taken->perhaps_closed())) &&
         taken->key(false) != Ends{packet.source(), packet.destination()};
}

void Model::forget(const std::string& service, const HostPort& endpoint) {
  connections_.remove_if([&](const Connection& one) { return one.service == service && one.endpoint == endpoint; });
}

std::string Model::check(const Packet& packet, const Arrival& arrival, const std::vector<RunResult>& runs) {
  family_ = packet.family();
  protocol_ = packet.protocol();
  const RunResult& result = runs.back();
  // XDP hands over what it cannot send, or what is nobody's business at tc either.
  if (runs.size() > 1 && runs[0].reason != REASON_TO_TC && runs[0].reason != result.reason)
    return "XDP passed a packet on with another reason";
  if (packet.quoted()) return check_error(packet, arrival, result);
  if (packet.is_later_part()) return check_later_fragment(packet, arrival, runs);
  const bool sent = result.verdict == Verdict::redirect || result.verdict == Verdict::transmit;
  const bool forwarded = result.reason == REASON_TRANSMITTED || result.reason == REASON_REDIRECTED ||
                         result.reason == REASON_RESOLVING;
  const bool delivered = result.verdict == Verdict::pass && result.reason == REASON_DELIVERED;
  if (packet.is_first_part() && ((sent && forwarded) || delivered))
    datagrams_[{packet.source().address, packet.destination().address, packet.id_value()}] = {
        packet.source(), packet.destination()};
  bool reply = false;
  const Position known = find(packet.source(), packet.destination(), reply);
  if (known == connections_.end()) return check_new(packet, arrival, result);
  if ((tcp_flags(packet) & (kSyn | kAck)) == kSyn && known->closed()) {
    connections_.erase(known);
    return check_new(packet, arrival, result);
  }
  if ((tcp_flags(packet) & (kSyn | kAck)) == kSyn && (known->doubtful || known->perhaps_closed())) {
    // The endpoint decides, unless it is none any more; or the connection had gone on since.
    const Connection before = *known;
    const bool of_a_service = before.frontend != before.endpoint;
    const bool as_before = check_known(known, reply, packet, arrival, result).empty();
    if ((reply || of_a_service) && as_before) return "";
    *known = before;
    connections_.erase(known);
    const std::string wrong = check_new(packet, arrival, result);
    const Position anew = find(packet.source(), packet.destination(), reply);
    if (as_before && anew != connections_.end()) {
      anew->perhaps_older = true;
      for (const bool direction : {false, true})
        anew->older_fin[direction] = before.fin[direction] || before.older_fin[direction];
    }
    return wrong;
  }
  const bool gives_way = may_give_way(*known, reply, runs);
  const std::string wrong = check_known(known, reply, packet, arrival, result);
  if (wrong.empty() || !gives_way) return wrong;
  known->present[reply] = false;
  return check_new(packet, arrival, result);
}

std::string Model::check_known(Position connection, bool reply, const Packet& packet, const Arrival& arrival,
                               const RunResult& result) {
  const uint8_t flags = tcp_flags(packet);
  if (flags & kRst) {
    const auto back = network_.next_hop(packet.source().address);
    const bool from_its_pod =
        (network_.device(arrival.device).flags & DEVICE_POD) && back && back->device == arrival.device;
    connection->doubtful = true;
    if (from_its_pod || !(connection->perhaps_older || connection->established(packet.protocol())))
      connection->reset = true;
  }
  if (reply) connection->answered = true;
  if (!reply && !(flags & kSyn)) connection->confirmed = true;
  if (flags & kFin) connection->fin[reply] = true;
  if (reply && network_.is_own(connection->endpoint.address))
    return expect(result, Verdict::pass, REASON_NOT_OURS);  // the node's own stack answers elsewhere
  const Packet expected = reply ? packet.from(connection->frontend).to(connection->client)
                                : packet.from(connection->source).to(connection->endpoint);
  return check_sent(expected, arrival, result);
}

// Of a packet that frontends do not serve, for the reason given.
std::string Model::check_unserved(const IpAddress& to, reason why, const RunResult& result) const {
  for (const auto& one : cluster_.frontends())
    if (one.address.address == to && one.type != FRONTEND_NODE_PORT) return expect(result, Verdict::drop, why);
  if (is_service_address(to)) return expect(result, Verdict::drop, REASON_UNUSED_ADDRESS);
  return expect(result, Verdict::pass, REASON_NOT_OURS);
}

// Goes where the first fragment of its datagram went; it has no ports of its own.
std::string Model::check_later_fragment(const Packet& packet, const Arrival& arrival,
                                        const std::vector<RunResult>& runs) {
  const RunResult& result = runs.back();
  const auto first =
      datagrams_.find({packet.source().address, packet.destination().address, packet.id_value()});
  bool reply = false;
  const Position known = first == datagrams_.end() ? connections_.end()
                                                   : find(first->second.first, first->second.second, reply);
  const auto unknown = [&] {
    if (masquerades(packet, arrival) && leaves(packet) && !is_service_address(packet.destination().address))
      return expect(result, Verdict::drop, REASON_FRAGMENT);  // it would show the pod's address
    return check_unserved(packet.destination().address, REASON_FRAGMENT, result);
  };
  if (known == connections_.end()) return unknown();
  const auto& [source, destination] = first->second;
  const bool gives_way = may_give_way(*known, reply, runs);
  const std::string wrong = check_known(known, reply, packet.from(source).to(destination), arrival, result);
  if (wrong.empty() || !gives_way) return wrong;
  known->present[reply] = false;
  return unknown();
}

// To whoever sent the packet that it is about, as it was sent.
std::string Model::check_error(const Packet& error, const Arrival& arrival, const RunResult& result) {
  const Packet& quoted = *error.quoted();
  bool reply = false;
  const Position known = find(quoted.destination(), quoted.source(), reply);
  if (known == connections_.end())
    return check_unserved(error.destination().address, REASON_UNSUPPORTED_PROTOCOL, result);
  const auto [other, sender] = known->answer(reply);
  if (reply && network_.is_own(known->endpoint.address))
    return expect(result, Verdict::pass, REASON_NOT_OURS);  // told where the node's own stack says it
  Packet expected = error.requoted(quoted.from(sender).to(other)).to_address(sender.address);
  if (other.address != quoted.destination().address) expected = expected.from_address(other.address);
  return check_sent(expected, arrival, result);
}

std::string Model::check_sent(const Packet& expected, const Arrival& arrival, const RunResult& result) const {
  if (network_.is_own(expected.destination().address)) return check_delivered(expected, result);
  const auto hop = network_.next_hop(expected.destination().address);
  if (!hop) return expect(result, Verdict::drop, REASON_NO_ROUTE);
  Packet out = expected.hop();
  if (!hop->destination) {
    if (result.reason != REASON_RESOLVING) return "expected neighbour resolution";
  } else {
    out = out.macs(hop->source, *hop->destination);
    const reason why = hop->device == arrival.device ? REASON_TRANSMITTED : REASON_REDIRECTED;
    if (result.reason != why) return fmt::format("expected to be sent with reason {}", static_cast<int>(why));
  }
  if (result.sent_to && *result.sent_to != hop->device) return "sent to another device";
  if (result.frame != out.bytes()) return "expected " + describe(out.bytes());
  return faults(result.frame);
}

std::string Model::check_delivered(const Packet& expected, const RunResult& result) const {
  const std::string wrong = expect(result, Verdict::pass, REASON_DELIVERED);
  if (!wrong.empty()) return wrong;
  if (result.frame != expected.bytes()) return "expected " + describe(expected.bytes());
  return faults(result.frame);
}

// With affinity: where the client's last new connection went, as long as that is an endpoint.
std::vector<HostPort> Model::held_to(const Packet& packet, const FrontendFixture& frontend,
                                     const std::vector<HostPort>& endpoints) const {
  const auto known = affinity_.find({frontend.address, packet.source().address});
  if (!frontend.affinity_seconds || known == affinity_.end() || !known->second) return endpoints;
  const bool there = std::find(endpoints.begin(), endpoints.end(), *known->second) != endpoints.end();
  return there ? std::vector<HostPort>{*known->second} : endpoints;
}

std::string Model::check_new(const Packet& packet, const Arrival& arrival, const RunResult& result) {
  const HostPort& to = packet.destination();
  const FrontendFixture* frontend = nullptr;
  bool service_address = false;
  for (const auto& one : cluster_.frontends()) {
    if (one.address == to && one.protocol == packet.protocol()) frontend = &one;
    if (one.address.address == to.address && one.type != FRONTEND_NODE_PORT) service_address = true;
  }
  if (!frontend && !service_address && !is_service_address(to.address) && masquerades(packet, arrival))
    return check_masqueraded(packet, arrival, result);
  if (!frontend && shares_replies(packet, arrival)) {
    FrontendFixture direct;
    direct.type = FRONTEND_ADDRESS;
    return check_chosen(packet, arrival, result, direct, {to});
  }
  const auto refuse = [&](reason why) {
    if (result.reason != why || (result.verdict != Verdict::transmit && result.verdict != Verdict::redirect))
      return fmt::format("expected a refusal with reason {}", static_cast<int>(why));
    return result.frame == port_unreachable(packet) ? std::string() : "wrong ICMP error";
  };
  if (!frontend && service_address) return refuse(REASON_UNUSED_PORT);
  if (!frontend && is_service_address(to.address))
    return expect(result, Verdict::drop, REASON_UNUSED_ADDRESS);
  if (!frontend) return expect(result, Verdict::pass, REASON_NOT_OURS);
  if (frontend->source_ranges &&
      std::none_of(frontend->source_ranges->begin(), frontend->source_ranges->end(),
                   [&](const std::string& range) { return in(range.c_str(), packet.source().address); }))
    return expect(result, Verdict::drop, REASON_SOURCE_RANGE);
  const bool pod = is_pod(packet, arrival);
  const auto& endpoints = pod ? frontend->pod_endpoints : frontend->endpoints;
  if (!endpoints.empty())
    return check_chosen(packet, arrival, result, *frontend, held_to(packet, *frontend, endpoints));
  if ((pod ? frontend->when_empty_for_pods : frontend->when_empty) == EMPTY_DROP)
    return expect(result, Verdict::drop, REASON_NO_LOCAL_ENDPOINT);
  return refuse(REASON_NO_ENDPOINT);
}

// conformance 19: what a pod sends out of the cluster's network.
bool Model::masquerades(const Packet& packet, const Arrival& arrival) const {
  return cluster_.config.network_model != NETWORK_NONE && (network_.device(arrival.device).flags & DEVICE_POD) &&
         std::none_of(cluster_.not_masqueraded.begin(), cluster_.not_masqueraded.end(), [&](const std::string& range) {
           return in(range.c_str(), packet.destination().address);
         });
}

bool Model::leaves(const Packet& packet) const {
  const auto hop = network_.next_hop(packet.destination().address);
  return hop && (network_.device(hop->device).flags & DEVICE_UPLINK);
}

// By the client's own port where that is free; as the node on the device that it leaves by. A pod's SYN and ACK
// answer somebody who asked for the pod itself.
std::string Model::check_masqueraded(const Packet& packet, const Arrival& arrival, const RunResult& result) {
  const HostPort& to = packet.destination();
  const HostPort own = packet.source();
  const auto hop = network_.next_hop(to.address);
  if (!leaves(packet)) return expect(result, Verdict::pass, REASON_NOT_OURS);
  const std::string& egress = network_.device(hop->device).addresses[family_ == Family::ipv4 ? 0 : 1];
  const IpAddress masked = ip(egress.substr(0, egress.find('/')));
  if (packet.protocol() == kProtoTcp && !(tcp_flags(packet) & kSyn)) {
    // Of none that began here, unless its other direction says so. One that was opened from outside leaves as
    // it is, with flows or without.
    const bool known = std::any_of(connections_.begin(), connections_.end(), [&](const Connection& one) {
      return one.present[1] && one.key(false) == Ends{own, to} && one.source.address == masked;
    });
    if (!known) return expect(result, Verdict::pass, REASON_NOT_OURS);
  }
  const bool inbound = (tcp_flags(packet) & (kSyn | kAck)) == (kSyn | kAck);
  const IpAddress as = inbound ? own.address : masked;
  const auto range = source_ports(cluster_.config);
  if (result.reason == REASON_NO_SOURCE_PORT) {
    std::vector<uint16_t> ports = range;
    ports.push_back(own.port);
    const bool none = std::all_of(ports.begin(), ports.end(), [&](uint16_t port) {
      return is_taken(to, HostPort(as, port), packet, false);
    });
    return none ? "" : "there are free source ports";
  }
  if (result.reason == REASON_FLOW_TABLE_FULL)
    return flows_ + 2 > cluster_.flow_capacity ? "" : "the flow table is not full";
  const Parsed out = parse(result.frame);
  const HostPort source(out.source, out.source_port);
  if (!out.ports || HostPort(out.destination, out.destination_port) != to) return "not sent to where it was for";
  if (source.address != as) return "wrong source address";
  const bool from_range = std::find(range.begin(), range.end(), source.port) != range.end();
  const Position before = holder(to, source);
  const bool again = before != connections_.end() && before->key(false) == Ends{own, to};
  if (!again && !is_taken(to, HostPort(as, own.port), packet, false) && source.port != own.port)
    return "source port changed without need";
  if (source.port != own.port && !from_range) return "source port out of the range";
  if (is_taken(to, source, packet, true)) return "source port is taken by a living connection";
  return check_opened(packet, arrival, result, source, to, "");
}

// A pod that goes past the service to an endpoint, from a port that it uses through the service.
bool Model::shares_replies(const Packet& packet, const Arrival& arrival) {
  const bool opens = packet.protocol() != kProtoTcp || (tcp_flags(packet) & (kSyn | kAck)) == kSyn;
  return opens && (network_.device(arrival.device).flags & DEVICE_POD) &&
         holder(packet.destination(), packet.source()) != connections_.end();
}

// conformance: the client's address is replaced where the reply would not come back otherwise.
bool Model::translates_source(const Packet& packet, const Arrival& arrival, const FrontendFixture& frontend,
                              const HostPort& endpoint) const {
  const IpAddress& source = packet.source().address;
  if (frontend.type == FRONTEND_ADDRESS) return false;
  if (network_.is_own(endpoint.address)) return false;
  if (source == endpoint.address) return true;
  const bool pod = in("10.0.0.0/8", source) || in("fd00::/12", source);
  if (frontend.type == FRONTEND_CLUSTER_IP) return !pod || cluster_.config.masquerade_all;
  if (frontend.external_local && network_.device(arrival.device).flags & DEVICE_POD) return false;
  return !Network::is_local_pod(endpoint.address);
}

bool Model::may_lack_ports(const Packet& packet, const Arrival& arrival, const FrontendFixture& frontend,
                           const std::vector<HostPort>& endpoints) {
  return std::any_of(endpoints.begin(), endpoints.end(), [&](const HostPort& endpoint) {
    const bool translates = translates_source(packet, arrival, frontend, endpoint);
    std::vector<uint16_t> ports = source_ports(cluster_.config);
    if (!translates) ports.push_back(packet.source().port);
    const IpAddress source = translates ? node().address : packet.source().address;
    return std::all_of(ports.begin(), ports.end(), [&](uint16_t port) {
      return is_taken(endpoint, HostPort(source, port), packet, false);
    });
  });
}

std::string Model::check_chosen(const Packet& packet, const Arrival& arrival, const RunResult& result,
                                const FrontendFixture& frontend, const std::vector<HostPort>& endpoints) {
  const std::pair held(frontend.address, packet.source().address);
  if (result.reason == REASON_NO_SOURCE_PORT || result.reason == REASON_FLOW_TABLE_FULL)
    affinity_[held] = endpoints.size() == 1 ? std::optional(endpoints[0]) : std::nullopt;
  if (result.reason == REASON_NO_SOURCE_PORT)
    return may_lack_ports(packet, arrival, frontend, endpoints) ? "" : "there are free source ports";
  if (result.reason == REASON_FLOW_TABLE_FULL)
    return flows_ + 2 > cluster_.flow_capacity ? "" : "the flow table is not full";
  const Parsed out = parse(result.frame);
  const HostPort endpoint(out.destination, out.destination_port), source(out.source, out.source_port);
  if (!out.ports || std::find(endpoints.begin(), endpoints.end(), endpoint) == endpoints.end())
    return "not sent to an endpoint of the frontend";
  affinity_[held] = endpoint;
  const bool translates = translates_source(packet, arrival, frontend, endpoint);
  if (source.address != (translates ? node().address : packet.source().address))
    return "wrong source address";
  const HostPort own = packet.source();
  const bool own_free = !is_taken(endpoint, own, packet, false);
  const auto ports = source_ports(cluster_.config);
  const bool from_range = std::find(ports.begin(), ports.end(), source.port) != ports.end();
  if (!translates && own_free && source.port != own.port) return "source port changed without need";
  if ((translates || is_taken(endpoint, own, packet, true)) && !from_range) return "source port out of the range";
  if (is_taken(endpoint, source, packet, true)) return "source port is taken by a living connection";
  return check_opened(packet, arrival, result, source, endpoint, frontend.service);
}

// The connection that a first packet has made, or of which it made a lost direction again.
std::string Model::check_opened(const Packet& packet, const Arrival& arrival, const RunResult& result,
                                const HostPort& source, const HostPort& endpoint, const std::string& service) {
  const Position taken = holder(endpoint, source);
  if (taken != connections_.end()) {
    const bool own_again = taken->key(false) == Ends{packet.source(), packet.destination()} &&
                           !(taken->closed() && tcp_flags(packet) & kSyn);
    if (own_again) return check_known(taken, false, packet, arrival, result);
    connections_.erase(taken);
  }
  connections_.push_back({packet.source(), packet.destination(), source, endpoint, service});
  return check_known(std::prev(connections_.end()), false, packet, arrival, result);
}

// Whether this direction is the last of its connection: the other one's tuple has become another connection's.
bool Model::superseded(const Connection& connection, bool reply) const {
  return std::any_of(connections_.begin(), connections_.end(), [&](const Connection& other) {
    const Ends twin = connection.key(!reply);
    return &other != &connection &&
           ((other.present[0] && other.key(false) == twin) || (other.present[1] && other.key(true) == twin));
  });
}

// Whether the very packet may find this direction gone: it was noticed with it; or at XDP the other direction was
// made again and took the place of this one.
bool Model::may_give_way(const Connection& connection, bool reply, const std::vector<RunResult>& runs) const {
  const bool full = flows_ + 2 >= cluster_.flow_capacity;
  const bool handed_over = runs.size() > 1 && runs[0].reason == REASON_TO_TC;
  return superseded(connection, reply) || (full && handed_over && !connection.established(protocol_));
}

// What a full table may give up; and what notices that it is superseded.
bool Model::may_lose(const Connection& connection, bool reply, size_t flows) const {
  const bool full = flows + 2 >= cluster_.flow_capacity;
  return (full && (connection.perhaps_closed() || !connection.established(protocol_))) || superseded(connection, reply);
}

std::string Model::check_direction(Connection& connection, bool reply, const std::map<Ends, Ends>& flows) {
  const auto found = flows.find(connection.key(reply));
  const bool present = found != flows.end() && found->second == connection.answer(reply);
  if (connection.present[reply] && !present && !may_lose(connection, reply, flows.size()))
    return fmt::format("of {} to {} the {} flow was lost; {} flows are left", connection.client.to_string(),
                       connection.frontend.to_string(), reply ? "reply" : "forward", flows.size());
  connection.present[reply] = present;
  return "";
}

std::string Model::check_flows(const std::map<Ends, Ends>& flows) {
  size_t known = 0;
  for (Connection& connection : connections_) {
    for (const bool reply : {false, true}) {
      const std::string wrong = check_direction(connection, reply, flows);
      if (!wrong.empty()) return wrong;
      known += connection.present[reply];
    }
  }
  connections_.remove_if([](const Connection& one) { return !one.present[0] && !one.present[1]; });
  flows_ = flows.size();
  if (known != flows.size()) return "flows that belong to no connection";
  return flows_ <= cluster_.flow_capacity ? "" : "more flows than the table holds";
}

}  // namespace maglane::test
