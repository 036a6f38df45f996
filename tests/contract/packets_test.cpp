// SPDX-License-Identifier: Apache-2.0
//
// The packet-tracer table on the packet path, natively or in the kernel, whichever data plane is
// linked: objects, resolve, plan, maps, a packet in, and what its bytes say when it comes out.
#include "tests/contract/packet_node.h"
#include "tests/contract/trace_plays.h"

namespace maglane::test {

// of on_native_planes.cpp or on_kernel_planes.cpp
std::unique_ptr<DataPlane> make_plane(const Network& network);

namespace {

DataPlane& plane_of(const std::string& node) {
  static std::map<std::string, std::unique_ptr<DataPlane>> planes;
  auto& plane = planes[node];
  if (!plane) plane = make_plane(lab_network(node));
  return *plane;
}

class TracePackets : public testing::TestWithParam<TracePlay> {};

TEST_P(TracePackets, Case) {
  TraceNodes nodes;
  for (const char* name : kLabNodes)
    nodes[name] = make_packet_node(name, trace_options(*GetParam().file), GetParam().mode, plane_of(name));
  expect_play(GetParam(), nodes);
}

INSTANTIATE_TEST_SUITE_P(All, TracePackets, testing::ValuesIn(trace_plays({Mode::xdp, Mode::tc})),
                         [](const auto& test) {
                           return trace_name(test.param) + (test.param.mode == Mode::xdp ? "_Xdp" : "_Tc");
                         });

}  // namespace
}  // namespace maglane::test
