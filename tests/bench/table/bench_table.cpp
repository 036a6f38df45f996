// SPDX-License-Identifier: Apache-2.0
//
// ns per operation of the flow table, beside the kernel's hash and LRU hash of equal size: the
// same keys, the same values, the same loop inside a BPF program, less the loop with nothing in
// it. Each figure is the least of several runs, the tables taking turns.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <barrier>
#include <cstring>
#include <ctime>
#include <functional>
#include <map>
#include <numeric>
#include <random>
#include <set>
#include <span>
#include <thread>
#include <vector>

#include "agent/kernel/expiry.h"
#include "agent/kernel/flow_table.h"
#include "agent/kernel/timeouts.h"
#include "bpf/abi.h"
#include "tests/bench/figures.h"
#include "tests/bench/table/bench_table.h"

// The skeleton names the type of the constants in the global namespace.
using maglane::abi::node_config;
#include "bench_table.skel.h"

namespace maglane {
namespace {

constexpr const char* kTables[] = {"maglane", "hash", "lru_hash"};
constexpr uint32_t kTablesCount = 3;
enum Operation { kFind, kInsert, kRemove, kPair };

struct Options {
  bool json = false;
  int runs = 7;
  uint32_t operations = 1'000'000;  // of a run
  std::vector<uint32_t> entries = {1, 10'000, 500'000, 2'000'000};
  std::vector<uint32_t> occupancies = {10, 50, 85};  // percent
  uint32_t walk = 1'000'000;  // flows in a table that is walked whole
};

[[noreturn]] void fail(const std::string& what) {
  fmt::print(stderr, "bench_table: {}\n", what);
  std::exit(1);
}

// Which keys, in which order.
struct Keys {
  uint32_t first;
  uint32_t range;
  uint32_t stride;
};

Keys hot(uint32_t number) { return {number, 1, 0}; }

// About 0.618 of the range, without a common divisor: each comes up once before one does again.
Keys shuffled(uint32_t first, uint32_t range) {
  auto stride = static_cast<uint32_t>(range * 0.6180339887);
  while (stride > 1 && std::gcd(stride, range) != 1) --stride;
  return {first, range, range == 1 ? 0 : std::max(stride, 1U)};
}

void pin(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (pthread_setaffinity_np(pthread_self(), sizeof set, &set) != 0) fail("cannot pin to a CPU");
}

std::vector<int> cpus() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) fail("sched_getaffinity");
  std::vector<int> all;
  for (int cpu = CPU_SETSIZE; cpu-- > 0;)
    if (CPU_ISSET(cpu, &allowed)) all.push_back(cpu);  // the first one has the most interrupts: last
  return all;
}

// The three tables at one size, and their programs.
class Tables {
 public:
  explicit Tables(uint32_t slots) : skeleton_(bench_table_bpf__open()) {
    if (!skeleton_) fail("cannot open the programs");
    const uint32_t buckets = std::max(2U, (slots + abi::TABLE_SLOTS - 1) / abi::TABLE_SLOTS);
    const std::set<std::string> needed = {"flows4",      "flows6",     "node_state",
                                           "kernel_hash", "kernel_lru", "scratches",
                                           "retired_flows4", "retired_flows6"};
    bpf_map* map;
    bpf_object__for_each_map(map, skeleton_->obj) {
      if (!bpf_map__is_internal(map) && !needed.count(bpf_map__name(map))) bpf_map__set_autocreate(map, false);
    }
    bpf_map__set_max_entries(skeleton_->maps.flows4, buckets);
    bpf_map__set_max_entries(skeleton_->maps.flows6, 2);
    bpf_map__set_max_entries(skeleton_->maps.kernel_hash, buckets * abi::TABLE_SLOTS);
    bpf_map__set_max_entries(skeleton_->maps.kernel_lru, buckets * abi::TABLE_SLOTS);
    auto* config = const_cast<node_config*>(&skeleton_->rodata->config);
    config->flow_buckets4 = buckets;
    config->flow_buckets6 = 2;
    config->slot_shift = 8;
    config->timeouts = default_timeout_seconds();
    std::mt19937_64 random(1);
    config->seed.multiplier = random() | 1;
    for (auto& word : config->seed.nh) word = static_cast<uint32_t>(random());
    if (const int error = bench_table_bpf__load(skeleton_))
      fail(fmt::format("loading for {} slots: {}", slots, std::strerror(-error)));
  }
  ~Tables() { bench_table_bpf__destroy(skeleton_); }
  Tables(const Tables&) = delete;

  // The memory of flows4, as agent and inspector have it.
  std::span<abi::flow_bucket4> flows() const {
    const size_t buckets = bpf_map__max_entries(skeleton_->maps.flows4);
    void* at = mmap(nullptr, buckets * sizeof(abi::flow_bucket4), PROT_READ | PROT_WRITE, MAP_SHARED,
                    bpf_map__fd(skeleton_->maps.flows4), 0);
    if (at == MAP_FAILED) fail("cannot map the table");
    return {static_cast<abi::flow_bucket4*>(at), buckets};
  }

  const bpf_program* sweep() const { return skeleton_->progs.sweep; }
  const bpf_program* empty() const { return skeleton_->progs.empty; }
  const bpf_program* program(uint32_t table, Operation operation) const {
    const auto& p = skeleton_->progs;
    const bpf_program* programs[kTablesCount][4] = {
        {p.maglane_find, p.maglane_insert, p.maglane_remove, p.maglane_pair},
        {p.hash_find, p.hash_insert, p.hash_remove, p.hash_pair},
        {p.lru_find, p.lru_insert, p.lru_remove, p.lru_pair}};
    return programs[table][operation];
  }

 private:
  bench_table_bpf* skeleton_;
};

struct Run {
  double ns;  // an operation
  uint64_t done;
};

Run run(const bpf_program* program, const Keys& keys, uint32_t count) {
  bench_call call{{}, count, keys.first, keys.range, keys.stride, 0};
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = &call, .data_out = &call, .data_size_in = sizeof call,
              .data_size_out = sizeof call, .repeat = 1);
  const int error = bpf_prog_test_run_opts(bpf_program__fd(program), &options);
  if (error != 0 || options.retval != 0)
    fail(fmt::format("{}: {} {}", bpf_program__name(program), std::strerror(-error), options.retval));
  return {static_cast<double>(options.duration) / count, call.done};
}

class Bench {
 public:
  explicit Bench(const Options& options) : options_(options), cpus_(cpus()) { pin(cpus_.front()); }

  std::vector<bench::Row> run_all() {
    for (const uint32_t entries : options_.entries) {
      for (const uint32_t occupancy : options_.occupancies) {
        if (entries == 1 && occupancy != options_.occupancies.front()) continue;
        measure(entries, occupancy);
      }
    }
    if (options_.walk != 0)
      for (const uint32_t occupancy : options_.occupancies) measure_walks(options_.walk, occupancy);
    return std::move(rows_);
  }

 private:
  struct What {
    uint32_t entries;
    uint32_t occupancy;
    const char* operation;
    const char* pattern;
    const char* keys = "same";
    uint64_t cpus = 1;
  };

  void measure(uint32_t entries, uint32_t occupancy);
  void measure_walks(uint32_t entries, uint32_t occupancy);
  void measure_find(const Tables& tables, const What& what, const Keys& keys, bool there);
  void measure_churn(const Tables& tables, uint32_t entries, uint32_t occupancy);
  void measure_pair(const Tables& tables, const What& what, const Keys& keys);
  void measure_two(const Tables& tables, const What& what, Operation operation, const Keys& one, const Keys& other);
  Run run_two(const bpf_program* program, const Keys& one, const Keys& other);
  void report(const What& what, const double (&ns)[kTablesCount]);
  static void expect(const char* what, uint32_t table, uint64_t done, uint64_t wanted, uint64_t least);

  Options options_;
  std::vector<int> cpus_;
  std::vector<bench::Row> rows_;
};

void Bench::expect(const char* what, uint32_t table, uint64_t done, uint64_t wanted, uint64_t least) {
  if (done < least || done > wanted) fail(fmt::format("{}: {} did {} of {}", kTables[table], what, done, wanted));
}

void Bench::report(const What& what, const double (&ns)[kTablesCount]) {
  for (uint32_t table = 0; table < kTablesCount; ++table)
    rows_.push_back({{"table", std::string(kTables[table])},
                     {"operation", std::string(what.operation)},
                     {"entries", uint64_t{what.entries}},
                     {"occupancy", uint64_t{what.occupancy}},
                     {"pattern", std::string(what.pattern)},
                     {"cpus", what.cpus},
                     {"keys", std::string(what.keys)},
                     {"ns", ns[table]}});
  fmt::print(stderr, "{} of {} at {} %, {}, {} CPU, {} keys: {:.1f} ns, hash {:.1f}, LRU hash {:.1f}\n", what.operation,
             what.entries, what.occupancy, what.pattern, what.cpus, what.keys, ns[0], ns[1], ns[2]);
}

void Bench::measure_find(const Tables& tables, const What& what, const Keys& keys, bool there) {
  const uint32_t count = options_.operations;
  double empty = 1e9, best[kTablesCount] = {1e9, 1e9, 1e9};
  for (int i = 0; i < options_.runs; ++i) {
    empty = std::min(empty, run(tables.empty(), keys, count).ns);
    for (uint32_t table = 0; table < kTablesCount; ++table) {
      const Run one = run(tables.program(table, kFind), keys, count);
      expect(what.operation, table, one.done, there ? count : 0, there ? count : 0);
      best[table] = std::min(best[table], one.ns);
    }
  }
  for (double& ns : best) ns -= empty;
  report(what, best);
}

void Bench::measure_pair(const Tables& tables, const What& what, const Keys& keys) {
  const uint32_t count = options_.operations / 4;
  double empty = 1e9, best[kTablesCount] = {1e9, 1e9, 1e9};
  for (int i = 0; i < options_.runs; ++i) {
    empty = std::min(empty, run(tables.empty(), keys, count).ns);
    for (uint32_t table = 0; table < kTablesCount; ++table) {
      const Run one = run(tables.program(table, kPair), keys, count);
      expect(what.operation, table, one.done, count, count);
      best[table] = std::min(best[table], one.ns);
    }
  }
  for (double& ns : best) ns -= empty;
  report(what, best);
}

// The oldest entries go, as many new ones come: the table stays as full as it is.
void Bench::measure_churn(const Tables& tables, uint32_t entries, uint32_t occupancy) {
  const uint32_t batch = std::clamp(entries / 50, 200U, 20'000U);
  double empty = 1e9, insert[kTablesCount] = {1e9, 1e9, 1e9}, remove[kTablesCount] = {1e9, 1e9, 1e9};
  uint32_t oldest = 0;
  for (int i = 0; i < options_.runs * 3; ++i, oldest += batch) {
    const Keys old = shuffled(oldest, batch), fresh = shuffled(oldest + entries, batch);
    empty = std::min(empty, run(tables.empty(), old, batch).ns);
    for (uint32_t table = 0; table < kTablesCount; ++table) {
      // An LRU hash near its size gives up entries of its own accord.
      const uint32_t least = table == 2 ? batch / 2 : batch;
      const Run removed = run(tables.program(table, kRemove), old, batch);
      expect("remove", table, removed.done, batch, least);
      const Run inserted = run(tables.program(table, kInsert), fresh, batch);
      expect("insert", table, inserted.done, batch, least);
      remove[table] = std::min(remove[table], removed.ns);
      insert[table] = std::min(insert[table], inserted.ns);
    }
  }
  for (uint32_t table = 0; table < kTablesCount; ++table) {
    insert[table] -= empty;
    remove[table] -= empty;
  }
  report({entries, occupancy, "insert", "random"}, insert);
  report({entries, occupancy, "remove", "random"}, remove);
}

// Both CPUs at once; an operation's time on the slower one.
Run Bench::run_two(const bpf_program* program, const Keys& one, const Keys& other) {
  const uint32_t count = options_.operations / 4;
  std::barrier together(2);
  Run runs[2];
  std::thread second([&] {
    pin(cpus_[1]);
    together.arrive_and_wait();
    runs[1] = run(program, other, count);
  });
  together.arrive_and_wait();
  runs[0] = run(program, one, count);
  second.join();
  return {std::max(runs[0].ns, runs[1].ns), runs[0].done + runs[1].done};
}

void Bench::measure_two(const Tables& tables, const What& what, Operation operation, const Keys& one, const Keys& other) {
  double empty = 1e9, best[kTablesCount] = {1e9, 1e9, 1e9};
  for (int i = 0; i < options_.runs; ++i) {
    empty = std::min(empty, run_two(tables.empty(), one, other).ns);
    for (uint32_t table = 0; table < kTablesCount; ++table)
      best[table] = std::min(best[table], run_two(tables.program(table, operation), one, other).ns);
  }
  for (double& ns : best) ns -= empty;
  report(what, best);
}

void Bench::measure(uint32_t entries, uint32_t occupancy) {
  const Tables tables(static_cast<uint32_t>(uint64_t{entries} * 100 / occupancy));
  for (uint32_t table = 0; table < kTablesCount; ++table)
    expect("fill", table, run(tables.program(table, kInsert), shuffled(0, entries), entries).done, entries,
           table == 2 ? entries * 0.98 : entries);
  const uint32_t absent = 0x80000000U;
  measure_find(tables, {entries, occupancy, "hit", "hot"}, hot(entries / 2), true);
  measure_find(tables, {entries, occupancy, "miss", "hot"}, hot(absent), false);
  measure_pair(tables, {entries, occupancy, "insert_remove", "hot"}, hot(absent));
  if (cpus_.size() > 1) {
    const Keys here = hot(entries / 2), there = hot(entries / 3);
    measure_two(tables, {entries, occupancy, "hit", "hot", "same", 2}, kFind, here, here);
    measure_two(tables, {entries, occupancy, "insert_remove", "hot", "same", 2}, kPair, hot(absent), hot(absent));
    measure_two(tables, {entries, occupancy, "insert_remove", "hot", "different", 2}, kPair, hot(absent), hot(absent + 9));
    if (entries > 1) measure_two(tables, {entries, occupancy, "hit", "hot", "different", 2}, kFind, here, there);
  }
  if (entries == 1) return;
  measure_find(tables, {entries, occupancy, "hit", "random"}, shuffled(0, entries), true);
  measure_find(tables, {entries, occupancy, "miss", "random"}, shuffled(absent, entries), false);
  if (cpus_.size() > 1) {
    const Keys low = shuffled(0, entries / 2), high = shuffled(entries / 2, entries / 2);
    measure_two(tables, {entries, occupancy, "hit", "random", "different", 2}, kFind, low, high);
    measure_two(tables, {entries, occupancy, "insert_remove", "random", "different", 2}, kPair,
                shuffled(absent, entries / 2), shuffled(absent + entries / 2, entries / 2));
  }
  measure_churn(tables, entries, occupancy);
}

double cpu_milliseconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) / 1e6;
}

// The CPU time of what goes through a whole table: the expiry, of flows that have just had a
// packet, and a reader that counts or copies every flow.
void Bench::measure_walks(uint32_t entries, uint32_t occupancy) {
  const Tables tables(static_cast<uint32_t>(uint64_t{entries} * 100 / occupancy));
  expect("fill", 0, run(tables.program(0, kInsert), shuffled(0, entries), entries).done, entries, entries);
  const std::span<abi::flow_bucket4> flows = tables.flows();
  const auto sweep = [&] {
    const auto swept = run_expiry(bpf_program__fd(tables.sweep()), abi::FAMILY_IPV4, static_cast<uint32_t>(flows.size()));
    return swept ? swept->examined : 0;
  };
  const auto list = [&] {
    uint64_t listed = 0;
    each_flow4(flows, [&](const FlowEntry4& flow) {
      listed += flow.key.protocol != 0;
      return true;
    });
    return listed;
  };
  const std::pair<const char*, std::function<uint64_t()>> walks[] = {
      {"sweep", sweep}, {"count", [&] { return count_flows4(flows); }}, {"list", list}};
  for (const auto& [name, walk] : walks) {
    double best = 1e9;
    for (int i = 0; i < options_.runs; ++i) {
      const double before = cpu_milliseconds();
      const uint64_t met = walk();
      best = std::min(best, cpu_milliseconds() - before);
      expect(name, 0, met, entries, entries);
    }
    rows_.push_back({{"table", std::string(kTables[0])},
                     {"operation", std::string(name)},
                     {"entries", uint64_t{entries}},
                     {"occupancy", uint64_t{occupancy}},
                     {"pattern", std::string("all")},
                     {"cpus", uint64_t{1}},
                     {"keys", std::string("all")},
                     {"cpu_ms", best}});
    fmt::print(stderr, "{} of {} at {} %: {:.1f} ms of a CPU\n", name, entries, occupancy, best);
  }
  munmap(flows.data(), flows.size_bytes());
}

}  // namespace
}  // namespace maglane

int main(int argc, char** argv) {
  using namespace maglane;
  Options options;
  bool once = false;
  CLI::App app("ns per operation of the flow table, beside the kernel's hash maps");
  app.add_flag("--json", options.json, "Print the figures as a JSON array");
  app.add_flag("--once", once, "One short iteration: does it work?");
  app.add_option("--entries", options.entries, "Entries in the table (default: 1 10000 500000 2000000)");
  app.add_option("--walk", options.walk, "Flows in a table that is walked whole, 0 for none (default: 1000000)");
  app.add_option("--occupancy", options.occupancies, "How full, in percent (default: 10 50 85)")
      ->check(CLI::Range(1, 95));
  CLI11_PARSE(app, argc, argv);
  if (once) {
    options.runs = 1;
    options.operations = 20'000;
    options.entries = {1, 10'000};
    options.walk = 10'000;
  }
  const auto rows = Bench(options).run_all();
  bench::print(rows, options.json);
  return 0;
}
