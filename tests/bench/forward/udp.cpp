// SPDX-License-Identifier: Apache-2.0
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/if_link.h>
#include <linux/udp.h>
#include <net/if.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <vector>

#include "tests/bench/forward/kinds.h"
#include "tests/bench/forward/traffic.h"
#include "tests/bench/traffic/common.h"
#include "traffic.skel.h"

namespace maglane::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint32_t kBatch = 64;           // frames that the kernel sends at a time
constexpr uint32_t kCall = kBatch * 512;  // frames of one system call: some milliseconds
constexpr auto kWarmUp = std::chrono::milliseconds(300);

uint16_t fold(uint32_t sum) {
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

struct Frame {
  Headers headers;
  udphdr udp;
  uint8_t payload[FRAME_BYTES - sizeof(Headers) - sizeof(udphdr)];
} __attribute__((packed));
static_assert(sizeof(Frame) == FRAME_BYTES);

generator_state make_generator(const UdpOptions& options) {
  constexpr size_t kUdpBytes = sizeof(Frame) - sizeof(Headers);
  Frame frame{};
  frame.headers = headers_to(options.target_mac, options.target, IPPROTO_UDP, kUdpBytes);
  frame.headers.ip.saddr = address_of(options.source);
  frame.headers.ip.check = static_cast<uint16_t>(~fold(sum_words(&frame.headers.ip, sizeof(iphdr))));
  frame.udp.dest = htons(options.port);
  frame.udp.len = htons(kUdpBytes);
  std::memset(frame.payload, 'm', sizeof frame.payload);
  // RFC 768: the pseudo header is the addresses, the protocol and UDP's length.
  uint32_t sum = sum_words(&frame.headers.ip.saddr, 8);
  sum = sum_words(&frame.udp, kUdpBytes, sum);
  sum += htons(IPPROTO_UDP) + uint32_t{frame.udp.len};
  generator_state state{};
  std::memcpy(state.frame, &frame, sizeof frame);
  state.udp_sum = sum;
  state.flows = options.flows;
  return state;
}

uint32_t device_named(const std::string& name) {
  const uint32_t index = if_nametoindex(name.c_str());
  if (index == 0) give_up("looking for device " + name);
  return index;
}

// The program leaves the device with its link.
using Link = std::unique_ptr<bpf_link, int (*)(bpf_link*)>;

Link attach_xdp(const bpf_program* program, uint32_t device = eth0()) {
  Link link(bpf_program__attach_xdp(program, static_cast<int>(device)), bpf_link__destroy);
  if (!link) give_up("attaching an XDP program");
  return link;
}

bpf_tc_hook tc_hook() {
  LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = static_cast<int>(eth0()), .attach_point = BPF_TC_INGRESS);
  return hook;
}

void attach_tc(const bpf_program* program) {
  bpf_tc_hook hook = tc_hook();
  if (const int error = bpf_tc_hook_create(&hook); error && error != -EEXIST) give_up("making a tc hook");
  LIBBPF_OPTS(bpf_tc_opts, options, .prog_fd = bpf_program__fd(program));
  if (bpf_tc_attach(&hook, &options)) give_up("attaching a tc program");
}

void detach_tc() {
  bpf_tc_hook hook = tc_hook();
  hook.attach_point = static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS);  // with its qdisc
  if (bpf_tc_hook_destroy(&hook)) give_up("removing a tc hook");
}

sink_count counted(const traffic_bpf* skeleton) {
  std::vector<sink_count> each(static_cast<size_t>(libbpf_num_possible_cpus()));
  const uint32_t zero = 0;
  if (bpf_map_lookup_elem(bpf_map__fd(skeleton->maps.sunk), &zero, each.data())) give_up("reading the sink");
  sink_count sum{};
  for (const sink_count& one : each) {
    sum.frames += one.frames;
    sum.looked_at += one.looked_at;
    sum.wrong += one.wrong;
  }
  return sum;
}

// Frames that were sent until `end`.
uint64_t generate(const traffic_bpf* skeleton, Clock::time_point end) {
  Frame frame{};
  xdp_md context{};
  context.data_end = sizeof frame;
  context.ingress_ifindex = eth0();
  LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = &frame, .data_size_in = sizeof frame, .ctx_in = &context,
              .ctx_size_in = sizeof context, .repeat = static_cast<int>(kCall),
              .flags = BPF_F_TEST_XDP_LIVE_FRAMES, .batch_size = kBatch);
  uint64_t sent = 0;
  while (Clock::now() < end) {
    if (bpf_prog_test_run_opts(bpf_program__fd(skeleton->progs.generate), &run) != 0)
      give_up("BPF_PROG_TEST_RUN with live frames");
    sent += kCall;
  }
  return sent;
}

}  // namespace

UdpResult run_udp(const UdpOptions& options) {
  pin(0);
  traffic_bpf* skeleton = traffic_bpf__open();
  if (!skeleton) give_up("opening the programs");
  auto* target = const_cast<sink_target*>(&skeleton->rodata->target);
  target->network_be = address_of(options.endpoints);
  target->port_be = htons(options.endpoint_port);
  if (!options.redirect_at.empty()) {
    enter(options.redirect_at);
    auto* beyond = const_cast<redirect_target*>(&skeleton->rodata->beyond);
    beyond->device = device_named(options.redirect_to);
    const Headers headers = headers_to(options.redirect_mac, options.target, IPPROTO_UDP, 0);
    std::memcpy(beyond->mac, headers.ethernet.h_dest, sizeof beyond->mac);
  }
  if (traffic_bpf__load(skeleton)) give_up("loading the programs (needs root)");
  const uint32_t zero = 0;
  const generator_state state = make_generator(options);
  if (bpf_map_update_elem(bpf_map__fd(skeleton->maps.generator), &zero, &state, BPF_ANY))
    give_up("writing map generator");

  std::vector<Link> links;
  if (!options.redirect_at.empty()) {
    enter(options.redirect_at);
    links.push_back(attach_xdp(skeleton->progs.redirect, device_named(options.redirect_from)));
  }
  enter(options.backend);
  if (options.sink_at_tc)
    attach_tc(skeleton->progs.sink_tc);
  else
    links.push_back(attach_xdp(skeleton->progs.sink_xdp));
  enter(options.client);
  // The kernel sends test frames by a device only if its receive queue is set up, which veth
  // does when a program is attached.
  links.push_back(attach_xdp(skeleton->progs.sink_xdp));

  generate(skeleton, Clock::now() + kWarmUp);
  const sink_count before = counted(skeleton);
  const auto start = Clock::now();
  const uint64_t sent = generate(skeleton, start + std::chrono::duration_cast<Clock::duration>(
                                                       std::chrono::duration<double>(options.seconds)));
  const double micros = std::chrono::duration<double, std::micro>(Clock::now() - start).count();
  const sink_count after = counted(skeleton);
  // What is measured next in this network meets no sink.
  links.clear();
  if (options.sink_at_tc) {
    enter(options.backend);
    detach_tc();
  }
  traffic_bpf__destroy(skeleton);
  return {static_cast<double>(sent) / micros, static_cast<double>(after.frames - before.frames) / micros,
          after.looked_at, after.wrong};
}

}  // namespace maglane::bench
