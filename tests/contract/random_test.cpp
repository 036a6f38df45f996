// SPDX-License-Identifier: Apache-2.0
//
// Random play on random clusters: objects go through resolve, plan and diff into the maps of the
// programs in the kernel and of the same code natively, change by change; random packets, among
// them malformed ones, must become byte for byte the same in both, and what the model says.
//
//   contract_random [--seconds S] [--seed N]
//
// Without --seconds a bounded run. A failure prints the seed with which it comes again.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <set>
#include <sstream>

#include "tests/contract/agent.h"
#include "tests/contract/random_cluster.h"
#include "tests/packets/model.h"
#include "tests/packets/random_steps.h"
#include "tests/packets/tables.h"

template <>
struct rc::Arbitrary<maglane::test::RandomService> {
  static Gen<maglane::test::RandomService> arbitrary() {
    using maglane::test::RandomService;
    const auto number = [](uint32_t bits) { return gen::inRange<uint32_t>(0, 1U << bits); };
    return gen::build<RandomService>(
        gen::set(&RandomService::type, number(8)), gen::set(&RandomService::addresses, number(12)),
        gen::set(&RandomService::policies, number(9)), gen::set(&RandomService::endpoints, number(15)),
        gen::set(&RandomService::hints, gen::weightedOneOf<uint32_t>({{2, gen::just<uint32_t>(0)}, {1, number(10)}})));
  }
};

namespace maglane::test {
namespace {

using Clock = std::chrono::steady_clock;

struct Extent {
  uint64_t seed = 1;
  std::chrono::seconds seconds{0};
  int plays = 150;  // of a seed
} extent;

DataPlane& native_plane() {
  static const auto plane = make_native_data_plane();
  return *plane;
}

// The data planes and the model, with one agent's state in each.
class Play {
 public:
  Play(const World& world, bool tc_only, const std::vector<RandomService>& services)
      : world_(world), tc_only_(tc_only), agent_(random_node()), network_(native_plane().network()) {
    for (size_t n = 0; n < services.size() && n < kRandomServices; ++n) put_service(objects_, world_, n, services[n]);
    const auto operations = agent_.update(objects_);
    cluster_ = meaning_of(agent_.cluster(), world_);
    const abi::node_config config = cluster_.constants();
    for (DataPlane* plane : planes()) {
      plane->reset(config);
      put_node(*plane, config, ip(Network::kNodeAddress4), ip(Network::kNodeAddress6), cluster_.epoch);
      apply(operations, *plane, config);
      cluster_.empty_flows(*plane);
    }
    model_ = std::make_unique<Model>(cluster_, network_);
  }

  void change(size_t n, const RandomService& service) {
    const std::set<Serving> before = serving_of_udp();
    put_service(objects_, world_, n, service);
    const auto operations = agent_.update(objects_);
    const uint32_t epoch = cluster_.epoch;
    cluster_ = meaning_of(agent_.cluster(), world_);
    cluster_.epoch = epoch;
    for (DataPlane* plane : planes()) apply(operations, *plane, cluster_.constants());
    model_->change(cluster_);
    const std::set<Serving> after = serving_of_udp();
    for (const Serving& one : before)
      if (!after.contains(one)) model_->forget(one.first, one.second);
  }

  void change_epoch(uint32_t epoch) {
    cluster_.epoch = epoch;
    for (DataPlane* plane : planes())
      put_node(*plane, cluster_.constants(), ip(Network::kNodeAddress4), ip(Network::kNodeAddress6), epoch);
    model_->change(cluster_);
  }

  void expire_everything() {
    for (DataPlane* plane : planes()) {
      set_slot_of_flows(*plane, plane->slot() - 1000);
      expire_all(*plane);
      RC_ASSERT(flows_of(*plane).empty());
    }
    model_->forget_connections();
  }

  // A sound packet: as the model says. Then, perhaps, the same spoilt.
  void packet(const Step& step) {
    const Packet packet = packet_of(world_, step, history_).ttl(64);
    const Arrival arrival{packet.bytes(), arrival_of(network_, step, packet).device};
    const std::vector<RunResult> runs = both(arrival);
    std::string wrong = model_->check(packet, arrival, runs);
    if (wrong.empty()) wrong = model_->check_flows(ends_of_flows(data_plane()));
    if (!wrong.empty()) RC_FAIL(wrong);
    history_.add(packet, runs.back().frame);
  }

  // What is spoilt changes nothing that the model knows: it must not be sent on at all, or, where
  // it is still a packet, comes last in a play (see spoil()).
  void spoilt(const Step& step) {
    const Arrival arrival = arrival_of(network_, step, packet_of(world_, step, history_));
    both(arrival);
  }

  void compare_flows() {
    set_slot_of_flows(native_plane(), 0);
    set_slot_of_flows(data_plane(), 0);
    RC_ASSERT(flows_of(native_plane()) == flows_of(data_plane()));
  }

 private:
  // A service's port, and an endpoint that serves it, whether new connections may reach it or not.
  using Serving = std::pair<std::string, HostPort>;

  std::set<Serving> serving_of_udp() const {
    std::set<Serving> all;
    if (world_.protocol() != kProtoUdp) return all;
    for (const auto& [key, service] : agent_.cluster())
      for (const ResolvedServicePort& port : service->ports)
        for (const auto& [address, number] : port.serving)
          if (port.key.family == world_.family()) all.emplace(port.key.to_string(), HostPort(address, number));
    return all;
  }

  static std::array<DataPlane*, 2> planes() { return {&native_plane(), &data_plane()}; }

  // Through the programs, natively and in the kernel: the same verdict, reason and bytes.
  std::vector<RunResult> both(const Arrival& arrival) {
    std::vector<RunResult> runs;
    for (const Program program : programs_for(arrival, tc_only_)) {
      if (!data_plane().can_run(program, arrival)) break;
      const RunResult ours = native_plane().run(program, arrival);
      runs.push_back(data_plane().run(program, arrival));
      const RunResult& theirs = runs.back();
      RC_LOG() << to_string(program) << ": " << describe(arrival.frame) << "\n  native " << to_string(ours.verdict)
               << " " << (ours.reason ? int{*ours.reason} : -1) << ": " << describe(ours.frame) << "\n  kernel "
               << to_string(theirs.verdict) << " " << (theirs.reason ? int{*theirs.reason} : -1) << ": "
               << describe(theirs.frame) << "\n";
      RC_ASSERT(ours.verdict == theirs.verdict);
      RC_ASSERT(ours.reason == theirs.reason);
      RC_ASSERT(ours.reason.has_value());
      if (ours.verdict != Verdict::drop) RC_ASSERT(hex(ours.frame) == hex(theirs.frame));
      if (ours.verdict != Verdict::pass) break;
    }
    return runs;
  }

  const World world_;
  const bool tc_only_;
  ClusterModel objects_;
  TestAgent agent_;
  const Network& network_;
  Cluster cluster_;
  std::unique_ptr<Model> model_;
  History history_;
};

// `spoil`: also packets that are spoilt; the model, which does not know what those do, looks at none then.
void play(const World& world, bool tc_only, bool spoil) {
  const auto services = *rc::gen::container<std::vector<RandomService>>(kRandomServices, rc::gen::arbitrary<RandomService>());
  Play play(world, tc_only, services);
  for (const Step& step : any_steps()) {
    switch (kind_of(step)) {
      case StepKind::packet:
        spoil ? play.spoilt(step) : play.packet(step);
        break;
      case StepKind::change_endpoints:
        play.change(step.damage % kRandomServices, *rc::gen::arbitrary<RandomService>());
        break;
      case StepKind::change_epoch:
        play.change_epoch(1 + step.damage % abi::EPOCH_MAX);
        break;
      case StepKind::expire_all:
        // Time differs between the two, so that what is spoilt alone stays without it.
        if (!spoil) play.expire_everything();
        break;
    }
  }
  play.compare_flows();
}

// Seed after seed, for as long as was asked for.
void check(const char* name, void (*property)(const World&, bool)) {
  const auto end = Clock::now() + extent.seconds / 2;
  rc::detail::TestMetadata metadata;
  metadata.id = metadata.description = name;
  for (uint64_t seed = extent.seed;; ++seed) {
    rc::detail::TestParams params;
    params.seed = seed;
    params.maxSuccess = extent.plays;
    const auto result = rc::detail::checkTestable(property, metadata, params);
    std::ostringstream text;
    rc::detail::printResultMessage(result, text);
    ASSERT_TRUE(result.is<rc::detail::SuccessResult>())
        << text.str() << "\nThe same again: contract_random --gtest_filter=*." << name << " --seed " << seed;
    if (Clock::now() >= end) break;
    if (seed % 10 == 0) std::cout << fmt::format("{}: {} plays\n", name, (seed - extent.seed + 1) * extent.plays) << std::flush;
  }
}

TEST(RandomClusters, BecomeWhatTheModelSays) {
  check("BecomeWhatTheModelSays", [](const World& world, bool tc_only) { play(world, tc_only, false); });
}

TEST(RandomClusters, MalformedPacketsBecomeTheSameInBoth) {
  check("MalformedPacketsBecomeTheSameInBoth", [](const World& world, bool tc_only) { play(world, tc_only, true); });
}

bool take_options(int argc, char** argv) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string option = argv[i];
    char* end = nullptr;
    const uint64_t value = std::strtoull(argv[i + 1], &end, 10);
    if (*end || end == argv[i + 1]) return false;
    if (option == "--seconds")
      extent.seconds = std::chrono::seconds(value);
    else if (option == "--seed")
      extent.seed = value;
    else
      return false;
  }
  return argc % 2 == 1;
}

}  // namespace
}  // namespace maglane::test

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (!maglane::test::take_options(argc, argv)) {
    std::cerr << "Usage: contract_random [--seconds S] [--seed N] [GoogleTest's options]\n";
    return 2;
  }
  return RUN_ALL_TESTS();
}
