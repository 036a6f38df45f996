// SPDX-License-Identifier: Apache-2.0
//
// ns per packet of the packet path by BPF_PROG_TEST_RUN, beside an empty program, one doing a
// look-up in the kernel's hash map and, for new connections, one doing an insert into an LRU hash
// map, with as many keys (bench.h says how a run restores the packet). Flows are of
// pods on other nodes that use a cluster IP with an endpoint on another node: each packet comes
// in on an uplink and leaves by it, translated.
//
// A figure counts only if every packet was counted as translated and the last one is, byte for
// byte, what it should be. The renewal of a flow's next hop once a second is not in it.
#include <fmt/format.h>
#include <sched.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <ctime>
#include <numeric>

#include "tests/bench/figures.h"
#include "tests/bench/packet/bench.h"
#include "tests/packets/cluster.h"
#include "tests/packets/kernel_object.h"

using maglane::abi::node_config;
#include "bench.skel.h"

namespace maglane::test {
namespace {

constexpr uint32_t kMostFlows = 500'000;

struct Options {
  bool json = false;
  int runs = 7;
  uint32_t packets = 300'000;  // of a run, at least
  std::vector<uint32_t> flows = {1, 10'000, kMostFlows};
  uint32_t new_flows = 100'000;
  uint32_t occupancy = 50;  // of the tables, percent
  bool stages = false;
};

[[noreturn]] void fail(const std::string& what) {
  fmt::print(stderr, "bench_packet: {}\n", what);
  std::exit(1);
}

// What one figure is about.
struct Subject {
  const char* name;
  Family family;
  bool at_xdp;
  bool reply;
  uint32_t flows;
  Packet in;   // of client 0
  Packet out;  // what it must become; of what is not ours, the same
  abi::reason reason;

  const char* hook() const { return at_xdp ? "xdp" : "tc"; }
  std::string text() const {
    return fmt::format("{} {} IPv{} {} {} flows", name, hook(), family == Family::ipv4 ? 4 : 6,
                       reply ? "reply" : "forward", flows);
  }
};

HostPort client(Family family, uint32_t number) {
  const bool v4 = family == Family::ipv4;
  uint32_t be[4] = {};
  ip(v4 ? "10.64.0.0" : "fd0a::").to_be(be);
  be[v4 ? 0 : 3] |= __builtin_bswap32(number);
  return {IpAddress::from_be(family, be), 40000};
}
HostPort service(Family family) {
  return family == Family::ipv4 ? "172.20.0.10:80" : "[fc00::10]:80";
}
HostPort endpoint(Family family) {
  return family == Family::ipv4 ? "10.2.0.10:8080" : "[fd02::10]:8080";
}

Packet with_client(const Packet& packet, bool destination, uint32_t number) {
  return destination ? packet.to(client(packet.family(), number))
                     : packet.from(client(packet.family(), number));
}

// With tables for so many flows.
class Bench {
 public:
  Bench(const Options& options, const Network& network, uint32_t flows)
      : options_(options), network_(network), flows_(flows) {
    const auto slots = static_cast<uint32_t>(uint64_t{flows} * 100 / options.occupancy);
    Cluster cluster;
    for (const Family family : {Family::ipv4, Family::ipv6})
      cluster.cluster_ip(service(family), kProtoTcp, {endpoint(family)});
    // As an agent says it of a node with ordinary routes.
    cluster.shared_hops = abi::SHARED_HOPS_IPV4 | abi::SHARED_HOPS_IPV6;
    size_t size = 0;
    const void* elf = bench_bpf__elf_bytes(&size);
    cluster.flow_capacity = 2 * slots;  // a connection has two entries there
    object_ = std::make_unique<KernelObject>(elf, size, cluster.constants(),
                                             KernelObject::Sizes{{"kernel_hash", slots}, {"kernel_lru4", slots}, {"kernel_lru6", slots}}, network);
    cluster.program(*object_);
  }

  std::vector<bench::Row> run_established();
  std::vector<bench::Row> run_new();

 private:
  struct Times {
    double empty = 1e9, kernel_hash = 1e9, kernel_lru = 1e9, pipeline = 1e9;
  };

  bench::Row measure(const Subject& subject, bool fresh_flows);
  void measure_stages(const Subject& subject, std::vector<bench::Row>& rows);
  double time_insert(const Subject& subject, uint32_t packets);
  double time_run(const Subject& subject, const char* program, uint32_t packets, Bytes* last);
  void check_run(const Subject& subject, uint32_t packets, const Bytes& last, uint64_t counted) const;
  void start(const Subject& subject);
  void fill(uint32_t flows);
  void make_flows(Family family, uint32_t flows);
  void remove_flows(Family family);
  Subject subject(const char* name, Family family, bool at_xdp, bool reply, uint32_t flows,
                  uint8_t flags) const;
  Subject not_ours(Family family, bool at_xdp, uint32_t flows) const;
  uint32_t stride(uint32_t flows) const;
  uint64_t done() const;

  Options options_;
  const Network& network_;
  uint32_t flows_;
  std::unique_ptr<KernelObject> object_;
};

// About 0.618 of them, without a common divisor: a run of `flows` packets meets each once.
uint32_t Bench::stride(uint32_t flows) const {
  if (flows == 1) return 0;
  auto stride = static_cast<uint32_t>(flows * 0.6180339887);
  while (std::gcd(stride, flows) != 1) ++stride;
  return stride;
}

Subject Bench::subject(const char* name, Family family, bool at_xdp, bool reply, uint32_t flows,
                       uint8_t flags) const {
  const Packet base = Packet::tcp(client(family, 0), service(family), flags);
  const Packet in = reply ? base.from(endpoint(family)).to(client(family, 0)) : base;
  const Packet out = (reply ? in.from(service(family)) : in.to(endpoint(family))).hop();
  const NextHop hop = *network_.next_hop(out.destination().address);
  return {name,
          family,
          at_xdp,
          reply,
          flows,
          in,
          out.macs(hop.source, *hop.destination),
          abi::REASON_TRANSMITTED};
}

Subject Bench::not_ours(Family family, bool at_xdp, uint32_t flows) const {
  Subject result = subject("not-ours", family, at_xdp, false, flows, kAck);
  result.in = result.out = result.in.to(endpoint(family));
  result.reason = abi::REASON_NOT_OURS;
  return result;
}

void Bench::start(const Subject& subject) {
  bench_state state{};
  const Bytes frame = subject.in.bytes();
  std::memcpy(state.header, frame.data(), frame.size());
  state.header_size = static_cast<uint32_t>(frame.size());
  const uint32_t source = subject.family == Family::ipv4 ? 26 : 34,
                 destination = subject.family == Family::ipv4 ? 30 : 50;
  state.address_at = subject.reply ? destination : source;
  state.flows = subject.flows;
  state.stride = stride(subject.flows);
  object_->put_value("bench_state", uint32_t{0}, state);
}

uint64_t Bench::done() const {
  return object_->get_value<bench_state>("bench_state", uint32_t{0})->done;
}

double Bench::time_run(const Subject& subject, const char* program, uint32_t packets, Bytes* last) {
  start(subject);
  // Whatever else the machine does is not counted: CPU time of this thread.
  const auto now = [] {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_nsec);
  };
  TestRun test(subject.at_xdp, {subject.in.bytes(), kUp0});
  const int fd = object_->program_fd(fmt::format("{}_{}", subject.hook(), program));
  const double before = now();
  const int error = test.run(fd, packets);
  const double after = now();
  if (error) fail(fmt::format("{}: BPF_PROG_TEST_RUN: {}", subject.text(), std::strerror(-error)));
  if (last) *last = test.frame();
  return (after - before) / packets;
}

void Bench::check_run(const Subject& subject, uint32_t packets, const Bytes& last, uint64_t counted) const {
  if (counted != packets)
    fail(fmt::format("{}: of {} packets only {} were counted as they should be", subject.text(), packets,
                     counted));
  const auto flow = static_cast<uint32_t>(uint64_t{packets - 1} * stride(subject.flows) % subject.flows);
  // What is translated is sent to the client only by a reply.
  const Bytes expected = with_client(subject.out, subject.reply, flow).bytes();
  if (last != expected)
    fail(fmt::format("{}: expected {}\n  but was {}", subject.text(), describe(expected), describe(last)));
}

void Bench::fill(uint32_t flows) {
  for (uint32_t i = 0; i < flows; ++i)
    object_->put_value("kernel_hash", bench_key{{i, 0, 0, 0}}, uint64_t{i});
}

void Bench::remove_flows(Family family) {
  std::ranges::fill(object_->memory(family == Family::ipv4 ? "flows4" : "flows6"), uint8_t{0});
}

// Connections as they are once both ends have spoken.
void Bench::make_flows(Family family, uint32_t flows) {
  remove_flows(family);
  const std::pair<bool, uint8_t> packets[] = {{false, kSyn}, {true, kSyn | kAck}, {false, kAck}};
  for (const auto& [reply, flags] : packets) {
    const Subject one = subject("making", family, true, reply, flows, flags);
    const uint64_t before = object_->counters()[one.reason].packets;
    Bytes last;
    time_run(one, "pipeline", flows, &last);
    check_run(one, flows, last, object_->counters()[one.reason].packets - before);
  }
}

// Of one insert into the LRU hash map, which is empty before, as the flow table is.
double Bench::time_insert(const Subject& subject, uint32_t packets) {
  const std::string map = subject.family == Family::ipv4 ? "kernel_lru4" : "kernel_lru6";
  for (const Bytes& key : object_->keys(map)) object_->erase(map, key.data());
  const double ns = time_run(subject, "kernel_lru", packets, nullptr);
  if (done() != packets) fail(fmt::format("{}: an insert into the LRU hash map failed", subject.text()));
  return ns;
}

bench::Row Bench::measure(const Subject& subject, bool fresh_flows) {
  const uint32_t packets = fresh_flows ? subject.flows : std::max(options_.packets, subject.flows);
  const size_t counter = subject.reason + (subject.at_xdp ? 0U : uint32_t{abi::REASON_COUNT});
  Times best;
  // Elements that were never used lie in memory one after another; they do so once in a map's life.
  if (fresh_flows) time_insert(subject, packets);
  for (int i = 0; i < options_.runs; ++i) {
    best.empty = std::min(best.empty, time_run(subject, "empty", packets, nullptr));
    best.kernel_hash = std::min(best.kernel_hash, time_run(subject, "kernel_hash", packets, nullptr));
    if (done() != packets) fail(fmt::format("{}: the kernel's hash map missed", subject.text()));
    if (fresh_flows) best.kernel_lru = std::min(best.kernel_lru, time_insert(subject, packets));
    if (fresh_flows) remove_flows(subject.family);
    const uint64_t before = object_->counters()[counter].packets;
    Bytes last;
    best.pipeline = std::min(best.pipeline, time_run(subject, "pipeline", packets, &last));
    check_run(subject, packets, last, object_->counters()[counter].packets - before);
  }
  const double net = best.pipeline - best.empty;
  fmt::print(stderr, "{}: {:.1f} ns, empty {:.1f}, kernel hash {:.1f}{}\n", subject.text(), best.pipeline,
             best.empty, best.kernel_hash,
             fresh_flows ? fmt::format(", insert into an LRU hash {:.1f}", best.kernel_lru) : "");
  bench::Row row = {{"case", std::string(subject.name)},
                    {"hook", std::string(subject.hook())},
                    {"family", uint64_t{subject.family == Family::ipv4 ? 4U : 6U}},
                    {"direction", std::string(subject.reply ? "reply" : "forward")},
                    {"flows", uint64_t{subject.flows}},
                    {"ns", best.pipeline},
                    {"empty_ns", best.empty},
                    {"kernel_hash_ns", best.kernel_hash},
                    {"net_ratio", net / (best.kernel_hash - best.empty)}};
  if (fresh_flows) {
    row.emplace_back("lru_insert_ns", best.kernel_lru);
    row.emplace_back("lru_insert_net_ratio", net / (best.kernel_lru - best.empty));
  }
  return row;
}

// What a packet of an established flow has cost after each of its first steps.
void Bench::measure_stages(const Subject& subject, std::vector<bench::Row>& rows) {
  const uint32_t packets = std::max(options_.packets, subject.flows);
  const char* const steps[] = {"empty", "until_filter", "until_parse", "until_find"};
  double best[std::size(steps)];
  std::ranges::fill(best, 1e9);
  for (int i = 0; i < options_.runs; ++i)
    for (size_t step = 0; step < std::size(steps); ++step)
      best[step] = std::min(best[step], time_run(subject, steps[step], packets, nullptr));
  for (size_t step = 1; step < std::size(steps); ++step)
    rows.push_back({{"case", std::string(steps[step])},
                    {"hook", std::string(subject.hook())},
                    {"family", uint64_t{subject.family == Family::ipv4 ? 4U : 6U}},
                    {"direction", std::string(subject.reply ? "reply" : "forward")},
                    {"flows", uint64_t{subject.flows}},
                    {"ns", best[step]},
                    {"empty_ns", best[0]}});
}

std::vector<bench::Row> Bench::run_established() {
  std::vector<bench::Row> rows;
  fill(flows_);
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    make_flows(family, flows_);
    for (const bool at_xdp : {true, false})
      for (const bool reply : {false, true})
        rows.push_back(measure(subject("established", family, at_xdp, reply, flows_, kAck), false));
    if (options_.stages)
      for (const bool reply : {false, true})
        measure_stages(subject("established", family, true, reply, flows_, kAck), rows);
    for (const bool at_xdp : {true, false}) rows.push_back(measure(not_ours(family, at_xdp, flows_), false));
    remove_flows(family);
  }
  return rows;
}

std::vector<bench::Row> Bench::run_new() {
  std::vector<bench::Row> rows;
  fill(flows_);
  for (const Family family : {Family::ipv4, Family::ipv6})
    for (const bool at_xdp : {true, false})
      rows.push_back(measure(subject("new", family, at_xdp, false, flows_, kSyn), true));
  return rows;
}

std::vector<bench::Row> run_all(const Options& options, const Network& network) {
  std::vector<bench::Row> rows;
  const auto add = [&](std::vector<bench::Row> more) { rows.insert(rows.end(), more.begin(), more.end()); };
  for (const uint32_t flows : options.flows) add(Bench(options, network, flows).run_established());
  if (options.new_flows != 0) add(Bench(options, network, options.new_flows).run_new());
  return rows;
}

// The last CPU that this process may use: the first one has the most interrupts.
void pin_to_one_cpu() {
  cpu_set_t allowed, one;
  CPU_ZERO(&one);
  if (sched_getaffinity(0, sizeof allowed, &allowed)) give_up("sched_getaffinity");
  for (int cpu = CPU_SETSIZE - 1; cpu >= 0; --cpu)
    if (CPU_ISSET(cpu, &allowed)) {
      CPU_SET(cpu, &one);
      break;
    }
  if (sched_setaffinity(0, sizeof one, &one)) give_up("sched_setaffinity");
}

}  // namespace
}  // namespace maglane::test

int main(int argc, char** argv) {
  using namespace maglane;
  test::Options options;
  bool once = false;
  CLI::App app("ns per packet of the packet path, beside an empty program and the kernel's hash map");
  app.add_flag("--json", options.json, "Print the figures as a JSON array");
  app.add_flag("--once", once, "One short iteration: does it work?");
  app.add_option("--flows", options.flows, "Numbers of established flows (default: 1 10000 500000)")
      ->check(CLI::Range(1U, test::kMostFlows));
  app.add_option("--new-flows", options.new_flows, "Number of new connections, 0 for none (default: 100000)")
      ->check(CLI::Range(0U, test::kMostFlows));
  app.add_option("--occupancy", options.occupancy, "How full the tables are, percent (default: 50)")
      ->check(CLI::Range(1, 85));
  app.add_flag("--stages", options.stages, "Also what an established packet has cost after each of its first steps");
  CLI11_PARSE(app, argc, argv);
  if (once) {
    options.stages = true;
    options.runs = 1;
    options.packets = 20'000;
    options.flows = {1, 10'000};
    options.new_flows = 10'000;
  }
  const test::Network network;
  test::enter_network_namespace(network);
  test::pin_to_one_cpu();
  const auto rows = test::run_all(options, network);
  bench::print(rows, options.json);
  return 0;
}
