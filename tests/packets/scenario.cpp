// SPDX-License-Identifier: Apache-2.0
#include "tests/packets/scenario.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "agent/kernel/flow_bits.h"
#include "tests/packets/tables.h"

namespace maglane::test {
namespace {

constexpr const char* kReasonNames[] = {
#define X(constant, name, verdict, meaning) name,
    MAGLANE_REASONS(X)
#undef X
};

std::string reason_name(std::optional<abi::reason> reason) {
  return reason ? kReasonNames[*reason] : "not exactly one reason";
}

bool in_source_port_range(const abi::node_config& config, uint16_t port) {
  for (int i = 0; i < 2; ++i)
    if (port >= config.snat_port_min[i] && port < config.snat_port_min[i] + config.snat_port_count[i])
      return true;
  return false;
}

}  // namespace

std::string Variant::name() const {
  return fmt::format("{}{}{}", mode == Mode::xdp ? "Xdp" : "Tc", family == Family::ipv4 ? "V4" : "V6",
                     protocol == kProtoTcp   ? "Tcp"
                     : protocol == kProtoUdp ? "Udp"
                                             : "Sctp");
}

Outcome::Outcome(Scenario& scenario, Arrival arrival, bool from_pod, bool leaves)
    : scenario_(scenario), arrival_(std::move(arrival)), from_pod_(from_pod) {
  const auto run = [&](Program program) {
    if (!scenario_.plane.can_run(program, arrival_)) return;
    runs_.push_back({program, scenario_.plane.run(program, arrival_)});
    if (last().reason) Scenario::reasons_met().insert(*last().reason);
  };
  if (leaves) {
    run(Program::tc_egress);
    return;
  }
  if (!from_pod_ && scenario_.variant.mode == Mode::xdp && arrival_.gso_segments == 0) {
    run(Program::xdp_uplink);
    if (runs_.empty() || last().verdict != Verdict::pass) return;
    EXPECT_EQ(hex(last().frame), hex(arrival_.frame))
        << "XDP changed a packet that it passed on: " << story();
  }
  run(from_pod_ ? Program::tc_pod : Program::tc_uplink);
}

std::string Outcome::story() const {
  std::string text = "\n  in:  " + describe(arrival_.frame);
  for (const Run& run : runs_)
    text += fmt::format("\n  {}: {}, {}\n  out: {}", to_string(run.program), to_string(run.result.verdict),
                        reason_name(run.result.reason), describe(run.result.frame));
  return text;
}

bool Outcome::expect_run(const Run& run, Verdict verdict, abi::reason reason, int line) const {
  if (run.result.verdict == verdict && run.result.reason == reason) return true;
  ADD_FAILURE() << "line " << line << ": expected " << to_string(verdict) << ", " << reason_name(reason)
                << " at " << to_string(run.program) << story();
  return false;
}

void Outcome::expect_frame(const Bytes& expected, int line) const {
  if (last().frame == expected) return;
  ADD_FAILURE() << "line " << line << ": expected " << describe(expected) << story() << "\n  expected "
                << hex(expected) << "\n  but was  " << hex(last().frame);
}

void Outcome::passed(abi::reason reason, int line) const {
  if (runs_.empty()) return;
  for (const Run& run : runs_) expect_run(run, Verdict::pass, reason, line);
  expect_frame(arrival_.frame, line);
}

void Outcome::dropped(abi::reason reason, int line) const {
  // XDP may have left it to tc, which drops it.
  if (runs_.size() > 1) expect_run(runs_[0], Verdict::pass, abi::REASON_TO_TC, line);
  expect_run(runs_.back(), Verdict::drop, reason, line);
}

void Outcome::rejected(abi::reason reason, const Bytes& expected, int line) const {
  // XDP may have left it to tc.
  if (runs_.size() > 1) expect_run(runs_[0], Verdict::pass, abi::REASON_TO_TC, line);
  const bool at_xdp = runs_.back().program == Program::xdp_uplink;
  expect_run(runs_.back(), at_xdp ? Verdict::transmit : Verdict::redirect, reason, line);
  expect_frame(expected, line);
  EXPECT_EQ(last().sent_to.value_or(arrival_.device), arrival_.device) << "line " << line;
}

void Outcome::sent(const Packet& expected, int line) const {
  const auto hop = scenario_.plane.network().next_hop(expected.destination().address);
  ASSERT_TRUE(hop) << "line " << line << ": the case expects a packet to where there is no route";
  const bool same_device = hop->device == arrival_.device;
  const bool at_xdp = runs_[0].program == Program::xdp_uplink;
  const bool xdp_sends =
      at_xdp && hop->destination &&
      (same_device || (scenario_.plane.network().device(hop->device).flags & abi::DEVICE_XDP));
  const abi::reason reason = !hop->destination ? abi::REASON_RESOLVING
                             : same_device     ? abi::REASON_TRANSMITTED
                                               : abi::REASON_REDIRECTED;
  if (at_xdp && !xdp_sends && !expect_run(runs_[0], Verdict::pass, abi::REASON_TO_TC, line)) return;
  const Verdict verdict = xdp_sends && same_device ? Verdict::transmit : Verdict::redirect;
  EXPECT_EQ(runs_.size(), at_xdp && !xdp_sends ? 2U : 1U) << "line " << line << story();
  if (!expect_run(runs_.back(), verdict, reason, line)) return;
  expect_frame((hop->destination ? expected.macs(hop->source, *hop->destination) : expected).bytes(), line);
  EXPECT_EQ(last().sent_to.value_or(hop->device), hop->device) << "line " << line;
}

void Outcome::delivered(const Packet& expected, int line) const {
  if (runs_.size() > 1) expect_run(runs_[0], Verdict::pass, abi::REASON_TO_TC, line);
  expect_run(runs_.back(), Verdict::pass, abi::REASON_DELIVERED, line);
  EXPECT_NE(runs_.back().program, Program::xdp_uplink) << "line " << line << story();
  expect_frame(expected.bytes(), line);
}

void Outcome::let_out(abi::reason reason, const Packet& expected, int line) const {
  expect_run(runs_.back(), Verdict::pass, reason, line);
  expect_frame(expected.bytes(), line);
}

uint16_t Outcome::sent_from_new_port(const Packet& expected, int line) const {
  const Parsed out = parse(last().frame);
  if (!out.ports || !in_source_port_range(scenario_.cluster.config, out.source_port)) {
    ADD_FAILURE() << "line " << line << ": expected a translated source port" << story();
    return 0;
  }
  sent(expected.from(HostPort(expected.source().address, out.source_port)), line);
  return out.source_port;
}

Outcome Scenario::arrive(const Arrival& arrival, bool from_pod, bool leaves) {
  load();
  return Outcome(*this, arrival, from_pod, leaves);
}

void Scenario::load() {
  if (!loaded_) cluster.load(plane);
  loaded_ = true;
}

HostPort Scenario::client(uint16_t port) const {
  return {ip(v4() ? "198.51.100.7" : "2001:db8:c::7"), port};
}
HostPort Scenario::vip(uint16_t port) const {
  return {ip(v4() ? "172.20.0.10" : "fc00::10"), port};
}
HostPort Scenario::node(uint16_t port) const {
  return {ip(v4() ? Network::kNodeAddress4 : Network::kNodeAddress6), port};
}
HostPort Scenario::local(int n, uint16_t port) const {
  return {ip(fmt::format("{}{}", v4() ? "10.1.0." : "fd01::", 10 + n)), port};
}
HostPort Scenario::other_pod(uint16_t port) const {
  return {ip(v4() ? "10.1.1.10" : "fd01:0:0:1::10"), port};
}
HostPort Scenario::remote(uint16_t port) const {
  return {ip(v4() ? "10.2.0.10" : "fd02::10"), port};
}
HostPort Scenario::remote_c(uint16_t port) const {
  return {ip(v4() ? "10.3.0.10" : "fd03::10"), port};
}
HostPort Scenario::low_mtu_pod(uint16_t port) const {
  return {ip(v4() ? "10.1.2.10" : "fd01:0:0:2::10"), port};
}

HostPort Scenario::outside(uint16_t port) const {
  return {ip(v4() ? "198.51.100.77" : "2001:db8:c::77"), port};
}
HostPort Scenario::outside_c(uint16_t port) const {
  return {ip(v4() ? "198.51.101.77" : "2001:db8:d::77"), port};
}
HostPort Scenario::node_c(uint16_t port) const {
  return {ip(v4() ? "192.168.51.1" : "fd51::1"), port};
}

Packet Scenario::first(const HostPort& from, const HostPort& to) const {
  if (sctp()) return Packet::sctp(from, to);
  return tcp() ? Packet::tcp(from, to, kSyn).tcp_options({2, 4, 5, 0xb4}) : Packet::udp(from, to);
}

Packet Scenario::later(const HostPort& from, const HostPort& to, uint8_t flags) const {
  if (sctp()) return Packet::sctp(from, to).sequence(7, 0);
  return tcp() ? Packet::tcp(from, to, flags).payload("payload") : Packet::udp(from, to).payload("another");
}

namespace {

Bytes icmp_answer(const Packet& packet, uint8_t type, uint8_t code, uint32_t rest) {
  Bytes quote = packet.ip_bytes();
  if (quote.size() > 128) quote.resize(128);
  const Packet error = Packet::icmp(packet.destination().address, packet.source().address, type, code);
  const Bytes in = packet.bytes();
  Mac destination{}, source{};
  std::copy_n(in.begin(), 6, destination.begin());
  std::copy_n(in.begin() + 6, 6, source.begin());
  return error.icmp_rest(rest).id(0).dont_fragment(false).payload(quote).macs(destination, source).bytes();
}

}  // namespace

Bytes port_unreachable(const Packet& packet) {
  const bool v4 = packet.family() == Family::ipv4;
  return icmp_answer(packet, v4 ? 3 : 1, v4 ? 3 : 4, 0);
}

Bytes too_big(const Packet& packet, uint32_t mtu) {
  const bool v4 = packet.family() == Family::ipv4;
  return icmp_answer(packet, v4 ? 3 : 2, v4 ? 4 : 0, mtu);
}

size_t Scenario::flow_count() {
  return flows_of(plane).size();
}

void Scenario::age_flows(uint32_t slots) {
  set_slot_of_flows(plane, plane.slot() - slots);
}

void Scenario::age_flows_of(uint16_t client_port, uint32_t slots) {
  const uint32_t slot = (plane.slot() - slots) & abi::STAMP_SLOT_MASK;
  each_slot(plane, [&](const FlowSlot& flow) {
    if (flow.source != client(client_port) && flow.destination != client(client_port)) return;
    flow.body->stamp = (flow.body->stamp & ~uint32_t{abi::STAMP_SLOT_MASK}) | slot;
  });
}

std::multiset<uint16_t> Scenario::clients_with_flows() {
  std::multiset<uint16_t> ports;
  each_slot(plane, [&](const FlowSlot& flow) {
    for (const HostPort& end : {flow.source, flow.destination})
      if (end.address == client().address) ports.insert(end.port);
  });
  return ports;
}

std::map<uint16_t, uint8_t> Scenario::what_was_seen() {
  std::map<uint16_t, uint8_t> seen;
  each_slot(plane, [&](const FlowSlot& flow) { seen[flow.source.port] = flow.seen(); });
  return seen;
}

abi::expire_call Scenario::expire() {
  return expire_all(plane);
}

uint32_t Scenario::forget(const std::vector<abi::service_endpoint>& gone) {
  for (const auto& endpoint : gone) plane.put_value("gone_endpoints", endpoint, uint32_t{1});
  return forget_all(plane);
}

void Scenario::rotate_flow_bits() {
  auto& bits = memory_of<abi::flow_bits>(plane, "flow_bits")[0];
  auto& state = memory_of<abi::node_state>(plane, "node_state")[0];
  FlowBits agent({&bits, &state, memory_of<abi::flow_bucket4>(plane, "flows4"),
                  memory_of<abi::flow_bucket6>(plane, "flows6")},
                 std::chrono::seconds(1));
  FlowBits::Clock::time_point now{};
  const auto settle = [&] {
    while (!agent.settled()) agent.run(now);
  };
  settle();
  const uint32_t before = state.flow_bits_generation;
  agent.run(now += std::chrono::hours(1));
  EXPECT_NE(state.flow_bits_generation, before);
  settle();
}

void Scenario::lose_flow_bits() {
  std::ranges::fill(plane.memory("flow_bits"), uint8_t{0});
}

void Scenario::lose_direction(bool reply) {
  each_slot(plane, [&](const FlowSlot& flow) {
    if (static_cast<bool>(flow.body->flags & abi::FLOW_REPLY) != reply) return;
    abi::remove_call call{};
    call.family = flow.family;
    std::memcpy(&call.tuple, flow.key.data(), flow.key.size());
    plane.remove_flow(call);
    EXPECT_EQ(call.result, uint32_t{abi::REMOVE_DONE});
    plane.remove_flow(call);
    EXPECT_EQ(call.result, uint32_t{abi::REMOVE_ABSENT}) << "removed twice";
  });
}

std::set<abi::reason>& Scenario::reasons_met() {
  static std::set<abi::reason> met;
  return met;
}

std::vector<Variant> Case::variants() const {
  std::vector<Variant> result;
  for (const Mode mode : {Mode::xdp, Mode::tc})
    for (const Family family : {Family::ipv4, Family::ipv6})
      for (const uint8_t protocol : {kProtoTcp, kProtoUdp, kProtoSctp}) {
        const bool v4 = family == Family::ipv4, tcp = protocol == kProtoTcp, sctp = protocol == kProtoSctp;
        if ((which == tcp_only && !tcp) || (which == udp_only && protocol != kProtoUdp) ||
            (which == sctp_only && !sctp) || (which == no_sctp && sctp) || (which == ipv4_only && !v4) ||
            (which == ipv6_only && v4) || (which == once && !(v4 && tcp)))
          continue;
        result.push_back({family, protocol, mode});
      }
  return result;
}

const std::vector<Case>& all_cases() {
  static const std::vector<Case> cases = [] {
    std::vector<Case> all;
    for (const auto& some :
         {forwarding_cases(), connection_cases(), refusal_cases(), malformed_cases(), next_hop_cases(),
          icmp_cases(), fragment_cases(), policy_cases(), node_endpoint_cases(), masquerade_cases(),
          masquerade_echo_cases()})
      all.insert(all.end(), some.begin(), some.end());
    return all;
  }();
  return cases;
}

}  // namespace maglane::test
