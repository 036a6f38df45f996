// SPDX-License-Identifier: Apache-2.0
//
// What Maglev tables cost to build, how evenly they spread, and how much moves when one
// endpoint goes. Google Benchmark's own flags (--benchmark_...) work as well.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "agent/plan/maglev.h"
#include "tests/bench/figures.h"

namespace maglane {
namespace {

bool once = false;

// Endpoint `number` of all, as a pod's address.
MaglevEndpoint endpoint(uint32_t number) {
  const uint32_t be[4] = {__builtin_bswap32(0x0a000001U + number)};
  return maglev_endpoint(IpAddress::from_be(Family::ipv4, be), 8080, Protocol::tcp, 1, number + 1);
}

std::vector<MaglevEndpoint> endpoints(uint32_t first, uint32_t count) {
  std::vector<MaglevEndpoint> list;
  for (uint32_t i = 0; i < count; ++i) list.push_back(endpoint(first + i));
  return list;
}

uint32_t size_for(uint32_t count) {
  return maglev_size(std::vector<uint32_t>(count, 1));
}

// Percent by which the endpoint farthest from the ideal share differs from it.
double imbalance(const std::vector<uint32_t>& table, uint32_t first, uint32_t count) {
  std::vector<double> entries(count);
  for (const uint32_t value : table) ++entries[value - 1 - first];
  const double ideal = static_cast<double>(table.size()) / count;
  double worst = 0;
  for (const double one : entries) worst = std::max(worst, 100 * std::abs(one / ideal - 1));
  return worst;
}

// Percent of the others' entries that differ after one endpoint is gone, a mean over several
// sets; without `count` > 1 there are no others.
double moved(uint32_t count, uint32_t sets) {
  MaglevBuilder builder;
  std::vector<uint32_t> before(size_for(count)), after(before.size());
  size_t differ = 0, others = 0;
  for (uint32_t set = 0; set < sets; ++set) {
    auto list = endpoints(1'000'000 + set * count, count);
    builder.build(list, before);
    const uint32_t gone = list[set * 7 % count].value;
    std::erase_if(list, [&](const MaglevEndpoint& one) { return one.value == gone; });
    builder.build(list, after);
    for (size_t i = 0; i < before.size(); ++i) {
      others += before[i] != gone;
      differ += before[i] != gone && before[i] != after[i];
    }
  }
  return others == 0 ? 0 : 100.0 * static_cast<double>(differ) / static_cast<double>(others);
}

void one_table(benchmark::State& state) {
  const auto count = static_cast<uint32_t>(state.range(0));
  MaglevBuilder builder;
  std::vector<uint32_t> table(size_for(count));
  for (auto _ : state) {
    const auto list = endpoints(0, count);
    builder.build(list, table);
    benchmark::DoNotOptimize(table.data());
  }
  state.counters["services"] = 1;
  state.counters["endpoints"] = count;
  state.counters["entries"] = static_cast<double>(table.size());
  state.counters["imbalance_percent"] = imbalance(table, 0, count);
  state.counters["moved_percent"] = moved(count, once ? 2 : std::clamp(20'000U / count, 2U, 1000U));
}

void many_tables(benchmark::State& state) {
  const auto services = static_cast<uint32_t>(state.range(0));
  const auto count = static_cast<uint32_t>(state.range(1));
  MaglevBuilder builder;
  std::vector<uint32_t> table(size_for(count));
  for (auto _ : state)
    for (uint32_t service = 0; service < services; ++service) {
      builder.build(endpoints(service * count, count), table);
      benchmark::DoNotOptimize(table.data());
    }
  state.counters["services"] = services;
  state.counters["endpoints"] = count;
  state.counters["entries"] = static_cast<double>(services * table.size());
}

class Collector : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      bench::Row row;
      for (const char* key : {"services", "endpoints", "entries"})
        row.emplace_back(key, static_cast<uint64_t>(run.counters.at(key)));
      row.emplace_back("build_ms", run.GetAdjustedCPUTime() / 1000);
      for (const char* key : {"imbalance_percent", "moved_percent"})
        if (run.counters.contains(key)) row.emplace_back(key, static_cast<double>(run.counters.at(key)));
      rows.push_back(std::move(row));
      fmt::print(stderr, "{}: {:.3f} ms\n", run.benchmark_name(), run.GetAdjustedCPUTime() / 1000);
    }
  }
  std::vector<bench::Row> rows;
};

void register_all() {
  for (const int64_t count : {1, 3, 10, 12, 13, 48, 100, 192, 1000, 10000}) {
    auto* one =
        benchmark::RegisterBenchmark("one_table", one_table)->Arg(count)->Unit(benchmark::kMicrosecond);
    if (once) one->Iterations(1);
  }
  auto* many = benchmark::RegisterBenchmark("services", many_tables)
                   ->Args({once ? 100 : 10000, 10})
                   ->Unit(benchmark::kMicrosecond);
  if (once) many->Iterations(1);
}

}  // namespace
}  // namespace maglane

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  bool json = false;
  CLI::App app("Building Maglev tables", "bench_maglev");
  app.add_flag("--json", json, "Print a JSON array");
  app.add_flag("--once", maglane::once, "One short iteration: does it work?");
  CLI11_PARSE(app, argc, argv);
  maglane::register_all();
  maglane::Collector collector;
  benchmark::RunSpecifiedBenchmarks(&collector);
  benchmark::Shutdown();
  maglane::bench::print(collector.rows, json);
  return collector.rows.empty() ? 1 : 0;
}
