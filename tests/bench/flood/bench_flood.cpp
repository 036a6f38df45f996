// SPDX-License-Identifier: Apache-2.0
//
// Floods a frontend: SYNs, or UDP datagrams, from random sources at a steady rate, between two
// network namespaces that flood.py has made. Prints its figures as one JSON object.
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <linux/if_link.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "tests/bench/flood/flood.h"
#include "tests/bench/traffic/common.h"
// After the types that it names.
#include "flood.skel.h"

namespace maglane::bench {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  std::string client, backend;  // network namespaces
  std::string target, target_mac;
  std::vector<uint16_t> ports;
  std::string protocol = "tcp";
  double per_second = 10000, seconds = 30;
};

struct Frame {
  Headers headers;
  union {
    tcphdr tcp;
    udphdr udp;
  };
} __attribute__((packed));
static_assert(sizeof(Frame) <= FLOOD_BYTES && FLOOD_BYTES <= sizeof flood_state{}.frame);

flood_state make_flood(const Options& options) {
  const bool udp = options.protocol == "udp";
  const uint16_t l4_bytes = udp ? sizeof(udphdr) : sizeof(tcphdr);
  Frame frame{};
  frame.headers = headers_to(options.target_mac, options.target, udp ? IPPROTO_UDP : IPPROTO_TCP, l4_bytes);
  frame.headers.ip.id = FLOOD_MARK;
  if (udp) {
    frame.udp.len = htons(l4_bytes);
  } else {
    frame.tcp.doff = 5;
    frame.tcp.syn = 1;
    frame.tcp.window = htons(64240);
  }
  flood_state state{};
  std::memcpy(state.frame, &frame, sizeof frame);
  state.ip_sum = sum_words(&frame.headers.ip, sizeof(iphdr));
  // RFC 9293, RFC 768: the pseudo header is the addresses, the protocol and the length.
  state.l4_sum = sum_words(&frame.headers.ip.daddr, 4) + sum_words(&frame.tcp, l4_bytes) +
                 htons(frame.headers.ip.protocol) + htons(l4_bytes);
  state.ports = static_cast<uint32_t>(std::min<size_t>(options.ports.size(), FLOOD_PORTS));
  for (uint32_t i = 0; i < state.ports; ++i) state.port_be[i] = htons(options.ports[i]);
  state.udp = udp;
  return state;
}

void attach(const bpf_program* program) {
  if (bpf_xdp_attach(static_cast<int>(eth0()), bpf_program__fd(program), XDP_FLAGS_DRV_MODE, nullptr))
    give_up("attaching an XDP program");
}

uint64_t arrived(const flood_bpf* skeleton) {
  std::vector<uint64_t> each(static_cast<size_t>(libbpf_num_possible_cpus()));
  const uint32_t zero = 0;
  if (bpf_map_lookup_elem(bpf_map__fd(skeleton->maps.sunk), &zero, each.data())) give_up("reading the sink");
  uint64_t sum = 0;
  for (const uint64_t one : each) sum += one;
  return sum;
}

// A batch each few milliseconds, as many as are due; no more than the machine can.
uint64_t generate(const flood_bpf* skeleton, const Options& options) {
  constexpr double kMostAtATime = 8192;
  uint8_t frame[FLOOD_BYTES] = {};
  xdp_md context{};
  context.data_end = sizeof frame;
  context.ingress_ifindex = eth0();
  LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = frame, .data_size_in = sizeof frame, .ctx_in = &context,
              .ctx_size_in = sizeof context, .flags = BPF_F_TEST_XDP_LIVE_FRAMES, .batch_size = 64);
  const auto start = Clock::now();
  uint64_t sent = 0;
  for (;;) {
    const double passed = std::chrono::duration<double>(Clock::now() - start).count();
    if (passed >= options.seconds) return sent;
    const double due = passed * options.per_second - static_cast<double>(sent);
    if (due < 64) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      continue;
    }
    run.repeat = static_cast<int>(std::min(due, kMostAtATime));
    if (bpf_prog_test_run_opts(bpf_program__fd(skeleton->progs.generate), &run) != 0)
      give_up("BPF_PROG_TEST_RUN with live frames");
    sent += static_cast<uint64_t>(run.repeat);
  }
}

void flood(const Options& options) {
  flood_bpf* skeleton = flood_bpf__open_and_load();
  if (!skeleton) give_up("loading the programs (needs root)");
  const uint32_t zero = 0;
  const flood_state state = make_flood(options);
  if (bpf_map_update_elem(bpf_map__fd(skeleton->maps.flood), &zero, &state, BPF_ANY)) give_up("writing map flood");
  enter(options.backend);
  attach(skeleton->progs.sink);
  enter(options.client);
  // The kernel sends test frames by a device only if its receive queue is set up, which veth
  // does when a program is attached.
  attach(skeleton->progs.pass);
  const auto start = Clock::now();
  const uint64_t sent = generate(skeleton, options);
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  fmt::print("{{\"sent\": {}, \"seconds\": {:.3f}, \"arrived\": {}}}\n", sent, seconds, arrived(skeleton));
  flood_bpf__destroy(skeleton);
}

}  // namespace
}  // namespace maglane::bench

int main(int argc, char** argv) {
  maglane::bench::Options options;
  CLI::App app("A flood for tools/bench flood, which runs it");
  app.add_option("--client", options.client, "Network namespace of the sources")->required();
  app.add_option("--backend", options.backend, "Network namespace of the endpoints")->required();
  app.add_option("--target", options.target, "Address of the frontends")->required();
  app.add_option("--target-mac", options.target_mac, "Of the node's device")->required();
  app.add_option("--port", options.ports, "Of the frontends, at most four")->required()->expected(1, FLOOD_PORTS);
  app.add_option("--protocol", options.protocol)->check(CLI::IsMember({"tcp", "udp"}))->capture_default_str();
  app.add_option("--per-second", options.per_second, "Frames")->capture_default_str();
  app.add_option("--seconds", options.seconds)->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  maglane::bench::flood(options);
  return 0;
}
