// SPDX-License-Identifier: Apache-2.0
//
// Any bytes as packets, several an input so that flows come to be and are met again, through
// the packet path as native code under the sanitizers. What is sent must be sound if what came
// in was.
#include <fuzzer/FuzzedDataProvider.h>

#include <cstdio>
#include <cstdlib>
#include <map>

#include "tests/packets/random_world.h"

namespace maglane::test {
namespace {

constexpr uint32_t kClusters = 16;

// Both families and all protocols at once. Made once each: a run is short beside them.
const Cluster& rich_cluster(uint32_t number) {
  static std::map<uint32_t, Cluster> made;
  const auto [at, fresh] = made.try_emplace(number % kClusters);
  if (!fresh) return at->second;
  Cluster& cluster = at->second;
  const bool small = number % 2;
  cluster.flow_capacity = small ? 5 : 256;
  if (small) cluster.config.snat_port_count[0] = cluster.config.snat_port_count[1] = 1;
  if (number % 4 >= 2) cluster.config.network_model = abi::NETWORK_KUBENET;
  cluster.not_masqueraded = {"10.0.0.0/8", "fd00::/12"};
  for (const uint32_t shape : {0, 1, 2, 3, 18, 19}) {
    const Cluster part = random_cluster(World{shape}, number % kClusters * 0x01234567U);
    for (const auto& frontend : part.frontends()) cluster.frontend(frontend);
  }
  return cluster;
}

Arrival next_arrival(FuzzedDataProvider& input, const Network& network, const History& history) {
  static constexpr uint32_t kDevices[] = {kUp0, kUp1, kPod0, kPod1, kOff0};
  Arrival arrival;
  if (input.ConsumeIntegral<uint8_t>() % 8 == 0) {
    arrival.frame = input.ConsumeBytes<uint8_t>(input.ConsumeIntegralInRange<size_t>(0, 300));
    arrival.device = input.PickValueInArray(kDevices);
  } else {
    Step step;
    for (uint32_t* number : {&step.source, &step.source_port, &step.destination, &step.flags, &step.follow})
      *number = input.ConsumeIntegral<uint8_t>();
    step.shape = input.ConsumeIntegral<uint16_t>();
    step.damage = input.ConsumeIntegral<uint32_t>();
    const World world{input.ConsumeIntegral<uint8_t>()};
    arrival = arrival_of(network, step, packet_of(world, step, history));
    const size_t at = input.ConsumeIntegralInRange<size_t>(0, arrival.frame.size());
    const auto overlay = input.ConsumeBytes<uint8_t>(input.ConsumeIntegral<uint8_t>() % 8);
    for (size_t i = 0; i < overlay.size() && at + i < arrival.frame.size(); ++i)
      arrival.frame[at + i] = overlay[i];
  }
  arrival.linear = input.ConsumeIntegral<uint8_t>();
  arrival.gso_segments = input.ConsumeIntegral<uint8_t>() % 16 == 0 ? 3 : 0;
  arrival.vlan = input.ConsumeIntegral<uint8_t>() % 32 == 0;
  return arrival;
}

void require(bool holds, const char* what, Program program, const Arrival& arrival, const RunResult& result) {
  if (holds) return;
  std::fprintf(stderr, "%s\n  in:  %s\n  %s: %s, reason %d\n  out: %s\n  in  %s\n  out %s\n", what,
               describe(arrival.frame).c_str(), to_string(program), to_string(result.verdict),
               result.reason ? int{*result.reason} : -1, describe(result.frame).c_str(),
               hex(arrival.frame).c_str(), hex(result.frame).c_str());
  std::abort();
}

void check(Program program, const Arrival& arrival, const RunResult& result) {
  const auto must = [&](bool holds, const char* what) { require(holds, what, program, arrival, result); };
  must(result.verdict != Verdict::aborted, "no verdict");
  must(result.reason.has_value(), "not counted under exactly one reason");
  // To or from the node's own stack: translated where it is, which is no hop.
  const bool in_place = result.reason == abi::REASON_DELIVERED || result.reason == abi::REASON_NODE_REPLY ||
                        result.reason == abi::REASON_NODE_PORT_CHANGED;
  if (result.verdict == Verdict::pass && in_place)
    must(result.frame.size() == arrival.frame.size() && parse(result.frame).ttl == parse(arrival.frame).ttl,
         "translated in place, and more");
  else if (result.verdict == Verdict::pass)
    must(result.frame == arrival.frame, "changed, yet passed on");
  if (result.verdict != Verdict::redirect && result.verdict != Verdict::transmit) return;
  const Parsed in = parse(arrival.frame), out = parse(result.frame);
  // Frames too long for their length field say 0 (BIG TCP): the parser here does not read on.
  if (arrival.gso_segments && !in.ports) return;
  must(out.ip, "sent what is no IP packet");
  if (*result.reason == abi::REASON_NO_ENDPOINT || *result.reason == abi::REASON_UNUSED_PORT ||
      *result.reason == abi::REASON_TOO_BIG) {
    must(faults(result.frame).empty(), "a wrong ICMP error");
    must(out.destination == in.source && out.source == in.destination, "an ICMP error to somebody else");
    must(result.frame.size() <= 14 + 40 + 8 + 128, "an ICMP error that quotes too much");
    return;
  }
  must(result.frame.size() == arrival.frame.size(), "changed the length");
  must(out.ttl + 1 == in.ttl, "did not take one from TTL");
  const bool icmp = in.protocol == kProtoIcmp4 || in.protocol == kProtoIcmp6;
  must((out.ports || icmp || out.fragment) && out.ip_size == in.ip_size && out.protocol == in.protocol, "changed what the packet is");
  must(in.ip_checksum_right == out.ip_checksum_right, "changed whether the IP checksum is right");
  must(in.l4_checksum_right == out.l4_checksum_right, "changed whether the checksum is right");
}

// Inputs in a row that want the same cluster differ in their flows alone.
void load(DataPlane& plane, uint32_t number) {
  static uint32_t loaded = kClusters;
  const Cluster& cluster = rich_cluster(number);
  if (number != loaded) cluster.load(plane);
  loaded = number;
  cluster.empty_flows(plane);
}

void play(FuzzedDataProvider& input) {
  static const auto plane = make_native_data_plane();
  load(*plane, input.ConsumeIntegral<uint8_t>() % kClusters);
  History history;
  for (int packets = 0; packets < 24 && input.remaining_bytes() > 0; ++packets) {
    const Arrival arrival = next_arrival(input, plane->network(), history);
    for (const Program program : programs_for(arrival, input.ConsumeBool())) {
      const RunResult result = plane->run(program, arrival);
      check(program, arrival, result);
      if (result.verdict == Verdict::pass) continue;
      const Parsed in = parse(arrival.frame);
      if (in.ports)
        history.add(Packet::udp({in.source, in.source_port}, {in.destination, in.destination_port}),
                    result.frame);
      break;
    }
  }
  for (const abi::family family : {abi::FAMILY_IPV4, abi::FAMILY_IPV6}) {
    abi::expire_call call{};
    call.family = family;
    call.first_bucket = input.ConsumeIntegral<uint8_t>() % 16;
    call.buckets = input.ConsumeIntegral<uint8_t>();
    plane->expire(call);
  }
}

}  // namespace
}  // namespace maglane::test

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzedDataProvider input(data, size);
  maglane::test::play(input);
  return 0;
}
