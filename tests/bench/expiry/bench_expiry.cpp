// SPDX-License-Identifier: Apache-2.0
//
// Sweeping the flow table as the agent does: flows that have just had a packet, flows that have
// been idle for less than they may, and flows that all have to go, which is the figure that is
// printed. CPU time is the sweeping thread's, of the longest slice too: what else the machine does
// meanwhile is not in it.
#include <fmt/format.h>
#include <netinet/in.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <stdexcept>
#include <vector>

#include "agent/kernel/call.h"
#include "agent/kernel/data_plane_config.h"
#include "agent/kernel/expiry.h"
#include "agent/kernel/loader.h"
#include "tests/bench/figures.h"

namespace maglane {
namespace {

struct Options {
  uint32_t flows = 1'000'000;
  bool json = false;
  bool once = false;
};

[[noreturn]] void fail(const std::string& what) {
  throw std::runtime_error(what);
}

template <typename T>
T must(Result<T> result) {
  if (!result) fail(result.error().message);
  return std::move(*result);
}

// What is pinned goes, however this ends.
class Pins {
 public:
  Pins() : bpffs_(fmt::format("/sys/fs/bpf/maglane-expiry-{}", ::getpid())) {
    if (auto s = bpffs_.prepare(); !s) fail(s.error().message);
  }
  ~Pins() { (void)bpffs_.remove_all(); }
  Pins(const Pins&) = delete;
  const Bpffs& get() const { return bpffs_; }

 private:
  Bpffs bpffs_;
};

struct Call {
  abi::adopt_call head;
  abi::flow_entry4 entries[abi::ADOPT_BYTES / sizeof(abi::flow_entry4)];
};

// Established connections through one frontend, both directions of each.
void add_connection(uint32_t number, uint32_t stamp, Call& call) {
  constexpr uint8_t kBoth = abi::SEEN_SYN | abi::SEEN_ACK;
  const uint32_t client = htonl(0x20000000 + number), frontend = htonl(0x0a600001), endpoint = htonl(0x0a0a0001 + number % 64);
  abi::flow_entry4 forward{}, reply{};
  forward.tuple = {client, frontend, htons(40000), htons(80), IPPROTO_TCP, {kBoth | kBoth << abi::SEEN_TWIN_SHIFT, 0, 0}};
  forward.flow.src_be = client;
  forward.flow.dst_be = endpoint;
  forward.flow.src_port_be = htons(40000);
  forward.flow.dst_port_be = htons(8080);
  forward.flow.body.stamp = stamp;
  reply.tuple = {endpoint, client, htons(8080), htons(40000), IPPROTO_TCP, {kBoth | kBoth << abi::SEEN_TWIN_SHIFT, 0, 0}};
  reply.flow.src_be = frontend;
  reply.flow.dst_be = client;
  reply.flow.src_port_be = htons(80);
  reply.flow.dst_port_be = htons(40000);
  reply.flow.body = forward.flow.body;
  reply.flow.body.flags = abi::FLOW_REPLY;
  call.entries[call.head.count++] = forward;
  call.entries[call.head.count++] = reply;
}

void fill(const DataPlane& data_plane, uint32_t flows, uint32_t stamp) {
  uint64_t there = 0;
  for (uint32_t number = 0; number < flows / 2;) {
    Call call{};
    call.head.family = abi::FAMILY_IPV4;
    while (number < flows / 2 && call.head.count + 2 <= std::size(call.entries)) add_connection(number++, stamp, call);
    if (auto s = call_program(data_plane.program("adopt"), call); !s) fail(s.error().message);
    there += call.head.adopted;
  }
  if (there != flows) fail(fmt::format("only {} of {} flows are in the table", there, flows));
}

ExpiryResult sweep(const DataPlane& data_plane, const char* of) {
  const ExpiryResult result =
      must(run_expiry(data_plane.program("expire"), abi::FAMILY_IPV4, data_plane.entries("flows4"), 0));
  fmt::print(stderr, "{}: {} flows, {} removed, {:.1f} ms of CPU time, longest slice {:.0f} us\n", of, result.examined,
             result.removed, result.cpu.count() * 1e-6, result.longest_slice.count() * 1e-3);
  return result;
}

bench::Row run(const Options& options) {
  const Pins pins;
  DataPlaneOptions plane;
  plane.flow_entries = static_cast<uint32_t>(uint64_t{options.flows} * 100 / 80);
  plane.socket_translation = SocketTranslation::off;
  const DataPlane data_plane = must(DataPlane::load(pins.get(), plane));
  abi::clock_call clock{};
  if (auto s = call_program(data_plane.program("clock"), clock); !s) fail(s.error().message);
  const auto slot = static_cast<uint32_t>(clock.jiffies >> clock.slot_shift);
  const auto ago = [&](uint32_t slots) { return (slot - slots) & abi::STAMP_SLOT_MASK; };

  const uint32_t limit = must(make_node_config(plane, kernel_hz(), {}, 0)).timeouts.tcp_established;

  // Beyond the limit, but not so far that program adopt leaves them out (bpf/adopt.h): a flow may lag behind
  // its twin. One that was removed comes again with another stamp.
  fill(data_plane, options.flows, ago(limit + limit / 4));
  const ExpiryResult expired = sweep(data_plane, "all to be removed");
  if (expired.removed != options.flows) fail(fmt::format("{} of {} flows were removed", expired.removed, options.flows));
  fill(data_plane, options.flows, ago(3600));
  sweep(data_plane, "idle for an hour");
  return {{"flows", uint64_t{expired.examined}},
          {"cpu_ms", expired.cpu.count() * 1e-6},
          {"longest_slice_us", expired.longest_slice.count() * 1e-3}};
}

}  // namespace
}  // namespace maglane

int main(int argc, char** argv) {
  using namespace maglane;
  Options options;
  CLI::App app("What the expiry of flows costs");
  app.add_flag("--json", options.json, "Print the figures as a JSON array");
  app.add_flag("--once", options.once, "A small table: does it work?");
  app.add_option("--flows", options.flows, "In the table")->check(CLI::Range(2, 1 << 24))->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  spdlog::set_level(spdlog::level::warn);
  if (options.once) options.flows = 20'000;
  options.flows &= ~1U;
  try {
    const bench::Row row = run(options);
    if (options.json)
      bench::print_json({row});
    else
      bench::print_table({row});
  } catch (const std::runtime_error& error) {  // what was pinned is gone by now
    fmt::print(stderr, "bench_expiry: {}\n", error.what());
    return 1;
  }
  return 0;
}
