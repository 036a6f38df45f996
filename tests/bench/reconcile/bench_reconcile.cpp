// SPDX-License-Identifier: Apache-2.0
//
// From a cluster's objects to the kernel's maps, by the agent's own code: resolve, plan, diff
// and apply, grace period included. In a bpffs directory of its own; attaches nothing. Needs root.
#include <fmt/format.h>
#include <malloc.h>
#include <signal.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/kernel/bpffs.h"
#include "agent/kernel/grace.h"
#include "agent/kernel/loader.h"
#include "agent/kernel/maps.h"
#include "agent/plan/diff.h"
#include "agent/plan/planner.h"
#include "agent/resolve/resolve.h"
#include "tests/bench/figures.h"

namespace maglane {
namespace {

constexpr uint32_t kEndpoints = 10;
constexpr const char* kNode = "node-0";

using Steady = std::chrono::steady_clock;

std::string address(uint32_t base, uint32_t number) {
  const uint32_t be[4] = {__builtin_bswap32(base + number)};
  return IpAddress::from_be(Family::ipv4, be).to_string();
}

// The service's ten endpoints; the first one is number `first` of all.
std::shared_ptr<const v1::EndpointSlice> make_slice(uint32_t service, uint32_t first) {
  auto slice = std::make_shared<v1::EndpointSlice>();
  slice->mutable_metadata()->set_namespace_("default");
  slice->mutable_metadata()->set_name(fmt::format("service-{}-a", service));
  (*slice->mutable_metadata()->mutable_labels())["kubernetes.io/service-name"] =
      fmt::format("service-{}", service);
  slice->set_address_type("IPv4");
  auto* port = slice->add_ports();
  port->set_protocol("TCP");
  port->set_port(8080);
  for (uint32_t i = 0; i < kEndpoints; ++i) {
    const uint32_t number = i == 0 ? first : service * kEndpoints + i;
    auto* endpoint = slice->add_endpoints();
    endpoint->add_addresses(address(0x0a800000, number));
    endpoint->set_node_name(fmt::format("node-{}", number % 50));
    endpoint->mutable_conditions()->set_ready(true);
  }
  return slice;
}

std::shared_ptr<const v1::Service> make_service(uint32_t number) {
  auto service = std::make_shared<v1::Service>();
  service->mutable_metadata()->set_namespace_("default");
  service->mutable_metadata()->set_name(fmt::format("service-{}", number));
  auto* spec = service->mutable_spec();
  spec->set_type("ClusterIP");
  spec->set_cluster_ip(address(0x0a600001, number));
  spec->add_cluster_ips(spec->cluster_ip());
  auto* port = spec->add_ports();
  port->set_protocol("TCP");
  port->set_port(80);
  return service;
}

ClusterModel make_cluster(uint32_t services) {
  ClusterModel model;
  for (uint32_t i = 0; i < services; ++i) {
    const std::string name = fmt::format("service-{}", i);
    model.services[{"default", name}] = make_service(i);
    model.slices[{"default", name + "-a"}] = make_slice(i, i * kEndpoints);
  }
  return model;
}

// Of this process, as the kernel counts it; "VmRSS" with mapped maps, "RssAnon" without.
uint64_t memory_kib(const std::string& name) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(name + ":")) return std::stoull(line.substr(name.size() + 1));
  return 0;
}

double cpu_milliseconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto of = [](const timeval& time) { return time.tv_sec * 1e3 + time.tv_usec / 1e3; };
  return of(usage.ru_utime) + of(usage.ru_stime);
}

// An agent without its surroundings: does what the reconciler does in an update.
class Agent {
 public:
  explicit Agent(PinnedMaps maps) : maps_(std::move(maps)) {}

  Result<size_t> update(const ClusterModel& model) {
    const NodeContext node{kNode, "", {IpAddress::parse("192.0.2.1").value()}, {}, {}};
    std::optional<MapContents> contents;
    if (!planner_) {
      auto read = maps_.read_contents();
      if (!read) return read.error();
      contents = std::move(*read);
      planner_ = std::make_unique<Planner>(MapLimits{}, *contents);
    }
    std::vector<Complaint> complaints;
    PlanUpdate next = planner_->update(resolver_.resolve(model, node, &complaints));
    complaints.insert(complaints.end(), next.complaints.begin(), next.complaints.end());
    if (!complaints.empty()) return Error{complaints[0].where + ": " + complaints[0].message};
    const auto operations = contents ? diff(*contents, next.plan) : diff(plan_, next.plan);
    contents.reset();
    const auto all = std::span(operations);
    const size_t cleanup = cleanup_begin(all);
    if (auto s = maps_.apply(all.first(cleanup)); !s) return s.error();
    if (!all.empty()) wait_grace_period();
    if (auto s = maps_.apply(all.subspan(cleanup)); !s) return s.error();
    planner_->release_retired(next.plan.generation);
    plan_ = std::move(next.plan);
    return operations.size();
  }

 private:
  PinnedMaps maps_;
  Resolver resolver_;
  std::unique_ptr<Planner> planner_;
  Plan plan_;
};

class Measurement {
 public:
  Measurement(uint32_t services, std::string bpffs) : services_(services), bpffs_(std::move(bpffs)) {}

  Status run(uint32_t changes) {
    ClusterModel model = make_cluster(services_);
    auto agent = start();
    if (!agent) return agent.error();
    if (auto s = measure("cold start", *agent, model); !s) return s;
    std::vector<bench::Row> single;
    for (uint32_t i = 0; i < changes; ++i) {
      const uint32_t service = (i * 7919 + services_ / 2) % services_;
      model.slices[{"default", fmt::format("service-{}-a", service)}] = make_slice(service, 1'000'000 + i);
      if (auto s = measure("one endpoint changed", *agent, model); !s) return s;
      single.push_back(std::move(rows.back()));
      rows.pop_back();
    }
    std::sort(single.begin(), single.end(),
              [](const auto& a, const auto& b) { return time_of(a) < time_of(b); });
    rows.push_back(single[single.size() / 2]);
    agent = start();
    if (!agent) return agent.error();
    return measure("agent restarted", *agent, model);
  }

  std::vector<bench::Row> rows;

 private:
  static double time_of(const bench::Row& row) { return std::get<double>(row[3].second); }

  Result<Agent> start() {
    auto maps = PinnedMaps::open(bpffs_);
    if (!maps) return maps.error();
    return Agent(std::move(*maps));
  }

  Status measure(const std::string& what, Agent& agent, const ClusterModel& model) {
    const auto begin = Steady::now();
    const double cpu_before = cpu_milliseconds();
    const auto operations = agent.update(model);
    const double cpu = cpu_milliseconds() - cpu_before;
    const double milliseconds = std::chrono::duration<double, std::milli>(Steady::now() - begin).count();
    if (!operations) return operations.error().in(what);
    ::malloc_trim(0);  // as the reconciler does after its first update
    fmt::print(stderr, "{} services, {}: {:.1f} ms, {} operations\n", services_, what, milliseconds,
               *operations);
    rows.push_back({{"services", uint64_t{services_}},
                    {"endpoints", uint64_t{kEndpoints}},
                    {"case", what},
                    {"milliseconds", milliseconds},
                    {"cpu_ms", cpu},
                    {"rss_kib", memory_kib("VmRSS")},
                    {"private_kib", memory_kib("RssAnon")},
                    {"operations", uint64_t{*operations}}});
    return ok_status();
  }

  uint32_t services_;
  std::string bpffs_;
};

// In the child: loads what the agent loads, measures, and writes the rows to `out`.
int measure_in_child(uint32_t services, const std::string& bpffs, uint32_t changes, std::FILE* out) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  Bpffs directory(bpffs);
  Status status = directory.prepare();
  std::optional<DataPlane> data_plane;
  if (status) {
    auto loaded = DataPlane::load(directory, DataPlaneOptions{});
    if (loaded)
      data_plane = std::move(*loaded);
    else
      status = loaded.error();
  }
  Measurement measurement(services, bpffs);
  if (status) status = measurement.run(changes);
  for (const bench::Row& row : measurement.rows) {
    for (const auto& [key, value] : row) fmt::print(out, "{}\t", bench::text_of(value));
    fmt::print(out, "\n");
  }
  std::fflush(out);
  if (!status) fmt::print(stderr, "bench_reconcile: {}\n", status.error().message);
  return status ? 0 : 1;
}

bench::Row read_row(const std::string& line) {
  bench::Row row;
  size_t begin = 0;
  for (const char* key :
       {"services", "endpoints", "case", "milliseconds", "cpu_ms", "rss_kib", "private_kib", "operations"}) {
    const size_t end = line.find('\t', begin);
    const std::string field = line.substr(begin, end - begin);
    begin = end + 1;
    if (std::string_view(key) == "case")
      row.emplace_back(key, field);
    else if (std::string_view(key).ends_with("ms") || std::string_view(key) == "milliseconds")
      row.emplace_back(key, std::stod(field));
    else
      row.emplace_back(key, std::stoull(field));
  }
  return row;
}

pid_t child = 0;

// A process of its own for each size, so that memory is that of one agent. The directory is
// removed here whatever becomes of it.
bool measure(uint32_t services, uint32_t changes, std::vector<bench::Row>& rows) {
  const std::string bpffs = fmt::format("/sys/fs/bpf/maglane-bench-{}", ::getpid());
  std::FILE* results = std::tmpfile();
  if (!results) {
    fmt::print(stderr, "bench_reconcile: no temporary file: {}\n", std::strerror(errno));
    return false;
  }
  child = ::fork();
  if (child == 0) ::_exit(measure_in_child(services, bpffs, changes, results));
  int outcome = 1;
  while (child > 0 && ::waitpid(child, &outcome, 0) < 0 && errno == EINTR) continue;
  if (auto s = Bpffs(bpffs).remove_all(); !s) fmt::print(stderr, "bench_reconcile: {}\n", s.error().message);
  std::rewind(results);
  char line[512];
  while (std::fgets(line, sizeof line, results)) rows.push_back(read_row(line));
  std::fclose(results);
  return child > 0 && outcome == 0;
}

void stop_child(int) {
  if (child > 0) ::kill(child, SIGKILL);
}

}  // namespace
}  // namespace maglane

int main(int argc, char** argv) {
  bool json = false, once = false;
  std::vector<uint32_t> sizes{1000, 10000};
  CLI::App app("From a cluster's objects to the kernel's maps", "bench_reconcile");
  app.add_flag("--json", json, "Print a JSON array");
  app.add_flag("--once", once, "One short iteration: does it work?");
  app.add_option("--services", sizes, "Numbers of services (default: 1000 10000)")
      ->check(CLI::Range(1, 10000));
  CLI11_PARSE(app, argc, argv);
  if (once) sizes = {100};
  // Standard output is the figures' own.
  spdlog::set_default_logger(spdlog::stderr_logger_st("bench_reconcile"));
  spdlog::set_level(spdlog::level::warn);
  ::signal(SIGINT, maglane::stop_child);
  ::signal(SIGTERM, maglane::stop_child);
  std::vector<maglane::bench::Row> rows;
  bool good = true;
  for (const uint32_t services : sizes) good = good && maglane::measure(services, once ? 1 : 15, rows);
  maglane::bench::print(rows, json);
  return good ? 0 : 1;
}
